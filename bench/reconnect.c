/* bench/reconnect.c: 10,000 clients, live in 20 conversations of 50 each, at one gateway beside
 * a node; no two of the 20 have the same people. A keeper at another gateway writes to two of
 * each client's all the while. Then all are gone at once, and back within 5 s (--secs), each at
 * a random time of its own, with a cursor for each conversation: first since the network cuts
 * them off, then since the gateway is restarted (goodbye, close, and it is started again on its
 * port; they come from when it listens). How long until the last is live again, that is
 * authenticated and answered to `sync`, beside those 5 s; what it costs the gateway and the
 * node; and each record must have come to each member exactly once. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/crowd.h"
#include "bench/lib/follower.h"
#include "store/base/clock.h"

enum { CLIENTS = 10000, EACH_IN = 20, ROOM = 50, HOT_LAYERS = 2 };
enum { RATE = 100, BACK_S = 5, CALM_S = 2, OPENS_AT_ONCE = 32, WRITE_TICK_MS = 5 };
enum { LIVE_S_MAX = 60, CATCH_UP_S_MAX = 10, GONE_S_MAX = 10, FIRST_ID = 10 };

struct room {
    char id[MADE_ID_SIZE + 1];
    uint64_t head; /* highest sequence that was answered */
};
struct bench {
    uv_loop_t *loop;
    struct node_server node;
    struct gateway gateway, other; /* other: the keeper's */
    struct followers clients;
    struct room *rooms;
    size_t blocks, rooms_count;
    struct sock keeper;
    uv_timer_t timer;
    double next_us;
    bool writing;
    uint64_t asked, answered;
};

static void client_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "user%05zu", number);
}

static void keeper_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "keeper");
}

/* Of each layer every client is in one room: place by place, clients of another block. */
static size_t room_of(const struct bench *bench, size_t client, size_t layer)
{
    size_t place = client / bench->blocks, block = client % bench->blocks;
    return layer * bench->blocks + (block + layer * place) % bench->blocks;
}

static size_t member_of(const struct bench *bench, size_t room, size_t place)
{
    size_t layer = room / bench->blocks, in_layer = room % bench->blocks;
    size_t back = layer * place % bench->blocks;
    return place * bench->blocks + (in_layer + bench->blocks - back) % bench->blocks;
}

/* ---- the keeper ---- */

static void keeper_on_line(struct sock *sock, struct span line)
{
    struct bench *bench = sock->data;
    if (!LINE_BEGINS(line, "{\"id\":"))
        return;
    size_t number = strtoul(line.p + 6, NULL, 10) - FIRST_ID;
    const char *comma = memchr(line.p, ',', line.n);
    if (number >= bench->rooms_count || comma == NULL || memcmp(comma, ",\"ok\":", 6) != 0)
        bench_fail("reconnect: refused: %.*s", (int)line.n, line.p);
    struct room *room = &bench->rooms[number];
    uint64_t s = line_number(line, bench->writing ? "\"s\":" : "\"head\":");
    if (s > room->head)
        room->head = s;
    bench->answered++;
}

static void open_room(struct bench *bench, size_t number)
{
    struct room *room = &bench->rooms[number];
    struct buf text = {0};
    char cid[32];
    snprintf(cid, sizeof cid, "room%zu", number);
    group_id(span_str("keeper"), span_str(cid), room->id);
    buf_addf(&text,
             "{\"id\":%zu,\"op\":\"open\",\"kind\":\"group\",\"name\":\"room\",\"cid\":\"%s\","
             "\"members\":[",
             FIRST_ID + number, cid);
    for (size_t place = 0; place < ROOM; place++) {
        char name[64];
        client_name(member_of(bench, number, place), name, sizeof name);
        buf_addf(&text, "%s\"%s\"", place > 0 ? "," : "", name);
    }
    buf_add_str(&text, "]}");
    sock_send(&bench->keeper, buf_span(&text));
    net_flush(&bench->keeper.net);
    buf_close(&text);
    bench->asked++;
}

static void open_rooms(struct bench *bench)
{
    double at = now_s();
    struct sock_plan plan = {.gateway = &bench->other,
                             .loop = bench->loop,
                             .user = keeper_name,
                             .scope = "admin",
                             .on_line = keeper_on_line};
    sock_open(&bench->keeper, 0, 1, &plan);
    bench->keeper.data = bench;
    for (size_t room = 0; room < bench->rooms_count; room++) {
        open_room(bench, room);
        if (room % OPENS_AT_ONCE == OPENS_AT_ONCE - 1 || room == bench->rooms_count - 1)
            net_until(bench->loop, &bench->answered, bench->asked);
    }
    bench_say("reconnect: %zu conversations after %.1f s", bench->rooms_count, now_s() - at);
    bench->asked = bench->answered = 0;
}

