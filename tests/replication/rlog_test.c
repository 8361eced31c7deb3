#include "replication/rlog.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/err.h"
#include "tests/lib/scratch.h"

enum { P = 5 };

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
static struct kv *kv;
static struct kv_batch batch;
static struct rlog rlog;

static void write_batch(void)
{
    cr_assert(eq(int, kv_write(&batch), 0));
}

static int reload(void)
{
    rlog_close(&rlog);
    return rlog_load(&rlog, kv, P);
}

static void put(uint64_t index, uint64_t term, const char *text)
{
    struct rcore_entry entry = {term, RCORE_COMMAND, span_str(text)};
    rlog_put_entries(&rlog, &batch, index, &entry, 1);
}

static bool holds(uint64_t index, uint64_t term, const char *text)
{
    const struct rlog_entry *entry = rlog_get(&rlog, index);
    return entry != NULL && entry->term == term &&
           span_is(span_of(entry->bytes, entry->size), text);
}

/* Bootstrapped, and entries 2 … 10 of term 1 with their own number as text. */
static void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/db", root);
    struct kv_options options = {.create = true};
    cr_assert(eq(int, kv_open(dir, KV_RAFT, &options, &kv), 0));
    kv_batch_init(&batch, kv);
    struct rcore_server self = {1, "1", true};
    rlog_bootstrap(&batch, P, &self, 1);
    rlog_bootstrap(&batch, P + 1, &self, 1);
    write_batch();
    cr_assert(eq(int, rlog_load(&rlog, kv, P), 0));
    for (uint64_t i = 2; i <= 10; i++) {
        char text[24];
        snprintf(text, sizeof text, "%lu", i);
        put(i, 1, text);
    }
    rlog_put_hard(&rlog, &batch, 4, 1);
    write_batch();
}

static void teardown(void)
{
    rlog_close(&rlog);
    kv_batch_close(&batch);
    kv_close(kv);
    scratch_remove(root);
}

TestSuite(rlog, .init = setup, .fini = teardown);

/* What was written is loaded: term, vote, entries; of this partition alone. */
Test(rlog, loads_what_was_written)
{
    cr_assert(eq(int, reload(), 0));
    cr_assert(eq(u64, rlog.term, 4));
    cr_assert(eq(u64, rlog.voted_for, 1));
    cr_assert(eq(u64, rlog.first, 1));
    cr_assert(eq(u64, rlog_last(&rlog), 10));
    cr_assert(eq(u64, rlog_get(&rlog, 1)->type, RCORE_CHANGE));
    cr_assert(holds(2, 1, "2") && holds(10, 1, "10"));
    cr_assert(eq(ptr, (void *)rlog_get(&rlog, 11), NULL));
    cr_assert(eq(u64, rlog_term_at(&rlog, 11), 0));
    struct rlog other;
    cr_assert(eq(int, rlog_load(&other, kv, P + 1), 0));
    cr_assert(eq(u64, rlog_last(&other), 1));
    rlog_close(&other);
}

/* A new leader's entries replace the tail, in memory and on disk. */
Test(rlog, tail_is_replaced)
{
    put(6, 2, "new");
    write_batch();
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(u64, rlog_last(&rlog), 6));
        cr_assert(holds(5, 1, "5") && holds(6, 2, "new"));
        cr_assert(eq(int, reload(), 0));
    }
    put(7, 2, "more");
    write_batch();
    cr_assert(eq(int, reload(), 0));
    cr_assert(eq(u64, rlog_last(&rlog), 7));
}

/* Each time that entries are replaced is counted, with what replaced them. */
Test(rlog, counts_cuts)
{
    cr_assert(eq(u64, rlog.cuts, 0));
    put(11, 2, "on");
    cr_assert(eq(u64, rlog.cuts, 0));
    put(9, 3, "other");
    put(10, 3, "other");
    put(10, 4, "and another");
    cr_assert(eq(u64, rlog.cuts, 2));
    write_batch();
    cr_assert(eq(int, reload(), 0));
    cr_assert(eq(u64, rlog.cuts, 2));
}

