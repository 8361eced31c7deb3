/* The feed of a partition, and its named readers. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/feedlog.h"
#include "store/key.h"
#include "tests/lib/dice.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { CONVS = 3, RECORDS_MAX = 2000 };

static struct machine m;
static char conv[CONVS][64];

/* What was committed, in this order. */
static struct {
    char conv[64];
    uint64_t seq;
} said[RECORDS_MAX];
static size_t said_count;

static void remember(void)
{
    for (size_t i = 0; i < m.applied.record_count; i++) {
        const struct apply_record *record = &m.applied.records[i];
        if (record->user_log)
            continue;
        snprintf(said[said_count].conv, sizeof said->conv, "%.*s", (int)record->conv.n,
                 record->conv.p);
        said[said_count++].seq = record->seq;
    }
}

static struct apply_result run(Loquat__Command command)
{
    Loquat__Command *one = &command;
    machine_entry(&m, &one, 1);
    remember();
    return m.applied.results[0];
}

static struct apply_result fine(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err, 0), "%s: %s", err_name(result.err), result.msg);
    return result;
}

static void setup(void)
{
    machine_open(&m);
    said_count = 0;
    for (int i = 0; i < CONVS; i++) {
        char cid[16];
        char *members[] = {"bob"};
        snprintf(cid, sizeof cid, "o%d", i);
        fine(command_open_group("ann", cid, conv[i], members, 1));
    }
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(feed, .init = setup, .fini = teardown, .timeout = 60);

static Loquat__Reply read_feed(Loquat__Read read)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED;
    arena_reset(&m.arena);
    cr_assert(eq(int, feedlog_read(m.kv, 0, &read, m.now_ms, &m.arena, &reply), 0));
    return reply;
}

static uint32_t bytes_max; /* of a page; 0: the default */

static Loquat__Reply page(uint64_t after, uint32_t max)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.bytes_max = bytes_max;
    read.from = after;
    read.max = max;
    return read_feed(read);
}

/* Everything behind `after`, in pages of this many, is what was said from `first` on. */
static void expect_said(uint64_t after, size_t first, uint32_t max)
{
    size_t at = first;
    uint64_t last = after;
    for (;;) {
        Loquat__Reply reply = page(after, max);
        for (size_t i = 0; i < reply.n_feed; i++, at++) {
            cr_assert(at < said_count && reply.feed[i]->offset > last);
            cr_assert(eq(str, reply.feed[i]->conv, said[at].conv));
            cr_assert(eq(u64, reply.feed[i]->item->seq, said[at].seq));
            last = reply.feed[i]->offset;
        }
        cr_assert(le(sz, reply.n_feed, max));
        if (reply.n_feed == 0) {
            cr_assert(eq(u64, after, reply.head));
            break;
        }
        cr_assert(eq(u64, reply.next, last));
        after = reply.next;
    }
    cr_assert(eq(sz, at, said_count));
}

static void say_many(uint64_t *dice, int entries)
{
    for (int i = 0; i < entries; i++) {
        Loquat__Command commands[12], *list[12];
        char cids[12][64];
        size_t n = 1 + dice_roll(dice, 12);
        for (size_t k = 0; k < n; k++) {
            snprintf(cids[k], sizeof cids[k], "%d-%zu-%llu", i, k, (unsigned long long)said_count);
            commands[k] = dice_roll(dice, 5) == 0
                              ? command_mark("bob", conv[dice_roll(dice, CONVS)], 1, 1)
                              : command_send("ann", conv[dice_roll(dice, CONVS)], cids[k], "x");
            list[k] = &commands[k];
        }
        machine_entry(&m, list, n);
        remember();
        m.now_ms += dice_roll(dice, 5);
    }
}

