/* Entries that are written again, so that the segments where they stood can go: in whatever order
 * that and everything else happens, a start finds the log as it was. */
#include "tests/replication/rlog_lib.h"

enum { P = 1, SOME = 1 << 20 };

static struct rlog *const rlog = &logs[P];

static void put(uint64_t index, uint64_t term, const char *text)
{
    struct rcore_entry entry = {term, RCORE_COMMAND, span_str(text)};
    rlog_put_entries(rlog, &batch, index, &entry, 1);
}

static void put_many(uint64_t from, uint64_t upto, uint64_t term)
{
    for (uint64_t i = from; i <= upto; i++) {
        char text[40];
        snprintf(text, sizeof text, "%lu of term %lu", i, term);
        put(i, term, text);
    }
    flush();
}

static uint64_t move(uint32_t p, uint64_t below, uint64_t most)
{
    uint64_t moved = 1;
    cr_assert(zero(int, rlog_move(&logs[p], NULL, below, most, &moved)));
    return moved;
}

/* Entries 1 … 10 in segment 1, 11 … 15 in segment 2, where nothing else is needed. */
static void setup(void)
{
    bootstrap_all();
    put_many(2, 10, 1);
    for (uint64_t i = 1; i <= 8; i++)
        rlog_drop_payload(rlog, i);
    next_segment();
    put_many(11, 15, 1);
    move(0, 2, SOME);
    move(2, 2, SOME);
    flush();
}

TestSuite(rlog_moved, .init = setup, .fini = close_all, .timeout = 60);

static void trim(uint64_t index, uint64_t upto)
{
    rlog_set_conf(rlog, 1, span_str("configuration"));
    rlog_trim(rlog, &batch, index, rlog_term_at(rlog, index), upto);
}

/* Everything that is not needed goes, and what is left is the log. */
static void release(void)
{
    comes_back();
    drop_below(oldest_needed());
    comes_back();
}

/* What stands below is moved, from memory or from where it stands, no more than was asked for; what
 * was moved does not stand below any more. */
Test(rlog_moved, as_much_as_asked_for)
{
    uint64_t one = strlen("2 of term 1") + RLOG_ENTRY_HEAD + RLOG_RECORD_HEAD, all = 0;
    cr_assert(eq(u64, rlog_oldest(rlog), 1));
    cr_assert(zero(u64, move(P, 1, SOME)));
    cr_assert(zero(u64, move(P, 2, 0)));
    cr_assert(journal_batch_empty(&batch));
    for (uint64_t i = 0; i < 9; i++) {
        uint64_t moved = move(P, 2, 1); /* one more than fits into it */
        cr_assert(lt(u64, 0, moved));
        cr_assert(eq(u64, rlog_oldest(rlog), 1));
        all += moved;
        comes_back();
    }
    all += move(P, 2, SOME);
    cr_assert(ge(u64, all, 9 * one));
    cr_assert(eq(u64, rlog_oldest(rlog), 2));
    cr_assert(zero(u64, move(P, 2, SOME)));
    cr_assert(eq(u64, oldest_needed(), 2));
    release();
    cr_assert(eq(u64, move(P, 3, SOME), rlog->bytes));
}

/* The payload is what it was, in memory and not. */
Test(rlog_moved, payloads)
{
    struct buf payload = {0};
    move(P, 2, SOME);
    cr_assert(zero(ptr, rlog_get(rlog, 5)->bytes), "that it was applied is not forgotten");
    cr_assert(zero(int, rlog_read(rlog, NULL, 5, &payload)), "before it is written");
    cr_assert(span_is(buf_span(&payload), "5 of term 1"));
    release();
    cr_assert(zero(int, rlog_read(rlog, NULL, 5, &payload)));
    cr_assert(span_is(buf_span(&payload), "5 of term 1"));
    cr_assert(zero(int, rlog_read(rlog, NULL, 10, &payload)));
    cr_assert(span_is(buf_span(&payload), "10 of term 1"));
    buf_close(&payload);
}

