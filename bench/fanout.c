/* bench/fanout.c: one sender, 1,000 receivers of one conversation on one gateway: deliveries a
 * second, message after message (each sent when all have the one before) and in bursts of 10.
 * Beside it a process that writes such frames to 1,000 sockets, one write a frame, in a bare
 * loop; its receivers are this same client. --tls: those of the gateway come by TLS. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/bare.h"
#include "bench/lib/barefan.h"
#include "store/base/ids.h"

enum { RECEIVERS = 1000, BURST = 10, ROUNDS = 5 };

static uint64_t received, frame_bytes; /* of one record, as the gateway frames it */

/* ---- ours ---- */

static void user_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "member%zu", number);
}

static void on_event(struct sock *sock, struct span line)
{
    (void)sock;
    if (LINE_BEGINS(line, "{\"ev\":\"rec\"")) {
        received++;
        frame_bytes = line.n;
    } else if (LINE_BEGINS(line, "{\"ev\":\"lag\"")) {
        bench_fail("a receiver can't keep up");
    }
}

static void on_answer(struct sock *sock, struct span line)
{
    (void)sock;
    if (memmem(line.p, line.n, "\"err\":", 6) != NULL)
        bench_fail("refused: %.*s", (int)line.n, line.p);
}

struct ours {
    struct gateway gateway;
    struct sock sender, *receivers;
    char conv[MADE_ID_SIZE + 1];
    uint64_t sent;
};

static void open_ours(struct ours *ours, uv_loop_t *loop, bool tls)
{
    struct buf open = {0};
    gateway_prepare(&ours->gateway);
    ours->gateway.tls = tls;
    gateway_start(&ours->gateway, (const char *[]){"--group-max", "2000", NULL});
    struct sock_plan plan = {
        .gateway = &ours->gateway, .loop = loop, .user = user_name, .on_line = on_answer};
    sock_open(&ours->sender, 0, 1, &plan);
    group_id(span_str("member0"), span_str("fanout"), ours->conv);
    buf_add_str(&open, "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"fanout\",\"cid\":"
                       "\"fanout\",\"members\":[");
    for (int i = 1; i <= RECEIVERS; i++)
        buf_addf(&open, "%s\"member%d\"", i > 1 ? "," : "", i);
    buf_add(&open, "]}", 3);
    sock_do(&ours->sender, open.p);
    buf_close(&open);
    plan.more = "{\"id\":2,\"op\":\"sync\",\"cur\":{}}";
    plan.on_line = on_event;
    ours->receivers = xcalloc(RECEIVERS, sizeof *ours->receivers);
    sock_open(ours->receivers, 1, RECEIVERS, &plan);
}

static double run_ours(struct ours *ours, uv_loop_t *loop, int burst, double secs)
{
    uint64_t first = received;
    double begin = now_s();
    do {
        for (int i = 0; i < burst; i++) {
            char text[BARE_TEXT], message[BARE_TEXT + 256];
            bench_text(ours->sent, text);
            unsigned long long id = ++ours->sent;
            int n = snprintf(message, sizeof message,
                             "{\"id\":%llu,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%016llx\","
                             "\"kind\":\"text\",\"body\":{\"text\":\"%.*s\"}}",
                             id, ours->conv, id, BARE_TEXT, text);
            sock_send(&ours->sender, span_of(message, (size_t)n));
        }
        net_flush(&ours->sender.net);
        net_until(loop, &received, received + (uint64_t)burst * RECEIVERS);
    } while (now_s() - begin < secs);
    return (double)(received - first) / (now_s() - begin);
}

/* ---- the reference ---- */

static double run_theirs(struct barefan *theirs, uv_loop_t *loop, int burst, double secs)
{
    uint64_t first = received;
    double begin = now_s();
    do {
        barefan_say(theirs, (uint8_t)burst);
        net_until(loop, &received, received + (uint64_t)burst * RECEIVERS);
    } while (now_s() - begin < secs);
    return (double)(received - first) / (now_s() - begin);
}

/* ---- */

static struct result measure(struct ours *ours, struct barefan *theirs, uv_loop_t *loop,
                             const char *bench, int burst, double secs)
{
    struct rounds rounds = {0};
    struct series client = {0}, server = {0};
    for (int i = 0; i < ROUNDS; i++) {
        struct share share;
        double bare = run_theirs(theirs, loop, burst, secs / (2 * ROUNDS));
        share_begin(&share, ours->gateway.pid);
        double rate = run_ours(ours, loop, burst, secs / (2 * ROUNDS));
        share_end(&share);
        rounds_add(&rounds, rate, bare);
        series_add(&client, share.client);
        series_add(&server, share.server);
        bench_say("%s: %.0f deliveries/s; bare %.0f", bench, rate, bare);
    }
    struct result result = {.bench = bench,
                            .unit = "deliveries/s",
                            .ref_name = "a bare loop of write() to 1,000 sockets",
                            .must = ours->gateway.tls ? 0
                                    : burst == 1      ? 0.7
                                                      : 0.5};
    rounds_end(&rounds, &result);
    result_add(&result, "burst", burst);
    result_add(&result, "tls", ours->gateway.tls);
    result_add(&result, "frame_bytes", (double)frame_bytes);
    result_add(&result, "client_cpu", series_median(&client));
    result_add(&result, "server_cpu", series_median(&server));
    result_add(&result, "server_us", series_median(&server) / result.value * 1e6);
    series_close(&client);
    series_close(&server);
    return result;
}

int main(int argc, char **argv)
{
    static struct ours ours;
    static struct barefan theirs;
    struct bench_options options = bench_options(argc, argv, 20);
    uv_loop_t *loop = uv_default_loop();
    barefan_start(&theirs, RECEIVERS);
    open_ours(&ours, loop, options.tls);
    run_ours(&ours, loop, 1, 0.5);
    barefan_open(&theirs, loop, frame_bytes, on_event);
    run_theirs(&theirs, loop, 1, 0.5);
    struct result single = measure(&ours, &theirs, loop, "fanout-1", 1, options.secs / 2);
    struct result burst = measure(&ours, &theirs, loop, "fanout-10", BURST, options.secs / 2);
    results_print_worst("fanout", &single, &burst);
    net_close(&ours.sender.net);
    sock_close_all(ours.receivers, RECEIVERS, loop);
    barefan_close(&theirs, loop);
    gateway_drop(&ours.gateway);
    free(ours.receivers);
    return 0;
}
