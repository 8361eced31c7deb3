/* bench/lib/bare.h: the reference of everything that writes: one thread, one RocksDB database, and
 * synced WriteBatches of BARE_BATCH rows, without a server, consensus or a state machine.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_BARE_H
#define LOQUAT_BENCH_BARE_H

#include "bench/lib/server.h"
#include "bench/lib/words.h"
#include "store/kv.h"

enum { BARE_BATCH = 100 };

struct bare {
    char root[SCRATCH_MAX];
    struct kv *kv;
    struct kv_batch batch;
    size_t rows;  /* in the batch */
    uint64_t all; /* written */
};
void bare_open(struct bare *bare);
void bare_close(struct bare *bare);
void bare_put(struct bare *bare, struct span key, struct span value); /* writes each BARE_BATCH */
void bare_flush(struct bare *bare);                                   /* the rest */

/* Rows as large as a record with BARE_TEXT bytes of text, over `convs` conversations, for `secs`
 * seconds: rows a second. */
double bare_run(struct bare *bare, size_t convs, double secs);

#endif
