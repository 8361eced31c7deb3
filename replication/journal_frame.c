#include "replication/journal_frame.h"

#include <xxhash.h>

#include "store/base/buf.h"
#include "store/base/check.h"

enum {
    VERSION = 1,
    AT_SIZE = 8,
    AT_POSITION = 16,
    AT_NONCE = 24,
    AT_BEFORE = 32,
    AT_SUM = 40,
    AT_NEEDED = 48,
    AT_REST = 48, /* behind the sum */
};
static const char MAGIC[] = {'l', 'q', 'j', 'f', VERSION, 0, 0, 0};

/* Of all of it but the sum. */
static uint64_t sum_of(const char *p, size_t size)
{
    uint64_t seed = XXH3_64bits(p, AT_SUM);
    return XXH3_64bits_withSeed(p + AT_REST, size - AT_REST, seed);
}

bool journal_frame_at(struct span segment, uint64_t number, size_t offset,
                      struct journal_frame *frame)
{
    if (offset > segment.n || segment.n - offset < JOURNAL_BLOCK)
        return false;
    const char *p = segment.p + offset;
    uint64_t bytes = get_le64(p + AT_SIZE);
    if (memcmp(p, MAGIC, sizeof MAGIC) != 0 ||
        get_le64(p + AT_POSITION) != (number << 32 | offset) ||
        bytes > JOURNAL_FRAME_MAX - JOURNAL_HEAD)
        return false;
    size_t size = journal_padded(JOURNAL_HEAD + bytes);
    if (size > segment.n - offset || sum_of(p, size) != get_le64(p + AT_SUM))
        return false;
    *frame = (struct journal_frame){.nonce = get_le64(p + AT_NONCE),
                                    .before = get_le64(p + AT_BEFORE),
                                    .needed = get_le64(p + AT_NEEDED),
                                    .records = {p + JOURNAL_HEAD, bytes},
                                    .size = size};
    return true;
}

size_t journal_frame_seal(struct journal_batch *batch, const struct journal_frame *frame)
{
    size_t size = journal_padded(batch->n);
    ASSERT(!journal_batch_empty(batch) && size <= batch->cap);
    char *p = batch->p;
    memset(p, 0, JOURNAL_HEAD);
    memset(p + batch->n, 0, size - batch->n);
    memcpy(p, MAGIC, sizeof MAGIC);
    put_le64(p + AT_SIZE, batch->n - JOURNAL_HEAD);
    put_le64(p + AT_POSITION, batch->at);
    put_le64(p + AT_NONCE, frame->nonce);
    put_le64(p + AT_BEFORE, frame->before);
    put_le64(p + AT_NEEDED, frame->needed);
    put_le64(p + AT_SUM, sum_of(p, size));
    return size;
}
