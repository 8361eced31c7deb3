/* An embedded node, and loquat-compact's requests through its control socket. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/node.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/key.h"
#include "tests/lib/compact.h"
#include "tests/lib/measured.h"
#include "tests/lib/scratch.h"

enum {
    STATUS = LOQUAT__CONTROL_OP__CONTROL_STATUS,
    PLAN = LOQUAT__CONTROL_OP__CONTROL_PLAN,
    RUN = LOQUAT__CONTROL_OP__CONTROL_RUN,
    VERIFY = LOQUAT__CONTROL_OP__CONTROL_VERIFY,
    PARTITIONS = 2,
    DAY_MS = 86400000,
};

static char root[SCRATCH_MAX], dir[6 * SCRATCH_MAX], conv[64];
static struct node *node;
static struct nodelink gate;
static struct arena arena;

static void start(const char *path)
{
    char why[256] = "";
    struct node_config config = {.dir = path, .partitions = PARTITIONS, .disk_reserve = 1};
    int err = node_start(&config, &node, why, sizeof why);
    cr_assert(eq(int, err, 0), "%s", why);
    nodelink_open(&gate, node_connect(node));
}

static void stop(void)
{
    nodelink_close(&gate);
    node_stop(node);
}

/* ann owns a group with bob and eve; the log stands at 1. */
static void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    arena_init(&arena);
    start(dir);
    char *members[] = {"bob", "eve"};
    Loquat__Command open = command_open_group("ann", "open", conv, members, 2);
    cr_assert(eq(u64, nodelink_do(&gate, &open)->seq, 1));
}

static void teardown(void)
{
    stop();
    arena_close(&arena);
    scratch_remove(root);
}

TestSuite(run, .init = setup, .fini = teardown, .timeout = 120);

static Loquat__Reply *give(Loquat__Command command)
{
    Loquat__Reply *reply = nodelink_do(&gate, &command);
    cr_assert(ne(ptr, reply, NULL));
    return reply;
}

static uint64_t ok(Loquat__Command command)
{
    Loquat__Reply *reply = give(command);
    cr_assert(eq(int, reply->err, 0), "%s", reply->msg);
    return reply->seq;
}

static char texts[256][32];

/* A message of its own number; `age_ms` and `ttl_s` as an import would have them. */
static Loquat__Command message(unsigned i, uint64_t age_ms, uint64_t ttl_s)
{
    static char cids[256][16];
    snprintf(texts[i], sizeof texts[i], "{\"text\":\"number %u\"}", i);
    snprintf(cids[i], sizeof cids[i], "cid-%u", i);
    Loquat__Command command = command_send("ann", conv, cids[i], texts[i]);
    command.admin = true;
    command.ts = clock_wall_ms() - age_ms;
    command.ttl_s = ttl_s;
    return command;
}

static void send_many(unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        ok(message(i, 0, 0));
}

static Loquat__Report *ask(uint32_t op, uint64_t max_age_ms, uint64_t max_count)
{
    Loquat__Control control = compact_ask(op);
    control.max_age_ms = max_age_ms;
    control.max_count = max_count;
    Loquat__Report *report = compact_node(dir, &control, &arena);
    cr_assert(eq(int, report->err, 0), "%s", report->msg);
    return report;
}

static void expect_whole(void)
{
    Loquat__Report *report = ask(VERIFY, 0, 0);
    for (size_t i = 0; i < report->n_damages; i++)
        fprintf(stderr, "%s %s %lu: %s\n", report->damages[i]->family, report->damages[i]->conv,
                report->damages[i]->seq, report->damages[i]->what);
    cr_assert(eq(u64, report->damage_count, 0));
    cr_assert(eq(u64, report->conv_count, 1));
}

static Loquat__Reply *range(bool folded, uint64_t from)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = "bob";
    read.conv = conv;
    read.from = from;
    read.folded = folded;
    Loquat__Reply *reply = nodelink_reply(&gate, nodelink_read(&gate, &read, conv));
    cr_assert(eq(int, reply->err, 0), "%s", reply->msg);
    return reply;
}

static Loquat__ConvInfo *info(char *user)
{
    char *convs[1] = {conv};
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONVS;
    read.user = user;
    read.convs = convs;
    read.n_convs = 1;
    Loquat__Reply *reply = nodelink_reply(&gate, nodelink_read(&gate, &read, conv));
    cr_assert(eq(sz, reply->n_convs, 1));
    return reply->convs[0];
}

