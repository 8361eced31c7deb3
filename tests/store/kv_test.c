#include "store/kv.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/err.h"
#include "store/key.h"
#include "tests/lib/dice.h"
#include "tests/lib/scratch.h"

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], tmp[SCRATCH_MAX + 16];
static struct kv *kv;
static struct kv_batch batch;
static struct buf value;

static void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/db", root);
    snprintf(tmp, sizeof tmp, "%s/flush.tmp", root);
}

static void teardown(void)
{
    buf_close(&value);
    scratch_remove(root);
}

TestSuite(kv, .init = setup, .fini = teardown);

static void begin(const char *path, enum kv_kind kind, bool create)
{
    struct kv_options options = {.create = create};
    cr_assert(eq(int, kv_open(path, kind, &options, &kv), 0), "%s", kv_error());
    kv_batch_init(&batch, kv);
}

static void end(void)
{
    kv_batch_close(&batch);
    kv_close(kv);
}

static void put(enum kv_cf cf, const char *key, const char *text)
{
    kv_put(&batch, cf, span_str(key), span_str(text));
}

static bool has(enum kv_cf cf, const char *key, const char *text)
{
    return kv_get(kv, cf, span_str(key), &value) == 0 && span_is(buf_span(&value), text);
}

static void reopen_after_crash(enum kv_kind kind)
{
    char left[SCRATCH_MAX + 16];
    snprintf(left, sizeof left, "%s/crashed", root);
    scratch_copy(dir, left);
    end();
    begin(left, kind, false);
}

/* A batch is nothing until it is written, then all of it in all families. */
Test(kv, batch_counts_when_written)
{
    begin(dir, KV_DATA, true);
    put(KV_LOG, "a", "1");
    put(KV_APL, "a", "2");
    cr_assert(eq(int, kv_get(kv, KV_LOG, span_str("a"), &value), ERR_NOT_FOUND));
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(has(KV_LOG, "a", "1") && has(KV_APL, "a", "2"));
    kv_delete(&batch, KV_LOG, span_str("a"));
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_get(kv, KV_LOG, span_str("a"), &value), ERR_NOT_FOUND));
    cr_assert(has(KV_APL, "a", "2"));
    end();
}

/* kv_flush takes every family, at one point: RocksDB's own flush of one family would take the
 * applied index to disk without the rows it speaks of. */
Test(kv, flush_takes_all_families_at_one_point)
{
    begin(dir, KV_DATA, true);
    for (int cf = 0; cf < KV_CF_COUNT; cf++)
        put((enum kv_cf)cf, "k", "before");
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_get_flushed(kv, KV_APL, span_str("k"), &value), ERR_NOT_FOUND));
    cr_assert(eq(int, kv_flush(kv, tmp), 0));
    cr_assert(not(scratch_has(root, "flush.tmp")));
    for (int cf = 0; cf < KV_CF_COUNT; cf++)
        put((enum kv_cf)cf, "k", "after");
    cr_assert(eq(int, kv_write(&batch), 0));
    for (int cf = 0; cf < KV_CF_COUNT; cf++) {
        cr_assert(has((enum kv_cf)cf, "k", "after"));
        cr_assert(eq(int, kv_get_flushed(kv, (enum kv_cf)cf, span_str("k"), &value), 0));
        cr_assert(span_is(buf_span(&value), "before"), "%s", kv_cf_name((enum kv_cf)cf));
    }
    reopen_after_crash(KV_DATA);
    for (int cf = 0; cf < KV_CF_COUNT; cf++)
        cr_assert(has((enum kv_cf)cf, "k", "before"), "%s", kv_cf_name((enum kv_cf)cf));
    end();
}

/* A flush that was cut short leaves its scratch directory: the next one is not stopped by it. */
Test(kv, flush_survives_what_a_crash_left)
{
    begin(dir, KV_DATA, true);
    put(KV_LOG, "k", "1");
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_flush(kv, tmp), 0));
    scratch_copy(dir, tmp);
    put(KV_LOG, "k", "2");
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_flush(kv, tmp), 0), "%s", kv_error());
    cr_assert(eq(int, kv_get_flushed(kv, KV_LOG, span_str("k"), &value), 0));
    cr_assert(span_is(buf_span(&value), "2"));
    end();
}

/* A flush that fails says so, and leaves the database in use. */
Test(kv, flush_that_fails_is_an_error)
{
    begin(dir, KV_DATA, true);
    put(KV_LOG, "k", "1");
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_flush(kv, "/proc/none/flush.tmp"), ERR_IO));
    cr_assert(eq(int, kv_flush(kv, "/proc/none/flush.tmp"), ERR_IO));
    cr_assert(has(KV_LOG, "k", "1"));
    end();
}

/* What a crash leaves of the data database is a prefix of whole batches: rows of one batch in
 * several families are there together or not at all, however small the memtables are. */
