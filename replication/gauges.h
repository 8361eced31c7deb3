/* replication/gauges.h: what the metrics say of a node: its queues beside their bounds, how far its
 * logs are, its disk and its databases. Taken once a second, so that no command pays for it; of the
 * gauges of two nodes in one process, which tests alone have, the later one counts.
 * Thread: the loop's; gauges_flushed: any. */
#ifndef LOQUAT_REPLICATION_GAUGES_H
#define LOQUAT_REPLICATION_GAUGES_H

#include "replication/control.h"
#include "replication/datadir.h"
#include "replication/door.h"
#include "replication/rnet.h"
#include "replication/rpc.h"

struct gauges_env {
    const struct datadir *dir;
    const struct journal *journal;
    struct kv *data;
    const struct shard *shards;
    uint32_t partitions;
    const struct wal *wal;
    const struct applier *applier;
    const struct rpc_env *rpc;
    const struct feed *feed;
    const struct door *door;
    struct control *control;
    const struct list *owed;
    const struct rnet *net; /* NULL: the node is alone */
};

void gauges_register(void); /* with the bounds of a node; any number of times */
void gauges_take(const struct gauges_env *env);
/* `wanted`: that must be free for writes to be taken. */
void gauges_disk(uint64_t free_bytes, uint64_t wanted, bool full);
void gauges_moved(uint64_t bytes); /* of the journal, were written again */
void gauges_flushed(uint64_t us);  /* the data DB went to its files, in so long */

#endif
