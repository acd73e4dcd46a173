/* Writing a guest in C++20, on sanderling.h: without exceptions, without RTTI, without a heap.
 *
 *     #include "sanderling.hpp"
 *
 *     struct Brightness {
 *         sanderling::fault start() { return sanderling::ok; }
 *         sanderling::fault frame(const sanderling::frame &frame) {
 *             std::array<char, 64> room;
 *             sanderling::text record(room);
 *             record << "{\"seq\":" << frame.seq << ",\"width\":" << frame.width << "}";
 *             return sanderling::emit("brightness", record) ? sanderling::ok : sanderling::fault{3};
 *         }
 *     };
 *
 *     SANDERLING_GUEST(Brightness)
 *
 * Build with `zig c++ -target wasm32-wasi -mexec-model=reactor -std=c++20 -Os -s -fno-exceptions -fno-rtti -Wl,-z,stack-size=65536`.
 */
#ifndef SANDERLING_HPP
#define SANDERLING_HPP

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "sanderling.h"

namespace sanderling {

/* What a guest answers: `ok`, or a positive number of its own. */
struct fault {
    std::int32_t code;
};
inline constexpr fault ok{0};
/* Of a configuration that does not fit, and of an inference call that failed: as those of the SDK for Rust. */
inline constexpr fault config_fault{1001};
inline constexpr fault inference_fault{1002};

/* What a host function answered: a length or 0, or a negated SANDERLING_E* number. True where it went well. */
struct result {
    std::int32_t value;
    constexpr explicit operator bool() const { return value >= 0; }
    constexpr std::int32_t error() const { return value < 0 ? -value : 0; }
    constexpr std::size_t length() const { return value > 0 ? static_cast<std::size_t>(value) : 0; }
};

/* Memory that the host writes, and memory that it reads: any array, vector or span. */
struct place {
    void *ptr;
    std::uint32_t length;
    template <typename Range>
    place(Range &&range) : ptr(std::data(range)), length(static_cast<std::uint32_t>(std::size(range) * sizeof(*std::data(range)))) {}
};
struct bytes {
    const void *ptr;
    std::uint32_t length;
    template <typename Range>
    bytes(const Range &range) : ptr(std::data(range)), length(static_cast<std::uint32_t>(std::size(range) * sizeof(*std::data(range)))) {}
};

/* The header of a frame, with its sensor's name. */
struct frame : sanderling_frame_header {
    std::string_view name() const {
        std::size_t length = 0;
        while (length < sizeof sensor && sensor[length] != 0) length++;
        return {sensor, length};
    }
};

/* An operation for the whole frame as gray f32 elements in 0..1; change what should be otherwise. */
inline sanderling_image_op gray(std::uint32_t width, std::uint32_t height) {
    sanderling_image_op op{};
    op.width = width;
    op.height = height;
    op.filter = SANDERLING_FILTER_BILINEAR;
    for (float &scale : op.scale) scale = 1;
    return op;
}

/* The current frame's header; nothing outside of a frame. */
inline std::optional<frame> current() {
    frame header{};
    if (sanderling_frame_info(&header) != 0) return std::nullopt;
    return header;
}

/* Copies the current frame from `offset` on, as far as it fits. */
inline result read(std::uint32_t offset, place out) { return {sanderling_frame_read(offset, out.ptr, out.length)}; }

/* Queues a record on a channel that the deployment grants. */
inline result emit(std::string_view channel, std::string_view record) {
    const bytes name(channel), content(record);
    return {sanderling_emit(channel.data(), name.length, content.ptr, content.length)};
}

/* Has a part of the current image encoded as JPEG and queued on a channel, with the grants evidence and emit:<channel>; the quality that was used. */
inline result emit_evidence(std::string_view channel, const sanderling_rect &rect, std::uint32_t quality) {
    return {sanderling_emit_evidence(channel.data(), bytes(channel).length, &rect, quality)};
}

/* Adds to a counter, or sets a gauge, which are reported with the module. */
inline result metric_add(std::string_view name, double value) { return {sanderling_metric_add(name.data(), bytes(name).length, value)}; }
inline result metric_set(std::string_view name, double value) { return {sanderling_metric_set(name.data(), bytes(name).length, value)}; }

/* What the module keeps over restarts and updates, with the grant state:<bytes>. Copies a value as far as it fits; its whole length, or the error
 * SANDERLING_ENOENT. */
inline result state_get(bytes key, place out) { return {sanderling_state_get(key.ptr, key.length, out.ptr, out.length)}; }
/* Sets a value; SANDERLING_ENOSPC above the quota or the number of keys. */
inline result state_set(bytes key, bytes value) { return {sanderling_state_set(key.ptr, key.length, value.ptr, value.length)}; }
/* Forgets a value; SANDERLING_ENOENT where there is none. */
inline result state_delete(bytes key) { return {sanderling_state_delete(key.ptr, key.length)}; }

/* Writes a line to the device's log; the level is a SANDERLING_LOG_*. */
inline void log(std::int32_t level, std::string_view line) {
    sanderling_log(level, line.data(), static_cast<std::uint32_t>(line.size()));
}

/* The deployment's `config`, JSON text, `null` where it has none; nothing where it is longer than `out`. */
inline std::optional<std::string_view> config(std::span<char> out) {
    const result whole{sanderling_config(out.data(), static_cast<std::uint32_t>(out.size()))};
    if (!whole || whole.length() > out.size()) return std::nullopt;
    return std::string_view(out.data(), whole.length());
}

/* The device's time. */
inline sanderling_time now() {
    sanderling_time time{};
    sanderling_now(&time);
    return time;
}

/* Makes the current frame a tensor in `out`, natively. */
inline result image_tensor(const sanderling_image_op &op, place out) { return {sanderling_image_tensor(&op, out.ptr, out.length)}; }

/* An execution context of a model. Its calls answer 0 or an error number of wasi-nn, but for `input_image`. */
class model {
public:
    /* Loads the model that the deployment binds to `name`; nothing where there is none or `infer` is not granted. */
    static std::optional<model> load(std::string_view name) {
        std::uint32_t graph = 0, context = 0;
        if (sanderling_nn_load_by_name(name.data(), static_cast<std::uint32_t>(name.size()), &graph) != 0) return std::nullopt;
        if (sanderling_nn_init_execution_context(graph, &context) != 0) return std::nullopt;
        return model(context);
    }