Test(kv, crash_leaves_whole_batches)
{
    enum { BATCHES = 4000 };
    struct kv_options options = {.create = true, .memtable_bytes = 64 << 10};
    cr_assert(eq(int, kv_open(dir, KV_DATA, &options, &kv), 0));
    kv_batch_init(&batch, kv);
    static char filler[300];
    memset(filler, 'x', sizeof filler - 1);
    for (int i = 0; i < BATCHES; i++) {
        char key[24];
        snprintf(key, sizeof key, "%08d", i);
        put(KV_LOG, key, filler);
        put(KV_FOLD, key, filler);
        put(KV_USER, key, "x");
        put(KV_APL, "apl", key);
        cr_assert(eq(int, kv_write(&batch), 0));
    }
    reopen_after_crash(KV_DATA);
    cr_assert(eq(int, kv_get(kv, KV_APL, span_str("apl"), &value), 0), "nothing was flushed");
    buf_add_byte(&value, 0);
    long last = strtol(value.p, NULL, 10);
    cr_assert(last > 0 && last < BATCHES);
    for (long i = 0; i < BATCHES; i++) {
        char key[24];
        snprintf(key, sizeof key, "%08ld", i);
        cr_assert(eq(int, has(KV_LOG, key, filler), i <= last), "%ld of %ld", i, last);
        cr_assert(eq(int, has(KV_FOLD, key, filler), i <= last));
        cr_assert(eq(int, has(KV_USER, key, "x"), i <= last));
    }
    end();
}

/* So many rows until the first memtable is full: a few more or less each time, as the heights of a
 * skip list are random. */
static int rows_of_a_memtable(uint64_t stagger)
{
    struct kv_options options = {.create = true, .memtable_bytes = 512 << 10, .stagger = stagger};
    static char filler[300];
    char key[24];
    int rows = 0;
    memset(filler, 'x', sizeof filler - 1);
    cr_assert(eq(int, kv_open(dir, KV_DATA, &options, &kv), 0));
    kv_batch_init(&batch, kv);
    for (uint64_t before = 0, now = 0; now >= before; rows++) {
        before = now;
        snprintf(key, sizeof key, "%08d", rows);
        put(KV_LOG, key, filler);
        cr_assert(eq(int, kv_write(&batch), 0));
        now = kv_property(kv, KV_LOG, "rocksdb.cur-size-active-mem-table");
    }
    end();
    scratch_remove(dir);
    return rows;
}

/* Databases that get the same rows, as replicas do, are flushed at different times. */
Test(kv, replicas_are_flushed_at_different_times)
{
    int rows[4];
    for (int i = 0; i < 4; i++)
        rows[i] = rows_of_a_memtable((uint64_t)i);
    for (int i = 1; i < 4; i++)
        cr_assert(lt(int, rows[i] * 20, rows[i - 1] * 19), "%d and %d rows", rows[i - 1], rows[i]);
    int fifth = rows_of_a_memtable(4);
    cr_assert(lt(int, abs(fifth - rows[0]) * 20, rows[0]), "%d and %d rows", rows[0], fifth);
}

/* The raft database keeps every write that returned. */
Test(kv, raft_writes_survive_a_crash)
{
    begin(dir, KV_RAFT, true);
    put(KV_LOG, "a", "1");
    put(KV_LOG, "b", "2");
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_delete(&batch, KV_LOG, span_str("a"));
    put(KV_LOG, "c", "3");
    cr_assert(eq(int, kv_write(&batch), 0));
    reopen_after_crash(KV_RAFT);
    cr_assert(eq(int, kv_get(kv, KV_LOG, span_str("a"), &value), ERR_NOT_FOUND));
    cr_assert(has(KV_LOG, "b", "2") && has(KV_LOG, "c", "3"));
    end();
}

/* Two pieces make one value; an empty one is a value too. */
Test(kv, value_in_two_pieces)
{
    begin(dir, KV_DATA, true);
    kv_put2(&batch, KV_OUT, span_str("k"), span_str("head"), span_str("-rest"));
    kv_put2(&batch, KV_OUT, span_str("e"), span_str(""), span_str(""));
    cr_assert(lt(sz, 10, kv_batch_bytes(&batch)));
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(has(KV_OUT, "k", "head-rest") && has(KV_OUT, "e", ""));
    kv_put(&batch, KV_OUT, span_str("k"), span_str("x"));
    kv_batch_clear(&batch);
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(has(KV_OUT, "k", "head-rest"));
    end();
}

