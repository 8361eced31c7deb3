#include "store/timeline.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/err.h"
#include "store/base/record.h"
#include "store/key.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { SEQ_MAX = 3000, RECORD = 100 }; /* seen[]: RECORD, or the reason of the hole */

static struct machine m;
static char conv[64];
static uint32_t seen[SEQ_MAX];
static unsigned pages;

static struct apply_result must(Loquat__Command command)
{
    struct apply_result result = machine_do(&m, &command);
    cr_assert(eq(int, result.err, 0), "%s: %s", err_name(result.err), result.msg);
    return result;
}

static uint64_t say(const char *user, const char *text)
{
    static unsigned counter;
    char cid[16];
    snprintf(cid, sizeof cid, "t%u", counter++);
    return must(command_send(user, conv, cid, text)).seq;
}

static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob"};
    must(command_open_group("ann", "open", conv, members, 1));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(timeline, .init = setup, .fini = teardown, .timeout = 60);

static Loquat__Read range(const char *user, bool folded, bool desc, uint64_t from, uint64_t to)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    read.folded = folded;
    read.desc = desc;
    read.from = from;
    read.to = to;
    return read;
}

static void note(const Loquat__Item *item, bool desc, uint64_t *at)
{
    uint64_t first = item->seq, last = item->hole != 0 ? item->last : item->seq;
    cr_assert(first > 0 && first <= last && last < SEQ_MAX);
    cr_assert(desc ? last <= *at : first >= *at, "out of order at %lu", first);
    *at = desc ? first - 1 : last + 1;
    for (uint64_t seq = first; seq <= last; seq++) {
        cr_assert(eq(u32, seen[seq], 0), "sequence %lu twice", seq);
        seen[seq] = item->hole != 0 ? item->hole : RECORD;
    }
    if (item->hole == 0)
        cr_assert(eq(int, record_check(span_of(item->record.data, item->record.len)), 0));
}

/* Reads on until there is no next page; every step goes on, in order, and nothing comes twice. */
static void walk(Loquat__Read read)
{
    memset(seen, 0, sizeof seen);
    uint64_t at = read.desc ? UINT64_MAX : 0;
    for (pages = 1; pages < SEQ_MAX; pages++) {
        Loquat__Reply reply;
        cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
        for (size_t i = 0; i < reply.n_items; i++)
            note(reply.items[i], read.desc, &at);
        uint64_t next = reply.next;
        arena_reset(&m.arena);
        if (next == 0)
            return;
        cr_assert(read.desc ? read.from == 0 || next < read.from : next > read.from,
                  "page %u from %lu goes on at %lu", pages, read.from, next);
        read.from = next;
    }
    cr_assert(false, "pages without end");
}

static void seen_is(uint64_t first, uint64_t last, uint32_t what)
{
    for (uint64_t seq = first; seq <= last; seq++)
        cr_assert(eq(u32, seen[seq], what), "sequence %lu", seq);
}

/* Every sequence once, whatever the page size, the direction and the ends. */
Test(timeline, pages_cover_each_sequence_once)
{
    for (int i = 0; i < 40; i++)
        say(i % 3 ? "ann" : "bob", "hello");
    for (uint32_t max = 1; max <= 45; max += max < 8 ? 1 : 9)
        for (int desc = 0; desc < 2; desc++) {
            Loquat__Read read = range("bob", false, desc, 0, 0);
            read.max = max;
            walk(read);
            seen_is(1, 41, RECORD);
            seen_is(42, 50, 0);
            cr_assert(eq(u32, pages, (41 + max - 1) / max));
        }
}

/* asc is [from, to), desc is from down to `to`, exclusive; what lies outside is not there. */
Test(timeline, ends_are_exact)
{
    for (int i = 0; i < 19; i++)
        say("ann", "hello");
    for (uint64_t from = 1; from <= 22; from++)
        for (uint64_t to = 1; to <= 22; to++)
            for (uint32_t max = 1; max <= 7; max += 3) {
                Loquat__Read read = range("bob", false, false, from, to);
                read.max = max;
                walk(read);
                for (uint64_t seq = 1; seq <= 22; seq++)
                    cr_assert(
                        eq(u32, seen[seq], seq >= from && seq < to && seq <= 20 ? RECORD : 0));
                read = range("bob", false, true, from, to);
                read.max = max;
                walk(read);
                for (uint64_t seq = 1; seq <= 22; seq++)
                    cr_assert(
                        eq(u32, seen[seq], seq <= from && seq > to && seq <= 20 ? RECORD : 0));
            }
}

