/* store/search/search.h: messages that somebody looks for, newest first: candidates come from the
 * index and from what it has not got yet, and each is read and looked at as it is now, by who may
 * read it. So what was deleted, edited, hidden or has expired is never found.
 * Order:  by mid: as they were committed.
 * Owner:  what is found lives in the caller's arena.
 * Thread: any; never blocks writers.
 * Limits: SEARCH_HITS_MAX hits, SEARCH_VISITS_MAX messages looked at, SEARCH_TAIL_MAX of them from
 *         behind the index: a read that comes to a limit says where the next goes on. It holds a
 *         message of each conversation at most, besides its hits.
 * Errors: ERR_BAD_REQUEST, ERR_CORRUPT. Where the index is damaged, it does without. */
#ifndef LOQUAT_STORE_SEARCH_SEARCH_H
#define LOQUAT_STORE_SEARCH_SEARCH_H

#include "store/base/arena.h"
#include "store/kv.h"
#include "wire.pb-c.h"

enum {
    SEARCH_HITS_MAX = 100,
    SEARCH_VISITS_MAX = 5000,
    SEARCH_TAIL_MAX = 20000,
    SEARCH_CONVS_MAX = 1000,
};

/* READ_SEARCH in those of read->convs that the user is a member of: hits, next (0: all was looked
 * at; else what is older than this mid was not), behind. `index` NULL: this node has none.
 * *damaged: the index has to be made anew. */
int search_read(struct kv *data, struct kv *index, uint32_t partition, const Loquat__Read *read,
                uint64_t now_ms, struct arena *arena, Loquat__Reply *reply, bool *damaged);

#endif
