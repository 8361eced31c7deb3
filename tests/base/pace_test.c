#include "store/base/pace.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/clock.h"
#include "tests/lib/rivals.h"

enum { LONG_US = 600000, RESTS_MIN = 20 };

Test(pace, is_full_from_a_part_of_the_time_on)
{
    enum { US = PACE_LOOK_US };
    cr_assert(zero(u64, pace_gap_us(US, 0)));
    cr_assert(eq(u64, pace_gap_us(US, US / PACE_FULL_PART / 2), PACE_MAX_US / 2));
    cr_assert(eq(u64, pace_gap_us(US, US / PACE_FULL_PART), PACE_MAX_US));
    cr_assert(eq(u64, pace_gap_us(US, US), PACE_MAX_US));
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
}

struct turns {
    size_t rested, early; /* early: sooner after the one before than the gap says */
};

/* A loop that only has a timer waits for it: as many turns as there is time for. */
static struct turns turns(bool rests, uint64_t timeout_ms)
{
    uv_loop_t loop;
    uv_timer_t timer;
    struct pace pace;
    struct turns turns = {0};
    uv_loop_init(&loop);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_timer, 1000, 0);
    uv_run(&loop, UV_RUN_NOWAIT); /* until then it has descriptors of its own to add to epoll */
    uv_timer_start(&timer, on_timer, timeout_ms, 0);
    pace_open(&pace, rests);
    for (uint64_t end_us = clock_mono_us() + LONG_US; clock_mono_us() < end_us;) {
        uint64_t last_us = pace.turn_us;
        pace_turn(&pace, &loop);
        turns.rested += pace.gap_us > 0 && pace.turn_us - last_us >= pace.gap_us;
        turns.early += pace.turn_us - last_us < pace.gap_us;
    }
    pace_close(&pace);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return turns;
}

static void takes_them_apart(void)
{
    struct pace pace;
    pace_open(&pace, true);
    bool known = pace.waited.fd >= 0;
    pace_close(&pace);
    if (!known)
        cr_skip("no schedstat here");
    struct turns seen = turns(true, 1000);
    cr_assert(lt(sz, RESTS_MIN, seen.rested));
    cr_assert(zero(sz, seen.early));
}

/* All on one processor: what it waits for them is counted by the kernel. */
Test(pace, rests_where_others_want_the_processor, .timeout = 60)
{
    beside_rivals(takes_them_apart);
}

static void never_rests(void)
{
    cr_assert(zero(sz, turns(false, 1000).rested));
    cr_assert(zero(sz, turns(true, 0).rested)); /* its timer is due: it has more to do */
}

Test(pace, does_not_where_it_must_not_or_has_more_to_do, .timeout = 60)
{
    beside_rivals(never_rests);
}
