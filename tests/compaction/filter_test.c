#include "compaction/filter.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <xxhash.h>

#include "compaction/strip.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/key.h"
#include "store/kv.h"
#include "tests/lib/scratch.h"

enum { NOW = 1000000, BODY = 300 };

static struct buf row, left;

static void teardown(void)
{
    buf_close(&row);
    buf_close(&left);
}

TestSuite(filter, .fini = teardown, .timeout = 60);

static const struct conv_id id = {7, 8};

/* A message with everything set, in `row`. */
static Loquat__Record full(uint64_t expires)
{
    static char body[BODY + 1], *mentions[] = {"bob", "eve"};
    memset(body, 'b', BODY);
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.ts = 1700000000000;
    record.mid_off = -77;
    record.gap = 3;
    record.kind = LOQUAT__KIND__KIND_X;
    record.xkind = "poll";
    record.from = "ann";
    record.cid = "cid-1";
    record.body = (ProtobufCBinaryData){BODY, (uint8_t *)body};
    record.reply = 4;
    record.thread = 5;
    record.mentions = mentions;
    record.n_mentions = 2;
    record.expires = expires;
    record.target = 6;
    row.n = 0;
    record_encode(&record, &row);
    return record;
}

static int decide(uint64_t seq, uint64_t floor)
{
    struct key key = key_seq(1, id, seq);
    left.n = 0;
    return filter_decide(key_span(&key), buf_span(&row), floor, NOW, &left);
}

/* Below the floor a record goes, whatever it is; at the floor it stays. */
Test(filter, floor_drops)
{
    full(0);
    cr_assert(eq(int, decide(9, 10), KV_DROP));
    cr_assert(eq(int, decide(10, 10), KV_KEEP));
    cr_assert(eq(int, decide(10, 0), KV_KEEP));
    buf_cut(&row, 1); /* not even readable */
    cr_assert(eq(int, decide(9, 10), KV_DROP));
    cr_assert(eq(int, decide(10, 10), KV_KEEP));
}

/* What the state machine looks at is the same before and after; the content is gone. */
Test(filter, expired_loses_its_content_only)
{
    Loquat__Record before = full(NOW);
    cr_assert(eq(int, decide(9, 0), KV_REPLACE));
    cr_assert(lt(sz, left.n, row.n - BODY));
    Loquat__Record *after = NULL;
    cr_assert(eq(int, record_decode(buf_span(&left), NULL, &after), 0));
    cr_assert(eq(u64, after->ts, before.ts));
    cr_assert(eq(i64, after->mid_off, before.mid_off));
    cr_assert(eq(u64, after->gap, before.gap));
    cr_assert(eq(u32, after->kind, before.kind));
    cr_assert(eq(str, after->from, before.from));
    cr_assert(eq(str, after->cid, before.cid));
    cr_assert(eq(u64, after->thread, before.thread));
    cr_assert(eq(u64, after->target, before.target));
    cr_assert(eq(u64, after->expires, before.expires));
    cr_assert(not(after->erased));
    cr_assert(after->stripped);
    cr_assert(eq(sz, after->body.len, 0));
    cr_assert(eq(sz, after->n_mentions, 0));
    cr_assert(eq(str, after->xkind, ""));
    loquat__record__free_unpacked(after, NULL);
    row.n = 0;
    buf_add_span(&row, buf_span(&left));
    cr_assert(eq(int, decide(9, 0), KV_KEEP)); /* once is enough */
}

/* Not yet expired, never expiring, damaged: left alone, byte for byte. */
Test(filter, the_rest_is_kept)
{
    full(NOW + 1);
    cr_assert(eq(int, decide(9, 0), KV_KEEP));
    full(0);
    cr_assert(eq(int, decide(9, 0), KV_KEEP));
    full(NOW);
    row.p[row.n - 1] ^= 1; /* verify must find it, so it is not papered over */
    cr_assert(eq(int, decide(9, 0), KV_KEEP));
    struct key key = key_seq(1, id, 9);
    cr_assert(eq(int, filter_decide(span_of(key.p, 5), buf_span(&row), 10, NOW, &left), KV_KEEP));
}

/* A record with a field that only a newer program knows is not for this one to rewrite. */
Test(filter, records_of_newer_programs_are_kept)
{
    full(NOW);
    static const char unknown[] = {(char)0xc0, 0x3e, 5}; /* field 1000, a number */
    buf_add(&row, unknown, sizeof unknown);
    put_le32(row.p + 1, (uint32_t)XXH3_64bits(row.p + RECORD_HEAD_SIZE, row.n - RECORD_HEAD_SIZE));
    cr_assert(eq(int, record_check(buf_span(&row)), 0));
    cr_assert(eq(int, decide(9, 0), KV_KEEP));
    cr_assert(eq(int, strip_record(buf_span(&row), &left), ERR_VERSION));
}

/* The field is found without unpacking, and bytes that are no record are no trouble. */
Test(filter, expires_is_read_from_any_bytes)
{
    full(123456789);
    cr_assert(eq(u64, strip_expires(buf_span(&row)), 123456789));
    for (size_t n = 0; n < row.n; n++) {
        struct buf cut = {0}; /* of its own size, so that a read past it is seen */
        buf_add(&cut, row.p, n);
        uint64_t expires = strip_expires(span_of(cut.p, n));
        cr_assert(expires == 0 || expires == 123456789 || n > 5);
        buf_close(&cut);
    }
    for (unsigned seed = 0; seed < 2000; seed++) {
        char noise[40];
        unsigned x = seed;
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (char)((x = x * 1103515245 + 12345) >> 16);
        noise[0] = RECORD_VERSION;
        strip_expires(span_of(noise, sizeof noise));
    }
}