/* Every sequence of the page once; the hole that holds `seq`, HOLE_NONE for a record. */
static uint32_t hole_at(const Loquat__Reply *page, uint64_t seq)
{
    uint64_t next = page->n_items > 0 ? page->items[0]->seq : 0;
    uint32_t found = UINT32_MAX;
    for (size_t i = 0; i < page->n_items; i++) {
        const Loquat__Item *item = page->items[i];
        uint64_t last = item->hole != 0 ? item->last : item->seq;
        cr_assert(eq(u64, item->seq, next), "the page has a gap");
        if (seq >= item->seq && seq <= last)
            found = item->hole;
        next = last + 1;
    }
    return found;
}

/* Rows of a family, in the files, that `is` picks; after a stop. */
static uint64_t rows_of(enum kv_cf cf, bool (*is)(struct span key, struct span value, const void *),
                        const void *arg)
{
    struct kv *kv = compact_data(dir, true);
    struct kv_iter iter;
    uint64_t count = 0;
    kv_iter_open(&iter, kv, NULL, cf, (struct span){0}, (struct span){0});
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter))
        count += is == NULL || is(kv_iter_key(&iter), kv_iter_value(&iter), arg);
    kv_iter_close(&iter);
    kv_close(kv);
    return count;
}

static bool is_below(struct span key, struct span value, const void *below)
{
    (void)value;
    return key.n == KEY_SEQ_SIZE && get_be64(key.p + KEY_CONV_SIZE) < *(const uint64_t *)below;
}

static uint64_t rows_below(enum kv_cf cf, uint64_t below)
{
    return rows_of(cf, is_below, &below);
}

static bool has_text(struct span key, struct span value, const void *text)
{
    (void)key;
    return memmem(value.p, value.n, text, strlen(text)) != NULL;
}

static bool stands_in(enum kv_cf cf, const char *text)
{
    return rows_of(cf, has_text, text) > 0;
}

/* By count: the oldest go whole, sequences stay, the rest is as before; a plan says it before. */
Test(run, keeps_the_newest_by_count)
{
    send_many(1, 50);                                                 /* sequences 2 to 51 */
    ok(command_edit("ann", conv, "e1", 3, "{\"text\":\"changed\"}")); /* 52; makes a fold at 3 */
    ok(command_mark("eve", conv, 46, 46));
    cr_assert(eq(u64, info("eve")->unread, 5));
    Loquat__Report *plan = ask(PLAN, 0, 10);
    cr_assert(eq(u64, plan->raised, 1));
    cr_assert(eq(u64, plan->convs[0]->new_floor, 42));
    cr_assert(eq(u64, range(false, 1)->floor, 1)); /* it only said so */
    Loquat__Report *done = ask(RUN, 0, 10);
    cr_assert(eq(u64, done->raised, 1));
    cr_assert(eq(u64, compact_tally(done, CAUSE_FLOOR)->rows, 42)); /* 41 records, a fold */
    cr_assert(
        eq(u64, compact_tally(done, CAUSE_FLOOR)->gone, compact_tally(plan, CAUSE_FLOOR)->gone));
    Loquat__Reply *page = range(false, 1);
    cr_assert(eq(u64, page->floor, 42));
    cr_assert(eq(u64, page->head, 52));
    for (uint64_t seq = 1; seq <= 52; seq++)
        cr_assert(eq(u32, hole_at(page, seq),
                     seq < 42    ? LOQUAT__HOLE__HOLE_TRIMMED
                     : seq == 52 ? LOQUAT__HOLE__HOLE_COMPACTED /* its message went */
                                 : LOQUAT__HOLE__HOLE_NONE),
                  "sequence %lu", seq);
    cr_assert(eq(u64, info("eve")->unread, 5));
    cr_assert(eq(u64, info("bob")->unread, 10)); /* what went is not unread */
    expect_whole();
    cr_assert(eq(u64, compact_gone(ask(RUN, 0, 10)), 0)); /* a second time there is nothing to do */
    cr_assert(eq(u64, ok(message(60, 0, 0)), 53));
    stop();
    cr_assert(eq(u64, rows_below(KV_LOG, 42), 0));
    cr_assert(eq(u64, rows_below(KV_FOLD, 42), 0));
    start(dir);
}

