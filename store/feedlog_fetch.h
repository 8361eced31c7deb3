/* store/feedlog_fetch.h: the rows of the records that a page of a feed may have, conversation after
 * conversation: those of one lie side by side in the log.
 * Owner:  values lie in the arena of the page. */
#ifndef LOQUAT_STORE_FEEDLOG_FETCH_H
#define LOQUAT_STORE_FEEDLOG_FETCH_H

#include "store/base/arena.h"
#include "store/base/ids.h"
#include "store/kv.h"

/* A record that the page may have, and what was found of it. */
struct slot {
    uint64_t offset, seq;
    struct span value; /* p NULL: trimmed */
    struct group *group;
    struct slot *next; /* of its group */
};
/* A conversation of the page. */
struct group {
    struct conv_id conv;
    char *name;
    struct slot *first, *last; /* of this batch, in their order; NULL: none */
    size_t count;              /* of these */
};

struct fetch {
    const struct kv_view *view;
    uint32_t partition;
    struct arena *arena;
    struct slot *slots; /* of this batch */
    size_t count, cap;
    struct group **touched; /* by this batch */
    size_t touched_count;
    struct kv_iter near;
    bool near_open;
};
void fetch_close(struct fetch *fetch);
/* The next batch, of so many at most. */
void fetch_begin(struct fetch *fetch, size_t cap);
void fetch_want(struct fetch *fetch, struct group *group, uint64_t seq, uint64_t offset);
/* `runs`: there are enough of them for an iterator to be worth it. */
int fetch_all(struct fetch *fetch, bool runs);

#endif
