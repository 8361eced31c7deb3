/* store/search/build.h: takes what the logs have into the index: a reader of each partition's feed
 * that holds a cursor, which stands in the index itself.
 * Thread: one for each index.
 * Memory: BUILD_BYTES_MAX, and what one message takes.
 * Errors: of kv; what was written by then counts, and the next step goes on there. */
#ifndef LOQUAT_STORE_SEARCH_BUILD_H
#define LOQUAT_STORE_SEARCH_BUILD_H

#include "store/search/content.h"
#include "store/search/index.h"

enum {
    BUILD_RECORDS_MAX = 250000, /* of one step */
    BUILD_CONVS_MAX = 20000,
    BUILD_BYTES_MAX = 32 << 20, /* of terms, before they are written */
    BUILD_STEMS = 2048,         /* of words that are kept */
    BUILD_BATCH_BYTES = 1 << 20,
    BUILD_BREATH_RECORDS = 64,      /* between two calls of `breathe` */
    BUILD_SEGMENT_BYTES = 64 << 20, /* a segment whose rows take more is not made at once */
};

struct build;
struct build *build_new(struct kv *data, struct kv *index);
void build_free(struct build *build);
/* Called often from within a step, so that it can be made to rest. */
void build_breathe(struct build *build, void (*breathe)(void *arg), void *arg);
/* Takes what the feed has beyond the cursor, a part of it at a time. `stop` (or NULL): ends between
 * conversations once it is set. */
struct build_step {
    uint64_t records, messages; /* that were taken */
    bool more;                  /* there is more yet */
};
int build_step(struct build *build, uint32_t partition, const bool *stop, struct build_step *step);

/* Makes segments anew, each of them at once for who searches: those that have something in them
 * which has gone (deleted, edited, expired, below the floor), or `all`; of conversations that are
 * no more nothing stays. What has gone is gone from the disk when its files have been compacted,
 * which this waits for. */
struct build_again {
    bool all;
    const struct conv_id *convs; /* of these only */
    size_t conv_count;           /* 0: of every one */
    uint64_t now_ms;
    const bool *stop;
    /* After each conversation. The index may be written to by another builder meanwhile. */
    void (*progress)(void *arg, const struct build_again *again);
    void *arg;
    /* what was done */
    uint64_t looked_at, segments; /* conversations; made anew, or removed */
    uint64_t messages;            /* in those segments */
};
int build_again(struct build *build, uint32_t partition, struct build_again *again);

#endif
