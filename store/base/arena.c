#include "store/base/arena.h"

#include <sanitizer/asan_interface.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/check.h"

enum {
    ALIGN = 16,
    BLOCK_SIZE = 16384 - 64, /* with malloc's own bytes within four pages */
    LARGE_MIN = BLOCK_SIZE / 4,
};

struct arena_block {
    struct arena_block *next;
    size_t size;
    alignas(ALIGN) char bytes[];
};

static void *protobuf_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void protobuf_free(void *arena, void *ptr)
{
    (void)arena;
    (void)ptr;
}

void arena_init(struct arena *arena)
{
    *arena = (struct arena){
        .allocator = {.alloc = protobuf_alloc, .free = protobuf_free, .allocator_data = arena}};
}

static void free_blocks(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        ASAN_UNPOISON_MEMORY_REGION(block->bytes, block->size);
        free(block);
        block = next;
    }
}

void arena_close(struct arena *arena)
{
    free_blocks(arena->blocks);
    *arena = (struct arena){0};
}

/* Blocks are poisoned but for what was handed out: the address sanitizer then sees a read past an
 * allocation and a use after reset. Elsewhere these lines are nothing. */
static struct arena_block *new_block(size_t size)
{
    struct arena_block *block = xmalloc(sizeof *block + size);
    block->next = NULL;
    block->size = size;
    ASAN_POISON_MEMORY_REGION(block->bytes, size);
    return block;
}

static void use_block(struct arena *arena, struct arena_block *block)
{
    arena->at = block->bytes;
    arena->end = block->bytes + block->size;
}

void arena_reset(struct arena *arena)
{
    /* The first block is the last of the list: large ones are put before it, see below. */
    struct arena_block *first = arena->blocks, **link = &arena->blocks;
    if (first == NULL)
        return;
    while (first->next != NULL) {
        link = &first->next;
        first = first->next;
    }
    *link = NULL;
    free_blocks(arena->blocks);
    arena->blocks = first;
    ASAN_POISON_MEMORY_REGION(first->bytes, first->size);
    use_block(arena, first);
}

static void push_block(struct arena *arena, struct arena_block *block)
{
    block->next = arena->blocks;
    arena->blocks = block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    ASSERT(size <= SIZE_MAX / 2);
    size_t need = size == 0 ? ALIGN : (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (need > (size_t)(arena->end - arena->at)) {
        if (arena->blocks == NULL || need < LARGE_MIN) {
            push_block(arena, new_block(BLOCK_SIZE));
            use_block(arena, arena->blocks);
        }
        if (need > (size_t)(arena->end - arena->at)) { /* a block of its own */
            push_block(arena, new_block(need));
            ASAN_UNPOISON_MEMORY_REGION(arena->blocks->bytes, size);
            return arena->blocks->bytes;
        }
    }
    char *p = arena->at;
    arena->at += need;
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    return p;
}

void *arena_copy(struct arena *arena, const void *p, size_t n)
{
    char *copy = arena_alloc(arena, n + 1);
    if (n > 0)
        memcpy(copy, p, n);
    copy[n] = '\0';
    return copy;
}
