/* store/reactions.h: which reactions of a page are the reader's own.
 * Thread: any. Owner: what is unpacked lives in `arena`. */
#ifndef LOQUAT_STORE_REACTIONS_H
#define LOQUAT_STORE_REACTIONS_H

#include "store/base/arena.h"
#include "store/base/span.h"
#include "wire.pb-c.h"

/* The message's reactions, of which those of `own`, the row of the reader, are `me`. 0 or
 * ERR_CORRUPT. */
int reactions_give(Loquat__Item *item, const Loquat__Fold *fold, struct span own,
                   struct arena *arena);

#endif
