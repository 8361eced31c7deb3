/* replication/rpc_read.c: reads that gateways ask for: pages on the thread pool (rpc_page.c),
 * everything else by the thread that applies; by who leads once it knows that it still does. */
#include <stdlib.h>

#include "replication/rpc_inside.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

static void on_read_applied(struct job *job)
{
    struct peer *peer = job->owner;
    peer->reads--;
    if (!peer->closed)
        link_send(&peer->link, LINK_REPLY, buf_span(&job->reply));
    rpc_unref(peer);
    buf_close(&job->read);
    buf_close(&job->reply);
    free(job);
}

static void read_state(struct peer *peer, const Loquat__Read *read, struct span body)
{
    struct job *job = xcalloc(1, sizeof *job);
    job->kind = JOB_READ;
    job->apply = peer->env->shards[read->partition].apply;
    buf_add_span(&job->read, body);
    job->now_ms = clock_wall_ms();
    job->done = on_read_applied;
    job->owner = peer;
    applier_push(peer->env->applier, job);
}

static void read_now(struct peer *peer, const Loquat__Read *read, struct span body)
{
    if (rpc_page_is(read->op))
        rpc_page(peer, read, body);
    else
        read_state(peer, read, body);
}

/* One that waits until it is known that this node still leads. */
struct read_wait {
    struct readindex_wait wait;
    struct peer *peer;
    uint64_t id;
    struct buf body;
};

static void on_confirmed(struct readindex_wait *wait, int err)
{
    struct read_wait *waits = container_of(wait, struct read_wait, wait);
    struct peer *peer = waits->peer;
    if (err == 0 && !peer->closed) {
        struct span body = buf_span(&waits->body);
        Loquat__Read *read =
            loquat__read__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
        ASSERT(read != NULL); /* it was before */
        read_now(peer, read, body);
        arena_reset(&peer->arena);
    } else {
        peer->reads--;
        rpc_error(peer, waits->id, err, "not served here now");
        rpc_unref(peer);
    }
    buf_close(&waits->body);
    free(waits);
}

static void read_confirmed(struct peer *peer, const Loquat__Read *read, struct span body)
{
    struct read_wait *waits = xcalloc(1, sizeof *waits);
    waits->wait.done = on_confirmed;
    waits->peer = peer;
    waits->id = read->id;
    buf_add_span(&waits->body, body);
    readindex_add(peer->env->readindex, read->partition, &waits->wait, clock_mono_ms());
}

void rpc_read(struct peer *peer, struct span body)
{
    Loquat__Read *read =
        loquat__read__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (read == NULL || read->partition >= peer->env->partitions) {
        link_close(&peer->link, ERR_CORRUPT);
        return;
    }
    if (peer->reads >= PEER_READS_MAX || link_pending(&peer->link) > PEER_PENDING_MAX) {
        bound_hit(peer->reads >= PEER_READS_MAX ? BOUND_PEER_READS : BOUND_PEER_PENDING);
        rpc_error(peer, read->id, ERR_BUSY, "too many reads at once");
        return;
    }
    const struct shard *shard = &peer->env->shards[read->partition];
    bool anywhere = read->op == LOQUAT__READ_OP__READ_RANGE && read->seen != 0 &&
                    shard_fresh(shard, clock_mono_ms());
    if (!shard->serving && !anywhere) {
        rpc_error(peer, read->id, ERR_NOT_LEADER, "not served here now");
        return;
    }
    peer->reads++;
    peer->refs++;
    if (peer->env->readindex != NULL && !anywhere)
        read_confirmed(peer, read, body);
    else
        read_now(peer, read, body);
}