static void write_one(struct bench *bench)
{
    char text[256];
    size_t room = random_u64() % (HOT_LAYERS * bench->blocks);
    int n = snprintf(text, sizeof text,
                     "{\"id\":%zu,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%016llx\",\"kind\":"
                     "\"text\",\"body\":{\"text\":\"what was said while some were away\"}}",
                     FIRST_ID + room, bench->rooms[room].id, (unsigned long long)random_u64());
    sock_send(&bench->keeper, span_of(text, (size_t)n));
    bench->asked++;
}

static void on_write(uv_timer_t *timer)
{
    struct bench *bench = timer->data;
    for (uint64_t now = clock_mono_us(); bench->next_us <= (double)now;
         bench->next_us += 1e6 / RATE)
        write_one(bench);
    net_flush(&bench->keeper.net);
}

static void begin_writing(struct bench *bench)
{
    bench->writing = true;
    bench->next_us = (double)clock_mono_us();
    bench->timer.data = bench;
    uv_timer_init(bench->loop, &bench->timer);
    uv_timer_start(&bench->timer, on_write, WRITE_TICK_MS, WRITE_TICK_MS);
}

/* ---- the clients ---- */

static void open_clients(struct bench *bench, size_t count)
{
    struct followers *clients = &bench->clients;
    *clients = (struct followers){.gateway = &bench->gateway,
                                  .loop = bench->loop,
                                  .user = client_name,
                                  .page = 1000,
                                  .sources = CROWD_SOURCES,
                                  .data = bench};
    followers_open(clients, count);
    for (size_t i = 0; i < count; i++) {
        for (size_t layer = 0; layer < EACH_IN; layer++) {
            struct room *room = &bench->rooms[room_of(bench, i, layer)];
            follower_follow(&clients->each[i], room->id, room->head)->data = room;
        }
    }
}

/* How many do not hold all of their conversations. */
static size_t behind(const struct bench *bench)
{
    size_t n = 0;
    for (size_t i = 0; i < bench->clients.count; i++) {
        const struct follower *client = &bench->clients.each[i];
        bool late = false;
        for (size_t k = 0; k < client->count; k++)
            late |= client->logs[k].gone ||
                    client->logs[k].seen < ((struct room *)client->logs[k].data)->head;
        n += late;
    }
    return n;
}

/* Nothing is written any more; until everybody holds all. */
static void settle(struct bench *bench, const char *name)
{
    const struct followers *clients = &bench->clients;
    size_t late = clients->count;
    uv_timer_stop(&bench->timer);
    for (double until = now_s() + CATCH_UP_S_MAX; late > 0 && now_s() < until;) {
        net_run(bench->loop, 0.05);
        late = bench->answered < bench->asked ? clients->count : behind(bench);
    }
    if (late > 0 || clients->missed > 0 || clients->twice > 0 || clients->live < clients->count)
        bench_fail("%s: %zu do not hold all, %llu records missed, %llu came twice, %llu of %zu are "
                   "live, %llu of %llu messages answered",
                   name, late, (unsigned long long)clients->missed,
                   (unsigned long long)clients->twice, (unsigned long long)clients->live,
                   clients->count, (unsigned long long)bench->answered,
                   (unsigned long long)bench->asked);
}

/* ---- what ends them all at once; seconds until they may come back ---- */

typedef double blow_fn(struct bench *bench);

static double by_cut(struct bench *bench)
{
    double at = now_s();
    for (size_t i = 0; i < bench->clients.count; i++)
        follower_go(&bench->clients.each[i], true);
    net_settle(bench->loop);
    return now_s() - at;
}

/* The gateway says goodbye and closes; the clients answer that, as they should. */
static double by_restart(struct bench *bench)
{
    char listen[64];
    double at = now_s();
    snprintf(listen, sizeof listen, "127.0.0.1:%d", bench->gateway.port);
    kill(bench->gateway.pid, SIGTERM);
    for (double until = at + GONE_S_MAX; bench->clients.live > 0 && now_s() < until;)
        uv_run(bench->loop, UV_RUN_ONCE);
    if (bench->clients.live > 0)
        bench_fail("reconnect: the gateway does not let go of %llu clients",
                   (unsigned long long)bench->clients.live);
    proc_wait(bench->gateway.pid);
    gateway_start(&bench->gateway, (const char *[]){"--listen", listen, NULL});
    return now_s() - at;
}

static void all_come(struct bench *bench, double within_s)
{
    for (size_t i = 0; i < bench->clients.count; i++)
        follower_come(&bench->clients.each[i],
                      within_s * (double)(random_u64() % 1000000) / 1000000);
}

struct cost {
    double gateway_s, node_s, client_s;
    uint64_t in, out;
};

static struct cost cost_now(const struct bench *bench)
{
    struct cost cost = {.gateway_s = cpu_of_s(bench->gateway.pid),
                        .node_s = cpu_of_s(bench->node.pid),
                        .client_s = cpu_self_s()};
    net_bytes(&cost.in, &cost.out);
    return cost;
}

