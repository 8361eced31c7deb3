#include "replication/give_way.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/clock.h"
#include "tests/lib/rivals.h"

enum { LONG_US = 300000 };

Test(give_way, rests_for_a_multiple_of_what_it_waited)
{
    cr_assert(zero(u64, give_way_for_us(10000, 0)));
    cr_assert(eq(u64, give_way_for_us(10000, 500), (uint64_t)500 * GIVE_WAY_TIMES));
    cr_assert(zero(u64, give_way_for_us(0, 10000)));
}

Test(give_way, works_a_part_of_its_time)
{
    cr_assert(eq(u64, give_way_for_us(1000, 1000000), (uint64_t)1000 * (GIVE_WAY_PARTS - 1)));
}

/* Works for a while, and says for how long it was told to rest. */
static uint64_t rests_us(struct give_way *way)
{
    uint64_t sum = 0, end_us = clock_mono_us() + LONG_US;
    while (clock_mono_us() < end_us)
        sum += give_way_us(way);
    return sum;
}

static void gives_way(void)
{
    struct give_way way;
    give_way_open(&way);
    if (way.waited.fd < 0)
        cr_skip("no schedstat here");
    cr_assert(lt(u64, LONG_US / 20, rests_us(&way)));
    give_way_close(&way);
    cr_assert(zero(u64, give_way_us(&way)));
}

/* All on one processor: what it waits for them is counted by the kernel. */
Test(give_way, sees_who_else_wants_the_processor, .timeout = 60)
{
    beside_rivals(gives_way);
}
