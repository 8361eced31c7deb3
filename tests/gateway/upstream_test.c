#include "gateway/upstream.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/wire.h"
#include "tests/lib/measured.h"

/* The far side is a link on the same loop; what it was asked stands in `asked`, in order. */
static uv_loop_t loop;
static struct upstream up;
static struct link node;
static struct { /* what came to the node */
    uint64_t ids[1000];
    size_t count, subs, unsubs;
    uint64_t credit;
} asked;
static struct { /* what came of it */
    int calls[1000];
    int errs[1000];
    uint64_t seqs[1000];
    size_t tails, marks, leads;
    int ready, closed;
} got;
static size_t owners[1000];

static void node_on_message(struct link *link, int type, struct span body)
{
    (void)link;
    const uint8_t *bytes = (const uint8_t *)body.p;
    if (type == LINK_WRITE) {
        Loquat__Write *write = loquat__write__unpack(NULL, body.n, bytes);
        Loquat__Command *command =
            loquat__command__unpack(NULL, write->command.len, write->command.data);
        cr_assert(ne(ptr, command, NULL));
        asked.ids[asked.count++] = write->id;
        loquat__command__free_unpacked(command, NULL);
        loquat__write__free_unpacked(write, NULL);
    } else if (type == LINK_READ) {
        Loquat__Read *read = loquat__read__unpack(NULL, body.n, bytes);
        asked.ids[asked.count++] = read->id;
        loquat__read__free_unpacked(read, NULL);
    } else if (type == LINK_CREDIT) {
        Loquat__Credit *credit = loquat__credit__unpack(NULL, body.n, bytes);
        asked.credit += credit->bytes;
        loquat__credit__free_unpacked(credit, NULL);
    }
    asked.subs += type == LINK_SUB;
    asked.unsubs += type == LINK_UNSUB;
}

static void node_on_close(struct link *link, int err)
{
    (void)link;
    (void)err;
}

static const struct link_ops NODE = {.on_message = node_on_message, .on_close = node_on_close};

static void up_on_tail(void *arg, const Loquat__Tail *tail)
{
    (void)arg;
    (void)tail;
    got.tails++;
}

static void up_on_mark(void *arg, const Loquat__MarkEvent *mark)
{
    (void)arg;
    (void)mark;
    got.marks++;
}

static void up_on_leads(void *arg, const Loquat__Leads *leads)
{
    (void)arg;
    got.leads = leads->n_partitions;
}

static void up_on_ready(void *arg)
{
    (void)arg;
    got.ready++;
}

static void up_on_closed(void *arg)
{
    (void)arg;
    got.closed++;
}

static const struct upstream_ops OPS = {.on_tail = up_on_tail,
                                        .on_mark = up_on_mark,
                                        .on_leads = up_on_leads,
                                        .on_ready = up_on_ready,
                                        .on_closed = up_on_closed};

static void on_done(void *owner, const Loquat__Reply *reply)
{
    size_t i = *(size_t *)owner;
    got.calls[i]++;
    got.errs[i] = reply->err;
    got.seqs[i] = reply->seq;
}

static void turn(void)
{
    for (int i = 0; i < 6; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void say(int type, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    char *room = link_send_begin(&node, type, size);
    protobuf_c_message_pack(message, (uint8_t *)room);
    turn();
}

static void open_link(void)
{
    int fds[2];
    cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)));
    cr_assert(zero(int, link_open_fd(&node, &loop, fds[1], &NODE)));
    cr_assert(zero(int, upstream_open(&up, &loop, (struct line){.fd = fds[0]})));
}

static void setup(void)
{
    cr_assert(zero(int, uv_loop_init(&loop)));
    upstream_init(&up, &OPS, NULL);
    open_link();
    for (size_t i = 0; i < 1000; i++)
        owners[i] = i;
    turn();
}

static void greet(void)
{
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = 1;
    hello.partitions = 16;
    hello.node = (char *)(uintptr_t) "n1";
    say(LINK_HELLO, &hello.base);
}

