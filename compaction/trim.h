/* compaction/trim.h: rewrites and deletes rows that the filter can't judge: edits that later ones
 * replaced, edited bodies of expired messages, folds below the floor.
 * Thread: the one that applies, between its batches: these rows are read, changed and written back
 *         there. Each item is judged again by the rows of this moment; one that no longer fits is
 *         left alone, so that items may be old, and a run may be repeated after a crash.
 * Limits: one call looks at TRIM_ITEMS_MAX items and TRIM_ROWS_MAX folds at most. */
#ifndef LOQUAT_COMPACTION_TRIM_H
#define LOQUAT_COMPACTION_TRIM_H

#include "compaction/tally.h"
#include "store/base/ids.h"
#include "store/kv.h"

enum { TRIM_ITEMS_MAX = 256, TRIM_ROWS_MAX = 512 };

enum trim_what {
    TRIM_EDIT,  /* an edit that was replaced: its content */
    TRIM_FOLD,  /* of an expired message: the edited body, reactions; of a deleted one: these */
    TRIM_BELOW, /* folds below the floor: the rows */
};
struct trim_item {
    enum trim_what what;
    struct conv_id id;
    uint64_t seq; /* not of TRIM_BELOW */
};

/* Writes one batch. Adds to `went`. *more: folds below a floor are left, call again with the same
 * items. 0 or a kv error; damaged rows are left alone. */
int trim_slice(struct kv *kv, uint32_t partition, const struct trim_item *items, size_t count,
               uint64_t now_ms, struct tally went[CAUSE_COUNT], bool *more);

#endif
