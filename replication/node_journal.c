/* replication/node_journal.c: which segments of the journal are needed still. Where little goes on
 * in some partitions and much in others, the few entries of those would keep segment after segment
 * that has nothing else any more: they are written again. */
#include "replication/node_inside.h"
#include "store/base/check.h"
#include "store/base/log.h"

enum {
    SLACK_BYTES = 4 * JOURNAL_SEGMENT, /* before anything is moved, beside twice what is needed */
    MOVE_BYTES = 64 << 10,             /* at a time */
    MOVE_MUCH = 1 << 20,               /* when it does not suffice */
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

/* ---- the next ones are read before, so that the loop need not wait for the disk ---- */

static void on_warm_work(uv_work_t *work)
{
    const struct node_warm *warm = container_of(work, struct node_warm, work);
    for (size_t i = 0; i < warm->count; i++)
        journal_warm(warm->journal, warm->places[i].at, warm->places[i].size);
}

static void on_warm_done(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    container_of(work, struct node_warm, work)->running = false;
}

static void warm_some(struct node *node)
{
    struct node_warm *warm = &node->warm;
    warm->journal = node->journal;
    warm->count = 0;
    for (uint32_t p = 0; p < node->dir.partitions && warm->count < NODE_WARM_MAX; p++)
        warm->count += rlog_places(&node->shards[p].log, node->oldest + 1, MOVE_BYTES,
                                   warm->places + warm->count, NODE_WARM_MAX - warm->count);
    if (warm->count == 0)
        return;
    warm->running = true;
    int rv = uv_queue_work(&node->loop, &warm->work, on_warm_work, on_warm_done);
    ASSERT(rv == 0);
}

void node_journal_tidy(struct node *node)
{
    uint64_t newest = journal_segment(wal_batch(node->wal)->at), oldest = newest, live = 0;
    bool serving = node->phase <= NODE_SERVING;
    if (newest == node->newest && !node->moving && serving)
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
    bool moved = node->moving;
    node->moving = used > 2 * live + SLACK_BYTES;
    if (!node->moving || node->warm.running)
        return;
    if (moved)
        move_some(node, used > 3 * live + 2ul * SLACK_BYTES ? MOVE_MUCH : MOVE_BYTES);
    if (serving)
        warm_some(node);
}
