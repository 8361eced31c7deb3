/* store/base/map.h: open addressing from a 128-bit key to a pointer or number.
 * The key is mixed with a seed of the map's own, so that nobody outside can choose its slot.
 * Owner: the map owns its slots only. While iterating with map_each nothing is put or removed. */
#ifndef LOQUAT_BASE_MAP_H
#define LOQUAT_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_key {
    uint64_t a, b;
};
union map_val {
    void *p;
    uint64_t u;
};
struct map_slot {
    struct map_key key;
    union map_val val;
    uint32_t used; /* distance from the home slot + 1; 0: free */
};
struct map {
    struct map_slot *slots;
    size_t count, mask; /* mask 0: no slots yet */
    uint64_t seed;
};

void map_init(struct map *map);
void map_close(struct map *map);
void map_clear(struct map *map);
/* NULL when absent; the pointer dies with the next put or remove. */
union map_val *map_get(const struct map *map, struct map_key key);
union map_val *map_put(struct map *map, struct map_key key, bool *fresh); /* fresh: value is 0 */
bool map_remove(struct map *map, struct map_key key);
struct map_slot *map_each(const struct map *map, struct map_slot *before); /* NULL begins, ends */

#endif
