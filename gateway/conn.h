/* gateway/conn.h: one client's connection: its socket, what waits to be written to it, its
 * deadline. HTTP or WebSocket above it (httpd.h, session.h).
 * Bounds: input is taken only while less than CONN_OUT_HIGH waits to be written and fewer than
 *         CONN_READS_MAX reads, CONN_PAGES_MAX pages among them and CONN_WRITES_MAX writes are
 *         unanswered; what came in and could not be taken yet (one read and one frame) is held,
 *         and the socket is not read meanwhile. An HTTP client that takes nothing of its answer
 *         for CONN_STUCK_MS is cut; for one that is live see session_ping.
 * Owner:  a connection frees itself when it is closed and no call refers to it any more.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_CONN_H
#define LOQUAT_GATEWAY_CONN_H

#include "gateway/gate.h"
#include "store/base/batch.h"
#include "store/base/http.h"

enum {
    CONN_OUT_HIGH = 256 << 10,
    CONN_OUT_LOW = 64 << 10,
    CONN_READS_MAX = 8,
    CONN_PAGES_MAX = 2, /* of these, that may have a long answer */
    CONN_WRITES_MAX = 4096,
    CONN_STUCK_MS = 30000,
};

enum conn_phase { CONN_HTTP, CONN_WS, CONN_LINGER, CONN_CLOSED };

/* Who is on the other side, once a token was accepted. */
struct who {
    uint64_t exp_ms;
    uint32_t scope; /* enum jwt_scope */
    uint32_t slot;  /* of limits.h */
    bool held;      /* counts among the user's connections */
    char *send_to;  /* all that may be done is to send into this conversation; NULL: anything */
    char user[];
};

struct session;
struct stream;
struct conn {
    struct gate *gate;
    uv_poll_t poll;
    int fd;
    uint32_t refs, writes; /* refs: open, and one for each call */
    uint16_t reads, pages;
    uint32_t heard_s; /* when something came last, or went, of an event stream */
    uint8_t phase, due_kind, events;
    bool admin : 1;      /* came in at the admin address */
    bool local : 1;      /* from this machine */
    bool stuck : 1;      /* the socket takes no more now */
    bool close_soon : 1; /* after what waits was written */
    bool busy : 1;       /* an HTTP request is being answered */
    bool keep : 1;       /* and the connection stays after it */
    bool head_only : 1;  /* HEAD: without the body */
    bool taking : 1;     /* input is being taken */
    bool readable : 1;   /* it is read in this turn */
    struct list_link in_gate, in_due, in_dirty;
    uint64_t due_ms;
    struct out out;
    struct tls_conn *tls; /* NULL: plain */
    struct http *http;    /* CONN_HTTP */
    struct ws ws;         /* CONN_WS */
    struct who *who;
    struct session *session; /* live: CONN_WS, or an event stream */
    struct stream *stream;   /* a range that is streamed */
    struct buf held;         /* lines not taken yet */
};

void conn_open(struct gate *gate, int fd, bool admin);
/* Nothing is sent any more once the connection is to be closed. */
void conn_send(struct conn *conn, struct span bytes);
void conn_send_frame(struct conn *conn, struct frame *frame);
void conn_close_soon(struct conn *conn); /* when all is written: shuts down, lingers, closes */
void conn_abort(struct conn *conn);      /* now */
void conn_due(struct conn *conn, enum due due);
void conn_ref(struct conn *conn);
void conn_unref(struct conn *conn);
bool conn_takes(const struct conn *conn);                           /* input may be taken */
void conn_on_bytes(struct conn *conn, const char *bytes, size_t n); /* in the clear */
void conn_mark_dirty(struct conn *conn);                            /* it has something to write */
void conn_settle(struct conn *conn);      /* after anything changed: what the socket is asked for */
bool conn_reads(const struct conn *conn); /* its socket is asked for bytes */
/* What a read of the socket brought: how many bytes, 0 at its end, or a negative errno. */
void conn_on_read(struct conn *conn, const char *bytes, ssize_t n);
void conn_flush(struct conn *conn);
/* The same in two steps, with a write by somebody else between them, during which the connection is
 * left alone. 1: what goes first; 0: nothing; ERR_CLOSED. */
int conn_first_parts(struct conn *conn, struct batch_op *op);
void conn_flush_on(struct conn *conn, const struct batch_op *first);
/* A token was accepted: false when the user has too many connections. */
bool conn_identify(struct conn *conn, const struct jwt_claims *claims, bool hold);
bool conn_hold(struct conn *conn);   /* counts it among the user's; false: too many */
void conn_forget(struct conn *conn); /* who it was: nobody is authenticated any more */
static inline bool conn_gone(const struct conn *conn)
{
    return conn->phase >= CONN_LINGER;
}

#endif