static void teardown(void)
{
    upstream_close(&up);
    link_close(&node, ERR_CLOSED);
    uv_run(&loop, UV_RUN_DEFAULT);
    upstream_free(&up);
    cr_assert(zero(int, uv_loop_close(&loop)));
}

TestSuite(upstream, .init = setup, .fini = teardown);

static int ask_write(size_t i)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.user = (char *)(uintptr_t) "anna";
    return upstream_write(&up, 1, &command, on_done, &owners[i]);
}

static int ask_read(size_t i, uint32_t op)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = op;
    return upstream_read(&up, &read, on_done, &owners[i]);
}

static void reply(uint64_t id, uint64_t seq)
{
    Loquat__Reply answer = LOQUAT__REPLY__INIT;
    answer.id = id;
    answer.seq = seq;
    say(LINK_REPLY, &answer.base);
}

/* Nothing is asked before the node has greeted; credit is given at once. */
Test(upstream, nothing_before_the_greeting)
{
    cr_assert(eq(int, ask_write(0), ERR_CLOSED));
    cr_assert(eq(int, ask_read(0, LOQUAT__READ_OP__READ_CONVS), ERR_CLOSED));
    cr_assert(eq(u64, asked.credit, UPSTREAM_CREDIT));
    greet();
    cr_assert(eq(int, got.ready, 1));
    cr_assert(eq(u32, up.partitions, 16));
    cr_assert(eq(str, up.node, (char *)"n1"));
    cr_assert(zero(int, ask_write(0)));
    cr_assert(zero(int, got.calls[0])); /* never from inside */
}

/* Answers find their requests in whatever order they come, each once. */
Test(upstream, answers_in_any_order)
{
    greet();
    for (size_t i = 0; i < 300; i++)
        cr_assert(zero(int, i % 2 == 0 ? ask_write(i) : ask_read(i, LOQUAT__READ_OP__READ_CONVS)));
    turn();
    cr_assert(eq(sz, asked.count, 300));
    for (size_t i = 0; i < 300; i++)
        reply(asked.ids[(i * 7) % 300], (i * 7) % 300 + 1);
    for (size_t i = 0; i < 300; i++) {
        cr_assert(eq(int, got.calls[i], 1));
        cr_assert(eq(u64, got.seqs[i], i + 1));
    }
    cr_assert(zero(u32, up.calls));
}

/* A slot is used again, its number never: the answer of an old request ends the link rather than
 * being taken for the new one's. */
Test(upstream, an_old_number_is_nobodys)
{
    greet();
    for (size_t i = 0; i < 100; i++) {
        cr_assert(zero(int, ask_write(i)));
        turn();
        for (size_t k = 0; k < i; k++)
            cr_assert(ne(u64, asked.ids[k], asked.ids[i]));
        reply(asked.ids[i], i);
    }
    cr_assert(eq(u32, up.slot_count, 1));
    cr_assert(zero(int, ask_write(100)));
    turn();
    reply(asked.ids[7], 7);
    turn();
    cr_assert(eq(int, got.calls[7], 1));
    cr_assert(eq(int, got.closed, 1));
    cr_assert(eq(int, got.calls[100], 1));
    cr_assert(eq(int, got.errs[100], ERR_CLOSED));
}

/* The end of the link answers everything that was asked, also what still waited for its turn. */
Test(upstream, the_end_answers_all)
{
    greet();
    for (size_t i = 0; i < 100; i++)
        cr_assert(zero(int, ask_read(i, i % 2 == 0 ? LOQUAT__READ_OP__READ_RANGE
                                                   : LOQUAT__READ_OP__READ_USER)));
    turn();
    link_close(&node, ERR_CLOSED);
    turn();
    cr_assert(eq(int, got.closed, 1));
    for (size_t i = 0; i < 100; i++) {
        cr_assert(eq(int, got.calls[i], 1));
        cr_assert(eq(int, got.errs[i], ERR_CLOSED));
    }
    cr_assert(eq(int, ask_write(0), ERR_CLOSED));
}

