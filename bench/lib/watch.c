#include "bench/lib/watch.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define COLUMN(name)                                                                               \
    {                                                                                              \
#name, offsetof(struct watch_sample, name)                                                 \
    }
static const struct {
    const char *name;
    size_t at;
} columns[] = {COLUMN(at_s),    COLUMN(live),       COLUMN(rate),       COLUMN(p50_ms),
               COLUMN(p99_ms),  COLUMN(ack_p99_ms), COLUMN(rss),        COLUMN(sockets),
               COLUMN(files),   COLUMN(threads),    COLUMN(raft_bytes), COLUMN(data_bytes),
               COLUMN(sync_ms), COLUMN(lags),       COLUMN(kept),       COLUMN(cache)};
enum { COLUMNS = sizeof columns / sizeof *columns, FAILURES_MAX = 3 };

/* ---- /metrics ---- */

static void on_metrics(struct metrics *metrics, struct span text)
{
    struct watch *watch = container_of(metrics, struct watch, metrics);
    double syncs = metric_of(text, "\nloquat_wal_sync_seconds_count ");
    double sync_s = metric_of(text, "\nloquat_wal_sync_seconds_sum ");
    double lags = metric_of(text, "\nloquat_session_lags_total ");
    if (syncs == 0) { /* a machine that stood still may have outlasted the server's patience */
        bench_say("/metrics: %zu bytes: %.*s", text.n, 200, text.p);
        if (++watch->failures == FAILURES_MAX)
            bench_fail("/metrics: %d times in a row", FAILURES_MAX);
        return;
    }
    watch->failures = 0;
    watch->sync_ms =
        syncs > watch->syncs ? (sync_s - watch->sync_s) / (syncs - watch->syncs) * 1000 : 0;
    watch->new_lags = lags - watch->lags;
    watch->kept = metric_of(text, "\nloquat_dedup_filter_bytes ") +
                  metric_of(text, "\nloquat_rocksdb_table_bytes{db=\"data\"} ");
    watch->cache = metric_of(text, "\nloquat_rocksdb_cache_bytes{db=\"data\"} ");
    watch->syncs = syncs;
    watch->sync_s = sync_s;
    watch->lags = lags;
}

/* ---- /proc ---- */

static void read_status(pid_t pid, struct watch_sample *sample)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        bench_fail("the server has ended");
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0)
            sample->rss = strtod(line + 6, NULL) * 1024;
        else if (strncmp(line, "Threads:", 8) == 0)
            sample->threads = strtod(line + 8, NULL);
    }
    int closed = fclose(file);
    ASSERT(closed == 0); /* it was only read */
}

static void read_files(pid_t pid, struct watch_sample *sample)
{
    char path[64], to[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, to, sizeof to);
        if (n >= 7 && memcmp(to, "socket:", 7) == 0)
            sample->sockets++;
        else if (n > 0)
            sample->files++;
    }
    closedir(dir);
}

/* ---- samples ---- */

static void take(struct watch *watch)
{
    char path[SCRATCH_MAX + 32];
    if (watch->n == watch->cap) {
        watch->cap = watch->cap * 2 + 64;
        watch->samples = xrealloc(watch->samples, watch->cap * sizeof *watch->samples);
    }
    struct watch_sample *sample = &watch->samples[watch->n];
    *sample = (struct watch_sample){.at_s = now_s() - watch->begin_s,
                                    .sync_ms = watch->sync_ms,
                                    .lags = watch->new_lags,
                                    .kept = watch->kept,
                                    .cache = watch->cache};
    read_status(watch->gateway->pid, sample);
    read_files(watch->gateway->pid, sample);
    snprintf(path, sizeof path, "%s/journal", watch->gateway->dir);
    sample->raft_bytes = (double)dir_bytes(path);
    snprintf(path, sizeof path, "%s/data", watch->gateway->dir);
    sample->data_bytes = (double)dir_bytes(path);
    watch->fill(watch->data, sample);
    metrics_ask(&watch->metrics);
    watch->n++;
}

static void on_timer(uv_timer_t *timer)
{
    take(timer->data);
}

void watch_begin(struct watch *watch, double interval_s)
{
    watch->begin_s = now_s();
    watch->timer.data = watch;
    uv_timer_init(watch->loop, &watch->timer);
    uint64_t ms = (uint64_t)(interval_s * 1000);
    uv_timer_start(&watch->timer, on_timer, ms, ms);
    metrics_open(&watch->metrics, watch->gateway, watch->loop, on_metrics);
    metrics_ask(&watch->metrics);
}

void watch_end(struct watch *watch)
{
    uv_timer_stop(&watch->timer);
    while (watch->metrics.asking)
        uv_run(watch->loop, UV_RUN_ONCE);
    take(watch);
    while (watch->metrics.asking)
        uv_run(watch->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&watch->timer, NULL);
    net_settle(watch->loop);
}

void watch_close(struct watch *watch)
{
    free(watch->samples);
}

double watch_value(const struct watch_sample *sample, size_t column)
{
    double value;
    memcpy(&value, (const char *)sample + column, sizeof value);
    return value;
}

double watch_quantile(const struct watch *watch, size_t column, double from, double until, double q)
{
    struct series series = {0};
    size_t last = (size_t)((double)watch->n * until);
    for (size_t i = (size_t)((double)watch->n * from); i < last; i++)
        series_add(&series, watch_value(&watch->samples[i], column));
    double value = series_at(&series, q);
    series_close(&series);
    return value;
}

void watch_csv(const struct watch *watch, const char *path)
{
    FILE *file = fopen(path, "we");
    if (file == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    for (size_t c = 0; c < COLUMNS; c++)
        fprintf(file, "%s%s", c > 0 ? "," : "", columns[c].name);
    for (size_t i = 0; i < watch->n; i++)
        for (size_t c = 0; c < COLUMNS; c++)
            fprintf(file, "%s%.10g", c > 0 ? "," : "\n",
                    watch_value(&watch->samples[i], columns[c].at));
    fputc('\n', file);
    if (fclose(file) != 0)
        bench_fail("%s: %s", path, strerror(errno));
}
