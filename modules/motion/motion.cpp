/* Watches a camera for what moves: says when something begins to move and where, and when it is still again.
 *
 * The host scales each image to a small gray one, natively; this guest compares it with a background that follows slowly, cell by cell, so that
 * daylight and a passing cloud are no motion. Motion begins when at least `area` of the image differs by more than `difference`, and ends when
 * that was not so for `hold` frames. A difference everywhere at once, as of a lamp or a camera that was moved, is said as `scene` and taken as
 * the new background.
 *
 * Config, all optional: {"width": 64, "height": 48, "difference": 24, "area": 0.005, "adaptation": 0.05, "hold": 5, "scene": 0.7}; `difference`
 * is of 255 levels of gray, `area` and `scene` are parts of the image, `adaptation` is how far the background goes towards each frame.
 * On the channel `motion`: {"seq", "sensor", "state": "begin", "move", "end" or "scene", "area", "box": [x, y, width, height]}, the box in pixels
 * of the frame and null where nothing moves.
 */
#include <algorithm>
#include <array>

#include "sanderling.hpp"

namespace {

constexpr std::string_view channel = "motion";
constexpr sanderling::fault not_an_image{2}, not_emitted{3};
/* Cells of the small image, at most. */
constexpr std::uint32_t most_cells = 320 * 240;
/* Images until the background is trusted. */
constexpr std::uint32_t warm_up = 3;

struct settings {
    double width = 64, height = 48, difference = 24, area = 0.005, adaptation = 0.05, hold = 5, scene = 0.7;
};

/* A key of the config, where it goes, and from where to where it may be. */
struct key {
    std::string_view name;
    double settings::*field;
    double least, most;
};
constexpr std::array<key, 7> keys{{
    {"width", &settings::width, 1, 320},
    {"height", &settings::height, 1, 240},
    {"difference", &settings::difference, 1, 255},
    {"area", &settings::area, 0, 1},
    {"adaptation", &settings::adaptation, 0, 1},
    {"hold", &settings::hold, 1, 100000},
    {"scene", &settings::scene, 0, 1},
}};

/* The part of the small image that moves. */
struct region {
    std::uint32_t cells = 0, left = ~0u, top = ~0u, right = 0, bottom = 0;

    void add(std::uint32_t x, std::uint32_t y) {
        cells++;
        left = std::min(left, x);
        top = std::min(top, y);
        right = std::max(right, x + 1);
        bottom = std::max(bottom, y + 1);
    }
};

std::array<std::uint8_t, most_cells> image;
std::array<float, most_cells> background;

class motion {
public:
    sanderling::fault start() {
        std::array<char, 1024> room;
        const auto text = sanderling::config(room);
        if (!text) return refuse("the config is longer than 1024 bytes");
        const sanderling::json json(*text);
        if (json.is_null()) return sanderling::ok;
        if (!json.is_object()) return refuse("the config is not an object");
        return json.entries([this](std::string_view name, sanderling::json value) { return set(name, value); }) ? sanderling::ok
                                                                                                            : sanderling::config_fault;
    }

    sanderling::fault frame(const sanderling::frame &frame) {
        sanderling_image_op op = sanderling::gray(width(), height());
        op.element = SANDERLING_ELEMENT_U8;
        op.filter = SANDERLING_FILTER_AREA;
        std::fill(std::begin(op.scale), std::end(op.scale), 0.0f);
        if (!sanderling::image_tensor(op, std::span(image).first(cells()))) {
            sanderling::log(SANDERLING_LOG_ERROR, "motion takes images; bind it to a camera, and decode what is compressed");
            return not_an_image;
        }
        const bool trusted = seen_ >= warm_up;
        const region found = compare(trusted);
        if (!trusted) {
            seen_++;
            return sanderling::ok;
        }
        return decide(frame, found);
    }

private:
    std::uint32_t width() const { return static_cast<std::uint32_t>(settings_.width); }
    std::uint32_t height() const { return static_cast<std::uint32_t>(settings_.height); }
    std::uint32_t cells() const { return width() * height(); }

    static sanderling::fault refuse(std::string_view why) {
        sanderling::log(SANDERLING_LOG_ERROR, why);
        return sanderling::config_fault;
    }

    bool set(std::string_view name, sanderling::json value) {
        std::array<char, 160> room;
        sanderling::text line(room);
        for (const key &known : keys) {
            if (known.name != name) continue;
            const auto number = value.number();
            if (number && *number >= known.least && *number <= known.most) {
                settings_.*known.field = *number;
                return true;
            }
            line << name << " is not a number from " << known.least << " to " << known.most;
            refuse(line);
            return false;
        }
        line << "the config has no key \"" << name << "\"; it has";
        for (const key &known : keys) line << " " << known.name;
        refuse(line);
        return false;
    }

    /* Finds the cells that differ from the background, and lets it follow; more slowly where something moves. */
    region compare(bool trusted) {
        region found;
        const float difference = static_cast<float>(settings_.difference), adaptation = static_cast<float>(settings_.adaptation);
        for (std::uint32_t y = 0, at = 0; y < height(); y++) {
            for (std::uint32_t x = 0; x < width(); x++, at++) {
                const float pixel = image[at], away = pixel - background[at];
                const bool moves = std::abs(away) > difference;
                if (moves) found.add(x, y);
                background[at] = trusted ? background[at] + away * (moves ? adaptation / 8 : adaptation) : pixel;
            }
        }
        return found;
    }

    sanderling::fault decide(const sanderling::frame &frame, const region &found) {
        const double area = static_cast<double>(found.cells) / cells();
        if (found.cells > 0 && area >= settings_.scene) {
            std::copy_n(image.begin(), cells(), background.begin());
            still_ = 0;
            moving_ = false;
            return report(frame, "scene", area, nullptr);
        }
        if (found.cells > 0 && area >= settings_.area) {
            still_ = 0;
            const std::string_view state = moving_ ? "move" : "begin";
            moving_ = true;
            return report(frame, state, area, &found);
        }
        if (!moving_ || ++still_ < settings_.hold) return sanderling::ok;
        moving_ = false;
        return report(frame, "end", area, nullptr);
    }

    sanderling::fault report(const sanderling::frame &frame, std::string_view state, double area, const region *found) const {
        std::array<char, 256> room;
        sanderling::text record(room);
        record << "{\"seq\":" << frame.seq << ",\"sensor\":";
        record.quoted(frame.name()) << ",\"state\":";
        record.quoted(state) << ",\"area\":" << area << ",\"box\":";
        if (found == nullptr) {
            record << "null}";
        } else {
            const std::uint32_t left = found->left * frame.width / width(), top = found->top * frame.height / height();
            const std::uint32_t right = found->right * frame.width / width(), bottom = found->bottom * frame.height / height();
            record << "[" << left << "," << top << "," << right - left << "," << bottom - top << "]}";
        }
        const auto emitted = sanderling::emit(channel, record);
        /* What is above the rate is lost, and counted by the host. */
        return emitted || emitted.error() == SANDERLING_EAGAIN ? sanderling::ok : not_emitted;
    }

    settings settings_;
    std::uint32_t seen_ = 0, still_ = 0;
    bool moving_ = false;
};

} // namespace

SANDERLING_GUEST(motion)
