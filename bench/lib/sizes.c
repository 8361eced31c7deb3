#include "bench/lib/sizes.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/bare.h"
#include "bench/lib/follower.h"

enum { PIPELINE = 64, ROUNDS = 5, ADDS_AT_ONCE = 1000, OPEN_MAX = 8000 };
static const size_t SIZE_OF[SIZES] = {10, 500, 100000};

static void keeper_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "keeper");
}

static void writer_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "writer");
}

/* Four letters, so that a request has room for very many. */
static void put_name(struct buf *text, size_t number)
{
    char name[5] = {0};
    for (int i = 3; i >= 0; i--, number /= 26)
        name[i] = (char)('a' + number % 26);
    buf_addf(text, "\"%s\"", name);
}

static void keeper_on_line(struct sock *sock, struct span line)
{
    if (LINE_BEGINS(line, "{\"id\":2,\"ok\""))
        *(uint64_t *)sock->data += 1;
    else if (LINE_BEGINS(line, "{\"id\":"))
        bench_fail("group: refused: %.*s", (int)line.n, line.p);
}

/* Keeper and writer are two of them; the others have names and no more. */
static void open_sized(struct sock *keeper, struct sized *group, size_t size)
{
    struct buf text = {0};
    char cid[32];
    uint64_t added = 0;
    size_t first = size - 2 < OPEN_MAX ? size - 2 : OPEN_MAX;
    for (int i = 0;; i++) {
        snprintf(cid, sizeof cid, "size%zu-%d", size, i);
        group_id(span_str("keeper"), span_str(cid), group->conv);
        if (partition_of(conv_id_of(span_str(group->conv)), PARTITIONS_DEFAULT) == 0)
            break;
    }
    buf_addf(&text,
             "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"size\",\"cid\":\"%s\","
             "\"members\":[\"writer\"",
             cid);
    for (size_t i = 0; i < first; i++) {
        buf_add_byte(&text, ',');
        put_name(&text, i);
    }
    buf_add(&text, "]}", 3);
    sock_do(keeper, text.p);
    keeper->data = &added;
    for (size_t i = first; i < size - 2; i++) {
        text.n = 0;
        buf_addf(&text,
                 "{\"id\":2,\"op\":\"member\",\"c\":\"%s\",\"cid\":\"add%zu\",\"set\":\"add\","
                 "\"user\":",
                 group->conv, i);
        put_name(&text, i);
        buf_add_byte(&text, '}');
        sock_send(keeper, buf_span(&text));
        net_flush(&keeper->net);
        size_t asked = i + 1 - first;
        if (asked % ADDS_AT_ONCE == 0 || i == size - 3)
            net_until(keeper->net.loop, &added, asked);
    }
    keeper->data = NULL;
    buf_close(&text);
}

static void fill(struct sizes *sizes)
{
    while (sizes->going && sizes->sent - sizes->answered < sizes->pipeline) {
        char text[BARE_TEXT], message[BARE_TEXT + 256];
        unsigned long long id = 10 + sizes->sent++;
        bench_text(id, text);
        sizes->asked_s[id % SIZES_RING] = now_s();
        int n = snprintf(message, sizeof message,
                         "{\"id\":%llu,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%016llx\","
                         "\"kind\":\"text\",\"body\":{\"text\":\"%.*s\"}}",
                         id, sizes->at->conv, id, BARE_TEXT, text);
        sock_send(&sizes->sock, span_of(message, (size_t)n));
    }
}

static void on_line(struct sock *sock, struct span line)
{
    struct sizes *sizes = container_of(sock, struct sizes, sock);
    if (LINE_BEGINS(line, "{\"ev\":\"rec\"")) {
        uint64_t s = line_number(line, "\"s\":"), *seen = &sizes->at->seen;
        if (*seen != 0 && s != *seen + 1)
            bench_fail("group: %llu came after %llu", (unsigned long long)s,
                       (unsigned long long)*seen);
        *seen = s;
        sizes->received++;
    } else if (LINE_BEGINS(line, "{\"id\":")) {
        uint64_t id = strtoull(line.p + 6, NULL, 10);
        const char *comma = memchr(line.p, ',', line.n);
        if (comma == NULL || memcmp(comma, ",\"ok\":", 6) != 0)
            bench_fail("group: refused: %.*s", (int)line.n, line.p);
        series_add(&sizes->ms, (now_s() - sizes->asked_s[id % SIZES_RING]) * 1000);
        sizes->answered++;
        fill(sizes);
    } else if (LINE_BEGINS(line, "{\"ev\":\"lag\"")) {
        bench_fail("group: the sender can't keep up");
    }
}

