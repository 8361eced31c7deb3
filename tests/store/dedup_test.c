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

static void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/db", root);
    struct kv_options options = {.create = true};
    cr_assert(eq(int, kv_open(dir, KV_DATA, &options, &kv), 0));
    kv_batch_init(&batch, kv);
    dedup_init(&dedup, kv, 7);
}

static void teardown(void)
{
    dedup_close(&dedup);
    kv_batch_close(&batch);
    kv_close(kv);
    scratch_remove(root);
}

TestSuite(dedup, .init = setup, .fini = teardown);

static uint64_t find(struct conv_id conv, uint64_t hash, bool sealed)
{
    uint64_t seq = 0;
    int err = dedup_find(&dedup, conv, hash, sealed, &seq);
    cr_assert(err == 0 || err == ERR_NOT_FOUND);
    return err == 0 ? seq : 0;
}

static void seal(void)
{
    dedup_seal(&dedup, &batch);
    cr_assert(eq(int, kv_write(&batch), 0));
    dedup_forget(&dedup);
}

/* Same user and cid in another conversation is another key. */
Test(dedup, keys_are_of_one_conversation)
{
    dedup_add(&dedup, a, 10, 5);
    cr_assert(eq(u64, find(a, 10, true), 5));
    cr_assert(eq(u64, find(b, 10, true), 0));
    cr_assert(eq(u64, find(a, 11, true), 0));
}

/* Sealed rows are found on disk; who says that nothing can be there is not made to look. */
Test(dedup, found_after_a_seal)
{
    for (uint64_t i = 1; i <= 500; i++)
        dedup_add(&dedup, i % 2 ? a : b, i * 0x9e3779b97f4a7c15, i);
    seal();
    cr_assert(eq(sz, dedup.count, 0));
    for (uint64_t i = 1; i <= 500; i++) {
        cr_assert(eq(u64, find(i % 2 ? a : b, i * 0x9e3779b97f4a7c15, true), i));
        cr_assert(eq(u64, find(i % 2 ? b : a, i * 0x9e3779b97f4a7c15, true), 0));
        cr_assert(eq(u64, find(i % 2 ? a : b, i * 0x9e3779b97f4a7c15, false), 0));
    }
}

/* The bound that asks for a seal. */
Test(dedup, full_at_the_bound)
{
    for (uint64_t i = 1; i < DEDUP_RECENT_MAX; i++)
        dedup_add(&dedup, a, i, i);
    cr_assert(not(dedup_full(&dedup)));
    dedup_add(&dedup, a, DEDUP_RECENT_MAX, 1);
    cr_assert(dedup_full(&dedup));
    seal();
    cr_assert(not(dedup_full(&dedup)));
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

/* A row that is no number is damage, not an unknown cid. */
Test(dedup, damaged_row_is_corrupt)
{
    dedup_add(&dedup, a, 10, 5);
    dedup_seal(&dedup, &batch);
    char key[26] = {0, 7};
    key[9] = 1, key[17] = 2, key[25] = 10;
    kv_put(&batch, KV_DEDUP, span_of(key, sizeof key), span_str(""));
    cr_assert(eq(int, kv_write(&batch), 0));
    dedup_forget(&dedup);
    uint64_t seq = 0;
    cr_assert(eq(int, dedup_find(&dedup, a, 10, true, &seq), ERR_CORRUPT));
}