    /* Loads an ONNX model that the guest brings itself, with the grant infer:load; nothing where that fails. */
    static std::optional<model> from_onnx(bytes onnx) {
        const sanderling_bytes part{onnx.ptr, onnx.length};
        constexpr std::uint32_t encoding_onnx = 1, cpu = 0;
        std::uint32_t graph = 0, context = 0;
        if (sanderling_nn_load(&part, 1, encoding_onnx, cpu, &graph) != 0) return std::nullopt;
        if (sanderling_nn_init_execution_context(graph, &context) != 0) return std::nullopt;
        return model(context);
    }

    /* Makes the current frame an input, natively: the pixels never enter the guest. */
    result input_image(std::uint32_t index, const sanderling_image_op &op) { return {sanderling_nn_input_image(context_, index, &op)}; }

    /* Sets an input from elements of a SANDERLING_TENSOR_* type. */
    std::int32_t input(std::uint32_t index, std::uint8_t type, std::span<const std::uint32_t> dims, bytes data) {
        const sanderling_tensor tensor{dims.data(), static_cast<std::uint32_t>(dims.size()), type, data.ptr, data.length};
        return sanderling_nn_set_input(context_, index, &tensor);
    }

    /* Runs the model. */
    std::int32_t compute() { return sanderling_nn_compute(context_); }

    /* Copies an output; `written` is its length in bytes. */
    std::int32_t output(std::uint32_t index, place out, std::uint32_t &written) {
        return sanderling_nn_get_output(context_, index, out.ptr, out.length, &written);
    }

    /* The type and shape of an output. */
    std::optional<sanderling_output_info> output_info(std::uint32_t index) {
        sanderling_output_info info{};
        if (sanderling_nn_output_info(context_, index, &info) != 0) return std::nullopt;
        return info;
    }

private:
    explicit model(std::uint32_t context) : context_(context) {}
    std::uint32_t context_;
};

/* Writes text into a place that the caller has; what does not fit is left out, and `whole` says so. */
class text {
public:
    explicit text(std::span<char> room) : room_(room) {}

    text &operator<<(std::string_view part) {
        for (char character : part) put(character);
        return *this;
    }
    text &operator<<(const char *part) { return *this << std::string_view(part); }
    text &operator<<(bool value) { return *this << (value ? "true" : "false"); }
    text &operator<<(double value) {
        if (!std::isfinite(value)) return *this << "null";
        /* Of C, which is small; to_chars of a double takes tables of 100 KB. */
        std::array<char, 32> digits;
        const int length = std::snprintf(digits.data(), digits.size(), "%.9g", value);
        return *this << std::string_view(digits.data(), static_cast<std::size_t>(length > 0 ? length : 0));
    }
    text &operator<<(float value) { return *this << static_cast<double>(value); }
    template <std::integral T> text &operator<<(T value) { return number(value); }

