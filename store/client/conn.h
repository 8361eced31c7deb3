/* store/client/conn.h: one TCP connection of a client: looks the name up, tries its addresses in
 * turn, speaks TLS if asked to, reads, and writes what has gathered since the last write.
 * Owner:  the caller embeds struct conn and may reuse or free it from on_close on.
 * Thread: the loop's.
 * Errors: on_close comes exactly once after conn_open, last, never from inside a call. */
#ifndef LOQUAT_CLIENT_CONN_H
#define LOQUAT_CLIENT_CONN_H

#include <uv.h>

#include "store/base/buf.h"
#include "store/client/tlsc.h"
#include "store/client/url.h"

enum { CONN_READ_SIZE = 64 << 10 };

struct conn;
struct conn_ops {
    void (*on_open)(struct conn *conn);
    void (*on_bytes)(struct conn *conn, const char *bytes, size_t n);
    void (*on_drain)(struct conn *conn); /* all is written; may be NULL */
    void (*on_close)(struct conn *conn, const char *why);
};

struct conn {
    uv_loop_t *loop;
    const struct conn_ops *ops;
    void *data;
    const struct url *url; /* the caller's */
    struct tlsc_trust *trust;
    struct tlsc *tls; /* from connecting on, if url->tls */
    uv_getaddrinfo_t lookup;
    struct addrinfo *found, *next;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct buf out, writing;
    char why[128];
    bool open, writes, closing, looks_up;
    char in[CONN_READ_SIZE];
};

/* `trust`: needed if url->tls. It and `url` must live until on_close. */
void conn_open(struct conn *conn, uv_loop_t *loop, const struct url *url, struct tlsc_trust *trust,
               const struct conn_ops *ops);
/* Append to conn->out, then flush. */
void conn_flush(struct conn *conn);
size_t conn_pending(const struct conn *conn); /* bytes not yet written */
/* Idempotent; the first `why` is kept. */
void conn_close(struct conn *conn, const char *why);

#endif