Test(feed, has_every_record_in_the_order_of_commit)
{
    uint64_t dice = 7;
    say_many(&dice, 80);
    cr_assert(lt(sz, 200, said_count));
    expect_said(0, 0, 1000);
    expect_said(0, 0, 1);
    expect_said(0, 0, 7);
    for (bytes_max = 1; bytes_max < 40000; bytes_max *= 3)
        expect_said(0, 0, 1000);
    bytes_max = 2000;
    cr_assert(all(ge(sz, page(0, 1000).n_feed, 5), le(sz, page(0, 1000).n_feed, 32)));
    bytes_max = 0;
    Loquat__Reply reply = page(0, 1000);
    uint64_t offsets[RECORDS_MAX], head = reply.head;
    for (size_t i = 0; i < said_count; i++)
        offsets[i] = reply.feed[i]->offset;
    cr_assert(eq(u64, reply.floor, offsets[0]));
    cr_assert(eq(u64, head, offsets[said_count - 1]));
    for (size_t i = 0; i < said_count; i += 13)
        expect_said(offsets[i], i + 1, 5);
    machine_crash(&m);
    expect_said(0, 0, 1000);
    reply = page(0, 1000);
    for (size_t i = 0; i < said_count; i++)
        cr_assert(eq(u64, reply.feed[i]->offset, offsets[i]));
    cr_assert(
        all(zero(sz, page(head, 10).n_feed), eq(u64, page(head + 99999, 10).next, head + 99999)));
}

Test(feed, begins_at_a_time)
{
    uint64_t times[40];
    size_t before[40];
    for (int i = 0; i < 40; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "t%d", i);
        m.now_ms += i % 3 == 0 ? 0 : 1000;
        times[i] = m.now_ms;
        before[i] = said_count;
        fine(command_send("ann", conv[i % CONVS], cid, "x"));
    }
    for (int i = 0; i < 40; i++) {
        Loquat__Read read = LOQUAT__READ__INIT;
        int first = i; /* of those at the same time */
        while (first > 0 && times[first - 1] == times[i])
            first--;
        read.at = times[i];
        read.max = 1000;
        Loquat__Reply reply = read_feed(read);
        size_t skipped = said_count - reply.n_feed;
        cr_assert(le(sz, skipped, before[first]), "nothing of that time is left out");
        if (first > 0)
            cr_assert(ge(sz, skipped, before[first - 1]), "nor much more told");
    }
    Loquat__Read read = LOQUAT__READ__INIT;
    read.at = m.now_ms + 60000;
    cr_assert(eq(u64, read_feed(read).next, page(0, 0).head), "nothing is as new");
    read.at = 1;
    cr_assert(eq(u64, read_feed(read).next, page(0, 0).floor - 1), "everything is newer");
}

Test(feed, shows_what_is_gone_as_a_hole)
{
    uint64_t erased = fine(command_send("ann", conv[0], "a", "secret")).seq;
    uint64_t trimmed = fine(command_send("ann", conv[0], "b", "x")).seq;
    Loquat__Command expiring = command_send("ann", conv[0], "c", "x");
    expiring.ttl_s = 1;
    uint64_t expired = fine(expiring).seq;
    fine(command_delete("ann", conv[0], "d", erased));
    m.now_ms += 5000;
    struct key key = key_seq(0, conv_id_of(span_str(conv[0])), trimmed);
    kv_delete(&m.batch, KV_LOG, key_span(&key));
    machine_write(&m);
    Loquat__Reply reply = page(0, 100);
    size_t holes = 0;
    for (size_t i = 0; i < reply.n_feed; i++) {
        const Loquat__Item *item = reply.feed[i]->item;
        if (strcmp(reply.feed[i]->conv, conv[0]) != 0)
            continue;
        cr_assert(ne(u64, item->seq, trimmed));
        if (item->hole == 0)
            continue;
        holes++;
        cr_assert(eq(u32, item->hole,
                     item->seq == erased ? LOQUAT__HOLE__HOLE_ERASED : LOQUAT__HOLE__HOLE_EXPIRED));
        cr_assert(item->seq == erased || item->seq == expired);
        cr_assert(zero(sz, item->record.len));
    }
    cr_assert(all(eq(sz, holes, 2), eq(sz, reply.n_feed, said_count - 1)));
    cr_assert(eq(u64, reply.next, reply.head));
}

