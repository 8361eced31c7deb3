/* replication/rlog_inside.h: the inside of a raft log, shared by rlog*.c only. */
#ifndef LOQUAT_REPLICATION_RLOG_INSIDE_H
#define LOQUAT_REPLICATION_RLOG_INSIDE_H

#include "replication/rlog.h"

enum rlog_type {
    RLOG_HARD = 1,
    RLOG_SNAPSHOT = 2,
    RLOG_ENTRY = 3,
    RLOG_MOVED = 4,
    RLOG_INSTALL = 5,
    RLOG_INSTALLED = 6,
};
enum {
    RLOG_RECORD_HEAD = 8,
    RLOG_HARD_SIZE = 24,
    RLOG_SNAPSHOT_HEAD = 32,
    RLOG_ENTRY_HEAD = 26,
};

/* Bytes of an entry's record: its index, and the entry with its payload lent. */
int rlog_entry_of(struct span record, uint64_t *index, struct rcore_entry *entry);
/* Of SNAPSHOT, INSTALL and INSTALLED: *upto: how far entries are gone. */
int rlog_snapshot_of(struct span record, struct rlog_snapshot *snapshot, uint64_t *upto);

void rlog_push(struct rlog *log, const struct rcore_entry *entry, uint64_t at);
/* Entries from `index` on, and those up to it, are gone, in memory. */
void rlog_cut_back(struct rlog *log, uint64_t index);
void rlog_cut_front(struct rlog *log, uint64_t index);
void rlog_found_close(struct rlog *log);

#endif