/* ---- in a database ---- */

static bool has(struct kv *kv, uint64_t seq)
{
    struct key key = key_seq(1, id, seq);
    int err = kv_get(kv, KV_LOG, key_span(&key), &left);
    cr_assert(err == 0 || err == ERR_NOT_FOUND);
    return err == 0;
}

/* A compaction leaves out what is below the floor and strips what has expired, and counts it. */
Test(filter, works_in_a_compaction)
{
    char dir[SCRATCH_MAX], data[SCRATCH_MAX + 8];
    scratch_make(dir);
    snprintf(data, sizeof data, "%s/data", dir);
    struct filter *filter = filter_new();
    struct kv_options options = {.create = true, .filter = filter_row, .filter_arg = filter};
    struct kv *kv = NULL;
    cr_assert(eq(int, kv_open(data, KV_DATA, &options, &kv), 0));
    struct kv_batch batch;
    kv_batch_init(&batch, kv);
    for (uint64_t seq = 1; seq <= 20; seq++) {
        struct key key = key_seq(1, id, seq), other = key_seq(2, id, seq);
        full(seq == 15 ? 1 : 0); /* 15: expired long ago */
        kv_put(&batch, KV_LOG, key_span(&key), buf_span(&row));
        kv_put(&batch, KV_LOG, key_span(&other), buf_span(&row));
    }
    cr_assert(eq(int, kv_write(&batch), 0));
    filter_raise(filter, 1, id, 11);
    filter_raise(filter, 1, id, 4); /* lower: ignored */
    struct key from = key_partition(0), until = key_partition(9);
    kv_compact(kv, KV_LOG, key_span(&from), key_span(&until));
    for (uint64_t seq = 1; seq <= 20; seq++)
        cr_assert(eq(int, has(kv, seq), seq >= 11), "sequence %lu", seq);
    struct key key = key_seq(1, id, 15), other = key_seq(2, id, 1);
    cr_assert(eq(int, kv_get(kv, KV_LOG, key_span(&key), &left), 0));
    cr_assert(lt(sz, left.n, (size_t)BODY));
    cr_assert(eq(int, record_check(buf_span(&left)), 0));
    cr_assert(eq(int, kv_get(kv, KV_LOG, key_span(&other), &left), 0)); /* another partition */
    struct tally went[CAUSE_COUNT];
    filter_went(filter, went);
    cr_assert(eq(u64, went[CAUSE_FLOOR].rows, 10));
    cr_assert(eq(u64, went[CAUSE_FLOOR].gone, went[CAUSE_FLOOR].bytes));
    cr_assert(eq(u64, went[CAUSE_EXPIRED].rows, 2));
    cr_assert(lt(u64, 2 * BODY, went[CAUSE_EXPIRED].gone));
    kv_batch_close(&batch);
    kv_close(kv);
    filter_free(filter);
    scratch_remove(dir);
}

/* ---- the feed ---- */

static const struct conv_id other = {9, 1};

static void add_run(struct conv_id conv, uint64_t first, uint64_t count)
{
    char *p = buf_grow(&row, 16);
    put_be64(p, conv.hi);
    put_be64(p + 8, conv.lo);
    buf_add_varint(&row, first);
    buf_add_varint(&row, count);
}

static int feed_row(struct filter *filter, uint32_t partition, uint64_t index)
{
    struct key key = key_number(partition, index);
    return filter_row(filter, KV_FEED, key_span(&key), buf_span(&row), &left);
}

/* An entry goes when all its records are below their floors, unless the feed may end with it. */
Test(filter, entries_of_a_feed_go_whole_or_stay)
{
    struct filter *filter = filter_new();
    filter_raise(filter, 1, id, 11);
    filter_raise(filter, 1, other, 4);
    filter_raise_feed(filter, 1, 100);
    filter_raise_feed(filter, 1, 90); /* lower: ignored */
    row.n = 0;
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_KEEP)); /* nothing in it: damaged */
    add_run(id, 1, 10);
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_DROP));
    cr_assert(eq(int, feed_row(filter, 1, 99), KV_DROP));
    cr_assert(eq(int, feed_row(filter, 1, 100), KV_KEEP)); /* may be the last */
    cr_assert(eq(int, feed_row(filter, 2, 1), KV_KEEP));   /* another partition */
    struct key log = key_seq(1, id, 1);
    cr_assert(eq(int, filter_row(filter, KV_FEED, key_span(&log), buf_span(&row), &left), KV_KEEP));
    add_run(other, 3, 1);
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_DROP)); /* both below */
    row.n--;
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_KEEP)); /* the second is cut off */
    row.n++;
    add_run(other, 4, 1);
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_KEEP)); /* the third is at its floor */
    row.n = 0;
    add_run(id, 2, 10);
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_KEEP)); /* its last is */
    row.n = 0;
    add_run((struct conv_id){5, 5}, 1, 1);
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_KEEP)); /* it has no floor */
    row.n = 0;
    add_run(id, 2, UINT64_MAX);
    cr_assert(eq(int, feed_row(filter, 1, 1), KV_KEEP));
    struct tally went[CAUSE_COUNT];
    filter_went(filter, went);
    cr_assert(all(eq(u64, went[CAUSE_FEED].rows, 3), eq(u64, went[CAUSE_FLOOR].rows, 0)));
    cr_assert(eq(u64, went[CAUSE_FEED].gone, went[CAUSE_FEED].bytes));
    filter_free(filter);
}