/* Answers a second; sizes->ms has the time of each. */
static double tell(struct sizes *sizes, struct sized *group, size_t pipeline, double secs)
{
    uint64_t first = sizes->answered;
    double begin = now_s();
    sizes->at = group;
    sizes->pipeline = pipeline;
    sizes->ms.n = 0;
    sizes->going = true;
    fill(sizes);
    net_flush(&sizes->sock.net);
    net_run(sizes->sock.net.loop, secs);
    sizes->going = false;
    net_until(sizes->sock.net.loop, &sizes->answered, sizes->sent);
    double rate = (double)(sizes->answered - first) / (now_s() - begin);
    net_until(sizes->sock.net.loop, &sizes->received, sizes->sent);
    return rate;
}

void sizes_open(struct sizes *sizes, const struct gateway *gateway, uv_loop_t *loop)
{
    struct sock keeper = {0};
    struct sock_plan plan = {.gateway = gateway,
                             .loop = loop,
                             .user = keeper_name,
                             .scope = "admin",
                             .on_line = keeper_on_line};
    sock_open(&keeper, 0, 1, &plan);
    for (size_t i = 0; i < SIZES; i++) {
        double at = now_s();
        open_sized(&keeper, &sizes->groups[i], SIZE_OF[i]);
        bench_say("group: %zu members after %.1f s", SIZE_OF[i], now_s() - at);
    }
    sock_close_all(&keeper, 1, loop);
    plan.user = writer_name;
    plan.scope = NULL;
    plan.more = "{\"id\":2,\"op\":\"sync\",\"cur\":{}}";
    plan.on_line = on_line;
    sock_open(&sizes->sock, 0, 1, &plan);
}

static void measure(struct sizes *sizes, double secs)
{
    double each_s = secs / ROUNDS / SIZES / 2;
    for (size_t i = 0; i < SIZES; i++)
        tell(sizes, &sizes->groups[i], PIPELINE, each_s / 2); /* warm */
    for (int round = 0; round < ROUNDS; round++) {
        double piped[SIZES];
        for (size_t turn = 0; turn < SIZES; turn++) { /* up, then down */
            size_t i = round % 2 == 0 ? turn : SIZES - 1 - turn;
            struct sized *group = &sizes->groups[i];
            series_add(&group->rate, tell(sizes, group, 1, each_s));
            series_add(&group->p50, series_at(&sizes->ms, 0.5));
            series_add(&group->p99, series_at(&sizes->ms, 0.99));
            piped[i] = tell(sizes, group, PIPELINE, each_s);
            series_add(&group->piped, piped[i]);
            series_add(&group->piped50, series_at(&sizes->ms, 0.5));
        }
        rounds_add(&sizes->ratios, piped[SIZES - 1], piped[0]);
        bench_say("group: %.0f, %.0f, %.0f messages/s to 10, 500, 100,000 members", piped[0],
                  piped[1], piped[2]);
    }
}

static void add_sized(struct result *result, const char *name, size_t size, struct series *series)
{
    char field[64];
    snprintf(field, sizeof field, "%s_%zu", name, size);
    result_add(result, field, series_median(series));
    series_close(series);
}

/* The ratio of the largest to the smallest. */
static double print(struct sizes *sizes)
{
    struct result result = {.bench = "group-size",
                            .unit = "messages/s",
                            .ref_name = "the same in a group of 10",
                            .must = 0.8};
    rounds_end(&sizes->ratios, &result);
    result_add(&result, "pipeline", PIPELINE);
    for (size_t i = 0; i < SIZES; i++) {
        struct sized *group = &sizes->groups[i];
        add_sized(&result, "rate", SIZE_OF[i], &group->piped);
        add_sized(&result, "p50_ms", SIZE_OF[i], &group->piped50);
        add_sized(&result, "one_by_one", SIZE_OF[i], &group->rate);
        add_sized(&result, "one_by_one_p50_ms", SIZE_OF[i], &group->p50);
        add_sized(&result, "one_by_one_p99_ms", SIZE_OF[i], &group->p99);
    }
    double ratio = result.ratio;
    result_print(&result);
    return ratio;
}

double sizes_run(struct sizes *sizes, double secs)
{
    measure(sizes, secs);
    sock_close_all(&sizes->sock, 1, sizes->sock.net.loop);
    series_close(&sizes->ms);
    return print(sizes);
}
