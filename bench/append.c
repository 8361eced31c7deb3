/* bench/append.c: the store alone, through a link: messages of 200 bytes in batches of 100, through
 * consensus and sync, applied with idempotency and feed, beside one thread that writes as many rows
 * of that size into RocksDB in synced batches of 100. */
#include <stdio.h>
#include <time.h>

#include "bench/lib/load.h"

enum { ROUNDS = 5 };

static double cpu_thread_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct result measure(const char *name, size_t convs, double secs)
{
    struct load load;
    struct bare bare;
    char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
    bench_dir(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    load_open(&load, dir, convs);
    bare_open(&bare);
    struct rounds rounds = {0};
    struct series client = {0}, syncs = {0};
    double round_s = secs / (2 * ROUNDS), all = 0, wall = 0;
    load_run(&load, round_s / 2, 0);
    for (int i = 0; i < ROUNDS; i++) {
        series_add(&syncs, fdatasync_us(root));
        double theirs = bare_run(&bare, convs, round_s);
        double cpu = cpu_thread_s(), process = cpu_self_s(), begin = now_s();
        double ours = load_run(&load, round_s, 0);
        rounds_add(&rounds, ours, theirs);
        wall = now_s() - begin;
        series_add(&client, (cpu_thread_s() - cpu) / wall);
        all += (cpu_self_s() - process) / wall / ROUNDS;
        bench_say("%s: %.0f msg/s; reference %.0f", name, ours, theirs);
    }
    struct result result = {.bench = name,
                            .unit = "msg/s",
                            .ref_name = "synced RocksDB batches of 100, one thread",
                            .must = 0.7};
    rounds_end(&rounds, &result);
    result_add(&result, "conversations", (double)convs);
    result_add(&result, "client_cpu", series_median(&client));
    result_add(&result, "process_cpu", all);
    result_add(&result, "cpu_us", (all - series_median(&client)) / result.value * 1e6);
    result_add(&result, "fdatasync_us", series_median(&syncs));
    series_close(&client);
    series_close(&syncs);
    bare_close(&bare);
    load_close(&load);
    bench_dir_drop(root);
    return result;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, 40);
    struct result few = measure("append-64", 64, options.secs / 2);
    struct result many = measure("append-5000", 5000, options.secs / 2);
    results_print_worst("append", &few, &many);
    return 0;
}