/* What a page has of each record is what its row has, whichever files the rows of a run are in. */
static void expect_rows(const bool *gone)
{
    for (uint32_t max = 3; max < RECORDS_MAX; max *= 5) {
        size_t at = 0;
        uint64_t after = 0;
        struct buf row = {0};
        for (Loquat__Reply reply = page(after, max); after != reply.head;
             reply = page(after, max)) {
            for (size_t i = 0; i < reply.n_feed; i++, at++) {
                const Loquat__Item *item = reply.feed[i]->item;
                while (gone[at])
                    at++;
                cr_assert(eq(str, reply.feed[i]->conv, said[at].conv));
                cr_assert(eq(u64, item->seq, said[at].seq));
                struct key key = key_seq(0, conv_id_of(span_str(said[at].conv)), item->seq);
                cr_assert(eq(int, kv_get(m.kv, KV_LOG, key_span(&key), &row), 0));
                if (item->hole == 0)
                    cr_assert(span_eq(buf_span(&row),
                                      span_of((char *)item->record.data, item->record.len)));
            }
            after = reply.next;
        }
        while (at < said_count && gone[at])
            at++;
        cr_assert(eq(sz, at, said_count));
        buf_close(&row);
    }
}

static void trim(size_t at, bool *gone)
{
    struct key key = key_seq(0, conv_id_of(span_str(said[at].conv)), said[at].seq);
    gone[at] = true;
    kv_delete(&m.batch, KV_LOG, key_span(&key));
    machine_write(&m);
}

Test(feed, runs_lie_in_many_files)
{
    static bool gone[RECORDS_MAX];
    uint64_t dice = 11;
    size_t holes = 0;
    for (int round = 0; round < 8; round++) {
        size_t before = said_count;
        say_many(&dice, 30);
        for (int i = 0; i < 8; i++) {
            size_t at = (i < 6 ? before : 0) + dice_roll(&dice, 100);
            char cid[64];
            snprintf(cid, sizeof cid, "d%d-%d", round, i);
            Loquat__Command command = command_delete("ann", said[at].conv, cid, said[at].seq);
            holes += !gone[at] && run(command).err == 0;
            trim((i < 6 ? before : 0) + dice_roll(&dice, 100), gone);
        }
        trim(said_count - 1, gone);
        trim(said_count - 2, gone);
        expect_rows(gone);
        machine_flush(&m);
        expect_rows(gone);
    }
    cr_assert(lt(sz, 20, holes));
}

static int err_of_page(void)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.max = 100;
    return feedlog_read(m.kv, 0, &read, m.now_ms, &m.arena, &reply);
}

Test(feed, says_what_is_damaged)
{
    uint64_t seq = fine(command_send("ann", conv[0], "a", "x")).seq;
    struct key key = key_seq(0, conv_id_of(span_str(conv[0])), seq);
    kv_put(&m.batch, KV_LOG, key_span(&key), span_str("no record"));
    machine_write(&m);
    cr_assert(eq(int, err_of_page(), ERR_CORRUPT));
    kv_delete(&m.batch, KV_LOG, key_span(&key));
    machine_write(&m);
    cr_assert(eq(int, err_of_page(), 0));
    key = key_number(0, 1);
    static const struct span WRONG[] = {{"short", 5},
                                        {"0123456789abcdef\x01", 17},
                                        {"0123456789abcdef\x00\x01", 18},
                                        {"0123456789abcdef\x01\x00", 18}};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        kv_put(&m.batch, KV_FEED, key_span(&key), WRONG[i]);
        machine_write(&m);
        cr_assert(eq(int, err_of_page(), ERR_CORRUPT), "row %zu", i);
    }
}

/* ---- consumers ---- */

static Loquat__Command command_of(uint32_t op, const char *name)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = op;
    command.user = (char *)(uintptr_t) "job";
    command.consumer = (char *)(uintptr_t)name;
    return command;
}

static Loquat__Command cursor(const char *name, uint32_t step, uint64_t offset, uint64_t generation)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_CURSOR, name);
    command.step = step;
    command.offset = offset;
    command.generation = generation;
    return command;
}

