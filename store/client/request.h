/* store/client/request.h: the requests in flight of a session, in the order they were made.
 * A request keeps its text until it is answered, so that a new connection can send it again.
 * Owner:  the table owns texts; slots keep their memory for the next request.
 * Limits: `window` slots for the caller and REQUESTS_OWN for the session's own (range fills). */
#ifndef LOQUAT_CLIENT_REQUEST_H
#define LOQUAT_CLIENT_REQUEST_H

#include "store/base/buf.h"
#include "store/client/loquat.h"

/* Ids up to REQUESTS_ID_FREE are never given: the session uses them for auth and sync. */
enum { REQUESTS_OWN = 16, REQUESTS_ID_FREE = 15, REQUESTS_WINDOW_MAX = 65536 };

struct request {
    struct buf text; /* the whole object */
    uint64_t id;     /* 0: the slot is free */
    loquat_answer_fn fn;
    void *arg;
    bool own;
    uint32_t before, after; /* in order; of a free slot: `after` is the next free one */
};

struct requests {
    struct request *slots;
    uint32_t count, window;
    uint32_t used, used_own;
    uint32_t free, first, last;
    uint32_t unsent; /* the first that this connection has not seen */
    uint64_t generation;
};

void requests_init(struct requests *requests, uint32_t window);
void requests_close(struct requests *requests);
/* 0, or LOQUAT_BUSY. */
int requests_add(struct requests *requests, struct span fields, bool own, loquat_answer_fn fn,
                 void *arg);
/* Removes the request of this id and says whom to call; false when there is none. */
bool requests_take(struct requests *requests, uint64_t id, loquat_answer_fn *fn, void **arg);
bool requests_take_first(struct requests *requests, loquat_answer_fn *fn, void **arg);
/* Fills `frame` (cleared first) with unsent requests, a line each, up to `size_max` bytes; false
 * when there are none. */
bool requests_frame(struct requests *requests, size_t size_max, struct buf *frame);
void requests_rewind(struct requests *requests); /* a new connection: all are unsent */

#endif
