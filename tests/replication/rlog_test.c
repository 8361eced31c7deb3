#include "replication/rlog.h"

#include <xxhash.h>

#include "tests/replication/rlog_lib.h"

enum { P = 1 };

static struct rlog *const rlog = &logs[P];

static void put(uint64_t index, uint64_t term, const char *text)
{
    struct rcore_entry entry = {term, RCORE_COMMAND, span_str(text)};
    rlog_put_entries(rlog, &batch, index, &entry, 1);
}

static bool holds(uint64_t index, uint64_t term, const char *text)
{
    const struct rlog_entry *entry = rlog_get(rlog, index);
    return entry != NULL && entry->term == term && entry->bytes != NULL &&
           span_is(span_of(entry->bytes, entry->size), text);
}

/* Entries of that term with their own number as text, each in a frame of its own. */
static void put_numbers(uint64_t from, uint64_t upto, uint64_t term)
{
    for (uint64_t i = from; i <= upto; i++) {
        char text[24];
        snprintf(text, sizeof text, "%lu", i);
        put(i, term, text);
        flush();
    }
}

/* Bootstrapped, and entries 2 … 10 of term 1. */
static void setup(void)
{
    bootstrap_all();
    put_numbers(2, 10, 1);
    rlog_put_hard(rlog, &batch, 4, 1);
    flush();
}

TestSuite(rlog, .init = setup, .fini = close_all, .timeout = 60);

static void trim(uint64_t index, uint64_t upto)
{
    rlog_set_conf(rlog, 1, span_str("configuration"));
    rlog_trim(rlog, &batch, index, rlog_term_at(rlog, index), upto);
}

/* ---- written and loaded ---- */

/* What was written is loaded: term, vote, entries; of each partition its own. */
Test(rlog, loads_what_was_written)
{
    comes_back();
    reload();
    cr_assert(eq(u64, rlog->term, 4));
    cr_assert(eq(u64, rlog->voted_for, 1));
    cr_assert(eq(u64, rlog->first, 1));
    cr_assert(eq(u64, rlog_last(rlog), 10));
    cr_assert(eq(u64, rlog_get(rlog, 1)->type, RCORE_CHANGE));
    cr_assert(holds(2, 1, "2") && holds(10, 1, "10"));
    cr_assert(eq(ptr, (void *)rlog_get(rlog, 11), NULL));
    cr_assert(eq(u64, rlog_term_at(rlog, 11), 0));
    cr_assert(eq(u64, rlog_last(&logs[P + 1]), 1));
    cr_assert(eq(u64, logs[P + 1].term, 1));
}

/* A new leader's entries replace the tail, in memory and on disk. */
Test(rlog, tail_is_replaced)
{
    put(6, 2, "new");
    cr_assert(eq(u64, rlog_last(rlog), 6));
    cr_assert(holds(5, 1, "5") && holds(6, 2, "new"));
    comes_back();
    reload();
    put(7, 2, "more");
    comes_back();
    put(2, 3, "almost all of it");
    comes_back();
    put(1, 4, "and the first");
    comes_back();
    cr_assert(eq(u64, rlog_last(rlog), 1));
}

/* Each time that entries are replaced is counted, with what replaced them. */
Test(rlog, counts_cuts)
{
    cr_assert(eq(u64, rlog->cuts, 0));
    put(11, 2, "on");
    cr_assert(eq(u64, rlog->cuts, 0));
    put(9, 3, "other");
    put(10, 3, "other");
    put(10, 4, "and another");
    cr_assert(eq(u64, rlog->cuts, 2));
    comes_back();
    rlog_put_hard(rlog, &batch, 9, 0);
    comes_back();
    next_segment();
    cr_assert(eq(u64, rlog->cuts, 2));
    comes_back();
}

/* That a snapshot is being installed is known until it is there; then the log begins behind it. */
Test(rlog, installs)
{
    struct rlog_snapshot at = {70, 3, 20, span_str("configuration")}, found;
    cr_assert(eq(int, rlog_get_install(rlog, &found), ERR_NOT_FOUND));
    rlog_put_install(rlog, &batch, &at);
    comes_back();
    next_segment();
    comes_back();
    reload();
    cr_assert(eq(u64, rlog_last(rlog), 10), "nothing else has changed");
    cr_assert(eq(int, rlog_get_install(&logs[P + 1], &found), ERR_NOT_FOUND));
    cr_assert(eq(int, rlog_get_install(rlog, &found), 0));
    cr_assert(found.index == 70 && found.term == 3 && found.conf_index == 20);
    cr_assert(span_is(found.conf, "configuration"));
    rlog_install(rlog, &batch, &found); /* which is lent by the log */
    comes_back();
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(sz, rlog->count, 0));
        cr_assert(eq(u64, rlog->first, 71));
        cr_assert(eq(u64, rlog_last(rlog), 70));
        cr_assert(eq(u64, rlog_term_at(rlog, 70), 3));
        cr_assert(eq(u64, rlog->conf_index, 20));
        cr_assert(span_is(buf_span(&rlog->conf), "configuration"));
        cr_assert(eq(u64, rlog->cuts, 1));
        cr_assert(rlog->term == 4 && rlog->voted_for == 1, "term and vote are kept");
        cr_assert(eq(int, rlog_get_install(rlog, &found), ERR_NOT_FOUND));
        reload();
    }
    put(71, 5, "on");
    comes_back();
    drop_below(oldest_needed());
    reload();
    cr_assert(holds(71, 5, "on"));
}

