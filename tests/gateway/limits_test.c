#include "gateway/limits.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>

enum { THREADS = 8, CONNS = 1000 };

static struct limits limits;

static void teardown(void)
{
    limits_close(&limits);
}

TestSuite(limits, .fini = teardown);

static unsigned burst_at(uint32_t slot, uint64_t now_us)
{
    unsigned n = 0;
    while (n < 10000 && limits_take(&limits, slot, now_us) == 0)
        n++;
    return n;
}

/* After a rest exactly `burst` requests pass at once, however long the rest was. */
Test(limits, a_burst_is_exact)
{
    limits_init(&limits, 100, 7, 0);
    cr_assert(eq(uint, burst_at(1, 1000000), 7));
    cr_assert(eq(uint, burst_at(1, 1000000), 0));
    cr_assert(eq(uint, burst_at(1, 3600000000), 7));
    cr_assert(eq(uint, burst_at(2, 1000000), 7)); /* another slot knows nothing of it */
}

/* From then on one passes each 1 / rate, to the microsecond. */
Test(limits, the_rate_is_exact)
{
    limits_init(&limits, 100, 3, 0);
    uint64_t now = 5000000;
    cr_assert(eq(uint, burst_at(1, now), 3));
    cr_assert(eq(uint, burst_at(1, now + 9999), 0));
    cr_assert(eq(uint, burst_at(1, now + 10000), 1));
    cr_assert(eq(uint, burst_at(1, now + 10000), 0));
    cr_assert(eq(uint, burst_at(1, now + 39999), 2));
    cr_assert(eq(uint, burst_at(1, now + 40000), 1));
}

/* Over a long time no more passes than the rate and the burst allow, and no less. */
Test(limits, steady_load_gets_the_rate)
{
    limits_init(&limits, 250, 10, 0);
    unsigned passed = 0;
    for (uint64_t now = 1000000; now < 11000000; now += 1000)
        passed += limits_take(&limits, 1, now) == 0;
    cr_assert(ge(uint, passed, 2500));
    cr_assert(le(uint, passed, 2510));
}

/* Who waits as long as it is told passes. */
Test(limits, after_ms_is_long_enough)
{
    for (uint64_t rate = 1; rate <= 1000000; rate = rate * 3 + 1) {
        limits_init(&limits, rate, 5, 0);
        uint64_t now = 77777777;
        burst_at(1, now);
        uint64_t after_ms = limits_take(&limits, 1, now);
        if (after_ms > 0) {
            cr_assert(zero(u64, limits_take(&limits, 1, now + after_ms * 1000)));
            cr_assert(le(u64, after_ms, 1000 / rate + 1));
        }
        if (rate < 500000)
            limits_close(&limits);
    }
}

/* A clock that stands or goes back, and the largest settings, end nothing. */
Test(limits, odd_clocks_and_settings)
{
    limits_init(&limits, 1, 100000000, 0);
    cr_assert(zero(u64, limits_take(&limits, 1, 0)));
    cr_assert(zero(u64, limits_take(&limits, 1, 1000000000)));
    cr_assert(zero(u64, limits_take(&limits, 1, 5)));
    limits_close(&limits);
    limits_init(&limits, 0, 1, 0);
    cr_assert(eq(uint, burst_at(1, 5), 10000)); /* 0: no bound */
}

static void *take_many(void *arg)
{
    unsigned *passed = arg;
    for (int i = 0; i < 20000; i++)
        *passed += limits_take(&limits, 3, 1000000) == 0;
    return NULL;
}

/* Threads share one allowance and lose none of it. */
Test(limits, many_threads_one_allowance)
{
    pthread_t threads[THREADS];
    unsigned passed[THREADS] = {0}, sum = 0;
    limits_init(&limits, 1000, 5000, 0);
    for (int i = 0; i < THREADS; i++)
        cr_assert(zero(int, pthread_create(&threads[i], NULL, take_many, &passed[i])));
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += passed[i];
    }
    cr_assert(eq(uint, sum, 5000));
}

static void *hold_many(void *arg)
{
    unsigned *held = arg;
    for (int i = 0; i < CONNS; i++)
        *held += limits_hold(&limits, 9);
    return NULL;
}

/* Connections: never more than the bound, and what was given back can be had again. */
Test(limits, connections_are_counted)
{
    pthread_t threads[THREADS];
    unsigned held[THREADS] = {0}, sum = 0;
    limits_init(&limits, 0, 1, CONNS);
    for (int i = 0; i < THREADS; i++)
        cr_assert(zero(int, pthread_create(&threads[i], NULL, hold_many, &held[i])));
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += held[i];
    }
    cr_assert(eq(uint, sum, CONNS));
    cr_assert(not(limits_hold(&limits, 9)));
    limits_release(&limits, 9);
    cr_assert(limits_hold(&limits, 9));
    cr_assert(not(limits_hold(&limits, 9)));
    cr_assert(limits_hold(&limits, 10));
}

/* Slots follow from the user and a seed that is this process's own. */
Test(limits, slots_are_seeded)
{
    limits_init(&limits, 1, 1, 1);
    uint32_t slot = limits_slot(&limits, span_str("alice"));
    cr_assert(lt(u32, slot, LIMITS_SLOTS));
    cr_assert(eq(u32, slot, limits_slot(&limits, span_str("alice"))));
    unsigned same = 0;
    for (int i = 0; i < 20; i++) {
        struct limits other;
        limits_init(&other, 1, 1, 1);
        same += limits_slot(&other, span_str("alice")) == slot;
        limits_close(&other);
    }
    cr_assert(lt(uint, same, 3));
}