/* A view does not see what was written after it was opened; an iterator keeps to its bounds. */
Test(kv, views_and_bounds)
{
    begin(dir, KV_DATA, true);
    for (const char *p = "abcdef"; *p != 0; p++)
        kv_put(&batch, KV_CONV, span_of(p, 1), span_str("old"));
    cr_assert(eq(int, kv_write(&batch), 0));
    struct kv_view view;
    kv_view_open(&view, kv);
    put(KV_CONV, "c", "new");
    put(KV_CONV, "cc", "new");
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_view_get(&view, KV_CONV, span_str("c"), &value), 0));
    cr_assert(span_is(buf_span(&value), "old"));
    cr_assert(eq(int, kv_view_get(&view, KV_CONV, span_str("cc"), &value), ERR_NOT_FOUND));
    struct kv_iter iter;
    kv_iter_open(&iter, kv, &view, KV_CONV, span_str("b"), span_str("e"));
    kv_iter_first(&iter);
    cr_assert(span_is(kv_iter_key(&iter), "b"));
    kv_iter_prev(&iter);
    cr_assert(not(kv_iter_valid(&iter)));
    kv_iter_last(&iter);
    cr_assert(span_is(kv_iter_key(&iter), "d"));
    kv_iter_next(&iter);
    cr_assert(not(kv_iter_valid(&iter)));
    cr_assert(eq(int, kv_iter_error(&iter), 0));
    kv_iter_seek(&iter, span_str("bb"));
    cr_assert(span_is(kv_iter_key(&iter), "c") && span_is(kv_iter_value(&iter), "old"));
    kv_iter_seek_back(&iter, span_str("bb"));
    cr_assert(span_is(kv_iter_key(&iter), "b"));
    kv_iter_close(&iter);
    kv_view_close(&view);
    end();
}

enum { NEAR_CONVS = 3, NEAR_SEQS = 3 * KEY_NEAR };

static struct key near_key(size_t c, uint64_t seq)
{
    return key_seq(7, (struct conv_id){c, 1}, seq);
}

/* From each record on, all that are near it are there, as they were last written. */
static void expect_near(const struct kv_view *view, char (*rows)[NEAR_SEQS][16])
{
    struct kv_iter iter;
    kv_iter_open_near(&iter, kv, view);
    for (size_t c = 0; c < NEAR_CONVS; c++)
        for (uint64_t first = 0; first < NEAR_SEQS; first++) {
            struct key key = near_key(c, first);
            kv_iter_seek(&iter, key_span(&key));
            for (uint64_t seq = first; seq == first || seq % KEY_NEAR != 0; seq++) {
                if (rows[c][seq][0] == 0)
                    continue;
                key = near_key(c, seq);
                cr_assert(kv_iter_valid(&iter) && span_eq(kv_iter_key(&iter), key_span(&key)));
                cr_assert(span_is(kv_iter_value(&iter), rows[c][seq]));
                kv_iter_next(&iter);
            }
            cr_assert(kv_iter_valid(&iter) || kv_iter_error(&iter) == 0);
        }
    kv_iter_close(&iter);
}

/* A range has all of its rows, wherever it begins. */
static void expect_range(const struct kv_view *view, char (*rows)[NEAR_SEQS][16])
{
    struct kv_iter iter;
    kv_iter_open(&iter, kv, view, KV_LOG, span_str(""), span_str("\xff"));
    for (uint64_t first = 0; first < NEAR_SEQS; first += 5) {
        struct key key = near_key(0, first);
        kv_iter_seek(&iter, key_span(&key));
        for (size_t i = first; i < (size_t)NEAR_CONVS * NEAR_SEQS; i++) {
            if (rows[i / NEAR_SEQS][i % NEAR_SEQS][0] == 0)
                continue;
            cr_assert(kv_iter_valid(&iter) &&
                      span_is(kv_iter_value(&iter), rows[i / NEAR_SEQS][i % NEAR_SEQS]));
            kv_iter_next(&iter);
        }
        cr_assert(not(kv_iter_valid(&iter)));
    }
    kv_iter_close(&iter);
}

/* Whichever files have them: of a record that was written again, or is gone, nothing older is
 * shown, and none is passed over. */
