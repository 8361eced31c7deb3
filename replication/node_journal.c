/* replication/node_journal.c: which segments of the journal are needed still. Where little goes on
 * in some partitions and much in others, the few entries of those would keep segment after segment
 * that has nothing else any more: they are written again. */
#include "replication/node_inside.h"
#include "store/base/log.h"

enum {
    SLACK_BYTES = 4 * JOURNAL_SEGMENT, /* before anything is moved, beside twice what is needed */
    MOVE_BYTES = 64 << 10, /* at a time: they may have to be read, and the loop waits meanwhile */
    MOVE_MUCH = 1 << 20,   /* when it does not suffice */
};

static void move_some(struct node *node, uint64_t most)
{
    uint64_t sum = 0, moved = 0;
    for (uint32_t p = 0; p < node->dir.partitions && sum < most; p++) {
        struct shard *shard = &node->shards[p];
        int err = rlog_move(&shard->log, node->wal, node->oldest + 1, most - sum, &moved);
        if (err != 0)
            shard_damaged_log(shard, err);
        sum += moved;
    }
    gauges_moved(sum);
}

void node_journal_tidy(struct node *node)
{
    uint64_t newest = journal_segment(wal_batch(node->wal)->at), oldest = newest, live = 0;
    if (newest == node->newest && !node->moving && node->phase <= NODE_SERVING)
        return;
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        uint64_t needed = rlog_oldest(&node->shards[p].log);
        oldest = needed < oldest ? needed : oldest;
        live += node->shards[p].log.bytes;
    }
    node->oldest = oldest;
    node->newest = newest;
    wal_release(node->wal, oldest);
    uint64_t used = (newest - oldest) * JOURNAL_SEGMENT;
    node->moving = used > 2 * live + SLACK_BYTES;
    if (node->moving)
        move_some(node, used > 3 * live + 2ul * SLACK_BYTES ? MOVE_MUCH : MOVE_BYTES);
}