/* Pages that are read have a bound together; those above it go when there is room, in order. */
Test(upstream, pages_wait_for_their_turn)
{
    enum { ROOM = UPSTREAM_PAGES_MAX / UPSTREAM_PAGE_BYTES };
    greet();
    for (size_t i = 0; i < 3 * ROOM; i++)
        cr_assert(zero(int, ask_read(i, LOQUAT__READ_OP__READ_RANGE)));
    cr_assert(zero(int, ask_read(500, LOQUAT__READ_OP__READ_CONVS))); /* is no page */
    turn();
    cr_assert(eq(sz, asked.count, ROOM + 1));
    bounds_register(BOUND_OF_GATEWAY);
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"upstream_pages\"}"), 2 * ROOM));
    for (size_t i = 0; i < 3 * ROOM; i++) {
        reply(asked.ids[i < ROOM ? i : i + 1], i);
        cr_assert(le(u64, up.pages, UPSTREAM_PAGES_MAX));
        cr_assert(eq(int, got.calls[i], 1), "%zu", i);
        cr_assert(eq(u64, got.seqs[i], i));
    }
    cr_assert(zero(u64, up.pages));
    cr_assert(zero(int, got.calls[500]));
    cr_assert(eq(i64, up.took[UPSTREAM_PAGE].count, 3 * ROOM));
    cr_assert(zero(i64, up.took[UPSTREAM_READ].count));
}

/* A node that answers nothing: what is asked has a bound in number and in bytes. */
Test(upstream, requests_are_bounded)
{
    bounds_register(BOUND_OF_GATEWAY);
    greet();
    for (int i = 0; i < UPSTREAM_CALLS_MAX; i++)
        cr_assert(zero(int, ask_write(0)));
    cr_assert(eq(int, ask_write(1), ERR_BUSY));
    cr_assert(eq(int, ask_read(1, LOQUAT__READ_OP__READ_RANGE), ERR_BUSY));
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"upstream_calls\"}"), 2));
    upstream_close(&up);
    while (got.closed == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(int, got.calls[0], UPSTREAM_CALLS_MAX));
    cr_assert(zero(int, got.calls[1]));
}
Test(upstream, requests_are_bounded_in_bytes)
{
    enum { SIZE = 1 << 20 };
    bounds_register(BOUND_OF_GATEWAY);
    greet();
    char *user = xcalloc(1, SIZE + 1);
    memset(user, 'u', SIZE);
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.user = user;
    int taken = 0, err;
    while ((err = upstream_write(&up, 1, &command, on_done, &owners[0])) == 0)
        taken++;
    free(user);
    cr_assert(eq(int, err, ERR_BUSY));
    cr_assert(le(int, taken, UPSTREAM_PENDING_MAX / SIZE + 1));
    cr_assert(ge(int, taken, UPSTREAM_PENDING_MAX / SIZE));
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"upstream_pending\"}"), 1));
}

/* Credit comes back as tails are taken. */
Test(upstream, credit_is_given_back)
{
    greet();
    Loquat__Tail tail = LOQUAT__TAIL__INIT;
    Loquat__Item item = LOQUAT__ITEM__INIT, *items[] = {&item};
    char *bytes = xcalloc(1, 300000);
    item.record.data = (uint8_t *)bytes;
    item.record.len = 300000;
    tail.conv = (char *)(uintptr_t) "g-1";
    tail.items = items;
    tail.n_items = 1;
    for (int i = 0; i < 10; i++)
        say(LINK_TAIL, &tail.base);
    turn();
    cr_assert(eq(sz, got.tails, 10));
    uint64_t back = asked.credit - UPSTREAM_CREDIT,
             sent = loquat__tail__get_packed_size(&tail) * 10;
    cr_assert(le(u64, back, sent));
    cr_assert(lt(u64, sent - UPSTREAM_CREDIT_STEP, back));
    free(bytes);
}