Test(kv, near_rows_of_many_files)
{
    static char rows[NEAR_CONVS][NEAR_SEQS][16], before[NEAR_CONVS][NEAR_SEQS][16];
    uint64_t dice = 5;
    begin(dir, KV_DATA, true);
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 60; i++) {
            size_t c = (size_t)round % NEAR_CONVS; /* no file has all of them */
            uint64_t seq = dice_roll(&dice, NEAR_SEQS);
            struct key key = near_key(c, seq);
            bool gone = dice_roll(&dice, 4) == 0;
            snprintf(rows[c][seq], sizeof rows[c][seq], "%s%d", gone ? "" : "of ", round);
            if (gone) {
                rows[c][seq][0] = 0;
                kv_delete(&batch, KV_LOG, key_span(&key));
            } else {
                kv_put(&batch, KV_LOG, key_span(&key), span_str(rows[c][seq]));
            }
        }
        cr_assert(eq(int, kv_write(&batch), 0));
        struct kv_view view;
        kv_view_open(&view, kv);
        expect_near(&view, rows);
        if (round == 6)
            kv_compact(kv, KV_LOG, span_str(""), span_str("\xff"));
        else if (round < 11)
            cr_assert(eq(int, kv_flush(kv, tmp), 0));
        expect_near(&view, rows);
        expect_range(&view, rows);
        memcpy(before, rows, sizeof rows);
        struct key key = near_key(0, 1);
        kv_put(&batch, KV_LOG, key_span(&key), span_str("later"));
        snprintf(rows[0][1], sizeof rows[0][1], "later");
        cr_assert(eq(int, kv_write(&batch), 0));
        expect_near(&view, before);
        kv_view_close(&view);
    }
    end();
}

/* A database is not made by accident, and is used by one at a time. */
Test(kv, missing_and_locked)
{
    struct kv_options options = {.create = false};
    struct kv *other = NULL;
    cr_assert(lt(int, kv_open(dir, KV_DATA, &options, &other), 0));
    cr_assert(not(scratch_has(dir, "CURRENT")));
    begin(dir, KV_DATA, true);
    cr_assert(eq(int, kv_open(dir, KV_DATA, &options, &other), ERR_LOCKED), "%s", kv_error());
    options.read_only = true;
    put(KV_LOG, "k", "1");
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_flush(kv, tmp), 0));
    cr_assert(eq(int, kv_open(dir, KV_DATA, &options, &other), 0), "%s", kv_error());
    cr_assert(eq(int, kv_get(other, KV_LOG, span_str("k"), &value), 0));
    kv_close(other);
    end();
}

/* A damaged file is told apart from a missing row. */
Test(kv, damage_is_corrupt)
{
    begin(dir, KV_DATA, true);
    static char filler[5000]; /* that no compression makes small */
    uint64_t dice = 1;
    for (int i = 0; i < 200; i++) {
        char key[24];
        snprintf(key, sizeof key, "%03d", i);
        for (size_t j = 0; j + 1 < sizeof filler; j++)
            filler[j] = (char)('!' + dice_roll(&dice, 90));
        put(KV_LOG, key, filler);
    }
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_flush(kv, tmp), 0));
    end();
    cr_assert(lt(u32, 0, scratch_flip(dir, ".sst", 20000)));
    begin(dir, KV_DATA, false);
    int corrupt = 0;
    for (int i = 0; i < 200; i++) {
        char key[24];
        snprintf(key, sizeof key, "%03d", i);
        int err = kv_get(kv, KV_LOG, span_str(key), &value);
        cr_assert(err == 0 || err == ERR_CORRUPT, "%s", err_name(err));
        corrupt += err != 0;
    }
    cr_assert(lt(int, 0, corrupt));
    end();
}

static int drop_some(void *arg, enum kv_cf cf, struct span key, struct span old, struct buf *room)
{
    (void)arg;
    if (cf == KV_FEED)
        return key.p[0] == 'f' ? KV_DROP : KV_KEEP;
    if (key.p[0] == 'd')
        return KV_DROP;
    if (key.p[0] != 'r')
        return KV_KEEP;
    buf_add_str(room, "new ");
    buf_add_span(room, old);
    return KV_REPLACE;
}

/* The filter of compactions drops and replaces rows of log and feed, and keeps the rest. */
Test(kv, filter_of_compactions)
{
    struct kv_options options = {.create = true, .filter = drop_some};
    cr_assert(eq(int, kv_open(dir, KV_DATA, &options, &kv), 0));
    kv_batch_init(&batch, kv);
    put(KV_LOG, "d", "x");
    put(KV_LOG, "k", "x");
    put(KV_LOG, "r", "x");
    put(KV_CONV, "d", "x");
    put(KV_FEED, "d", "x");
    put(KV_FEED, "f", "x");
    cr_assert(eq(int, kv_write(&batch), 0));
    cr_assert(eq(int, kv_flush(kv, tmp), 0));
    kv_compact(kv, KV_LOG, span_str("a"), span_str("z"));
    kv_compact(kv, KV_FEED, span_str("a"), span_str("z"));
    cr_assert(has(KV_FEED, "d", "x"));
    cr_assert(eq(int, kv_get(kv, KV_FEED, span_str("f"), &value), ERR_NOT_FOUND));
    kv_compact(kv, KV_CONV, span_str("a"), span_str("z"));
    cr_assert(eq(int, kv_get(kv, KV_LOG, span_str("d"), &value), ERR_NOT_FOUND));
    cr_assert(has(KV_LOG, "k", "x") && has(KV_LOG, "r", "new x") && has(KV_CONV, "d", "x"));
    end();
}
