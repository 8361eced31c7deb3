#include "replication/indexer.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "replication/give_way.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/thread.h"
#include "store/search/build.h"

enum { NICE = 15, ASK_US = 100000 };

struct indexer {
    struct kv *data, *index;
    uint32_t partitions;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool woken, full, damaged;   /* written under mutex */
    bool stopping;               /* also read by steps, atomically */
    struct indexer_again *again; /* under mutex: asked for; NULL: nothing is */
    bool again_stops;            /* atomic: who asked has gone */
    uint64_t looked_at;          /* atomic: of it */
    uint64_t again_us, taken_us; /* monotonic: since when; what came meanwhile was last taken */
    struct build *beside;        /* takes what comes meanwhile */
    struct give_way way;         /* the thread's own */
    int again_err;               /* once it is done */
};

enum { RECORDS, STEPS, BEHIND, METRICS };
static struct metric metrics[METRICS] = {
    {.name = "loquat_index_records_total",
     .help = "Records that the search index has taken",
     .type = METRIC_COUNTER},
    {.name = "loquat_index_step_seconds",
     .help = "How long the search index was at one step of taking them, its rests among it",
     .type = METRIC_HISTOGRAM},
    {.name = "loquat_index_behind",
     .help = "1 while the search index is at work on so much that it takes several steps",
     .type = METRIC_GAUGE},
};
static pthread_once_t registered = PTHREAD_ONCE_INIT;

static void register_metrics(void)
{
    for (size_t i = 0; i < METRICS; i++)
        metric_register(&metrics[i]);
}

static bool is_stopping(struct indexer *indexer)
{
    return __atomic_load_n(&indexer->stopping, __ATOMIC_RELAXED);
}

/* ---- the thread ---- */

static void set(struct indexer *indexer, bool *what, bool to)
{
    if (indexer->index == NULL)
        return;
    pthread_mutex_lock(&indexer->mutex);
    __atomic_store_n(what, to, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&indexer->cond);
    pthread_mutex_unlock(&indexer->mutex);
}

/* If it is damaged, the next start makes it anew, and nothing is written to it until then. */
static bool condemned(struct indexer *indexer, int err)
{
    bool damaged = err == ERR_CORRUPT || __atomic_load_n(&indexer->damaged, __ATOMIC_RELAXED);
    if (damaged && index_condemn(indexer->index) == 0)
        log_error("the search index is damaged; it is made anew when the server starts again",
                  {"what", log_str(err != 0 ? kv_error() : "a search found it so")});
    return damaged;
}

static void count(const struct build_step *step, uint64_t start_us)
{
    metric_add(&metrics[RECORDS], (int64_t)step->records);
    if (step->records > 0)
        metric_observe_us(&metrics[STEPS], (int64_t)(clock_mono_us() - start_us));
}

/* A step of each partition. `more`: of some there is more yet. */
static int take_steps(struct indexer *indexer, struct build *build, bool *more)
{
    int err = 0;
    *more = false;
    for (uint32_t p = 0; p < indexer->partitions && err == 0 && !is_stopping(indexer); p++) {
        struct build_step step;
        uint64_t start = clock_mono_us();
        err = build_step(build, p, &indexer->stopping, &step);
        count(&step, start);
        *more = *more || step.more;
    }
    metric_set(&metrics[BEHIND], *more);
    return err;
}

static struct timespec in_us(uint64_t us)
{
    uint64_t at = clock_mono_us() + us;
    return (struct timespec){(time_t)(at / 1000000), (long)(at % 1000000) * 1000};
}

/* What has come since this was last asked; false: nothing, or it can't be written. */
static bool take_woken(struct indexer *indexer)
{
    pthread_mutex_lock(&indexer->mutex);
    bool woken = indexer->woken && !indexer->full;
    if (woken)
        __atomic_store_n(&indexer->woken, false, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&indexer->mutex);
    return woken;
}

/* A while in which nothing is done, unless it is to end. */
static void pause_us(struct indexer *indexer, uint64_t us)
{
    struct timespec until = in_us(us);
    int rv = 0;
    pthread_mutex_lock(&indexer->mutex);
    while (!is_stopping(indexer) && rv == 0)
        rv = pthread_cond_timedwait(&indexer->cond, &indexer->mutex, &until);
    pthread_mutex_unlock(&indexer->mutex);
}