static Loquat__Command worker(const char *name, const char *who, uint64_t ttl_ms)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_WORKER, name);
    command.worker = (char *)(uintptr_t)who;
    command.ttl_ms = ttl_ms;
    return command;
}

static int read_cursor(const char *name, Loquat__Reply *reply)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.after = (char *)(uintptr_t)name;
    arena_reset(&m.arena);
    *reply = (Loquat__Reply)LOQUAT__REPLY__INIT;
    return feedlog_read_cursor(m.kv, 0, &read, m.now_ms, &m.arena, reply);
}

static uint64_t lag_of(const char *name)
{
    Loquat__Reply reply;
    cr_assert(eq(int, read_cursor(name, &reply), 0));
    bool there = reply.lag != 0;
    cr_assert(eq(int, there, reply.lag_ms != 0));
    return reply.lag;
}

Test(feed, a_cursor_moves_as_far_as_its_worker_says)
{
    Loquat__Reply reply;
    uint64_t head = page(0, 0).head;
    cr_assert(eq(int, read_cursor("c", &reply), ERR_NOT_FOUND));
    cr_assert(eq(int, run(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_SET, 1, 0)).err, ERR_NOT_FOUND));
    fine(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_BEGIN, 0, 0));
    fine(cursor("n", LOQUAT__CURSOR_STEP__CURSOR_BEGIN_NOW, 0, 0));
    cr_assert(all(eq(u64, lag_of("c"), said_count), zero(u64, lag_of("n"))));
    fine(command_send("ann", conv[0], "1", "x"));
    fine(command_send("ann", conv[0], "2", "x"));
    cr_assert(eq(u64, lag_of("n"), 2));
    /* A beginning is one once. */
    cr_assert(eq(u64, fine(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_BEGIN_NOW, 0, 0)).seq, 0));
    cr_assert(eq(u64, fine(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_TAKE, 0, 5)).seq, 0));
    Loquat__Command move = cursor("c", LOQUAT__CURSOR_STEP__CURSOR_MOVE, head, 5);
    cr_assert(eq(u64, fine(move).seq, head));
    cr_assert(eq(u64, lag_of("c"), 2));
    /* Who has it no more. */
    fine(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_TAKE, 0, 6));
    cr_assert(eq(int, run(move).err, ERR_CONFLICT));
    cr_assert(eq(int, run(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_TAKE, 0, 5)).err, ERR_CONFLICT));
    /* From where it is known to be, or it was said before; else it was put elsewhere. */
    uint64_t now = page(0, 0).head;
    move = cursor("c", LOQUAT__CURSOR_STEP__CURSOR_MOVE, now, 6);
    move.on = true;
    move.was = head;
    cr_assert(all(eq(u64, fine(move).seq, now), eq(u64, fine(move).seq, now)));
    fine(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_SET, 3, 0));
    cr_assert(eq(int, run(move).err, ERR_CONFLICT));
    cr_assert(eq(int, read_cursor("c", &reply), 0));
    cr_assert(all(eq(u64, reply.cursor->offset, 3), eq(u64, reply.cursor->generation, 6)));
    cr_assert(eq(u64, reply.head, now));
    /* Not where nothing is yet, nor as nobody. */
    struct apply_result result = run(cursor("c", LOQUAT__CURSOR_STEP__CURSOR_SET, now + 99999, 0));
    cr_assert(eq(int, result.err, ERR_BAD_REQUEST));
    cr_assert(
        eq(int, run(cursor("", LOQUAT__CURSOR_STEP__CURSOR_BEGIN, 0, 0)).err, ERR_BAD_REQUEST));
    cr_assert(eq(int, run(cursor("c", 99, 0, 9)).err, ERR_BAD_REQUEST));
    machine_crash(&m);
    cr_assert(all(eq(int, read_cursor("c", &reply), 0), eq(u64, reply.cursor->offset, 3)));
}

static struct feedlog_lag *lags(size_t *count)
{
    struct feedlog_lag *found;
    arena_reset(&m.arena);
    cr_assert(eq(int, feedlog_lags(m.kv, 0, m.now_ms, &m.arena, &found, count), 0));
    return found;
}

