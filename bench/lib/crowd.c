#include "bench/lib/crowd.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "store/base/clock.h"

enum { SPREAD = 37, SPARE_FILES = 600, TICK_MS = 5, STAMP_SIZE = 16, OPENS_AT_ONCE = 32 };
enum { AGAIN_MS = 500 };
#define KEEPER "keeper"

static void user_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "user%05zu", number);
}

static void keeper_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "%s", KEEPER);
}

size_t crowd_fit(size_t wanted)
{
    struct rlimit limit;
    size_t fits = wanted;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted + SPARE_FILES)
        fits = limit.rlim_cur > 2 * SPARE_FILES ? limit.rlim_cur - SPARE_FILES : SPARE_FILES / 2;
    fits -= fits % CROWD_ROOM;
    if (fits != wanted)
        bench_say("%zu connections instead of %zu: descriptors allow no more, or whole tens", fits,
                  wanted);
    return fits;
}

/* ---- who is where ---- */

static size_t number_of(const struct crowd_client *client)
{
    const struct crowd *crowd = client->crowd;
    return (size_t)(client - crowd->clients) * crowd->parts + crowd->part;
}

static size_t halls(const struct crowd *crowd)
{
    return (crowd->all + CROWD_HALL - 1) / CROWD_HALL;
}

size_t crowd_room_of(const struct crowd *crowd, size_t number, size_t in)
{
    if (in == CROWD_LAYERS)
        return CROWD_LAYERS * crowd->blocks + number / CROWD_HALL;
    size_t block = number / CROWD_ROOM, place = number % CROWD_ROOM;
    return in * crowd->blocks + (block + in * SPREAD * place) % crowd->blocks;
}

static size_t member(const struct crowd *crowd, size_t room, size_t place)
{
    size_t layer = room / crowd->blocks, in_layer = room % crowd->blocks;
    if (layer >= CROWD_LAYERS)
        return (room - CROWD_LAYERS * crowd->blocks) * CROWD_HALL + place;
    size_t back = layer * SPREAD * place % crowd->blocks;
    return (in_layer + crowd->blocks - back) % crowd->blocks * CROWD_ROOM + place;
}

static void on_opened(struct sock *sock, struct span line)
{
    struct crowd *crowd = sock->data;
    static const char HEAD[] = "\"head\":";
    if (!LINE_BEGINS(line, "{\"id\":"))
        return;
    const char *at = memmem(line.p, line.n, HEAD, sizeof HEAD - 1);
    size_t room = strtoul(line.p + 6, NULL, 10) - 2;
    if (at == NULL || room >= crowd->rooms_count)
        bench_fail("refused: %.*s", (int)line.n, line.p);
    crowd->rooms[room].head = strtoull(at + sizeof HEAD - 1, NULL, 10);
    crowd->answered++;
}

static void open_room(struct crowd *crowd, size_t room)
{
    struct buf text = {0};
    char cid[32];
    snprintf(cid, sizeof cid, "room%zu", room);
    group_id(span_str(KEEPER), span_str(cid), crowd->rooms[room].id);
    buf_addf(&text,
             "{\"id\":%zu,\"op\":\"open\",\"kind\":\"group\",\"name\":\"room\",\"cid\":\"%s\","
             "\"members\":[",
             room + 2, cid);
    size_t size = room < CROWD_LAYERS * crowd->blocks ? CROWD_ROOM : CROWD_HALL;
    for (size_t place = 0; place < size && member(crowd, room, place) < crowd->all; place++) {
        char name[64];
        user_name(member(crowd, room, place), name, sizeof name);
        buf_addf(&text, "%s\"%s\"", place > 0 ? "," : "", name);
    }
    buf_add_str(&text, "]}");
    sock_send(&crowd->keeper, buf_span(&text));
    buf_close(&text);
    crowd->asked++;
}

static void open_rooms(struct crowd *crowd)
{
    struct sock_plan plan = {.gateway = crowd->gateway,
                             .loop = crowd->loop,
                             .user = keeper_name,
                             .scope = "admin",
                             .on_line = on_opened};
    sock_open(&crowd->keeper, 0, 1, &plan);
    crowd->keeper.data = crowd;
    for (size_t room = 0; room < crowd->rooms_count; room++) {
        open_room(crowd, room);
        net_flush(&crowd->keeper.net);
        if (room % OPENS_AT_ONCE == OPENS_AT_ONCE - 1 || room == crowd->rooms_count - 1)
            net_until(crowd->loop, &crowd->answered, crowd->asked);
    }
    sock_close_all(&crowd->keeper, 1, crowd->loop);
    crowd->asked = crowd->answered = 0;
}

/* ---- one client ---- */

static void leave(struct crowd_client *client, bool by_reset)
{
    struct crowd *crowd = client->crowd;
    if (!client->begun)
        return;
    if (client->live)
        crowd->live--;
    else
        crowd->opening--;
    client->begun = client->live = false;
    by_reset ? net_reset(&client->sock.net) : net_close(&client->sock.net);
}