/* next names the first sequence of the next page, and is 0 when the last one was given: also when
 * the page is exactly full. */
Test(timeline, next_is_exact)
{
    for (int i = 0; i < 9; i++)
        say("ann", "hello");
    Loquat__Reply reply;
    Loquat__Read read = range("bob", false, false, 0, 0);
    read.max = 4;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_items, 4));
    cr_assert(eq(u64, reply.next, 5));
    cr_assert(eq(u64, reply.head, 10));
    cr_assert(eq(u64, reply.floor, 1));
    read.max = 10;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(u64, reply.next, 0));
    read.desc = true;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(u64, reply.next, 0));
    read.max = 9;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(u64, reply.items[0]->seq, 10));
    cr_assert(eq(u64, reply.next, 1));
}

/* Beyond the head there is nothing, and no error. */
Test(timeline, beyond_the_head)
{
    say("ann", "hello");
    walk(range("bob", false, false, 3, 0));
    seen_is(1, 9, 0);
    walk(range("bob", false, false, UINT64_MAX, 0));
    seen_is(1, 9, 0);
    walk(range("bob", false, true, UINT64_MAX, 0));
    seen_is(1, 2, RECORD);
    walk(range("bob", false, true, 5, UINT64_MAX));
    seen_is(1, 9, 0);
}

/* A page ends at its bytes, and even a record above them is given. */
Test(timeline, page_ends_at_its_bytes)
{
    static char large[9000];
    memset(large, 'x', sizeof large - 1);
    for (int i = 0; i < 10; i++)
        say("ann", large);
    for (int desc = 0; desc < 2; desc++) {
        Loquat__Read read = range("bob", false, desc, 0, 0);
        read.bytes_max = 20000;
        walk(read);
        seen_is(1, 11, RECORD);
        cr_assert(ge(u32, pages, 4));
        read.bytes_max = 1;
        walk(read);
        seen_is(1, 11, RECORD);
        cr_assert(eq(u32, pages, 11));
    }
}

/* What a message was edited to counts as well: a page of short ones that became long ones ends. */
Test(timeline, edited_bodies_count)
{
    static char large[30001];
    memset(large, 'x', sizeof large - 1);
    for (uint64_t i = 0; i < 50; i++) {
        char cid[24];
        snprintf(cid, sizeof cid, "edit%lu", i);
        must(command_edit("ann", conv, cid, say("ann", "short"), large));
    }
    for (int desc = 0; desc < 2; desc++) {
        Loquat__Reply reply;
        Loquat__Read read = range("bob", true, desc, 0, 0);
        cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
        cr_assert(ne(u64, reply.next, 0));
        cr_assert(lt(sz, loquat__reply__get_packed_size(&reply), TIMELINE_BYTES_MAX + 40000));
        walk(read);
        cr_assert(ge(u32, pages, 2));
    }
}

/* The most that one page holds, however much was asked for. */
Test(timeline, page_holds_at_most_the_bounds)
{
    for (int i = 0; i < TIMELINE_RECORDS_MOST + 10; i++)
        say("ann", "x");
    Loquat__Reply reply;
    Loquat__Read read = range("bob", false, false, 0, 0);
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_items, TIMELINE_RECORDS_MAX));
    read.max = 1u << 30;
    read.bytes_max = 1u << 30;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_items, TIMELINE_RECORDS_MOST));
    cr_assert(eq(u64, reply.next, TIMELINE_RECORDS_MOST + 1));
    static char large[30000];
    memset(large, 'x', sizeof large - 1);
    uint64_t from = say("ann", large);
    for (int i = 0; i < 50; i++)
        say("ann", large);
    read.from = from;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(lt(sz, reply.n_items * sizeof large, TIMELINE_BYTES_MAX + 2 * sizeof large));
    cr_assert(ne(u64, reply.next, 0));
}

