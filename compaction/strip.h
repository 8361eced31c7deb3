/* compaction/strip.h: what is left of a record whose content goes. Pure.
 * The state machine must answer alike with and without the content, on every replica and in every
 * replay: so all that apply looks at stays (ts, gap, mid, kind, from, cid, thread, target, expires,
 * erased), and what only readers want goes (body, mentions, reply, name of an x- kind). */
#ifndef LOQUAT_COMPACTION_STRIP_H
#define LOQUAT_COMPACTION_STRIP_H

#include "store/base/buf.h"

/* When the record says it expires; 0: never, or not a record. Looks at one field: no checksum. */
uint64_t strip_expires(struct span record);
/* The record without its content, put into `out`. ERR_CORRUPT, or ERR_VERSION when it has fields
 * that only a newer program knows: leave it as it is. */
int strip_record(struct span record, struct buf *out);
/* The fold without the edited body, put into `out`. Errors as above. */
int strip_fold(struct span fold, struct buf *out);

#endif
