/* Requests and tails of a gateway while nodes of its cluster take over from each other. The nodes
 * are played here, at the other ends of socketpairs. */
#include "gateway/cluster.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"

enum { NODES = 2, PARTITIONS = 4, MAX = 16 };

static struct fake {
    struct link link;
    bool up;
    uint64_t ids[MAX]; /* of the requests that came */
    char users[MAX];   /* first letter of the user of each */
    size_t count, subs;
} fake[NODES];
static uv_loop_t loop;
static struct cluster cluster;
static struct dial_target targets[NODES];
static int answers[MAX], errs[MAX]; /* by number of the request */
static size_t routed, tails;

/* ---- the nodes ---- */

static void on_message(struct link *link, int type, struct span body)
{
    struct fake *self = container_of(link, struct fake, link);
    struct arena arena;
    arena_init(&arena);
    if (type == LINK_WRITE) {
        struct write_view write;
        cr_assert(write_unpack(body, &write));
        Loquat__Command *command = command_unpack(write.command, &arena);
        self->users[self->count] = command->user[0];
        self->ids[self->count++] = write.id;
    } else if (type == LINK_READ) {
        Loquat__Read *read =
            loquat__read__unpack(&arena.allocator, body.n, (const uint8_t *)body.p);
        self->users[self->count] = read->user[0];
        self->ids[self->count++] = read->id;
    }
    self->subs += type == LINK_SUB;
    arena_close(&arena);
}

static void on_fake_closed(struct link *link, int err)
{
    (void)err;
    container_of(link, struct fake, link)->up = false;
}

static const struct link_ops FAKE_OPS = {.on_message = on_message, .on_close = on_fake_closed};

static void turn(void)
{
    for (int i = 0; i < 10; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void say(int node, int type, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    char *room = link_send_begin(&fake[node].link, type, size);
    protobuf_c_message_pack(message, (uint8_t *)room);
    turn();
}

static void hello(int node, const char *store)
{
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = 2;
    hello.node = (char *)(uintptr_t) "a node";
    hello.cluster = (char *)(uintptr_t)store;
    hello.partitions = PARTITIONS;
    say(node, LINK_HELLO, &hello.base);
}

static void leads(int node, uint32_t partition, uint64_t term) /* term 0: none */
{
    Loquat__Leads leads = LOQUAT__LEADS__INIT;
    leads.partitions = &partition;
    leads.terms = &term;
    leads.n_partitions = leads.n_terms = term != 0;
    say(node, LINK_LEADS, &leads.base);
}

static void reply(int node, size_t request, int err)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.id = fake[node].ids[request];
    reply.err = err;
    say(node, LINK_REPLY, &reply.base);
}

static void tail(int node, uint32_t partition)
{
    Loquat__Tail tail = LOQUAT__TAIL__INIT;
    tail.conv = (char *)(uintptr_t) "c";
    tail.partition = partition;
    say(node, LINK_TAIL, &tail.base);
}

static void connect_node(int node)
{
    int pair[2];
    cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)));
    fake[node] = (struct fake){.up = true};
    cr_assert(zero(int, link_open_fd(&fake[node].link, &loop, pair[0], &FAKE_OPS)));
    cr_assert(
        zero(int, upstream_open(&cluster.nodes[node].up, &loop, (struct line){.fd = pair[1]})));
    turn();
}

/* ---- the gateway ---- */

static void on_tail(void *arg, const Loquat__Tail *tail)
{
    (void)arg, (void)tail;
    tails++;
}

static void on_mark(void *arg, const Loquat__MarkEvent *mark)
{
    (void)arg, (void)mark;
}

static void on_routed(void *arg, const bool *partitions)
{
    (void)arg;
    for (int p = 0; p < PARTITIONS; p++)
        routed += partitions[p];
}

static void on_change(void *arg)
{
    (void)arg;
}

static const struct cluster_ops OPS = {
    .on_tail = on_tail, .on_mark = on_mark, .on_routed = on_routed, .on_change = on_change};

static void on_answer(void *owner, const Loquat__Reply *reply)
{
    size_t number = (size_t)(uintptr_t)owner;
    answers[number]++;
    errs[number] = reply->err;
}

/* By user a, b, c, … in partition 1: which of them shows in the order at a node. */
static void ask(size_t number)
{
    char user[2] = {(char)('a' + number), '\0'};
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.user = user;
    cr_assert(zero(int, cluster_write(&cluster, 1, &command, on_answer, (void *)number)));
    turn();
}

