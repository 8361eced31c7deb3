/* replication/rpc_read.c: reads that gateways ask for: pages of a conversation on the thread pool,
 * everything else by the thread that applies; by who leads once it knows that it still does. */
#include <stdlib.h>

#include "replication/rpc_inside.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/timeline.h"

enum { IDLE_REPLY_MAX = 4 << 20 };

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

/* Done ones are kept for the next: their memory has been touched. */
struct range_read {
    uv_work_t work;
    struct peer *peer;
    struct arena arena;
    struct buf body, reply;
    uint64_t now_ms;
    bool led; /* else whatever fails is for who leads to say */
};

static void on_range_work(uv_work_t *work)
{
    struct range_read *job = container_of(work, struct range_read, work);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    Loquat__Read *read =
        loquat__read__unpack(&job->arena.allocator, job->body.n, (const uint8_t *)job->body.p);
    ASSERT(read != NULL); /* the loop has unpacked it before */
    int err = timeline_read(job->peer->env->data, read->partition, read, job->now_ms, &job->arena,
                            &reply);
    if (err == ERR_CORRUPT)
        log_error("a record is damaged and is not served", {"conv", log_str(read->conv)},
                  {"do", log_str("loquat-compact verify")});
    if (err != 0 && !job->led)
        err = ERR_NOT_LEADER;
    if (err != 0) {
        loquat__reply__init(&reply);
        reply.msg = (char *)(uintptr_t)(err == ERR_NOT_FOUND ? "no such conversation"
                                        : err == ERR_CORRUPT ? "a record is damaged on disk"
                                                             : "");
    }
    answer_pack(&reply, read->id, err, &job->reply);
    arena_reset(&job->arena);
}

void rpc_range_free(struct range_read *job)
{
    arena_close(&job->arena);
    buf_close(&job->body);
    buf_close(&job->reply);
    free(job);
}

static void range_done(struct rpc_env *env, struct range_read *job)
{
    if (env->idle_read_count == IDLE_READS_MAX || job->reply.cap > IDLE_REPLY_MAX) {
        rpc_range_free(job);
        return;
    }
    env->idle_reads[env->idle_read_count++] = job;
}

static struct range_read *range_new(struct rpc_env *env)
{
    if (env->idle_read_count > 0)
        return env->idle_reads[--env->idle_read_count];
    struct range_read *job = xcalloc(1, sizeof *job);
    arena_init(&job->arena);
    return job;
}

static void on_range_done(uv_work_t *work, int status)
{
    (void)status;
    struct range_read *job = container_of(work, struct range_read, work);
    struct peer *peer = job->peer;
    peer->env->reads--;
    peer->reads--;
    if (!peer->closed)
        link_send(&peer->link, LINK_REPLY, buf_span(&job->reply));
    range_done(peer->env, job);
    rpc_unref(peer);
}

static void read_range(struct peer *peer, const Loquat__Read *read, struct span body)
{
    struct range_read *job = range_new(peer->env);
    job->peer = peer;
    job->body.n = 0;
    buf_add_span(&job->body, body);
    job->now_ms = clock_wall_ms();
    job->led = peer->env->shards[read->partition].serving;
    peer->env->followed += !job->led;
    peer->env->reads++;
    int rv = uv_queue_work(peer->env->loop, &job->work, on_range_work, on_range_done);
    ASSERT(rv == 0);
}

static void read_now(struct peer *peer, const Loquat__Read *read, struct span body)
{
    if (read->op == LOQUAT__READ_OP__READ_RANGE)
        read_range(peer, read, body);
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
