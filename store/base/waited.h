/* store/base/waited.h: how long a thread worked, and how long it was ready to run and had no
 * processor. Linux counts both (Documentation/scheduler/sched-stats: /proc/…/schedstat). Where many
 * threads want few processors the second says so, whoever they are.
 * Thread: the one that opened it. */
#ifndef LOQUAT_BASE_WAITED_H
#define LOQUAT_BASE_WAITED_H

#include <stdbool.h>
#include <stdint.h>

struct waited {
    int fd;                        /* -1: not known on this machine */
    uint64_t looked_us;            /* monotonic; 0: not yet */
    uint64_t worked_ns, waited_ns; /* of this thread, when it was last looked at */
};
struct waited_since { /* the look before */
    uint64_t us, worked_us, waited_us;
};
void waited_open(struct waited *waited); /* by the thread itself */
void waited_close(struct waited *waited);
/* `now_us`: monotonic. False at the first look, and where it is not known. Costs a system call. */
bool waited_look(struct waited *waited, uint64_t now_us, struct waited_since *since);

#endif
