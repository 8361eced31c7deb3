/* store/base/arena.h: memory that dies together. Reset keeps the first block.
 * `arena_allocator` serves protobuf-c: its frees do nothing. */
#ifndef LOQUAT_BASE_ARENA_H
#define LOQUAT_BASE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *blocks; /* newest first */
    char *at, *end;
    ProtobufCAllocator allocator;
};

void arena_init(struct arena *arena);
void arena_close(struct arena *arena);
void arena_reset(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size);            /* 16-aligned, not cleared */
void *arena_copy(struct arena *arena, const void *p, size_t n); /* with a NUL after it */

#endif
