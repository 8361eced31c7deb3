#include "store/command.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/err.h"

static struct buf entry;

static void teardown(void)
{
    buf_close(&entry);
}

TestSuite(command, .fini = teardown);

/* What went in comes out, in order, with the time. */
Test(command, round_trip)
{
    static char large[COMMAND_BYTES_MAX];
    entry_begin(&entry, ENTRY_VERSION, 1234567890123);
    entry_add(&entry, span_str("one"));
    entry_add(&entry, span_str(""));
    entry_add(&entry, span_of(large, sizeof large));
    struct entry_reader reader;
    struct span command;
    cr_assert(eq(int, entry_open(&reader, buf_span(&entry)), 0));
    cr_assert(eq(u64, reader.time_ms, 1234567890123));
    cr_assert(eq(int, entry_next(&reader, &command), 1));
    cr_assert(span_is(command, "one"));
    cr_assert(eq(int, entry_next(&reader, &command), 1));
    cr_assert(eq(sz, command.n, 0));
    cr_assert(eq(int, entry_next(&reader, &command), 1));
    cr_assert(eq(sz, command.n, sizeof large));
    cr_assert(eq(int, entry_next(&reader, &command), 0));
    cr_assert(eq(int, entry_next(&reader, &command), 0));
}

/* An entry that ends early or names another version is corrupt, at every length. */
Test(command, cut_entries_are_corrupt)
{
    entry_begin(&entry, ENTRY_VERSION, 1);
    entry_add(&entry, span_str("a command of some length"));
    for (size_t n = 0; n < entry.n; n++) {
        struct entry_reader reader;
        struct span command;
        int err = entry_open(&reader, span_of(entry.p, n));
        if (n < ENTRY_HEAD_SIZE)
            cr_assert(eq(int, err, ERR_CORRUPT));
        else
            cr_assert(
                eq(int, entry_next(&reader, &command), n == ENTRY_HEAD_SIZE ? 0 : ERR_CORRUPT));
    }
    struct entry_reader reader;
    entry.p[0] = ENTRY_VERSION + 1;
    cr_assert(eq(int, entry_open(&reader, buf_span(&entry)), ERR_CORRUPT));
}

/* A size above the bound is corrupt even when the bytes are there. */
Test(command, oversized_command_is_corrupt)
{
    static char large[COMMAND_BYTES_MAX + 1];
    entry_begin(&entry, ENTRY_VERSION, 1);
    buf_add_varint(&entry, sizeof large);
    buf_add(&entry, large, sizeof large);
    struct entry_reader reader;
    struct span command;
    cr_assert(eq(int, entry_open(&reader, buf_span(&entry)), 0));
    cr_assert(eq(int, entry_next(&reader, &command), ERR_CORRUPT));
}
