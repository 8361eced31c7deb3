/* bench/marks.c: 1,000 members of a group, all live at one gateway, say that they have read it
 * (`mark` without an id): all in the same moment, and spread over 2 s. How many entries of its
 * partition's raft log that took, for each 100 ms in which marks were stored; and how long until
 * `members` shows all of them. The worse of the two is the figure. Beside it: how many marks there
 * were, each of which would be an entry if none were gathered. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/follower.h"
#include "bench/lib/metrics.h"
#include "store/base/clock.h"

enum { MEMBERS = 1000, ROUNDS = 5, SPREAD_MS = 2000, SLICE_MS = 100, MOST = 1 };
enum { TICK_MS = 5, PAGE = 500, CALM = 2, REST_S_MAX = 30, SHOWN_S_MAX = 30 };
#define GAUGES_S 1.3 /* the gauges of a node are a second old at most */

/* What is known of the node inside at a moment. */
struct counts {
    double applied, stored; /* entries, of all partitions: gauges, up to a second old */
    double commands;        /* that were applied: a counter, of this moment */
};
struct bench {
    uv_loop_t *loop;
    struct gateway gateway;
    struct sock members[MEMBERS], keeper;
    uint64_t seen[MEMBERS]; /* the last sequence that has come */
    char conv[MADE_ID_SIZE + 1];
    uint64_t head, got; /* got: members that have the head */
    struct metrics metrics;
    struct counts counts;
    uint64_t looks; /* at the counts */
    double first_s; /* of this round: when the first mark was said */
    double last_commands;
    uint64_t slices;  /* of SLICE_MS since first_s in which marks were applied */
    int64_t slice;    /* the last of them; -1: none */
    uint64_t marked;  /* members that said so */
    size_t read;      /* members shown as read, of the pages so far */
    size_t last_read; /* of all pages, when they were last seen */
    bool asking, shown;
    double shown_s;
};

static void member_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "member%03zu", number);
}

static void keeper_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "keeper");
}

/* ---- what the server says of itself ---- */

static void on_metrics(struct metrics *metrics, struct span text)
{
    struct bench *bench = container_of(metrics, struct bench, metrics);
    struct counts counts = {.applied = metric_of(text, "\nloquat_raft_applied_index "),
                            .stored = metric_of(text, "\nloquat_raft_stored_index "),
                            .commands = metric_of(text, "\nloquat_commands_applied_total ")};
    if (counts.applied == 0)
        bench_fail("marks: /metrics has no index: %.*s", (int)text.n, text.p);
    int64_t slice = (int64_t)((now_s() - bench->first_s) * 1000) / SLICE_MS;
    if (counts.commands > bench->last_commands && slice != bench->slice) {
        bench->slice = slice;
        bench->slices++;
    }
    bench->last_commands = counts.commands;
    bench->counts = counts;
    bench->looks++;
}

static void look(struct bench *bench)
{
    uint64_t looks = bench->looks;
    metrics_ask(&bench->metrics);
    net_until(bench->loop, &bench->looks, looks + 1);
}

/* Until nothing has been stored or applied for more than twice as long as gauges are to be old: on
 * a busy machine they are taken later. */
static struct counts counts_at_rest(struct bench *bench)
{
    struct counts last = {0};
    int calm = 0;
    for (double until = now_s() + REST_S_MAX; calm < CALM; calm++) {
        if (now_s() > until)
            bench_fail("marks: the node does not come to rest");
        net_run(bench->loop, GAUGES_S);
        look(bench);
        const struct counts *now = &bench->counts;
        if (now->commands != last.commands || now->applied != last.applied ||
            now->stored != last.stored || now->stored != now->applied)
            calm = -1;
        last = *now;
    }
    return last;
}

/* ---- the members ---- */

static void member_on_line(struct sock *sock, struct span line)
{
    struct bench *bench = sock->data;
    if (LINE_BEGINS(line, "{\"ev\":\"rec\"")) {
        uint64_t s = line_number(line, "\"s\":"), *seen = &bench->seen[sock - bench->members];
        if (s != *seen + 1)
            bench_fail("marks: %llu came after %llu", (unsigned long long)s,
                       (unsigned long long)*seen);
        *seen = s;
        bench->got++;
    } else if (LINE_BEGINS(line, "{\"id\":") || LINE_BEGINS(line, "{\"ev\":\"lag\"")) {
        bench_fail("marks: %.*s", (int)line.n, line.p);
    }
}