/* Below the floor is one hole "trimmed", in both directions and from anywhere in it. */
Test(timeline, below_the_floor_is_trimmed)
{
    for (int i = 0; i < 19; i++)
        say("ann", "hello");
    must(command_retain(conv, 8));
    for (uint32_t max = 1; max <= 4; max++)
        for (int folded = 0; folded < 2; folded++)
            for (int desc = 0; desc < 2; desc++)
                for (uint64_t from = 0; from <= 21; from++) {
                    Loquat__Read read = range("bob", folded, desc, from, 0);
                    read.max = max;
                    walk(read);
                    uint64_t low = desc || from == 0 ? 1 : from;
                    uint64_t high = !desc || from == 0 || from > 20 ? 20 : from;
                    for (uint64_t seq = 1; seq <= 22; seq++) {
                        uint32_t want = seq < 8 ? LOQUAT__HOLE__HOLE_TRIMMED : RECORD;
                        cr_assert(eq(u32, seen[seq], seq >= low && seq <= high ? want : 0),
                                  "%lu from %lu, desc %d", seq, from, desc);
                    }
                }
    Loquat__Reply reply;
    Loquat__Read read = range("bob", false, true, 5, 2);
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_items, 1));
    cr_assert(eq(u64, reply.items[0]->seq, 3));
    cr_assert(eq(u64, reply.items[0]->last, 5));
    cr_assert(eq(u64, reply.floor, 8));
}

/* All of it trimmed: one hole, and the head is where it was. */
Test(timeline, everything_trimmed)
{
    for (int i = 0; i < 5; i++)
        say("ann", "hello");
    must(command_retain(conv, 99));
    struct key from = key_seq(0, conv_id_of(span_str(conv)), 0);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        put_be64(from.p + KEY_CONV_SIZE, seq);
        kv_delete(&m.batch, KV_LOG, key_span(&from));
    }
    cr_assert(eq(int, kv_write(&m.batch), 0));
    for (int desc = 0; desc < 2; desc++) {
        walk(range("bob", false, desc, 0, 0));
        seen_is(1, 6, LOQUAT__HOLE__HOLE_TRIMMED);
        seen_is(7, 9, 0);
    }
    machine_restart(&m);
    cr_assert(eq(u64, say("ann", "on"), 7));
}

/* history "joined": what came before is hidden; for who was there from the beginning it is not. */
Test(timeline, history_of_who_joined_later)
{
    char *members[] = {"bob"};
    Loquat__Command open = command_open_group("ann", "joined", conv, members, 1);
    open.history_joined = true;
    must(open);
    for (int i = 0; i < 9; i++)
        say("ann", "before");
    uint64_t joined = must(command_member("ann", conv, "add", MEMBER_ADD, "eve", 0)).seq;
    cr_assert(eq(u64, joined, 11));
    for (int i = 0; i < 9; i++)
        say("ann", "after");
    for (int desc = 0; desc < 2; desc++)
        for (uint32_t max = 1; max <= 21; max += 4) {
            Loquat__Read read = range("eve", false, desc, 0, 0);
            read.max = max;
            walk(read);
            seen_is(1, 10, LOQUAT__HOLE__HOLE_HIDDEN);
            seen_is(11, 20, RECORD);
            read.user = "bob";
            walk(read);
            seen_is(1, 20, RECORD);
        }
    must(command_retain(conv, 5));
    for (int desc = 0; desc < 2; desc++) {
        walk(range("eve", false, desc, 0, 0));
        seen_is(1, 4, LOQUAT__HOLE__HOLE_TRIMMED);
        seen_is(5, 10, LOQUAT__HOLE__HOLE_HIDDEN);
        seen_is(11, 20, RECORD);
        walk(range("eve", false, desc, desc ? 7 : 3, desc ? 2 : 8));
        seen_is(1, 2, 0);
        seen_is(3, 4, LOQUAT__HOLE__HOLE_TRIMMED);
        seen_is(5, 7, LOQUAT__HOLE__HOLE_HIDDEN);
        seen_is(8, 20, 0);
    }
    must(command_retain(conv, 15));
    walk(range("eve", false, false, 0, 0));
    seen_is(1, 14, LOQUAT__HOLE__HOLE_TRIMMED);
    seen_is(15, 20, RECORD);
    must(command_leave("eve", conv, "bye"));
    must(command_member("ann", conv, "again", MEMBER_ADD, "eve", 0));
    walk(range("eve", false, true, 0, 0));
    seen_is(15, 21, LOQUAT__HOLE__HOLE_HIDDEN);
    seen_is(22, 22, RECORD);
}

