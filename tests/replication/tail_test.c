/* Tails: what a gateway that follows logs is sent, and what it is not. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "replication/feed.h"
#include "replication/node.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/record.h"
#include "tests/lib/measured.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum { PARTITIONS = 4, PLENTY = 32 << 20 };

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], why[512], conv[64];
static struct node *node;
static struct nodelink writer, gw; /* one writes, one follows */
static size_t tail_bytes, last_bytes;

static uint64_t say(const char *id, const char *text)
{
    static unsigned counter;
    char cid[24];
    snprintf(cid, sizeof cid, "m%u", counter++);
    Loquat__Command command = command_send("ann", id, cid, text);
    Loquat__Reply *reply = nodelink_do(&writer, &command);
    cr_assert(eq(int, reply->err, 0));
    uint64_t seq = reply->seq;
    arena_reset(&writer.arena);
    return seq;
}

static void open_group(const char *cid, char *id)
{
    char *members[] = {"bob"};
    Loquat__Command command = command_open_group("ann", cid, id, members, 1);
    cr_assert(eq(int, nodelink_do(&writer, &command)->err, 0));
}

static void setup(void)
{
    log_setup("test", LOG_ERROR, LOG_JSON);
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    struct node_config config = {.dir = dir, .partitions = PARTITIONS, .disk_reserve = 1};
    cr_assert(eq(int, node_start(&config, &node, why, sizeof why), 0), "%s", why);
    nodelink_open(&writer, node_connect(node));
    nodelink_open(&gw, node_connect(node));
    open_group("open", conv);
}

static void teardown(void)
{
    nodelink_close(&writer);
    nodelink_close(&gw);
    node_stop(node);
    scratch_remove(root);
}

TestSuite(tail, .init = setup, .fini = teardown, .timeout = 120);

static void credit(uint64_t bytes)
{
    Loquat__Credit more = LOQUAT__CREDIT__INIT;
    more.bytes = bytes;
    nodelink_add(&gw, LINK_CREDIT, &more.base);
    nodelink_flush(&gw);
}

static Loquat__Sub sub_of(const char *id, uint64_t cursor)
{
    Loquat__Sub sub = LOQUAT__SUB__INIT;
    sub.conv = (char *)(uintptr_t)id;
    sub.partition = partition_of(conv_id_of(span_str(id)), PARTITIONS);
    sub.cursor = cursor;
    return sub;
}

static void follow(const char *id, uint64_t cursor)
{
    Loquat__Sub sub = sub_of(id, cursor);
    nodelink_add(&gw, LINK_SUB, &sub.base);
    nodelink_flush(&gw);
}

static void unfollow(const char *id)
{
    Loquat__Unsub unsub = LOQUAT__UNSUB__INIT;
    unsub.conv = (char *)(uintptr_t)id;
    unsub.partition = partition_of(conv_id_of(span_str(id)), PARTITIONS);
    nodelink_add(&gw, LINK_UNSUB, &unsub.base);
    nodelink_flush(&gw);
}

/* The next Tail; NULL when `fence` was answered first. */
static Loquat__Tail *next_tail(uint64_t fence)
{
    int type;
    struct span body;
    while (nodelink_next(&gw, &type, &body)) {
        if (type == LINK_TAIL) {
            last_bytes = body.n;
            tail_bytes += body.n;
            return loquat__tail__unpack(&gw.arena.allocator, body.n, (const uint8_t *)body.p);
        }
        if (type != LINK_REPLY)
            continue;
        Loquat__Reply *reply =
            loquat__reply__unpack(&gw.arena.allocator, body.n, (const uint8_t *)body.p);
        if (reply->id == fence)
            return NULL;
    }
    cr_assert(false, "the node has closed");
    return NULL;
}

static Loquat__Tail *started(const char *id, uint64_t cursor)
{
    Loquat__Tail *tail = next_tail(0);
    cr_assert(tail->started);
    cr_assert(eq(str, tail->conv, (char *)(uintptr_t)id));
    cr_assert(eq(u64, tail->head, cursor));
    cr_assert(eq(sz, tail->n_items, 0));
    return tail;
}

/* Records from `from` to `to`, each once, in order. */
static void expect(const char *id, uint64_t from, uint64_t to)
{
    while (from <= to) {
        Loquat__Tail *tail = next_tail(0);
        cr_assert(eq(str, tail->conv, (char *)(uintptr_t)id));
        cr_assert(lt(sz, 0, tail->n_items));
        for (size_t i = 0; i < tail->n_items; i++) {
            cr_assert(eq(u64, tail->items[i]->seq, from++));
            struct span bytes = span_of(tail->items[i]->record.data, tail->items[i]->record.len);
            cr_assert(eq(int, record_check(bytes), 0));
        }
        arena_reset(&gw.arena);
    }
    cr_assert(eq(u64, from, to + 1));
}

