#include "store/dedup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/err.h"
#include "tests/lib/scratch.h"

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
static struct kv *kv;
static struct kv_batch batch;
static struct dedup dedup;
static const struct conv_id a = {1, 2}, b = {1, 3};
static uint64_t hint_a, hint_b;

static void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/db", root);
    struct kv_options options = {.create = true};
    cr_assert(eq(int, kv_open(dir, KV_DATA, &options, &kv), 0));
    kv_batch_init(&batch, kv);
    dedup_init(&dedup, kv, 7, 8);
}

static void teardown(void)
{
    dedup_close(&dedup);
    kv_batch_close(&batch);
    kv_close(kv);
    scratch_remove(root);
}

TestSuite(dedup, .init = setup, .fini = teardown);

static uint64_t find(struct conv_id conv, uint64_t hash)
{
    uint64_t seq = 0;
    int err = dedup_find(&dedup, conv, hash, conv.lo == a.lo ? &hint_a : &hint_b, &seq);
    cr_assert(err == 0 || err == ERR_NOT_FOUND);
    return err == 0 ? seq : 0;
}

static void written(void)
{
    cr_assert(eq(int, kv_write(&batch), 0));
    dedup_forget(&dedup);
}

static void warm(void)
{
    for (bool done = false; !done;)
        cr_assert(eq(int, dedup_warm(&dedup, 100, &done), 0));
}

static uint64_t hash_of(uint64_t i)
{
    return i * 0x9e3779b97f4a7c15u;
}

/* Same user and cid in another conversation is another key. */
Test(dedup, keys_are_of_one_conversation)
{
    dedup_add(&dedup, a, 10, 5);
    cr_assert(eq(u64, find(a, 10), 5));
    cr_assert(eq(u64, find(b, 10), 0));
    cr_assert(eq(u64, find(a, 11), 0));
}

/* From the first message to the last row on disk, whatever is in which place. */
Test(dedup, found_at_every_moment_of_a_seal)
{
    for (uint64_t i = 1; i <= 500; i++)
        dedup_add(&dedup, i % 2 ? a : b, hash_of(i), i);
    dedup_turn(&dedup);
    for (uint64_t i = 501; i <= 600; i++)
        dedup_add(&dedup, i % 2 ? a : b, hash_of(i), i);
    cr_assert(eq(sz, dedup_recent(&dedup), 600));
    for (bool last = false; !last;) {
        last = dedup_seal(&dedup, &batch, 99);
        written();
        for (uint64_t i = 1; i <= 600; i++) {
            cr_assert(eq(u64, find(i % 2 ? a : b, hash_of(i)), i));
            cr_assert(eq(u64, find(i % 2 ? b : a, hash_of(i)), 0));
        }
    }
    cr_assert(eq(sz, dedup_recent(&dedup), 100));
    cr_assert(not(dedup_seal(&dedup, &batch, 99)));
}

/* What a start finds on disk only, before and after the filter knows of it. */
Test(dedup, found_after_a_start)
{
    for (uint64_t i = 1; i <= 500; i++)
        dedup_add(&dedup, i % 2 ? a : b, hash_of(i), i);
    dedup_seal_all(&dedup, &batch);
    written();
    cr_assert(eq(sz, dedup_recent(&dedup), 0));
    dedup_close(&dedup);
    dedup_init(&dedup, kv, 7, 8);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 1; i <= 500; i++) {
            cr_assert(eq(u64, find(i % 2 ? a : b, hash_of(i)), i));
            cr_assert(eq(u64, find(i % 2 ? b : a, hash_of(i)), 0));
        }
        warm();
    }
}

/* Sequences without a cid, rows that begin in the middle, and conversations that grow unevenly. */
Test(dedup, rows_of_all_shapes)
{
    uint64_t seq = 0;
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 300; i++) {
            seq += i % 7 == 0 ? 5 : 1;
            dedup_add(&dedup, a, hash_of(seq), seq);
            if (i % 90 == 0)
                dedup_add(&dedup, b, hash_of(seq), seq);
        }
        dedup_seal_all(&dedup, &batch);
        written();
    }
    for (uint64_t i = 1; i <= seq; i++) {
        uint64_t found = find(a, hash_of(i));
        cr_assert(found == 0 || found == i);
        hint_a = i % 3 == 0 ? i - i % DEDUP_ROW : hint_a; /* any row is a hint */
    }
    cr_assert(eq(u64, find(a, hash_of(seq)), seq));
    cr_assert(eq(u64, find(a, hash_of(5)), 5));
    cr_assert(eq(u64, find(b, hash_of(5)), 5));
    cr_assert(eq(u64, find(b, hash_of(6)), 0));
    struct key key = key_seq(7, a, 0);
    struct buf value = {0};
    uint64_t hashes[DEDUP_ROW];
    cr_assert(eq(int, kv_get(kv, KV_DEDUP, key_span(&key), &value), 0));
    cr_assert(eq(int, dedup_row_read(buf_span(&value), hashes), 0));
    cr_assert(hashes[1] == 0 && hashes[5] == hash_of(5) && hashes[6] == hash_of(6));
    buf_close(&value);
}

