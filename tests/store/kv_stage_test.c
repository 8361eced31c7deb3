#include "store/kv_stage.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/file.h"
#include "store/key.h"
#include "tests/lib/dice.h"
#include "tests/lib/scratch.h"

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], tmp[SCRATCH_MAX + 16], at[SCRATCH_MAX + 16];
static struct kv *kv;
static struct kv_batch batch;
static struct buf value;

static void open_kv(const char *path, bool create)
{
    struct kv_options options = {.create = create};
    cr_assert(eq(int, kv_open(path, KV_DATA, &options, &kv), 0), "%s", kv_error());
    kv_batch_init(&batch, kv);
}

static void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/db", root);
    snprintf(tmp, sizeof tmp, "%s/flush.tmp", root);
    snprintf(at, sizeof at, "%s/stage", root);
    open_kv(dir, true);
}

static void close_kv(void)
{
    kv_batch_close(&batch);
    kv_close(kv);
}

static void teardown(void)
{
    buf_close(&value);
    close_kv();
    scratch_remove(root);
}

TestSuite(kv_stage, .init = setup, .fini = teardown);

static struct key row_key(uint32_t partition, uint64_t number)
{
    return key_seq(partition, (struct conv_id){7, number / 100}, number);
}

static void put(enum kv_cf cf, uint32_t partition, uint64_t number, const char *text)
{
    struct key key = row_key(partition, number);
    kv_put(&batch, cf, key_span(&key), span_str(text));
}

static void write_batch(void)
{
    cr_assert(eq(int, kv_write(&batch), 0));
}

static const char *text_of(enum kv_cf cf, uint32_t partition, uint64_t number)
{
    struct key key = row_key(partition, number);
    if (kv_get(kv, cf, key_span(&key), &value) != 0)
        return "";
    buf_add(&value, "", 1);
    return value.p;
}

static uint64_t count(enum kv_cf cf, uint32_t partition)
{
    struct key from = key_partition(partition), until = key_partition(partition + 1);
    struct kv_iter iter;
    uint64_t n = 0;
    kv_iter_open(&iter, kv, NULL, cf, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter))
        n++;
    cr_assert(eq(int, kv_iter_error(&iter), 0));
    kv_iter_close(&iter);
    return n;
}

/* Rows in partitions 1, 2 and 3: of 2 some in files, some in memory, and more than will replace
 * them, in families with insert hints and without. */
static void fill(void)
{
    for (uint32_t p = 1; p <= 3; p++)
        for (uint64_t i = 0; i < 1000; i++) {
            put(KV_LOG, p, i, "old");
            put(KV_CONV, p, i, "old");
            if (i == 600)
                write_batch();
        }
    write_batch();
    cr_assert(eq(int, kv_flush(kv, tmp), 0));
    for (uint64_t i = 1000; i < 1200; i++)
        put(KV_LOG, 2, i, "old, in memory");
    put(KV_LOG, 2, 5, "newer, in memory");
    put(KV_APL, 2, 0, "index before");
    write_batch();
}

static void stage_log(struct kv_stage *stage, uint64_t from, uint64_t until)
{
    for (uint64_t i = from; i < until; i++) {
        struct key key = row_key(2, i * 3);
        cr_assert(eq(int, kv_stage_put(stage, KV_LOG, key_span(&key), span_str("new")), 0));
    }
}

static void stage_end(struct kv_stage *stage)
{
    struct key key = row_key(2, 0);
    cr_assert(eq(int, kv_stage_put(stage, KV_APL, key_span(&key), span_str("index")), 0));
    cr_assert(eq(int, kv_stage_finish(stage), 0));
    kv_stage_close(stage);
}

static void stage_some(void)
{
    struct kv_stage *stage = NULL;
    cr_assert(eq(int, kv_stage_open(kv, at, &stage), 0));
    stage_log(stage, 0, 500);
    stage_end(stage);
}

static int install(void)
{
    struct key from = key_partition(2), until = key_partition(3);
    return kv_stage_install(kv, at, key_span(&from), key_span(&until));
}

static void check_installed(void)
{
    for (uint32_t p = 1; p <= 3; p += 2) {
        cr_assert(eq(u64, count(KV_LOG, p), 1000));
        cr_assert(eq(u64, count(KV_CONV, p), 1000));
    }
    cr_assert(eq(u64, count(KV_LOG, 2), 500));
    cr_assert(eq(u64, count(KV_CONV, 2), 0), "a family of which nothing was staged is empty");
    for (uint64_t i = 0; i < 500; i++)
        cr_assert(eq(str, (char *)text_of(KV_LOG, 2, i * 3), "new"));
    cr_assert(eq(str, (char *)text_of(KV_LOG, 2, 5), ""));
    cr_assert(eq(str, (char *)text_of(KV_LOG, 2, 1199), ""), "what was in memory is gone too");
    cr_assert(eq(str, (char *)text_of(KV_APL, 2, 0), "index"));
}