/* Deleted and expired messages and removed rows are holes of their kind; neighbours of one kind are
 * one hole. */
Test(timeline, holes_of_every_kind)
{
    for (int i = 0; i < 11; i++)
        say("ann", "hello");
    Loquat__Command brief = command_send("ann", conv, "brief", "gone soon");
    brief.ttl_s = 5;
    cr_assert(eq(u64, must(brief).seq, 13));
    must(command_delete("ann", conv, "d1", 4));
    must(command_delete("ann", conv, "d2", 5));
    for (uint64_t seq = 8; seq <= 9; seq++) {
        struct key key = key_seq(0, conv_id_of(span_str(conv)), seq);
        kv_delete(&m.batch, KV_LOG, key_span(&key));
    }
    cr_assert(eq(int, kv_write(&m.batch), 0));
    m.now_ms += 4000;
    walk(range("bob", false, false, 0, 0));
    cr_assert(eq(u32, seen[13], RECORD));
    m.now_ms += 1000;
    for (int desc = 0; desc < 2; desc++) {
        walk(range("bob", false, desc, 0, 0));
        seen_is(1, 3, RECORD);
        seen_is(4, 5, LOQUAT__HOLE__HOLE_ERASED);
        seen_is(6, 7, RECORD);
        seen_is(8, 9, LOQUAT__HOLE__HOLE_COMPACTED);
        seen_is(10, 12, RECORD);
        seen_is(13, 13, LOQUAT__HOLE__HOLE_EXPIRED);
        seen_is(14, 15, RECORD); /* the deletions themselves */
        Loquat__Read read = range("bob", false, desc, 0, 0);
        Loquat__Reply reply;
        cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
        cr_assert(eq(sz, reply.n_items, 3 + 1 + 2 + 1 + 3 + 1 + 2));
    }
}

/* Runs of holes longer than what one page looks at: the page ends, the reader goes on. */
Test(timeline, long_runs_of_holes)
{
    for (int i = 0; i < 50; i++)
        say("ann", "hello");
    for (uint64_t seq = 2; seq <= 50; seq++) {
        char cid[16];
        snprintf(cid, sizeof cid, "d%lu", seq);
        must(command_delete("ann", conv, cid, seq));
    }
    for (int desc = 0; desc < 2; desc++) {
        Loquat__Read read = range("bob", true, desc, 0, 0);
        read.max = 1;
        walk(read);
        seen_is(2, 50, LOQUAT__HOLE__HOLE_ERASED);
        cr_assert(eq(u32, seen[51], RECORD));
        seen_is(52, 100, 0);
    }
}

static const Loquat__Item *item_of(const Loquat__Reply *reply, uint64_t seq)
{
    for (size_t i = 0; i < reply->n_items; i++)
        if (reply->items[i]->seq == seq)
            return reply->items[i];
    return NULL;
}

static bool body_is(const Loquat__Item *item, const char *text)
{
    return span_is(span_of(item->body.data, item->body.len), text);
}

/* The folded view: messages alone, with the newest edit, replies of threads, deleted ones as holes;
 * the same whichever page a message falls on. */
Test(timeline, folded_view)
{
    uint64_t a = say("ann", "a"), b = say("bob", "b"), c = say("ann", "c");
    must(command_edit("ann", conv, "e1", a, "a2"));
    uint64_t edited = must(command_edit("ann", conv, "e2", a, "a3")).ts;
    for (int i = 0; i < 3; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "r%d", i);
        Loquat__Command reply = command_send("bob", conv, cid, "in the thread");
        reply.thread = b;
        must(reply);
    }
    must(command_edit("ann", conv, "e3", c, "c2"));
    must(command_delete("ann", conv, "d", c));
    for (int desc = 0; desc < 2; desc++)
        for (uint32_t max = 1; max <= 12; max += 3) {
            Loquat__Read read = range("bob", true, desc, 0, 0);
            read.max = max;
            walk(read);
            seen_is(1, 1, 0); /* opened */
            seen_is(a, b, RECORD);
            seen_is(c, c, LOQUAT__HOLE__HOLE_ERASED);
            seen_is(5, 6, 0); /* edits */
            seen_is(7, 9, RECORD);
            seen_is(10, 11, 0);
        }
    for (int desc = 0; desc < 2; desc++) {
        Loquat__Read read = range("bob", true, desc, 0, 0);
        Loquat__Reply reply;
        cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
        cr_assert(body_is(item_of(&reply, a), "a3"));
        cr_assert(eq(u64, item_of(&reply, a)->edited, edited));
        cr_assert(eq(u64, item_of(&reply, a)->replies, 0));
        cr_assert(eq(u64, item_of(&reply, b)->replies, 3));
        cr_assert(eq(sz, item_of(&reply, b)->body.len, 0));
        cr_assert(eq(u64, item_of(&reply, 7)->edited, 0));
    }
}

