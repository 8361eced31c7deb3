#include "replication/node.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "replication/datadir.h"
#include "replication/rlog.h"
#include "replication/rpc.h"
#include "replication/shard.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/record.h"
#include "store/key.h"
#include "tests/lib/measured.h"
#include "tests/lib/nodelink.h"
#include "tests/lib/scratch.h"

enum { PARTITIONS = 4 };

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], why[512], conv[64];
static struct node *node;
static struct nodelink gw;
static uint64_t memtable, reserve = 1;

/* Stands before libc's: what the node sees of the disk. 0: the truth. */
static uint64_t free_bytes;
int statvfs(const char *path, struct statvfs *fs)
{
    (void)path;
    *fs = (struct statvfs){.f_frsize = 1, .f_bavail = free_bytes != 0 ? free_bytes : 1ull << 40};
    return 0;
}

static void start(void)
{
    struct node_config config = {
        .dir = dir, .partitions = PARTITIONS, .disk_reserve = reserve, .memtable_bytes = memtable};
    cr_assert(eq(int, node_start(&config, &node, why, sizeof why), 0), "%s", why);
    nodelink_open(&gw, node_connect(node));
}

static void stop(void)
{
    nodelink_close(&gw);
    node_stop(node);
    node = NULL;
}

static Loquat__Reply *must(Loquat__Command command)
{
    Loquat__Reply *reply = nodelink_do(&gw, &command);
    cr_assert(ne(ptr, reply, NULL));
    cr_assert(eq(int, reply->err, 0), "%s: %s", err_name(reply->err), reply->msg);
    return reply;
}

static uint64_t say(const char *id, const char *text)
{
    static unsigned counter;
    char cid[16];
    snprintf(cid, sizeof cid, "m%u", counter++);
    return must(command_send("ann", id, cid, text))->seq;
}

static void setup(void)
{
    log_setup("test", LOG_ERROR, LOG_JSON);
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    start();
    char *members[] = {"bob"};
    must(command_open_group("ann", "open", conv, members, 1));
}

static void teardown(void)
{
    if (node != NULL)
        stop();
    scratch_remove(root);
}

TestSuite(node, .init = setup, .fini = teardown, .timeout = 120);

static Loquat__Reply *ask(Loquat__Read *read, const char *place)
{
    return nodelink_reply(&gw, nodelink_read(&gw, read, place));
}

static Loquat__Reply *history(const char *id)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = "ann";
    read.conv = (char *)(uintptr_t)id;
    return ask(&read, id);
}

/* What was answered is there after a stop, in order, and goes on where it was. */
Test(node, restart_keeps_everything)
{
    for (int i = 0; i < 50; i++)
        say(conv, "hello");
    for (int life = 0; life < 3; life++) {
        Loquat__Reply *reply = history(conv);
        cr_assert(eq(int, reply->err, 0));
        cr_assert(eq(sz, reply->n_items, 51 + (size_t)life));
        cr_assert(eq(u64, reply->head, 51 + (uint64_t)life));
        cr_assert(must(command_send("ann", conv, "m3", "hello"))->dup);
        stop();
        start();
        cr_assert(eq(u64, say(conv, "again"), 52 + (uint64_t)life));
    }
}

/* All members have it on their lists when the opener is answered, whatever their partitions. */
Test(node, lists_are_there_with_the_answer)
{
    for (int i = 0; i < 20; i++) {
        char id[64], cid[16], names[8][40], *members[8];
        snprintf(cid, sizeof cid, "g%d", i);
        for (int j = 0; j < 8; j++) {
            snprintf(names[j], sizeof names[j], "user%d-%d", i, j);
            members[j] = names[j];
        }
        must(command_open_group("ann", cid, id, members, 8));
        for (int j = 0; j < 8; j++) {
            Loquat__Read read = LOQUAT__READ__INIT;
            read.op = LOQUAT__READ_OP__READ_USER;
            read.user = names[j];
            Loquat__Reply *reply = ask(&read, names[j]);
            cr_assert(eq(sz, reply->n_ids, 1), "%s", names[j]);
            cr_assert(eq(str, reply->ids[0], id));
        }
    }
}

