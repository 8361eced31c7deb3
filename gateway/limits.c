#include "gateway/limits.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/clock.h"

enum { SECOND_US = 1000000 };

void limits_init(struct limits *limits, uint64_t rate, uint64_t burst, uint64_t conns)
{
    *limits = (struct limits){.rate = rate, .burst = burst > 0 ? burst : 1, .conns = conns};
    limits->seed = random_u64();
    limits->paid_us = xcalloc(LIMITS_SLOTS, sizeof *limits->paid_us);
    limits->held = xcalloc(LIMITS_SLOTS, sizeof *limits->held);
}

void limits_close(struct limits *limits)
{
    free(limits->paid_us);
    free(limits->held);
}

uint32_t limits_slot(const struct limits *limits, struct span user)
{
    return (uint32_t)(XXH3_64bits_withSeed(user.p, user.n, limits->seed) % LIMITS_SLOTS);
}

uint64_t limits_take(struct limits *limits, uint32_t slot, uint64_t now_us)
{
    if (limits->rate == 0)
        return 0;
    uint64_t cost_us = SECOND_US / limits->rate + (SECOND_US % limits->rate != 0);
    uint64_t credit_us = cost_us * limits->burst;
    uint64_t paid = atomic_load_explicit(&limits->paid_us[slot], memory_order_relaxed);
    for (;;) {
        uint64_t from = paid > now_us ? paid : now_us;
        if (from + cost_us > now_us + credit_us)
            return (from + cost_us - now_us - credit_us) / 1000 + 1;
        if (atomic_compare_exchange_weak_explicit(&limits->paid_us[slot], &paid, from + cost_us,
                                                  memory_order_relaxed, memory_order_relaxed))
            return 0;
    }
}

bool limits_hold(struct limits *limits, uint32_t slot)
{
    uint32_t held = atomic_fetch_add_explicit(&limits->held[slot], 1, memory_order_relaxed);
    if (limits->conns == 0 || held < limits->conns)
        return true;
    limits_release(limits, slot);
    return false;
}

void limits_release(struct limits *limits, uint32_t slot)
{
    uint32_t held = atomic_fetch_sub_explicit(&limits->held[slot], 1, memory_order_relaxed);
    ASSERT(held > 0);
}