static Loquat__Reply *feed(uint64_t after)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED;
    read.from = after;
    read.max = 1000;
    Loquat__Reply *reply = nodelink_reply(&gate, nodelink_read(&gate, &read, conv));
    cr_assert(eq(int, reply->err, 0), "%s", reply->msg);
    return reply;
}

/* What is behind a place in the feed, of sequences from `seq` to 51, as it was. */
static void expect_feed(uint64_t after, uint64_t seq, const uint64_t *offsets)
{
    const Loquat__Reply *page = feed(after);
    cr_assert(all(eq(u64, page->head, offsets[51]), eq(u64, page->next, offsets[51])));
    cr_assert(eq(sz, page->n_feed, 52 - seq));
    for (size_t i = 0; i < page->n_feed; i++, seq++)
        cr_assert(all(eq(u64, page->feed[i]->item->seq, seq),
                      eq(u64, page->feed[i]->offset, offsets[seq])));
}

/* The feed loses the entries of what went, and nothing else: offsets and its end stay. */
Test(run, the_feed_is_cut)
{
    uint64_t offsets[52] = {0};
    send_many(1, 50); /* sequences 2 to 51 */
    const Loquat__Reply *page = feed(0);
    cr_assert(eq(sz, page->n_feed, 51));
    for (size_t i = 0; i < page->n_feed; i++)
        offsets[page->feed[i]->item->seq] = page->feed[i]->offset;
    cr_assert(eq(u64, page->floor, offsets[1]));
    Loquat__Report *done = ask(RUN, 0, 10); /* floor 42 */
    cr_assert(eq(u64, compact_tally(done, CAUSE_FLOOR)->rows, 41));
    cr_assert(eq(u64, compact_tally(done, CAUSE_FEED)->rows, 41));
    expect_feed(0, 42, offsets);
    expect_feed(offsets[20], 42, offsets); /* a place that went */
    expect_feed(offsets[45], 46, offsets);
    cr_assert(eq(u64, feed(0)->floor, offsets[42]));
    cr_assert(eq(u64, compact_tally(ask(RUN, 0, 10), CAUSE_FEED)->rows, 0));
    stop();
    cr_assert(eq(u64, rows_of(KV_FEED, NULL, NULL), 10));
    start(dir);
    expect_feed(0, 42, offsets);
    Loquat__Reply *again = give(message(7, 0, 0));
    cr_assert(all(eq(int, again->dup, 1), eq(u64, again->seq, 8)));
    ok(command_retain(conv, 52)); /* nothing is left: the feed ends where it ended */
    cr_assert(eq(u64, compact_tally(ask(RUN, 0, 0), CAUSE_FEED)->rows, 9));
    expect_feed(0, 52, offsets);
    cr_assert(eq(u64, feed(0)->floor, offsets[51]));
    stop();
    cr_assert(eq(u64, rows_of(KV_FEED, NULL, NULL), 1));
    start(dir);
    expect_feed(0, 52, offsets);
    cr_assert(ge(u64, ok(message(60, 0, 0)), 52));
    page = feed(offsets[51]);
    cr_assert(all(eq(sz, page->n_feed, 1), ge(u64, page->feed[0]->offset, offsets[51] + 1)));
    expect_whole();
}

/* A cid that was used answers again, whether its record is there or not, before and after a
 * restart: it lives as long as the conversation. */
Test(run, old_cids_answer_after_their_records_went)
{
    send_many(1, 20);
    ok(message(21, 2000, 1)); /* 22: expired already */
    ask(RUN, 0, 5);
    for (int round = 0; round < 2; round++) {
        Loquat__Reply *low = give(message(1, 0, 0));
        cr_assert(eq(int, low->err, 0), "%s", low->msg);
        cr_assert(low->dup);
        cr_assert(eq(u64, low->seq, 2));
        Loquat__Reply *expired = give(message(21, 2000, 1));
        cr_assert(eq(int, expired->err, 0), "%s", expired->msg);
        cr_assert(expired->dup);
        cr_assert(eq(u64, expired->seq, 22));
        stop();
        start(dir);
    }
    cr_assert(eq(u64, range(false, 1)->head, 22));
    expect_whole();
}

