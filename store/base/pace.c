#include "store/base/pace.h"

#include <time.h>

#include "store/base/clock.h"
#include "store/base/metrics.h"

static struct metric rested = {
    .name = "loquat_turn_rest_seconds_total",
    .help = "Time that loops rested so as to do more at once, as processors were scarce",
    .type = METRIC_COUNTER,
    .micros = true};

void pace_register(void)
{
    static bool registered;
    if (!registered)
        metric_register(&rested);
    registered = true;
}

void pace_open(struct pace *pace, bool rests)
{
    *pace = (struct pace){.waited.fd = -1};
    if (rests)
        waited_open(&pace->waited);
}

void pace_close(struct pace *pace)
{
    waited_close(&pace->waited);
}

uint64_t pace_gap_us(uint64_t us, uint64_t waited_us)
{
    uint64_t full_us = us / PACE_FULL_PART;
    return waited_us >= full_us ? PACE_MAX_US : PACE_MAX_US * waited_us / full_us;
}

static void look(struct pace *pace, uint64_t now_us)
{
    struct waited_since since;
    pace->look_at_us = now_us + PACE_LOOK_US;
    if (waited_look(&pace->waited, now_us, &since)) /* resting itself makes it wait less */
        pace->gap_us =
            (pace->gap_us * (PACE_LOOKS - 1) + pace_gap_us(since.us, since.waited_us)) / PACE_LOOKS;
}

void pace_turn(struct pace *pace, const uv_loop_t *loop)
{
    if (pace->waited.fd < 0 || uv_backend_timeout(loop) == 0)
        return;
    uint64_t now_us = clock_mono_us();
    if (now_us >= pace->look_at_us)
        look(pace, now_us);
    if (now_us - pace->turn_us < pace->gap_us) {
        uint64_t us = pace->gap_us - (now_us - pace->turn_us);
        nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL); /* a signal may end it */
        metric_add(&rested, (int64_t)us);
        now_us = clock_mono_us();
    }
    pace->turn_us = now_us;
}
