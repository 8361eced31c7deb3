#include "store/bloom.h"

#include <stdlib.h>

#include "store/base/check.h"

enum {
    BLOCK_LOG2 = 6, /* bytes: a cache line */
    BLOCK_WORDS = 1 << (BLOCK_LOG2 - 3),
    BIT_LOG2 = BLOCK_LOG2 + 3, /* that many bits of a hash name a bit of a block */
    BITS = 6,
    FULL_BITS = 16,
};

void bloom_init(struct bloom *bloom, unsigned log2_bytes)
{
    ASSERT(log2_bytes >= BLOOM_LOG2_MIN && log2_bytes <= BLOOM_LOG2_MAX);
    *bloom = (struct bloom){.log2_bytes = log2_bytes};
    bloom->words = xcalloc((size_t)1 << log2_bytes >> 3, sizeof *bloom->words);
}

void bloom_close(struct bloom *bloom)
{
    free(bloom->words);
    *bloom = (struct bloom){0};
}

static uint64_t *block_of(const struct bloom *bloom, uint64_t hash)
{
    uint64_t mask = ((uint64_t)1 << (bloom->log2_bytes - BLOCK_LOG2)) - 1;
    return bloom->words + (hash & mask) * BLOCK_WORDS;
}

/* Bits in the block, from other bits of the hash than those that choose the block. */
static uint64_t bits_of(uint64_t hash)
{
    return (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u >> (64 - BITS * BIT_LOG2);
}

void bloom_add(struct bloom *bloom, uint64_t hash)
{
    uint64_t *block = block_of(bloom, hash), bits = bits_of(hash);
    for (int i = 0; i < BITS; i++, bits >>= BIT_LOG2)
        block[bits >> 6 & (BLOCK_WORDS - 1)] |= 1ull << (bits & 63);
    bloom->count++;
}

bool bloom_maybe(const struct bloom *bloom, uint64_t hash)
{
    const uint64_t *block = block_of(bloom, hash);
    uint64_t bits = bits_of(hash);
    for (int i = 0; i < BITS; i++, bits >>= BIT_LOG2)
        if ((block[bits >> 6 & (BLOCK_WORDS - 1)] >> (bits & 63) & 1) == 0)
            return false;
    return true;
}

void bloom_prefetch(const struct bloom *bloom, uint64_t hash)
{
    if (bloom->words != NULL)
        __builtin_prefetch(block_of(bloom, hash));
}

bool bloom_full(const struct bloom *bloom)
{
    return bloom->count * FULL_BITS > (size_t)8 << bloom->log2_bytes;
}

bool bloom_crowded(const struct bloom *bloom)
{
    return bloom->count * (FULL_BITS / 2) > (size_t)8 << bloom->log2_bytes;
}
