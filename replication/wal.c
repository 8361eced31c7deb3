#include "replication/wal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

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
    struct journal *journal;
    struct journal_batch filling, flying;
    struct notices due, out;     /* of the batch that fills, of the one that flies */
    uint64_t release, releasing; /* likewise; 0: nothing */
    bool flying_now;
    struct wal_events events;
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

static void write_batch(struct wal *wal, struct journal_batch *batch)
{
    uint64_t start = clock_mono_us();
    if (journal_write(wal->journal, batch) != 0)
        log_fatal("the raft log could not be written and synced; nothing that was not "
                  "acknowledged counts. Look at the disk, then start again",
                  strerror(errno));
    metric_observe_us(&syncs, (int64_t)(clock_mono_us() - start));
    metric_add(&written, (int64_t)batch->n);
}

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
        write_batch(wal, &wal->flying);
        pthread_mutex_lock(&wal->mutex);
        wal->order = WAL_NOTHING;
        uv_async_send(&wal->async);
        if (wal->events.on_synced != NULL) {
            pthread_mutex_unlock(&wal->mutex);
            wal->events.on_synced(wal->events.arg);
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
    if (wal->releasing != 0)
        journal_release(wal->journal, wal->releasing);
    wal->releasing = 0;
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

struct wal *wal_new(uv_loop_t *loop, struct journal *journal, uint64_t at,
                    const struct wal_events *events)
{
    static bool registered;
    if (!registered) {
        registered = true;
        metric_register(&syncs);
        metric_register(&written);
    }
    struct wal *wal = xcalloc(1, sizeof *wal);
    wal->events = *events;
    wal->journal = journal;
    wal->filling.at = at;
    pthread_mutex_init(&wal->mutex, NULL);
    pthread_cond_init(&wal->cond, NULL);
    int rv = uv_async_init(loop, &wal->async, on_async);
    ASSERT(rv == 0);
    wal->async.data = wal;
    thread_start(&wal->thread, "wal", run, wal);
    return wal;
}

struct journal_batch *wal_batch(struct wal *wal)
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

void wal_release(struct wal *wal, uint64_t segment)
{
    wal->release = segment;
}

/* The batch that fills goes, and another one fills behind it. */
static void turn_over(struct wal *wal)
{
    struct journal_batch batch = wal->flying;
    wal->flying = wal->filling;
    wal->filling = batch;
    journal_batch_begin(&wal->filling, journal_after(&wal->flying));
    if (journal_begins(wal->filling.at))
        wal->events.on_segment(wal->events.arg);
}

void wal_kick(struct wal *wal)
{
    if (wal->flying_now || wal_idle(wal))
        return;
    turn_over(wal);
    struct notices told = wal->out;
    wal->out = wal->due;
    wal->due = told;
    wal->due.count = 0;
    wal->releasing = wal->release;
    wal->release = 0;
    wal->flying_now = true;
    pthread_mutex_lock(&wal->mutex);
    wal->order = WAL_WRITE;
    pthread_cond_signal(&wal->cond);
    pthread_mutex_unlock(&wal->mutex);
}

void wal_write(struct wal *wal)
{
    ASSERT(!wal->flying_now && wal->due.count == 0);
    while (!journal_batch_empty(&wal->filling)) {
        turn_over(wal);
        write_batch(wal, &wal->flying);
    }
}

/* The batch that flies stays as it is, but for its head, until another one does. */
int wal_read(struct wal *wal, uint64_t at, char *to, size_t n)
{
    if (journal_batch_read(&wal->filling, at, to, n) || journal_batch_read(&wal->flying, at, to, n))
        return 0;
    return journal_read(wal->journal, at, to, n);
}

size_t wal_waiting(const struct wal *wal, size_t *bytes)
{
    *bytes = journal_batch_empty(&wal->filling) ? 0 : wal->filling.n;
    return wal->due.count;
}

bool wal_idle(const struct wal *wal)
{
    return !wal->flying_now && wal->due.count == 0 && journal_batch_empty(&wal->filling);
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
    journal_batch_close(&wal->filling);
    journal_batch_close(&wal->flying);
    free(wal->due.items);
    free(wal->out.items);
    pthread_mutex_destroy(&wal->mutex);
    pthread_cond_destroy(&wal->cond);
    free(wal);
}