/* A replica whose partition is kept elsewhere: no entry, no configuration; its term stays. */
Test(rlog, becomes_nothing)
{
    struct rlog_snapshot nothing = {0}, found;
    trim(7, 5);
    rlog_put_hard(rlog, &batch, 5, 0);
    rlog_put_install(rlog, &batch, &nothing);
    comes_back();
    reload();
    cr_assert(eq(u64, rlog_last(rlog), 10), "not yet");
    cr_assert(eq(int, rlog_get_install(rlog, &found), 0));
    cr_assert(found.index == 0 && found.conf.n == 0);
    rlog_install(rlog, &batch, &found);
    next_segment();
    comes_back();
    for (int i = 0; i < 2; i++) {
        cr_assert(rlog->count == 0 && rlog->first == 1 && rlog_last(rlog) == 0);
        cr_assert(rlog->snapshot_index == 0 && rlog->conf_index == 0 && rlog->conf.n == 0);
        cr_assert(rlog->term == 5 && rlog->voted_for == 0);
        cr_assert(eq(int, rlog_get_install(rlog, &found), ERR_NOT_FOUND));
        reload();
    }
    put(1, 6, "on");
    comes_back();
    drop_below(oldest_needed());
    reload();
    cr_assert(holds(1, 6, "on"));
}

/* Trimming keeps what lies above, and the snapshot's place; the ring goes on over its end. */
Test(rlog, trims)
{
    trim(7, 5);
    for (uint64_t i = 11; i <= 200; i++)
        put(i, 3, "x");
    comes_back();
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(u64, rlog->first, 6));
        cr_assert(eq(u64, rlog->snapshot_index, 7));
        cr_assert(eq(u64, rlog->snapshot_term, 1));
        cr_assert(eq(u64, rlog->conf_index, 1));
        cr_assert(span_is(buf_span(&rlog->conf), "configuration"));
        cr_assert(holds(6, 1, "6") && holds(200, 3, "x"));
        cr_assert(eq(ptr, (void *)rlog_get(rlog, 5), NULL));
        cr_assert(eq(u64, rlog_term_at(rlog, 5), 0));
        reload();
    }
    trim(200, 7);
    comes_back();
    trim(200, 200);
    comes_back();
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(sz, rlog->count, 0));
        cr_assert(eq(u64, rlog->bytes, 0));
        cr_assert(eq(u64, rlog_last(rlog), 200));
        cr_assert(eq(u64, rlog_term_at(rlog, 200), 3));
        reload();
    }
    put(201, 4, "on");
    comes_back();
}

/* A node that joins knows nothing, and votes for nobody; that is not the same as an unknown one. */
Test(rlog, bootstrapped_empty)
{
    rlog_close(rlog);
    while (frame_count > 0)
        drop_frame(0);
    for (uint32_t p = 0; p < LOGS; p++) {
        rlog_close(&logs[p]);
        rlog_bootstrap_empty(&logs[p], &batch, p);
        rlog_found_close(&logs[p]);
    }
    comes_back();
    cr_assert(eq(u64, rlog->term, 0));
    cr_assert(eq(u64, rlog->first, 1));
    cr_assert(eq(u64, rlog_last(rlog), 0));
    struct rlog_snapshot at = {70, 3, 20, span_str("configuration")};
    rlog_put_install(rlog, &batch, &at);
    rlog_install(rlog, &batch, &at);
    put(71, 5, "on");
    comes_back();
}

