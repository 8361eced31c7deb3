/* store/base/metrics.h: counters, gauges and histograms, written as Prometheus text.
 * Metrics are registered once at start (static storage of the caller) and live for the process.
 * Thread: any may add; relaxed atomics. `metrics_write` may run beside them.
 * Labels are fixed text, e.g. `op="send"`; several metrics of one name share HELP and TYPE.
 * Names:  a-z0-9_; counters end in _total, histograms in _seconds, and nothing else does in _total,
 *         _count, _sum or _bucket. Registering anything else is a mistake of ours (ASSERT). */
#ifndef LOQUAT_BASE_METRICS_H
#define LOQUAT_BASE_METRICS_H

#include <stdatomic.h>

#include "store/base/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum { METRIC_BUCKETS = 24 }; /* histogram: powers of two of microseconds, 1 µs … 8 s, +Inf */

struct metric {
    const char *name, *help, *labels; /* labels may be NULL */
    enum metric_type type;
    bool micros;           /* no histogram: counted in microseconds, written in seconds */
    _Atomic int64_t value; /* histogram: sum of microseconds */
    _Atomic int64_t count;
    _Atomic int64_t buckets[METRIC_BUCKETS];
    int64_t (*read)(void *arg); /* gauge or counter taken at the moment of writing; may be NULL */
    void *arg;
    /* Of one whose series come and go: says them by metric_series, when they are written. No others
     * have its name. */
    void (*series)(const struct metric *metric, struct buf *out);
    struct metric *next;
};

void metric_register(struct metric *metric);
/* A line of a metric with `series`; the value of a label has no quotes, backslashes, newlines. */
void metric_series(const struct metric *metric, const char *label, struct span is, int64_t value,
                   struct buf *out);
static inline void metric_add(struct metric *metric, int64_t v)
{
    atomic_fetch_add_explicit(&metric->value, v, memory_order_relaxed);
}
static inline void metric_set(struct metric *metric, int64_t v)
{
    atomic_store_explicit(&metric->value, v, memory_order_relaxed);
}
void metric_observe_us(struct metric *metric, int64_t microseconds);

/* One thread's share of a histogram: observed without atomics, where every message would touch a
 * line that all threads write; added to the histogram now and then, and empty from then on. */
struct metric_share {
    int64_t sum, count;
    int64_t buckets[METRIC_BUCKETS];
};
void metric_share_us(struct metric_share *share, int64_t microseconds);
void metric_add_share(struct metric *metric, struct metric_share *share);

void metrics_write(struct buf *out);

#endif
