/* bench/lib/view.h: a conversation as one client sees it, built from nothing but the records and
 * holes that came to it, in their order: docs/PROTOCOL.md, 7. Edits, deletions and reactions are
 * applied as they come. Of texts a hash is kept. In the end it is compared with what the server
 * folded itself.
 * Owner:  the view owns all it has; view_close.
 * Errors: what can't be is told by `view_wrong`, and counted by who gave it. */
#ifndef LOQUAT_BENCH_VIEW_H
#define LOQUAT_BENCH_VIEW_H

#include "store/base/json.h"

enum view_state {
    VIEW_UNKNOWN, /* it did not come */
    VIEW_OTHER,   /* a record that is no message */
    VIEW_HOLE,
    VIEW_MESSAGE,
    VIEW_ERASED, /* a message that was deleted since */
};
struct view_message {
    uint64_t mid, ts, n, edited, pinned, replies;
    uint64_t body, rest; /* hashes: of the body; of what never changes */
    uint32_t emojis;     /* the first in `emojis`, + 1; 0: no reactions */
    uint8_t state;
    bool mentions_me;
};
struct view_emoji { /* on a message, in the order in which they came up */
    uint64_t hash;
    uint32_t next, votes; /* the first in `votes`, + 1 */
};
struct view_vote {
    uint64_t user; /* hash of the name */
    uint32_t next;
};
struct view {
    const char *self;          /* whose it is */
    uint64_t seen, read, n;    /* n: of the last record */
    struct view_message *each; /* by sequence */
    struct view_emoji *emojis;
    struct view_vote *votes;
    size_t cap, emojis_count, emojis_cap, votes_count, votes_cap;
    void (*wrong)(const struct view *view, uint64_t s, const char *what, struct span theirs);
    void *data; /* the caller's */
};
/* The next record or hole of the log. */
void view_take(struct view *view, struct json *json, const struct json_obj *item);
void view_read(struct view *view, uint64_t s); /* the user has read up to there */
uint64_t view_unread(const struct view *view, uint64_t *mentions);
/* A record or hole of the folded view; `at` is the sequence after the one before it. Returns the
 * one after this. Between them there may be nothing that is to be seen. */
uint64_t view_check(const struct view *view, struct json *json, uint64_t at,
                    const struct json_obj *item, struct span raw);
void view_check_none(const struct view *view, uint64_t first, uint64_t until);
void view_close(struct view *view);

#endif