/* The range is what was staged, in every family; other partitions are as they were. */
Test(kv_stage, replaces_a_partition)
{
    fill();
    stage_some();
    cr_assert(eq(int, install(), 0), "%s", kv_error());
    check_installed();
    put(KV_LOG, 2, 3, "written after");
    put(KV_LOG, 2, 4, "written after");
    write_batch();
    cr_assert(eq(str, (char *)text_of(KV_LOG, 2, 3), "written after"));
    cr_assert(eq(u64, count(KV_LOG, 2), 501));
    kv_compact(kv, KV_LOG, (struct span){0}, (struct span){0});
    cr_assert(eq(u64, count(KV_LOG, 2), 501));
    cr_assert(eq(str, (char *)text_of(KV_LOG, 2, 4), "written after"));
}

static uint64_t file_bytes(void)
{
    return kv_property(kv, KV_LOG, "rocksdb.total-sst-files-size");
}

/* Nothing is staged: the range is empty then, and takes no room for long. */
Test(kv_stage, nothing_takes_the_place)
{
    enum { ROWS = 20000, WAIT_MS = 20000 };
    struct kv_stage *stage = NULL;
    static char text[1001];
    uint64_t state = 1;
    for (uint64_t i = 0; i < ROWS; i++) {
        for (size_t b = 0; b < sizeof text - 1; b++)
            text[b] = (char)('a' + dice_roll(&state, 26));
        put(KV_LOG, 2, i, text);
        if (i % 1000 == 999)
            write_batch();
    }
    put(KV_LOG, 3, 1, "stays");
    write_batch();
    kv_compact(kv, KV_LOG, (struct span){0}, (struct span){0});
    uint64_t before = file_bytes();
    cr_assert(eq(int, kv_stage_open(kv, at, &stage), 0));
    cr_assert(eq(int, kv_stage_finish(stage), 0));
    kv_stage_close(stage);
    cr_assert(eq(int, install(), 0), "%s", kv_error());
    cr_assert(eq(u64, count(KV_LOG, 2), 0));
    struct key from = key_partition(2), until = key_partition(3);
    kv_compact_later(kv, KV_LOG, key_span(&from), key_span(&until));
    for (int ms = 0; file_bytes() > before / 10 && ms < WAIT_MS; ms += 20)
        usleep(20000);
    cr_assert(lt(u64, file_bytes(), before / 10), "%lu of %lu bytes", file_bytes(), before);
    cr_assert(eq(str, (char *)text_of(KV_LOG, 3, 1), "stays"));
}

/* Done twice, and over what was written in between, it is the same: a crash cut it short. */
Test(kv_stage, again)
{
    fill();
    stage_some();
    cr_assert(eq(int, install(), 0), "%s", kv_error());
    put(KV_LOG, 2, 4, "written after");
    put(KV_CONV, 2, 9, "written after");
    write_batch();
    cr_assert(eq(int, install(), 0), "%s", kv_error());
    check_installed();
    kv_compact(kv, KV_LOG, (struct span){0}, (struct span){0});
    check_installed();
    kv_stage_remove(at);
    cr_assert(ne(int, access(at, F_OK), 0));
    check_installed();
}

/* What was taken over needs no flush: it is there after a crash. */
Test(kv_stage, survives_a_crash)
{
    fill();
    stage_some();
    cr_assert(eq(int, install(), 0), "%s", kv_error());
    char left[SCRATCH_MAX + 16];
    snprintf(left, sizeof left, "%s/crashed", root);
    scratch_copy(dir, left);
    close_kv();
    open_kv(left, false);
    check_installed();
}

static struct kv_stage *resume(const char *expected)
{
    struct kv_stage *stage = NULL;
    value.n = 0;
    cr_assert(eq(int, kv_stage_resume(kv, at, &stage, &value), 0));
    buf_add(&value, "", 1);
    cr_assert(eq(str, value.p, (char *)(uintptr_t)expected));
    return stage;
}