/* Who could not come waits half a second to one, so that a server that is away is not hammered. */
static void on_end(struct net *net, const char *why)
{
    struct crowd_client *client = container_of(net, struct crowd_client, sock.net);
    struct crowd *crowd = client->crowd;
    if (client->live) {
        crowd->ended++;
    } else {
        crowd->failed++;
        snprintf(crowd->why, sizeof crowd->why, "%s", why);
        client->due_s = now_s() + AGAIN_MS * (1 + (double)(random_u64() % 1000) / 1000) / 1000;
    }
    leave(client, false);
}

static void send_sync(struct crowd_client *client)
{
    const struct crowd *crowd = client->crowd;
    char text[512];
    size_t number = number_of(client);
    int n = snprintf(text, sizeof text, "{\"id\":2,\"op\":\"sync\",\"cur\":{");
    for (size_t in = 0; in < CROWD_IN; in++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s\"%s\":%llu", in > 0 ? "," : "",
                      crowd->rooms[crowd_room_of(crowd, number, in)].id,
                      (unsigned long long)client->seen[in]);
    n += snprintf(text + n, sizeof text - (size_t)n, "}}");
    sock_send(&client->sock, span_of(text, (size_t)n));
}

static const char *after(struct span line, const char *name)
{
    const char *at = memmem(line.p, line.n, name, strlen(name));
    return at != NULL ? at + strlen(name) : NULL;
}

static void take_stamp(struct crowd *crowd, struct span line)
{
    const char *text = after(line, "\"text\":\"");
    if (crowd->latency_ms == NULL || text == NULL || line.p + line.n - text < STAMP_SIZE)
        return;
    char stamp[STAMP_SIZE + 1] = {0};
    memcpy(stamp, text, STAMP_SIZE);
    uint64_t us = clock_mono_us() - strtoull(stamp, NULL, 10);
    series_add(crowd->latency_ms, (double)us / 1000);
}

static void take_record(struct crowd_client *client, struct span line)
{
    struct crowd *crowd = client->crowd;
    const char *id = after(line, "\"c\":\""), *seq = after(line, "\"s\":");
    size_t number = number_of(client);
    if (id == NULL || seq == NULL || line.p + line.n - id < MADE_ID_SIZE)
        bench_fail("what is this: %.*s", (int)line.n, line.p);
    size_t in = 0;
    while (in < CROWD_IN &&
           memcmp(crowd->rooms[crowd_room_of(crowd, number, in)].id, id, MADE_ID_SIZE) != 0)
        in++;
    if (in == CROWD_IN)
        bench_fail("a record of a conversation of others: %.*s", (int)line.n, line.p);
    uint64_t s = strtoull(seq, NULL, 10), *seen = &client->seen[in];
    crowd->received++;
    if (s <= *seen) {
        crowd->twice++;
        return;
    }
    crowd->missed += s - *seen - 1;
    *seen = s;
    take_stamp(crowd, line);
}

/* What the server can't answer now is asked again when it says, or up to twice as late. */
static void take_error(struct crowd_client *client, struct span line)
{
    const char *error = after(line, "\"err\":"), *wait = after(line, "\"after_ms\":");
    struct crowd *crowd = client->crowd;
    crowd->refused++;
    if (error == NULL)
        bench_fail("what is this: %.*s", (int)line.n, line.p);
    int n = 0;
    for (const char *p = error; p < line.p + line.n && n < (int)sizeof crowd->why - 1; p++)
        if (*p != '"' && *p != '{' && *p != '}')
            crowd->why[n++] = *p;
    crowd->why[n] = '\0';
    if (crowd->may_refuse && wait != NULL && LINE_BEGINS(line, "{\"id\":3,")) {
        crowd->refused--;
        crowd->asked--;
        crowd->unsaid++;
        return;
    }
    if (wait == NULL || client->live || !LINE_BEGINS(line, "{\"id\":2,"))
        bench_fail("refused: %.*s", (int)line.n, line.p);
    double ms = strtod(wait, NULL);
    client->sync_s = now_s() + ms * (1 + (double)(random_u64() % 1000) / 1000) / 1000;
}

static void on_line(struct sock *sock, struct span line)
{
    struct crowd_client *client = container_of(sock, struct crowd_client, sock);
    struct crowd *crowd = client->crowd;
    if (LINE_BEGINS(line, "{\"ev\":\"rec\"")) {
        take_record(client, line);
    } else if (LINE_BEGINS(line, "{\"ev\":\"lag\"")) {
        crowd->lags++;
    } else if (LINE_BEGINS(line, "{\"id\":1,\"ok\"")) {
        send_sync(client);
    } else if (LINE_BEGINS(line, "{\"id\":2,\"ok\"")) {
        client->live = true;
        crowd->live++;
        crowd->opening--;
        series_add(&crowd->join_ms, (now_s() - client->begun_s) * 1000);
        net_flush(&sock->net);
    } else if (LINE_BEGINS(line, "{\"id\":3,\"ok\"")) {
        crowd->answered++;
    } else if (LINE_BEGINS(line, "{\"id\":")) {
        take_error(client, line);
    }
}

