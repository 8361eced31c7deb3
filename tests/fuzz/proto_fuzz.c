/* What a client says, over the whole way of a frame: a gate with a real connection, and a node that
 * answers whatever it is asked, right or wrong, at once or late, as the second byte decides.
 * First byte: bit 0 the bytes are HTTP from the start, in which $T stands for a token; else an
 * authenticated WebSocket, whose bytes they are (bit 1) or whose lines (each a frame). Bit 2: the
 * client reads only at the end. Bit 3: it offers compression. Third byte: how the bytes are cut.
 * Afterwards nothing may be left: no call, topic, byte or hold. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/conn.h"
#include "gateway/listen.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/record.h"
#include "tests/lib/scratch.h"
#include "tests/lib/wsraw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTITIONS = 4, HEAD = 20, LATE_MAX = 256, TURNS_MAX = 20000, TEXT_FRAME = 0x81 };

static struct settings settings;
static struct gate *gate;
static struct link node;
static struct buf auth_frame, token, late[LATE_MAX], record_bytes[3];
static size_t late_count;
static uint32_t state;
static int node_fd;

static uint32_t roll(uint32_t sides)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 16) % sides;
}

/* ---- the node ---- */

static void answer(Loquat__Reply *reply)
{
    struct buf bytes = {0};
    loquat__reply__pack(reply, (uint8_t *)buf_grow(&bytes, loquat__reply__get_packed_size(reply)));
    if (late_count < LATE_MAX && roll(4) == 0) {
        late[late_count++] = bytes;
        return;
    }
    link_send(&node, LINK_REPLY, buf_span(&bytes));
    buf_close(&bytes);
}

static void answer_late(void)
{
    for (; late_count > 0; late_count--) {
        link_send(&node, LINK_REPLY, buf_span(&late[late_count - 1]));
        buf_close(&late[late_count - 1]);
    }
}

static void fill_item(Loquat__Item *item, uint64_t seq, bool user_log)
{
    loquat__item__init(item);
    item->seq = seq;
    if (!user_log && roll(8) == 0) {
        item->hole = 1 + roll(5);
        return;
    }
    const struct buf *bytes = &record_bytes[user_log ? 1 + roll(2) : 0];
    item->record.data = (uint8_t *)bytes->p;
    item->record.len = bytes->n;
    item->edited = roll(6) == 0 ? 1700000000000 : 0;
}

static void read_range(const Loquat__Read *read, Loquat__Reply *reply)
{
    enum { MOST = 6 };
    static Loquat__Item items[MOST];
    static Loquat__Item *pointers[MOST];
    uint64_t seq = read->from != 0 ? read->from : read->desc ? HEAD : 1;
    reply->head = HEAD;
    reply->floor = 1;
    reply->items = pointers;
    if (seq > HEAD && read->desc)
        seq = HEAD;
    while (seq >= 1 && seq <= HEAD && reply->n_items < MOST && reply->n_items < read->max) {
        fill_item(&items[reply->n_items], seq, false);
        pointers[reply->n_items] = &items[reply->n_items];
        reply->n_items++;
        seq = read->desc ? seq - 1 : seq + 1;
    }
    reply->next = seq <= HEAD ? seq : 0;
}

static void read_convs(const Loquat__Read *read, Loquat__Reply *reply)
{
    static Loquat__ConvInfo infos[64];
    static Loquat__ConvInfo *pointers[64];
    static Loquat__Item last;
    ASSERT(read->n_convs <= 64);
    for (size_t i = 0; i < read->n_convs; i++) {
        Loquat__ConvInfo *info = pointers[i] = &infos[i];
        loquat__conv_info__init(info);
        info->conv = read->convs[i];
        info->kind = 1 + roll(2);
        info->role = LOQUAT__ROLE__ROLE_MEMBER;
        info->err = roll(8) == 0 ? ERR_NOT_FOUND : 0;
        info->head = HEAD;
        info->since = roll(2) * 5;
        fill_item(&last, HEAD, false);
        info->last = last.hole == 0 ? &last : NULL;
    }
    reply->convs = pointers;
    reply->n_convs = read->n_convs;
}

static void read_user(const Loquat__Read *read, Loquat__Reply *reply)
{
    static char *ids[] = {"g-a", "g-b", "g-c", "g-d", "g-e"};
    size_t first = 0;
    while (first < 5 && strcmp(ids[first], read->after) <= 0)
        first++;
    size_t n = 5 - first < read->max ? 5 - first : read->max;
    reply->ids = ids + first;
    reply->n_ids = n;
    reply->head = roll(3);
    if (n > 0 && first + n < 5)
        reply->after = ids[first + n - 1];
}

