/* bench/range.c: one conversation of a million messages read whole, folded, as NDJSON over HTTP,
 * records a second. Beside it a bare RocksDB iterator over the same rows in a copy of the same
 * files, and with --peers Redis, XRANGE in pages of 1,000 over as many entries. First of all the
 * same by `loquat-log read`, into a pipe: how much memory gateway and client come to have. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/lib/load.h"
#include "bench/lib/peer_read.h"
#include "store/key.h"

enum { RECORDS = 1000000, ROUNDS_MAX = 9, MEMORY_MIB_MOST = 64 };

/* ---- ours ---- */

struct reading {
    uint64_t lines, bytes, over;
    bool head;
    char last; /* byte of the part before */
};

static size_t on_http(struct net *net, struct span bytes)
{
    struct reading *reading = net->data;
    if (!reading->head) {
        const char *end = memmem(bytes.p, bytes.n, "\r\n\r\n", 4);
        if (end == NULL)
            return 0;
        if (memcmp(bytes.p, "HTTP/1.1 200", 12) != 0)
            bench_fail("refused: %.*s", (int)bytes.n, bytes.p);
        reading->head = true;
        return (size_t)(end - bytes.p) + 4;
    }
    reading->bytes += bytes.n;
    /* Lines end with a bare newline, chunks' heads and ends with CR LF. */
    for (const char *at = bytes.p, *end = bytes.p + bytes.n; at < end; at++) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (at == NULL)
            break;
        reading->lines += (at > bytes.p ? at[-1] : reading->last) != '\r';
    }
    reading->last = bytes.p[bytes.n - 1];
    if (bytes.n >= 5 && memcmp(bytes.p + bytes.n - 5, "0\r\n\r\n", 5) == 0)
        reading->over = 1;
    return bytes.n;
}

static double read_http(const struct gateway *gateway, const char *conv, const char *token,
                        uint64_t *bytes)
{
    struct reading reading = {0};
    struct net net = {.data = &reading, .on_bytes = on_http};
    double begin = now_s();
    buf_addf(&net.out,
             "GET /v1/conversations/%s/records?view=folded HTTP/1.1\r\nHost: 127.0.0.1\r\n"
             "Authorization: Bearer %s\r\nAccept: application/x-ndjson\r\n\r\n",
             conv, token);
    net_open(&net, uv_default_loop(), gateway->port);
    net_until(uv_default_loop(), &reading.over, 1);
    double s = now_s() - begin;
    net_close(&net);
    net_settle(uv_default_loop());
    if (reading.lines != RECORDS)
        bench_fail("%llu records, not %d", (unsigned long long)reading.lines, RECORDS);
    *bytes = reading.bytes;
    return RECORDS / s;
}

/* ---- memory ---- */