    /* A text as JSON, in quotation marks. */
    text &quoted(std::string_view part) {
        constexpr std::string_view digits = "0123456789abcdef";
        put('"');
        for (char character : part) {
            const auto code = static_cast<unsigned char>(character);
            if (code < 0x20) {
                *this << "\\u00" << digits.substr(code >> 4, 1) << digits.substr(code & 15, 1);
                continue;
            }
            if (character == '"' || character == '\\') put('\\');
            put(character);
        }
        put('"');
        return *this;
    }

    bool whole() const { return !cut_; }
    operator std::string_view() const { return {room_.data(), used_}; }

private:
    void put(char character) {
        if (used_ < room_.size()) room_[used_++] = character;
        else cut_ = true;
    }
    template <typename T> text &number(T value) {
        const auto end = std::to_chars(room_.data() + used_, room_.data() + room_.size(), value);
        if (end.ec == std::errc()) used_ = static_cast<std::size_t>(end.ptr - room_.data());
        else cut_ = true;
        return *this;
    }

    std::span<char> room_;
    std::size_t used_ = 0;
    bool cut_ = false;
};

/* A value of a JSON text that the host has checked, as `config` is: read where it lies, without a copy. */
class json {
public:
    explicit json(std::string_view text) : text_(trim(text)) {}

    bool is_object() const { return starts('{'); }
    bool is_null() const { return text_ == "null"; }

    /* The number, where it is one. */
    std::optional<double> number() const {
        std::array<char, 64> digits{};
        if (text_.empty() || text_.size() >= digits.size() || starts('"')) return std::nullopt;
        text_.copy(digits.data(), text_.size());
        char *end = nullptr;
        const double value = std::strtod(digits.data(), &end);
        if (end != digits.data() + text_.size() || !std::isfinite(value)) return std::nullopt;
        return value;
    }

    std::optional<bool> boolean() const {
        if (text_ == "true") return true;
        if (text_ == "false") return false;
        return std::nullopt;
    }

    /* Calls `use(key, value)` for each entry of an object until it answers false. Keys are as they are written, without escapes undone. */
    template <typename Use> bool entries(Use use) const {
        if (!is_object()) return false;
        std::string_view rest = trim(text_.substr(1));
        while (!rest.empty() && rest.front() == '"') {
            const std::size_t key_end = skip(rest);
            const std::string_view key = rest.substr(1, key_end - 2);
            rest = trim(rest.substr(key_end));
            rest = trim(rest.substr(rest.empty() ? 0 : 1));
            const std::size_t value_end = skip(rest);
            if (!use(key, json(rest.substr(0, value_end)))) return false;
            rest = trim(rest.substr(value_end));
            rest = trim(rest.substr(rest.empty() ? 0 : 1));
        }
        return true;
    }

private:
    bool starts(char character) const { return !text_.empty() && text_.front() == character; }

    static std::string_view trim(std::string_view text) {
        constexpr std::string_view space = " \t\r\n";
        while (!text.empty() && space.find(text.front()) != space.npos) text.remove_prefix(1);
        while (!text.empty() && space.find(text.back()) != space.npos) text.remove_suffix(1);
        return text;
    }

    /* The length of the value that a text begins with. */
    static std::size_t skip(std::string_view text) {
        std::size_t at = 0, depth = 0;
        bool quoted = false;
        for (; at < text.size(); at++) {
            const char character = text[at];
            if (quoted) {
                if (character == '\\') at++;
                else if (character == '"') quoted = false;
            } else if (character == '"') {
                quoted = true;
            } else if (character == '{' || character == '[') {
                depth++;
            } else if (depth > 0 && (character == '}' || character == ']')) {
                depth--;
            } else if (depth == 0 && (character == ',' || character == ':' || character == '}' || character == ']')) {
                return at;
            } else {
                continue;
            }
            if (!quoted && depth == 0 && at > 0) return at + 1 < text.size() ? at + 1 : text.size();
        }
        return text.size();
    }

    std::string_view text_;
};

} // namespace sanderling

/* Exports a type with `fault start()` and `fault frame(const sanderling::frame &)` as the module's guest. */
#define SANDERLING_GUEST(type)                                                                                                     \
    static type sanderling_guest_;                                                                                                 \
    extern "C" {                                                                                                                   \
    SANDERLING_EXPORT(sanderling_abi) std::int32_t sanderling_abi() { return SANDERLING_ABI; }                                     \
    SANDERLING_EXPORT(sanderling_start) std::int32_t sanderling_start() { return sanderling_guest_.start().code; }                 \
    SANDERLING_EXPORT(sanderling_frame) std::int32_t sanderling_frame() {                                                          \
        const auto header = sanderling::current();                                                                                 \
        return header ? sanderling_guest_.frame(*header).code : SANDERLING_ENODATA;                                                \
    }                                                                                                                              \
    }

#endif