/* What was put before a mark need not be put again, whatever came after it. */
Test(kv_stage, goes_on_from_a_mark)
{
    struct kv_stage *stage = NULL;
    struct key key = row_key(2, 199 * 3);
    struct span last;
    fill();
    cr_assert(eq(int, kv_stage_open(kv, at, &stage), 0));
    stage_log(stage, 0, 100);
    cr_assert(lt(sz, 100, kv_stage_unmarked(stage)));
    cr_assert(eq(int, kv_stage_mark(stage, span_str("one")), 0));
    cr_assert(zero(sz, kv_stage_unmarked(stage)));
    stage_log(stage, 100, 200);
    cr_assert(eq(int, kv_stage_mark(stage, span_str("two")), 0));
    stage_log(stage, 200, 300);
    kv_stage_close(stage);
    stage = resume("two");
    cr_assert(eq(int, kv_stage_last(stage, &last), KV_LOG));
    cr_assert(span_eq(last, key_span(&key)));
    cr_assert(eq(int, kv_stage_put(stage, KV_LOG, key_span(&key), span_str("x")), ERR_CORRUPT));
    stage_log(stage, 200, 500);
    stage_end(stage);
    stage = resume("two"); /* it was finished, but nobody took it over */
    cr_assert(eq(int, install(), ERR_CORRUPT));
    stage_log(stage, 200, 400);
    kv_stage_close(stage);
    stage = resume("two");
    stage_log(stage, 200, 500);
    cr_assert(eq(int, kv_stage_mark(stage, span_str("three")), 0));
    kv_stage_close(stage);
    stage_end(resume("three"));
    cr_assert(eq(int, install(), 0), "%s", kv_error());
    check_installed();
}

/* A mark that is none any more: one begins anew. */
Test(kv_stage, damaged_mark)
{
    char path[SCRATCH_MAX + 32];
    struct kv_stage *stage = NULL;
    struct buf mark = {0};
    cr_assert(eq(int, kv_stage_resume(kv, at, &stage, &value), ERR_NOT_FOUND));
    cr_assert(eq(int, kv_stage_open(kv, at, &stage), 0));
    cr_assert(eq(int, kv_stage_resume(kv, at, &stage, &value), ERR_NOT_FOUND));
    stage_log(stage, 0, 10);
    cr_assert(eq(int, kv_stage_mark(stage, span_str("note")), 0));
    kv_stage_close(stage);
    snprintf(path, sizeof path, "%s/MARK", at);
    cr_assert(eq(int, file_read(path, 4096, &mark, NULL), 0));
    for (size_t i = 0; i < mark.n; i++) {
        mark.p[i] ^= 16;
        cr_assert(eq(int, file_replace(path, buf_span(&mark)), 0));
        cr_assert(eq(int, kv_stage_resume(kv, at, &stage, &value), ERR_NOT_FOUND));
        mark.p[i] ^= 16;
        cr_assert(eq(int, file_replace(path, span_of(mark.p, i)), 0));
        cr_assert(eq(int, kv_stage_resume(kv, at, &stage, &value), ERR_NOT_FOUND));
    }
    cr_assert(zero(sz, value.n));
    buf_close(&mark);
    cr_assert(eq(int, kv_stage_open(kv, at, &stage), 0)); /* it goes with all else */
    kv_stage_close(stage);
    cr_assert(eq(int, kv_stage_resume(kv, at, &stage, &value), ERR_NOT_FOUND));
}

/* Without a list, or with a file missing, nothing is taken over in part without an error. */
Test(kv_stage, incomplete)
{
    char path[SCRATCH_MAX + 32];
    struct kv_stage *stage = NULL;
    struct key key = row_key(2, 1), below = row_key(2, 0);
    fill();
    cr_assert(eq(int, kv_stage_open(kv, at, &stage), 0));
    cr_assert(eq(int, kv_stage_put(stage, KV_CONV, key_span(&key), span_str("x")), 0));
    cr_assert(eq(int, kv_stage_put(stage, KV_CONV, key_span(&key), span_str("x")), ERR_CORRUPT));
    cr_assert(eq(int, kv_stage_put(stage, KV_CONV, key_span(&below), span_str("x")), ERR_CORRUPT));
    cr_assert(eq(int, kv_stage_put(stage, KV_LOG, key_span(&below), span_str("x")), ERR_CORRUPT));
    kv_stage_close(stage);
    cr_assert(eq(int, install(), ERR_CORRUPT));
    cr_assert(eq(u64, count(KV_LOG, 2), 1200), "nothing was touched");

    stage_some(); /* what was there from before goes */
    snprintf(path, sizeof path, "%s/conv-0.sst", at);
    cr_assert(ne(int, access(path, F_OK), 0));
    snprintf(path, sizeof path, "%s/log-0.sst", at);
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, install(), ERR_CORRUPT));
    stage_some();
    cr_assert(eq(int, install(), 0), "%s", kv_error());
    check_installed();
}

/* Where nothing can be written it is an error that says so. */
Test(kv_stage, nowhere)
{
    struct kv_stage *stage = NULL;
    cr_assert(eq(int, kv_stage_open(kv, "/proc/nowhere/stage", &stage), ERR_IO));
}
