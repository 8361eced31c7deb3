/* replication/rlog_old.h: the raft logs of directories of format 2 and 3, which stood in a RocksDB
 * under DIR/raft, become those of today: a journal, and DIR/ROSTER.
 * Rows:   [partition u16 BE][tag u8]: 0 term, vote; 1 snapshot; 2 and an index u64 BE: an entry;
 *         3 a snapshot that is being installed; 4 cuts.
 *         [0xffff][node u64 BE]: whom the node had met; of node 0, whether it was drained.
 *         Values begin with a version, u8.
 * Thread: any, before the node runs.
 * Errors: with what is wrong in `why`; the old directory is as it was then. */
#ifndef LOQUAT_REPLICATION_RLOG_OLD_H
#define LOQUAT_REPLICATION_RLOG_OLD_H

#include "replication/datadir.h"

/* What there is of a journal, after an attempt that did not come to its end, is made anew. The
 * directory has the newest format then, and the old logs are gone. */
int rlog_old_convert(struct datadir *dir, const char *path, char *why, size_t size);

#endif
