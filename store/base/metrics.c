#include "store/base/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "store/base/check.h"

/* Sorted by name, each name's metrics in the order of their registration. The lock guards the list
 * only; values are atomics. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct metric *metrics;

#define LETTERS "abcdefghijklmnopqrstuvwxyz_"

/* Length of the name at `text`, 0 when there is none. */
static size_t name_size(const char *text)
{
    return strspn(text, LETTERS) > 0 ? strspn(text, LETTERS "0123456789") : 0;
}

/* a="x",b="y" */
static bool labels_valid(const char *at)
{
    for (;;) {
        size_t n = name_size(at);
        if (n == 0 || at[n] != '=' || at[n + 1] != '"')
            return false;
        at += n + 2;
        at += strcspn(at, "\"\\\n");
        if (*at++ != '"')
            return false;
        if (*at == '\0')
            return true;
        if (*at++ != ',')
            return false;
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static void check(const struct metric *metric)
{
    const char *name = metric->name;
    ASSERT(name_size(name) > 0 && name[name_size(name)] == '\0');
    ASSERT(!ends_with(name, "_count") && !ends_with(name, "_sum") && !ends_with(name, "_bucket"));
    ASSERT(ends_with(name, "_total") == (metric->type == METRIC_COUNTER));
    ASSERT(metric->help != NULL && strpbrk(metric->help, "\n\\") == NULL);
    ASSERT(metric->labels == NULL || labels_valid(metric->labels));
    if (metric->type == METRIC_HISTOGRAM)
        ASSERT(ends_with(name, "_seconds") && metric->read == NULL);
    if (metric->series != NULL)
        ASSERT(metric->type != METRIC_HISTOGRAM && metric->labels == NULL && metric->read == NULL);
}

static bool same_labels(const struct metric *a, const struct metric *b)
{
    const char *x = a->labels != NULL ? a->labels : "", *y = b->labels != NULL ? b->labels : "";
    return strcmp(x, y) == 0;
}

void metric_register(struct metric *metric)
{
    check(metric);
    pthread_mutex_lock(&lock);
    struct metric **link = &metrics;
    while (*link != NULL && strcmp((*link)->name, metric->name) <= 0) {
        if (strcmp((*link)->name, metric->name) == 0) {
            ASSERT((*link)->type == metric->type);
            ASSERT(strcmp((*link)->help, metric->help) == 0);
            ASSERT(!same_labels(*link, metric) && metric->series == NULL &&
                   (*link)->series == NULL);
        }
        link = &(*link)->next;
    }
    metric->next = *link;
    *link = metric;
    pthread_mutex_unlock(&lock);
}

/* The least b with us <= 2^b. */
static unsigned bucket_of(int64_t us)
{
    return us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll((uint64_t)us - 1);
}

void metric_observe_us(struct metric *metric, int64_t microseconds)
{
    int64_t us = microseconds > 0 ? microseconds : 0;
    unsigned bucket = bucket_of(us);
    if (bucket < METRIC_BUCKETS)
        atomic_fetch_add_explicit(&metric->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->value, us, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->count, 1, memory_order_relaxed);
}

void metric_share_us(struct metric_share *share, int64_t microseconds)
{
    int64_t us = microseconds > 0 ? microseconds : 0;
    unsigned bucket = bucket_of(us);
    if (bucket < METRIC_BUCKETS)
        share->buckets[bucket]++;
    share->sum += us;
    share->count++;
}

void metric_add_share(struct metric *metric, struct metric_share *share)
{
    if (share->count == 0)
        return;
    for (int i = 0; i < METRIC_BUCKETS; i++)
        if (share->buckets[i] > 0)
            atomic_fetch_add_explicit(&metric->buckets[i], share->buckets[i], memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->value, share->sum, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->count, share->count, memory_order_relaxed);
    *share = (struct metric_share){0};
}

static int64_t value_of(struct metric *metric)
{
    if (metric->read != NULL)
        return metric->read(metric->arg);
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

static void write_seconds(struct buf *out, int64_t us)
{
    buf_addf(out, "%" PRId64 ".%06" PRId64, us / 1000000, us % 1000000);
}

/* Its name and labels, and what goes before the value. */
static void write_series(const struct metric *metric, const char *suffix, struct buf *out)
{
    buf_addf(out, "%s%s", metric->name, suffix);
    if (metric->labels != NULL)
        buf_addf(out, "{%s}", metric->labels);
    buf_add_byte(out, ' ');
}

/* The sums of a histogram that is being added to: +Inf is never below the last bucket. */
static void write_histogram(struct metric *metric, struct buf *out)
{
    const char *labels = metric->labels != NULL ? metric->labels : "";
    const char *comma = *labels != '\0' ? "," : "";
    int64_t count = atomic_load_explicit(&metric->count, memory_order_relaxed);
    int64_t sum = 0;
    for (int i = 0; i < METRIC_BUCKETS; i++) {
        sum += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        buf_addf(out, "%s_bucket{%s%sle=\"", metric->name, labels, comma);
        write_seconds(out, INT64_C(1) << i);
        buf_addf(out, "\"} %" PRId64 "\n", sum);
    }
    if (count < sum)
        count = sum;
    buf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRId64 "\n", metric->name, labels, comma, count);
    write_series(metric, "_sum", out);
    write_seconds(out, atomic_load_explicit(&metric->value, memory_order_relaxed));
    buf_add_byte(out, '\n');
    write_series(metric, "_count", out);
    buf_addf(out, "%" PRId64 "\n", count);
}

static void write_head(const struct metric *metric, struct buf *out)
{
    static const char *const TYPES[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
    buf_addf(out, "# HELP %s %s\n", metric->name, metric->help);
    buf_addf(out, "# TYPE %s %s\n", metric->name, TYPES[metric->type]);
}

static void write_value(const struct metric *metric, int64_t value, struct buf *out)
{
    if (metric->micros)
        write_seconds(out, value);
    else
        buf_addf(out, "%" PRId64, value);
    buf_add_byte(out, '\n');
}

void metric_series(const struct metric *metric, const char *label, struct span is, int64_t value,
                   struct buf *out)
{
    buf_addf(out, "%s{%s=\"%.*s\"} ", metric->name, label, (int)is.n, is.p);
    write_value(metric, value, out);
}

static void write_one(struct metric *metric, struct buf *out)
{
    write_series(metric, "", out);
    write_value(metric, value_of(metric), out);
}

void metrics_write(struct buf *out)
{
    pthread_mutex_lock(&lock);
    const struct metric *last = NULL;
    for (struct metric *metric = metrics; metric != NULL; last = metric, metric = metric->next) {
        if (last == NULL || strcmp(last->name, metric->name) != 0)
            write_head(metric, out);
        if (metric->type == METRIC_HISTOGRAM)
            write_histogram(metric, out);
        else if (metric->series != NULL)
            metric->series(metric, out);
        else
            write_one(metric, out);
    }
    pthread_mutex_unlock(&lock);
}