static void begin(struct crowd_client *client, double now)
{
    struct crowd *crowd = client->crowd;
    size_t number = number_of(client);
    struct sock_plan plan = {
        .gateway = crowd->gateway, .loop = crowd->loop, .user = user_name, .on_line = on_line};
    client->sock =
        (struct sock){.net = {.on_end = on_end, .from = 2 + (unsigned)(number % CROWD_SOURCES)}};
    client->begun = true;
    client->sync_s = 0;
    client->begun_s = now;
    crowd->opening++;
    sock_begin(&client->sock, &plan, number);
}

/* ---- all ---- */

static void on_tick(uv_timer_t *timer)
{
    struct crowd *crowd = timer->data;
    double now = now_s();
    for (size_t i = 0; i < crowd->count && crowd->coming; i++) {
        struct crowd_client *client = &crowd->clients[i];
        if (client->begun && client->sync_s > 0 && client->sync_s <= now) {
            client->sync_s = 0;
            send_sync(client);
            net_flush(&client->sock.net);
        }
        if (client->begun || client->due_s > now || !client->sock.net.closed)
            continue;
        if (crowd->opening_max != 0 && crowd->opening >= crowd->opening_max)
            return;
        begin(client, now);
    }
}

/* Its users are there, and its loop ticks. */
static void people(struct crowd *crowd)
{
    crowd->count = (crowd->all + crowd->parts - 1 - crowd->part) / crowd->parts;
    crowd->clients = xcalloc(crowd->count, sizeof *crowd->clients);
    for (size_t i = 0; i < crowd->count; i++) {
        struct crowd_client *client = &crowd->clients[i];
        client->crowd = crowd;
        client->sock.net.closed = true;
        for (size_t in = 0; in < CROWD_IN; in++)
            client->seen[in] = crowd->rooms[crowd_room_of(crowd, number_of(client), in)].head;
    }
    crowd->tick.data = crowd;
    uv_timer_init(crowd->loop, &crowd->tick);
    uv_timer_start(&crowd->tick, on_tick, TICK_MS, TICK_MS);
}

void crowd_open(struct crowd *crowd, struct gateway *gateway, uv_loop_t *loop, size_t count)
{
    *crowd = (struct crowd){.gateway = gateway, .loop = loop, .all = count, .parts = 1};
    crowd->blocks = count / CROWD_ROOM;
    crowd->rooms_count = CROWD_LAYERS * crowd->blocks + halls(crowd);
    crowd->rooms = xcalloc(crowd->rooms_count, sizeof *crowd->rooms);
    open_rooms(crowd);
    people(crowd);
}

void crowd_split(struct crowd *crowd, struct gateway *gateway, uv_loop_t *loop, size_t part,
                 size_t parts)
{
    free(crowd->clients);
    crowd->gateway = gateway;
    crowd->loop = loop;
    crowd->part = part;
    crowd->parts = parts;
    people(crowd);
}

void crowd_come(struct crowd *crowd, double jitter_s, size_t opening_max)
{
    double now = now_s();
    for (size_t i = 0; i < crowd->count; i++)
        crowd->clients[i].due_s = now + jitter_s * (double)(random_u64() % 100000) / 100000;
    crowd->opening_max = opening_max;
    crowd->join_ms.n = 0;
    crowd->coming = true;
}

void crowd_reset(struct crowd *crowd)
{
    crowd->coming = false;
    for (size_t i = 0; i < crowd->count; i++)
        leave(&crowd->clients[i], true);
    net_settle(crowd->loop);
}

bool crowd_all_live(struct crowd *crowd, double secs)
{
    for (double until = now_s() + secs; crowd->live < crowd->count && now_s() < until;)
        uv_run(crowd->loop, UV_RUN_ONCE); /* the tick ends each wait */
    return crowd->live == crowd->count;
}

void crowd_say(struct crowd *crowd, size_t i, size_t layer, uint64_t at_us)
{
    struct crowd_client *client = &crowd->clients[i];
    char text[512];
    if (!client->live)
        return;
    int n = snprintf(text, sizeof text,
                     "{\"id\":3,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%016llx\",\"kind\":\"text\","
                     "\"body\":{\"text\":\"%0*llu, what is said in a room of ten people\"}}",
                     crowd->rooms[crowd_room_of(crowd, number_of(client), layer)].id,
                     (unsigned long long)random_u64(), STAMP_SIZE, (unsigned long long)at_us);
    sock_send(&client->sock, span_of(text, (size_t)n));
    net_flush(&client->sock.net);
    crowd->asked++;
}

void crowd_close(struct crowd *crowd)
{
    crowd_reset(crowd);
    uv_close((uv_handle_t *)&crowd->tick, NULL);
    uv_run(crowd->loop, UV_RUN_NOWAIT); /* the timer is the crowd's */
    series_close(&crowd->join_ms);
    free(crowd->rooms);
    free(crowd->clients);
}