/* Who is not in it is told the same as for one that does not exist. */
/* A replica that has as much as was seen elsewhere answers, with whatever page is asked for; one
 * that has less does not, and gives nothing away. */
Test(timeline, seen_elsewhere)
{
    Loquat__Reply reply;
    for (int i = 0; i < 5; i++)
        say("ann", "hello");
    for (int scan = 0; scan < 2; scan++) {
        for (uint64_t more = 0; more < 2; more++) {
            Loquat__Read read = range("bob", scan, false, 2, 4);
            cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
            read.scan = scan;
            read.seen = 6 + more;
            cr_assert(eq(int, machine_range(&m, &read, &reply), more == 0 ? 0 : ERR_NOT_LEADER));
            cr_assert(eq(sz, reply.n_items, more == 0 ? 2 : 0));
        }
    }
    say("ann", "and one more");
    Loquat__Read read = range("bob", false, false, 2, 4);
    read.seen = 7;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
}

Test(timeline, only_members_read)
{
    say("ann", "hello");
    Loquat__Reply reply;
    Loquat__Read read = range("eve", false, false, 0, 0);
    cr_assert(eq(int, machine_range(&m, &read, &reply), ERR_NOT_FOUND));
    read.all = true;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_items, 2));
    must(command_member("ann", conv, "x", MEMBER_REMOVE, "bob", 0));
    read = range("bob", false, false, 0, 0);
    cr_assert(eq(int, machine_range(&m, &read, &reply), ERR_NOT_FOUND));
    read.conv = "g-none";
    read.all = true;
    cr_assert(eq(int, machine_range(&m, &read, &reply), ERR_NOT_FOUND));
}

/* A record whose checksum is wrong fails the page: nothing is returned. */
Test(timeline, damaged_record_is_corrupt)
{
    say("ann", "hello");
    uint64_t seq = say("ann", "damaged");
    struct key key = key_seq(0, conv_id_of(span_str(conv)), seq);
    struct buf value = {0};
    cr_assert(eq(int, kv_get(m.kv, KV_LOG, key_span(&key), &value), 0));
    value.p[value.n - 1] ^= 1;
    kv_put(&m.batch, KV_LOG, key_span(&key), buf_span(&value));
    cr_assert(eq(int, kv_write(&m.batch), 0));
    buf_close(&value);
    Loquat__Reply reply;
    Loquat__Read read = range("bob", false, false, 0, 0);
    cr_assert(eq(int, machine_range(&m, &read, &reply), ERR_CORRUPT));
    cr_assert(eq(sz, reply.n_items, 0));
}

/* The own log of a user: joins and leaves in order, in pages. */
Test(timeline, user_log)
{
    for (int i = 0; i < 6; i++) {
        char cid[16], id[64];
        snprintf(cid, sizeof cid, "g%d", i);
        must(command_open_group("zoe", cid, id, NULL, 0));
    }
    for (uint32_t bytes = 0; bytes < 400; bytes += 150) {
        uint64_t at = 1;
        for (uint64_t next = 1; next != 0;) {
            Loquat__Read read = LOQUAT__READ__INIT;
            Loquat__Reply reply = LOQUAT__REPLY__INIT;
            read.conv = "zoe";
            read.from = next;
            read.bytes_max = bytes;
            cr_assert(eq(int, timeline_read_user(m.kv, 0, &read, &m.arena, &reply), 0));
            cr_assert(lt(sz, 0, reply.n_items));
            cr_assert(eq(u64, reply.head, 6));
            for (size_t i = 0; i < reply.n_items; i++)
                cr_assert(eq(u64, reply.items[i]->seq, at++));
            next = reply.next;
            cr_assert(next == 0 || next == at);
        }
        cr_assert(eq(u64, at, 7));
    }
}
