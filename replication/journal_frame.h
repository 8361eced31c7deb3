/* replication/journal_frame.h: one frame of a segment, as bytes: see journal.h.
 * Thread: any. */
#ifndef LOQUAT_REPLICATION_JOURNAL_FRAME_H
#define LOQUAT_REPLICATION_JOURNAL_FRAME_H

#include "replication/journal.h"

struct journal_frame {
    uint64_t nonce, before, needed;
    struct span records;
    size_t size; /* with head and zeros */
};

/* Whether a whole frame stands at that offset of the segment, whose bytes are given, and it was
 * written there. Lends from the bytes. */
bool journal_frame_at(struct span segment, uint64_t number, size_t offset,
                      struct journal_frame *frame);
/* Head, with the numbers of `frame`, and zeros around the records of a batch; how many bytes that
 * is. */
size_t journal_frame_seal(struct journal_batch *batch, const struct journal_frame *frame);

static inline size_t journal_padded(size_t n)
{
    return (n + JOURNAL_BLOCK - 1) / JOURNAL_BLOCK * JOURNAL_BLOCK;
}

#endif
