#include "store/base/map.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/clock.h"

/* Robin-hood: along a probe the distances of the slots never fall by more than they must, so a
 * search ends at the first slot that is nearer to its home than the key would be. Removing shifts
 * the followers back by one; there are no tombstones. */

enum { SLOTS_MIN = 8 };

static inline size_t home_of(const struct map *map, struct map_key key)
{
    return (size_t)XXH3_64bits_withSeed(&key, sizeof key, map->seed) & map->mask;
}

static inline bool key_eq(struct map_key x, struct map_key y)
{
    return x.a == y.a && x.b == y.b;
}

void map_init(struct map *map)
{
    *map = (struct map){.seed = random_u64()};
}

void map_close(struct map *map)
{
    free(map->slots);
    *map = (struct map){0};
}

void map_clear(struct map *map)
{
    if (map->count > 0)
        memset(map->slots, 0, (map->mask + 1) * sizeof *map->slots);
    map->count = 0;
}

static struct map_slot *find(const struct map *map, struct map_key key)
{
    if (map->count == 0)
        return NULL;
    size_t at = home_of(map, key);
    for (uint32_t used = 1;; used++, at = (at + 1) & map->mask) {
        struct map_slot *slot = &map->slots[at];
        if (slot->used < used)
            return NULL;
        if (slot->used == used && key_eq(slot->key, key))
            return slot;
    }
}

union map_val *map_get(const struct map *map, struct map_key key)
{
    struct map_slot *slot = find(map, key);
    return slot != NULL ? &slot->val : NULL;
}

/* The key is not in the map, and there is a free slot. */
static struct map_slot *insert(struct map *map, struct map_key key, union map_val val)
{
    struct map_slot carry = {.key = key, .val = val, .used = 1};
    struct map_slot *placed = NULL;
    for (size_t at = home_of(map, key);; carry.used++, at = (at + 1) & map->mask) {
        struct map_slot *slot = &map->slots[at];
        if (slot->used >= carry.used)
            continue;
        struct map_slot evicted = *slot;
        *slot = carry;
        if (placed == NULL)
            placed = slot;
        if (evicted.used == 0)
            return placed;
        carry = evicted;
    }
}

static void grow(struct map *map)
{
    struct map old = *map;
    size_t slots = old.slots == NULL ? SLOTS_MIN : 2 * (old.mask + 1);
    map->slots = xcalloc(slots, sizeof *map->slots);
    map->mask = slots - 1;
    for (size_t i = 0; old.slots != NULL && i <= old.mask; i++)
        if (old.slots[i].used != 0)
            insert(map, old.slots[i].key, old.slots[i].val);
    free(old.slots);
}

union map_val *map_put(struct map *map, struct map_key key, bool *fresh)
{
    struct map_slot *slot = find(map, key);
    if (fresh != NULL)
        *fresh = slot == NULL;
    if (slot != NULL)
        return &slot->val;
    if (map->slots == NULL || map->count >= (map->mask + 1) / 8 * 7)
        grow(map);
    map->count++;
    return &insert(map, key, (union map_val){.u = 0})->val;
}

bool map_remove(struct map *map, struct map_key key)
{
    struct map_slot *slot = find(map, key);
    if (slot == NULL)
        return false;
    size_t at = (size_t)(slot - map->slots);
    for (;;) {
        size_t next = (at + 1) & map->mask;
        if (map->slots[next].used <= 1)
            break; /* free, or at home */
        map->slots[at] = map->slots[next];
        map->slots[at].used--;
        at = next;
    }
    map->slots[at] = (struct map_slot){0};
    map->count--;
    return true;
}

struct map_slot *map_each(const struct map *map, struct map_slot *before)
{
    if (map->count == 0)
        return NULL;
    size_t at = before == NULL ? 0 : (size_t)(before - map->slots) + 1;
    for (; at <= map->mask; at++)
        if (map->slots[at].used != 0)
            return &map->slots[at];
    return NULL;
}