static void say_mark(struct bench *bench, size_t member)
{
    struct sock *sock = &bench->members[member];
    char text[128];
    int n = snprintf(text, sizeof text, "{\"op\":\"mark\",\"c\":\"%s\",\"read\":%llu}", bench->conv,
                     (unsigned long long)bench->head);
    sock_send(sock, span_of(text, (size_t)n));
    net_flush(&sock->net);
}

/* ---- the keeper, who is no member: writes, and looks whose marks are shown ---- */

static void ask_members(struct bench *bench, struct span page)
{
    char text[256];
    int n = snprintf(text, sizeof text, "{\"id\":3,\"op\":\"members\",\"c\":\"%s\",\"limit\":%d",
                     bench->conv, PAGE);
    if (page.n > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, ",\"page\":%.*s", (int)page.n, page.p);
    else
        bench->read = 0;
    n += snprintf(text + n, sizeof text - (size_t)n, "}");
    bench->asking = true;
    sock_send(&bench->keeper, span_of(text, (size_t)n));
    net_flush(&bench->keeper.net);
}

static void take_members(struct bench *bench, struct span line)
{
    const char *end = line.p + line.n, *at = line_after(line, "\"read\":");
    for (; at != NULL; at = line_after(span_of(at, (size_t)(end - at)), "\"read\":"))
        bench->read += strtoull(at, NULL, 10) >= bench->head;
    const char *next = line_after(line, "\"next\":");
    if (next == NULL)
        bench_fail("marks: what is this: %.*s", (int)line.n, line.p);
    bench->asking = false;
    if (*next != 'n') { /* else null: these were the last */
        const char *stop = memchr(next, '}', (size_t)(end - next));
        ask_members(bench, span_of(next, stop != NULL ? (size_t)(stop - next) : 0));
        return;
    }
    bench->last_read = bench->read;
    bench->shown = bench->read == MEMBERS;
    bench->shown_s = now_s() - bench->first_s;
}

static void keeper_on_line(struct sock *sock, struct span line)
{
    struct bench *bench = sock->data;
    if (LINE_BEGINS(line, "{\"id\":3,\"ok\""))
        take_members(bench, line);
    else if (LINE_BEGINS(line, "{\"id\":2,\"ok\""))
        bench->head = line_number(line, "\"s\":");
    else if (LINE_BEGINS(line, "{\"id\":"))
        bench_fail("marks: refused: %.*s", (int)line.n, line.p);
}

/* A message that all have. */
static void say(struct bench *bench)
{
    char text[256];
    uint64_t before = bench->head, got = bench->got;
    int n = snprintf(text, sizeof text,
                     "{\"id\":2,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%016llx\",\"kind\":\"text\","
                     "\"body\":{\"text\":\"read this\"}}",
                     bench->conv, (unsigned long long)random_u64());
    sock_send(&bench->keeper, span_of(text, (size_t)n));
    net_flush(&bench->keeper.net);
    net_until(bench->loop, &bench->head, before + 1);
    net_until(bench->loop, &bench->got, got + MEMBERS);
}

/* ---- a round ---- */

struct round {
    double over_ms; /* the marks are said within this time */
    struct bench *bench;
};

static void on_tick(uv_timer_t *timer)
{
    struct round *round = timer->data;
    struct bench *bench = round->bench;
    double ms = (now_s() - bench->first_s) * 1000;
    while (bench->marked < MEMBERS && (double)bench->marked * round->over_ms / MEMBERS <= ms)
        say_mark(bench, bench->marked++);
    metrics_ask(&bench->metrics);
    if (!bench->asking && !bench->shown)
        ask_members(bench, span_of("", 0));
}

struct measured {
    struct series per_slice, entries, slices, shown_ms, server;
};

/* From `before` on, which is left as it is after it. */
static void run(struct bench *bench, double over_ms, struct counts *before, struct measured *to)
{
    struct round round = {.over_ms = over_ms, .bench = bench};
    uv_timer_t timer = {.data = &round};
    struct share share;
    say(bench);
    look(bench);
    bench->marked = bench->slices = 0;
    bench->slice = -1;
    bench->shown = false;
    bench->first_s = now_s();
    share_begin(&share, bench->gateway.pid);
    uv_timer_init(bench->loop, &timer);
    uv_timer_start(&timer, on_tick, 0, TICK_MS);
    while (!bench->shown && now_s() - bench->first_s < SHOWN_S_MAX)
        uv_run(bench->loop, UV_RUN_ONCE);
    share_end(&share);
    if (!bench->shown)
        bench_fail("marks: %zu of %d are shown after %d s", bench->last_read, MEMBERS, SHOWN_S_MAX);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(bench->loop, UV_RUN_NOWAIT); /* the timer is this function's */
    struct counts after = counts_at_rest(bench);
    /* the message was one command, and an entry */
    double entries = after.applied - before->applied - 1;
    double commands = after.commands - before->commands - 1;
    *before = after;
    if (entries < 1 || bench->slices < 1 || commands != MEMBERS)
        bench_fail("marks: %.0f entries, %.0f commands, in %llu slices", entries, commands,
                   (unsigned long long)bench->slices);
    series_add(&to->per_slice, entries / (double)bench->slices);
    series_add(&to->entries, entries);
    series_add(&to->slices, (double)bench->slices);
    series_add(&to->shown_ms, bench->shown_s * 1000);
    series_add(&to->server, share.server);
    bench_say("marks: over %.0f ms: %.0f entries of %.0f commands in %llu times %d ms, shown after "
              "%.0f ms",
              over_ms, entries, commands, (unsigned long long)bench->slices, SLICE_MS,
              bench->shown_s * 1000);
}

