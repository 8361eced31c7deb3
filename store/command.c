#include "store/command.h"

#include "store/base/check.h"
#include "store/base/err.h"

void entry_begin(struct buf *entry, unsigned version, uint64_t time_ms)
{
    ASSERT(version >= ENTRY_VERSION_OLDEST && version <= ENTRY_VERSION);
    entry->n = 0;
    char *p = buf_grow(entry, ENTRY_HEAD_SIZE);
    p[0] = (char)version;
    put_le64(p + 1, time_ms);
}

void entry_add(struct buf *entry, struct span command)
{
    ASSERT(entry->n >= ENTRY_HEAD_SIZE && command.n <= COMMAND_BYTES_MAX);
    buf_add_varint(entry, command.n);
    buf_add_span(entry, command);
}

int entry_open(struct entry_reader *reader, struct span entry)
{
    if (entry.n < ENTRY_HEAD_SIZE || entry.p[0] < ENTRY_VERSION_OLDEST ||
        entry.p[0] > ENTRY_VERSION)
        return ERR_CORRUPT;
    reader->version = (unsigned)entry.p[0];
    reader->time_ms = get_le64(entry.p + 1);
    reader->rest = span_of(entry.p + ENTRY_HEAD_SIZE, entry.n - ENTRY_HEAD_SIZE);
    return 0;
}

int entry_next(struct entry_reader *reader, struct span *command)
{
    if (reader->rest.n == 0)
        return 0;
    uint64_t size = 0;
    size_t head = get_varint(reader->rest.p, reader->rest.n, &size);
    if (head == 0 || size > COMMAND_BYTES_MAX || size > reader->rest.n - head)
        return ERR_CORRUPT;
    *command = span_of(reader->rest.p + head, (size_t)size);
    reader->rest = span_of(command->p + size, reader->rest.n - head - (size_t)size);
    return 1;
}
