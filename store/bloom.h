/* store/bloom.h: a blocked Bloom filter over 64-bit hashes: one cache line tells whether a hash may
 * have been added. Source: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
 * Filters" (2007), with blocks of 512 bits and six bits each.
 * Shape:  2^log2_bytes bytes, taken from the system page by page as they are touched. With
 *         bloom_full() hashes in it, 16 bits for each, it says "maybe" wrongly once in 1,000.
 * Thread: one owner. */
#ifndef LOQUAT_STORE_BLOOM_H
#define LOQUAT_STORE_BLOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOOM_LOG2_MIN = 6, BLOOM_LOG2_MAX = 32 };

struct bloom {
    uint64_t *words; /* NULL: there is no filter */
    unsigned log2_bytes;
    size_t count; /* added, each time counted */
};

void bloom_init(struct bloom *bloom, unsigned log2_bytes);
void bloom_close(struct bloom *bloom); /* then there is none */
void bloom_add(struct bloom *bloom, uint64_t hash);
bool bloom_maybe(const struct bloom *bloom, uint64_t hash); /* false: it never was added */
void bloom_prefetch(const struct bloom *bloom, uint64_t hash);
bool bloom_full(const struct bloom *bloom);
bool bloom_crowded(const struct bloom *bloom); /* twice as many: wrong once in 40 */

#endif
