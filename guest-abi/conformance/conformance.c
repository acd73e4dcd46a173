/* The conformance guest of sanderling.h: see README.md. */
#include <stdio.h>
#include <string.h>

#include "sanderling.h"

#define SAY(...) say_line(line, (uint32_t)snprintf(line, sizeof line, __VA_ARGS__))

static char line[512];
static unsigned char content[64];

static void say_line(const char *text, uint32_t length) { sanderling_emit("said", 4, text, length); }

static void say_hex(const char *name, const void *bytes, size_t count) {
    size_t at = (size_t)snprintf(line, sizeof line, "%s ", name);
    for (size_t i = 0; i < count; i++) at += (size_t)snprintf(line + at, sizeof line - at, "%02x", ((const unsigned char *)bytes)[i]);
    say_line(line, (uint32_t)at);
}

static void say_numbers(void) {
    SAY("abi %d", SANDERLING_ABI);
    SAY("errno %d %d %d %d %d %d %d %d", SANDERLING_ENOENT, SANDERLING_E2BIG, SANDERLING_EAGAIN, SANDERLING_EACCES, SANDERLING_EFAULT,
        SANDERLING_EINVAL, SANDERLING_ENOSPC, SANDERLING_ENODATA);
    SAY("kind %d %d %d %d", SANDERLING_KIND_BYTES, SANDERLING_KIND_JSON, SANDERLING_KIND_IMAGE, SANDERLING_KIND_SERIES);
    SAY("format %d %d %d %d %d %d %d %d %d %d %d %d", SANDERLING_FORMAT_NONE, SANDERLING_FORMAT_GRAY8, SANDERLING_FORMAT_RGB8,
        SANDERLING_FORMAT_BGR8, SANDERLING_FORMAT_YUYV, SANDERLING_FORMAT_NV12, SANDERLING_FORMAT_GRAY16, SANDERLING_FORMAT_JPEG,
        SANDERLING_FORMAT_PNG, SANDERLING_FORMAT_F32, SANDERLING_FORMAT_I16, SANDERLING_FORMAT_I32);
    SAY("level %d %d %d %d %d", SANDERLING_LOG_ERROR, SANDERLING_LOG_WARN, SANDERLING_LOG_INFO, SANDERLING_LOG_DEBUG, SANDERLING_LOG_TRACE);
    SAY("color %d %d %d", SANDERLING_COLOR_GRAY, SANDERLING_COLOR_RGB, SANDERLING_COLOR_BGR);
    SAY("layout %d %d", SANDERLING_LAYOUT_NCHW, SANDERLING_LAYOUT_NHWC);
    SAY("element %d %d %d %d", SANDERLING_ELEMENT_F32, SANDERLING_ELEMENT_F16, SANDERLING_ELEMENT_U8, SANDERLING_ELEMENT_I8);
    SAY("filter %d %d %d", SANDERLING_FILTER_NEAREST, SANDERLING_FILTER_BILINEAR, SANDERLING_FILTER_AREA);
    SAY("tensor %d %d %d %d %d %d", SANDERLING_TENSOR_F16, SANDERLING_TENSOR_F32, SANDERLING_TENSOR_F64, SANDERLING_TENSOR_U8,
        SANDERLING_TENSOR_I32, SANDERLING_TENSOR_I64);
}

static void say_frame(void) {
    sanderling_frame_header f;
    sanderling_frame_info(&f);
    SAY("frame %llu %lld %llu %u %u %u %u %u %u %u %u %u %.32s", f.seq, f.captured_unix_ns, f.captured_mono_ns, f.len, f.kind, f.format,
        f.width, f.height, f.stride, f.channels, f.rate_mhz, f.dropped, f.sensor);
    int32_t read = sanderling_frame_read(0, content, sizeof content);
    SAY("content %.*s", (int)read, (const char *)content);
    sanderling_time time;
    sanderling_now(&time);
    SAY("time %lld %llu", time.unix_ns, time.mono_ns);
}

