/* bench/feed.c: the feeds of all partitions, a million messages of a thousand conversations, read
 * whole through the gateway by the C library, records a second. Beside it, in turn, as many entries
 * of the same size from a consumer of NATS JetStream and by XREAD of Redis in pages of 1,000. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/load.h"
#include "bench/lib/peer_read.h"
#include "store/client/loquat.h"

enum { RECORDS = 1000000, CONVS = 1000, ROUNDS_MAX = 30, NATS_CONNS = 50, FILL_PIPELINE = 1000 };

struct sides {
    struct gateway gateway;
    struct buf token;
    struct peer redis, nats;
    struct peer_load redis_load, nats_load;
    struct rounds redis_rounds, nats_rounds;
    struct series client, server;
};

/* ---- ours ---- */

struct reading {
    struct loquat_reader *reader;
    uint64_t got, bytes, over;
};

static bool on_feed_page(const struct loquat_feed_page *page, void *arg)
{
    struct reading *reading = arg;
    for (size_t i = 0; i < page->count; i++) {
        const struct loquat_record *record = &page->records[i].record;
        if (record->kind.n == 4 && memcmp(record->kind.p, "text", 4) == 0) {
            reading->got++;
            reading->bytes += record->body.n;
        }
    }
    if (reading->got >= RECORDS)
        loquat_reader_stop(reading->reader);
    return true;
}

static void on_feed_end(int err, const char *why, void *arg)
{
    struct reading *reading = arg;
    if (err != 0)
        bench_fail("%s: %s", loquat_err_name(err), why);
    reading->over = 1;
}

/* As a job that has fallen behind reads: all partitions at once. */
static double read_feed(const struct sides *sides)
{
    struct reading reading = {0};
    char why[256] = "";
    struct loquat_options options = {
        .url = sides->gateway.url, .token = sides->token.p, .loop = uv_default_loop()};
    double begin = now_s();
    reading.reader = loquat_start_feed(&options, &(struct loquat_feed){.follow = true},
                                       on_feed_page, on_feed_end, &reading, why, sizeof why);
    if (reading.reader == NULL)
        bench_fail("%s", why);
    net_until(uv_default_loop(), &reading.got, RECORDS);
    double s = now_s() - begin;
    net_until(uv_default_loop(), &reading.over, 1);
    if (reading.got != RECORDS || reading.bytes < (uint64_t)RECORDS * BARE_TEXT)
        bench_fail("%llu records of %llu bytes", (unsigned long long)reading.got,
                   (unsigned long long)reading.bytes);
    return (double)reading.got / s;
}

/* ---- all sides ---- */

static void fill(struct peer_load *load)
{
    while (load->answered < RECORDS)
        peer_load_run(load, 0.2);
}

static void open_sides(struct sides *sides)
{
    struct load load;
    gateway_prepare(&sides->gateway);
    load_open(&load, sides->gateway.dir, CONVS);
    load_run(&load, 3600, RECORDS);
    load_close(&load);
    gateway_start(&sides->gateway, NULL);
    gateway_token(&sides->gateway, "job", "jobs", &sides->token);
    peer_start_redis(&sides->redis);
    peer_load_redis(&sides->redis_load, &sides->redis, uv_default_loop(), 1, FILL_PIPELINE);
    fill(&sides->redis_load);
    peer_start_nats(&sides->nats);
    peer_load_nats(&sides->nats_load, &sides->nats, uv_default_loop(), NATS_CONNS, FILL_PIPELINE);
    fill(&sides->nats_load);
    gateway_rest(&sides->gateway);
}

static void round_of(struct sides *sides)
{
    struct share share;
    share_begin(&share, sides->gateway.pid);
    double ours = read_feed(sides);
    share_end(&share);
    series_add(&sides->client, share.client);
    series_add(&sides->server, share.server);
    double nats = peer_read_nats(&sides->nats_load);
    double redis = peer_read_xread(&sides->redis_load);
    rounds_add(&sides->nats_rounds, ours, nats);
    rounds_add(&sides->redis_rounds, ours, redis);
    bench_say("feed: %.0f records/s; NATS %.0f, XREAD %.0f; client %.2f, server %.2f", ours, nats,
              redis, share.client, share.server);
}

static void print(struct sides *sides, struct rounds *rounds, const char *bench, const char *ref,
                  double must)
{
    struct result result = {.bench = bench, .unit = "records/s", .ref_name = ref, .must = must};
    rounds_end(rounds, &result);
    result_add(&result, "client_cpu", series_median(&sides->client));
    result_add(&result, "server_cpu", series_median(&sides->server));
    result_add(&result, "client_us", series_median(&sides->client) / result.value * 1e6);
    result_add(&result, "server_us", series_median(&sides->server) / result.value * 1e6);
    result_print(&result);
}

int main(int argc, char **argv)
{
    static struct sides sides;
    struct bench_options options = bench_options(argc, argv, 30);
    open_sides(&sides);
    read_feed(&sides); /* warm */
    peer_read_nats(&sides.nats_load);
    double until = now_s() + options.secs;
    for (int i = 0; i < ROUNDS_MAX && (i == 0 || now_s() < until); i++)
        round_of(&sides);
    print(&sides, &sides.nats_rounds, "feed-nats",
          "NATS JetStream, file storage, pushed to a consumer without acknowledgements", 1);
    print(&sides, &sides.redis_rounds, "feed", "Redis, XREAD in pages of 1,000", 0.5);
    peer_load_close(&sides.redis_load);
    peer_load_close(&sides.nats_load);
    peer_stop(&sides.redis);
    peer_stop(&sides.nats);
    gateway_drop(&sides.gateway);
    buf_close(&sides.token);
    series_close(&sides.client);
    series_close(&sides.server);
    return 0;
}
