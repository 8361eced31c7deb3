/* bench/latency.c: from the moment a message should have been sent until another client has it, at
 * half of the rate that the same pairs reach at most: p50 and p99, milliseconds. The clock of a
 * message starts when it was due, so a stalled client or server counts in full. Beside it the sync
 * of as many bytes as a batch has, by itself. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/halts.h"
#include "bench/lib/load.h"
#include "bench/lib/sender.h"

enum { PAIRS = 50, PIPELINE = 16, ROUNDS = 5 };

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, 25);
    struct gateway gateway;
    struct senders senders;
    uv_loop_t *loop = uv_default_loop();
    gateway_prepare(&gateway);
    gateway_start(&gateway, NULL);
    senders_open(&senders, &gateway, loop, PAIRS, PIPELINE);
    senders_receive(&senders, &gateway);
    double round_s = options.secs / ROUNDS / 2;
    senders_run(&senders, round_s);
    struct series rates = {0}, p50 = {0}, client = {0}, server = {0}, sync50 = {0};
    struct rounds rounds = {0};
    struct halts_rounds halted = {0};
    for (int i = 0; i < ROUNDS; i++) {
        struct series ms = {0}, syncs = {0};
        struct share share;
        struct halts halts;
        double most = senders_run(&senders, round_s);
        syncs_ms(gateway.root, &syncs);
        senders.latency_ms = &ms;
        share_begin(&share, gateway.pid);
        halts_begin(&halts);
        senders_run_at(&senders, most / 2, round_s);
        halts_end(&halts);
        share_end(&share);
        senders.latency_ms = NULL;
        series_add(&rates, most / 2);
        series_add(&p50, series_at(&ms, 0.5));
        series_add(&sync50, series_at(&syncs, 0.5));
        series_add(&client, share.client);
        series_add(&server, share.server);
        halts_rounds_add(&halted, &halts);
        rounds_add(&rounds, series_at(&ms, 0.99), series_at(&syncs, 0.99));
        bench_say("latency: at %.0f msg/s p50 %.2f ms, p99 %.2f ms; fdatasync p50 %.2f, p99 %.2f",
                  most / 2, series_at(&ms, 0.5), series_at(&ms, 0.99), series_at(&syncs, 0.5),
                  series_at(&syncs, 0.99));
        series_close(&ms);
        series_close(&syncs);
    }
    struct result result = {.bench = "latency",
                            .unit = "ms",
                            .lower = true,
                            .ref_name = "fdatasync of 26,000 bytes, p99"};
    rounds_end(&rounds, &result);
    result_add(&result, "p50_ms", series_median(&p50));
    result_add(&result, "p99_ms", result.value);
    result_add(&result, "sync_p50_ms", series_median(&sync50));
    result_add(&result, "rate", series_median(&rates));
    result_add(&result, "client_cpu", series_median(&client));
    result_add(&result, "server_cpu", series_median(&server));
    halts_rounds_tell(&halted, &result);
    result_print(&result);
    senders_close(&senders, loop);
    gateway_drop(&gateway);
    halts_rounds_close(&halted);
    series_close(&rates);
    series_close(&p50);
    series_close(&sync50);
    series_close(&client);
    series_close(&server);
    return 0;
}