/* Reads all of the pipe; the client's peak when all but the last percent has come. */
static uint64_t read_lines(int fd, pid_t client, uint64_t *lines, uint64_t *bytes)
{
    static char text[1 << 16];
    uint64_t peak = 0;
    ssize_t n;
    while ((n = read(fd, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            *lines += text[i] == '\n';
        *bytes += (uint64_t)n;
        if (peak == 0 && *lines >= RECORDS / 100 * 99)
            peak = proc_peak(client);
    }
    return peak;
}

/* By its very first reader: what the gateway needs for it, it has not had before. */
static void print_memory(const struct gateway *gateway, const char *conv, const char *token)
{
    char program[SCRATCH_MAX];
    uint64_t lines = 0, bytes = 0;
    proc_peak_forget(gateway->pid); /* what starting took */
    uint64_t before = proc_peak(gateway->pid);
    const char *argv[] = {bench_program("loquat-log", program, sizeof program),
                          "read",
                          "--url",
                          gateway->url,
                          "--token",
                          token,
                          "--json",
                          conv,
                          NULL};
    int out;
    pid_t pid = proc_start_piped((char *const *)(uintptr_t)argv, &out);
    uint64_t client = read_lines(out, pid, &lines, &bytes);
    close(out);
    proc_wait(pid);
    uint64_t after = proc_peak(gateway->pid);
    if (lines != RECORDS)
        bench_fail("loquat-log read: %llu lines", (unsigned long long)lines);
    struct result result = {.bench = "range-memory",
                            .unit = "MiB",
                            .value = (double)(after - before + client) / (1 << 20),
                            .ref = (double)bytes / (1 << 20),
                            .ref_name = "what was read",
                            .lower = true,
                            .value_must = MEMORY_MIB_MOST};
    result_add(&result, "gateway_before", (double)before / (1 << 20));
    result_add(&result, "gateway_after", (double)after / (1 << 20));
    result_add(&result, "client", (double)client / (1 << 20));
    result_print(&result);
}

/* ---- the reference ---- */

static double read_rows(struct kv *kv, const char *conv)
{
    struct conv_id id = conv_id_of(span_str(conv));
    struct key from = key_seq(partition_of(id, PARTITIONS_DEFAULT), id, 0);
    struct key until = key_seq(partition_of(id, PARTITIONS_DEFAULT), id, UINT64_MAX);
    uint64_t rows = 0;
    static volatile uint64_t sum; /* so that values are read */
    double begin = now_s();
    struct kv_iter iter;
    kv_iter_open(&iter, kv, NULL, KV_LOG, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span value = kv_iter_value(&iter);
        sum += (uint8_t)value.p[value.n - 1];
        rows++;
    }
    if (kv_iter_error(&iter) != 0 || rows < RECORDS)
        bench_fail("%llu rows", (unsigned long long)rows);
    kv_iter_close(&iter);
    return (double)rows / (now_s() - begin);
}

/* ---- Redis ---- */

struct redis {
    struct peer peer;
    struct peer_load load;
};

static void fill_redis(struct redis *redis)
{
    peer_start_redis(&redis->peer);
    peer_load_redis(&redis->load, &redis->peer, uv_default_loop(), 1, 1000);
    while (redis->load.answered < RECORDS)
        peer_load_run(&redis->load, 0.2);
}

/* ---- */

struct sides {
    struct gateway gateway;
    struct kv *kv;
    struct redis redis;
    struct buf token;
    char conv[MADE_ID_SIZE + 1];
    struct rounds rows, pages;
    struct series client, server;
};

static void open_sides(struct sides *sides, bool peers)
{
    struct load load;
    char from[SCRATCH_MAX + 32], path[SCRATCH_MAX + 32];
    gateway_prepare(&sides->gateway);
    load_open(&load, sides->gateway.dir, 1);
    snprintf(sides->conv, sizeof sides->conv, "%s", load.convs[0]);
    load_run(&load, 3600, RECORDS);
    load_close(&load);
    gateway_start(&sides->gateway, NULL);
    gateway_token(&sides->gateway, LOAD_USER, "", &sides->token);
    gateway_rest(&sides->gateway);
    snprintf(from, sizeof from, "%s/data", sides->gateway.dir);
    snprintf(path, sizeof path, "%s/copy", sides->gateway.root);
    scratch_copy(from, path); /* the server goes on compacting its own */
    if (kv_open(path, KV_DATA, &(struct kv_options){.read_only = true}, &sides->kv) != 0)
        bench_fail("%s", kv_error());
    if (peers)
        fill_redis(&sides->redis);
}

static void round_of(struct sides *sides, bool peers)
{
    struct share share;
    uint64_t bytes = 0;
    double rows = read_rows(sides->kv, sides->conv);
    share_begin(&share, sides->gateway.pid);
    double ours = read_http(&sides->gateway, sides->conv, sides->token.p, &bytes);
    double s = share_end(&share);
    series_add(&sides->client, share.client);
    series_add(&sides->server, share.server);
    rounds_add(&sides->rows, ours, rows);
    if (peers) {
        double redis = peer_read_xrange(&sides->redis.load);
        rounds_add(&sides->pages, ours, redis);
        bench_say("range: %.0f records/s; XRANGE %.0f", ours, redis);
    }
    bench_say("range: %.0f records/s, %.0f MB/s; iterator %.0f", ours, (double)bytes / s / 1e6,
              rows);
}

static void print(struct sides *sides, struct rounds *rounds, const char *bench, const char *ref,
                  double must)
{
    struct result result = {.bench = bench, .unit = "records/s", .ref_name = ref, .must = must};
    rounds_end(rounds, &result);
    result_add(&result, "client_cpu", series_median(&sides->client));
    result_add(&result, "server_cpu", series_median(&sides->server));
    result_add(&result, "server_us", series_median(&sides->server) / result.value * 1e6);
    result_print(&result);
}

int main(int argc, char **argv)
{
    static struct sides sides;
    struct bench_options options = bench_options(argc, argv, 20);
    open_sides(&sides, options.peers);
    uint64_t bytes = 0;
    print_memory(&sides.gateway, sides.conv, sides.token.p);
    read_http(&sides.gateway, sides.conv, sides.token.p, &bytes); /* warm */
    read_rows(sides.kv, sides.conv);
    double until = now_s() + options.secs;
    for (int i = 0; i < ROUNDS_MAX && (i == 0 || now_s() < until); i++)
        round_of(&sides, options.peers);
    if (options.peers)
        print(&sides, &sides.pages, "range-redis", "Redis, XRANGE in pages of 1,000", 0);
    print(&sides, &sides.rows, "range", "a bare RocksDB iterator over the same rows", 0.4);
    if (options.peers) {
        peer_load_close(&sides.redis.load);
        peer_stop(&sides.redis.peer);
    }
    kv_close(sides.kv);
    gateway_drop(&sides.gateway);
    buf_close(&sides.token);
    series_close(&sides.client);
    series_close(&sides.server);
    return 0;
}