/* Nothing comes: the node has gone around often enough that a read would have come back. */
static void expect_nothing(void)
{
    for (int i = 0; i < 5; i++) {
        Loquat__Read read = LOQUAT__READ__INIT;
        read.op = LOQUAT__READ_OP__READ_RANGE;
        read.all = true;
        read.conv = conv;
        uint64_t fence = nodelink_read(&gw, &read, conv);
        const Loquat__Tail *tail = next_tail(fence);
        cr_assert(tail == NULL, "a tail of %zu records of %s", tail->n_items, tail->conv);
        arena_reset(&gw.arena);
    }
}

/* From a cursor: everything after it, then what is written from now on. */
Test(tail, from_a_cursor)
{
    for (int i = 0; i < 9; i++)
        say(conv, "before");
    credit(PLENTY);
    follow(conv, 4);
    started(conv, 4);
    expect(conv, 5, 10);
    for (int i = 0; i < 5; i++)
        say(conv, "after");
    expect(conv, 11, 15);
    expect_nothing();
}

/* From the head of that moment, or from a cursor beyond it (a log that was restored). */
Test(tail, from_the_head)
{
    for (int i = 0; i < 9; i++)
        say(conv, "before");
    credit(PLENTY);
    Loquat__Sub sub = sub_of(conv, 3);
    sub.from_head = true;
    nodelink_add(&gw, LINK_SUB, &sub.base);
    nodelink_flush(&gw);
    started(conv, 10);
    say(conv, "after");
    expect(conv, 11, 11);
    unfollow(conv);
    follow(conv, 1000);
    started(conv, 11);
    say(conv, "after");
    expect(conv, 12, 12);
}

/* Without credit there is an answer to the subscription and nothing else; credit lets the rest
 * come, from where it was, each record once. */
Test(tail, slow_gateway)
{
    follow(conv, 0);
    started(conv, 0);
    for (int i = 0; i < 20; i++)
        say(conv, "waits");
    expect_nothing();
    credit(PLENTY);
    expect(conv, 1, 21);
    say(conv, "live");
    expect(conv, 22, 22);
}

/* Credit runs out while records come: what did not go is read again when there is more. */
Test(tail, credit_runs_out)
{
    static char text[1001];
    memset(text, 'x', sizeof text - 1);
    follow(conv, 1);
    started(conv, 1);
    uint64_t at = 2, head = 1;
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 7; i++)
            head = say(conv, text);
        credit(3000);
        while (at <= head) {
            Loquat__Read read = LOQUAT__READ__INIT;
            read.op = LOQUAT__READ_OP__READ_RANGE;
            read.all = true;
            read.conv = conv;
            read.max = 1;
            const Loquat__Tail *tail = next_tail(nodelink_read(&gw, &read, conv));
            if (tail == NULL) {
                credit(500);
                continue;
            }
            for (size_t i = 0; i < tail->n_items; i++)
                cr_assert(eq(u64, tail->items[i]->seq, at++));
        }
        arena_reset(&gw.arena);
    }
    cr_assert(eq(u64, at, head + 1));
    cr_assert(ge(i64, measured("loquat_bound_hits_total{bound=\"feed_credit\"}"), 1));
}

/* Many subscriptions that are behind, and little credit: it is overdrawn by one page at most,
 * however many wait. */
Test(tail, credit_bounds_many_subscriptions)
{
    enum { CONVS = 40 };
    static char text[20001], ids[CONVS][64];
    memset(text, 'x', sizeof text - 1);
    for (int i = 0; i < CONVS; i++) {
        char cid[24];
        snprintf(cid, sizeof cid, "many%d", i);
        open_group(cid, ids[i]);
        for (int j = 0; j < 3; j++)
            say(ids[i], text);
        follow(ids[i], 1);
        started(ids[i], 1);
    }
    credit(tail_bytes + 1); /* what the answers took, and a little */
    tail_bytes = 0;
    Loquat__Tail *tail = next_tail(0);
    cr_assert(lt(sz, 0, tail->n_items));
    expect_nothing();
    cr_assert(lt(sz, tail_bytes, FEED_PAGE_BYTES + sizeof text));
    size_t pages = 1;
    credit(tail_bytes + 2 * last_bytes);
    while (tail_bytes < CONVS * 3 * sizeof text) {
        next_tail(0);
        pages++;
        credit(last_bytes);
        arena_reset(&gw.arena);
    }
    cr_assert(eq(sz, pages, CONVS));
    expect_nothing();
}