static void setup(void)
{
    log_setup("test", LOG_ERROR, LOG_TEXT);
    cr_assert(zero(int, uv_loop_init(&loop)));
    for (int i = 0; i < NODES; i++) { /* nobody is there: links are made by connect_node */
        targets[i].role = HANDSHAKE_GATEWAY;
        cr_assert(address_parse("127.0.0.1:1", &targets[i].address));
    }
    cluster_init(&cluster, &loop, targets, NODES, &OPS, NULL);
    for (int i = 0; i < NODES; i++) {
        connect_node(i);
        hello(i, "store");
    }
    cr_assert(cluster_ready(&cluster));
}

static void teardown(void)
{
    cluster_close(&cluster);
    while (!cluster_closed(&cluster))
        uv_run(&loop, UV_RUN_ONCE);
    for (int i = 0; i < NODES; i++)
        if (fake[i].up)
            link_close(&fake[i].link, ERR_CLOSED);
    turn();
    cluster_free(&cluster);
    cr_assert(zero(int, uv_loop_close(&loop)));
}

TestSuite(cluster, .init = setup, .fini = teardown, .timeout = 60);

/* A request waits until somebody serves its partition. */
Test(cluster, waits_for_a_leader)
{
    ask(0);
    cr_assert(eq(sz, fake[0].count + fake[1].count, 0));
    leads(1, 1, 5);
    cr_assert(eq(sz, fake[1].count, 1));
    cr_assert(eq(sz, routed, 1));
    reply(1, 0, ERR_CONFLICT);
    cr_assert(eq(int, answers[0], 1));
    cr_assert(eq(int, errs[0], ERR_CONFLICT));
}

/* What a leader gives back as it steps down goes to the next one in the order in which it was
 * asked, before what was asked since. */
Test(cluster, order_outlives_a_leader)
{
    leads(0, 1, 5);
    ask(0);
    ask(1);
    ask(2);
    cr_assert(eq(sz, fake[0].count, 3));
    reply(0, 2, ERR_NOT_LEADER);
    reply(0, 0, ERR_NOT_LEADER);
    reply(0, 1, ERR_NOT_LEADER);
    leads(0, 0, 0);
    ask(3);
    cr_assert(eq(sz, fake[1].count, 0));
    leads(1, 1, 6);
    cr_assert(eq(str, fake[1].users, "abcd"));
    for (size_t i = 0; i < 4; i++) {
        reply(1, i, 0);
        cr_assert(eq(int, answers[i], 1));
        cr_assert(zero(int, errs[i]));
    }
}

/* A node that hangs is not waited for when another one has taken over; what it says later counts
 * for nothing. */
Test(cluster, hung_leader)
{
    leads(0, 1, 5);
    ask(0);
    leads(1, 1, 6);
    cr_assert(eq(str, fake[1].users, "a"));
    reply(0, 0, ERR_FORBIDDEN);
    cr_assert(zero(int, answers[0]));
    leads(0, 1, 5); /* it still thinks so */
    ask(1);
    cr_assert(eq(str, fake[1].users, "ab"));
    reply(1, 0, 0);
    reply(1, 1, 0);
    cr_assert(eq(int, answers[0], 1));
    cr_assert(zero(int, errs[0]));
    cr_assert(eq(int, answers[1], 1));
}

/* A link that ends gives back what it was asked. */
Test(cluster, lost_link)
{
    leads(0, 1, 5);
    ask(0);
    ask(1);
    link_close(&fake[0].link, ERR_CLOSED);
    turn();
    cr_assert(zero(int, answers[0]));
    leads(1, 1, 6);
    cr_assert(eq(str, fake[1].users, "ab"));
    reply(1, 0, 0);
    reply(1, 1, 0);
    cr_assert(eq(int, answers[0] + answers[1], 2));
}

/* The same node, elected again: its subscriptions begin again, requests are not asked twice. */
Test(cluster, same_leader_in_another_term)
{
    leads(0, 1, 5);
    ask(0);
    leads(0, 1, 7);
    cr_assert(eq(sz, routed, 2));
    cr_assert(eq(sz, fake[0].count, 1));
    reply(0, 0, 0);
    cr_assert(eq(int, answers[0], 1));
}

