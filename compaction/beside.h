/* compaction/beside.h: what stands in the conversation's family about messages that lie below the
 * floor: who reacted to them, whom they named, who has hidden them, their threads.
 * Thread: any. Errors: of kv, or what `each` returned. */
#ifndef LOQUAT_COMPACTION_BESIDE_H
#define LOQUAT_COMPACTION_BESIDE_H

#include "store/base/ids.h"
#include "store/kv.h"

/* Of each row, in key order; not 0 ends it. `view` may be NULL: as it is now. */
int beside_below(struct kv *kv, const struct kv_view *view, uint32_t partition, struct conv_id id,
                 uint64_t floor, int (*each)(void *arg, struct span key, struct span value),
                 void *arg);

/* 0 and whether anybody has reacted to the message. */
int beside_reactions(struct kv *kv, const struct kv_view *view, uint32_t partition,
                     struct conv_id id, uint64_t seq, bool *some);

#endif
