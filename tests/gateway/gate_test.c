/* One loop with real connections, and a node whose every word the test says: orders of events that
 * a real one shows only now and then. */
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

static void take_write(const uint8_t *bytes, size_t n)
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

static void node_on_message(struct link *link, int type, struct span body)
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

static void node_on_close(struct link *link, int err)
{
    ended += link == &node && err == ERR_CLOSED;
}

static const struct link_ops NODE = {.on_message = node_on_message, .on_close = node_on_close};

static void turn(void)
{
    for (int i = 0; i < 12; i++)
        uv_run(&gate->loop, UV_RUN_NOWAIT);
}

static void asked_drop(size_t i)
{
    loquat__read__free_unpacked(asked[i].read, NULL); /* NULL is fine */
    loquat__sub__free_unpacked(asked[i].sub, NULL);
    asked_count--;
    memmove(&asked[i], &asked[i + 1], (asked_count - i) * sizeof *asked);
}

/* The oldest of this kind that is not answered. */
static size_t find(int type, uint32_t op)
{
    turn();
    for (size_t i = 0; i < asked_count; i++)
        if (asked[i].type == type && (asked[i].read == NULL || asked[i].read->op == op))
            return i;
    return SIZE_MAX;
}

static size_t want(int type, uint32_t op)
{
    size_t i = find(type, op);
    cr_assert(ne(sz, i, SIZE_MAX), "the node was not asked for this (%d, %u)", type, op);
    return i;
}

static void say(int type, const ProtobufCMessage *message)
{
    char *room = link_send_begin(&node, type, protobuf_c_message_get_packed_size(message));
    protobuf_c_message_pack(message, (uint8_t *)room);
    turn();
}

static void reply_to(size_t i, Loquat__Reply *reply)
{
    reply->id = asked[i].read->id;
    say(LINK_REPLY, &reply->base);
    asked_drop(i);
}

/* The user's log is at `head` and names these conversations. */
static void give_ids(uint64_t head, size_t n, char **ids)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.head = head;
    reply.n_ids = n;
    reply.ids = ids;
    reply_to(want(LINK_READ, LOQUAT__READ_OP__READ_USER), &reply);
}

/* Answers about all that were asked for at once. */
static void give_convs(uint64_t head, uint64_t since)
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

static Loquat__Tail tail_of(const char *conv, bool user_log)
{
    Loquat__Tail tail = LOQUAT__TAIL__INIT;
    tail.conv = (char *)(uintptr_t)conv;
    tail.user_log = user_log;
    return tail;
}

/* Answers the oldest subscription. */
static void start_tail(const char *conv, bool user_log, uint64_t head, int err)
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