/* What is in memory is moved from there; what can't be read is not moved. */
/* What would have to be read for it, and no more than was asked for. */
Test(rlog_moved, places)
{
    struct rlog_place places[16];
    cr_assert(zero(sz, rlog_places(rlog, 1, SOME, places, 16)));
    size_t count = rlog_places(rlog, 2, SOME, places, 16);
    cr_assert(eq(sz, count, 7), "2 to 8: 1 is a configuration, 9 and 10 are in memory");
    for (size_t i = 0; i < count; i++) {
        const struct rlog_entry *entry = rlog_get(rlog, 2 + i);
        cr_assert(eq(u64, places[i].at, entry->at));
        cr_assert(eq(sz, places[i].size, RLOG_ENTRY_HEAD + entry->size));
    }
    cr_assert(eq(sz, rlog_places(rlog, 2, SOME, places, 3), 3));
    cr_assert(le(sz, rlog_places(rlog, 2, 1, places, 16), 1));
    move(P, 2, SOME);
    cr_assert(zero(sz, rlog_places(rlog, 2, SOME, places, 16)));
}

Test(rlog_moved, damaged)
{
    uint64_t moved = 0;
    struct buf *records = &frames[0].records;
    char *ten = memmem(records->p, records->n, "10 of term 1", 12);
    char *five = memmem(records->p, records->n, "5 of term 1", 11);
    *ten ^= 1;
    *five ^= 1;
    cr_assert(eq(int, rlog_move(rlog, NULL, 2, SOME, &moved), ERR_CORRUPT));
    cr_assert(eq(u64, journal_segment(rlog_get(rlog, 4)->at), 2));
    cr_assert(eq(u64, journal_segment(rlog_get(rlog, 5)->at), 1));
    *five ^= 1;
    move(P, 2, SOME);
    flush();
    drop_below(2);
    comes_back();
}

/* In the same segment as those behind them, in a later one, or half of them in each. */
Test(rlog_moved, to_one_segment_or_several)
{
    move(P, 2, 100);
    next_segment();
    cr_assert(eq(u64, rlog_oldest(rlog), 1));
    comes_back();
    move(P, 2, SOME);
    release();
    move(P, 3, SOME);
    next_segment();
    release();
    reload();
    release();
}

/* Moved again and again: what is there of it may begin with any of these. */
Test(rlog_moved, again_and_again)
{
    for (int i = 0; i < 5; i++) {
        move(P, segment_now(), SOME);
        put_many(rlog_last(rlog) + 1, rlog_last(rlog) + 3, 1);
        comes_back();
        next_segment();
        comes_back();
    }
    release();
    reload();
    release();
}

/* The last of them counts, also when some of those before were trimmed in between. */
Test(rlog_moved, again_after_a_trim)
{
    move(P, 2, SOME);
    next_segment();
    trim(9, 8);
    move(P, 3, SOME);
    release();
    cr_assert(eq(u64, rlog_oldest(rlog), 3));
    reload();
    cr_assert(eq(u64, rlog_oldest(rlog), 3));
}

/* In an order that is not that of their indexes: those behind first. */
Test(rlog_moved, out_of_order)
{
    move(P, 2, SOME); /* 1 … 10 behind 11 … 15 */
    next_segment();
    for (uint64_t i = 0; i < 3; i++) {
        rlog->entries[rlog->at + 12 + i].at += 1ull << 33; /* as if they stood there already */
        cr_assert(zero(u64, move(P, 2, SOME)));
        rlog->entries[rlog->at + 12 + i].at -= 1ull << 33;
    }
    move(P, 3, 1);
    move(P, 3, 200);
    comes_back();
    move(P, 3, SOME);
    release();
}

/* Those that were moved are replaced by a new leader's: in part, all of them, and moved again. */
Test(rlog_moved, then_replaced)
{
    move(P, 2, SOME);
    next_segment();
    put_many(6, 12, 2); /* 6 … 10 were moved, 11 … 15 not */
    comes_back();
    release();
    move(P, 3, SOME);
    comes_back();
    next_segment();
    put_many(9, 9, 3); /* the end of those that have not been moved */
    release();
    next_segment();
    move(P, segment_now(), SOME);
    put_many(3, 4, 4);
    comes_back();
    next_segment();
    put_many(1, 1, 5);
    release();
    cr_assert(eq(u64, rlog_last(rlog), 1));
}

