/* bench/lib/watch.h: what a server uses, again and again: from /proc, its directory, and /metrics.
 * Thread: the loop's. Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_WATCH_H
#define LOQUAT_BENCH_WATCH_H

#include "bench/lib/metrics.h"

struct watch_sample {
    double at_s; /* since the watch began */
    double rss, raft_bytes, data_bytes;
    double kept;  /* of rss: what there is for each message stored, indexes and filters */
    double cache; /* of rss: blocks of files that were read last */
    double sockets, files, threads; /* files: descriptors that are no sockets */
    double sync_ms;                 /* mean of those since the last sample; 0: none */
    double lags;                    /* since the last sample */
    double rate, p50_ms, p99_ms, ack_p99_ms, live; /* the caller's */
};
struct watch {
    const struct gateway *gateway;
    uv_loop_t *loop;
    void (*fill)(void *data, struct watch_sample *sample); /* adds the caller's part */
    void *data;

    struct watch_sample *samples;
    size_t n, cap;
    uv_timer_t timer;
    double begin_s;
    struct metrics metrics;
    double kept, cache;
    int failures;               /* of /metrics, in a row */
    double syncs, sync_s, lags; /* sums of /metrics at the last sample */
    double sync_ms, new_lags;   /* since the one before */
};
void watch_begin(struct watch *watch, double interval_s);
void watch_end(struct watch *watch); /* takes a last sample; they stay until watch_close */
void watch_close(struct watch *watch);

/* The column of a sample that is so many bytes into it: offsetof(struct watch_sample, …). */
double watch_value(const struct watch_sample *sample, size_t column);
/* Of the samples in [from, until), as parts of their number, by quantile. */
double watch_quantile(const struct watch *watch, size_t column, double from, double until,
                      double q);
void watch_csv(const struct watch *watch, const char *path);

#endif
