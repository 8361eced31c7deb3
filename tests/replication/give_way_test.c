#include "replication/give_way.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"

enum { LONG_US = 300000, RIVALS = 3 };

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

static bool over;

static void *be_busy(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
        ;
    return NULL;
}

/* Works for a while, and says for how long it was told to rest. */
static uint64_t rests_us(struct give_way *way)
{
    uint64_t sum = 0, end_us = clock_mono_us() + LONG_US;
    while (clock_mono_us() < end_us)
        sum += give_way_us(way);
    return sum;
}

/* All on one processor: what it waits for them is counted by the kernel. */
Test(give_way, sees_who_else_wants_the_processor, .timeout = 60)
{
    cpu_set_t one;
    pthread_t rivals[RIVALS];
    struct give_way way;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    cr_assert(zero(int, sched_setaffinity(0, sizeof one, &one)));
    give_way_open(&way);
    if (way.waited.fd < 0)
        cr_skip("no schedstat here");
    for (int i = 0; i < RIVALS; i++)
        cr_assert(zero(int, pthread_create(&rivals[i], NULL, be_busy, NULL)));
    cr_assert(lt(u64, LONG_US / 20, rests_us(&way)));
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (int i = 0; i < RIVALS; i++)
        pthread_join(rivals[i], NULL);
    give_way_close(&way);
    cr_assert(zero(u64, give_way_us(&way)));
}
