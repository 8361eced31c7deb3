#include "store/base/clock.h"

#include <sys/random.h>
#include <time.h>

#include "store/base/check.h"

uint64_t clock_wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t clock_mono_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void random_bytes(void *out, size_t n)
{
    char *p = out;
    while (n > 0) {
        size_t want = n < 256 ? n : 256; /* never cut short up to this size */
        ssize_t got = getrandom(p, want, 0);
        if (got < 0)
            continue; /* interrupted before the pool was ready */
        p += got;
        n -= (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t v;
    random_bytes(&v, sizeof v);
    return v;
}
