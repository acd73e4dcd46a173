/* Watches a machine's vibration: RMS, crest factor and kurtosis of each window of a series, with an alarm.
 *
 * A healthy bearing's signal is near to Gaussian: kurtosis about 3 or less. A damaged one knocks: kurtosis and crest factor rise long
 * before the RMS does (ISO 13373-2, annex on time-domain indicators). The window's mean is removed first: accelerometers have an offset.
 *
 * Config, all optional: {"rms_alarm": 0, "crest_alarm": 6.0, "kurtosis_alarm": 4.0}; 0 switches a limit off.
 * On the channel `vibration`: {"seq", "channel", "rms", "crest", "kurtosis", "alarm"} for each channel of each window.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sanderling.h"

#define CHANNEL "vibration"
#define MAX_SAMPLES 16384
#define MAX_CONFIG 1024

/* The guest's own fault codes. */
enum { FAULT_CONFIG = 1, FAULT_NOT_A_SERIES = 2, FAULT_EMIT = 3 };

typedef struct limits {
    double rms, crest, kurtosis;
} limits;

typedef struct features {
    double rms, crest, kurtosis;
} features;

static limits alarm_at = {.rms = 0.0, .crest = 6.0, .kurtosis = 4.0};
static float samples[MAX_SAMPLES];

/* The number behind "key": in a flat JSON object, or what stands there already. */
static bool read_number(const char *json, const char *key, double *number) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(json, quoted);
    if (at == NULL) return true;
    at += strlen(quoted);
    at += strspn(at, " \t\r\n");
    if (*at++ != ':') return false;
    char *end;
    double value = strtod(at, &end);
    if (end == at || !isfinite(value) || value < 0) return false;
    *number = value;
    return true;
}

static void complain(const char *line) { sanderling_log(SANDERLING_LOG_ERROR, line, (uint32_t)strlen(line)); }

static features measure(const float *first, uint32_t count, uint32_t step) {
    double mean = 0, second = 0, fourth = 0, peak = 0;
    for (uint32_t i = 0; i < count; i++) mean += first[i * step];
    mean /= count;
    for (uint32_t i = 0; i < count; i++) {
        double from_mean = first[i * step] - mean;
        double square = from_mean * from_mean;
        second += square;
        fourth += square * square;
        peak = fmax(peak, fabs(from_mean));
    }
    second /= count;
    fourth /= count;
    double rms = sqrt(second);
    if (rms == 0) return (features){0};
    return (features){.rms = rms, .crest = peak / rms, .kurtosis = fourth / (second * second)};
}

static bool above(double value, double limit) { return limit > 0 && value >= limit; }

static int report(uint64_t seq, uint32_t channel, features found) {
    bool alarm = above(found.rms, alarm_at.rms) || above(found.crest, alarm_at.crest) || above(found.kurtosis, alarm_at.kurtosis);
    char record[192];
    int length = snprintf(record, sizeof record,
        "{\"seq\":%llu,\"channel\":%u,\"rms\":%.6g,\"crest\":%.6g,\"kurtosis\":%.6g,\"alarm\":%s}", (unsigned long long)seq,
        channel, found.rms, found.crest, found.kurtosis, alarm ? "true" : "false");
    int result = sanderling_emit(CHANNEL, sizeof CHANNEL - 1, record, (uint32_t)length);
    return result == 0 || result == -SANDERLING_EAGAIN ? 0 : FAULT_EMIT;
}

SANDERLING_EXPORT(sanderling_abi) int32_t sanderling_abi(void) { return SANDERLING_ABI; }

SANDERLING_EXPORT(sanderling_start) int32_t sanderling_start(void) {
    char json[MAX_CONFIG + 1];
    int32_t length = sanderling_config(json, MAX_CONFIG);
    if (length < 0 || length > MAX_CONFIG) {
        complain("the config is longer than 1024 bytes");
        return FAULT_CONFIG;
    }
    json[length] = 0;
    if (!read_number(json, "rms_alarm", &alarm_at.rms) || !read_number(json, "crest_alarm", &alarm_at.crest) ||
        !read_number(json, "kurtosis_alarm", &alarm_at.kurtosis)) {
        complain("the config's rms_alarm, crest_alarm and kurtosis_alarm are numbers from 0 upwards");
        return FAULT_CONFIG;
    }
    return 0;
}

/* The host writes each frame here before it calls sanderling_frame. */
SANDERLING_EXPORT(sanderling_buffer) int32_t sanderling_buffer(int32_t length) {
    return length >= 0 && (uint32_t)length <= sizeof samples ? (int32_t)(intptr_t)samples : 0;
}

SANDERLING_EXPORT(sanderling_frame) int32_t sanderling_frame(void) {
    sanderling_frame_header frame;
    if (sanderling_frame_info(&frame) != 0 || frame.kind != SANDERLING_KIND_SERIES || frame.format != SANDERLING_FORMAT_F32) {
        complain("vibration takes series of f32; bind it to such a sensor");
        return FAULT_NOT_A_SERIES;
    }
    uint32_t channels = frame.channels > 0 ? frame.channels : 1;
    uint32_t count = (frame.len <= sizeof samples ? frame.len : (uint32_t)sizeof samples) / sizeof *samples / channels;
    if (count == 0) return 0;
    for (uint32_t channel = 0; channel < channels; channel++) {
        int fault = report(frame.seq, channel, measure(samples + channel, count, channels));
        if (fault != 0) return fault;
    }
    return 0;
}
