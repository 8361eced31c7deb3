/* compaction/scrub.h: reads every row of the data DB and says which of them can't be right:
 *   log     checksum; every sequence from the floor to the head, once; ordinals; rising mids
 *   conv    id and key; head and ordinal against the log; members counted; marks within the log
 *   fold    belongs to a message; its newest edit is one
 *   dedup   points at a record with that cid
 *   user    lists against members, both ways; user logs as log
 *   feed, out, apl  well-formed, not ahead of what was applied
 * Thread: any; one view of the whole database, so it may run beside writers.
 * Errors: damage is no error: it is put into the outcome. ERR_CLOSED and others of `progress`. */
#ifndef LOQUAT_COMPACTION_SCRUB_H
#define LOQUAT_COMPACTION_SCRUB_H

#include "compaction/outcome.h"

int scrub_run(const struct keeper *keeper, const Loquat__Control *ask, struct outcome *outcome);

#endif
