#include "store/base/metrics.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "store/base/bound.h"
#include "store/base/process.h"
#include "tests/lib/measured.h"

static struct buf out;

static int64_t one_and_a_half(void *arg)
{
    (void)arg;
    return 1500001;
}

static void teardown(void)
{
    buf_close(&out);
}

TestSuite(metrics, .fini = teardown);

static const char *text(void)
{
    out.n = 0;
    metrics_write(&out);
    buf_add_byte(&out, '\0');
    return out.p;
}

static int times(const char *part)
{
    int n = 0;
    for (const char *at = text(); (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

/* Before anything is registered there is nothing to say. */
Test(metrics, none_is_empty)
{
    cr_assert(eq(str, (char *)text(), (char *)""));
}

/* What is counted in microseconds is written in seconds. */
Test(metrics, seconds)
{
    static struct metric busy = {.name = "busy_seconds_total",
                                 .help = "Busy",
                                 .labels = "cpu=\"0\"",
                                 .type = METRIC_COUNTER,
                                 .micros = true,
                                 .read = one_and_a_half};
    metric_register(&busy);
    cr_assert(eq(int, times("\nbusy_seconds_total{cpu=\"0\"} 1.500001\n"), 1));
}

static int64_t number_of(const char *name)
{
    const char *at = strstr(text(), name);
    cr_assert(at != NULL, "%s", name);
    return (int64_t)strtoll(at + strlen(name), NULL, 10);
}

/* What the system says of this process. */
Test(metrics, process)
{
    process_metrics();
    process_metrics();
    int64_t open = number_of("\nprocess_open_fds "),
            before = number_of("\nprocess_resident_memory_bytes ");
    enum { MORE = 7, BYTES = 32 << 20 };
    int fds[MORE];
    for (int i = 0; i < MORE; i++)
        fds[i] = dup(0);
    cr_assert(eq(i64, number_of("\nprocess_open_fds "), open + MORE));
    for (int i = 0; i < MORE; i++)
        close(fds[i]);
    char *memory = malloc(BYTES);
    memset(memory, 1, BYTES);
    cr_assert(lt(i64, before + BYTES / 2, number_of("\nprocess_resident_memory_bytes ")));
    free(memory);
    cr_assert(ge(i64, number_of("\nprocess_max_fds "), open));
    cr_assert(le(i64, number_of("\nprocess_start_time_seconds "), (int64_t)time(NULL)));
    cr_assert(lt(i64, 1700000000, number_of("\nprocess_start_time_seconds ")));
    for (clock_t end = clock() + CLOCKS_PER_SEC / 5; clock() < end;)
        ;
    cr_assert(eq(int, times("\nprocess_cpu_seconds_total 0.0"), 0)); /* 0.2 at least */
}

/* Counter and gauge are a line each, after their HELP and TYPE. */
Test(metrics, counter_and_gauge)
{
    static struct metric sends = {
        .name = "loquat_sends_total", .help = "Messages sent", .type = METRIC_COUNTER};
    static struct metric open = {
        .name = "loquat_connections", .help = "Open connections", .type = METRIC_GAUGE};
    metric_register(&sends);
    metric_register(&open);
    metric_add(&sends, 2);
    metric_add(&sends, 1);
    metric_set(&open, -4);
    cr_assert(eq(str, (char *)text(),
                 (char *)"# HELP loquat_connections Open connections\n"
                         "# TYPE loquat_connections gauge\n"
                         "loquat_connections -4\n"
                         "# HELP loquat_sends_total Messages sent\n"
                         "# TYPE loquat_sends_total counter\n"
                         "loquat_sends_total 3\n"));
}

static const char *const NOW[] = {"a", "b.c-d"};
static size_t now_count;

static void say_now(const struct metric *metric, struct buf *to)
{
    for (size_t i = 0; i < now_count && i < 2; i++)
        metric_series(metric, "who", span_str(NOW[i]), (int64_t)i + 1500000, to);
}

/* Series that come and go are those that there are when it is written. */
Test(metrics, series)
{
    static struct metric lag = {
        .name = "lag_records", .help = "Behind", .type = METRIC_GAUGE, .series = say_now};
    static struct metric late = {.name = "lag_seconds",
                                 .help = "For so long",
                                 .type = METRIC_GAUGE,
                                 .micros = true,
                                 .series = say_now};
    metric_register(&late);
    metric_register(&lag);
    now_count = 2;
    cr_assert(eq(str, (char *)text(),
                 (char *)"# HELP lag_records Behind\n"
                         "# TYPE lag_records gauge\n"
                         "lag_records{who=\"a\"} 1500000\n"
                         "lag_records{who=\"b.c-d\"} 1500001\n"
                         "# HELP lag_seconds For so long\n"
                         "# TYPE lag_seconds gauge\n"
                         "lag_seconds{who=\"a\"} 1.500000\n"
                         "lag_seconds{who=\"b.c-d\"} 1.500001\n"));
    now_count = 0;
    cr_assert(eq(int, times("who="), 0));
    cr_assert(eq(int, times("# TYPE lag_"), 2));
}

/* Metrics of one name stand together under one HELP and TYPE, whatever came between them. */
Test(metrics, one_name_has_one_head)
{
    static struct metric send = {
        .name = "ops_total", .help = "Ops", .labels = "op=\"send\"", .type = METRIC_COUNTER};
    static struct metric other = {.name = "other", .help = "Other", .type = METRIC_GAUGE};
    static struct metric edit = {.name = "ops_total",
                                 .help = "Ops",
                                 .labels = "op=\"edit\",by=\"author\"",
                                 .type = METRIC_COUNTER};
    metric_register(&send);
    metric_register(&other);
    metric_register(&edit);
    cr_assert(eq(int, times("# HELP ops_total "), 1));
    cr_assert(eq(int, times("# TYPE ops_total "), 1));
    cr_assert(ne(ptr, strstr(text(), "ops_total{op=\"send\"} 0\nops_total{op=\"edit\",by="), NULL));
}

/* Buckets are cumulative, bounds inclusive and in seconds; +Inf is the count. */
Test(metrics, histogram_is_cumulative)
{
    static struct metric took = {
        .name = "took_seconds", .help = "Time", .labels = "op=\"send\"", .type = METRIC_HISTOGRAM};
    metric_register(&took);
    static const int64_t US[] = {-5, 0, 1, 2, 3, 4, 8388608, 8388609, 60000000};
    for (size_t i = 0; i < sizeof US / sizeof *US; i++)
        metric_observe_us(&took, US[i]);
    cr_assert(eq(int, times("took_seconds_bucket{op=\"send\",le=\"0.000001\"} 3\n"), 1));
    cr_assert(eq(int, times("took_seconds_bucket{op=\"send\",le=\"0.000002\"} 4\n"), 1));
    cr_assert(eq(int, times("took_seconds_bucket{op=\"send\",le=\"0.000004\"} 6\n"), 1));
    cr_assert(eq(int, times("took_seconds_bucket{op=\"send\",le=\"4.194304\"} 6\n"), 1));
    cr_assert(eq(int, times("took_seconds_bucket{op=\"send\",le=\"8.388608\"} 7\n"), 1));
    cr_assert(eq(int, times("took_seconds_bucket{op=\"send\",le=\"+Inf\"} 9\n"), 1));
    cr_assert(eq(int, times("took_seconds_sum{op=\"send\"} 76.777227\n"), 1));
    cr_assert(eq(int, times("took_seconds_count{op=\"send\"} 9\n"), 1));
    cr_assert(eq(int, times("_bucket{"), METRIC_BUCKETS + 1));
}

static int64_t read_number(void *arg)
{
    return *(int64_t *)arg;
}

/* A metric with a reader is asked when it is written, not before. */
Test(metrics, reader_is_asked_at_writing)
{
    static int64_t number = 1;
    static struct metric queue = {.name = "queue_bytes",
                                  .help = "Bytes queued",
                                  .type = METRIC_GAUGE,
                                  .read = read_number,
                                  .arg = &number};
    metric_register(&queue);
    number = 42;
    cr_assert(eq(int, times("queue_bytes 42\n"), 1));
}

static struct metric shared = {
    .name = "shared_total", .help = "From threads", .type = METRIC_COUNTER};
static struct metric shared_time = {
    .name = "shared_seconds", .help = "From threads", .type = METRIC_HISTOGRAM};

static void *add(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20000; i++) {
        metric_add(&shared, 1);
        metric_observe_us(&shared_time, i % 100);
    }
    return NULL;
}

/* Nothing that threads add is lost, and a text written meanwhile is in order. */
Test(metrics, threads_lose_nothing)
{
    pthread_t threads[4];
    metric_register(&shared);
    metric_register(&shared_time);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, add, NULL);
    for (int round = 0; round < 50; round++) {
        long last = 0, inf = strtol(strstr(text(), "le=\"+Inf\"} ") + 11, NULL, 10);
        for (const char *at = out.p; (at = strstr(at, "_bucket{le=\"")) != NULL; at++) {
            long n = strtol(strstr(at, "} ") + 2, NULL, 10);
            cr_assert(le(long, last, n));
            last = n;
        }
        cr_assert(eq(long, last, inf));
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert(eq(int, times("shared_total 80000\n"), 1));
    cr_assert(eq(int, times("shared_seconds_count 80000\n"), 1));
}

/* What one thread observed by itself comes to the same, and comes once. */
Test(metrics, a_share_counts_like_the_rest)
{
    static struct metric alone = {
        .name = "alone_seconds", .help = "Alone", .type = METRIC_HISTOGRAM};
    static struct metric_share share;
    metric_register(&alone);
    static const int64_t US[] = {-1, 1, 2, 3, 1000, INT64_C(100) << 20};
    for (size_t i = 0; i < sizeof US / sizeof *US; i++) {
        metric_observe_us(&alone, US[i]);
        metric_share_us(&share, US[i]);
    }
    cr_assert(eq(i64, measured("alone_seconds_count"), 6));
    int64_t below = measured("alone_seconds_bucket{le=\"0.000004\"}");
    cr_assert(eq(i64, below, 4));
    int64_t sum = alone.value;
    metric_add_share(&alone, &share);
    metric_add_share(&alone, &share);
    cr_assert(eq(i64, measured("alone_seconds_count"), 12));
    cr_assert(eq(i64, measured("alone_seconds_bucket{le=\"0.000004\"}"), 8));
    cr_assert(eq(i64, alone.value, 2 * sum));
    cr_assert(zero(i64, share.count));
}

/* Each side's bounds are there from the start, at zero, and count by themselves. */
Test(metrics, bounds)
{
    bounds_register(BOUND_OF_NODE);
    cr_assert(eq(int, times("bound=\"user_rate\""), 0));
    bounds_register(BOUND_OF_GATEWAY);
    bound_hit(BOUND_RATE);
    bound_hit(BOUND_RATE);
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"user_rate\"}"), 2));
    cr_assert(zero(i64, measured("loquat_bound_hits_total{bound=\"user_connections\"}")));
    cr_assert(zero(i64, measured("loquat_bound_hits_total{bound=\"disk_reserve\"}")));
    cr_assert(eq(int, times("# TYPE loquat_bound_hits_total counter\n"), 1));
}

static void register_one(const char *name, const char *labels, enum metric_type type)
{
    struct metric *metric = calloc(1, sizeof *metric);
    *metric = (struct metric){.name = name, .help = "H", .labels = labels, .type = type};
    metric_register(metric);
}

/* Names that Prometheus or its linter refuse are found when the program starts. */
Test(metrics, bad_name_stops_the_program, .signal = SIGABRT)
{
    register_one("loquat-sends_total", NULL, METRIC_COUNTER);
}
Test(metrics, counter_without_total_stops_the_program, .signal = SIGABRT)
{
    register_one("loquat_sends", NULL, METRIC_COUNTER);
}
Test(metrics, gauge_called_count_stops_the_program, .signal = SIGABRT)
{
    register_one("loquat_sends_count", NULL, METRIC_GAUGE);
}
Test(metrics, broken_label_stops_the_program, .signal = SIGABRT)
{
    register_one("loquat_sends", "op=send", METRIC_GAUGE);
}
Test(metrics, same_metric_twice_stops_the_program, .signal = SIGABRT)
{
    register_one("loquat_sends", "op=\"a\"", METRIC_GAUGE);
    register_one("loquat_sends", "op=\"a\"", METRIC_GAUGE);
}
