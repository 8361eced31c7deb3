#include "store/bloom.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static uint64_t mix(uint64_t i)
{
    i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9u;
    i = (i ^ i >> 27) * 0x94d049bb133111ebu;
    return i ^ i >> 31;
}

/* What was added is never denied, and what was not rarely claimed: at the size called full about
 * once in 1,000. */
Test(bloom, tells_apart)
{
    for (unsigned log2 = 10; log2 <= 18; log2 += 4) {
        struct bloom bloom;
        bloom_init(&bloom, log2);
        uint64_t n = 0, wrong = 0;
        while (!bloom_full(&bloom))
            bloom_add(&bloom, mix(++n));
        cr_assert(eq(u64, n, ((uint64_t)8 << log2) / 16 + 1));
        for (uint64_t i = 1; i <= n; i++)
            cr_assert(bloom_maybe(&bloom, mix(i)));
        for (uint64_t i = n + 1; i <= n + 100000; i++)
            wrong += bloom_maybe(&bloom, mix(i));
        cr_assert(lt(u64, wrong, 250));
        bloom_close(&bloom);
    }
}

/* An empty one denies everything; asking ahead of an absent one does nothing. */
Test(bloom, empty)
{
    struct bloom bloom;
    bloom_init(&bloom, BLOOM_LOG2_MIN);
    for (uint64_t i = 0; i < 1000; i++)
        cr_assert(not(bloom_maybe(&bloom, mix(i))));
    bloom_close(&bloom);
    bloom_prefetch(&bloom, 1);
}