/* Of all cursors at once, and of each alone, what is really behind them and since when. */
Test(feed, says_how_far_each_is_behind)
{
    enum { CURSORS = 60 };
    uint64_t dice = 11, offsets[CURSORS], behind[CURSORS], since[CURSORS];
    size_t count;
    lags(&count);
    cr_assert(zero(sz, count));
    say_many(&dice, 60);
    uint64_t head = page(0, 0).head;
    for (int i = 0; i < CURSORS; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        offsets[i] = i == 0 ? 0 : i == 1 ? head : dice_roll(&dice, (uint32_t)head + 1);
        fine(cursor(name, LOQUAT__CURSOR_STEP__CURSOR_BEGIN, offsets[i], 0));
        behind[i] = 0;
        for (uint64_t after = offsets[i]; after < head;) {
            Loquat__Reply reply = page(after, FEEDLOG_RECORDS_MAX);
            struct record_view first;
            if (behind[i] == 0 && record_view(span_of(reply.feed[0]->item->record.data,
                                                      reply.feed[0]->item->record.len),
                                              &first) == 0)
                since[i] = mid_ms(record_mid(first.ts, first.mid_off, 0));
            behind[i] += reply.n_feed;
            after = reply.next;
        }
    }
    m.now_ms += 5000;
    struct feedlog_lag *found = lags(&count), copy[CURSORS];
    cr_assert(eq(sz, count, CURSORS));
    for (size_t k = 0; k < count; k++) {
        int i = atoi(found[k].name.p + 1);
        cr_assert(all(eq(u64, found[k].offset, offsets[i]), eq(u64, found[k].records, behind[i])));
        cr_assert(eq(u64, found[k].ms, behind[i] > 0 ? m.now_ms - since[i] : 0));
        copy[i] = found[k];
    }
    for (int i = 0; i < CURSORS; i++) {
        char name[16];
        Loquat__Reply reply;
        snprintf(name, sizeof name, "c%d", i);
        cr_assert(eq(int, read_cursor(name, &reply), 0));
        cr_assert(all(eq(u64, reply.lag, copy[i].records), eq(u64, reply.lag_ms, copy[i].ms)));
    }
    fine(command_send("ann", conv[0], "one more", "x"));
    run(command_of(LOQUAT__OP__OP_CONSUMER_DROP, "c0"));
    found = lags(&count);
    cr_assert(eq(sz, count, CURSORS - 1));
    for (size_t k = 0; k < count; k++)
        cr_assert(eq(u64, found[k].records, behind[atoi(found[k].name.p + 1)] + 1));
}

static Loquat__Reply consumers(const char *one, const char *after)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.conv = (char *)(uintptr_t)one;
    read.after = (char *)(uintptr_t)after;
    arena_reset(&m.arena);
    int err = feedlog_read_consumers(m.kv, 0, &read, &m.arena, &reply);
    cr_assert(eq(int, err, one[0] != 0 && reply.n_consumers == 0 ? ERR_NOT_FOUND : 0));
    return reply;
}

Test(feed, there_are_as_many_consumers_as_can_be)
{
    char name[16];
    struct apply_result result = {0};
    size_t count = 0;
    while (result.err == 0) {
        snprintf(name, sizeof name, "c%03zu", count++);
        result = run(command_of(LOQUAT__OP__OP_CONSUMER, name));
    }
    cr_assert(all(eq(int, result.err, ERR_TOO_LARGE), eq(sz, count, 257)));
    cr_assert(fine(command_of(LOQUAT__OP__OP_CONSUMER, "c007")).dup);
    size_t seen = 0;
    char after[65] = "";
    do {
        Loquat__Reply reply = consumers("", after);
        for (size_t i = 0; i < reply.n_consumers; i++, seen++) {
            snprintf(name, sizeof name, "c%03zu", seen);
            cr_assert(eq(str, reply.consumers[i]->name, name));
        }
        snprintf(after, sizeof after, "%s", reply.after);
    } while (after[0] != 0);
    cr_assert(eq(sz, seen, 256));
    fine(command_of(LOQUAT__OP__OP_CONSUMER_DROP, "c007"));
    cr_assert(zero(sz, consumers("c007", "").n_consumers));
    cr_assert(eq(int, run(command_of(LOQUAT__OP__OP_CONSUMER_DROP, "c007")).err, ERR_NOT_FOUND));
    cr_assert(not(fine(command_of(LOQUAT__OP__OP_CONSUMER, "other")).dup));
    cr_assert(eq(int, run(command_of(LOQUAT__OP__OP_CONSUMER, "c007")).err, ERR_TOO_LARGE));
    cr_assert(eq(int, run(command_of(LOQUAT__OP__OP_CONSUMER, "no name")).err, ERR_BAD_REQUEST));
}

