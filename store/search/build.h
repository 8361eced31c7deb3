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
    BUILD_BATCH_BYTES = 1 << 20,
};

struct build;
struct build *build_new(struct kv *data, struct kv *index);
void build_free(struct build *build);
/* Takes what the feed has beyond the cursor, a part of it at a time. `stop` (or NULL): ends between
 * conversations once it is set. */
struct build_step {
    uint64_t records, messages; /* that were taken */
    bool more;                  /* there is more yet */
};
int build_step(struct build *build, uint32_t partition, const bool *stop, struct build_step *step);

#endif
