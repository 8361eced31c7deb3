/* tests/gateway/gate_lib.h: one loop with real connections, and a node whose every word the test
 * says: orders of events that a real one shows only now and then. */
#ifndef LOQUAT_TESTS_GATE_LIB_H
#define LOQUAT_TESTS_GATE_LIB_H

#include "gateway/gate.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/conn.h"
#include "gateway/listen.h"
#include "gateway/session.h"
#include "gateway/turn.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "tests/lib/scratch.h"
#include "tests/lib/wsraw.h"

enum { TEXT_FRAME = 0x81, ASKED_MAX = 64 };

static struct settings settings;
static struct gate *gate;
static struct link node;
static struct buf token;
static char dir[SCRATCH_MAX];
static int node_fd, ended;

/* What the node was asked and has not answered, in order. */
static struct asked {
    int type;
    Loquat__Read *read;
    Loquat__Sub *sub;
} asked[ASKED_MAX];
static size_t asked_count;

struct client {
    int fd;
    struct buf in;
};

/* ---- the node ---- */

/* Writes are answered at once, and noted. */
static char written[1024];

static inline void take_write(const uint8_t *bytes, size_t n)
{
    Loquat__Write *write = loquat__write__unpack(NULL, n, bytes);
    Loquat__Command *command =
        loquat__command__unpack(NULL, write->command.len, write->command.data);
    size_t at = strlen(written);
    snprintf(written + at, sizeof written - at, "%s %llu %llu;", command->conv,
             (unsigned long long)command->read, (unsigned long long)command->delivered);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.id = write->id;
    char *room = link_send_begin(&node, LINK_REPLY, loquat__reply__get_packed_size(&reply));
    loquat__reply__pack(&reply, (uint8_t *)room);
    loquat__command__free_unpacked(command, NULL);
    loquat__write__free_unpacked(write, NULL);
}

static inline void node_on_message(struct link *link, int type, struct span body)
{
    (void)link;
    const uint8_t *bytes = (const uint8_t *)body.p;
    struct asked *to = &asked[asked_count];
    if (type == LINK_WRITE)
        take_write(bytes, body.n);
    if (type != LINK_READ && type != LINK_SUB && type != LINK_UNSUB)
        return;
    cr_assert(lt(sz, asked_count, ASKED_MAX));
    *to = (struct asked){.type = type};
    if (type == LINK_READ)
        to->read = loquat__read__unpack(NULL, body.n, bytes);
    else if (type == LINK_SUB)
        to->sub = loquat__sub__unpack(NULL, body.n, bytes);
    asked_count++;
}

static inline void node_on_close(struct link *link, int err)
{
    ended += link == &node && err == ERR_CLOSED;
}

static const struct link_ops NODE = {.on_message = node_on_message, .on_close = node_on_close};

static inline void turn(void)
{
    for (int i = 0; i < 12; i++)
        uv_run(&gate->loop, UV_RUN_NOWAIT);
}

static inline void asked_drop(size_t i)
{
    loquat__read__free_unpacked(asked[i].read, NULL); /* NULL is fine */
    loquat__sub__free_unpacked(asked[i].sub, NULL);
    asked_count--;
    memmove(&asked[i], &asked[i + 1], (asked_count - i) * sizeof *asked);
}

/* The oldest of this kind that is not answered. */
static inline size_t find(int type, uint32_t op)
{
    turn();
    for (size_t i = 0; i < asked_count; i++)
        if (asked[i].type == type && (asked[i].read == NULL || asked[i].read->op == op))
            return i;
    return SIZE_MAX;
}

static inline size_t want(int type, uint32_t op)
{
    size_t i = find(type, op);
    cr_assert(ne(sz, i, SIZE_MAX), "the node was not asked for this (%d, %u)", type, op);
    return i;
}

static inline void say(int type, const ProtobufCMessage *message)
{
    char *room = link_send_begin(&node, type, protobuf_c_message_get_packed_size(message));
    protobuf_c_message_pack(message, (uint8_t *)room);
    turn();
}

static inline void reply_to(size_t i, Loquat__Reply *reply)
{
    reply->id = asked[i].read->id;
    say(LINK_REPLY, &reply->base);
    asked_drop(i);
}

/* The user's log is at `head` and names these conversations. */
static inline void give_ids(uint64_t head, size_t n, char **ids)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.head = head;
    reply.n_ids = n;
    reply.ids = ids;
    reply_to(want(LINK_READ, LOQUAT__READ_OP__READ_USER), &reply);
}