/* An effect that a crash left owed is delivered at the next start, and then no longer owed. */
Test(node, owed_effects_are_delivered_at_start)
{
    stop();
    char data[SCRATCH_MAX + 32];
    snprintf(data, sizeof data, "%s/data", dir);
    struct kv_options options = {0};
    struct kv *kv;
    struct kv_batch batch;
    cr_assert(eq(int, kv_open(data, KV_DATA, &options, &kv), 0));
    kv_batch_init(&batch, kv);
    uint32_t to = partition_of(user_log_id(span_str("zoe")), PARTITIONS);
    uint32_t from = (to + 1) % PARTITIONS;
    Loquat__UserEffect effect = LOQUAT__USER_EFFECT__INIT, *effects[] = {&effect};
    effect.user = "zoe";
    effect.conv = conv;
    effect.stamp = 7;
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_USER_EFFECT;
    command.effects = effects;
    command.n_effects = 1;
    char bytes[256], head[2];
    size_t size = loquat__command__pack(&command, (uint8_t *)bytes);
    put_be16(head, (uint16_t)to);
    struct key key = key_number(from, 1 << 16);
    kv_put2(&batch, KV_OUT, key_span(&key), span_of(head, 2), span_of(bytes, size));
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    kv_close(kv);
    start();
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply *reply;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = "zoe";
    do
        reply = ask(&read, "zoe");
    while (reply->n_ids == 0);
    cr_assert(eq(str, reply->ids[0], conv));
    stop(); /* when idle: nothing owed */
    cr_assert(eq(int, kv_open(data, KV_DATA, &options, &kv), 0));
    struct buf value = {0};
    cr_assert(eq(int, kv_get(kv, KV_OUT, key_span(&key), &value), ERR_NOT_FOUND));
    buf_close(&value);
    kv_close(kv);
}

/* Writes that come faster than they can be written are refused at the bound; each is answered once,
 * and those that were taken are there, in order. */
Test(node, back_pressure)
{
    enum { WRITES = 3000, SIZE = 4000 };
    static char text[SIZE + 1];
    memset(text, 'x', SIZE);
    uint64_t first = gw.next_id;
    for (int i = 0; i < WRITES; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "w%d", i);
        Loquat__Command command = command_send("ann", conv, cid, text);
        nodelink_write(&gw, &command);
    }
    nodelink_flush(&gw);
    static bool answered[WRITES];
    uint64_t taken = 0, refused = 0, last = 1;
    for (int i = 0; i < WRITES; i++) {
        int type;
        struct span body;
        do
            cr_assert(nodelink_next(&gw, &type, &body));
        while (type != LINK_REPLY);
        Loquat__Reply *reply =
            loquat__reply__unpack(&gw.arena.allocator, body.n, (const uint8_t *)body.p);
        cr_assert(not(answered[reply->id - first]));
        answered[reply->id - first] = true;
        if (reply->err == 0) {
            cr_assert(eq(u64, reply->seq, ++last));
            taken++;
        } else {
            cr_assert(eq(int, reply->err, ERR_BUSY));
            refused++;
        }
        arena_reset(&gw.arena);
    }
    cr_assert(lt(u64, 0, refused));
    cr_assert(ge(u64, taken * SIZE, SHARD_WAITING_MAX / 2));
    cr_assert(
        eq(i64, measured("loquat_bound_hits_total{bound=\"shard_waiting\"}"), (int64_t)refused));
    cr_assert(eq(u64, history(conv)->head, taken + 1));
    say(conv, "and on it goes");
}

static int take_frame(void *arg, uint64_t at, struct span records)
{
    return rlog_take(arg, PARTITIONS, at, records);
}

/* The raft log of the conversation's partition, as a start finds it. */
static void read_log(struct rlog *log)
{
    struct rlog logs[PARTITIONS];
    struct journal *journal = NULL;
    char path[SCRATCH_MAX + 32];
    uint32_t p = partition_of(conv_id_of(span_str(conv)), PARTITIONS);
    snprintf(path, sizeof path, "%s/journal", dir);
    for (uint32_t i = 0; i < PARTITIONS; i++)
        rlog_open(&logs[i], i);
    int err = journal_open(path, take_frame, logs, why, sizeof why, &journal);
    cr_assert(zero(int, err), "%s", why);
    journal_close(journal);
    for (uint32_t i = 0; i < PARTITIONS; i++) {
        cr_assert(zero(int, rlog_finish(&logs[i])));
        if (i != p)
            rlog_close(&logs[i]);
    }
    *log = logs[p];
}

