#include "replication/applier.h"

#include <pthread.h>
#include <stdlib.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/link.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/thread.h"
#include "store/base/wire.h"

struct jobs {
    struct job *first, **end;
};

struct applier {
    struct kv *kv;
    struct kv_batch batch;
    struct jobs pushed;  /* loop thread */
    size_t outstanding;  /* loop thread */
    struct jobs waiting; /* under mutex */
    struct jobs finished;
    bool quit;
    uv_async_t async;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

static struct metric applies = {.name = "loquat_apply_seconds",
                                .help = "Batches of committed entries written to the data database",
                                .type = METRIC_HISTOGRAM};
static struct metric commands = {.name = "loquat_commands_applied_total",
                                 .help = "Commands applied by the state machines",
                                 .type = METRIC_COUNTER};

static void jobs_init(struct jobs *jobs)
{
    jobs->first = NULL;
    jobs->end = &jobs->first;
}

static void jobs_push(struct jobs *jobs, struct job *job)
{
    job->next = NULL;
    *jobs->end = job;
    jobs->end = &job->next;
}

static void jobs_append(struct jobs *jobs, struct jobs *more)
{
    if (more->first == NULL)
        return;
    *jobs->end = more->first;
    jobs->end = more->end;
    jobs_init(more);
}

void answer_pack(Loquat__Reply *reply, uint64_t id, int err, struct buf *out)
{
    reply->id = id;
    reply->err = err;
    out->n = 0;
    reply_pack(reply, out);
    if (out->n < LINK_MESSAGE_MAX)
        return;
    bound_hit(BOUND_REPLY_BYTES); /* of many long things asked for at once */
    loquat__reply__init(reply);
    reply->id = id;
    reply->err = ERR_TOO_LARGE;
    reply->msg = (char *)(uintptr_t) "ask for fewer at once";
    out->n = 0;
    reply_pack(reply, out);
}

/* ---- on the apply thread ---- */

static void do_read(struct job *job)
{
    struct arena arena;
    arena_init(&arena);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    Loquat__Read *read =
        loquat__read__unpack(&arena.allocator, job->read.n, (const uint8_t *)job->read.p);
    int err =
        read != NULL ? apply_read(job->apply, read, job->now_ms, &arena, &reply) : ERR_BAD_REQUEST;
    if (err == ERR_CORRUPT)
        log_error("a row of the data database is damaged", {"detail", log_str(kv_error())});
    if (err != 0) {
        loquat__reply__init(&reply);
        reply.msg = (char *)(uintptr_t)(err == ERR_NOT_FOUND ? "no such conversation" : "");
    }
    answer_pack(&reply, read != NULL ? read->id : 0, err, &job->reply);
    arena_close(&arena);
}

static void apply_failed(const struct job *job, int err)
{
    log_error("an entry could not be applied", {"index", log_int((int64_t)job->index)},
              {"err", log_str(err_name(err))});
    log_fatal("the data database can't go on; nothing acknowledged is lost: the raft log still "
              "holds it. Check the disk, then `loquat-compact verify`",
              kv_error());
}

static bool is_entry(const struct job *job)
{
    return job->kind == JOB_ENTRY || job->kind == JOB_NOTHING;
}

/* Entries from `job` on, as many as fit one batch. Returns the first job that was not taken. */
static struct job *do_entries(struct applier *applier, struct job *job)
{
    struct job *first = job;
    uint64_t start = clock_mono_us();
    int err = 0;
    int64_t count = 0;
    bool full = false;
    for (int n = 0; job != NULL && is_entry(job) && !full; n++) {
        if (job->kind == JOB_NOTHING)
            apply_nothing(job->apply, job->index, job->term, &applier->batch);
        else
            err = apply_entry(job->apply, job->index, job->term, job->payload, &applier->batch,
                              &job->applied);
        if (err != 0)
            apply_failed(job, err);
        count += (int64_t)job->applied.result_count;
        full = job->applied.must_write || n + 1 >= APPLIER_BATCH_ENTRIES_MAX ||
               count >= APPLIER_BATCH_COMMANDS_MAX ||
               kv_batch_bytes(&applier->batch) >= APPLIER_BATCH_BYTES_MAX;
        job = job->next;
    }
    err = kv_write(&applier->batch);
    if (err != 0)
        apply_failed(first, err);
    for (struct job *j = first; j != job; j = j->next)
        apply_written(j->apply);
    metric_observe_us(&applies, (int64_t)(clock_mono_us() - start));
    metric_add(&commands, count);
    return job;
}

static void do_jobs(struct applier *applier, struct jobs *jobs)
{
    struct job *job = jobs->first;
    while (job != NULL) {
        struct job *first = job;
        if (job->kind == JOB_READ) {
            do_read(job);
            job = job->next;
        } else if (job->kind == JOB_CALL) {
            job->call(job);
            job = job->next;
        } else {
            job = do_entries(applier, job);
        }
        pthread_mutex_lock(&applier->mutex);
        while (first != job) {
            struct job *next = first->next;
            jobs_push(&applier->finished, first);
            first = next;
        }
        pthread_mutex_unlock(&applier->mutex);
        uv_async_send(&applier->async);
    }
}

static void *run(void *arg)
{
    struct applier *applier = arg;
    for (;;) {
        struct jobs jobs;
        jobs_init(&jobs);
        pthread_mutex_lock(&applier->mutex);
        while (applier->waiting.first == NULL && !applier->quit)
            pthread_cond_wait(&applier->cond, &applier->mutex);
        jobs_append(&jobs, &applier->waiting);
        pthread_mutex_unlock(&applier->mutex);
        if (jobs.first == NULL)
            return NULL;
        do_jobs(applier, &jobs);
    }
}

/* ---- on the loop thread ---- */

static void on_async(uv_async_t *async)
{
    struct applier *applier = async->data;
    struct jobs done;
    jobs_init(&done);
    pthread_mutex_lock(&applier->mutex);
    jobs_append(&done, &applier->finished);
    pthread_mutex_unlock(&applier->mutex);
    for (struct job *job = done.first; job != NULL;) {
        struct job *next = job->next;
        applier->outstanding--;
        job->done(job); /* may free it */
        job = next;
    }
}

struct applier *applier_new(uv_loop_t *loop, struct kv *kv)
{
    static bool registered;
    if (!registered) {
        registered = true;
        metric_register(&applies);
        metric_register(&commands);
    }
    struct applier *applier = xcalloc(1, sizeof *applier);
    applier->kv = kv;
    kv_batch_init(&applier->batch, kv);
    jobs_init(&applier->pushed);
    jobs_init(&applier->waiting);
    jobs_init(&applier->finished);
    pthread_mutex_init(&applier->mutex, NULL);
    pthread_cond_init(&applier->cond, NULL);
    int rv = uv_async_init(loop, &applier->async, on_async);
    ASSERT(rv == 0);
    applier->async.data = applier;
    thread_start(&applier->thread, "apply", run, applier);
    return applier;
}

void applier_push(struct applier *applier, struct job *job)
{
    jobs_push(&applier->pushed, job);
    applier->outstanding++;
}

void applier_kick(struct applier *applier)
{
    if (applier->pushed.first == NULL)
        return;
    pthread_mutex_lock(&applier->mutex);
    jobs_append(&applier->waiting, &applier->pushed);
    pthread_cond_signal(&applier->cond);
    pthread_mutex_unlock(&applier->mutex);
}

size_t applier_waiting(const struct applier *applier)
{
    return applier->outstanding;
}

bool applier_idle(const struct applier *applier)
{
    return applier->outstanding == 0;
}

void applier_stop(struct applier *applier, uv_close_cb on_closed, void *data)
{
    ASSERT(applier_idle(applier));
    pthread_mutex_lock(&applier->mutex);
    applier->quit = true;
    pthread_cond_signal(&applier->cond);
    pthread_mutex_unlock(&applier->mutex);
    pthread_join(applier->thread, NULL);
    applier->async.data = data;
    uv_close((uv_handle_t *)&applier->async, on_closed);
}

void applier_free(struct applier *applier)
{
    kv_batch_close(&applier->batch);
    pthread_mutex_destroy(&applier->mutex);
    pthread_cond_destroy(&applier->cond);
    free(applier);
}
