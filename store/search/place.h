/* store/search/place.h: one conversation of those that are searched: whether the reader may see it,
 * and which of its messages may be it, from the newest down: those that the index says, and those
 * that it has not got yet.
 * Owner:  struct search (search.c), for the time of one read. Thread: one.
 * Errors: of kv; ERR_CORRUPT of the index is marked in `damaged`. */
#ifndef LOQUAT_STORE_SEARCH_PLACE_H
#define LOQUAT_STORE_SEARCH_PLACE_H

#include "store/access.h"
#include "store/base/err.h"
#include "store/search/content.h"
#include "store/search/index.h"
#include "store/search/match.h"

/* One conversation, and how far down it was looked at. */
struct place {
    char *conv;
    struct conv_id id;
    struct access access;
    bool seen; /* `access` is there; it may have said that there is nothing for this reader */
    struct index_conv row;
    const char *lang; /* of its stems in the index; where that has nothing of it, as is set */
    uint64_t *tail;   /* messages to be looked at beside the index, falling */
    size_t tail_count, tail_cap, tail_at;
    uint32_t segment; /* that `set` is of */
    bool begun;
    struct posting_set set;
    size_t left;  /* of the set: those before it were not looked at yet */
    uint64_t seq; /* of the next one; 0: it was not looked for yet */
    uint64_t mid; /* of the next one; before it was looked for, no lower than that; 0: none */
    struct buf message;
    struct record_view record; /* of the message */
};

struct search {
    struct kv *data, *index;
    uint32_t partition;
    const Loquat__Read *read;
    uint64_t now_ms, below;
    uint64_t looked; /* every message from this mid on has been looked at */
    struct arena *arena;
    Loquat__Reply *reply;
    struct kv_view view;
    struct query query;
    const char *lang; /* that query and needs are prepared for */
    struct need *needs;
    size_t need_count;
    struct posting_set other;
    struct place *places, **heap; /* by id; heap: those with a next one, newest at the top */
    size_t place_count, heap_count;
    struct content content;
    struct arena scratch;
    struct buf room, fold;
    size_t visits, hits_max;
    bool damaged; /* the index */
};

/* What an error of the index is. */
static inline int search_of_index(struct search *s, int err)
{
    s->damaged |= err == ERR_CORRUPT;
    return err;
}

/* In the order of ids. */
int place_by_id(const void *a, const void *b);
/* What the user sees of it; where that is nothing, there is no next one. */
int place_see(struct search *s, struct place *place);
/* The messages of all places from behind `fed`, which is how far the index goes. */
int place_find_tails(struct search *s, uint64_t fed);
/* What is looked for is found by the stems of the conversation's language. */
void place_speak(struct search *s, const struct place *place);
/* The next one down that is there, as place->seq and mid; mid 0: there is none. */
int place_advance(struct search *s, struct place *place);

#endif
