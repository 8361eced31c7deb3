/* compaction/filter.h: what a compaction of KV_LOG leaves out: records below the floor go, expired
 * ones lose their content (strip.h); and one of KV_FEED: entries all of whose records are below
 * their floors. Nothing is written for it: rows that are rewritten anyway are just not written
 * again.
 * A floor counts here only once it is on disk together with everything before it (filter_raise):
 * after a crash the raft log is replayed, and a replayed entry must find the records that it found
 * the first time. Expired content may go at any time: apply does not look at it.
 * The last entry of a feed stays: it says where the feed ends, which never falls.
 * Thread: filter_row in any number of compaction threads; the rest from any. */
#ifndef LOQUAT_COMPACTION_FILTER_H
#define LOQUAT_COMPACTION_FILTER_H

#include "compaction/tally.h"
#include "store/base/buf.h"
#include "store/base/ids.h"
#include "store/kv.h"

struct filter;
struct filter *filter_new(void);
void filter_free(struct filter *filter);
/* For kv_options.filter, with the filter as its argument. */
int filter_row(void *filter, enum kv_cf cf, struct span key, struct span old, struct buf *value);
/* Floors never fall: a lower one is ignored. */
void filter_raise(struct filter *filter, uint32_t partition, struct conv_id id, uint64_t floor);
/* Of the feed, entries below this one may go; one that is there. */
void filter_raise_feed(struct filter *filter, uint32_t partition, uint64_t index);
void filter_went(const struct filter *filter, struct tally went[CAUSE_COUNT]); /* since it is new */

/* The decision on a row of KV_LOG alone: KV_KEEP, KV_DROP, KV_REPLACE. Pure. */
int filter_decide(struct span key, struct span old, uint64_t floor, uint64_t now_ms,
                  struct buf *value);

#endif
