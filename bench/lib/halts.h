/* bench/lib/halts.h: how long the machine itself stood still. A thread of the highest priority on
 * each processor sleeps HALTS_STEP_US at a time; when none of them has been awake for more than
 * HALTS_LIMIT_US, no program ran anywhere: a host may stop a virtual machine so, or its kernel was
 * busy on all processors at once. No counter of Linux shows the former (`steal` stays 0 where the
 * host does not tell), and every latency includes it.
 * Cost: 500 wakeups a second on each processor.
 * Errors: without the right to that priority (root, or CAP_SYS_NICE) nothing is measured, as a
 *         thread of usual priority waits for others as well: `known` stays false. */
#ifndef LOQUAT_BENCH_HALTS_H
#define LOQUAT_BENCH_HALTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/lib/measure.h"

enum { HALTS_STEP_US = 2000, HALTS_LIMIT_US = 4000, HALTS_CPUS_MAX = 64 };

struct halts_cpu {
    struct halts *all;
    pthread_t thread;
    int number;
};
struct halts {
    struct halts_cpu cpus[HALTS_CPUS_MAX];
    int count;
    uint64_t begun_us;
    atomic_bool quit, refused;
    _Atomic uint64_t awake_us; /* when any of them was last */
    _Atomic uint64_t sum_us, longest_us;
    /* from halts_end on */
    bool known;
    double share;      /* milliseconds of each second */
    double longest_ms; /* of one halt */
};

void halts_begin(struct halts *halts);
void halts_end(struct halts *halts);

/* Of several rounds: told in a result, if known, as halted_ms_s (median) and halt_max_ms. */
struct halts_rounds {
    struct series share, longest;
};
void halts_rounds_add(struct halts_rounds *rounds, const struct halts *halts);
void halts_rounds_tell(struct halts_rounds *rounds, struct result *result);
void halts_rounds_close(struct halts_rounds *rounds);

#endif
