/* The contract between Sanderling and its guests, version 1, for C and C++.
 *
 * A guest exports sanderling_abi and sanderling_frame, and what it needs of the rest; see SANDERLING_EXPORT. Results are 0 or a
 * length, or a negative SANDERLING_E* number. The layouts are those of the crate sanderling-guest, which holds this file to them by a test.
 */
#ifndef SANDERLING_H
#define SANDERLING_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SANDERLING_ABI 1

#ifdef __wasm__
#define SANDERLING_EXPORT(name) __attribute__((export_name(#name)))
#define SANDERLING_IMPORT(name) __attribute__((import_module("sanderling_v1"), import_name(#name)))
#define SANDERLING_NN_IMPORT(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(#name)))
#else
#define SANDERLING_EXPORT(name)
#define SANDERLING_IMPORT(name)
#define SANDERLING_NN_IMPORT(name)
#endif

/* Error numbers, returned negated. */
#define SANDERLING_ENOENT 2
#define SANDERLING_E2BIG 7
#define SANDERLING_EAGAIN 11
#define SANDERLING_EACCES 13
#define SANDERLING_EFAULT 14
#define SANDERLING_EINVAL 22
#define SANDERLING_ENOSPC 28
#define SANDERLING_ENODATA 61

/* What a frame's content is. */
#define SANDERLING_KIND_BYTES 0
#define SANDERLING_KIND_JSON 1
#define SANDERLING_KIND_IMAGE 2
#define SANDERLING_KIND_SERIES 3

/* How a frame's content is laid out. */
#define SANDERLING_FORMAT_NONE 0
#define SANDERLING_FORMAT_GRAY8 1
#define SANDERLING_FORMAT_RGB8 2
#define SANDERLING_FORMAT_BGR8 3
#define SANDERLING_FORMAT_YUYV 4
#define SANDERLING_FORMAT_NV12 5
#define SANDERLING_FORMAT_GRAY16 6
#define SANDERLING_FORMAT_JPEG 7
#define SANDERLING_FORMAT_PNG 8
#define SANDERLING_FORMAT_F32 16
#define SANDERLING_FORMAT_I16 17
#define SANDERLING_FORMAT_I32 18

/* The header of a frame, 96 bytes, little-endian. */
typedef struct sanderling_frame_header {
    uint64_t seq;              /* counts the sensor's frames, dropped ones included */
    int64_t captured_unix_ns;  /* wall-clock time of capture */
    uint64_t captured_mono_ns; /* monotonic time of capture */
    uint32_t len;              /* bytes of content */
    uint16_t kind;             /* SANDERLING_KIND_* */
    uint16_t format;           /* SANDERLING_FORMAT_* */
    uint32_t width;            /* pixels a row; samples a channel in a series */
    uint32_t height;           /* rows */
    uint32_t stride;           /* bytes from one row to the next */
    uint32_t channels;         /* of a series; interleaved */
    uint32_t rate_mhz;         /* samples a second of a series, in thousandths of a hertz */
    uint32_t dropped;          /* frames dropped before this one */
    char sensor[32];           /* the sensor's name, padded with zeros */
    uint8_t reserved[8];       /* zero */
} sanderling_frame_header;

/* The channels of a tensor, the order and type of its elements, and how pixels are weighed when the size changes. */
#define SANDERLING_COLOR_GRAY 0
#define SANDERLING_COLOR_RGB 1
#define SANDERLING_COLOR_BGR 2
#define SANDERLING_LAYOUT_NCHW 0
#define SANDERLING_LAYOUT_NHWC 1
#define SANDERLING_ELEMENT_F32 0
#define SANDERLING_ELEMENT_F16 1
#define SANDERLING_ELEMENT_U8 2
#define SANDERLING_ELEMENT_I8 3
#define SANDERLING_FILTER_NEAREST 0
#define SANDERLING_FILTER_BILINEAR 1
#define SANDERLING_FILTER_AREA 2