/* After an unsubscription nothing comes; following again begins anew. */
Test(tail, unfollowed)
{
    credit(PLENTY);
    follow(conv, 0);
    started(conv, 0);
    expect(conv, 1, 1);
    unfollow(conv);
    expect_nothing();
    say(conv, "unheard");
    expect_nothing();
    unfollow(conv);
    follow(conv, 1);
    follow(conv, 0); /* the first one stands */
    started(conv, 1);
    expect(conv, 2, 2);
    expect_nothing();
}

/* Subscriptions that end while their reads are under way. */
Test(tail, unfollowed_while_reading)
{
    for (int i = 0; i < 50; i++)
        say(conv, "text");
    credit(PLENTY);
    for (int i = 0; i < 200; i++) {
        follow(conv, 0);
        unfollow(conv);
    }
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.all = true;
    read.conv = conv;
    uint64_t fence = nodelink_read(&gw, &read, conv);
    while (next_tail(fence) != NULL)
        ;
    follow(conv, 50);
    started(conv, 50);
    expect(conv, 51, 51);
}

/* Many conversations at once, from several partitions: each gets its own, in order. */
Test(tail, many_subscriptions)
{
    enum { CONVS = 30, EACH = 20 };
    static char ids[CONVS][64];
    uint64_t at[CONVS];
    credit(PLENTY);
    for (int i = 0; i < CONVS; i++) {
        char cid[24];
        snprintf(cid, sizeof cid, "many%d", i);
        open_group(cid, ids[i]);
        follow(ids[i], 1);
        started(ids[i], 1);
        at[i] = 2;
    }
    for (int j = 0; j < EACH; j++)
        for (int i = 0; i < CONVS; i++)
            say(ids[i], "text");
    for (int got = 0; got < CONVS * EACH;) {
        Loquat__Tail *tail = next_tail(0);
        int i = 0;
        while (strcmp(ids[i], tail->conv) != 0)
            i++;
        for (size_t k = 0; k < tail->n_items; k++, got++)
            cr_assert(eq(u64, tail->items[k]->seq, at[i]++));
    }
    for (int i = 0; i < CONVS; i++)
        cr_assert(eq(u64, at[i], EACH + 2));
}

/* What can't be followed is answered with why, and only that. */
Test(tail, refusals)
{
    credit(PLENTY);
    follow("g-none", 0);
    cr_assert(eq(int, next_tail(0)->err, ERR_NOT_FOUND));
    Loquat__Sub sub = sub_of(conv, 0);
    sub.partition = PARTITIONS;
    nodelink_add(&gw, LINK_SUB, &sub.base);
    nodelink_flush(&gw);
    Loquat__Tail *tail = next_tail(0);
    cr_assert(eq(int, tail->err, ERR_BAD_REQUEST));
    cr_assert(eq(str, tail->conv, conv));
    follow("g-none", 0);
    cr_assert(eq(int, next_tail(0)->err, ERR_NOT_FOUND));
    expect_nothing();
}

/* A user's own log is followed like any other. */
Test(tail, user_log)
{
    credit(PLENTY);
    Loquat__Sub sub = LOQUAT__SUB__INIT;
    sub.conv = "bob";
    sub.user_log = true;
    sub.partition = partition_of(user_log_id(span_str("bob")), PARTITIONS);
    nodelink_add(&gw, LINK_SUB, &sub.base);
    nodelink_flush(&gw);
    cr_assert(started("bob", 0)->user_log);
    expect("bob", 1, 1);
    char id[64];
    open_group("second", id);
    expect("bob", 2, 2);
}

/* Marks are told to who follows the conversation, as long as there is credit. */
Test(tail, marks)
{
    say(conv, "text");
    follow(conv, 2);
    started(conv, 2);
    Loquat__Command mark = command_mark("bob", conv, 1, 2);
    nodelink_do(&writer, &mark);
    credit(PLENTY);
    say(conv, "fence");
    expect(conv, 3, 3); /* the mark before it was dropped */
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"feed_marks\"}"), 1));
    mark.read = 2;
    nodelink_do(&writer, &mark);
    int type;
    struct span body;
    do
        cr_assert(nodelink_next(&gw, &type, &body));
    while (type != LINK_MARK);
    Loquat__MarkEvent *event =
        loquat__mark_event__unpack(&gw.arena.allocator, body.n, (const uint8_t *)body.p);
    cr_assert(eq(str, event->user, "bob"));
    cr_assert(eq(u64, event->read, 2));
}