/* The raft log on disk is cut below what the data database holds, and the node still starts. */
Test(node, raft_log_is_trimmed_on_disk)
{
    stop();
    memtable = 64 << 10;
    start();
    static char text[2001];
    memset(text, 'x', sizeof text - 1);
    uint64_t until = clock_mono_us() + 2500000, count = 0;
    while (clock_mono_us() < until || count < 300) {
        say(conv, text);
        count++;
        arena_reset(&gw.arena);
    }
    stop();
    struct rlog log;
    read_log(&log);
    cr_assert(lt(u64, 1, log.first));
    cr_assert(eq(u64, log.first, log.snapshot_index)); /* one entry stays: nobody else needs any */
    rlog_close(&log);
    start();
    cr_assert(eq(u64, say(conv, "on"), count + 2));
    cr_assert(eq(u64, history(conv)->floor, 1));
}

/* ---- the disk ---- */

/* Below the reserve writes are refused, reading goes on; with room they are taken again. */
Test(node, full_disk_refuses_writes_only)
{
    stop();
    reserve = 1000;
    start();
    say(conv, "before");
    free_bytes = 999;
    Loquat__Command command = command_send("ann", conv, "full", "x");
    Loquat__Reply *reply;
    do { /* it is looked at a few times a second */
        static unsigned counter;
        char cid[16];
        snprintf(cid, sizeof cid, "f%u", counter++);
        command.cid = cid;
        reply = nodelink_do(&gw, &command);
    } while (reply->err == 0);
    cr_assert(eq(int, reply->err, ERR_NO_SPACE));
    cr_assert(err_retry(reply->err));
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"disk_reserve\"}"), 1));
    cr_assert(eq(i64, measured("loquat_disk_full"), 1));
    cr_assert(eq(i64, measured("loquat_disk_free_bytes"), 999));
    cr_assert(ge(i64, measured("loquat_disk_wanted_bytes"), 1000));
    uint64_t head = history(conv)->head;
    cr_assert(lt(u64, 1, head));
    free_bytes = 1ull << 30; /* what is in memory needs room too */
    command.cid = "room";
    do
        reply = nodelink_do(&gw, &command);
    while (reply->err == ERR_NO_SPACE);
    cr_assert(eq(int, reply->err, 0));
    cr_assert(eq(u64, reply->seq, head + 1));
    cr_assert(zero(i64, measured("loquat_disk_full")));
}

/* A start on a full disk serves reads, as long as there is room to open the databases; without,
 * it says what it needs. */
Test(node, starts_on_a_full_disk)
{
    say(conv, "before");
    stop();
    reserve = 1 << 30;
    free_bytes = 64 << 20;
    start();
    cr_assert(eq(u64, history(conv)->head, 2));
    Loquat__Command command = command_send("ann", conv, "full", "x");
    cr_assert(eq(int, nodelink_do(&gw, &command)->err, ERR_NO_SPACE));
    stop();
    free_bytes = 1;
    struct node_config config = {.dir = dir};
    cr_assert(eq(int, node_start(&config, &node, why, sizeof why), ERR_NO_SPACE));
    cr_assert(ne(ptr, strstr(why, "make room"), NULL), "%s", why);
    free_bytes = 0;
    start();
}

/* ---- what a gateway must not do ---- */

static bool closed_by_node(struct nodelink *other)
{
    int type;
    struct span body;
    while (nodelink_next(other, &type, &body))
        ;
    nodelink_close(other);
    return true;
}

/* A link that breaks the rules is closed; the others do not notice. */
Test(node, broken_links_are_closed)
{
    struct nodelink other;
    nodelink_open(&other, node_connect(node));
    cr_assert(write(other.fd, "GET / HTTP/1.1\r\n\r\n", 18) == 18);
    cr_assert(closed_by_node(&other));
    nodelink_open(&other, node_connect(node));
    Loquat__Write away = LOQUAT__WRITE__INIT;
    away.partition = PARTITIONS;
    nodelink_add(&other, LINK_WRITE, &away.base);
    nodelink_flush(&other);
    cr_assert(closed_by_node(&other));
    nodelink_open(&other, node_connect(node));
    nodelink_add(&other, LINK_TAIL, &away.base);
    nodelink_flush(&other);
    cr_assert(closed_by_node(&other));
    say(conv, "still here");
}