/* How the current frame becomes a tensor, 64 bytes, little-endian. An element of type f32 or f16 is (pixel / 255 - mean) * scale;
 * with u8 and i8, mean and scale are zero, and an element is the pixel, or the pixel minus 128. The frame is cropped, resized as 8-bit
 * samples (luma and chroma each in its own resolution) and only then converted. */
typedef struct sanderling_image_op {
    uint32_t crop[4]; /* x, y, width, height in pixels of the frame; width and height 0: the whole frame */
    uint32_t width;   /* of the tensor, 1 to 4096 */
    uint32_t height;  /* of the tensor, 1 to 4096 */
    uint8_t color;    /* SANDERLING_COLOR_* */
    uint8_t layout;   /* SANDERLING_LAYOUT_* */
    uint8_t element;  /* SANDERLING_ELEMENT_* */
    uint8_t filter;   /* SANDERLING_FILTER_* */
    float mean[3];    /* for each channel */
    float scale[3];   /* for each channel */
    uint8_t reserved[12]; /* zero */
} sanderling_image_op;

/* The type of a tensor's elements, with the numbers of wasi-nn 0.6. */
#define SANDERLING_TENSOR_F16 0
#define SANDERLING_TENSOR_F32 1
#define SANDERLING_TENSOR_F64 2
#define SANDERLING_TENSOR_U8 3
#define SANDERLING_TENSOR_I32 4
#define SANDERLING_TENSOR_I64 5

/* A tensor as wasi-nn takes it. */
typedef struct sanderling_tensor {
    const uint32_t *dims;
    uint32_t dims_len;
    uint8_t type; /* SANDERLING_TENSOR_* */
    const void *data;
    uint32_t data_len;
} sanderling_tensor;

/* A part of a model's bytes, for sanderling_nn_load. */
typedef struct sanderling_bytes {
    const void *ptr;
    uint32_t len;
} sanderling_bytes;

/* What sanderling_nn_output_info writes; the type is a SANDERLING_TENSOR_*. */
typedef struct sanderling_output_info {
    uint32_t type;
    uint32_t rank;
    uint32_t dims[8];
} sanderling_output_info;

/* A rectangle in a frame, in pixels; width and height 0: the whole frame. */
typedef struct sanderling_rect {
    uint32_t x;
    uint32_t y;
    uint32_t width;
    uint32_t height;
} sanderling_rect;

/* What sanderling_now writes. */
typedef struct sanderling_time {
    int64_t unix_ns;
    uint64_t mono_ns;
} sanderling_time;

/* Levels of log lines. */
#define SANDERLING_LOG_ERROR 0
#define SANDERLING_LOG_WARN 1
#define SANDERLING_LOG_INFO 2
#define SANDERLING_LOG_DEBUG 3
#define SANDERLING_LOG_TRACE 4

/* Writes the header of the current frame. */
SANDERLING_IMPORT(frame_info) int32_t sanderling_frame_info(sanderling_frame_header *out);
/* Copies bytes of the current frame; returns how many. */
SANDERLING_IMPORT(frame_read) int32_t sanderling_frame_read(uint32_t offset, void *ptr, uint32_t len);
/* Queues a record on a channel that the deployment grants. */
SANDERLING_IMPORT(emit)
int32_t sanderling_emit(const char *channel, uint32_t channel_len, const void *ptr, uint32_t len);
/* Has a part of the current image encoded as JPEG and queued on a channel, with the grants evidence and emit:<channel>. The quality, 1 to 100, is lowered to
 * a quarter at most where the image does not fit a record else; returns the one that was used. */