/* What can't be read ends the link; what a newer node says is passed over. */
Test(upstream, messages_that_are_none)
{
    greet();
    link_send(&node, 99, span_str("of a newer node"));
    turn();
    cr_assert(zero(int, got.closed));
    link_send(&node, LINK_TAIL, span_str("\xff\xff\xff"));
    turn();
    cr_assert(eq(int, got.closed, 1));
}

Test(upstream, a_node_of_another_version)
{
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.partitions = 16;
    say(LINK_HELLO, &hello.base);
    turn();
    cr_assert(zero(int, got.ready));
    cr_assert(eq(int, got.closed, 1));
}

/* With a node that knows more it is this version that is spoken; with an older one, that one's. */
Test(upstream, speaks_as_the_older_one)
{
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.partitions = 16;
    hello.version = WIRE_VERSION + 7;
    say(LINK_HELLO, &hello.base);
    turn();
    cr_assert(eq(u32, up.version, WIRE_VERSION));
    hello.version = WIRE_VERSION_MIN;
    say(LINK_HELLO, &hello.base);
    turn();
    cr_assert(eq(u32, up.version, WIRE_VERSION_MIN));
}

static void lose_link(void)
{
    int before = got.closed;
    link_close(&node, ERR_CLOSED);
    while (got.closed == before)
        uv_run(&loop, UV_RUN_ONCE);
    turn();
}

/* After a link was lost what was asked is answered so, and another link serves; an answer with a
 * number of before is nobody's. Credit is given anew. */
Test(upstream, opens_again)
{
    greet();
    cr_assert(zero(int, ask_write(0)));
    for (size_t i = 1; i <= 40; i++) /* more pages than may come: some wait here */
        cr_assert(zero(int, ask_read(i, LOQUAT__READ_OP__READ_RANGE)));
    turn();
    uint64_t before = asked.ids[0];
    lose_link();
    for (size_t i = 0; i <= 40; i++) {
        cr_assert(eq(int, got.calls[i], 1));
        cr_assert(eq(int, got.errs[i], ERR_CLOSED));
    }
    cr_assert(eq(int, ask_write(1), ERR_CLOSED));
    open_link();
    cr_assert(eq(int, ask_write(1), ERR_CLOSED), "not greeted yet");
    greet();
    cr_assert(eq(int, got.ready, 2));
    cr_assert(eq(u64, asked.credit, 2 * UPSTREAM_CREDIT));
    size_t count = asked.count;
    cr_assert(zero(int, ask_write(50)));
    cr_assert(zero(int, ask_read(51, LOQUAT__READ_OP__READ_RANGE)));
    turn();
    cr_assert(eq(sz, asked.count, count + 2),
              "what waited before does not hold up what is asked now");
    cr_assert(ne(u64, asked.ids[count], before));
    reply(asked.ids[count], 7);
    cr_assert(eq(u64, got.seqs[50], 7));
    reply(before, 8);
    cr_assert(eq(int, got.closed, 2), "a number of another link ends this one");
}

/* Which partitions a node serves is passed on; before it has greeted, it may not say so. */
Test(upstream, leads)
{
    uint32_t partitions[] = {1, 7};
    uint64_t terms[] = {3, 4};
    Loquat__Leads leads = LOQUAT__LEADS__INIT;
    leads.partitions = partitions;
    leads.terms = terms;
    leads.n_partitions = leads.n_terms = 2;
    greet();
    say(LINK_LEADS, &leads.base);
    cr_assert(eq(sz, got.leads, 2));
    lose_link();
    open_link();
    say(LINK_LEADS, &leads.base);
    turn();
    cr_assert(eq(int, got.closed, 2));
}

/* The name is that of the cluster, where there is one. */
Test(upstream, name_of_a_cluster)
{
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = 2;
    hello.partitions = 16;
    hello.node = (char *)(uintptr_t) "one of several";
    hello.cluster = (char *)(uintptr_t) "all of them";
    say(LINK_HELLO, &hello.base);
    cr_assert(eq(str, up.node, (char *)"all of them"));
    cr_assert(eq(u32, up.version, 2));
}
