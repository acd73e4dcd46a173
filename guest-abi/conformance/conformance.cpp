/* The conformance guest of sanderling.hpp, which stands on sanderling.h, whose constants conformance.c says: see README.md. */
#include <algorithm>

#include "sanderling.hpp"

namespace {

std::array<char, 512> room;

template <typename... Parts> void say(Parts... parts) {
    sanderling::text line(room);
    (line << ... << parts);
    sanderling::emit("said", line);
}

void say_hex(std::string_view name, const void *bytes, std::size_t count) {
    constexpr std::string_view digits = "0123456789abcdef";
    sanderling::text line(room);
    line << name << " ";
    for (std::size_t i = 0; i < count; i++) {
        const auto byte = static_cast<const unsigned char *>(bytes)[i];
        line << digits.substr(byte >> 4, 1) << digits.substr(byte & 15, 1);
    }
    sanderling::emit("said", line);
}

struct Conformance {
    std::array<char, 64> content{};

    sanderling::fault start() {
        std::array<char, 64> place;
        say("config ", sanderling::config(place).value_or("too long"));
        sanderling::log(SANDERLING_LOG_WARN, "logged");
        return sanderling::ok;
    }

    sanderling::fault frame(const sanderling::frame &f) {
        say_numbers();
        say("frame ", f.seq, " ", f.captured_unix_ns, " ", f.captured_mono_ns, " ", f.len, " ", f.kind, " ", f.format, " ", f.width, " ", f.height,
            " ", f.stride, " ", f.channels, " ", f.rate_mhz, " ", f.dropped, " ", f.name());
        const auto read = sanderling::read(0, content);
        say("content ", std::string_view(content.data(), read.length()));
        const auto time = sanderling::now();
        say("time ", time.unix_ns, " ", time.mono_ns);
        say_kept();
        say_image();
        return say_model();
    }

    void say_numbers() {
        say("abi ", SANDERLING_ABI);
        say("errno ", SANDERLING_ENOENT, " ", SANDERLING_E2BIG, " ", SANDERLING_EAGAIN, " ", SANDERLING_EACCES, " ", SANDERLING_EFAULT, " ",
            SANDERLING_EINVAL, " ", SANDERLING_ENOSPC, " ", SANDERLING_ENODATA);
    }

    static std::string_view kept(std::span<char> out) {
        const auto got = sanderling::state_get(std::string_view("key"), out);
        return got.error() == SANDERLING_ENOENT ? "none" : std::string_view(out.data(), got.length());
    }

    void say_kept() {
        std::array<char, 16> before, set, after;
        const auto first = kept(before);
        sanderling::state_set(std::string_view("key"), std::string_view("value"));
        const auto second = kept(set);
        sanderling::state_delete(std::string_view("key"));
        say("state ", first, " ", second, " ", kept(after), " ", SANDERLING_STATE_MAX_KEY, " ", SANDERLING_STATE_MAX_VALUE, " ",
            SANDERLING_STATE_MAX_KEYS);
        const auto added = sanderling::metric_add("count", 2.5), level = sanderling::metric_set("level", -1.5);
        say("metrics ", added.value, " ", level.value);
        const auto quality = sanderling::emit_evidence("said", {1, 2, 3, 4}, 80);
        say("evidence ", quality.value);
    }

    void say_image() {
        sanderling_image_op op = sanderling::gray(5, 6);
        for (std::uint32_t i = 0; i < 4; i++) op.crop[i] = i + 1;
        op.color = SANDERLING_COLOR_BGR;
        op.layout = SANDERLING_LAYOUT_NHWC;
        op.element = SANDERLING_ELEMENT_F16;
        op.filter = SANDERLING_FILTER_AREA;
        for (int i = 0; i < 3; i++) {
            op.mean[i] = 0.5f / static_cast<float>(1 << i);
            op.scale[i] = 2.0f * static_cast<float>(1 << i);
        }
        say_hex("op", &op, sizeof op);
        sanderling_image_op whole = sanderling::gray(8, 8);
        whole.element = SANDERLING_ELEMENT_U8;
        whole.filter = SANDERLING_FILTER_NEAREST;
        for (float &scale : whole.scale) scale = 0;
        std::array<char, 64> tensor{};
        const auto made = sanderling::image_tensor(whole, tensor);
        say("image ", made.value, " ", std::equal(tensor.begin(), tensor.end(), content.begin()) ? 0 : 1);
    }

    sanderling::fault say_model() {
        std::uint32_t written = 0;
        sanderling::model::from_onnx(std::string_view());
        auto model = sanderling::model::load("conv");
        if (!model) return sanderling::inference_fault;
        const auto image = model->input_image(0, sanderling::gray(8, 8));
        static const std::array<std::uint32_t, 4> dims{1, 1, 8, 8};
        static const std::array<float, 64> zeros{};
        const auto set = model->input(0, SANDERLING_TENSOR_F32, dims, zeros);
        const auto computed = model->compute();
        std::array<unsigned char, 8> output{};
        const auto got = model->output(0, output, written);
        say("model 0 0 ", image.value, " ", set, " ", computed, " ", got, " ", written);
        say_hex("output", output.data(), output.size());
        if (const auto info = model->output_info(0)) say("info ", info->type, " ", info->rank, " ", info->dims[0], " ", info->dims[1]);
        return sanderling::ok;
    }
};

} // namespace

SANDERLING_GUEST(Conformance)
