/* bench/group.c: a full group. 500 members, all live, half of them at each of two gateways beside
 * one node (--nodes 3: a cluster); 50 messages a second, written by all of them in turn: from the
 * moment a message is due until the last member has it, p99. Beside it, in turn, a process that
 * writes such frames at the same rate to 500 sockets, one write a frame, in a bare loop.
 * And what a `send` costs by the size of the group: 10, 500 and 100,000 members, nobody of whom is
 * connected but the sender: answers a second, and the time of one. All three groups are in one
 * partition. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/bare.h"
#include "bench/lib/barefan.h"
#include "bench/lib/follower.h"
#include "bench/lib/halts.h"
#include "bench/lib/sizes.h"
#include "store/base/clock.h"

enum { GATEWAYS = 2, MEMBERS = 500, RATE = 50, ROUNDS = 5, LAST_MS_MOST = 20 };
enum { NUMBER_SIZE = 8, TURN = 61, ANSWERS_S_MAX = 10, WARM_S = 1 };

struct servers {
    struct node_server nodes[NODES_MAX];
    size_t count; /* of nodes */
    struct gateway gateways[GATEWAYS];
};

static void start_servers(struct servers *servers, size_t nodes)
{
    char partitions[16];
    servers->count = nodes != 0 ? nodes : 1;
    snprintf(partitions, sizeof partitions, "%d", PARTITIONS_DEFAULT);
    if (servers->count == 1)
        node_begin(servers->nodes);
    else
        nodes_begin(servers->nodes, servers->count, partitions);
    gateway_prepare(&servers->gateways[0]);
    servers->gateways[0].node = servers->nodes;
    for (size_t i = 0; i < GATEWAYS; i++) {
        if (i > 0)
            gateway_join(&servers->gateways[i], &servers->gateways[0]);
        gateway_start(&servers->gateways[i], NULL);
    }
}

static void drop_servers(struct servers *servers)
{
    for (size_t i = GATEWAYS; i > 0; i--)
        gateway_drop(&servers->gateways[i - 1]);
    if (servers->count == 1)
        node_drop(servers->nodes);
    else
        nodes_drop(servers->nodes, servers->count);
}

struct cpu {
    double at, client, gateways, nodes; /* seconds; from cpu_end on: shares of one core */
};

static struct cpu cpu_now(const struct servers *servers)
{
    struct cpu cpu = {.at = now_s(), .client = cpu_self_s()};
    for (size_t i = 0; i < GATEWAYS; i++)
        cpu.gateways += cpu_of_s(servers->gateways[i].pid);
    for (size_t i = 0; i < servers->count; i++)
        cpu.nodes += cpu_of_s(servers->nodes[i].pid);
    return cpu;
}

static struct cpu cpu_since(const struct servers *servers, struct cpu since)
{
    struct cpu cpu = cpu_now(servers);
    double s = cpu.at - since.at;
    return (struct cpu){.client = (cpu.client - since.client) / s,
                        .gateways = (cpu.gateways - since.gateways) / s,
                        .nodes = (cpu.nodes - since.nodes) / s};
}

/* ---- what is said at a rate, and who has it ---- */

struct message {
    uint64_t due_us;
    size_t got; /* members that have it */
};
/* One of the two that take turns. */
struct side {
    uv_loop_t *loop;
    void (*say)(struct side *side, size_t number);
    double next_us;
    struct message *messages; /* of this round */
    size_t count, cap;
    uint64_t delivered;
    struct series each_ms, last_ms;
};

static void took(struct side *side, size_t number)
{
    if (number >= side->count)
        bench_fail("group: message %zu of %zu came", number, side->count);
    struct message *message = &side->messages[number];
    double ms = (double)(clock_mono_us() - message->due_us) / 1000;
    side->delivered++;
    series_add(&side->each_ms, ms);
    if (++message->got == MEMBERS)
        series_add(&side->last_ms, ms);
}

static void on_due(uv_timer_t *timer)
{
    struct side *side = timer->data;
    for (uint64_t now = clock_mono_us(); side->next_us <= (double)now;
         side->next_us += 1e6 / RATE) {
        if (side->count == side->cap) {
            side->cap = side->cap * 2 + 64;
            side->messages = xrealloc(side->messages, side->cap * sizeof *side->messages);
        }
        side->messages[side->count] = (struct message){.due_us = (uint64_t)side->next_us};
        side->say(side, side->count++);
    }
}

/* RATE messages a second for `secs`, then until all have all. */
static void run(struct side *side, double secs)
{
    uv_timer_t timer = {.data = side};
    side->count = 0;
    side->delivered = 0;
    side->each_ms.n = side->last_ms.n = 0;
    side->next_us = (double)clock_mono_us();
    uv_timer_init(side->loop, &timer);
    uv_timer_start(&timer, on_due, 1, 1);
    net_run(side->loop, secs);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(side->loop, UV_RUN_NOWAIT); /* the timer is this function's */
    for (double until = now_s() + ANSWERS_S_MAX;
         side->delivered < side->count * MEMBERS && now_s() < until;)
        net_run(side->loop, 0.01);
}