/* Each segment tells what each log is: those before it may go. */
Test(rlog, segments_begin_with_the_state)
{
    struct rlog_snapshot at = {70, 3, 20, span_str("other")};
    trim(10, 10);
    rlog_put_install(rlog, &batch, &at);
    next_segment();
    put(11, 4, "11");
    rlog_put_hard(rlog, &batch, 5, 3);
    cr_assert(eq(u64, rlog_oldest(rlog), 2));
    cr_assert(eq(u64, oldest_needed(), 1), "of the other partitions");
    for (uint32_t p = 0; p < LOGS; p++) {
        if (p == P)
            continue;
        rlog_set_conf(&logs[p], 1, span_str("c"));
        rlog_trim(&logs[p], &batch, 1, 1, 1);
        cr_assert(eq(u64, rlog_oldest(&logs[p]), UINT64_MAX));
    }
    comes_back();
    drop_below(oldest_needed());
    cr_assert(eq(u64, journal_segment(frames[0].at), 2));
    comes_back();
    reload();
    cr_assert(holds(11, 4, "11"));
    cr_assert(zero(int, rlog_get_install(rlog, &at)));
}

/* ---- payloads ---- */

/* Payloads go when they are applied; terms and configurations stay. */
Test(rlog, drops_payloads)
{
    rlog_drop_payload(rlog, 5);
    rlog_drop_payload(rlog, 5);
    rlog_drop_payload(rlog, 1);
    cr_assert(eq(ptr, rlog_get(rlog, 5)->bytes, NULL));
    cr_assert(ne(ptr, rlog_get(rlog, 1)->bytes, NULL));
    cr_assert(eq(u64, rlog_term_at(rlog, 5), 1));
    comes_back();
}

/* A follower that is behind wants what was applied here long ago, or just now. */
Test(rlog, reads_payloads_back)
{
    struct buf payload = {0};
    rlog_drop_payload(rlog, 4);
    cr_assert(eq(int, rlog_read(rlog, NULL, 4, &payload), 0));
    cr_assert(span_is(buf_span(&payload), "4"));
    cr_assert(eq(int, rlog_read(rlog, NULL, 11, &payload), ERR_NOT_FOUND));
    put(4, 2, "other");
    cr_assert(eq(int, rlog_read(rlog, NULL, 4, &payload), 0), "it is in no frame yet");
    cr_assert(span_is(buf_span(&payload), "other"));
    flush();
    cr_assert(eq(int, rlog_read(rlog, NULL, 4, &payload), 0));
    cr_assert(span_is(buf_span(&payload), "other"));
    put(5, 2, "");
    cr_assert(eq(int, rlog_read(rlog, NULL, 5, &payload), 0));
    cr_assert(eq(sz, payload.n, 0));
    comes_back();
    for (size_t i = RLOG_RECORD_HEAD; i < frames[1].records.n; i++) {
        frames[1].records.p[i] ^= 16;
        cr_assert(eq(int, rlog_read(rlog, NULL, 3, &payload), ERR_CORRUPT), "byte %zu", i);
        frames[1].records.p[i] ^= 16;
    }
    rlog->entries[rlog->at + 2].at = rlog->entries[rlog->at + 1].at; /* that of 2 */
    cr_assert(eq(int, rlog_read(rlog, NULL, 3, &payload), ERR_CORRUPT));
    rlog->entries[rlog->at + 2].at = 77ull << 32;
    cr_assert(eq(int, rlog_read(rlog, NULL, 3, &payload), ERR_IO));
    buf_close(&payload);
}

/* Who gets entries gets as many as fit; what waits is counted. */
Test(rlog, counts_bytes)
{
    uint64_t one = 1 + RLOG_ENTRY_HEAD + RLOG_RECORD_HEAD;
    cr_assert(eq(u64, rlog_bytes(rlog, 7, 10), 4));
    cr_assert(eq(u64, rlog_bytes(rlog, 10, 10), 0));
    cr_assert(eq(u64, rlog_bytes(rlog, 9, 50), 2));
    cr_assert(eq(u32, rlog_fitting(rlog, 9, 3 * one, 100), 3));
    cr_assert(eq(u32, rlog_fitting(rlog, 9, 3 * one - 1, 100), 2));
    cr_assert(eq(u32, rlog_fitting(rlog, 9, 1 << 20, 2), 2));
    cr_assert(eq(u32, rlog_fitting(rlog, 9, 1 << 20, 100), 9));
    cr_assert(eq(u32, rlog_fitting(rlog, 11, 1 << 20, 100), 0));
    cr_assert(eq(u32, rlog_fitting(rlog, 10, 0, 100), 0));
}

/* ---- damage ---- */

/* An entry that is missing in the middle is a gap, never a shorter log. */
Test(rlog, gap_is_corrupt)
{
    drop_frame(5);
    cr_assert(eq(int, load_error(), ERR_CORRUPT));
}

/* So is one in front, of which a snapshot tells, or nothing does. */
Test(rlog, gap_in_front_is_corrupt)
{
    trim(6, 4);
    flush();
    next_segment();
    put_numbers(11, 12, 4);
    comes_back();
    while (journal_segment(frames[0].at) < 2)
        drop_frame(0);
    cr_assert(eq(int, load_error(), ERR_CORRUPT));
}