/* By age: a prefix goes; where all is too old, all goes, and the sequence goes on. */
Test(run, trims_by_age)
{
    for (unsigned i = 1; i <= 6; i++)
        ok(message(i, i <= 4 ? 10ull * DAY_MS : 0, 0)); /* the meta record at 1 is of today */
    Loquat__Report *plan = ask(PLAN, 5ull * DAY_MS, 0);
    cr_assert(eq(u64, plan->raised, 1));
    cr_assert(eq(u64, compact_tally(plan, CAUSE_FLOOR)->rows, 5));
    Loquat__Report *done = ask(RUN, 5ull * DAY_MS, 0);
    cr_assert(eq(u64, compact_tally(done, CAUSE_FLOOR)->rows, 5));
    cr_assert(
        eq(u64, compact_gone(done) - compact_tally(done, CAUSE_FEED)->gone, compact_gone(plan)));
    cr_assert(eq(u64, range(false, 1)->floor, 6));
    cr_assert(eq(u64, info("bob")->unread, 2));
    usleep(2000);
    cr_assert(eq(u64, ask(RUN, 1, 0)->raised, 1));
    Loquat__Reply *page = range(false, 1);
    cr_assert(eq(u64, page->floor, 8));
    cr_assert(eq(u64, page->head, 7));
    cr_assert(eq(u64, info("bob")->unread, 0));
    expect_whole();
    stop();
    cr_assert(eq(u64, rows_below(KV_LOG, UINT64_MAX), 0));
    start(dir);
    Loquat__Reply *next = give(message(9, 0, 0));
    cr_assert(eq(u64, next->seq, 8));
    cr_assert(eq(u64, next->n, 7));
    cr_assert(eq(u64, info("bob")->unread, 1));
    expect_whole();
}

/* Expired content leaves the disk, record and edited body; the sequence shows a hole. */
Test(run, expired_content_goes)
{
    ok(message(1, 0, 0));
    ok(message(2, 0, 3600)); /* 3: not yet */
    Loquat__Command fleeting = command_send("ann", conv, "f", "{\"text\":\"fleeting words\"}");
    fleeting.ttl_s = 1;
    ok(fleeting); /* 4 */
    ok(command_edit("ann", conv, "e", 4, "{\"text\":\"edited words\"}"));
    ok(message(3, 0, 0));
    uint64_t expires = clock_wall_ms() + 1100;
    while (clock_wall_ms() < expires) /* the one thing that only time brings */
        usleep(20000);
    Loquat__Report *status = ask(STATUS, 0, 0);
    cr_assert(eq(u64, compact_tally(status, CAUSE_EXPIRED)->rows, 3)); /* record, edit, fold */
    Loquat__Report *done = ask(RUN, 0, 0);
    cr_assert(eq(u64, compact_tally(done, CAUSE_EXPIRED)->gone,
                 compact_tally(status, CAUSE_EXPIRED)->gone));
    Loquat__Reply *page = range(false, 1);
    cr_assert(eq(u32, hole_at(page, 4), LOQUAT__HOLE__HOLE_EXPIRED));
    cr_assert(eq(u32, hole_at(page, 5), LOQUAT__HOLE__HOLE_EXPIRED));
    cr_assert(eq(u32, hole_at(page, 3), LOQUAT__HOLE__HOLE_NONE));
    expect_whole();
    stop();
    cr_assert(not(stands_in(KV_LOG, "fleeting")));
    cr_assert(not(stands_in(KV_LOG, "edited")));
    cr_assert(not(stands_in(KV_FOLD, "edited")));
    cr_assert(stands_in(KV_LOG, "number 1"));
    start(dir);
}

