/* replication/rlog.h: the raft log of one partition: in the raft DB, and in memory as far as it is
 * needed (payloads go when they are applied, terms when they are trimmed).
 * Keys:   [p u16 BE][0] term, vote; [p][1] snapshot; [p][2][index u64 BE] entry; [p][3] a snapshot
 *         that is being installed; [p][4] cuts: how often entries were replaced by other ones.
 * Values: version u8, then numbers LE; an entry is term u64, type u16, XXH3-64 u64 of the payload
 *         (seeded with that of term and type, and that with the index), payload.
 * Thread: the loop's. Writes go into the batch that the caller gives; they count when it is synced.
 * Errors: rlog_load: ERR_CORRUPT (a gap, a checksum, an unknown version) or a kv error. */
#ifndef LOQUAT_REPLICATION_RLOG_H
#define LOQUAT_REPLICATION_RLOG_H

#include "replication/rcore.h"
#include "store/base/buf.h"
#include "store/kv.h"

struct rlog_entry {
    uint64_t term;
    uint16_t type;
    char *bytes; /* NULL once applied */
    size_t size;
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
    struct rlog_entry *entries; /* ring: index `first` stands at entries[at] */
    uint64_t first;
    size_t at, count, cap;
};

/* A new partition: one configuration entry at index 1, term 1. Into the batch, nothing else. */
void rlog_bootstrap(struct kv_batch *batch, uint32_t partition, const struct rcore_server *servers,
                    size_t count);
void rlog_bootstrap_empty(struct kv_batch *batch, uint32_t partition); /* of one that joins */
int rlog_load(struct rlog *log, struct kv *kv, uint32_t partition);
void rlog_close(struct rlog *log);

uint64_t rlog_last(const struct rlog *log); /* first - 1 when empty */
const struct rlog_entry *rlog_get(const struct rlog *log, uint64_t index); /* NULL: not here */
/* The payload of an entry that is durable, from disk. 0, or ERR_CORRUPT, or a kv error. */
int rlog_read(const struct rlog *log, struct kv *kv, uint64_t index, struct buf *payload);
uint64_t rlog_term_at(const struct rlog *log, uint64_t index); /* 0: not known */

void rlog_put_hard(struct rlog *log, struct kv_batch *batch, uint64_t term, uint64_t voted_for);
/* Replaces everything from `index` on. */
void rlog_put_entries(struct rlog *log, struct kv_batch *batch, uint64_t index,
                      const struct rcore_entry *entries, size_t count);
void rlog_set_conf(struct rlog *log, uint64_t index, struct span conf); /* it was committed */
/* The state machine holds everything up to index: entries up to `upto` go, here and on disk. */
void rlog_trim(struct rlog *log, struct kv_batch *batch, uint64_t index, uint64_t term,
               uint64_t upto);
/* The state machine becomes another one: that it is under way; whether it is (ERR_NOT_FOUND: no;
 * the configuration is put into `conf`); and that it is there: the log begins anew behind it. */
void rlog_put_install(struct kv_batch *batch, uint32_t partition,
                      const struct rlog_snapshot *snapshot);
int rlog_get_install(struct kv *kv, uint32_t partition, struct rlog_snapshot *snapshot,
                     struct buf *conf);
void rlog_install(struct rlog *log, struct kv_batch *batch, const struct rlog_snapshot *snapshot);
void rlog_drop_payload(struct rlog *log, uint64_t index);
/* How many entries up to `index` have so many bytes at most, and are so many at most. */
uint32_t rlog_fitting(const struct rlog *log, uint64_t index, uint64_t bytes, uint32_t most);
uint64_t rlog_bytes(const struct rlog *log, uint64_t after, uint64_t upto); /* of payloads */

#endif
