/* replication/indexer.h: the thread that keeps the search index of a node (store/search/): it takes
 * what the feeds of all partitions have into it, soon after it is applied, with the processor's
 * time that nobody else wants. Nothing waits for it: what it has not taken is looked for in the
 * logs themselves.
 * It goes on with what is applied while it makes old segments anew.
 * Thread: indexer_start and indexer_stop the node's; indexer_again one that may wait, one at a
 *         time; the rest any.
 * Errors: without a directory that can be written there is no index, which is logged; a damaged one
 *         is made anew at the next start. */
#ifndef LOQUAT_REPLICATION_INDEXER_H
#define LOQUAT_REPLICATION_INDEXER_H

#include "store/base/ids.h"
#include "store/kv.h"

enum {
    INDEXER_REST_MS = 2000,   /* between two rounds: many messages cost less than one by one */
    INDEXER_AGAIN_MS = 30000, /* after an error */
};

struct indexer;
/* `id`: whose logs these are. */
struct indexer *indexer_start(struct kv *data, const char *dir, const char *id,
                              uint32_t partitions);
struct kv *indexer_kv(const struct indexer *indexer); /* NULL: there is none */
void indexer_wake(struct indexer *indexer);           /* something was applied */
/* Who read it found it damaged. */
void indexer_damaged(struct indexer *indexer);
/* The disk is full: nothing is written until it is not. */
void indexer_hold(struct indexer *indexer, bool full);
/* Makes segments anew (build_again), on the index's thread, and waits for it. ERR_UNAVAILABLE:
 * there is no index. */
struct indexer_again {
    bool all;
    char **convs; /* of these conversations */
    size_t count; /* 0: of all */
    uint64_t now_ms;
    uint64_t rate; /* messages a second, in the mean of some conversations; 0: no bound */
    /* Often: conversations looked at so far. An error ends the work with it. */
    int (*progress)(void *arg, const char *phase, uint64_t at, uint64_t all);
    void *arg;
    uint64_t segments; /* what was done */
};
int indexer_again(struct indexer *indexer, struct indexer_again *again);
void indexer_stop(struct indexer *indexer); /* waits for what it is at; nobody reads it any more */

#endif