/* Answers about all that were asked for at once. */
static inline void give_convs(uint64_t head, uint64_t since)
{
    size_t i = want(LINK_READ, LOQUAT__READ_OP__READ_CONVS);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    Loquat__ConvInfo infos[2], *pointers[] = {&infos[0], &infos[1]};
    reply.convs = pointers;
    for (; reply.n_convs < asked[i].read->n_convs; reply.n_convs++) {
        Loquat__ConvInfo *info = &infos[reply.n_convs];
        loquat__conv_info__init(info);
        info->conv = asked[i].read->convs[reply.n_convs];
        info->kind = LOQUAT__CONV_KIND__CONV_GROUP;
        info->role = LOQUAT__ROLE__ROLE_MEMBER;
        info->head = head;
        info->since = since;
    }
    reply_to(i, &reply);
}

static inline Loquat__Tail tail_of(const char *conv, bool user_log)
{
    Loquat__Tail tail = LOQUAT__TAIL__INIT;
    tail.conv = (char *)(uintptr_t)conv;
    tail.user_log = user_log;
    return tail;
}

/* Answers the oldest subscription. */
static inline void start_tail(const char *conv, bool user_log, uint64_t head, int err)
{
    size_t i = want(LINK_SUB, 0);
    cr_assert(eq(str, asked[i].sub->conv, (char *)(uintptr_t)conv));
    asked_drop(i);
    Loquat__Tail tail = tail_of(conv, user_log);
    tail.started = err == 0;
    tail.head = head;
    tail.err = err;
    say(LINK_TAIL, &tail.base);
}

static inline void fill(Loquat__Item *item, struct buf *bytes, uint64_t seq, uint32_t kind,
                        const char *body)
{
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = kind;
    record.from = (char *)(uintptr_t) "bob";
    record.body.data = (uint8_t *)(uintptr_t)body;
    record.body.len = strlen(body);
    record_encode(&record, bytes);
    loquat__item__init(item);
    item->seq = seq;
    item->record.data = (uint8_t *)bytes->p;
    item->record.len = bytes->n;
}

/* Records [first, last] of a conversation, as a tail or as the answer to a range read. */
static inline void give_records(const char *conv, uint64_t first, uint64_t last, bool page)
{
    Loquat__Item items[16], *pointers[16];
    struct buf bytes[16] = {0};
    size_t n = 0;
    for (uint64_t seq = first; seq <= last; seq++, n++) {
        fill(&items[n], &bytes[n], seq, LOQUAT__KIND__KIND_TEXT, "{\"text\":\"x\"}");
        pointers[n] = &items[n];
    }
    if (page) {
        Loquat__Reply reply = LOQUAT__REPLY__INIT;
        size_t i = want(LINK_READ, LOQUAT__READ_OP__READ_RANGE);
        cr_assert(eq(u64, asked[i].read->from, first));
        reply.items = pointers;
        reply.n_items = n;
        reply.head = last;
        reply_to(i, &reply);
    } else {
        Loquat__Tail tail = tail_of(conv, false);
        tail.items = pointers;
        tail.n_items = n;
        tail.head = last;
        say(LINK_TAIL, &tail.base);
    }
    for (size_t i = 0; i < n; i++)
        buf_close(&bytes[i]);
}

static inline void give_record(const char *conv, bool user_log, uint64_t seq, uint32_t kind,
                               const char *body)
{
    Loquat__Item item, *items[] = {&item};
    struct buf bytes = {0};
    Loquat__Tail tail = tail_of(conv, user_log);
    fill(&item, &bytes, seq, kind, body);
    tail.items = items;
    tail.n_items = 1;
    tail.head = seq;
    say(LINK_TAIL, &tail.base);
    buf_close(&bytes);
}

/* ---- clients ---- */

static inline void ask(struct client *client, const char *line)
{
    struct buf frame = {0};
    wsraw_text(&frame, TEXT_FRAME, line);
    cr_assert(eq(int, (int)send(client->fd, frame.p, frame.n, 0), (int)frame.n));
    buf_close(&frame);
    turn();
}

/* What came since the last time, as text. */
static inline const char *heard(struct client *client)
{
    turn();
    client->in.n = 0;
    for (;;) {
        char *room = buf_grow(&client->in, 65536);
        ssize_t n = recv(client->fd, room, 65535, MSG_DONTWAIT);
        client->in.n -= 65536 - (n > 0 ? (size_t)n : 0);
        if (n <= 0)
            break;
    }
    for (size_t i = 0; i < client->in.n; i++)
        if (client->in.p[i] == 0)
            client->in.p[i] = ' '; /* of the heads of frames */
    buf_add_byte(&client->in, 0);
    return client->in.p;
}

