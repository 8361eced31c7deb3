/* bench/cluster.c: three nodes on this machine and a gateway: messages of 200 bytes over WebSockets
 * as JSON, acknowledged when they are synced on two nodes at least and applied; 50 connections with
 * 16 unanswered ones each. Beside them, with as many, three etcd servers (put, synced on two as
 * well) and NATS JetStream with three replicas of a file (not synced). Then the time until another
 * client has a message, at half of that rate. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/lib/halts.h"
#include "bench/lib/sender.h"

enum { CONNS = 50, PIPELINE = 16, ROUNDS = 5, NODES = 3 };

struct sides {
    struct node_server nodes[NODES];
    struct gateway gateway;
    struct senders senders;
    struct peer nats[TRIO], etcd[TRIO];
    struct peer_load nats_load, etcd_load;
    struct rounds nats_rounds, etcd_rounds;
    struct series rates, p50, p99, cpu;
    struct halts_rounds halted;
};

static void open_sides(struct sides *sides, uv_loop_t *loop)
{
    nodes_begin(sides->nodes, NODES, "16");
    gateway_prepare(&sides->gateway);
    sides->gateway.node = sides->nodes;
    gateway_start(&sides->gateway, (const char *[]){"--loops", "1", NULL}); /* beside three nodes */
    senders_open(&sides->senders, &sides->gateway, loop, CONNS, PIPELINE);
    trio_start_etcd(sides->etcd);
    peer_load_etcd(&sides->etcd_load, sides->etcd, loop, CONNS, PIPELINE);
    trio_start_nats(sides->nats);
    peer_load_nats_trio(&sides->nats_load, sides->nats, loop, CONNS, PIPELINE);
}

static double cpu_of_nodes(const struct sides *sides)
{
    double sum = cpu_of_s(sides->gateway.pid);
    for (size_t i = 0; i < NODES; i++)
        sum += cpu_of_s(sides->nodes[i].pid);
    return sum;
}

static void round_of(struct sides *sides, double secs)
{
    sync();
    double cpu = cpu_of_nodes(sides), begin = now_s();
    double ours = senders_run(&sides->senders, secs);
    cpu = (cpu_of_nodes(sides) - cpu) / (now_s() - begin);
    sync();
    double etcd = peer_load_run(&sides->etcd_load, secs);
    sync();
    double nats = peer_load_run(&sides->nats_load, secs);
    rounds_add(&sides->etcd_rounds, ours, etcd);
    rounds_add(&sides->nats_rounds, ours, nats);
    series_add(&sides->rates, ours);
    series_add(&sides->cpu, cpu);
    bench_say("cluster: %.0f msg/s; etcd %.0f, NATS %.0f", ours, etcd, nats);
}

/* With receivers, from here on: what is acknowledged counts when another client has it. */
static void latency(struct sides *sides, double secs)
{
    senders_receive(&sides->senders, &sides->gateway);
    double rate = series_median(&sides->rates) / 2;
    for (int i = 0; i < ROUNDS; i++) {
        struct series ms = {0};
        struct halts halts;
        sync();
        sides->senders.latency_ms = &ms;
        halts_begin(&halts);
        senders_run_at(&sides->senders, rate, secs);
        halts_end(&halts);
        sides->senders.latency_ms = NULL;
        halts_rounds_add(&sides->halted, &halts);
        series_add(&sides->p50, series_at(&ms, 0.5));
        series_add(&sides->p99, series_at(&ms, 0.99));
        bench_say("cluster: at %.0f msg/s p50 %.2f ms, p99 %.2f ms", rate, series_at(&ms, 0.5),
                  series_at(&ms, 0.99));
        series_close(&ms);
    }
}

static void print(struct sides *sides, struct rounds *rounds, const char *bench, const char *ref,
                  double must)
{
    struct result result = {.bench = bench, .unit = "msg/s", .ref_name = ref, .must = must};
    rounds_end(rounds, &result);
    result_add(&result, "p50_ms", series_median(&sides->p50));
    result_add(&result, "p99_ms", series_median(&sides->p99));
    result_add(&result, "servers_cpu", series_median(&sides->cpu));
    halts_rounds_tell(&sides->halted, &result);
    result_print(&result);
}

static void stop_peers(struct sides *sides)
{
    peer_load_close(&sides->nats_load);
    peer_load_close(&sides->etcd_load);
    for (size_t i = 0; i < TRIO; i++) {
        peer_stop(&sides->nats[i]);
        peer_stop(&sides->etcd[i]);
    }
}

static void close_sides(struct sides *sides, uv_loop_t *loop)
{
    senders_close(&sides->senders, loop);
    gateway_drop(&sides->gateway);
    nodes_drop(sides->nodes, NODES);
    series_close(&sides->rates);
    series_close(&sides->p50);
    series_close(&sides->p99);
    series_close(&sides->cpu);
    halts_rounds_close(&sides->halted);
}

int main(int argc, char **argv)
{
    static struct sides sides;
    struct bench_options options = bench_options(argc, argv, 40);
    uv_loop_t *loop = uv_default_loop();
    open_sides(&sides, loop);
    double secs = options.secs / ROUNDS / 4;
    senders_run(&sides.senders, secs); /* warm */
    for (int i = 0; i < ROUNDS; i++)
        round_of(&sides, secs);
    stop_peers(&sides); /* six servers that have nothing to do still do it */
    latency(&sides, secs);
    print(&sides, &sides.etcd_rounds, "cluster-etcd", "three etcd, put", 3);
    print(&sides, &sides.nats_rounds, "cluster", "NATS JetStream R3, answers before the sync", 1);
    close_sides(&sides, loop);
    return 0;
}
