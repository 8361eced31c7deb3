/* gateway/limits.h: how much one user may ask for and how many connections a user may hold, counted
 * over all loops. Rates by the generic cell rate algorithm (ITU-T I.371): one number per slot, the
 * time at which the user's debt is paid.
 * Users share LIMITS_SLOTS slots by a seeded hash: two in one slot share their allowance, and
 * nobody can choose whose.
 * Thread: any; atomics. */
#ifndef LOQUAT_GATEWAY_LIMITS_H
#define LOQUAT_GATEWAY_LIMITS_H

#include <stdatomic.h>

#include "store/base/span.h"

enum { LIMITS_SLOTS = 1 << 18 };

struct limits {
    uint64_t rate;  /* requests a second and user; 0: no bound */
    uint64_t burst; /* that many at once after a rest */
    uint64_t conns; /* connections of a user; 0: no bound */
    uint64_t seed;
    _Atomic uint64_t *paid_us; /* by slot */
    _Atomic uint32_t *held;
};

void limits_init(struct limits *limits, uint64_t rate, uint64_t burst, uint64_t conns);
void limits_close(struct limits *limits);
uint32_t limits_slot(const struct limits *limits, struct span user);
/* 0, or after how many milliseconds it may be tried again. */
uint64_t limits_take(struct limits *limits, uint32_t slot, uint64_t now_us);
bool limits_hold(struct limits *limits, uint32_t slot); /* false: too many connections */
void limits_release(struct limits *limits, uint32_t slot);

#endif