/* Of edits only the newest keeps its words; folding and deleting work as before. */
Test(run, replaced_edits_go)
{
    ok(message(1, 0, 0)); /* 2 */
    ok(command_edit("ann", conv, "e1", 2, "{\"text\":\"first try\"}"));
    ok(command_edit("ann", conv, "e2", 2, "{\"text\":\"second try\"}"));
    ok(command_edit("ann", conv, "e3", 2, "{\"text\":\"third try\"}"));
    Loquat__Report *done = ask(RUN, 0, 0);
    cr_assert(eq(u64, compact_tally(done, CAUSE_EDIT)->rows, 2));
    Loquat__Reply *page = range(false, 1);
    cr_assert(eq(u32, hole_at(page, 3), LOQUAT__HOLE__HOLE_COMPACTED));
    cr_assert(eq(u32, hole_at(page, 4), LOQUAT__HOLE__HOLE_COMPACTED));
    cr_assert(eq(u32, hole_at(page, 5), LOQUAT__HOLE__HOLE_NONE));
    Loquat__Reply *folded = range(true, 1);
    cr_assert(eq(sz, folded->n_items, 1));
    cr_assert(span_is(span_of(folded->items[0]->body.data, folded->items[0]->body.len),
                      "{\"text\":\"third try\"}"));
    Loquat__Reply *again = give(command_edit("ann", conv, "e1", 2, "{\"text\":\"first try\"}"));
    cr_assert(eq(int, again->err, 0));
    cr_assert(again->dup);
    cr_assert(eq(u64, again->seq, 3));
    ok(command_delete("ann", conv, "d", 2));
    page = range(false, 1);
    cr_assert(eq(u32, hole_at(page, 2), LOQUAT__HOLE__HOLE_ERASED));
    cr_assert(eq(u32, hole_at(page, 3), LOQUAT__HOLE__HOLE_ERASED));
    expect_whole();
    stop();
    cr_assert(not(stands_in(KV_LOG, "first try")));
    start(dir);
}

/* A named conversation alone is touched; an unknown one is an error. */
Test(run, one_conversation)
{
    char other[64], *names[1] = {other};
    Loquat__Command open = command_open_direct("ann", "bob", other);
    ok(open);
    for (unsigned i = 0; i < 10; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "o%u", i);
        ok(command_send("ann", other, cid, "{\"text\":\"x\"}"));
    }
    send_many(1, 10);
    Loquat__Control control = compact_ask(RUN);
    control.max_count = 3;
    control.convs = names;
    control.n_convs = 1;
    Loquat__Report *report = compact_node(dir, &control, &arena);
    cr_assert(eq(int, report->err, 0), "%s", report->msg);
    cr_assert(eq(u64, report->conv_count, 1));
    cr_assert(eq(u64, report->raised, 1));
    cr_assert(eq(u64, info("bob")->floor, 1));
    names[0] = "g-nobody";
    report = compact_node(dir, &control, &arena);
    cr_assert(eq(int, report->err, ERR_NOT_FOUND));
}

/* Others write while a run is under way, and all of it is there afterwards. */
Test(run, writers_go_on)
{
    send_many(1, 200);
    for (unsigned i = 0; i < 40; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "w%u", i);
        ok(command_edit("ann", conv, cid, 190, "{\"text\":\"again\"}"));
    }
    struct nodelink control;
    Loquat__Control run = compact_ask(RUN);
    run.max_count = 20;
    compact_open(&control, dir);
    compact_send(&control, &run);
    for (unsigned i = 201; i < 250; i++) {
        uint64_t seq = ok(message(i, 0, 0));
        ok(command_edit("ann", conv, texts[i], seq, "{\"text\":\"meanwhile\"}"));
    }
    Loquat__Report *report = compact_wait(&control);
    cr_assert(ne(ptr, report, NULL));
    cr_assert(eq(int, report->err, 0), "%s", report->msg);
    nodelink_close(&control);
    expect_whole();
    cr_assert(eq(u64, range(false, 0)->head, 1 + 200 + 40 + 98));
}

/* A client that goes ends its job, and the node stops though one was asked for. */
Test(run, node_stops_under_a_job)
{
    send_many(1, 200);
    struct nodelink control;
    Loquat__Control run = compact_ask(RUN);
    run.max_count = 20;
    compact_open(&control, dir);
    compact_send(&control, &run);
    stop();
    nodelink_close(&control);
    cr_assert(not(scratch_has(dir, "control.sock")));
    start(dir);
    compact_open(&control, dir);
    compact_send(&control, &run);
    nodelink_close(&control);
    stop();
    start(dir);
    ask(RUN, 0, 20);
    expect_whole();
    cr_assert(eq(u64, range(false, 1)->floor, 182));
}

/* The socket is the owner's alone, a stale one is replaced, and a long path is none too long. */
Test(run, control_socket)
{
    char path[5 * SCRATCH_MAX], name[200];
    struct stat st;
    snprintf(path, sizeof path, "%.999s/control.sock", dir);
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(u32, st.st_mode & 0777, 0600));
    cr_assert(eq(int, stat(dir, &st), 0));
    cr_assert(eq(u32, st.st_mode & 0777, 0700));
    stop();
    cr_assert(not(scratch_has(dir, "control.sock")));
    scratch_write(dir, "control.sock", "left by a crash");
    start(dir);
    expect_whole();
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    stop();
    snprintf(path, sizeof path, "%s/%s", root, name);
    cr_assert(eq(int, rename(dir, path), 0));
    snprintf(dir, sizeof dir, "%s", path);
    start(dir);
    expect_whole();
}

