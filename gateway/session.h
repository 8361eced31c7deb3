/* gateway/session.h: a live client: the logs it follows, each with a cursor, and never a queue.
 * A follow is
 *   WAIT    its topic has not started,
 *   LIVE    everything up to the cursor was given, and what comes goes out at once,
 *   BEHIND  the log is read from the cursor on until it is caught up (one read at a time),
 *   LAGGED  too far behind: `lag` was sent, and the client reads by itself until it says `resume`.
 * An event stream (HTTP) is a session with one follow that is never LAGGED.
 * Thread: the loop's.
 * Limits: SESSION_FOLLOWS_MAX conversations; SESSION_MARKS_MAX marks waiting to be written. */
#ifndef LOQUAT_GATEWAY_SESSION_H
#define LOQUAT_GATEWAY_SESSION_H

#include "gateway/conn.h"
#include "gateway/fanout.h"

enum {
    SESSION_FOLLOWS_MAX = 20000,
    SESSION_MARKS_MAX = 32,
    SESSION_MARK_MS = 1000,
    SESSION_PAGE_RECORDS = 256,
    SESSION_PAGE_BYTES = 256 << 10,
    SESSION_COMPRESS_MIN =
        1024, /* of the own messages of a client: what is smaller is not worth it */
    SESSION_COMPRESS_MAX = 64 << 10, /* some 0.6 ms: a larger one would keep the others waiting */
};

enum { /* close codes of the protocol's own */
       SESSION_CLOSE_RESTART = 1012,
       SESSION_CLOSE_AGAIN = 4000,
       SESSION_CLOSE_EXPIRED = 4100,
       SESSION_CLOSE_NO_AUTH = 4201,
       SESSION_CLOSE_REFUSED = 4202,
};

enum follow_state { FOLLOW_WAIT, FOLLOW_LIVE, FOLLOW_BEHIND, FOLLOW_LAGGED };
struct follow {
    struct topic *topic;
    uint64_t cursor; /* held by the client, or FOLLOW_FROM_HEAD: wherever that is */
    uint32_t slot;   /* in topic->entries */
    uint8_t state;   /* enum follow_state */
    bool marks_lost; /* marks of others that could not be told: to be read again */
};

struct mark {
    char conv[CONV_ID_MAX + 1];
    uint64_t read, delivered;
};

struct session {
    struct conn *conn;
    struct follow *follows;
    uint32_t count, cap;
    uint32_t behind;     /* how many are BEHIND */
    uint32_t marks_lost; /* how many have lost marks */
    bool marks_reading;
    bool stream;  /* an event stream */
    bool away;    /* by its own word */
    bool reading; /* a catching-up read is under way */
    uint32_t mark_count;
    struct watches *watches; /* presence.h; NULL: none */
    struct blocks *blocks;   /* blocks.h; NULL: none */
    struct map *cursors;     /* of a sync whose pages are still being asked for; may be NULL */
    struct mark *marks;      /* mark_count of them, coalesced, written once a second */
    uint64_t marks_due_ms;
    struct list_link in_marking, in_expiring, in_hungry;
    uint64_t closes_ms; /* wall clock: the token's end */
};

/* The connection was upgraded: hello, and DUE_AUTH. `deflate_bits`: as agreed, 0: not. */
void session_begin(struct conn *conn, int deflate_bits);
void session_begin_stream(struct conn *conn, struct span conv, uint64_t cursor, uint64_t since);
void session_end(struct conn *conn); /* from conn.c */
void session_on_bytes(struct conn *conn, const char *bytes, size_t n);
void session_take_held(struct conn *conn);
void session_close(struct conn *conn, int code, const char *why);
void session_goodbye(struct conn *conn); /* planned: told first, then closed 1012 when answered */
void session_expires(struct conn *conn, uint64_t exp_ms);
/* DUE_PING came. A WebSocket client that was not heard for two pings is cut, also when it is not
 * read because it does not read; an event stream that takes nothing for so long, too. */
void session_ping(struct conn *conn);

/* One message (JSON, or several separated by newlines) to a WebSocket client, in a frame. */
void session_say(struct conn *conn, struct span text);

#endif