SANDERLING_IMPORT(emit_evidence)
int32_t sanderling_emit_evidence(const char *channel, uint32_t channel_len, const sanderling_rect *rect, uint32_t quality);
/* Adds to a counter, or sets a gauge, which are reported with the module; at most 64 names of 1 to 64 characters A-Z a-z 0-9 . _ - */
SANDERLING_IMPORT(metric_add) int32_t sanderling_metric_add(const char *name, uint32_t len, double value);
SANDERLING_IMPORT(metric_set) int32_t sanderling_metric_set(const char *name, uint32_t len, double value);
/* Writes a line to the device's log. */
SANDERLING_IMPORT(log) int32_t sanderling_log(int32_t level, const char *ptr, uint32_t len);
/* Copies the deployment's `config`, JSON, as far as it fits; returns its whole length. */
SANDERLING_IMPORT(config) int32_t sanderling_config(void *ptr, uint32_t capacity);
/* Writes the wall and the monotonic time. */
SANDERLING_IMPORT(now) int32_t sanderling_now(sanderling_time *out);
/* What the module keeps over restarts and updates, with the grant state:<bytes>. Keys have 1 to SANDERLING_STATE_MAX_KEY bytes,
 * values at most SANDERLING_STATE_MAX_VALUE, and there are at most SANDERLING_STATE_MAX_KEYS. A call that faults changes nothing. */
#define SANDERLING_STATE_MAX_KEY 256
#define SANDERLING_STATE_MAX_VALUE 65536
#define SANDERLING_STATE_MAX_KEYS 4096
/* Copies a value as far as it fits; returns its whole length, or -SANDERLING_ENOENT. */
SANDERLING_IMPORT(state_get)
int32_t sanderling_state_get(const void *key, uint32_t key_len, void *ptr, uint32_t capacity);
/* Sets a value; -SANDERLING_ENOSPC above the quota or the number of keys. */
SANDERLING_IMPORT(state_set)
int32_t sanderling_state_set(const void *key, uint32_t key_len, const void *ptr, uint32_t len);
/* Forgets a value; -SANDERLING_ENOENT where there is none. */
SANDERLING_IMPORT(state_delete) int32_t sanderling_state_delete(const void *key, uint32_t key_len);
/* Makes the current frame a tensor in the guest's memory. */
SANDERLING_IMPORT(image_tensor)
int32_t sanderling_image_tensor(const sanderling_image_op *op, void *ptr, uint32_t len);
/* Inference itself is wasi-nn, the witx of wasi_ephemeral_nn. load_by_name finds the models that the deployment binds; load takes an
 * ONNX model of the guest's own (encoding 1 or 5, target 0 or 3, one part) with the grant infer:load. */
/* Makes the current frame an inference input, natively. */
SANDERLING_IMPORT(nn_input_image)
int32_t sanderling_nn_input_image(uint32_t context, uint32_t index, const sanderling_image_op *op);
/* Writes the type and shape of an output. */
SANDERLING_IMPORT(nn_output_info)
int32_t sanderling_nn_output_info(uint32_t context, uint32_t index, sanderling_output_info *out);

/* Inference with the models that the deployment binds: wasi-nn. Results are 0, or 1 invalid argument, 2 invalid encoding, 3 missing
 * memory, 4 busy, 5 runtime error, 6 unsupported operation, 7 too large, 8 not found. */

/* Loads a model from its bytes. */
SANDERLING_NN_IMPORT(load)
int32_t sanderling_nn_load(const sanderling_bytes *parts, uint32_t parts_len, uint32_t encoding, uint32_t target, uint32_t *graph);
/* Loads the model that the deployment binds to a name. */
SANDERLING_NN_IMPORT(load_by_name) int32_t sanderling_nn_load_by_name(const char *name, uint32_t name_len, uint32_t *graph);
/* Makes room for a model's tensors. */
SANDERLING_NN_IMPORT(init_execution_context) int32_t sanderling_nn_init_execution_context(uint32_t graph, uint32_t *context);
/* Copies a tensor into an input. */
SANDERLING_NN_IMPORT(set_input) int32_t sanderling_nn_set_input(uint32_t context, uint32_t index, const sanderling_tensor *tensor);
/* Runs the model. */
SANDERLING_NN_IMPORT(compute) int32_t sanderling_nn_compute(uint32_t context);
/* Copies an output, and writes its length. */
SANDERLING_NN_IMPORT(get_output)
int32_t sanderling_nn_get_output(uint32_t context, uint32_t index, void *ptr, uint32_t capacity, uint32_t *written);

#ifdef __cplusplus
}
#endif

#endif
