#include "store/base/map.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "tests/lib/dice.h"

static struct map map;

static void setup(void)
{
    map_init(&map);
}

static void teardown(void)
{
    map_close(&map);
}

TestSuite(map, .init = setup, .fini = teardown);

static struct map_key key(uint64_t a, uint64_t b)
{
    return (struct map_key){a, b};
}

/* An empty map can be asked everything. */
Test(map, empty_map_has_nothing)
{
    cr_assert(eq(ptr, map_get(&map, key(0, 0)), NULL));
    cr_assert(not(map_remove(&map, key(0, 0))));
    cr_assert(eq(ptr, map_each(&map, NULL), NULL));
    map_clear(&map);
    cr_assert(eq(sz, map.count, 0));
}

/* A put says whether the key is new; a new value is 0, an old one is kept. */
Test(map, put_tells_fresh_from_known)
{
    bool fresh = false;
    union map_val *val = map_put(&map, key(1, 2), &fresh);
    cr_assert(fresh);
    cr_assert(eq(u64, val->u, 0));
    val->u = 7;
    val = map_put(&map, key(1, 2), &fresh);
    cr_assert(not(fresh));
    cr_assert(eq(u64, val->u, 7));
    cr_assert(eq(u64, map_put(&map, key(1, 2), NULL)->u, 7));
}

/* Both halves of the key count, and so does their order. */
Test(map, halves_of_the_key_are_different)
{
    map_put(&map, key(1, 2), NULL)->u = 12;
    map_put(&map, key(2, 1), NULL)->u = 21;
    map_put(&map, key(1, 1), NULL)->u = 11;
    cr_assert(eq(u64, map_get(&map, key(1, 2))->u, 12));
    cr_assert(eq(u64, map_get(&map, key(2, 1))->u, 21));
    cr_assert(eq(u64, map_get(&map, key(1, 1))->u, 11));
    cr_assert(eq(ptr, map_get(&map, key(2, 2)), NULL));
}

/* Removing shifts: a map that is filled and emptied forever stays as small as it was. */
Test(map, put_and_remove_forever_does_not_grow)
{
    for (uint64_t i = 0; i < 100000; i++) {
        map_put(&map, key(i, ~i), NULL)->u = i;
        if (i >= 5)
            cr_assert(map_remove(&map, key(i - 5, ~(i - 5))));
    }
    cr_assert(eq(sz, map.count, 5));
    cr_assert(eq(sz, map.mask, 7));
}

/* Iterating meets each key once. */
Test(map, each_meets_every_key_once)
{
    enum { N = 1000 };
    bool met[N] = {0};
    for (uint64_t i = 0; i < N; i++)
        map_put(&map, key(i, 0), NULL)->u = i;
    size_t count = 0;
    for (struct map_slot *slot = NULL; (slot = map_each(&map, slot)) != NULL; count++) {
        cr_assert(eq(u64, slot->key.a, slot->val.u));
        cr_assert(not(met[slot->val.u]));
        met[slot->val.u] = true;
    }
    cr_assert(eq(sz, count, N));
}

/* Clearing keeps the slots, and forgets what was in them. */
Test(map, clear_forgets)
{
    for (uint64_t i = 0; i < 100; i++)
        map_put(&map, key(i, i), NULL)->u = i;
    size_t mask = map.mask;
    map_clear(&map);
    cr_assert(eq(sz, map.count, 0));
    cr_assert(eq(sz, map.mask, mask));
    cr_assert(eq(ptr, map_get(&map, key(5, 5)), NULL));
    cr_assert(eq(ptr, map_each(&map, NULL), NULL));
}

/* Slots depend on the map's own seed: keys that collide in one map do not in another. */
Test(map, order_differs_between_maps)
{
    struct map other;
    map_init(&other);
    for (uint64_t i = 0; i < 64; i++) {
        map_put(&map, key(i, 0), NULL);
        map_put(&other, key(i, 0), NULL);
    }
    int same = 0;
    struct map_slot *a = NULL, *b = NULL;
    for (int i = 0; i < 64; i++) {
        a = map_each(&map, a);
        b = map_each(&other, b);
        same += a->key.a == b->key.a;
    }
    map_close(&other);
    cr_assert(lt(int, same, 32));
}

/* ---- against a model: a plain array over a small set of keys ---- */

enum { MODEL_KEYS = 300, MODEL_OPS = 20000 };

/* Robin-hood's own rule: every slot's `used` is its real distance, and no slot is nearer to its
 * home than the one before it by more than one step. */
static void check_order(uint64_t seed)
{
    size_t count = 0;
    for (size_t i = 0; map.slots != NULL && i <= map.mask; i++) {
        uint32_t here = map.slots[i].used, before = map.slots[(i - 1) & map.mask].used;
        cr_assert(le(u32, here, before + 1), "slot %zu, seed %lu", i, (unsigned long)seed);
        count += here != 0;
    }
    cr_assert(eq(sz, count, map.count), "seed %lu", (unsigned long)seed);
}

static void run_model(uint64_t seed)
{
    struct {
        bool in;
        uint64_t val;
    } model[MODEL_KEYS] = {0};
    uint64_t state = seed;
    size_t count = 0;
    for (int op = 0; op < MODEL_OPS; op++) {
        uint64_t dice = dice_next(&state), k = dice_next(&state) % MODEL_KEYS;
        bool was = model[k].in, fresh;
        if (dice % 1000 == 0) {
            map_clear(&map);
            for (size_t i = 0; i < MODEL_KEYS; i++)
                model[i].in = false;
            count = 0;
        } else if (dice % 8 < 4) {
            union map_val *val = map_put(&map, key(k, k / 7), &fresh);
            cr_assert(eq(int, fresh, !was), "op %d, seed %lu", op, (unsigned long)seed);
            cr_assert(eq(u64, val->u, was ? model[k].val : 0));
            model[k].val = val->u = dice_next(&state);
            model[k].in = true;
            count += !was;
        } else if (dice % 8 < 7) {
            cr_assert(eq(int, map_remove(&map, key(k, k / 7)), was), "op %d, seed %lu", op,
                      (unsigned long)seed);
            model[k].in = false;
            count -= was;
        } else {
            union map_val *val = map_get(&map, key(k, k / 7));
            cr_assert(eq(int, val != NULL, was), "op %d, seed %lu", op, (unsigned long)seed);
            if (was)
                cr_assert(eq(u64, val->u, model[k].val));
        }
        cr_assert(eq(sz, map.count, count));
        if (op % 64 == 0)
            check_order(seed);
    }
}

/* Whatever is done to it, the map holds what a plain array holds. */
Test(map, random_operations_match_a_model)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        map_clear(&map);
        run_model(seed);
    }
}