static void side_close(struct side *side)
{
    free(side->messages);
    series_close(&side->each_ms);
    series_close(&side->last_ms);
}

/* ---- ours ---- */

struct ours {
    struct side side;
    struct sock members[MEMBERS];
    uint64_t seen[MEMBERS]; /* the last sequence of each */
    char conv[MADE_ID_SIZE + 1];
    uint64_t said, answered, missed, twice;
    uint64_t frame_bytes;
};

static void member_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "member%03zu", number);
}

static void take_record(struct ours *ours, size_t member, struct span line)
{
    const char *text = line_after(line, "\"text\":\"");
    uint64_t s = line_number(line, "\"s\":"), *seen = &ours->seen[member];
    char number[NUMBER_SIZE + 1] = {0};
    if (text == NULL || line.p + line.n - text < NUMBER_SIZE)
        bench_fail("group: what is this: %.*s", (int)line.n, line.p);
    if (s <= *seen) {
        ours->twice++;
        return;
    }
    ours->missed += s - *seen - 1;
    *seen = s;
    ours->frame_bytes = line.n;
    memcpy(number, text, NUMBER_SIZE);
    took(&ours->side, strtoul(number, NULL, 10));
}

static void member_on_line(struct sock *sock, struct span line)
{
    struct ours *ours = sock->data;
    if (LINE_BEGINS(line, "{\"ev\":\"rec\""))
        take_record(ours, (size_t)(sock - ours->members), line);
    else if (LINE_BEGINS(line, "{\"id\":3,\"ok\""))
        ours->answered++;
    else if (LINE_BEGINS(line, "{\"ev\":\"lag\"") || LINE_BEGINS(line, "{\"id\":"))
        bench_fail("group: %.*s", (int)line.n, line.p);
}

/* Message after message is another member's, of either gateway. */
static void say(struct side *side, size_t number)
{
    struct ours *ours = container_of(side, struct ours, side);
    struct sock *sock = &ours->members[ours->said++ * TURN % MEMBERS];
    char text[BARE_TEXT], message[BARE_TEXT + 256], stamp[24];
    bench_text(ours->said, text);
    snprintf(stamp, sizeof stamp, "%0*zu", NUMBER_SIZE, number);
    memcpy(text, stamp, NUMBER_SIZE);
    int n = snprintf(message, sizeof message,
                     "{\"id\":3,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%016llx\",\"kind\":\"text\","
                     "\"body\":{\"text\":\"%.*s\"}}",
                     ours->conv, (unsigned long long)random_u64(), BARE_TEXT, text);
    sock_send(sock, span_of(message, (size_t)n));
    net_flush(&sock->net);
}

static void ignore_line(struct sock *sock, struct span line)
{
    (void)sock;
    (void)line;
}

static void open_ours(struct ours *ours, struct servers *servers, uv_loop_t *loop)
{
    struct sock opener = {0};
    struct buf open = {0};
    struct sock_plan plan = {.gateway = &servers->gateways[0],
                             .loop = loop,
                             .user = member_name,
                             .on_line = ignore_line};
    ours->side = (struct side){.loop = loop, .say = say};
    sock_open(&opener, 0, 1, &plan);
    group_id(span_str("member000"), span_str("group"), ours->conv);
    buf_add_str(&open, "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"group\",\"cid\":"
                       "\"group\",\"members\":[");
    for (int i = 1; i < MEMBERS; i++)
        buf_addf(&open, "%s\"member%03d\"", i > 1 ? "," : "", i);
    buf_add(&open, "]}", 3);
    sock_do(&opener, open.p);
    buf_close(&open);
    sock_close_all(&opener, 1, loop);
    plan.on_line = member_on_line;
    plan.more = "{\"id\":2,\"op\":\"sync\",\"cur\":{}}";
    for (size_t i = 0; i < GATEWAYS; i++) {
        size_t first = i * MEMBERS / GATEWAYS, next = (i + 1) * MEMBERS / GATEWAYS;
        plan.gateway = &servers->gateways[i];
        sock_open(&ours->members[first], first, next - first, &plan);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        ours->members[i].data = ours;
        ours->seen[i] = 1; /* the conversation's first record */
    }
}

static void run_ours(struct ours *ours, double secs)
{
    struct side *side = &ours->side;
    uint64_t answered = ours->answered;
    run(side, secs);
    if (side->delivered != side->count * MEMBERS || ours->answered - answered != side->count ||
        side->last_ms.n != side->count || ours->missed > 0 || ours->twice > 0)
        bench_fail("group: %zu said, %llu answered, %llu of %zu deliveries, %llu missed, "
                   "%llu twice",
                   side->count, (unsigned long long)(ours->answered - answered),
                   (unsigned long long)side->delivered, side->count * MEMBERS,
                   (unsigned long long)ours->missed, (unsigned long long)ours->twice);
}