/* That a snapshot is being installed is known until it is there; then the log begins behind it. */
Test(rlog, installs)
{
    struct buf conf = {0};
    struct rlog_snapshot at = {70, 3, 20, span_str("configuration")}, found;
    cr_assert(eq(int, rlog_get_install(kv, P, &found, &conf), ERR_NOT_FOUND));
    rlog_put_install(&batch, P, &at);
    write_batch();
    cr_assert(eq(int, reload(), 0));
    cr_assert(eq(u64, rlog_last(&rlog), 10), "nothing else has changed");
    cr_assert(eq(int, rlog_get_install(kv, P + 1, &found, &conf), ERR_NOT_FOUND));
    cr_assert(eq(int, rlog_get_install(kv, P, &found, &conf), 0));
    cr_assert(found.index == 70 && found.term == 3 && found.conf_index == 20);
    cr_assert(span_is(found.conf, "configuration"));
    rlog_install(&rlog, &batch, &found);
    buf_close(&conf);
    write_batch();
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(sz, rlog.count, 0));
        cr_assert(eq(u64, rlog.first, 71));
        cr_assert(eq(u64, rlog_last(&rlog), 70));
        cr_assert(eq(u64, rlog_term_at(&rlog, 70), 3));
        cr_assert(eq(u64, rlog.conf_index, 20));
        cr_assert(eq(u64, rlog.cuts, 1));
        cr_assert(rlog.term == 4 && rlog.voted_for == 1, "term and vote are kept");
        cr_assert(eq(int, rlog_get_install(kv, P, &found, &conf), ERR_NOT_FOUND));
        cr_assert(eq(int, reload(), 0));
    }
    buf_close(&conf);
    put(71, 5, "on");
    write_batch();
    cr_assert(eq(int, reload(), 0));
    cr_assert(holds(71, 5, "on"));
}

/* Trimming keeps what lies above, and the snapshot's place; the ring goes on over its end. */
Test(rlog, trims)
{
    rlog_set_conf(&rlog, 1, span_str("configuration"));
    rlog_trim(&rlog, &batch, 7, 1, 5);
    for (uint64_t i = 11; i <= 200; i++)
        put(i, 3, "x");
    write_batch();
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(u64, rlog.first, 6));
        cr_assert(eq(u64, rlog.snapshot_index, 7));
        cr_assert(eq(u64, rlog.snapshot_term, 1));
        cr_assert(eq(u64, rlog.conf_index, 1));
        cr_assert(span_is(buf_span(&rlog.conf), "configuration"));
        cr_assert(holds(6, 1, "6") && holds(200, 3, "x"));
        cr_assert(eq(ptr, (void *)rlog_get(&rlog, 5), NULL));
        cr_assert(eq(u64, rlog_term_at(&rlog, 5), 0));
        cr_assert(eq(int, reload(), 0));
    }
    rlog_trim(&rlog, &batch, 200, 3, 200);
    write_batch();
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(sz, rlog.count, 0));
        cr_assert(eq(u64, rlog_last(&rlog), 200));
        cr_assert(eq(u64, rlog_term_at(&rlog, 200), 3));
        cr_assert(eq(int, reload(), 0));
    }
    put(201, 4, "on");
    write_batch();
    cr_assert(eq(int, reload(), 0));
    cr_assert(holds(201, 4, "on"));
}

/* Payloads go when they are applied; terms and configurations stay. */
Test(rlog, drops_payloads)
{
    rlog_drop_payload(&rlog, 5);
    rlog_drop_payload(&rlog, 5);
    rlog_drop_payload(&rlog, 1);
    cr_assert(eq(ptr, rlog_get(&rlog, 5)->bytes, NULL));
    cr_assert(ne(ptr, rlog_get(&rlog, 1)->bytes, NULL));
    cr_assert(eq(u64, rlog_term_at(&rlog, 5), 1));
}

/* ---- damage ---- */

static struct span raw_key(char tag, uint64_t index)
{
    static char key[11];
    put_be16(key, P);
    key[2] = tag;
    put_be64(key + 3, index);
    return span_of(key, tag == 2 ? 11 : 3);
}

