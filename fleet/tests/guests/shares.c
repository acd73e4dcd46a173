/* As shares.rs, in C: the division itself traps. */
#include "sanderling.h"

static volatile uint32_t result;

static inline __attribute__((always_inline)) uint32_t share(uint32_t whole, uint32_t among)
{
    return whole / among; /* the marked line */
}

static __attribute__((noinline)) void weighs(uint8_t among)
{
    result = share(100, among);
}

SANDERLING_EXPORT(sanderling_abi) int32_t sanderling_abi(void)
{
    return SANDERLING_ABI;
}

SANDERLING_EXPORT(sanderling_frame) int32_t sanderling_frame(void)
{
    uint8_t first = 0;
    sanderling_frame_read(0, &first, 1);
    weighs(first);
    return 0;
}
