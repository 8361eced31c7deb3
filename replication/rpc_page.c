/* replication/rpc_page.c: pages that gateways ask for, read on the thread pool: of a conversation,
 * of what is searched for, of the feed of a partition, of its consumers. A page of a feed on which
 * nothing is yet may wait for what comes, for as long as was asked; then it is answered as it was.
 * Pages of feeds take turns. */
#include <stdlib.h>

#include "replication/rpc_inside.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/feedlog.h"
#include "store/search/search.h"
#include "store/timeline.h"

enum { IDLE_REPLY_MAX = 4 << 20 };

/* Done ones are kept for the next: their memory has been touched. */
struct page_read {
    uv_work_t work;
    struct peer *peer;
    struct arena arena;
    struct buf body, reply;
    uint64_t now_ms;
    uint32_t partition;
    bool led; /* else whatever fails is for who leads to say */
    bool feed;
    /* of a feed: */
    bool empty;
    uint64_t wait_ms, until_ms; /* how long it may wait; until when, monotonic */
    uint64_t fed;               /* what env->fed was when it was read */
    struct list_link in_waits;  /* or in env->feed_turns */
};

bool rpc_page_is(uint32_t op)
{
    return op == LOQUAT__READ_OP__READ_RANGE || op == LOQUAT__READ_OP__READ_FEED ||
           op == LOQUAT__READ_OP__READ_CONSUMERS || op == LOQUAT__READ_OP__READ_CURSOR ||
           op == LOQUAT__READ_OP__READ_SEARCH;
}

static const char *why_not(const Loquat__Read *read, int err)
{
    if (err == ERR_CORRUPT)
        return "a record is damaged on disk";
    if (err != ERR_NOT_FOUND)
        return "";
    return read->op == LOQUAT__READ_OP__READ_RANGE ? "no such conversation" : "no such consumer";
}

static int search(struct page_read *job, const Loquat__Read *read, Loquat__Reply *reply)
{
    const struct rpc_env *env = job->peer->env;
    bool damaged;
    int err = search_read(env->data, indexer_kv(env->indexer), read->partition, read, job->now_ms,
                          &job->arena, reply, &damaged);
    if (damaged)
        indexer_damaged(env->indexer);
    return err;
}

static int read_page(struct page_read *job, const Loquat__Read *read, Loquat__Reply *reply)
{
    struct kv *kv = job->peer->env->data;
    int err;
    switch (read->op) {
    case LOQUAT__READ_OP__READ_FEED:
        err = feedlog_read(kv, read->partition, read, job->now_ms, &job->arena, reply);
        job->empty = err == 0 && reply->n_feed == 0 && reply->next >= reply->head;
        return err;
    case LOQUAT__READ_OP__READ_CONSUMERS:
        return feedlog_read_consumers(kv, read->partition, read, &job->arena, reply);
    case LOQUAT__READ_OP__READ_CURSOR:
        return feedlog_read_cursor(kv, read->partition, read, job->now_ms, &job->arena, reply);
    case LOQUAT__READ_OP__READ_SEARCH:
        return search(job, read, reply);
    default:
        return timeline_read(kv, read->partition, read, job->now_ms, &job->arena, reply);
    }
}

static void on_work(uv_work_t *work)
{
    struct page_read *job = container_of(work, struct page_read, work);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    Loquat__Read *read =
        loquat__read__unpack(&job->arena.allocator, job->body.n, (const uint8_t *)job->body.p);
    ASSERT(read != NULL); /* the loop has unpacked it before */
    job->empty = false;
    int err = read_page(job, read, &reply);
    if (err == ERR_CORRUPT)
        log_error("a record is damaged and is not served", {"conv", log_str(read->conv)},
                  {"partition", log_int(read->partition)},
                  {"do", log_str("loquat-compact verify")});
    if (err != 0 && !job->led)
        err = ERR_NOT_LEADER;
    if (err != 0) {
        loquat__reply__init(&reply);
        reply.msg = (char *)(uintptr_t)why_not(read, err);
    }
    answer_pack(&reply, read->id, err, &job->reply);
    arena_reset(&job->arena);
}

static void job_free(struct page_read *job)
{
    arena_close(&job->arena);
    buf_close(&job->body);
    buf_close(&job->reply);
    free(job);
}

static struct page_read *job_new(struct rpc_env *env)
{
    if (env->idle_read_count > 0)
        return env->idle_reads[--env->idle_read_count];
    struct page_read *job = xcalloc(1, sizeof *job);
    arena_init(&job->arena);
    return job;
}

