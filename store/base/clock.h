/* store/base/clock.h: the only time and the only randomness. */
#ifndef LOQUAT_BASE_CLOCK_H
#define LOQUAT_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_wall_ms(void); /* Unix time */
uint64_t clock_mono_us(void); /* never goes back */
static inline uint64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}
void random_bytes(void *out, size_t n);
uint64_t random_u64(void);

#endif
