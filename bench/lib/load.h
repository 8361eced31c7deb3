/* bench/lib/load.h: a node inside the bench, spoken to over its link: one thread that sends
 * batches of messages of BARE_TEXT bytes, some of them in flight.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_LOAD_H
#define LOQUAT_BENCH_LOAD_H

#include "bench/lib/bare.h"
#include "replication/node.h"
#include "store/base/ids.h"
#include "tests/lib/nodelink.h"

enum { LOAD_FLIGHT_MAX = 16 }; /* batches of BARE_BATCH that wait for their answers */

struct load {
    struct node *node;
    struct nodelink link;
    char (*convs)[MADE_ID_SIZE + 1];
    size_t count;
    uint64_t sent, answered;
};
#define LOAD_USER "writer"
/* Starts a node in `dir` and opens `count` direct conversations of LOAD_USER. */
void load_open(struct load *load, const char *dir, size_t count);
void load_close(struct load *load);
/* Sends for `secs` seconds, at most `max` messages (0: no bound), and waits for every answer:
 * messages a second. A message that is refused fails the bench. */
double load_run(struct load *load, double secs, uint64_t max);

/* Syncing one block of 26,000 bytes, about a batch, in `dir`: each time, and the median. */
void syncs_ms(const char *dir, struct series *times);
double fdatasync_us(const char *dir);

#endif