static void fill(Loquat__Item *item, struct buf *bytes, uint64_t seq, uint32_t kind,
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
static void give_records(const char *conv, uint64_t first, uint64_t last, bool page)
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

static void give_record(const char *conv, bool user_log, uint64_t seq, uint32_t kind,
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

static void ask(struct client *client, const char *line)
{
    struct buf frame = {0};
    wsraw_text(&frame, TEXT_FRAME, line);
    cr_assert(eq(int, (int)send(client->fd, frame.p, frame.n, 0), (int)frame.n));
    buf_close(&frame);
    turn();
}

/* What came since the last time, as text. */
static const char *heard(struct client *client)
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

static bool hears(struct client *client, const char *what)
{
    return strstr(heard(client), what) != NULL;
}

/* The sequences of the `rec` events that came. */
static void hears_records(struct client *client, const char *wanted)
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

static void come(struct client *client)
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

static void go(struct client *client)
{
    close(client->fd);
    buf_close(&client->in);
    turn();
}

/* In the middle of a sync with one conversation. */
static void ask_sync(struct client *client)
{
    char *ids[] = {"g-1"};
    come(client);
    ask(client, "{\"id\":2,\"op\":\"sync\",\"cur\":{}}");
    give_ids(5, 1, ids);
}

/* Live in it, everything up to `head` told. */
static void come_live(struct client *client, uint64_t head)
{
    ask_sync(client);
    give_convs(head, 1);
    start_tail("alice", true, 5, 0);
    start_tail("g-1", false, head, 0);
    cr_assert(hears(client, "{\"id\":2,\"ok\":"));
}

/* ---- around each test ---- */

static int give_fd(void *arg)
{
    (void)arg;
    return node_fd;
}

static void make_keys(void)
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

static void setup(void)
{
    char actual[LISTEN_ADDRESS_MAX], why[512];
    int fds[2], wrong;
    make_keys();
    limits_init(&settings.limits, 0, 1, 0);
    settings.frame_max = GATEWAY_FRAME_MAX_DEFAULT;
    settings.group_max = GATEWAY_GROUP_MAX_DEFAULT;
    settings.conns_max = 10;
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

/* The loop goes on in its own thread, and ends by itself. */
static void teardown(void)
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

TestSuite(gate, .init = setup, .fini = teardown);

/* Each sequence once, whatever overlaps: tails, pages, and what the cursor has already. */
Test(gate, each_sequence_once)
{
    struct client alice;
    come_live(&alice, 10);
    give_records("g-1", 11, 12, false);
    hears_records(&alice, "11 12");
    give_records("g-1", 12, 14, false); /* overlaps: read from the cursor on */
    hears_records(&alice, "");
    give_records("g-1", 13, 16, true);
    hears_records(&alice, "13 14 15 16");
    give_records("g-1", 15, 16, false); /* had already */
    give_records("g-1", 17, 17, false);
    hears_records(&alice, "17");
    go(&alice);
}

/* A page that comes after the client has said `resume` from elsewhere is nobody's. */
Test(gate, a_page_of_before_a_resume_is_dropped)
{
    struct client alice;
    come_live(&alice, 10);
    ask(&alice, "{\"id\":3,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":4}");
    ask(&alice, "{\"id\":4,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":7}");
    give_records("g-1", 5, 10, true);
    cr_assert(not(hears(&alice, "\"rec\"")));
    give_records("g-1", 8, 10, true);
    hears_records(&alice, "8 9 10");
    go(&alice);
}

/* A frame of the tail is for all; who goes back before its cursor gets what a read lets him see,
 * even when the tail itself has not come that far yet. */
Test(gate, who_goes_back_is_read_for)
{
    struct client alice;
    char *ids[] = {"g-1"};
    come_live(&alice, 10);
    struct client late; /* joined at 13, says it has 10; the tail is at 10 */
    come(&late);
    ask(&late, "{\"id\":2,\"op\":\"sync\",\"cur\":{\"g-1\":10}}");
    give_ids(5, 1, ids);
    give_convs(13, 13);
    size_t i = want(LINK_READ, LOQUAT__READ_OP__READ_RANGE);
    cr_assert(eq(u64, asked[i].read->from, 11));
    cr_assert(not(asked[i].read->all));
    give_records("g-1", 11, 13, false);
    hears_records(&alice, "11 12 13");
    cr_assert(not(hears(&late, "\"rec\"")));
    Loquat__Item items[2] = {LOQUAT__ITEM__INIT, LOQUAT__ITEM__INIT}, *pointers[] = {&items[0]};
    items[0].seq = 11;
    items[0].last = 13;
    items[0].hole = LOQUAT__HOLE__HOLE_HIDDEN;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.items = pointers;
    reply.n_items = 1;
    reply.head = 13;
    reply_to(i, &reply);
    cr_assert(hears(&late, "\"hole\":[11,13],\"why\":\"hidden\""));
    give_records("g-1", 14, 14, false);
    hears_records(&late, "14");
    go(&alice);
    go(&late);
}

/* What the own log told this loop while a sync was under way is not missed: it looks again. */
Test(gate, a_sync_that_is_overtaken_looks_again)
{
    struct client first, second;
    char *ids[] = {"g-1", "g-2"};
    come_live(&first, 10);
    ask_sync(&second);
    give_record("alice", true, 6, LOQUAT__KIND__KIND_JOINED, "{\"c\":\"g-2\"}");
    cr_assert(hears(&first, "{\"ev\":\"user\",\"s\":6"));
    give_convs(10, 1); /* of the second's sync, which knows of g-1 only */
    give_convs(10, 1); /* `joined` of the first */
    cr_assert(hears(&first, "{\"ev\":\"joined\",\"c\":\"g-2\""));
    start_tail("g-2", false, 10, 0);
    give_ids(6, 2, ids);
    give_convs(10, 1);
    cr_assert(hears(&second, "{\"id\":2,\"ok\":{\"u\":6,"));
    give_records("g-2", 11, 11, false);
    hears_records(&second, "11");
    go(&first);
    go(&second);
}

/* A tail that the node ends: `lag` with numbers, nothing more, and `resume` begins it again; but
 * without the own log a client has to come back. */
Test(gate, a_tail_that_failed_is_begun_again)
{
    struct client alice, next;
    come_live(&alice, 10);
    Loquat__Tail failed = tail_of("g-1", false);
    failed.err = ERR_CORRUPT;
    say(LINK_TAIL, &failed.base);
    cr_assert(hears(&alice, "{\"ev\":\"lag\",\"c\":\"g-1\",\"from\":11,\"head\":10}"));
    give_records("g-1", 11, 11, false);
    hears_records(&alice, "");
    ask(&alice, "{\"id\":3,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":11}");
    start_tail("g-1", false, 12, 0);
    give_records("g-1", 12, 12, true);
    give_records("g-1", 13, 13, false);
    hears_records(&alice, "12 13");
    ask_sync(&next);
    failed = tail_of("alice", true); /* nobody can read on by himself there */
    failed.err = ERR_BUSY;
    size_t size = loquat__tail__get_packed_size(&failed);
    loquat__tail__pack(&failed, (uint8_t *)link_send_begin(&node, LINK_TAIL, size));
    give_convs(13, 1); /* before the first client has been told to go */
    cr_assert(hears(&alice, "\x0f\xa0"
                            "come back")); /* 4000 */
    start_tail("alice", true, 5, 0);
    give_record("alice", true, 6, LOQUAT__KIND__KIND_LEFT, "{\"c\":\"g-2\"}");
    cr_assert(hears(&next, "{\"ev\":\"user\",\"s\":6"));
    go(&alice);
    go(&next);
}

/* Who is taken out is told `left` in place of the record, behind or not, and nothing after. */
Test(gate, who_is_removed_hears_nothing_more)
{
    struct client alice;
    come_live(&alice, 10);
    ask(&alice, "{\"id\":3,\"op\":\"resume\",\"c\":\"g-1\",\"cur\":8}"); /* behind: a read is due */
    size_t i = want(LINK_READ, LOQUAT__READ_OP__READ_RANGE);
    give_record("g-1", false, 11, LOQUAT__KIND__KIND_MEMBER,
                "{\"user\":\"alice\",\"set\":\"remove\"}");
    const char *text = heard(&alice);
    cr_assert(strstr(text, "\"left\",\"c\":\"g-1\"}") != NULL && strstr(text, "\"rec\"") == NULL);
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.head = 10;
    reply_to(i, &reply);
    give_records("g-1", 12, 13, false);
    give_record("alice", true, 6, LOQUAT__KIND__KIND_LEFT, "{\"c\":\"g-1\"}");
    text = heard(&alice); /* of the own log alone: `left` was said */
    cr_assert(zero(int, strstr(text, "\"rec\"") != NULL || strstr(text, "\"left\",\"c\"") != NULL));
    cr_assert(ne(sz, find(LINK_UNSUB, 0), SIZE_MAX));
    go(&alice);
}

/* Answers that come when their client has gone, and the end of the link with calls open. */
Test(gate, answers_for_those_who_have_gone)
{
    struct client alice;
    char *ids[] = {"g-1"};
    come(&alice);
    ask(&alice, "{\"id\":2,\"op\":\"sync\",\"cur\":{}}");
    ask(&alice, "{\"id\":3,\"op\":\"members\",\"c\":\"g-1\"}");
    go(&alice);
    cr_assert(zero(sz, gate->conn_count));
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply_to(want(LINK_READ, LOQUAT__READ_OP__READ_MEMBERS), &reply);
    give_ids(5, 1, ids);
    cr_assert(zero(u64, cluster_calls(&gate->cluster)));
    come(&alice);
    ask(&alice, "{\"id\":2,\"op\":\"members\",\"c\":\"g-1\"}");
    link_close(&node, ERR_CLOSED);
    cr_assert(hears(&alice, "{\"id\":2,\"err\":{\"code\":\"unavailable\""));
    go(&alice);
}

/* Marks without an id are gathered to the highest of each conversation, and written a second later
 * or when the client goes; with an id at once. */
Test(gate, marks_are_gathered)
{
    struct client alice;
    come_live(&alice, 10);
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":3}");
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":7,\"delivered\":8}");
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-2\",\"delivered\":2}");
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":5}");
    cr_assert(eq(str, written, (char *)""));
    for (int i = 0; i < 1000 && written[0] == 0; i++)
        uv_run(&gate->loop, UV_RUN_ONCE); /* its timer wakes it */
    turn();
    cr_assert(eq(str, written, (char *)"g-1 7 8;g-2 0 2;"));
    ask(&alice, "{\"op\":\"mark\",\"c\":\"g-1\",\"read\":9}");
    ask(&alice, "{\"id\":3,\"op\":\"mark\",\"c\":\"g-3\",\"read\":1}");
    cr_assert(hears(&alice, "{\"id\":3,\"ok\":{}}"));
    cr_assert(eq(str, written, (char *)"g-1 7 8;g-2 0 2;g-3 1 0;"));
    go(&alice);
    cr_assert(eq(str, written, (char *)"g-1 7 8;g-2 0 2;g-3 1 0;g-1 9 0;"));
}

static int closes_after(uint64_t exp_ms)
{
    struct client alice;
    come(&alice);
    session_expires(container_of(list_first(&gate->conns), struct conn, in_gate), exp_ms);
    uint64_t began_ms = uv_now(&gate->loop), ms = 0;
    while (!hears(&alice, "the token has expired") && ms < 2500) {
        uv_run(&gate->loop, UV_RUN_ONCE);
        ms = uv_now(&gate->loop) - began_ms;
    }
    go(&alice);
    return (int)ms;
}

/* A token's end closes with 4100 within a sweep: one that has come already, too. */
Test(gate, tokens_end)
{
    cr_assert(lt(int, closes_after(clock_wall_ms() - 20000), 1500));
    int ms = closes_after(clock_wall_ms() + 1300);
    cr_assert(ms >= 1200 && ms < 2500, "%d", ms);
    cr_assert(ge(int, closes_after(clock_wall_ms() + 512000), 2500)); /* a round later */
}
