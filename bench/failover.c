/* bench/failover.c: three nodes under load; one after the other is killed (SIGKILL), and, in
 * between, stopped (SIGTERM), and comes back: the longest time that any of 50 conversations was
 * without an acknowledgement, seconds. The clients are at one gateway and send again nothing
 * themselves: a request that fails fails the bench. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/sender.h"

enum { CONNS = 50, PIPELINE = 2, NODES = 3, KILLS = 20, STOPS = 6 };
#define PARTITIONS "16"

static struct node_server nodes[NODES];

struct blow {
    size_t node;
    bool kill;
};

static void on_blow(uv_timer_t *timer)
{
    const struct blow *blow = timer->data;
    if (blow->kill)
        nodes_kill(nodes, blow->node);
    else
        kill(nodes[blow->node].pid, SIGTERM);
}

/* The longest wait of the conversations, while the node goes under load. */
static double run_blow(struct senders *senders, struct blow *blow)
{
    uv_timer_t timer = {.data = blow};
    double longest = 0;
    uv_timer_init(senders->loop, &timer);
    uv_timer_start(&timer, on_blow, 500, 0);
    senders_watch(senders);
    senders_run(senders, 4);
    for (size_t i = 0; i < senders->count; i++)
        longest = fmax(longest, senders->each[i].gap_s);
    uv_close((uv_handle_t *)&timer, NULL);
    if (!blow->kill)
        proc_wait(nodes[blow->node].pid);
    nodes_again(nodes, blow->node, PARTITIONS);
    senders_run(senders, 8); /* until it has its share again */
    return longest;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, 0);
    struct gateway gateway;
    struct senders senders;
    uv_loop_t *loop = uv_default_loop();
    struct series kills = {0}, stops = {0};
    int rounds = options.secs > 0 ? (int)(options.secs / 13) + 1 : KILLS;
    nodes_begin(nodes, NODES, PARTITIONS);
    gateway_prepare(&gateway);
    gateway.node = nodes;
    gateway_start(&gateway, NULL);
    senders_open(&senders, &gateway, loop, CONNS, PIPELINE);
    senders_run(&senders, 12);
    for (int i = 0; i < rounds; i++) {
        struct blow blow = {(size_t)i % NODES, true};
        series_add(&kills, run_blow(&senders, &blow));
        bench_say("failover: node %zu killed: %.2f s", blow.node + 1, kills.v[kills.n - 1]);
    }
    for (int i = 0; i < STOPS && i < rounds; i++) {
        struct blow blow = {(size_t)i % NODES, false};
        series_add(&stops, run_blow(&senders, &blow));
        bench_say("failover: node %zu stopped: %.2f s", blow.node + 1, stops.v[stops.n - 1]);
    }
    struct result result = {.bench = "failover",
                            .unit = "s",
                            .lower = true,
                            .value = series_median(&kills),
                            .ref = 1,
                            .ref_name = "what the median may be",
                            .must = 1};
    result_add(&result, "max_s", series_at(&kills, 1));
    result_add(&result, "kills", (double)kills.n);
    result_add(&result, "stop_median_s", series_median(&stops));
    result_add(&result, "stop_max_s", series_at(&stops, 1));
    result_print(&result);
    senders_close(&senders, loop);
    gateway_drop(&gateway);
    nodes_drop(nodes, NODES);
    series_close(&kills);
    series_close(&stops);
    return 0;
}