/* A question whose answer would not fit into a message is refused; the node lives. */
Test(node, answers_are_bounded)
{
    enum { MANY = 300 };
    static char text[20001], *convs[MANY];
    memset(text, 'x', sizeof text - 1);
    say(conv, text);
    for (int i = 0; i < MANY; i++)
        convs[i] = conv;
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONVS;
    read.user = "bob";
    read.convs = convs;
    for (size_t n = 1; n <= MANY; n += MANY - 1) {
        read.n_convs = n;
        Loquat__Reply *reply = ask(&read, conv);
        cr_assert(eq(int, reply->err, n == 1 ? 0 : ERR_TOO_LARGE));
        cr_assert(eq(sz, reply->n_convs, n == 1));
    }
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"reply_bytes\"}"), 1));
    say(conv, "still here");
}

/* A link that goes while answers are owed takes nothing with it. */
Test(node, links_that_go_early)
{
    for (int round = 0; round < 20; round++) {
        struct nodelink other;
        nodelink_open(&other, node_connect(node));
        for (int i = 0; i < 100; i++) {
            char cid[40];
            snprintf(cid, sizeof cid, "r%d-%d", round, i);
            Loquat__Command command = command_send("bob", conv, cid, "x");
            nodelink_write(&other, &command);
            Loquat__Read read = LOQUAT__READ__INIT;
            read.op = i % 2 ? LOQUAT__READ_OP__READ_RANGE : LOQUAT__READ_OP__READ_MEMBERS;
            read.user = "bob";
            read.conv = conv;
            nodelink_read(&other, &read, conv);
        }
        nodelink_close(&other);
    }
    uint64_t head = say(conv, "still here"); /* what the last link wrote may come after it */
    cr_assert(ge(u64, history(conv)->head, head));
}

static uint64_t ask_feed(struct nodelink *link, uint64_t after, uint64_t wait_ms)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED;
    read.from = after;
    read.max = 1000;
    read.wait_ms = wait_ms;
    return nodelink_read(link, &read, conv);
}

static Loquat__Reply *next_reply(void)
{
    int type = 0;
    struct span body;
    while (type != LINK_REPLY)
        cr_assert(nodelink_next(&gw, &type, &body));
    return loquat__reply__unpack(&gw.arena.allocator, body.n, (const uint8_t *)body.p);
}

/* Many pages of feeds that are asked for at once: each is answered once, with all that is there,
 * while another link goes and while others wait for what comes. */
Test(node, feeds_take_turns)
{
    enum { MANY = 200, WAITING = 50, ALL = MANY + WAITING, SAID = 300 };
    for (int i = 0; i < SAID; i++)
        say(conv, "hello");
    for (int round = 0; round < 3; round++) {
        uint64_t head = nodelink_reply(&gw, ask_feed(&gw, 0, 0))->head, first = gw.next_id;
        bool seen[ALL] = {0};
        struct nodelink other;
        char cid[] = {(char)('0' + round), 0};
        nodelink_open(&other, node_connect(node));
        for (int i = 0; i < MANY; i++)
            ask_feed(&other, 0, 0);
        for (int i = 0; i < ALL; i++)
            ask_feed(&gw, i < WAITING ? head : 0, i < WAITING ? FEED_WAIT_MAX_MS : 0);
        nodelink_flush(&other);
        nodelink_flush(&gw);
        nodelink_close(&other);
        for (int i = 0; i < ALL; i++) {
            if (i == MANY) { /* only those that wait are left */
                nodelink_open(&other, node_connect(node));
                Loquat__Command command = command_send("bob", conv, cid, "x");
                nodelink_write(&other, &command);
                nodelink_flush(&other);
            }
            const Loquat__Reply *reply = next_reply();
            uint64_t which = reply->id - first;
            cr_assert(eq(int, reply->err, 0));
            cr_assert(lt(u64, which, ALL));
            cr_assert(not(seen[which]));
            seen[which] = true;
            cr_assert(eq(int, which < WAITING, i >= MANY));
            cr_assert(which < WAITING ? reply->n_feed == 1 : reply->n_feed >= SAID);
            arena_reset(&gw.arena);
        }
        nodelink_close(&other);
        say(conv, "on");
    }
}

/* A planned stop leaves nothing to replay: the data is in its files, the raft log is cut. */
Test(node, a_planned_stop_leaves_little)
{
    for (int i = 0; i < 300; i++) {
        say(conv, "x");
        arena_reset(&gw.arena);
    }
    stop();
    struct rlog log;
    read_log(&log);
    cr_assert(eq(u64, log.snapshot_index, rlog_last(&log)));
    cr_assert(le(u64, rlog_last(&log) + 1 - log.first, 1));
    rlog_close(&log);
    start();
    cr_assert(eq(u64, say(conv, "on"), 302));
}