Test(feed, a_webhook_keeps_its_key_until_another_is_wanted)
{
    Loquat__Webhook webhook = LOQUAT__WEBHOOK__INIT;
    Loquat__Command command = command_of(LOQUAT__OP__OP_CONSUMER, "h");
    webhook.url = (char *)(uintptr_t) "https://example.com/";
    webhook.key = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "one"};
    command.webhook = &webhook;
    command.on = true;
    cr_assert(eq(u64, fine(command).n, 1));
    webhook.key.data = (uint8_t *)(uintptr_t) "two";
    cr_assert(zero(u64, fine(command).n));
    cr_assert(zero(int, memcmp(consumers("h", "").consumers[0]->webhook->key.data, "one", 3)));
    command.on = false;
    cr_assert(eq(u64, fine(command).n, 1));
    cr_assert(zero(int, memcmp(consumers("h", "").consumers[0]->webhook->key.data, "two", 3)));
    command.webhook = NULL;
    cr_assert(all(zero(u64, fine(command).n), fine(command).dup));
    cr_assert(consumers("h", "").consumers[0]->webhook == NULL);
}

static const char *names(void)
{
    static char text[200];
    const Loquat__Consumer *consumer = consumers("w", "").consumers[0];
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < consumer->n_workers; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s ", consumer->workers[i]->name);
    return text;
}

Test(feed, workers_come_and_go_by_generations)
{
    cr_assert(eq(int, run(worker("w", "a", 1000)).err, ERR_NOT_FOUND));
    fine(command_of(LOQUAT__OP__OP_CONSUMER, "w"));
    uint64_t first = fine(worker("w", "b", 1000)).seq;
    cr_assert(eq(u64, fine(worker("w", "b", 1000)).seq, first), "it is only heard of again");
    uint64_t second = fine(worker("w", "a", 5000)).seq;
    cr_assert(all(lt(u64, first, second), eq(str, (char *)(uintptr_t)names(), "a b ")));
    m.now_ms += 1500;
    uint64_t third = fine(worker("w", "a", 5000)).seq;
    cr_assert(all(lt(u64, second, third), eq(str, (char *)(uintptr_t)names(), "a ")), "b was late");
    fine(worker("w", "c", 5000));
    cr_assert(lt(u64, third, fine(worker("w", "a", 0)).seq));
    cr_assert(eq(str, (char *)(uintptr_t)names(), "c "));
    uint64_t last = fine(worker("w", "nobody", 0)).seq;
    fine(command_of(LOQUAT__OP__OP_CONSUMER_DROP, "w"));
    fine(command_of(LOQUAT__OP__OP_CONSUMER, "w"));
    m.now_ms++;
    cr_assert(lt(u64, last, fine(worker("w", "c", 5000)).seq), "nor after it was made anew");
    for (int i = 0; i < 63; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        fine(worker("w", name, 5000));
    }
    cr_assert(eq(int, run(worker("w", "y", 5000)).err, ERR_TOO_LARGE));
    cr_assert(eq(int, run(worker("w", "x1", 600001)).err, ERR_BAD_REQUEST));
    cr_assert(eq(int, run(worker("w", "", 1000)).err, ERR_BAD_REQUEST));
}