/* Unknown bytes and unknown requests end the link or are refused; the node goes on. */
Test(run, malformed_requests)
{
    struct nodelink control;
    compact_open(&control, dir);
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    nodelink_add(&control, LINK_HELLO, &hello.base);
    nodelink_flush(&control);
    cr_assert(eq(ptr, compact_wait(&control), NULL));
    nodelink_close(&control);
    Loquat__Control unknown = compact_ask(99);
    cr_assert(eq(int, compact_node(dir, &unknown, &arena)->err, ERR_BAD_REQUEST));
    char *names[1] = {"not a name"};
    Loquat__Control bad = compact_ask(STATUS);
    bad.convs = names;
    bad.n_convs = 1;
    cr_assert(eq(int, compact_node(dir, &bad, &arena)->err, ERR_BAD_REQUEST));
    expect_whole();
}

/* One job at a time: who comes while one is at work is told so, and the job goes on. */
Test(run, one_job_at_a_time)
{
    send_many(1, 5);
    struct nodelink control;
    Loquat__Control status = compact_ask(STATUS);
    compact_open(&control, dir);
    nodelink_add(&control, LINK_CONTROL, &status.base);
    compact_send(&control, &status); /* both arrive together: the first can't be done by then */
    Loquat__Report *refused = compact_wait(&control);
    cr_assert(eq(int, refused->err, ERR_BUSY), "%s", refused->msg);
    Loquat__Report *done = compact_wait(&control);
    cr_assert(eq(int, done->err, 0));
    cr_assert(eq(u64, done->rows, 6));
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"compact_jobs\"}"), 1));
    cr_assert(eq(i64, measured("loquat_compact_jobs_total{end=\"done\"}"), 1));
    nodelink_close(&control);
}

/* ---- crashes ---- */

/* What a crash at this moment leaves is opened as a second node; the first ends. */
static void crash(void)
{
    char copy[4 * SCRATCH_MAX];
    static int lives;
    snprintf(copy, sizeof copy, "%s/life%d", root, ++lives);
    scratch_copy(dir, copy);
    stop();
    snprintf(dir, sizeof dir, "%s", copy);
    start(dir);
}

static void expect_trimmed(uint64_t floor, uint64_t head)
{
    Loquat__Reply *page = range(false, 1);
    cr_assert(eq(u64, page->floor, floor));
    cr_assert(eq(u64, page->head, head));
    for (uint64_t seq = 1; seq <= head; seq++)
        cr_assert(eq(int, hole_at(page, seq) == LOQUAT__HOLE__HOLE_TRIMMED, seq < floor));
    Loquat__Reply *again = give(message(1, 0, 0));
    cr_assert(eq(int, again->err, 0));
    cr_assert(again->dup);
    cr_assert(eq(u64, again->seq, 2));
}

/* Floors raised and nothing else done; then everything done; a crash after either, and a run again
 * comes to the same. Entries since the last flush are replayed over rows that have gone. */
Test(run, crashes_between_steps)
{
    send_many(1, 30);
    ok(command_edit("ann", conv, "e1", 5, "{\"text\":\"one\"}"));
    ok(command_edit("ann", conv, "e2", 5, "{\"text\":\"two\"}")); /* head 33 */
    ok(command_retain(conv, 12));
    crash();
    expect_trimmed(12, 33);
    cr_assert(eq(u64, compact_tally(ask(RUN, 0, 0), CAUSE_FLOOR)->rows, 12));
    crash();
    expect_trimmed(12, 33);
    cr_assert(eq(u64, compact_gone(ask(RUN, 0, 0)), 0));
    ok(command_edit("ann", conv, "e3", 20, "{\"text\":\"three\"}")); /* 34 */
    ok(command_edit("ann", conv, "e4", 20, "{\"text\":\"four\"}"));
    ask(RUN, 0, 5);
    ok(message(40, 0, 0)); /* 36 */
    crash();
    expect_trimmed(27, 36);
    expect_whole();
}