/* The value of "key" into `room`, or "none". */
static const char *kept(char *room, uint32_t capacity) {
    int32_t length = sanderling_state_get("key", 3, room, capacity - 1);
    if (length == -SANDERLING_ENOENT) return "none";
    room[length > 0 ? length : 0] = 0;
    return room;
}

static void say_kept(void) {
    char before[16], set[16], after[16];
    const char *first = kept(before, sizeof before);
    sanderling_state_set("key", 3, "value", 5);
    const char *second = kept(set, sizeof set);
    sanderling_state_delete("key", 3);
    SAY("state %s %s %s %d %d %d", first, second, kept(after, sizeof after), SANDERLING_STATE_MAX_KEY, SANDERLING_STATE_MAX_VALUE,
        SANDERLING_STATE_MAX_KEYS);
    SAY("metrics %d %d", sanderling_metric_add("count", 5, 2.5), sanderling_metric_set("level", 5, -1.5));
    sanderling_rect rect = {1, 2, 3, 4};
    int32_t quality = sanderling_emit_evidence("said", 4, &rect, 80);
    SAY("evidence %d", quality);
}

static void say_image(void) {
    sanderling_image_op op = { {1, 2, 3, 4}, 5, 6, SANDERLING_COLOR_BGR, SANDERLING_LAYOUT_NHWC, SANDERLING_ELEMENT_F16,
        SANDERLING_FILTER_AREA, {0.5f, 0.25f, 0.125f}, {2.0f, 4.0f, 8.0f}, {0} };
    say_hex("op", &op, sizeof op);
    sanderling_image_op whole = { {0}, 8, 8, SANDERLING_COLOR_GRAY, SANDERLING_LAYOUT_NCHW, SANDERLING_ELEMENT_U8,
        SANDERLING_FILTER_NEAREST, {0}, {0}, {0} };
    unsigned char tensor[64];
    int32_t result = sanderling_image_tensor(&whole, tensor, sizeof tensor);
    SAY("image %d %d", result, memcmp(tensor, content, sizeof tensor));
}

static void say_model(void) {
    uint32_t graph = 0, context = 0, written = 0;
    sanderling_nn_load(NULL, 0, 1, 0, &graph);
    int32_t named = sanderling_nn_load_by_name("conv", 4, &graph);
    int32_t made = sanderling_nn_init_execution_context(graph, &context);
    sanderling_image_op op = { {0}, 8, 8, SANDERLING_COLOR_GRAY, SANDERLING_LAYOUT_NCHW, SANDERLING_ELEMENT_F32,
        SANDERLING_FILTER_BILINEAR, {0}, {1.0f, 1.0f, 1.0f}, {0} };
    int32_t image = sanderling_nn_input_image(context, 0, &op);
    static const uint32_t dims[] = {1, 1, 8, 8};
    static const float zeros[64];
    sanderling_tensor tensor = {dims, 4, SANDERLING_TENSOR_F32, zeros, sizeof zeros};
    int32_t set = sanderling_nn_set_input(context, 0, &tensor);
    int32_t computed = sanderling_nn_compute(context);
    unsigned char output[8] = {0};
    int32_t got = sanderling_nn_get_output(context, 0, output, sizeof output, &written);
    SAY("model %d %d %d %d %d %d %u", named, made, image, set, computed, got, written);
    say_hex("output", output, sizeof output);
    sanderling_output_info info;
    sanderling_nn_output_info(context, 0, &info);
    SAY("info %u %u %u %u", info.type, info.rank, info.dims[0], info.dims[1]);
}

SANDERLING_EXPORT(sanderling_abi) int32_t sanderling_abi(void) { return SANDERLING_ABI; }

SANDERLING_EXPORT(sanderling_start) int32_t sanderling_start(void) {
    char config[64];
    int32_t length = sanderling_config(config, sizeof config);
    SAY("config %.*s", (int)length, config);
    sanderling_log(SANDERLING_LOG_WARN, "logged", 6);
    return 0;
}

SANDERLING_EXPORT(sanderling_frame) int32_t sanderling_frame(void) {
    say_numbers();
    say_frame();
    say_kept();
    say_image();
    say_model();
    return 0;
}
