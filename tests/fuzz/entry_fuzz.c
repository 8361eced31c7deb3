/* Raft entries from a disk or another node: read to their end or refused, never beyond it; what is
 * written from the parts reads back as the parts. */
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/command.h"
#include "wire.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_command(struct span bytes)
{
    Loquat__Command *command = loquat__command__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
    if (command != NULL)
        loquat__command__free_unpacked(command, NULL);
}

/* Reads `entry`, copies what it holds. Returns the last answer of entry_next, or ERR_CORRUPT. */
static int copy_entry(struct span entry, struct buf *copy, size_t *count)
{
    struct entry_reader reader;
    struct span command;
    size_t bytes = 0;
    *count = 0;
    if (entry_open(&reader, entry) != 0)
        return ERR_CORRUPT;
    entry_begin(copy, reader.version, reader.time_ms);
    int got = 0;
    while ((got = entry_next(&reader, &command)) == 1) {
        ASSERT(command.n <= COMMAND_BYTES_MAX);
        bytes += command.n;
        ASSERT(bytes < entry.n);
        check_command(command);
        entry_add(copy, command);
        ++*count;
    }
    return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf once = {0}, twice = {0};
    size_t count, again;
    char *entry = xmalloc(size); /* of exactly that size */
    if (size > 0)
        memcpy(entry, data, size);
    int err = copy_entry(span_of(entry, size), &once, &count);
    ASSERT(err == 0 || err == ERR_CORRUPT);
    if (once.n > 0) {
        ASSERT(copy_entry(buf_span(&once), &twice, &again) == 0 && again == count);
        ASSERT(span_eq(buf_span(&once), buf_span(&twice)));
    }
    free(entry);
    buf_close(&once);
    buf_close(&twice);
    return 0;
}
