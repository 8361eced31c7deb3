#include "store/base/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <time.h>

/* Wall time is Unix time in milliseconds. */
Test(clock, wall_time_is_unix_time)
{
    uint64_t before = (uint64_t)time(NULL) * 1000;
    uint64_t now = clock_wall_ms();
    uint64_t after = ((uint64_t)time(NULL) + 2) * 1000; /* time() may lag by a tick */
    cr_assert(ge(u64, now + 1000, before));
    cr_assert(le(u64, now, after));
}

Test(clock, monotonic_time_never_goes_back)
{
    uint64_t last = clock_mono_us(), first = last;
    while (last - first < 2000) {
        uint64_t now = clock_mono_us();
        cr_assert(ge(u64, now, last));
        last = now;
    }
}

/* Every byte of any size is filled: a byte that is always 0 shows within 64 tries. */
Test(clock, random_bytes_fill_everything)
{
    static const size_t SIZES[] = {1, 16, 255, 256, 257, 1000};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        unsigned char bytes[1001] = {0}, seen[1001] = {0};
        for (int round = 0; round < 64; round++) {
            random_bytes(bytes, SIZES[i]);
            for (size_t at = 0; at < sizeof bytes; at++)
                seen[at] |= bytes[at];
        }
        for (size_t at = 0; at < sizeof bytes; at++)
            cr_assert(eq(int, seen[at] != 0, at < SIZES[i]), "byte %zu of %zu", at, SIZES[i]);
    }
}

Test(clock, random_numbers_differ)
{
    uint64_t a = random_u64(), b = random_u64(), c = random_u64();
    cr_assert(a != b || b != c);
}