/* From within a step. */
static void on_breath(void *arg)
{
    struct indexer *indexer = arg;
    uint64_t us = give_way_us(&indexer->way);
    if (us > 0)
        pause_us(indexer, us);
}

static struct build *builder_new(struct indexer *indexer)
{
    struct build *build = build_new(indexer->data, indexer->index);
    build_breathe(build, on_breath, indexer);
    return build;
}

/* Between two conversations that are made anew: what has come meanwhile, and a rest, if there is a
 * rate. */
static void on_progress(void *arg, const struct build_again *part)
{
    struct indexer *indexer = arg;
    uint64_t rate = indexer->again->rate;
    __atomic_store_n(&indexer->looked_at, part->looked_at, __ATOMIC_RELAXED);
    for (;;) {
        uint64_t now_us = clock_mono_us(), gone_us = now_us - indexer->again_us;
        uint64_t due_us = rate == 0 ? 0 : (uint64_t)((double)part->messages / (double)rate * 1e6);
        bool over = is_stopping(indexer) || __atomic_load_n(part->stop, __ATOMIC_RELAXED);
        if (!over && now_us - indexer->taken_us >= INDEXER_REST_MS * 1000ull &&
            take_woken(indexer)) {
            bool more = false;
            if (take_steps(indexer, indexer->beside, &more) != 0 || more)
                set(indexer, &indexer->woken, true); /* what went wrong, the next round says */
            indexer->taken_us = clock_mono_us();
        }
        if (over || gone_us >= due_us)
            return;
        uint64_t left_us = due_us - gone_us + 1000;
        pause_us(indexer, left_us < ASK_US ? left_us : ASK_US);
    }
}

static int again_partition(struct indexer *indexer, struct build *build,
                           struct indexer_again *again, uint32_t partition,
                           struct build_again *done)
{
    struct conv_id *convs = xcalloc(again->count + 1, sizeof *convs);
    struct build_again part = {.all = again->all,
                               .convs = convs,
                               .now_ms = again->now_ms,
                               .stop = &indexer->again_stops,
                               .progress = on_progress,
                               .arg = indexer,
                               .looked_at = done->looked_at,
                               .messages = done->messages};
    for (size_t i = 0; i < again->count; i++) {
        struct conv_id id = conv_id_of(span_str(again->convs[i]));
        if (partition_of(id, indexer->partitions) == partition)
            convs[part.conv_count++] = id;
    }
    int err = again->count == 0 || part.conv_count > 0 ? build_again(build, partition, &part) : 0;
    again->segments += part.segments;
    *done = part;
    free(convs);
    return err;
}

/* What was asked for, if anything was. */
static void make_again(struct indexer *indexer, struct build *build)
{
    struct build_again done = {0};
    int err = 0;
    pthread_mutex_lock(&indexer->mutex);
    struct indexer_again *again = indexer->again;
    pthread_mutex_unlock(&indexer->mutex);
    if (again == NULL)
        return;
    indexer->again_us = indexer->taken_us = clock_mono_us();
    indexer->beside = builder_new(indexer);
    for (uint32_t p = 0; p < indexer->partitions && err == 0; p++)
        err = is_stopping(indexer) ? ERR_CLOSED : again_partition(indexer, build, again, p, &done);
    build_free(indexer->beside);
    pthread_mutex_lock(&indexer->mutex);
    indexer->again_err = err;
    indexer->again = NULL;
    pthread_cond_broadcast(&indexer->cond);
    pthread_mutex_unlock(&indexer->mutex);
}

/* Until something came and a while has gone, or it is to stop. */
static void rest(struct indexer *indexer, uint64_t ms)
{
    struct timespec until = in_us(ms * 1000);
    pthread_mutex_lock(&indexer->mutex);
    int rv = 0;
    while (!is_stopping(indexer) && indexer->again == NULL && rv == 0)
        rv = pthread_cond_timedwait(&indexer->cond, &indexer->mutex, &until);
    while (!is_stopping(indexer) && indexer->again == NULL && (!indexer->woken || indexer->full))
        pthread_cond_wait(&indexer->cond, &indexer->mutex);
    __atomic_store_n(&indexer->woken, false, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&indexer->mutex);
}