/* Subscriptions and tails belong to who serves the partition. */
Test(cluster, tails_of_a_former_leader)
{
    Loquat__Sub sub = LOQUAT__SUB__INIT;
    sub.conv = (char *)(uintptr_t) "c";
    sub.partition = 1;
    cluster_sub(&cluster, &sub);
    leads(0, 1, 5);
    cluster_sub(&cluster, &sub);
    turn();
    cr_assert(eq(sz, fake[0].subs, 1));
    tail(0, 1);
    tail(1, 1);
    cr_assert(eq(sz, tails, 1));
    leads(1, 1, 6);
    tail(0, 1);
    cr_assert(eq(sz, tails, 1));
    tail(1, 1);
    cr_assert(eq(sz, tails, 2));
}

/* Reads, too, go where their partition is, with a number of that link. */
Test(cluster, reads)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONVS;
    read.partition = 2;
    read.user = (char *)(uintptr_t) "x";
    cr_assert(zero(int, cluster_read(&cluster, &read, on_answer, (void *)(size_t)3)));
    leads(1, 2, 1);
    cr_assert(eq(str, fake[1].users, "x"));
    reply(1, 0, 0);
    cr_assert(eq(int, answers[3], 1));
}

static void page(size_t number, uint64_t seen)
{
    char user[2] = {(char)('a' + number), '\0'};
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.partition = 1;
    read.user = user;
    read.conv = (char *)(uintptr_t) "c";
    read.seen = seen;
    cr_assert(zero(int, cluster_read(&cluster, &read, on_answer, (void *)number)));
    turn();
}

/* What any replica may answer goes to each in turn; what none of them can goes to the leader. */
Test(cluster, reads_of_replicas)
{
    leads(0, 1, 5);
    size_t before[NODES];
    for (int i = 0; i < NODES; i++)
        before[i] = fake[i].count;
    for (size_t i = 0; i < NODES; i++)
        page(i, 10);
    for (int i = 0; i < NODES; i++) {
        cr_assert(eq(sz, fake[i].count, before[i] + 1));
        reply(i, before[i], 0);
    }
    for (size_t i = 0; i < NODES; i++)
        cr_assert(eq(int, answers[i], 1));
    page(NODES, 0);
    cr_assert(eq(sz, fake[0].count, before[0] + 2), "one that names nothing goes to the leader");
    reply(0, before[0] + 1, 0);
    cr_assert(eq(int, answers[NODES], 1));
}

Test(cluster, replica_that_is_behind)
{
    leads(0, 1, 5);
    for (size_t i = 0; i < NODES; i++)
        page(i, 10);
    size_t leader = fake[0].count, other = fake[1].count;
    reply(1, other - 1, ERR_NOT_LEADER);
    cr_assert(eq(sz, fake[0].count, leader + 1), "asked at once");
    reply(0, leader, 0);
    reply(0, leader - 1, 0);
    cr_assert(eq(sz, fake[1].count, other));
    for (size_t i = 0; i < 3 * NODES; i++)
        page(NODES + i, 10);
    cr_assert(eq(sz, fake[1].count, other), "it is left alone for a while");
}

/* The node of a page goes away: the leader is asked; nobody leads: it waits for one. */
Test(cluster, replica_that_goes_away)
{
    leads(0, 1, 5);
    for (size_t i = 0; i < NODES; i++)
        page(i, 10);
    size_t leader = fake[0].count;
    link_close(&fake[1].link, ERR_CLOSED);
    turn();
    cr_assert(eq(sz, fake[0].count, leader + 1));
    reply(0, leader, ERR_NOT_LEADER);
    leads(0, 1, 6);
    cr_assert(eq(sz, fake[0].count, leader + 2));
    reply(0, leader + 1, 0);
    reply(0, leader - 1, 0);
    int sum = 0;
    for (size_t i = 0; i < NODES; i++)
        sum += answers[i];
    cr_assert(ge(int, sum, 2));
}

/* Another store at an address of this one is not used. */
Test(cluster, another_store)
{
    link_close(&fake[0].link, ERR_CLOSED);
    turn();
    connect_node(0);
    hello(0, "another");
    turn();
    cr_assert(not(fake[0].up));
    cr_assert(not(cluster.nodes[0].up.open));
    cr_assert(cluster_ready(&cluster));
}

/* What is not answered when the gateway ends is answered by that. */
Test(cluster, ends)
{
    leads(0, 1, 5);
    ask(0);
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    cr_assert(zero(int, cluster_write(&cluster, 2, &command, on_answer, (void *)(size_t)1)));
    cr_assert(eq(u64, cluster_calls(&cluster), 2));
    cluster_close(&cluster);
    turn();
    cr_assert(eq(int, answers[0] + answers[1], 2));
    cr_assert(eq(int, errs[0], ERR_CLOSED));
    cr_assert(zero(u64, cluster_calls(&cluster)));
}
