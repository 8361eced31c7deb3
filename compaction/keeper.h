/* compaction/keeper.h: the jobs of loquat-compact on a data DB: status, plan, run, verify, reindex.
 * The same code for a running node (replication/control.c) and for databases opened read-only at
 * rest.
 * Thread: one that may take its time; nothing here is called on a loop or by the apply thread.
 * Order of a run, each step repeatable after a crash:
 *   1. floors: policy → RETAIN commands, through consensus like any other write
 *   2. trim: what the filter can't judge, in slices on the apply thread
 *   3. seal and flush: floors and cids are on disk, so that no replay needs what lies below
 *   4. compaction, slice by slice: the filter leaves out what is below the floors or expired; of
 *      all conversations, not of named ones, the feeds, too
 *   5. the search index: segments that have something in them which has gone are made anew
 * Limits: KEEPER_RETAIN_MAX commands at once; KEEPER_SLICE_BYTES of log per compaction call (a
 *         single file may be larger), which needs that much room on the disk and is not begun
 *         without; KEEPER_TOP_MAX conversations listed. */
#ifndef LOQUAT_COMPACTION_KEEPER_H
#define LOQUAT_COMPACTION_KEEPER_H

#include "compaction/filter.h"
#include "compaction/trim.h"
#include "store/kv.h"
#include "wire.pb-c.h"

enum {
    KEEPER_RETAIN_MAX = 64,
    KEEPER_SLICE_BYTES = 256 << 20,
    KEEPER_ROOM_BYTES = 64 << 20, /* left free beside a slice */
    KEEPER_TOP_DEFAULT = 10,
    KEEPER_TOP_MAX = 100,
    KEEPER_CONVS_MAX = 1000, /* named in one request */
    KEEPER_NOTES_MAX = 8,
};

struct keeper_retain {
    char conv[CONV_ID_MAX + 1];
    uint64_t floor;
};

struct keeper_ops {
    /* Often; 0, or an error that ends the job with it. `all` is an estimate. */
    int (*progress)(void *arg, const char *phase, uint64_t at, uint64_t all);
    /* The rest is for a run; each returns when it was done. NULL where only reading is possible. */
    int (*retain)(void *arg, uint32_t partition, const struct keeper_retain *items, size_t count);
    int (*trim)(void *arg, uint32_t partition, const struct trim_item *items, size_t count,
                uint64_t now_ms, struct tally went[CAUSE_COUNT], bool *more);
    int (*seal)(void *arg, uint32_t partition, uint64_t *index); /* applied index it covers */
    uint64_t (*room)(void *arg);                                 /* bytes free on the disk */
    /* The search index, of all conversations or of those that the ask names: without what has gone,
     * or `all` of it anew. */
    int (*index)(void *arg, const Loquat__Control *ask, bool all, uint64_t *segments);
};

struct keeper {
    struct kv *kv;
    uint32_t partitions;
    uint64_t now_ms;
    struct filter *filter; /* the one that kv was opened with; for a run */
    const struct keeper_ops *ops;
    void *arg;
};

/* Puts a packed Report, with `done` set, into `report`, also when it fails. Returns its err. */
int keeper_do(const struct keeper *keeper, const Loquat__Control *ask, struct buf *report);

#endif
