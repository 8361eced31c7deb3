/* compaction/filter.h: what a compaction of KV_LOG leaves out: records below the floor go, expired
 * ones lose their content (strip.h). Nothing is written for it: rows that are rewritten anyway are
 * just not written again.
 * A floor counts here only once it is on disk together with everything before it (filter_raise):
 * after a crash the raft log is replayed, and a replayed entry must find the records that it found
 * the first time. Expired content may go at any time: apply does not look at it.
 * Thread: filter_row in any number of compaction threads; the rest from any. */
#ifndef LOQUAT_COMPACTION_FILTER_H
#define LOQUAT_COMPACTION_FILTER_H

#include "compaction/tally.h"
#include "store/base/buf.h"
#include "store/base/ids.h"

struct filter;
struct filter *filter_new(void);
void filter_free(struct filter *filter);
/* For kv_options.filter, with the filter as its argument. */
int filter_row(void *filter, struct span key, struct span old, struct buf *value);
/* Floors never fall: a lower one is ignored. */
void filter_raise(struct filter *filter, uint32_t partition, struct conv_id id, uint64_t floor);
void filter_went(const struct filter *filter, struct tally went[CAUSE_COUNT]); /* since it is new */

/* The decision alone: KV_KEEP, KV_DROP, KV_REPLACE. Pure. */
int filter_decide(struct span key, struct span old, uint64_t floor, uint64_t now_ms,
                  struct buf *value);

#endif