static void change(struct span key, size_t at, char bits)
{
    struct buf value = {0};
    cr_assert(eq(int, kv_get(kv, KV_LOG, key, &value), 0));
    cr_assert(lt(sz, at, value.n));
    value.p[at] ^= bits;
    kv_put(&batch, KV_LOG, key, buf_span(&value));
    write_batch();
    buf_close(&value);
}

/* A follower that is behind wants what was applied here long ago. */
Test(rlog, reads_payloads_back)
{
    struct buf payload = {0};
    rlog_drop_payload(&rlog, 4);
    cr_assert(eq(int, rlog_read(&rlog, kv, 4, &payload), 0));
    cr_assert(span_is(buf_span(&payload), "4"));
    cr_assert(eq(int, rlog_read(&rlog, kv, 11, &payload), ERR_NOT_FOUND));
    put(4, 2, "other"); /* of another term, and not yet written */
    cr_assert(eq(int, rlog_read(&rlog, kv, 4, &payload), ERR_CORRUPT));
    write_batch();
    cr_assert(eq(int, rlog_read(&rlog, kv, 4, &payload), 0));
    cr_assert(span_is(buf_span(&payload), "other"));
    buf_close(&payload);
}

/* An entry that is missing in the middle is a gap, never a shorter log. */
Test(rlog, gap_is_corrupt)
{
    kv_delete(&batch, KV_LOG, raw_key(2, 6));
    write_batch();
    cr_assert(eq(int, reload(), ERR_CORRUPT));
}

/* Entries between the snapshot and the log are missing, or the log ends below the snapshot. */
Test(rlog, log_and_snapshot_that_do_not_meet)
{
    rlog_set_conf(&rlog, 1, span_str("c"));
    rlog_trim(&rlog, &batch, 6, 1, 4);
    write_batch();
    cr_assert(eq(int, reload(), 0));
    for (uint64_t i = 7; i <= 10; i++)
        kv_delete(&batch, KV_LOG, raw_key(2, i));
    write_batch();
    cr_assert(eq(int, reload(), 0));
    kv_delete(&batch, KV_LOG, raw_key(2, 6));
    write_batch();
    cr_assert(eq(int, reload(), ERR_CORRUPT), "the log ends at 5, below the snapshot at 6");
    for (uint64_t i = 5; i <= 7; i++)
        kv_delete(&batch, KV_LOG, raw_key(2, i));
    kv_put(&batch, KV_LOG, raw_key(2, 8), span_str(""));
    write_batch();
    cr_assert(eq(int, reload(), ERR_CORRUPT));
}

/* A flipped bit in a payload, in its term or its type. */
Test(rlog, flipped_bits_are_corrupt)
{
    for (size_t at = 0; at < 20; at++) {
        change(raw_key(2, 6), at, 4);
        cr_assert(eq(int, reload(), ERR_CORRUPT), "byte %zu", at);
        change(raw_key(2, 6), at, 4);
    }
    cr_assert(eq(int, reload(), 0));
}

/* Rows of a newer version, and rows that are too short. */
Test(rlog, unknown_rows_are_corrupt)
{
    change(raw_key(0, 0), 0, 2);
    cr_assert(eq(int, reload(), ERR_CORRUPT));
    change(raw_key(0, 0), 0, 2);
    kv_put(&batch, KV_LOG, raw_key(1, 0), span_str("\1short"));
    write_batch();
    cr_assert(eq(int, reload(), ERR_CORRUPT));
    kv_delete(&batch, KV_LOG, raw_key(1, 0));
    kv_put(&batch, KV_LOG, raw_key(2, 10), span_str("\1short"));
    write_batch();
    cr_assert(eq(int, reload(), ERR_CORRUPT));
}

/* A partition that was never bootstrapped is not an empty one. */
Test(rlog, missing_partition)
{
    struct rlog none;
    cr_assert(eq(int, rlog_load(&none, kv, P + 2), ERR_NOT_FOUND));
}
