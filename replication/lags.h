/* replication/lags.h: what the metrics say of consumers: how far each is behind, over the
 * partitions that this node leads; over several nodes records are to be summed, of the seconds the
 * most counts. Counted on the thread pool, round after round; a rest after each keeps it to a
 * twentieth of a thread. Of two nodes in one process, which tests alone have, the later counts.
 * Thread: the loop's.
 * Limits: FEEDLOG_CONSUMERS_MAX consumers. */
#ifndef LOQUAT_REPLICATION_LAGS_H
#define LOQUAT_REPLICATION_LAGS_H

#include <uv.h>

#include "replication/shard.h"

enum {
    LAGS_REST_MS = 5000, /* between two rounds, at least */
    LAGS_REST_TIMES = 20 /* as long as the round took, at least */
};

struct lags;
void lags_register(void); /* any number of times */
/* The loop, the database and the shards are borrowed. */
struct lags *lags_new(uv_loop_t *loop, struct kv *data, const struct shard *shards,
                      uint32_t partitions);
void lags_tick(struct lags *lags, uint64_t now_ms);
bool lags_idle(const struct lags *lags); /* no round is under way */
void lags_free(struct lags *lags);       /* when it is idle; NULL: nothing */

#endif
