/* store/feedlog.h: the records of all conversations of a partition, in the order in which they were
 * committed. What users' own logs have is not among them.
 * Rows:   KV_FEED, one for each entry of the raft log that made records: runs of sequences.
 * Offset: of a record: index of its entry << FEEDLOG_BITS | its place among those of the entry.
 *         Rises, has gaps, and is the same on every replica. 0 comes before all of them.
 * Owner:  what is read lives in the caller's arena.
 * Thread: any; one immutable view, never blocks writers.
 * Limits: a page has FEEDLOG_RECORDS_MAX records, FEEDLOG_BYTES_MAX bytes and what the read asks
 *         for at most, and looks at FEEDLOG_VISIT_MAX.
 * Errors: ERR_CORRUPT: a row or a record is damaged; nothing is returned. */
#ifndef LOQUAT_STORE_FEEDLOG_H
#define LOQUAT_STORE_FEEDLOG_H

#include "store/base/arena.h"
#include "store/base/ids.h"
#include "store/kv.h"
#include "wire.pb-c.h"

enum {
    FEEDLOG_BITS = 12,
    FEEDLOG_RECORDS_MAX = 4000,
    FEEDLOG_BYTES_MAX = 1 << 20,
    FEEDLOG_VISIT_MAX = 20000, /* records, there or not, of one page */
    FEEDLOG_LAG_MAX = 100000,  /* records behind a cursor are counted so far */
    FEEDLOG_CONSUMERS_MAX = 256,
};

struct feedlog_run {
    struct conv_id conv;
    uint64_t first, count; /* sequences; both at least 1 */
};
/* Takes the next run off a row. ERR_CORRUPT. */
int feedlog_run(struct span *row, struct feedlog_run *run);

/* READ_FEED: feed, next, head and floor of `reply`. */
int feedlog_read(struct kv *kv, uint32_t partition, const Loquat__Read *read, uint64_t now_ms,
                 struct arena *arena, Loquat__Reply *reply);
/* READ_CURSOR: cursor, lag, lag_ms and head. ERR_NOT_FOUND: the consumer has none here. */
int feedlog_read_cursor(struct kv *kv, uint32_t partition, const Loquat__Read *read,
                        uint64_t now_ms, struct arena *arena, Loquat__Reply *reply);
/* READ_CONSUMERS: consumers; `after`: where the next page begins. */
int feedlog_read_consumers(struct kv *kv, uint32_t partition, const Loquat__Read *read,
                           struct arena *arena, Loquat__Reply *reply);

/* How far a consumer is behind: as READ_CURSOR says it. */
struct feedlog_lag {
    struct span name;
    uint64_t offset, records, ms;
};
/* Of all that have a cursor here, FEEDLOG_CONSUMERS_MAX at most; in one walk of FEEDLOG_LAG_MAX
 * records, however many they are. */
int feedlog_lags(struct kv *kv, uint32_t partition, uint64_t now_ms, struct arena *arena,
                 struct feedlog_lag **lags, size_t *count);

#endif
