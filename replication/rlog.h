/* replication/rlog.h: the raft log of one partition: in the journal, and in memory as far as it is
 * needed (payloads go when they are applied, terms when they are trimmed).
 * Records: type u8, 0, partition u16, size u32, then so many bytes; numbers LE:
 *   HARD       term u64, vote u64, cuts u64 (how often entries were replaced by other ones)
 *   SNAPSHOT   index, term, index of the configuration, how far entries are gone: u64; the
 *              configuration
 *   ENTRY      index u64, term u64, XXH3-64 u64 of the payload (seeded with that of term and type,
 *              and that with the index), type u16, payload. Replaces all from its index on
 *   MOVED      the same: an entry that was written before, again, so that where it stood can go
 *   INSTALL    as SNAPSHOT: the state machine is being replaced by this one
 *   INSTALLED  likewise: it is there, and the log begins anew behind it
 * A segment of the journal begins with HARD, SNAPSHOT and INSTALL of each log (rlog_put_state).
 * Thread: the loop's. What is put into a batch counts when that is synced.
 * Errors: rlog_take, rlog_finish, rlog_read: ERR_CORRUPT (a gap, a sum, an unknown record). */
#ifndef LOQUAT_REPLICATION_RLOG_H
#define LOQUAT_REPLICATION_RLOG_H

#include "replication/rcore.h"
#include "replication/wal.h"
#include "store/base/buf.h"

struct rlog_entry {
    uint64_t term, at; /* at: its position in the journal */
    char *bytes;       /* NULL once applied */
    uint32_t size;
    uint16_t type;
};

/* Where the state machine stands, and the configuration then. */
struct rlog_snapshot {
    uint64_t index, term, conf_index;
    struct span conf;
};

struct rlog {
    uint32_t partition;
    uint64_t term, voted_for, cuts;
    uint64_t snapshot_index, snapshot_term;
    uint64_t conf_index; /* of `conf`, the newest committed configuration */
    struct buf conf;
    struct buf snapshot, install; /* records as they were put last; empty: none */
    struct rlog_entry *entries;   /* ring: index `first` stands at entries[at] */
    uint64_t first;
    size_t at, count, cap;
    uint64_t bytes;           /* of the records of all entries */
    struct rlog_found *found; /* while the journal is read */
};

/* A new partition: one configuration entry at index 1, term 1; or, of a node that joins, nothing.
 */
void rlog_bootstrap(struct rlog *log, struct journal_batch *batch, uint32_t partition,
                    const struct rcore_server *servers, size_t count);
void rlog_bootstrap_empty(struct rlog *log, struct journal_batch *batch, uint32_t partition);

/* What the journal tells, frame after frame: rlog_open of each log, rlog_take, rlog_finish of each
 * (ERR_NOT_FOUND: nothing was told of it). */
void rlog_open(struct rlog *log, uint32_t partition);
int rlog_take(struct rlog *logs, uint32_t partitions, uint64_t at, struct span records);
int rlog_finish(struct rlog *log);
/* The first two, of all logs of a journal; each is still to be finished. As journal_open. */
int rlog_load(const char *dir, struct rlog *logs, uint32_t partitions, char *why, size_t size,
              struct journal **journal);
void rlog_close(struct rlog *log);

uint64_t rlog_last(const struct rlog *log); /* first - 1 when empty */
const struct rlog_entry *rlog_get(const struct rlog *log, uint64_t index); /* NULL: not here */
/* The payload of an entry, from the journal. 0, ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO. */
int rlog_read(const struct rlog *log, struct wal *wal, uint64_t index, struct buf *payload);
uint64_t rlog_term_at(const struct rlog *log, uint64_t index); /* 0: not known */

void rlog_put_state(const struct rlog *log, struct journal_batch *batch);
void rlog_put_hard(struct rlog *log, struct journal_batch *batch, uint64_t term,
                   uint64_t voted_for);
/* Replaces everything from `index` on. */
void rlog_put_entries(struct rlog *log, struct journal_batch *batch, uint64_t index,
                      const struct rcore_entry *entries, size_t count);
void rlog_set_conf(struct rlog *log, uint64_t index, struct span conf); /* it was committed */
/* The state machine holds everything up to index: entries up to `upto` go, here and on disk. */
void rlog_trim(struct rlog *log, struct journal_batch *batch, uint64_t index, uint64_t term,
               uint64_t upto);
/* The state machine becomes another one: that it is under way; whether it is (ERR_NOT_FOUND: no;
 * the configuration is lent); and that it is there: the log begins anew behind it. */
void rlog_put_install(struct rlog *log, struct journal_batch *batch,
                      const struct rlog_snapshot *snapshot);
int rlog_get_install(const struct rlog *log, struct rlog_snapshot *snapshot);
void rlog_install(struct rlog *log, struct journal_batch *batch,
                  const struct rlog_snapshot *snapshot);
void rlog_drop_payload(struct rlog *log, uint64_t index);

/* The oldest segment of the journal that has an entry of this log; UINT64_MAX: none has. */
uint64_t rlog_oldest(const struct rlog *log);
/* Where entries stand that rlog_move would read: so many positions and sizes at most. */
struct rlog_place {
    uint64_t at;
    size_t size;
};
size_t rlog_places(const struct rlog *log, uint64_t below, uint64_t most, struct rlog_place *places,
                   size_t max);
/* Entries that stand in segments below go into the batch again, up to about `most` bytes: *moved
 * are so many. Errors as of rlog_read. */
int rlog_move(struct rlog *log, struct wal *wal, uint64_t below, uint64_t most, uint64_t *moved);

/* How many entries up to `index` have so many bytes at most, and are so many at most. */
uint32_t rlog_fitting(const struct rlog *log, uint64_t index, uint64_t bytes, uint32_t most);
uint64_t rlog_bytes(const struct rlog *log, uint64_t after, uint64_t upto); /* of payloads */

#endif
