/* store/client/get.h: one HTTP GET on a loop of its own, its body handed out in pieces.
 * Owner:  the caller embeds struct get; get_run returns when all is closed. */
#ifndef LOQUAT_CLIENT_GET_H
#define LOQUAT_CLIENT_GET_H

#include "store/base/http.h"
#include "store/client/conn.h"
#include "store/client/loquat.h"

enum { GET_SILENCE_MS = 60000, GET_WHY_SIZE = 256, GET_REFUSAL_MAX = 65536 };

struct get {
    const struct loquat_options *options;
    const char *target, *accept, *header; /* header: one more line with CRLF, or NULL */
    /* A piece of a body with status 200; false ends it. */
    bool (*on_piece)(struct get *get, struct span piece);
    void *data;
    /* the rest is get.c's */
    struct conn conn;
    struct url url;
    struct http *http;
    uv_timer_t timer;
    int status;
    bool done, stopped;
    struct buf refusal; /* body of another status */
};

/* 0; an error of the server's or of the connection, with `why`. Ended by on_piece: 0. */
int get_run(struct get *get, char *why, size_t why_size);

#endif