/* Replaced by a shorter log, and then by a longer one: nothing of what was moved comes back. */
Test(rlog_moved, then_replaced_and_grown)
{
    move(P, 2, SOME);
    put_many(5, 5, 2);
    comes_back();
    put_many(6, 30, 2);
    comes_back();
    next_segment();
    move(P, segment_now(), SOME);
    release();
    put_many(20, 22, 3);
    put_many(23, 40, 3);
    release();
}

/* Moved in one frame with what replaces some of them, before and after. */
Test(rlog_moved, in_one_frame)
{
    struct rcore_entry entry = {2, RCORE_COMMAND, span_str("new")};
    next_segment();
    rlog_put_entries(rlog, &batch, 9, &entry, 1);
    move(P, 3, SOME);
    rlog_put_entries(rlog, &batch, 7, &entry, 1);
    trim(4, 3);
    move(P, 3, SOME);
    release();
    reload();
    release();
}

/* Those that were moved are trimmed: some of them, then all. */
Test(rlog_moved, then_trimmed)
{
    move(P, 2, SOME);
    next_segment();
    trim(8, 4);
    release();
    trim(11, 10);
    release();
    trim(15, 15);
    release();
    next_segment();
    move(P, segment_now(), SOME);
    put_many(16, 17, 1);
    release();
    reload();
    release();
}

/* Trimmed, and only what is left is moved: what stood in front of it may be there still. */
Test(rlog_moved, what_a_trim_left)
{
    trim(8, 4);
    comes_back();
    cr_assert(lt(u64, 0, move(P, 2, SOME)));
    next_segment();
    comes_back();
    trim(9, 9);
    release();
}

/* Another snapshot takes the place of all of it, moved or not. */
Test(rlog_moved, then_installed)
{
    struct rlog_snapshot at = {12, 3, 7, span_str("other")};
    move(P, 2, 150);
    next_segment();
    rlog_put_install(rlog, &batch, &at);
    move(P, 2, SOME);
    comes_back();
    next_segment();
    move(P, 4, SOME); /* 13 … 15 among them, which are gone then */
    rlog_install(rlog, &batch, &at);
    comes_back();
    put_many(13, 20, 3);
    release();
    next_segment();
    move(P, segment_now(), SOME);
    release();
    reload();
    release();
}

/* ---- damage ---- */

static void remove_moved(uint64_t index)
{
    for (size_t i = 0; i < frame_count; i++) {
        struct frame *frame = &frames[i];
        for (size_t next = 0; next < frame->records.n;) {
            char *p = frame->records.p + next;
            size_t size = RLOG_RECORD_HEAD + get_le32(p + 4);
            if (p[0] != RLOG_MOVED || get_le64(p + RLOG_RECORD_HEAD) != index) {
                next += size;
                continue;
            }
            memmove(p, p + size, frame->records.n - next - size);
            frame->records.n -= size;
        }
    }
}

/* One that is missing among those that were moved is a gap, wherever it is. */
Test(rlog_moved, gap_is_corrupt)
{
    for (uint64_t index = 2; index <= 10; index++) {
        close_all();
        setup();
        move(P, 2, SOME);
        flush();
        drop_below(2);
        cr_assert(zero(int, load_error()));
        remove_moved(index);
        cr_assert(eq(int, load_error(), ERR_CORRUPT), "%lu", (unsigned long)index);
    }
}

/* One of another term than the entry that stands there was not that entry. */
Test(rlog_moved, of_another_term_is_corrupt)
{
    next_segment();
    move(P, 2, SOME);
    put_many(16, 16, 1);
    struct frame moved = frames[frame_count - 1];
    frame_count--;
    put_many(16, 16, 1);
    put_many(6, 16, 2);
    cr_assert(zero(int, load_error()));
    frames[frame_count++] = moved;
    cr_assert(eq(int, load_error(), ERR_CORRUPT));
}