static void answer(struct page_read *job)
{
    struct peer *peer = job->peer;
    struct rpc_env *env = peer->env;
    if (!peer->closed)
        link_send(&peer->link, LINK_REPLY, buf_span(&job->reply));
    if (env->idle_read_count == IDLE_READS_MAX || job->reply.cap > IDLE_REPLY_MAX)
        job_free(job);
    else
        env->idle_reads[env->idle_read_count++] = job;
    rpc_unref(peer);
}

static void on_done(uv_work_t *work, int status);

static void run(struct page_read *job)
{
    struct rpc_env *env = job->peer->env;
    job->now_ms = clock_wall_ms();
    job->led = env->shards[job->partition].serving;
    job->fed = env->fed[job->partition];
    env->feed_reads += job->feed;
    int rv = uv_queue_work(env->loop, &job->work, on_work, on_done);
    ASSERT(rv == 0 && env->feed_reads <= env->feed_reads_max);
}

static void start(struct page_read *job)
{
    struct rpc_env *env = job->peer->env;
    job->peer->reads++;
    env->reads++;
    if (job->feed && env->feed_reads == env->feed_reads_max)
        list_push(&env->feed_turns, &job->in_waits);
    else
        run(job);
}

/* One of a feed has been read: it is the next one's turn. */
static void next_turn(struct rpc_env *env)
{
    env->feed_reads--;
    struct list_link *link = list_pop(&env->feed_turns);
    if (link != NULL)
        run(container_of(link, struct page_read, in_waits));
}

/* ---- feeds on which nothing is yet ---- */

static bool may_wait(const struct page_read *job)
{
    const struct rpc_env *env = job->peer->env;
    if (!job->empty || job->wait_ms == 0 || job->peer->closed || !job->led ||
        clock_mono_ms() >= job->until_ms)
        return false;
    if (job->peer->waits < FEED_WAITS_MAX)
        return true;
    bound_hit(BOUND_FEED_WAITS);
    return env->fed[job->partition] != job->fed;
}

static void on_done(uv_work_t *work, int status)
{
    (void)status;
    struct page_read *job = container_of(work, struct page_read, work);
    struct rpc_env *env = job->peer->env;
    env->reads--;
    job->peer->reads--;
    if (job->feed)
        next_turn(env);
    if (!may_wait(job)) {
        answer(job);
    } else if (env->fed[job->partition] != job->fed) { /* meanwhile something came */
        start(job);
    } else {
        list_push(&env->waits[job->partition], &job->in_waits);
        env->wait_count++;
        job->peer->waits++;
    }
}

static void leave(struct page_read *job)
{
    list_remove(&job->in_waits);
    job->peer->env->wait_count--;
    job->peer->waits--;
}

void rpc_page_fed(struct rpc_env *env, uint32_t partition)
{
    struct list_link *link;
    env->fed[partition]++;
    while ((link = list_first(&env->waits[partition])) != NULL) {
        struct page_read *job = container_of(link, struct page_read, in_waits);
        leave(job);
        start(job);
    }
}

static void tick(struct rpc_env *env, uint32_t partition, bool all, uint64_t now)
{
    const struct list *waits = &env->waits[partition];
    bool serving = env->shards[partition].serving;
    for (struct list_link *link = list_first(waits), *next; link != NULL; link = next) {
        struct page_read *job = container_of(link, struct page_read, in_waits);
        next = list_next(waits, link);
        if (!all && now < job->until_ms && !job->peer->closed && serving)
            continue;
        leave(job);
        answer(job);
    }
}

void rpc_page_tick(struct rpc_env *env, bool all)
{
    uint64_t now = clock_mono_ms();
    for (uint32_t p = 0; p < env->partitions && env->wait_count > 0; p++)
        tick(env, p, all, now);
}

/* ---- asked for ---- */

void rpc_page(struct peer *peer, const Loquat__Read *read, struct span body)
{
    struct rpc_env *env = peer->env;
    struct page_read *job = job_new(env);
    job->peer = peer;
    job->partition = read->partition;
    job->body.n = 0;
    buf_add_span(&job->body, body);
    job->feed = read->op == LOQUAT__READ_OP__READ_FEED;
    job->wait_ms = job->feed ? read->wait_ms : 0;
    if (job->wait_ms > FEED_WAIT_MAX_MS)
        job->wait_ms = FEED_WAIT_MAX_MS;
    job->until_ms = clock_mono_ms() + job->wait_ms;
    peer->reads--; /* as it is now; start counts it */
    env->followed += !env->shards[job->partition].serving;
    start(job);
}

void rpc_page_free(struct rpc_env *env)
{
    ASSERT(env->wait_count == 0 && list_empty(&env->feed_turns));
    while (env->idle_read_count > 0)
        job_free(env->idle_reads[--env->idle_read_count]);
}