static inline bool hears(struct client *client, const char *what)
{
    return strstr(heard(client), what) != NULL;
}

/* The sequences of the `rec` events that came. */
static inline void hears_records(struct client *client, const char *wanted)
{
    char got[256] = "";
    size_t n = 0;
    for (const char *at = heard(client); (at = strstr(at, "{\"ev\":\"rec\"")) != NULL; at++) {
        const char *s = strstr(at, "\"s\":");
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%ld", n > 0 ? " " : "",
                              strtol(s + 4, NULL, 10));
    }
    cr_assert(eq(str, got, (char *)(uintptr_t)wanted));
}

static inline void come(struct client *client)
{
    static const char UPGRADE[] =
        "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    char line[1024];
    int fds[2];
    cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)));
    *client = (struct client){.fd = fds[1]};
    conn_open(gate, fds[0], false);
    cr_assert(lt(int, 0, (int)send(client->fd, UPGRADE, sizeof UPGRADE - 1, 0)));
    turn();
    snprintf(line, sizeof line, "{\"id\":1,\"op\":\"auth\",\"token\":\"%.*s\"}", (int)token.n,
             token.p);
    ask(client, line);
    cr_assert(hears(client, "\"user\":\"alice\""));
}

static inline void go(struct client *client)
{
    close(client->fd);
    buf_close(&client->in);
    turn();
}

/* In the middle of a sync with one conversation. */
static inline void ask_sync(struct client *client)
{
    char *ids[] = {"g-1"};
    come(client);
    ask(client, "{\"id\":2,\"op\":\"sync\",\"cur\":{}}");
    give_ids(5, 1, ids);
}

/* Live in it, everything up to `head` told. */
static inline void come_live(struct client *client, uint64_t head)
{
    ask_sync(client);
    give_convs(head, 1);
    start_tail("alice", true, 5, 0);
    start_tail("g-1", false, head, 0);
    cr_assert(hears(client, "{\"id\":2,\"ok\":"));
}

/* ---- around each test ---- */

static inline int give_fd(void *arg)
{
    (void)arg;
    return node_fd;
}

static inline void make_keys(void)
{
    char path[SCRATCH_MAX + 16], why[512];
    scratch_make(dir);
    snprintf(path, sizeof path, "%s/secret", dir);
    scratch_write(dir, "secret", "0123456789abcdef0123456789abcdef");
    cr_assert(zero(int, chmod(path, 0600)));
    settings.auth = auth_new(path, NULL, why, sizeof why);
    struct jwt_keys *keys = jwt_keys_load_secret(path, why, sizeof why);
    cr_assert(zero(int, jwt_sign(keys, "alice", "", clock_wall_ms(), 600, &token)));
    jwt_keys_free(keys);
    scratch_remove(dir);
}

static inline void begin(bool io_uring)
{
    char actual[LISTEN_ADDRESS_MAX], why[512];
    int fds[2], wrong;
    make_keys();
    limits_init(&settings.limits, 0, 1, 0);
    settings.frame_max = GATEWAY_FRAME_MAX_DEFAULT;
    settings.group_max = GATEWAY_GROUP_MAX_DEFAULT;
    settings.conns_max = 10;
    settings.io_uring = io_uring;
    cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)));
    node_fd = fds[0];
    settings.connect = give_fd;
    gate = gate_new(&settings, 0, listen_on("127.0.0.1:0", 0, actual, why, sizeof why, &wrong), -1);
    cr_assert(zero(int, link_open_fd(&node, &gate->loop, fds[1], &NODE)));
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = 1;
    hello.partitions = 1;
    say(LINK_HELLO, &hello.base);
    cr_assert(gate_ready(gate));
}

static inline void setup(void)
{
    begin(true);
}

static inline void setup_alone(void)
{
    begin(false);
}

/* The loop goes on in its own thread, and ends by itself. */
static inline void teardown(void)
{
    gate_start(gate);
    gate_drain(gate);
    gate_join(gate);
    auth_free(settings.auth);
    limits_close(&settings.limits);
    buf_close(&token);
    while (asked_count > 0)
        asked_drop(0);
    cr_assert(eq(int, ended, 1));
}

#endif
