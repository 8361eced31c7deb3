/* store/base/pace.h: a loop that takes its turns further apart where processors are scarce. Each
 * turn costs what its wakeup costs, its reads, its writes and a synced write that it asks for,
 * however little there is to do in it; with several servers on few processors each wakes the others
 * for one message, and all of them are busy long before messages are many. So when its thread had
 * to wait for a processor lately, the loop sleeps until up to PACE_MAX_US after its last turn, and
 * finds more to do at once. Where processors are free it never sleeps.
 * Thread: the loop's own. */
#ifndef LOQUAT_BASE_PACE_H
#define LOQUAT_BASE_PACE_H

#include <uv.h>

#include "store/base/waited.h"

enum {
    PACE_MAX_US = 1500,
    PACE_FULL_PART = 5,   /* so far apart when it waits for this part of the time, or more */
    PACE_LOOK_US = 50000, /* it is looked at so often */
    PACE_LOOKS = 8,       /* and the mean is taken of the last of them, weighed */
};

struct pace {
    struct waited waited;
    uint64_t turn_us, look_at_us; /* monotonic */
    uint64_t gap_us;
};
void pace_register(void); /* its metric; by the thread that starts, any number of times */
/* By the loop's thread. `rests` false: it never does. */
void pace_open(struct pace *pace, bool rests);
void pace_close(struct pace *pace);
/* Last in a turn, when all is done that others wait for: returns when the next one may begin. At
 * once if the loop has more to do without waiting for anything. */
void pace_turn(struct pace *pace, const uv_loop_t *loop);
/* After so long, of which it waited so long. */
uint64_t pace_gap_us(uint64_t us, uint64_t waited_us);

#endif