static void on_read(const Loquat__Read *read)
{
    static const int ERRORS[] = {ERR_BUSY, ERR_NOT_FOUND, ERR_CORRUPT, ERR_NOT_LEADER};
    static Loquat__Member member = LOQUAT__MEMBER__INIT, *members[] = {&member};
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.id = read->id;
    ASSERT(read->partition < PARTITIONS && user_valid(span_str(read->user)));
    if (roll(10) == 0) {
        reply.err = ERRORS[roll(4)];
    } else if (read->op == LOQUAT__READ_OP__READ_RANGE) {
        ASSERT(conv_name_valid(span_str(read->conv)));
        read_range(read, &reply);
    } else if (read->op == LOQUAT__READ_OP__READ_CONVS) {
        read_convs(read, &reply);
    } else if (read->op == LOQUAT__READ_OP__READ_USER) {
        read_user(read, &reply);
    } else {
        member.user = "bob";
        reply.members = members;
        reply.n_members = 1;
    }
    answer(&reply);
}

static void on_write(const Loquat__Write *write)
{
    static const int ERRORS[] = {ERR_BUSY, ERR_FORBIDDEN, ERR_CONFLICT, ERR_NO_SPACE};
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    Loquat__Command *command =
        loquat__command__unpack(NULL, write->command.len, write->command.data);
    ASSERT(command != NULL && write->partition < PARTITIONS);
    ASSERT(conv_name_valid(span_str(command->conv)) && user_valid(span_str(command->user)));
    loquat__command__free_unpacked(command, NULL);
    reply.id = write->id;
    if (roll(6) == 0)
        reply.err = ERRORS[roll(4)];
    else
        reply.seq = reply.n = HEAD + 1;
    reply.mid = reply.seq << 22;
    answer(&reply);
}

static void send_tail(Loquat__Tail *tail)
{
    size_t size = loquat__tail__get_packed_size(tail);
    loquat__tail__pack(tail, (uint8_t *)link_send_begin(&node, LINK_TAIL, size));
}

static void on_sub(const Loquat__Sub *sub)
{
    Loquat__Tail tail = LOQUAT__TAIL__INIT;
    tail.conv = sub->conv;
    tail.user_log = sub->user_log;
    tail.partition = sub->partition;
    if (roll(8) == 0) {
        tail.err = ERR_BUSY;
        send_tail(&tail);
        return;
    }
    uint64_t head = sub->user_log ? sub->cursor : HEAD + roll(2);
    tail.started = true;
    tail.head = head;
    send_tail(&tail);
    tail.started = false;
    Loquat__Item items[8], *pointers[8];
    tail.items = pointers;
    tail.n_items = roll(8);
    for (size_t i = 0; i < tail.n_items; i++) {
        fill_item(&items[i], head + 1 + i, sub->user_log);
        pointers[i] = &items[i];
    }
    if (tail.n_items > 0)
        send_tail(&tail);
    Loquat__MarkEvent mark = LOQUAT__MARK_EVENT__INIT;
    mark.conv = sub->conv;
    mark.user = "bob";
    size_t size = loquat__mark_event__get_packed_size(&mark);
    loquat__mark_event__pack(&mark, (uint8_t *)link_send_begin(&node, LINK_MARK, size));
}

static void node_on_message(struct link *link, int type, struct span body)
{
    (void)link;
    const uint8_t *bytes = (const uint8_t *)body.p;
    if (type == LINK_READ) {
        Loquat__Read *read = loquat__read__unpack(NULL, body.n, bytes);
        on_read(read);
        loquat__read__free_unpacked(read, NULL);
    } else if (type == LINK_WRITE) {
        Loquat__Write *write = loquat__write__unpack(NULL, body.n, bytes);
        on_write(write);
        loquat__write__free_unpacked(write, NULL);
    } else if (type == LINK_SUB) {
        Loquat__Sub *sub = loquat__sub__unpack(NULL, body.n, bytes);
        on_sub(sub);
        loquat__sub__free_unpacked(sub, NULL);
    }
}

static void node_on_close(struct link *link, int err)
{
    (void)link;
    ASSERT(err == 0); /* it never ends */
}

static const struct link_ops NODE = {.on_message = node_on_message, .on_close = node_on_close};

/* ---- once ---- */

static void make_record(struct buf *out, uint32_t kind, const char *body)
{
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = kind;
    record.ts = 1700000000000;
    record.from = kind == LOQUAT__KIND__KIND_TEXT ? "alice" : "";
    record.cid = kind == LOQUAT__KIND__KIND_TEXT ? "c1" : "";
    record.body.data = (uint8_t *)(uintptr_t)body;
    record.body.len = strlen(body);
    record_encode(&record, out);
}

static int give_fd(void *arg)
{
    return *(int *)arg;
}

static void make_token(const char *dir)
{
    char path[SCRATCH_MAX + 16], why[512], line[512];
    snprintf(path, sizeof path, "%s/secret", dir);
    scratch_write(dir, "secret", "0123456789abcdef0123456789abcdef");
    int rv = chmod(path, 0600);
    ASSERT(rv == 0);
    settings.auth = auth_new(path, NULL, why, sizeof why);
    struct jwt_keys *keys = jwt_keys_load_secret(path, why, sizeof why);
    int err = jwt_sign(keys, "alice", "", clock_wall_ms(), 86400 * 300, &token);
    ASSERT(settings.auth != NULL && err == 0);
    snprintf(line, sizeof line, "{\"id\":1,\"op\":\"auth\",\"token\":\"%.*s\"}", (int)token.n,
             token.p);
    wsraw_text(&auth_frame, TEXT_FRAME, line);
    jwt_keys_free(keys);
}