/* More links than there may be: the one too many is closed, and one that goes makes room. */
Test(node, links_are_bounded)
{
    enum { MAX = 1024 };
    static struct nodelink links[MAX];
    for (int i = 1; i < MAX; i++)
        nodelink_open(&links[i], node_connect(node));
    int fd = node_connect(node);
    char byte;
    ssize_t n;
    do
        n = read(fd, &byte, 1);
    while (n < 0);
    cr_assert(eq(int, (int)n, 0), "one link too many was greeted");
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"links\"}"), 1));
    close(fd);
    for (int i = 1; i < MAX; i++)
        nodelink_close(&links[i]);
    say(conv, "still here");
}

static void reaches(const char *gauge, int64_t least)
{
    uint64_t until = clock_mono_us() + 60000000; /* a disk may stall */
    while (measured(gauge) < least) { /* taken once a second; each turn waits for an answer */
        cr_assert(lt(u64, clock_mono_us(), until), "%s is %lld", gauge, (long long)measured(gauge));
        history(conv);
        arena_reset(&gw.arena);
    }
}

/* What the metrics say is what there is: logs as far as they are, links, memory, files. */
Test(node, gauges_tell)
{
    struct nodelink other;
    nodelink_open(&other, node_connect(node));
    for (int i = 0; i < 200; i++)
        say(conv, "hello");
    reaches("loquat_raft_applied_index", 200 + PARTITIONS);
    reaches("loquat_links", 2);
    reaches("loquat_dedup_entries", 200);
    reaches("loquat_cache_conversations", 1);
    reaches("loquat_cache_members", 2);
    int64_t applied = measured("loquat_raft_applied_index");
    cr_assert(eq(i64, measured("loquat_raft_stored_index"), applied));
    cr_assert(eq(i64, measured("loquat_raft_log_entries"), applied));
    cr_assert(zero(i64, measured("loquat_raft_flushed_index")));
    cr_assert(ge(i64, measured("loquat_raft_replay_bytes"), 200 * 5));
    cr_assert(eq(i64, measured("loquat_partitions_serving"), PARTITIONS));
    cr_assert(zero(i64, measured("loquat_apply_lag_entries")));
    cr_assert(zero(i64, measured("loquat_write_unanswered")));
    cr_assert(ge(i64, measured("loquat_wal_bytes_total"), 200 * 5));
    cr_assert(ge(i64, measured("loquat_journal_bytes"), JOURNAL_SEGMENT));
    cr_assert(zero(i64, measured("loquat_rocksdb_write_stopped{db=\"data\"}")));
    nodelink_close(&other);
    stop();
    cr_assert(eq(i64, measured("loquat_flush_seconds_count"), 1));
    start();
    cr_assert(zero(i64, measured("loquat_write_unanswered")));
    reaches("loquat_rocksdb_level0_files{db=\"data\"}", 1);
    reaches("loquat_raft_flushed_index", applied);
}

/* So many reads in one go; how many of them are refused. */
static int64_t refused_of(int many)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = "ann";
    int64_t refused = 0;
    uint64_t first = gw.next_id;
    for (int i = 0; i < many; i++)
        nodelink_read(&gw, &read, "ann");
    nodelink_flush(&gw);
    for (int i = 0; i < many; i++) {
        int type;
        struct span body;
        cr_assert(nodelink_next(&gw, &type, &body));
        cr_assert(eq(int, type, LINK_REPLY));
        Loquat__Reply *reply =
            loquat__reply__unpack(&gw.arena.allocator, body.n, (const uint8_t *)body.p);
        cr_assert(ge(u64, reply->id, first));
        refused += reply->err == ERR_BUSY;
    }
    return refused;
}

/* More reads at once than a link may have: the rest is refused, and counted. A node that is quick
 * may have answered the first before the last have come: then it is tried again. */
Test(node, reads_are_bounded)
{
    enum { MANY = PEER_READS_MAX + 500, TRIES = 20 };
    int64_t refused = 0;
    for (int i = 0; i < TRIES && refused == 0; i++)
        refused = refused_of(MANY);
    cr_assert(ge(i64, refused, 1));
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"link_reads\"}"), refused));
}
