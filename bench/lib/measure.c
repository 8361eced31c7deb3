#include "bench/lib/measure.h"

#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "store/base/clock.h"

static void say(const char *format, va_list args)
{
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void bench_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    exit(EXIT_FAILURE);
}

void bench_progress(const char *name, double part)
{
    enum { WIDTH = 40, TELL_S = 60 };
    static double told_s;
    if (isatty(STDERR_FILENO)) {
        int done = (int)(part * WIDTH);
        fprintf(stderr, "\r%s [%.*s%.*s] %3.0f %%%s", name, done,
                "########################################", WIDTH - done,
                "........................................", part * 100, part >= 1 ? "\n" : "");
    } else if (told_s == 0 || now_s() - told_s >= TELL_S) {
        bench_say("%s: %.0f %%", name, part * 100);
        told_s = now_s();
    }
}

#define MOST 10000000000ull /* messages: what a disk holds */

struct bench_options bench_options(int argc, char **argv, double secs)
{
    static const struct option LONG[] = {
        {"secs", required_argument, NULL, 's'},     {"peers", no_argument, NULL, 'p'},
        {"conns", required_argument, NULL, 'c'},    {"gateways", required_argument, NULL, 'g'},
        {"nodes", required_argument, NULL, 'n'},    {"tls", no_argument, NULL, 't'},
        {"messages", required_argument, NULL, 'm'}, {0}};
    struct bench_options options = {.secs = secs};
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        char *end = NULL;
        if (c == 's')
            options.secs = strtod(optarg, &end);
        else if (c == 'p')
            options.peers = true;
        else if (c == 't')
            options.tls = true;
        else if (c == 'c')
            options.conns = strtoul(optarg, &end, 10);
        else if (c == 'g')
            options.gateways = strtoul(optarg, &end, 10);
        else if (c == 'n')
            options.nodes = strtoul(optarg, &end, 10);
        else if (c == 'm')
            options.messages = strtoull(optarg, &end, 10);
        else
            exit(2);
        if (c == 'm' && (*end != '\0' || options.messages < 1000000 || options.messages > MOST))
            bench_fail("--messages: 1000000 to %llu, not %s", MOST, optarg);
        if (c == 'c' && (*end != '\0' || options.conns < 100 || options.conns > 1000000))
            bench_fail("--conns: 100 to 1000000, not %s", optarg);
        if (c == 'g' && (*end != '\0' || options.gateways < 1 || options.gateways > GATEWAYS_MAX))
            bench_fail("--gateways: 1 to %d, not %s", GATEWAYS_MAX, optarg);
        if (c == 'n' && (*end != '\0' || options.nodes < 1 || options.nodes > NODES_MAX))
            bench_fail("--nodes: 1 to %d, not %s", NODES_MAX, optarg);
        if (c == 's' && (*end != '\0' || !(options.secs > 0 && options.secs <= 3600)))
            bench_fail("--secs: 1 to 3600, not %s", optarg);
    }
    return options;
}

void series_add(struct series *series, double value)
{
    if (series->n == series->cap) {
        series->cap = series->cap == 0 ? 64 : series->cap * 2;
        series->v = xrealloc(series->v, series->cap * sizeof *series->v);
    }
    series->v[series->n++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double series_at(struct series *series, double q)
{
    if (series->n == 0)
        return 0;
    qsort(series->v, series->n, sizeof *series->v, compare);
    return series->v[(size_t)(q * (double)(series->n - 1) + 0.5)];
}

double series_median(struct series *series)
{
    return series_at(series, 0.5);
}

void series_close(struct series *series)
{
    free(series->v);
    *series = (struct series){0};
}

double now_s(void)
{
    return (double)clock_mono_us() / 1e6;
}

double cpu_self_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double cpu_of_s(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        bench_fail("process %d has ended", (int)pid);
    size_t n = fread(text, 1, sizeof text - 1, file);
    int closed = fclose(file);
    ASSERT(closed == 0); /* it was only read */
    text[n] = '\0';
    const char *at = strrchr(text, ')'); /* the name may hold spaces: fields from the third on */
    for (int field = 3; at != NULL && field <= 14; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        bench_fail("%s can't be read", path);
    char *end = NULL;
    double ticks = strtod(at, &end);
    ticks += strtod(end, NULL);
    return ticks / (double)sysconf(_SC_CLK_TCK);
}

void share_begin(struct share *share, pid_t pid)
{
    share->pid = pid;
    share->client = cpu_self_s();
    share->server = pid != 0 ? cpu_of_s(pid) : 0;
    share->at = now_s();
}

double share_end(struct share *share)
{
    double s = now_s() - share->at;
    share->client = (cpu_self_s() - share->client) / s;
    share->server = share->pid != 0 ? (cpu_of_s(share->pid) - share->server) / s : 0;
    return s;
}

void rounds_add(struct rounds *rounds, double ours, double theirs)
{
    series_add(&rounds->ours, ours);
    series_add(&rounds->theirs, theirs);
    series_add(&rounds->ratios, theirs > 0 ? ours / theirs : 0);
}

void rounds_end(struct rounds *rounds, struct result *result)
{
    result->value = series_median(&rounds->ours);
    result->ref = series_median(&rounds->theirs);
    result->ratio = series_median(&rounds->ratios);
    result_add(result, "rounds", (double)rounds->ours.n);
    result_add(result, "ratio_min", series_at(&rounds->ratios, 0));
    result_add(result, "ratio_max", series_at(&rounds->ratios, 1));
    series_close(&rounds->ours);
    series_close(&rounds->theirs);
    series_close(&rounds->ratios);
}

void result_add(struct result *result, const char *name, double value)
{
    buf_addf(&result->more, ",\"%s\":%.6g", name, value);
}

void result_add_text(struct result *result, const char *name, const char *text)
{
    buf_addf(&result->more, ",\"%s\":\"%s\"", name, text);
}

void result_print(struct result *result)
{
    double ratio =
        result->ratio > 0 || result->ref <= 0 ? result->ratio : result->value / result->ref;
    printf("{\"bench\":\"%s\",\"value\":%.6g,\"unit\":\"%s\",\"ref\":%.6g,\"ref_name\":\"%s\","
           "\"ratio\":%.3f",
           result->bench, result->value, result->unit, result->ref, result->ref_name, ratio);
    if (result->must > 0)
        printf(",\"must\":%g,\"holds\":%s", result->must,
               (result->lower ? ratio <= result->must : ratio >= result->must) ? "true" : "false");
    if (result->value_must > 0)
        printf(",\"value_must\":%g,\"holds\":%s", result->value_must,
               result->value <= result->value_must ? "true" : "false");
    double load = 0;
    if (getloadavg(&load, 1) == 1)
        printf(",\"load\":%.1f", load); /* of the machine, this bench's part included */
    printf("%.*s}\n", (int)result->more.n, result->more.p != NULL ? result->more.p : "");
    if (fflush(stdout) != 0)
        bench_fail("the result can't be written");
    buf_close(&result->more);
}

void results_print_worst(const char *bench, struct result *a, struct result *b)
{
    struct result *worst = a->ratio / a->must < b->ratio / b->must ? a : b;
    struct result last = *worst;
    last.bench = bench;
    last.more = (struct buf){0};
    buf_add_span(&last.more, buf_span(&worst->more));
    result_print(a);
    result_print(b);
    result_print(&last);
}