static void setup(void)
{
    char dir[SCRATCH_MAX], actual[LISTEN_ADDRESS_MAX], why[512];
    int fds[2], wrong;
    log_setup("proto_fuzz", LOG_ERROR + 1, LOG_TEXT);
    gate_metrics();
    scratch_make(dir);
    make_token(dir);
    scratch_remove(dir);
    make_record(&record_bytes[0], LOQUAT__KIND__KIND_TEXT, "{\"text\":\"hi\"}");
    make_record(&record_bytes[1], LOQUAT__KIND__KIND_JOINED, "{\"c\":\"g-f\"}");
    make_record(&record_bytes[2], LOQUAT__KIND__KIND_LEFT, "{\"c\":\"g-b\"}");
    limits_init(&settings.limits, 0, 1, 1);
    settings.frame_max = GATEWAY_FRAME_MAX_DEFAULT;
    settings.group_max = GATEWAY_GROUP_MAX_DEFAULT;
    settings.conns_max = 10;
    settings.metrics_public = true;
    int rv = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds);
    ASSERT(rv == 0);
    node_fd = fds[0];
    settings.connect = give_fd;
    settings.connect_arg = &node_fd;
    int listener = listen_on("127.0.0.1:0", 0, actual, why, sizeof why, &wrong);
    ASSERT(listener >= 0);
    gate = gate_new(&settings, 0, listener, -1);
    rv = link_open_fd(&node, &gate->loop, fds[1], &NODE);
    ASSERT(rv == 0);
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = 1;
    hello.partitions = PARTITIONS;
    hello.node = "n";
    size_t size = loquat__hello__get_packed_size(&hello);
    loquat__hello__pack(&hello, (uint8_t *)link_send_begin(&node, LINK_HELLO, size));
    while (!gate_ready(gate))
        uv_run(&gate->loop, UV_RUN_NOWAIT);
}

/* ---- each input ---- */

static void turn(int fd, bool reads)
{
    static char heard[65536];
    for (int i = 0; i < 3; i++) {
        uv_run(&gate->loop, UV_RUN_NOWAIT);
        while (reads && recv(fd, heard, sizeof heard, MSG_DONTWAIT) > 0)
            ;
    }
}

static void talk(int fd, struct span bytes, uint8_t cut, bool reads)
{
    int stuck = 0;
    while (bytes.n > 0 && stuck < 3) {
        size_t most = cut == 0 ? bytes.n : 1 + roll(cut * 4u);
        ssize_t n = send(fd, bytes.p, most < bytes.n ? most : bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            bytes = span_of(bytes.p + n, bytes.n - (size_t)n);
        else
            stuck++; /* the other side has closed, or takes no more while it is not read */
        turn(fd, reads);
        if (roll(4) == 0)
            answer_late();
    }
}

static void lines_to_frames(struct span text, struct buf *out)
{
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        wsraw_frame(out, TEXT_FRAME, true, span_of(text.p, n));
        n += end != NULL;
        text = span_of(text.p + n, text.n - n);
    }
}

static void greet(struct buf *out, bool compresses)
{
    buf_add_str(out, "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                     "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    if (compresses)
        buf_add_str(out, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    buf_add_str(out, "\r\n");
    buf_add_span(out, buf_span(&auth_frame));
}

static void put_tokens(struct span text, struct buf *out)
{
    const char *at;
    while (text.n > 0 && (at = memmem(text.p, text.n, "$T", 2)) != NULL && out->n < 1 << 17) {
        size_t n = (size_t)(at - text.p);
        buf_add(out, text.p, n);
        buf_add_span(out, buf_span(&token));
        text = span_of(at + 2, text.n - n - 2);
    }
    buf_add_span(out, text);
}

static bool at_rest(void)
{
    return gate->conn_count == 0 && cluster_calls(&gate->cluster) == 0 && late_count == 0 &&
           gate->fanout.topics.count == 0 && gate->out_pool.bytes == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4 || size > 1 << 17)
        return 0;
    if (gate == NULL)
        setup();
    int fds[2];
    int rv = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds);
    ASSERT(rv == 0);
    struct span rest = span_of(data + 3, size - 3);
    struct buf bytes = {0};
    bool reads = (data[0] & 4) == 0;
    state = data[1];
    if ((data[0] & 1) == 0)
        greet(&bytes, (data[0] & 8) != 0);
    if ((data[0] & 3) == 0)
        lines_to_frames(rest, &bytes);
    else if (data[0] & 1)
        put_tokens(rest, &bytes);
    else
        buf_add_span(&bytes, rest);
    conn_open(gate, fds[0], false);
    talk(fds[1], buf_span(&bytes), data[2], reads);
    turn(fds[1], true);
    close(fds[1]);
    for (int i = 0; i < TURNS_MAX && !at_rest(); i++) {
        answer_late();
        uv_run(&gate->loop, UV_RUN_NOWAIT);
    }
    ASSERT(at_rest());
    ASSERT(settings.limits.held[limits_slot(&settings.limits, span_str("alice"))] == 0);
    buf_close(&bytes);
    return 0;
}