/* A warm filter keeps nearly all new cids away from the disk; here the disk would answer. */
Test(dedup, filter_spares_the_disk)
{
    uint64_t asked = 0;
    warm();
    for (uint64_t i = 1; i <= 10000; i++) {
        char chunk[12];
        put_be16(chunk, (uint16_t)(i % DEDUP_ROW));
        put_be16(chunk + 2, 1);
        put_le64(chunk + 4, hash_of(i));
        struct key key = key_seq(7, a, i - i % DEDUP_ROW);
        kv_append(&batch, KV_DEDUP, key_span(&key), span_of(chunk, sizeof chunk));
    }
    written();
    for (uint64_t i = 20001; i <= 40000; i++)
        dedup_add(&dedup, b, hash_of(i), i);
    for (uint64_t i = 1; i <= 10000; i++)
        asked += find(a, hash_of(i)) != 0;
    cr_assert(lt(u64, asked, 100));
}

/* The filter grows with what it has to tell apart, and knows all of it afterwards; also what comes
 * while it is made. */
Test(dedup, filter_grows)
{
    warm();
    unsigned first = dedup.filter.log2_bytes;
    uint64_t i = 0;
    for (bool done = true; dedup.filter.log2_bytes < first + 4;) {
        while (++i % 3000 != 0)
            dedup_add(&dedup, i % 2 ? a : b, hash_of(i), i);
        if (dedup_full(&dedup))
            dedup_turn(&dedup);
        dedup_seal(&dedup, &batch, 4000);
        written();
        cr_assert(eq(int, dedup_warm(&dedup, 32, &done), 0));
    }
    for (uint64_t j = 1; j < i; j++)
        cr_assert(j % 3000 == 0 || find(j % 2 ? a : b, hash_of(j)) == j);
}

/* Without a filter, or with one that is far too small, the rows are asked: it has to be made first,
 * however much there is to do beside it. */
Test(dedup, cold_until_there_is_a_filter)
{
    bool done = false;
    cr_assert(dedup_cold(&dedup));
    warm();
    cr_assert(not(dedup_cold(&dedup)));
    for (uint64_t i = 1; !bloom_crowded(&dedup.filter); i++) {
        cr_assert(not(dedup_cold(&dedup)));
        dedup_add(&dedup, a, hash_of(i), i);
    }
    cr_assert(bloom_full(&dedup.filter));
    cr_assert(dedup_cold(&dedup));
    while (!done)
        cr_assert(eq(int, dedup_warm(&dedup, 32, &done), 0));
    cr_assert(not(dedup_cold(&dedup)));
}

/* The first generations of the partitions differ, so that they do not seal at the same time. */
Test(dedup, full_at_the_bound)
{
    struct dedup other;
    dedup_init(&other, kv, 3, 8);
    cr_assert(ne(sz, other.generation, dedup.generation));
    dedup_close(&other);
    for (int round = 0; round < 2; round++) {
        size_t bound = dedup.generation;
        for (uint64_t i = 1; i < bound; i++)
            dedup_add(&dedup, a, i, i);
        cr_assert(not(dedup_full(&dedup)));
        dedup_add(&dedup, a, bound, 1);
        cr_assert(dedup_full(&dedup));
        dedup_turn(&dedup);
        cr_assert(not(dedup_full(&dedup)));
        cr_assert(dedup_seal(&dedup, &batch, SIZE_MAX));
        written();
        cr_assert(eq(sz, dedup.generation, DEDUP_GENERATION));
    }
}

/* The hash is of user and cid apart: no shift of a byte between them gives the same; a salt gives
 * another. */
Test(dedup, hash_keeps_user_and_cid_apart)
{
    uint64_t hash = dedup_hash(span_str("ab"), span_str("cd"), 0);
    cr_assert(ne(u64, hash, dedup_hash(span_str("abc"), span_str("d"), 0)));
    cr_assert(ne(u64, hash, dedup_hash(span_str("ab"), span_str("cd"), 1)));
    cr_assert(eq(u64, hash, dedup_hash(span_str("ab"), span_str("cd"), 0)));
}

/* A row that can't be read is damage, not an unknown cid: for who asks, and for the filter. */
Test(dedup, damaged_row_is_corrupt)
{
    bool done = false;
    for (int i = 0; i < 3; i++) {
        char chunk[] = {0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9};
        put_be16(chunk, i == 1 ? DEDUP_ROW : 0); /* too short; begins behind the row; no head */
        put_be16(chunk + 2, i == 1 ? 1 : 2);
        struct key key = key_seq(7, a, 0);
        kv_put(&batch, KV_DEDUP, key_span(&key), span_of(chunk, i == 2 ? 3 : sizeof chunk - 1));
        written();
        uint64_t seq = 0;
        cr_assert(eq(int, dedup_find(&dedup, a, 10, &hint_a, &seq), ERR_CORRUPT));
    }
    cr_assert(eq(int, dedup_warm(&dedup, 100, &done), ERR_CORRUPT));
    uint64_t seq = 0;
    cr_assert(eq(int, dedup_find(&dedup, a, 10, &hint_a, &seq), ERR_CORRUPT));
}