/* The log ends below the snapshot. */
Test(rlog, log_and_snapshot_that_do_not_meet)
{
    trim(6, 4);
    flush();
    for (int i = 0; i < 4; i++)
        drop_frame(5); /* 7 … 10: it is as if they had never been */
    cr_assert(zero(int, load_error()));
    drop_frame(4);
    cr_assert(eq(int, load_error(), ERR_CORRUPT), "it ends at 5");
}

/* A flipped bit in a payload, in its index, its term or its type. */
Test(rlog, flipped_bits_are_corrupt)
{
    struct frame *frame = &frames[5];
    cr_assert(eq(sz, frame->records.n, RLOG_RECORD_HEAD + RLOG_ENTRY_HEAD + 1));
    for (size_t bit = RLOG_RECORD_HEAD * 8ul; bit < frame->records.n * 8; bit++) {
        frame->records.p[bit / 8] ^= (char)(1 << bit % 8);
        cr_assert(eq(int, load_error(), ERR_CORRUPT), "bit %zu", bit);
        frame->records.p[bit / 8] ^= (char)(1 << bit % 8);
    }
    cr_assert(zero(int, load_error()));
}

static char *raw(uint8_t type, uint32_t partition, uint32_t size, uint32_t told)
{
    uint64_t at;
    char *p = journal_batch_grow(&batch, RLOG_RECORD_HEAD + size, &at);
    memset(p, 0, RLOG_RECORD_HEAD + size);
    p[0] = (char)type;
    p[2] = (char)(partition & 0xff);
    p[3] = (char)(partition >> 8);
    put_le32(p + 4, told);
    return p + RLOG_RECORD_HEAD;
}

static void is_corrupt(void)
{
    flush();
    cr_assert(eq(int, load_error(), ERR_CORRUPT));
    drop_frame(frame_count - 1);
    cr_assert(zero(int, load_error()));
}

static void raw_entry(uint8_t type, uint64_t index)
{
    char *p = raw(type, P, RLOG_ENTRY_HEAD, RLOG_ENTRY_HEAD), head[10] = {1};
    put_le64(p, index);
    put_le64(p + 8, 1);
    put_le64(p + 16, XXH3_64bits_withSeed("", 0, XXH3_64bits_withSeed(head, sizeof head, index)));
}

/* Records of a newer version, of a partition that there is not, and such as are too short or too
 * long. */
Test(rlog, unknown_records_are_corrupt)
{
    for (unsigned type = 0; type < 256; type++) {
        raw((uint8_t)type, P, 20, 20); /* too short, if it is known */
        is_corrupt();
    }
    raw(RLOG_HARD, P, RLOG_HARD_SIZE + 1, RLOG_HARD_SIZE + 1);
    is_corrupt();
    raw(RLOG_HARD, P, RLOG_HARD_SIZE, RLOG_HARD_SIZE + 1);
    is_corrupt();
    raw(RLOG_HARD, P, RLOG_HARD_SIZE, UINT32_MAX);
    is_corrupt();
    raw(RLOG_HARD, LOGS, RLOG_HARD_SIZE, RLOG_HARD_SIZE);
    is_corrupt();
    raw(RLOG_HARD, UINT16_MAX, RLOG_HARD_SIZE, RLOG_HARD_SIZE);
    is_corrupt();
    put_le64(raw(RLOG_SNAPSHOT, P, RLOG_SNAPSHOT_HEAD, RLOG_SNAPSHOT_HEAD) + 24, 1);
    is_corrupt(); /* more is gone than the state machine holds */
    raw(RLOG_SNAPSHOT, P, RLOG_SNAPSHOT_HEAD - 1, RLOG_SNAPSHOT_HEAD - 1);
    is_corrupt();
    raw(RLOG_ENTRY, P, RLOG_ENTRY_HEAD - 1, RLOG_ENTRY_HEAD - 1);
    is_corrupt();
    raw(RLOG_ENTRY, P, 0, 0);
    is_corrupt();
}

/* Entries that can't be: without a place, at the end of all numbers, or far behind the last. */
Test(rlog, impossible_entries_are_corrupt)
{
    static const uint64_t NONE[] = {0, 12, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof NONE / sizeof *NONE; i++) {
        raw_entry(RLOG_ENTRY, NONE[i]);
        is_corrupt();
        raw_entry(RLOG_MOVED, NONE[i]);
        is_corrupt();
    }
    raw_entry(RLOG_ENTRY, 11);
    cr_assert(zero(int, load_error()));
}

/* A partition that was never bootstrapped is not an empty one. */
Test(rlog, missing_partition)
{
    struct rlog none;
    rlog_open(&none, P);
    cr_assert(eq(int, rlog_finish(&none), ERR_NOT_FOUND));
}