/* ---- the reference ---- */

struct theirs {
    struct side side;
    struct barefan fan;
    size_t got[MEMBERS]; /* of this round; frames of a socket come in order */
};
static struct theirs theirs;

static void fan_on_line(struct sock *sock, struct span line)
{
    (void)line;
    took(&theirs.side, theirs.got[sock - theirs.fan.receivers]++);
}

static void fan_say(struct side *side, size_t number)
{
    (void)side;
    (void)number;
    barefan_say(&theirs.fan, 1);
}

static void run_theirs(double secs)
{
    memset(theirs.got, 0, sizeof theirs.got);
    run(&theirs.side, secs);
    if (theirs.side.last_ms.n != theirs.side.count)
        bench_fail("group: the bare loop has not written all");
}

/* ---- */

struct measured {
    struct rounds rounds;
    struct series last50, each50, each99, last_max, bare50, client, gateways, nodes;
    struct halts_rounds halted;
};

static void round_of(struct measured *to, struct servers *servers, struct ours *ours, double secs)
{
    struct side *side = &ours->side;
    struct halts halts;
    run_theirs(secs / 3);
    struct cpu cpu = cpu_now(servers);
    halts_begin(&halts);
    run_ours(ours, secs);
    halts_end(&halts);
    cpu = cpu_since(servers, cpu);
    halts_rounds_add(&to->halted, &halts);
    rounds_add(&to->rounds, series_at(&side->last_ms, 0.99), series_at(&theirs.side.last_ms, 0.99));
    series_add(&to->last50, series_at(&side->last_ms, 0.5));
    series_add(&to->last_max, series_at(&side->last_ms, 1));
    series_add(&to->each50, series_at(&side->each_ms, 0.5));
    series_add(&to->each99, series_at(&side->each_ms, 0.99));
    series_add(&to->bare50, series_at(&theirs.side.last_ms, 0.5));
    series_add(&to->client, cpu.client);
    series_add(&to->gateways, cpu.gateways);
    series_add(&to->nodes, cpu.nodes);
    bench_say("group: the last of %d has it after p50 %.2f ms, p99 %.2f ms; bare p99 %.2f ms",
              MEMBERS, series_at(&side->last_ms, 0.5), series_at(&side->last_ms, 0.99),
              series_at(&theirs.side.last_ms, 0.99));
}

static void add_median(struct result *result, const char *name, struct series *series)
{
    result_add(result, name, series_median(series));
    series_close(series);
}

static void print(struct measured *of, const struct servers *servers, double size_ratio)
{
    struct result result = {.bench = "group",
                            .unit = "ms",
                            .lower = true,
                            .ref_name = "a bare loop of write() to 500 sockets, p99",
                            .value_must = LAST_MS_MOST};
    rounds_end(&of->rounds, &result);
    result_add(&result, "members", MEMBERS);
    result_add(&result, "gateways", GATEWAYS);
    result_add(&result, "nodes", (double)servers->count);
    result_add(&result, "rate", RATE);
    add_median(&result, "p50_ms", &of->last50);
    add_median(&result, "max_ms", &of->last_max);
    add_median(&result, "each_p50_ms", &of->each50);
    add_median(&result, "each_p99_ms", &of->each99);
    add_median(&result, "ref_p50_ms", &of->bare50);
    add_median(&result, "client_cpu", &of->client);
    add_median(&result, "gateways_cpu", &of->gateways);
    add_median(&result, "nodes_cpu", &of->nodes);
    result_add(&result, "size_ratio", size_ratio);
    halts_rounds_tell(&of->halted, &result);
    result_print(&result);
    halts_rounds_close(&of->halted);
}

int main(int argc, char **argv)
{
    static struct servers servers;
    static struct ours ours;
    static struct measured measured;
    static struct sizes sizes;
    struct bench_options options = bench_options(argc, argv, 60);
    uv_loop_t *loop = uv_default_loop();
    barefan_start(&theirs.fan, MEMBERS);
    theirs.side = (struct side){.loop = loop, .say = fan_say};
    start_servers(&servers, options.nodes);
    open_ours(&ours, &servers, loop);
    run_ours(&ours, WARM_S);
    barefan_open(&theirs.fan, loop, ours.frame_bytes, fan_on_line);
    run_theirs(WARM_S);
    for (int i = 0; i < ROUNDS; i++)
        round_of(&measured, &servers, &ours, options.secs / 2 / ROUNDS);
    sock_close_all(ours.members, MEMBERS, loop);
    barefan_close(&theirs.fan, loop);
    sizes_open(&sizes, &servers.gateways[0], loop);
    for (size_t i = 0; i < servers.count; i++)
        proc_rest(servers.nodes[i].pid);
    double size_ratio = sizes_run(&sizes, options.secs / 3);
    print(&measured, &servers, size_ratio);
    drop_servers(&servers);
    side_close(&ours.side);
    side_close(&theirs.side);
    return 0;
}
