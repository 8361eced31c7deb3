/* replication/give_way.h: how a thread with work that can wait leaves the processors to those with
 * work that can't. Being nice is not enough where all of them are in use: who wakes still waits for
 * the end of a slice, and where a host or a container allows so much of a processor, the allowance
 * is used up whoever uses it. So the thread looks at how long it had to wait for a processor while
 * it was ready to run (store/base/waited.h), and rests for a multiple of it: where nobody else
 * wants to run it works without a pause, and on a busy machine for at least one part in
 * GIVE_WAY_PARTS of the time that it is given.
 * Thread: the one that calls. Where waiting is not counted it never rests. */
#ifndef LOQUAT_REPLICATION_GIVE_WAY_H
#define LOQUAT_REPLICATION_GIVE_WAY_H

#include "store/base/waited.h"

enum {
    GIVE_WAY_TIMES = 8,       /* as long as it waited */
    GIVE_WAY_PARTS = 16,      /* it works for one of these at least */
    GIVE_WAY_LOOK_US = 10000, /* it is looked at so often */
};

struct give_way {
    struct waited waited;
    uint64_t look_at_us; /* monotonic */
};
void give_way_open(struct give_way *way); /* by the thread itself */
/* Often: microseconds to rest now. */
uint64_t give_way_us(struct give_way *way);
/* After so much work and so much waiting. */
uint64_t give_way_for_us(uint64_t worked_us, uint64_t waited_us);
void give_way_close(struct give_way *way);

#endif
