/* Emits the mean of each window of a series. */
#include <stdio.h>

#include "sanderling.h"

#define CHANNEL "{{name}}"
#define MAX_SAMPLES 16384

static float samples[MAX_SAMPLES];

SANDERLING_EXPORT(sanderling_abi) int32_t sanderling_abi(void) { return SANDERLING_ABI; }

SANDERLING_EXPORT(sanderling_frame) int32_t sanderling_frame(void) {
    sanderling_frame_header frame;
    int32_t length = sanderling_frame_read(0, samples, sizeof samples);
    if (sanderling_frame_info(&frame) != 0 || length < 0) return 1;
    double sum = 0;
    uint32_t count = (uint32_t)length / sizeof *samples;
    for (uint32_t i = 0; i < count; i++) sum += samples[i];
    char record[96];
    int written = snprintf(record, sizeof record, "{\"seq\":%llu,\"mean\":%.9g}", (unsigned long long)frame.seq, count > 0 ? sum / count : 0);
    return sanderling_emit(CHANNEL, sizeof CHANNEL - 1, record, (uint32_t)written) == 0 ? 0 : 2;
}
