#include "replication/wal.h"

#include <pthread.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/thread.h"

struct notice {
    wal_durable done;
    void *arg;
    uint64_t a, b;
};
struct notices {
    struct notice *items;
    size_t count, cap;
};

enum wal_order { WAL_NOTHING, WAL_WRITE, WAL_QUIT };

struct wal {
    struct kv_batch filling, flying;
    struct notices due, out; /* of the batch that fills, of the one that flies */
    bool flying_now;
    void (*after)(void *arg);
    void *after_arg;
    uv_async_t async;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    enum wal_order order; /* under mutex */
};

static struct metric syncs = {.name = "loquat_wal_sync_seconds",
                              .help = "Synced writes of the raft log",
                              .type = METRIC_HISTOGRAM};
static struct metric written = {.name = "loquat_wal_bytes_total",
                                .help = "Bytes written to the raft log, all partitions",
                                .type = METRIC_COUNTER};

static void *run(void *arg)
{
    struct wal *wal = arg;
    pthread_mutex_lock(&wal->mutex);
    for (;;) {
        while (wal->order == WAL_NOTHING)
            pthread_cond_wait(&wal->cond, &wal->mutex);
        if (wal->order == WAL_QUIT)
            break;
        pthread_mutex_unlock(&wal->mutex);
        int64_t bytes = (int64_t)kv_batch_bytes(&wal->flying);
        uint64_t start = clock_mono_us();
        int err = kv_write(&wal->flying);
        if (err != 0)
            log_fatal("the raft log could not be written and synced; nothing that was not "
                      "acknowledged counts. Look at the disk, then start again",
                      kv_error());
        metric_observe_us(&syncs, (int64_t)(clock_mono_us() - start));
        metric_add(&written, bytes);
        pthread_mutex_lock(&wal->mutex);
        wal->order = WAL_NOTHING;
        uv_async_send(&wal->async);
        if (wal->after != NULL) {
            pthread_mutex_unlock(&wal->mutex);
            wal->after(wal->after_arg);
            pthread_mutex_lock(&wal->mutex);
        }
    }
    pthread_mutex_unlock(&wal->mutex);
    return NULL;
}

static void on_async(uv_async_t *async)
{
    struct wal *wal = async->data;
    pthread_mutex_lock(&wal->mutex);
    bool done = wal->flying_now && wal->order == WAL_NOTHING;
    pthread_mutex_unlock(&wal->mutex);
    if (!done)
        return;
    wal->flying_now = false;
    struct notices told = wal->out;
    wal->out = (struct notices){0};
    for (size_t i = 0; i < told.count; i++)
        told.items[i].done(told.items[i].arg, told.items[i].a, told.items[i].b);
    if (wal->out.items == NULL) { /* keep the room */
        told.count = 0;
        wal->out = told;
    } else {
        free(told.items);
    }
}

struct wal *wal_new(uv_loop_t *loop, struct kv *kv, void (*after)(void *arg), void *arg)
{
    static bool registered;
    if (!registered) {
        registered = true;
        metric_register(&syncs);
        metric_register(&written);
    }
    struct wal *wal = xcalloc(1, sizeof *wal);
    wal->after = after;
    wal->after_arg = arg;
    kv_batch_init(&wal->filling, kv);
    kv_batch_init(&wal->flying, kv);
    pthread_mutex_init(&wal->mutex, NULL);
    pthread_cond_init(&wal->cond, NULL);
    int rv = uv_async_init(loop, &wal->async, on_async);
    ASSERT(rv == 0);
    wal->async.data = wal;
    thread_start(&wal->thread, "wal", run, wal);
    return wal;
}

struct kv_batch *wal_batch(struct wal *wal)
{
    return &wal->filling;
}

void wal_notify(struct wal *wal, wal_durable done, void *arg, uint64_t a, uint64_t b)
{
    struct notices *due = &wal->due;
    if (due->count == due->cap) {
        due->cap = due->cap == 0 ? 64 : due->cap * 2;
        due->items = xrealloc(due->items, due->cap * sizeof *due->items);
    }
    due->items[due->count++] = (struct notice){done, arg, a, b};
}

void wal_kick(struct wal *wal)
{
    if (wal->flying_now || (wal->due.count == 0 && kv_batch_empty(&wal->filling)))
        return;
    struct kv_batch batch = wal->flying;
    wal->flying = wal->filling;
    wal->filling = batch;
    struct notices told = wal->out;
    wal->out = wal->due;
    wal->due = told;
    wal->due.count = 0;
    wal->flying_now = true;
    pthread_mutex_lock(&wal->mutex);
    wal->order = WAL_WRITE;
    pthread_cond_signal(&wal->cond);
    pthread_mutex_unlock(&wal->mutex);
}

size_t wal_waiting(const struct wal *wal, size_t *bytes)
{
    *bytes = kv_batch_empty(&wal->filling) ? 0 : kv_batch_bytes(&wal->filling);
    return wal->due.count;
}

bool wal_idle(const struct wal *wal)
{
    return !wal->flying_now && wal->due.count == 0 && kv_batch_empty(&wal->filling);
}

void wal_stop(struct wal *wal, uv_close_cb on_closed, void *data)
{
    ASSERT(wal_idle(wal));
    pthread_mutex_lock(&wal->mutex);
    wal->order = WAL_QUIT;
    pthread_cond_signal(&wal->cond);
    pthread_mutex_unlock(&wal->mutex);
    pthread_join(wal->thread, NULL);
    wal->async.data = data;
    uv_close((uv_handle_t *)&wal->async, on_closed);
}

void wal_free(struct wal *wal)
{
    kv_batch_close(&wal->filling);
    kv_batch_close(&wal->flying);
    free(wal->due.items);
    free(wal->out.items);
    pthread_mutex_destroy(&wal->mutex);
    pthread_cond_destroy(&wal->cond);
    free(wal);
}