static void add_median(struct result *result, const char *name, struct series *series)
{
    result_add(result, name, series_median(series));
    series_close(series);
}

static struct result result_of(struct measured *of, const char *name, double over_ms)
{
    struct result result = {.bench = name,
                            .unit = "entries/100 ms",
                            .lower = true,
                            .value = series_median(&of->per_slice),
                            .ref = MEMBERS,
                            .ref_name = "marks",
                            .value_must = MOST};
    result_add(&result, "over_ms", over_ms);
    result_add(&result, "rounds", (double)of->per_slice.n);
    result_add(&result, "value_max", series_at(&of->per_slice, 1));
    add_median(&result, "entries", &of->entries);
    add_median(&result, "slices", &of->slices);
    add_median(&result, "shown_ms", &of->shown_ms);
    add_median(&result, "server_cpu", &of->server);
    series_close(&of->per_slice);
    return result;
}

static void print_worst(struct result *a, struct result *b)
{
    struct result last = a->value > b->value ? *a : *b;
    struct span more = buf_span(&last.more);
    last.bench = "marks";
    last.more = (struct buf){0};
    buf_add_span(&last.more, more);
    result_print(a);
    result_print(b);
    result_print(&last);
}

/* ---- */

static void start(struct bench *bench)
{
    static const char *const OPTIONS[] = {"--group-max", "1000", NULL};
    struct sock opener = {0};
    struct buf open = {0};
    bench->loop = uv_default_loop();
    gateway_prepare(&bench->gateway);
    gateway_start(&bench->gateway, OPTIONS);
    struct sock_plan plan = {.gateway = &bench->gateway,
                             .loop = bench->loop,
                             .user = member_name,
                             .on_line = member_on_line};
    sock_open(&opener, 0, 1, &plan);
    group_id(span_str("member000"), span_str("marks"), bench->conv);
    buf_add_str(&open, "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"marks\",\"cid\":"
                       "\"marks\",\"members\":[");
    for (int i = 1; i < MEMBERS; i++)
        buf_addf(&open, "%s\"member%03d\"", i > 1 ? "," : "", i);
    buf_add(&open, "]}", 3);
    sock_do(&opener, open.p);
    buf_close(&open);
    sock_close_all(&opener, 1, bench->loop);
    plan.more = "{\"id\":2,\"op\":\"sync\",\"cur\":{}}";
    sock_open(bench->members, 0, MEMBERS, &plan);
    for (size_t i = 0; i < MEMBERS; i++) {
        bench->members[i].data = bench;
        bench->seen[i] = 1; /* the conversation's first record */
    }
    plan = (struct sock_plan){.gateway = &bench->gateway,
                              .loop = bench->loop,
                              .user = keeper_name,
                              .scope = "admin",
                              .on_line = keeper_on_line};
    sock_open(&bench->keeper, 0, 1, &plan);
    bench->keeper.data = bench;
    bench->head = 1;
    metrics_open(&bench->metrics, &bench->gateway, bench->loop, on_metrics);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct measured once = {0}, spread = {0};
    bench_options(argc, argv, 0); /* it takes what it takes: 10 rounds of some 6 s */
    start(&bench);
    struct counts counts = counts_at_rest(&bench);
    for (int i = 0; i < ROUNDS; i++) {
        run(&bench, 0, &counts, &once);
        run(&bench, SPREAD_MS, &counts, &spread);
    }
    struct result a = result_of(&once, "marks-at-once", 0);
    struct result b = result_of(&spread, "marks-spread", SPREAD_MS);
    print_worst(&a, &b);
    net_settle(bench.loop); /* the last look */
    sock_close_all(bench.members, MEMBERS, bench.loop);
    sock_close_all(&bench.keeper, 1, bench.loop);
    gateway_drop(&bench.gateway);
    return 0;
}
