/* replication/journal_batch.c: a frame of the journal that is being filled. */
#include <stdlib.h>

#include "replication/journal.h"
#include "store/base/check.h"

enum { BATCH_FIRST = 64 << 10 };

void journal_batch_close(struct journal_batch *batch)
{
    free(batch->p);
    *batch = (struct journal_batch){0};
}

bool journal_batch_empty(const struct journal_batch *batch)
{
    return batch->n <= JOURNAL_HEAD;
}

void journal_batch_begin(struct journal_batch *batch, uint64_t at)
{
    batch->n = 0;
    batch->at = at;
}

char *journal_batch_grow(struct journal_batch *batch, size_t more, uint64_t *at)
{
    if (batch->n == 0)
        batch->n = JOURNAL_HEAD;
    ASSERT(more <= JOURNAL_FRAME_MAX && batch->n + more <= JOURNAL_FRAME_MAX);
    if (batch->n + more > batch->cap) { /* whole blocks: there is room for the zeros as well */
        size_t cap = batch->cap == 0 ? BATCH_FIRST : batch->cap * 2;
        while (cap < batch->n + more)
            cap *= 2;
        char *p = aligned_alloc(JOURNAL_BLOCK, cap);
        if (p == NULL)
            check_no_memory(cap);
        if (batch->p != NULL)
            memcpy(p, batch->p, batch->n);
        free(batch->p);
        batch->p = p;
        batch->cap = cap;
    }
    *at = batch->at + batch->n;
    char *room = batch->p + batch->n;
    batch->n += more;
    return room;
}

bool journal_batch_read(const struct journal_batch *batch, uint64_t at, char *to, size_t n)
{
    if (at < batch->at || at - batch->at > batch->n || n > batch->n - (at - batch->at))
        return false;
    memcpy(to, batch->p + (at - batch->at), n);
    return true;
}
