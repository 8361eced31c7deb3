/* store/client/ask.h: one HTTP request at a time on a connection of its own, the answer's body
 * handed out in pieces. With `keeps` the connection stays for the next request, which is sent once
 * more on a new one when the server had closed it: for requests that may be sent twice.
 * Owner:  the caller embeds struct ask and may begin it again from on_end on, or free it; with
 *         `keeps` it is closed before (ask_close). Until then the place and the texts must live.
 * Thread: the loop's.
 * Errors: on_end comes exactly once after ask_begin, last, never from inside a call. */
#ifndef LOQUAT_CLIENT_ASK_H
#define LOQUAT_CLIENT_ASK_H

#include "store/base/http.h"
#include "store/client/conn.h"
#include "store/client/loquat.h"

enum { ASK_SILENCE_MS = 60000, ASK_WHY_SIZE = 256, ASK_REFUSAL_MAX = 65536 };

struct ask_place { /* where requests go */
    struct url url;
    struct tlsc_trust *trust;
    const char *token;
};
/* 0 or LOQUAT_BAD_REQUEST with `why`. Borrows the token. */
int ask_place_open(struct ask_place *place, const struct loquat_options *options, char *why,
                   size_t why_size);
void ask_place_close(struct ask_place *place);

struct ask {
    const struct ask_place *place;
    const char *method, *target;
    const char *accept, *header; /* header: one more line with CRLF; each may be NULL */
    const char *body;            /* JSON, or NULL */
    /* A piece of a body with status 200; false ends it. */
    bool (*on_piece)(struct ask *ask, struct span piece);
    /* 0 (ended by on_piece, too); LOQUAT_CLOSED after ask_end; an error of the server's or of the
     * connection, which `why` explains. */
    void (*on_end)(struct ask *ask, int err, const char *why);
    void *data;
    bool keeps;
    void (*on_closed)(struct ask *ask); /* after ask_close */
    /* the rest is ask.c's */
    struct conn conn;
    struct http *http;
    uv_timer_t timer;
    uv_loop_t *loop;
    int status;
    bool busy;  /* a request is under way */
    bool up;    /* there is a connection, or was until just now */
    bool used;  /* it had a request before this one */
    bool last;  /* the server closes it behind this answer */
    bool begun; /* while the connection before was being closed */
    bool done, stopped, dropped, closed;
    struct buf refusal; /* body of another status */
};

void ask_begin(struct ask *ask, uv_loop_t *loop);
void ask_end(struct ask *ask); /* idempotent */
/* None is under way, none is begun any more. True: nothing is open, on_closed won't come. */
bool ask_close(struct ask *ask);

/* Blocking, on a loop of its own: what on_end (which is not called) would be told. */
int ask_run(struct ask *ask, char *why, size_t why_size);

#endif
