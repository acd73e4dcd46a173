/* Emits the mean of each window of a series. */
#include "sanderling.hpp"

namespace {

std::array<float, 16384> samples;

struct mean {
    sanderling::fault start() { return sanderling::ok; }

    sanderling::fault frame(const sanderling::frame &frame) {
        const auto read = sanderling::read(0, samples);
        if (!read) return {1};
        const std::size_t count = read.length() / sizeof(float);
        double sum = 0;
        for (float sample : std::span(samples).first(count)) sum += sample;
        std::array<char, 96> room;
        sanderling::text record(room);
        record << "{\"seq\":" << frame.seq << ",\"mean\":" << (count > 0 ? sum / static_cast<double>(count) : 0) << "}";
        return sanderling::emit("{{name}}", record) ? sanderling::ok : sanderling::fault{2};
    }
};

} // namespace

SANDERLING_GUEST(mean)