static void add_joins(const struct bench *bench, struct result *result)
{
    struct series ms = {0};
    for (size_t i = 0; i < bench->clients.count; i++) {
        const struct follower *client = &bench->clients.each[i];
        series_add(&ms, (client->live_s - client->due_s) * 1000);
    }
    result_add(result, "join_p50_ms", series_at(&ms, 0.5));
    result_add(result, "join_p99_ms", series_at(&ms, 0.99));
    result_add(result, "join_max_ms", series_at(&ms, 1));
    series_close(&ms);
}

static void add_costs(const struct bench *bench, struct result *result, struct cost before)
{
    struct cost after = cost_now(bench);
    double count = (double)bench->clients.count;
    result_add(result, "gateway_cpu_s", after.gateway_s - before.gateway_s);
    result_add(result, "node_cpu_s", after.node_s - before.node_s);
    result_add(result, "client_cpu_s", after.client_s - before.client_s);
    /* as the clients count them: what they got is what the server gave */
    result_add(result, "server_in_bytes_each", (double)(after.out - before.out) / count);
    result_add(result, "server_out_bytes_each", (double)(after.in - before.in) / count);
}

static struct result blow(struct bench *bench, const char *name, blow_fn *end_all, double within_s)
{
    struct followers *clients = &bench->clients;
    struct result result = {.bench = name,
                            .unit = "s",
                            .lower = true,
                            .ref = within_s,
                            .ref_name = "the time over which they come back"};
    begin_writing(bench);
    net_run(bench->loop, CALM_S);
    uint64_t received = clients->received, written = bench->answered;
    clients->stay_away = true;
    double gone_s = end_all(bench);
    clients->stay_away = false;
    clients->failed = clients->refused = clients->lags = 0;
    struct cost before = cost_now(bench);
    uint64_t came = clients->received;
    double at = now_s();
    all_come(bench, within_s);
    followers_all_live(clients, clients->count, LIVE_S_MAX);
    result.value = now_s() - at;
    result_add(&result, "clients", (double)clients->count);
    result_add(&result, "conversations_each", EACH_IN);
    result_add(&result, "gone_s", gone_s);
    add_joins(bench, &result);
    add_costs(bench, &result, before);
    result_add(&result, "records_meanwhile", (double)(clients->received - came));
    settle(bench, name);
    uv_close((uv_handle_t *)&bench->timer, NULL);
    uv_run(bench->loop, UV_RUN_NOWAIT);
    result_add(&result, "failed", (double)clients->failed);
    result_add(&result, "refused", (double)clients->refused);
    result_add(&result, "lags", (double)clients->lags);
    result_add(&result, "written", (double)(bench->answered - written));
    result_add(&result, "records", (double)(clients->received - received));
    result_add(&result, "missed", (double)clients->missed);
    result_add(&result, "twice", (double)clients->twice);
    if (clients->failed + clients->refused > 0)
        bench_say("%s: %llu failed, %llu refused; the last: %s", name,
                  (unsigned long long)clients->failed, (unsigned long long)clients->refused,
                  clients->why);
    return result;
}

static void start(struct bench *bench, size_t count)
{
    bench->loop = uv_default_loop();
    bench->blocks = count / ROOM;
    bench->rooms_count = EACH_IN * bench->blocks;
    bench->rooms = xcalloc(bench->rooms_count, sizeof *bench->rooms);
    node_begin(&bench->node);
    gateway_prepare(&bench->gateway);
    bench->gateway.node = &bench->node;
    gateway_start(&bench->gateway, NULL);
    gateway_join(&bench->other, &bench->gateway);
    gateway_start(&bench->other, NULL);
    open_rooms(bench);
    open_clients(bench, count);
    proc_rest(bench->node.pid);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct bench_options options = bench_options(argc, argv, BACK_S);
    size_t count = crowd_fit(options.conns != 0 ? options.conns : CLIENTS);
    start(&bench, count - count % ROOM);
    double at = now_s();
    all_come(&bench, 0);
    followers_all_live(&bench.clients, bench.clients.count, LIVE_S_MAX);
    bench_say("reconnect: %zu live after %.1f s", bench.clients.count, now_s() - at);
    bench.clients.opening_max = bench.clients.count; /* from now on they wait for nobody */
    struct result cut = blow(&bench, "reconnect-cut", by_cut, options.secs);
    result_print(&cut);
    struct result restart = blow(&bench, "reconnect", by_restart, options.secs);
    result_print(&restart);
    followers_close(&bench.clients);
    sock_close_all(&bench.keeper, 1, bench.loop);
    gateway_drop(&bench.other);
    gateway_drop(&bench.gateway);
    node_drop(&bench.node);
    free(bench.rooms);
    return 0;
}
