#include "replication/lags.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/feedlog.h"
#include "store/key.h"

/* A consumer, over the partitions. */
struct row {
    char name[USER_MAX + 1];
    uint64_t records, ms;
};

struct table {
    size_t count;
    struct row rows[FEEDLOG_CONSUMERS_MAX];
};

struct lags {
    uv_work_t work;
    uv_loop_t *loop;
    struct kv *data;
    const struct shard *shards;
    uint32_t partitions;
    bool running;
    uint64_t due_ms, began_ms;
    bool *led;  /* as the round began */
    bool knows; /* partition 0 is here, and with it who is a consumer */
    struct table table;
    int err, said; /* said: the error that the log has */
};

/* What was counted last; of the process. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct table told;

static void write_rows(const struct metric *metric, struct buf *out)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < told.count; i++) {
        const struct row *row = &told.rows[i];
        metric_series(metric, "consumer", span_str(row->name),
                      (int64_t)(metric->micros ? row->ms * 1000 : row->records), out);
    }
    pthread_mutex_unlock(&lock);
}

static struct metric records = {
    .name = "loquat_consumer_lag_records",
    .help = "Records that a consumer is behind, in the partitions that are led here",
    .type = METRIC_GAUGE,
    .series = write_rows};
static struct metric seconds = {
    .name = "loquat_consumer_lag_seconds",
    .help = "For how long the first of them has been there, in the partition where it is longest",
    .type = METRIC_GAUGE,
    .micros = true,
    .series = write_rows};

void lags_register(void)
{
    static bool registered;
    if (registered)
        return;
    registered = true;
    metric_register(&records);
    metric_register(&seconds);
}

static void tell(const struct table *table)
{
    pthread_mutex_lock(&lock);
    told.count = table->count;
    memcpy(told.rows, table->rows, table->count * sizeof *table->rows);
    pthread_mutex_unlock(&lock);
}

/* ---- a round, on the pool ---- */

/* A consumer that could not be made, since there are too many, leaves cursors behind. */
static bool is_consumer(const struct lags *lags, struct span name, struct buf *value)
{
    struct key key = key_named(0, KEY_TAG_CONSUMER, name);
    return !lags->knows || kv_get(lags->data, KV_APL, key_span(&key), value) != ERR_NOT_FOUND;
}

/* NULL: there is no room, or it is none. */
static struct row *row_of(struct lags *lags, struct span name, struct buf *value)
{
    struct table *table = &lags->table;
    for (size_t i = 0; i < table->count; i++)
        if (span_eq(span_str(table->rows[i].name), name))
            return &table->rows[i];
    if (table->count == FEEDLOG_CONSUMERS_MAX || name.n > USER_MAX ||
        !is_consumer(lags, name, value))
        return NULL;
    struct row *row = &table->rows[table->count++];
    *row = (struct row){0};
    memcpy(row->name, name.p, name.n);
    return row;
}

static int add_partition(struct lags *lags, uint32_t partition, struct arena *arena,
                         struct buf *value)
{
    struct feedlog_lag *found;
    size_t count;
    int err = feedlog_lags(lags->data, partition, clock_wall_ms(), arena, &found, &count);
    for (size_t i = 0; err == 0 && i < count; i++) {
        struct row *row = row_of(lags, found[i].name, value);
        if (row == NULL)
            continue;
        row->records += found[i].records;
        row->ms = found[i].ms > row->ms ? found[i].ms : row->ms;
    }
    return err;
}

static void on_work(uv_work_t *work)
{
    struct lags *lags = container_of(work, struct lags, work);
    struct arena arena;
    struct buf value = {0};
    arena_init(&arena);
    lags->table.count = 0;
    lags->err = 0;
    for (uint32_t p = 0; p < lags->partitions; p++) {
        int err = lags->led[p] ? add_partition(lags, p, &arena, &value) : 0;
        lags->err = err != 0 ? err : lags->err;
        arena_reset(&arena);
    }
    arena_close(&arena);
    buf_close(&value);
}

static void on_done(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct lags *lags = container_of(work, struct lags, work);
    uint64_t now = clock_mono_ms(), rest = (now - lags->began_ms) * LAGS_REST_TIMES;
    lags->running = false;
    lags->due_ms = now + (rest > LAGS_REST_MS ? rest : LAGS_REST_MS);
    if (lags->err != 0 && lags->err != lags->said)
        log_error("what consumers are behind could not be counted in every partition",
                  {"err", log_str(err_name(lags->err))}, {"do", log_str("loquat-compact verify")});
    lags->said = lags->err;
    tell(&lags->table);
}

/* ---- for the node ---- */

struct lags *lags_new(uv_loop_t *loop, struct kv *data, const struct shard *shards,
                      uint32_t partitions)
{
    struct lags *lags = xcalloc(1, sizeof *lags);
    lags->loop = loop;
    lags->data = data;
    lags->shards = shards;
    lags->partitions = partitions;
    lags->led = xcalloc(partitions, sizeof *lags->led);
    return lags;
}

void lags_tick(struct lags *lags, uint64_t now_ms)
{
    if (lags->running || now_ms < lags->due_ms)
        return;
    for (uint32_t p = 0; p < lags->partitions; p++)
        lags->led[p] = lags->shards[p].serving;
    lags->knows = shard_holds(&lags->shards[0]) && !shard_behind(&lags->shards[0]);
    lags->running = true;
    lags->began_ms = now_ms;
    int rv = uv_queue_work(lags->loop, &lags->work, on_work, on_done);
    ASSERT(rv == 0);
}

bool lags_idle(const struct lags *lags)
{
    return !lags->running;
}

void lags_free(struct lags *lags)
{
    if (lags == NULL)
        return;
    lags->table.count = 0;
    tell(&lags->table);
    free(lags->led);
    free(lags);
}
