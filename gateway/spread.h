/* gateway/spread.h: a request of a client that is asked of every partition, and answered when all
 * have been.
 * Owner:  a spread is the call's, and frees itself after `done`, or when a partition has failed:
 *         then the call fails with the first error. In both cases `drop` gets what `arg` is.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_SPREAD_H
#define LOQUAT_GATEWAY_SPREAD_H

#include "gateway/call.h"

struct spread;
struct spread_part {
    struct spread *spread;
    uint64_t first, head, offset, generation, lag, lag_ms, ts; /* what was told of it */
};
struct spread {
    struct call *call;
    void (*done)(struct spread *spread); /* answers the call */
    void (*drop)(void *arg);
    void *arg;
    uint32_t count, left;
    int err;
    uint64_t after_ms;
    char why[120];
    struct spread_part parts[];
};

struct spread *spread_new(struct call *call, void (*done)(struct spread *spread));
/* One of these two, for all partitions; `read` and `command` are the same but for the partition. */
void spread_read(struct spread *spread, Loquat__Read *read);
void spread_write(struct spread *spread, const Loquat__Command *command);

#endif
