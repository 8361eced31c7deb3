/* bench/send.c: messages of 200 bytes over WebSockets as JSON, acknowledged when they are on disk:
 * 50 connections with 16 unanswered ones each. Beside it one thread that writes synced RocksDB
 * batches, and with --peers Redis (XADD, every write synced) and NATS JetStream (files, not
 * synced). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/lib/load.h"
#include "bench/lib/sender.h"

enum { CONNS = 50, PIPELINE = 16, ROUNDS = 5 };

struct sides {
    struct gateway gateway;
    struct senders senders;
    struct bare bare;
    struct peer redis, nats;
    struct peer_load redis_load, nats_load;
    struct rounds bare_rounds, redis_rounds, nats_rounds;
    struct series client, server, syncs;
};

static void open_sides(struct sides *sides, uv_loop_t *loop, bool peers)
{
    gateway_prepare(&sides->gateway);
    gateway_start(&sides->gateway, NULL);
    senders_open(&sides->senders, &sides->gateway, loop, CONNS, PIPELINE);
    bare_open(&sides->bare);
    if (!peers)
        return;
    peer_start_redis(&sides->redis);
    peer_start_nats(&sides->nats);
    peer_load_redis(&sides->redis_load, &sides->redis, loop, CONNS, PIPELINE);
    peer_load_nats(&sides->nats_load, &sides->nats, loop, CONNS, PIPELINE);
}

/* What one side wrote and did not sync must not go to the disk in the time of the next. */
static double peer_turn(struct peer_load *load, double secs)
{
    sync();
    return peer_load_run(load, secs);
}

static void round_of(struct sides *sides, double secs, bool peers)
{
    struct share share;
    sync();
    series_add(&sides->syncs, fdatasync_us(sides->bare.root));
    share_begin(&share, sides->gateway.pid);
    double ours = senders_run(&sides->senders, secs);
    share_end(&share);
    series_add(&sides->client, share.client);
    series_add(&sides->server, share.server);
    double bare = bare_run(&sides->bare, CONNS, secs / 2);
    rounds_add(&sides->bare_rounds, ours, bare);
    if (peers) {
        double redis = peer_turn(&sides->redis_load, secs);
        double nats = peer_turn(&sides->nats_load, secs);
        rounds_add(&sides->redis_rounds, ours, redis);
        rounds_add(&sides->nats_rounds, ours, nats);
        bench_say("send: %.0f msg/s; Redis %.0f, NATS %.0f, RocksDB %.0f", ours, redis, nats, bare);
    } else {
        bench_say("send: %.0f msg/s; RocksDB %.0f", ours, bare);
    }
}

static void close_sides(struct sides *sides, uv_loop_t *loop, bool peers)
{
    senders_close(&sides->senders, loop);
    gateway_drop(&sides->gateway);
    bare_close(&sides->bare);
    if (peers) {
        peer_load_close(&sides->redis_load);
        peer_load_close(&sides->nats_load);
        peer_stop(&sides->redis);
        peer_stop(&sides->nats);
    }
    series_close(&sides->client);
    series_close(&sides->server);
    series_close(&sides->syncs);
}

static void print(struct sides *sides, struct rounds *rounds, const char *bench, const char *ref,
                  double must)
{
    struct result result = {.bench = bench, .unit = "msg/s", .ref_name = ref, .must = must};
    rounds_end(rounds, &result);
    result_add(&result, "client_cpu", series_median(&sides->client));
    result_add(&result, "server_cpu", series_median(&sides->server));
    result_add(&result, "server_us", series_median(&sides->server) / result.value * 1e6);
    result_add(&result, "fdatasync_us", series_median(&sides->syncs));
    result_print(&result);
}

int main(int argc, char **argv)
{
    static struct sides sides;
    struct bench_options options = bench_options(argc, argv, 30);
    uv_loop_t *loop = uv_default_loop();
    open_sides(&sides, loop, options.peers);
    double secs = options.secs / ROUNDS / (options.peers ? 3.5 : 1.5);
    senders_run(&sides.senders, secs / 2); /* warm */
    for (int i = 0; i < ROUNDS; i++)
        round_of(&sides, secs, options.peers);
    print(&sides, &sides.bare_rounds, options.peers ? "send-bare" : "send",
          "synced RocksDB batches of 100, one thread, no server", 0);
    if (options.peers) {
        print(&sides, &sides.nats_rounds, "send-nats",
              "NATS JetStream, file storage, answers before the sync", 1);
        print(&sides, &sides.redis_rounds, "send", "Redis XADD, appendfsync always", 0.7);
    }
    close_sides(&sides, loop, options.peers);
    return 0;
}
