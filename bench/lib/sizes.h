/* bench/lib/sizes.h: what a `send` costs by the size of the group: 10, 500 and 100,000 members,
 * nobody of whom is connected but the sender. All groups are in one partition.
 * Counts: each answer, and that the sender's own events come one after the other.
 * Thread: one. Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_SIZES_H
#define LOQUAT_BENCH_SIZES_H

#include "bench/lib/sock.h"
#include "store/base/ids.h"

enum { SIZES = 3, SIZES_RING = 1024 };

struct sized {
    char conv[MADE_ID_SIZE + 1];
    uint64_t seen; /* by its sender; 0: nothing yet */
    /* of the rounds: one after the other; many at once */
    struct series rate, p50, p99, piped, piped50;
};
/* Its sender writes to one of the groups after the other. */
struct sizes {
    struct sock sock;
    struct sized groups[SIZES], *at;
    struct rounds ratios; /* of the largest to the smallest */
    size_t pipeline;
    bool going;
    uint64_t sent, answered, received;
    double asked_s[SIZES_RING]; /* by id */
    struct series ms;
};
/* Makes the groups, of an otherwise empty server of PARTITIONS_DEFAULT partitions. */
void sizes_open(struct sizes *sizes, const struct gateway *gateway, uv_loop_t *loop);
/* Prints the result, frees, and returns the ratio: messages a second, the largest to the smallest.
 */
double sizes_run(struct sizes *sizes, double secs);

#endif
