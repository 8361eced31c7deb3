#include "store/base/arena.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdint.h>
#include <string.h>

#include "wire.pb-c.h"

static struct arena arena;

static void setup(void)
{
    arena_init(&arena);
}

static void teardown(void)
{
    arena_close(&arena);
}

TestSuite(arena, .init = setup, .fini = teardown);

/* What is handed out is aligned, whatever the sizes before it. */
Test(arena, allocations_are_16_aligned)
{
    for (size_t size = 0; size < 3000; size += 7) {
        uintptr_t at = (uintptr_t)arena_alloc(&arena, size);
        cr_assert(ne(u64, at, 0));
        cr_assert(eq(u64, at % 16, 0), "size %zu", size);
    }
}

/* Allocations never overlap: each keeps the bytes that were written to it. */
Test(arena, allocations_do_not_overlap)
{
    enum { N = 400 };
    unsigned char *p[N];
    size_t size[N];
    for (size_t i = 0; i < N; i++) {
        size[i] = i % 50 == 49 ? 40000 + i : i * 13 % 5000;
        p[i] = arena_alloc(&arena, size[i]);
        memset(p[i], (int)(i % 251), size[i]);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < size[i]; j++)
            cr_assert(eq(int, p[i][j], (int)(i % 251)));
}

/* Small allocations of one round cost no malloc in the next: the first block is kept. */
Test(arena, reset_keeps_the_first_block)
{
    char *first = arena_alloc(&arena, 100);
    for (int i = 0; i < 100; i++)
        arena_alloc(&arena, 3000);
    arena_alloc(&arena, 1 << 20);
    arena_reset(&arena);
    cr_assert(eq(ptr, arena_alloc(&arena, 100), first));
}

/* A large first allocation does not become the block that is kept. */
Test(arena, reset_gives_large_blocks_back)
{
    char *large = arena_alloc(&arena, 1 << 20);
    memset(large, 1, 1 << 20);
    char *small = arena_alloc(&arena, 16);
    arena_reset(&arena);
    cr_assert(eq(ptr, arena_alloc(&arena, 16), small));
}

/* An arena that gave nothing may be reset, and one that was closed closed again. */
Test(arena, reset_and_close_of_nothing)
{
    arena_reset(&arena);
    arena_close(&arena);
    arena_close(&arena);
}

/* A copy ends with NUL, so that it serves as a string too. */
Test(arena, copy_ends_with_nul)
{
    char *copy = arena_copy(&arena, "abcdef", 3);
    cr_assert(eq(str, copy, "abc"));
    cr_assert(eq(str, (char *)arena_copy(&arena, NULL, 0), ""));
}

/* protobuf-c unpacks into it; nothing needs to be freed one by one. */
Test(arena, serves_protobuf)
{
    Loquat__Record record = LOQUAT__RECORD__INIT, *back;
    record.kind = 1;
    record.from = (char *)"alice";
    uint8_t bytes[256];
    cr_assert(le(sz, loquat__record__get_packed_size(&record), sizeof bytes));
    size_t n = loquat__record__pack(&record, bytes);
    back = loquat__record__unpack(&arena.allocator, n, bytes);
    cr_assert(ne(ptr, back, NULL));
    cr_assert(eq(str, back->from, (char *)"alice"));
    loquat__record__free_unpacked(back, &arena.allocator);
    cr_assert(eq(str, back->from, (char *)"alice")); /* frees do nothing */
}
