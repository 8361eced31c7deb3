/* bench/conns.c: very many live connections on one process, and people talking among them. Each
 * user is in three rooms of ten and a hall of 500. How long until all are live; what each costs the
 * server's process (private memory, what it caches of the user included) and the kernel (slabs and
 * socket buffers, both ends of the connection, since the client is on this machine too); and from
 * the moment a message is due until each of the ten has it, p99. Beside it, in turn, the same rate
 * on another server that has a hundred connections. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/crowd.h"
#include "bench/lib/kernel.h"
#include "bench/lib/spread.h"
#include "store/base/clock.h"

enum { CONNS = 15000, FEW = 100, ROUNDS = 3, RATE = 1000, JOIN_S_MAX = 60, ANSWERS_S_MAX = 10 };

struct talk {
    struct crowd *crowd;
    double next_us;
};

static void on_talk(uv_timer_t *timer)
{
    struct talk *talk = timer->data;
    struct crowd *crowd = talk->crowd;
    for (uint64_t now = clock_mono_us(); talk->next_us <= (double)now; talk->next_us += 1e6 / RATE)
        crowd_say(crowd, random_u64() % crowd->count, random_u64() % CROWD_LAYERS,
                  (uint64_t)talk->next_us);
}

/* RATE messages a second for `secs`, then until each has come to all ten. */
static void talk(struct crowd *crowd, double secs, struct series *ms)
{
    struct talk talk = {.crowd = crowd, .next_us = (double)clock_mono_us()};
    uv_timer_t timer = {.data = &talk};
    uint64_t received = crowd->received, asked = crowd->asked;
    crowd->latency_ms = ms;
    uv_timer_init(crowd->loop, &timer);
    uv_timer_start(&timer, on_talk, 1, 1);
    net_run(crowd->loop, secs);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(crowd->loop, UV_RUN_NOWAIT); /* the timer is this function's */
    uint64_t want = received + (crowd->asked - asked) * CROWD_ROOM;
    for (double until = now_s() + ANSWERS_S_MAX;
         (crowd->received < want || crowd->answered < crowd->asked) && now_s() < until;)
        uv_run(crowd->loop, UV_RUN_ONCE);
    if (crowd->received != want || crowd->answered != crowd->asked || crowd->missed > 0 ||
        crowd->twice > 0 || crowd->ended > 0 || crowd->live < crowd->count)
        bench_fail("conns: %llu of %llu deliveries, %llu of %llu answers, %llu missed, %llu twice, "
                   "%llu ended",
                   (unsigned long long)(crowd->received - received),
                   (unsigned long long)(want - received), (unsigned long long)crowd->answered,
                   (unsigned long long)crowd->asked, (unsigned long long)crowd->missed,
                   (unsigned long long)crowd->twice, (unsigned long long)crowd->ended);
    crowd->latency_ms = NULL;
}

static void begin(struct crowd *crowd, struct gateway *gateway, size_t count)
{
    gateway_prepare(gateway);
    gateway_start(gateway, TWO_LOOPS);
    crowd_open(crowd, gateway, uv_default_loop(), count);
    gateway_rest(gateway);
    gateway_stop(gateway); /* so that what opening took is not counted */
    gateway_start(gateway, TWO_LOOPS);
}

static double join(struct crowd *crowd)
{
    double at = now_s();
    crowd_come(crowd, 0, CROWD_ORDERLY);
    if (!crowd_all_live(crowd, JOIN_S_MAX))
        bench_fail("conns: %llu of %zu are live after %d s; %llu failed (%s)",
                   (unsigned long long)crowd->live, crowd->count, JOIN_S_MAX,
                   (unsigned long long)crowd->failed, crowd->why);
    return now_s() - at;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, 18);
    if (options.gateways != 0) {
        spread_run(&options);
        return 0;
    }
    struct gateway gateway, other;
    struct crowd crowd, few;
    struct series p50 = {0}, few50 = {0}, server = {0};
    struct rounds rounds = {0};
    begin(&few, &other, FEW);
    join(&few);
    begin(&crowd, &gateway, crowd_fit(options.conns != 0 ? options.conns : CONNS));
    double count = (double)crowd.count, before = (double)proc_memory(gateway.pid);
    struct kernel kernel = kernel_now();
    double live_s = join(&crowd), join50 = series_at(&crowd.join_ms, 0.5),
           join99 = series_at(&crowd.join_ms, 0.99);
    gateway_rest(&gateway);
    struct kernel full = kernel_now();
    double each = ((double)proc_memory(gateway.pid) - before) / count;
    bench_say("conns: %zu live after %.1f s, %.0f bytes each", crowd.count, live_s, each);
    for (int i = 0; i < ROUNDS; i++) {
        struct series ms = {0}, ref = {0};
        struct share share;
        talk(&few, options.secs / ROUNDS / 2, &ref);
        share_begin(&share, gateway.pid);
        talk(&crowd, options.secs / ROUNDS / 2, &ms);
        share_end(&share);
        rounds_add(&rounds, series_at(&ms, 0.99), series_at(&ref, 0.99));
        series_add(&p50, series_at(&ms, 0.5));
        series_add(&few50, series_at(&ref, 0.5));
        series_add(&server, share.server);
        series_close(&ms);
        series_close(&ref);
    }
    struct result result = {.bench = "conns",
                            .unit = "ms",
                            .lower = true,
                            .ref_name = "p99 at the same rate with 100 connections"};
    rounds_end(&rounds, &result);
    result_add(&result, "connections", count);
    result_add(&result, "live_s", live_s);
    result_add(&result, "join_p50_ms", join50);
    result_add(&result, "join_p99_ms", join99);
    result_add(&result, "failed", (double)crowd.failed);
    result_add(&result, "server_bytes_each", each);
    result_add(&result, "kernel_slab_each", (full.slab - kernel.slab) / count);
    result_add(&result, "kernel_buffers_each", (full.sockets - kernel.sockets) / count);
    result_add(&result, "rate", RATE);
    result_add(&result, "p50_ms", series_median(&p50));
    result_add(&result, "ref_p50_ms", series_median(&few50));
    result_add(&result, "server_cpu", series_median(&server));
    result_print(&result);
    crowd_close(&crowd);
    crowd_close(&few);
    gateway_drop(&gateway);
    gateway_drop(&other);
    series_close(&p50);
    series_close(&few50);
    series_close(&server);
    return 0;
}
