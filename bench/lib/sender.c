#include "bench/lib/sender.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/clock.h"

enum { STAMP_SIZE = 16 }; /* digits of the time in front of a text */

static void sender_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "sender%zu", number);
}

static void receiver_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "receiver%zu", number);
}

void senders_one(struct senders *senders, size_t number, uint64_t at_us)
{
    struct sender *sender = &senders->each[number];
    char text[BARE_TEXT], message[BARE_TEXT + 256], stamp[STAMP_SIZE + 8];
    bench_text(senders->sent, text);
    snprintf(stamp, sizeof stamp, "%0*llu", STAMP_SIZE, (unsigned long long)at_us);
    memcpy(text, stamp, STAMP_SIZE);
    unsigned long long id = ++senders->sent;
    int n =
        snprintf(message, sizeof message,
                 "{\"id\":%llu,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%016llx\",\"kind\":\"text\","
                 "\"body\":{\"text\":\"%.*s\"}}",
                 id, sender->conv, id, BARE_TEXT, text);
    sock_send(&sender->sock, span_of(message, (size_t)n));
    sender->unanswered++;
}

static void fill(struct sender *sender)
{
    struct senders *senders = sender->all;
    while (senders->going && sender->unanswered < senders->pipeline)
        senders_one(senders, (size_t)(sender - senders->each), clock_mono_us());
}

static void on_answer(struct sock *sock, struct span line)
{
    struct sender *sender = container_of(sock, struct sender, sock);
    if (!LINE_BEGINS(line, "{\"id\":"))
        return;
    const char *comma = memchr(line.p, ',', line.n);
    if (comma == NULL || memcmp(comma, ",\"ok\":", 6) != 0)
        bench_fail("refused: %.*s", (int)line.n, line.p);
    sender->all->answered++;
    if (sender->all->watching) {
        double now = now_s();
        if (now - sender->answered_s > sender->gap_s)
            sender->gap_s = now - sender->answered_s;
        sender->answered_s = now;
    }
    if (sender->all->receivers == NULL) {
        sender->unanswered--;
        fill(sender);
    }
}

static void on_event(struct sock *sock, struct span line)
{
    struct senders *senders = sock->data;
    if (!LINE_BEGINS(line, "{\"ev\":\"rec\"")) {
        if (LINE_BEGINS(line, "{\"ev\":\"lag\""))
            bench_fail("a receiver can't keep up");
        return;
    }
    static const char HEAD[] = "\"text\":\"";
    const char *at = memmem(line.p, line.n, HEAD, sizeof HEAD - 1);
    if (at == NULL)
        return; /* the conversation's first record */
    struct sender *sender = &senders->each[sock - senders->receivers];
    senders->received++;
    sender->unanswered--;
    fill(sender);
    net_flush(&sender->sock.net);
    if (senders->latency_ms != NULL) {
        char stamp[STAMP_SIZE + 1] = {0};
        memcpy(stamp, at + sizeof HEAD - 1, STAMP_SIZE);
        uint64_t us = clock_mono_us() - strtoull(stamp, NULL, 10);
        series_add(senders->latency_ms, (double)us / 1000);
    }
}

void senders_open(struct senders *senders, const struct gateway *gateway, uv_loop_t *loop,
                  size_t count, size_t pipeline)
{
    *senders = (struct senders){.loop = loop, .count = count, .pipeline = pipeline};
    senders->each = xcalloc(count, sizeof *senders->each);
    struct sock_plan plan = {
        .gateway = gateway, .loop = loop, .user = sender_name, .on_line = on_answer};
    for (size_t i = 0; i < count; i++) {
        struct sender *sender = &senders->each[i];
        char name[64], with[64], open[128];
        sender->all = senders;
        sock_open(&sender->sock, i, 1, &plan);
        sender_name(i, name, sizeof name);
        receiver_name(i, with, sizeof with);
        direct_id(span_str(name), span_str(with), sender->conv);
        snprintf(open, sizeof open,
                 "{\"id\":1,\"op\":\"open\",\"kind\":\"direct\",\"with\":\"%s\"}", with);
        sock_do(&sender->sock, open);
    }
}

void senders_receive(struct senders *senders, const struct gateway *gateway)
{
    struct sock_plan plan = {.gateway = gateway,
                             .loop = senders->loop,
                             .user = receiver_name,
                             .more = "{\"id\":2,\"op\":\"sync\",\"cur\":{}}",
                             .on_line = on_event};
    senders->receivers = xcalloc(senders->count, sizeof *senders->receivers);
    sock_open(senders->receivers, 0, senders->count, &plan);
    for (size_t i = 0; i < senders->count; i++)
        senders->receivers[i].data = senders;
    senders->received = senders->sent;
}

void senders_watch(struct senders *senders)
{
    senders->watching = true;
    for (size_t i = 0; i < senders->count; i++) {
        senders->each[i].answered_s = now_s();
        senders->each[i].gap_s = 0;
    }
}

void senders_wait(struct senders *senders)
{
    net_until(senders->loop, &senders->answered, senders->sent);
    if (senders->receivers != NULL)
        net_until(senders->loop, &senders->received, senders->sent);
}

double senders_run(struct senders *senders, double secs)
{
    uint64_t first = senders->answered;
    double begin = now_s();
    senders->going = true;
    for (size_t i = 0; i < senders->count; i++) {
        fill(&senders->each[i]);
        net_flush(&senders->each[i].sock.net);
    }
    net_run(senders->loop, secs);
    senders->going = false;
    senders_wait(senders);
    return (double)(senders->answered - first) / (now_s() - begin);
}

struct schedule {
    struct senders *senders;
    double interval_us, next_us; /* of the message due next */
    size_t turn;
};

static void on_tick(uv_timer_t *timer)
{
    struct schedule *schedule = timer->data;
    struct senders *senders = schedule->senders;
    uint64_t now = clock_mono_us();
    while (schedule->next_us <= (double)now) {
        senders_one(senders, schedule->turn, (uint64_t)schedule->next_us);
        schedule->turn = (schedule->turn + 1) % senders->count;
        schedule->next_us += schedule->interval_us;
    }
    for (size_t i = 0; i < senders->count; i++)
        net_flush(&senders->each[i].sock.net);
}

void senders_run_at(struct senders *senders, double rate, double secs)
{
    struct schedule schedule = {.senders = senders, .interval_us = 1e6 / rate};
    uv_timer_t timer = {.data = &schedule};
    uv_timer_init(senders->loop, &timer);
    schedule.next_us = (double)clock_mono_us();
    uv_timer_start(&timer, on_tick, 1, 1);
    net_run(senders->loop, secs);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(senders->loop, UV_RUN_NOWAIT); /* the timer is this function's */
    senders_wait(senders);
}

void senders_close(struct senders *senders, uv_loop_t *loop)
{
    for (size_t i = 0; i < senders->count; i++) {
        net_close(&senders->each[i].sock.net);
        if (senders->receivers != NULL)
            net_close(&senders->receivers[i].net);
    }
    net_settle(loop);
    free(senders->each);
    free(senders->receivers);
}