static void *run(void *arg)
{
    struct indexer *indexer = arg;
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    give_way_open(&indexer->way);
    struct build *build = builder_new(indexer);
    bool over = false;
    while (!is_stopping(indexer)) {
        bool more = false;
        int err = over ? 0 : take_steps(indexer, build, &more);
        over = over || condemned(indexer, err);
        if (err != 0 && err != ERR_CORRUPT)
            log_warn("the search index can't be written; it is tried again",
                     {"err", log_str(err_name(err))}, {"what", log_str(kv_error())});
        make_again(indexer, build);
        if (err != 0 || !more)
            rest(indexer, err != 0 ? INDEXER_AGAIN_MS : INDEXER_REST_MS);
    }
    make_again(indexer, build); /* who waits for it is told that it is not */
    if (!over)
        (void)condemned(indexer, 0);
    build_free(build);
    give_way_close(&indexer->way);
    return NULL;
}

/* ---- from outside ---- */

struct indexer *indexer_start(struct kv *data, const char *dir, const char *id, uint32_t partitions)
{
    struct indexer *indexer = xcalloc(1, sizeof *indexer);
    bool fresh = false;
    pthread_once(&registered, register_metrics);
    indexer->data = data;
    indexer->partitions = partitions;
    int err = index_open(dir, id, &indexer->index, &fresh);
    if (err != 0) {
        log_error("the search index can't be opened: what is searched for is looked for in the "
                  "newest messages only",
                  {"dir", log_str(dir)}, {"what", log_str(kv_error())});
        indexer->index = NULL;
        return indexer;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&indexer->mutex, NULL);
    pthread_cond_init(&indexer->cond, &attr);
    pthread_condattr_destroy(&attr);
    indexer->woken = true;
    thread_start(&indexer->thread, "indexer", run, indexer);
    return indexer;
}

struct kv *indexer_kv(const struct indexer *indexer)
{
    return indexer->index;
}

/* With each batch that is applied: the thread is only woken by the first since it rested. What is
 * applied before this is read by the round that follows whoever resets it. */
void indexer_wake(struct indexer *indexer)
{
    if (!__atomic_load_n(&indexer->woken, __ATOMIC_SEQ_CST))
        set(indexer, &indexer->woken, true);
}

void indexer_damaged(struct indexer *indexer)
{
    if (__atomic_load_n(&indexer->damaged, __ATOMIC_RELAXED))
        return;
    set(indexer, &indexer->damaged, true);
    set(indexer, &indexer->woken, true);
}

void indexer_hold(struct indexer *indexer, bool full)
{
    set(indexer, &indexer->full, full);
}

int indexer_again(struct indexer *indexer, struct indexer_again *again)
{
    int err = 0;
    if (indexer->index == NULL)
        return ERR_UNAVAILABLE;
    again->segments = 0;
    pthread_mutex_lock(&indexer->mutex);
    ASSERT(indexer->again == NULL);
    indexer->again = again;
    __atomic_store_n(&indexer->again_stops, false, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&indexer->cond);
    while (indexer->again != NULL) {
        struct timespec until = in_us(ASK_US);
        pthread_cond_timedwait(&indexer->cond, &indexer->mutex, &until);
        pthread_mutex_unlock(&indexer->mutex);
        if (err == 0 && again->progress != NULL)
            err = again->progress(again->arg, "search index",
                                  __atomic_load_n(&indexer->looked_at, __ATOMIC_RELAXED), 0);
        if (err != 0)
            __atomic_store_n(&indexer->again_stops, true, __ATOMIC_RELAXED);
        pthread_mutex_lock(&indexer->mutex);
    }
    err = err != 0 ? err : indexer->again_err;
    pthread_mutex_unlock(&indexer->mutex);
    return err;
}

void indexer_stop(struct indexer *indexer)
{
    if (indexer == NULL)
        return;
    if (indexer->index != NULL) {
        set(indexer, &indexer->stopping, true);
        int rv = pthread_join(indexer->thread, NULL);
        ASSERT(rv == 0);
        kv_close(indexer->index);
        pthread_mutex_destroy(&indexer->mutex);
        pthread_cond_destroy(&indexer->cond);
    }
    free(indexer);
}
