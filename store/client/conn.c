#include "store/client/conn.h"

#include <stdio.h>

#include "store/base/check.h"

static void conn_try_next(struct conn *conn);

static void conn_end(struct conn *conn)
{
    if (conn->found != NULL)
        uv_freeaddrinfo(conn->found);
    conn->found = conn->next = NULL;
    buf_close(&conn->out);
    buf_close(&conn->writing);
    tlsc_free(conn->tls);
    conn->tls = NULL;
    conn->open = conn->writes = false;
    conn->ops->on_close(conn, conn->why); /* the caller's from here */
}

static void conn_on_tcp_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    if (conn->closing)
        conn_end(conn);
    else
        conn_try_next(conn);
}

static void tcp_close(struct conn *conn)
{
    if (!uv_is_closing((uv_handle_t *)&conn->tcp))
        uv_close((uv_handle_t *)&conn->tcp, conn_on_tcp_closed);
}

void conn_close(struct conn *conn, const char *why)
{
    if (conn->closing)
        return;
    conn->closing = true;
    snprintf(conn->why, sizeof conn->why, "%s", why);
    if (conn->looks_up)
        uv_cancel((uv_req_t *)&conn->lookup); /* calls back in any case */
    else
        tcp_close(conn);
}

static void conn_on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)size;
    struct conn *conn = handle->data;
    *buf = uv_buf_init(conn->in, sizeof conn->in);
}

static void on_wire(struct conn *conn, struct span wire)
{
    char why[TLSC_WHY_SIZE];
    struct buf plain = {0};
    int err = tlsc_decrypt(conn->tls, wire, &plain, why);
    if (err == 0 && !conn->open && tlsc_established(conn->tls)) {
        conn->open = true;
        conn->ops->on_open(conn);
    }
    if (plain.n > 0 && !conn->closing)
        conn->ops->on_bytes(conn, plain.p, plain.n);
    if (err == 0 || !conn->open)
        conn_flush(conn); /* TLS may have an answer of its own, such as: why it does not go on */
    if (err != 0)
        conn_close(conn, why);
    buf_close(&plain);
}

static void conn_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    if (conn->closing || n == 0)
        return;
    if (n > 0 && conn->tls != NULL)
        on_wire(conn, span_of(buf->base, (size_t)n));
    else if (n < 0)
        conn_close(conn, n == UV_EOF ? "the server closed the connection" : uv_strerror((int)n));
    else
        conn->ops->on_bytes(conn, buf->base, (size_t)n);
}

static void conn_on_connect(uv_connect_t *request, int status)
{
    struct conn *conn = request->data;
    if (status == 0 && !conn->closing)
        status = uv_read_start((uv_stream_t *)&conn->tcp, conn_on_alloc, conn_on_read);
    if (status != 0) {
        if (!conn->closing)
            snprintf(conn->why, sizeof conn->why, "%s", uv_strerror(status));
        tcp_close(conn); /* then the next address, or the end */
        return;
    }
    if (conn->closing)
        return;
    uv_tcp_nodelay(&conn->tcp, 1);
    if (conn->url->tls) {
        conn->tls = tlsc_new(conn->trust, conn->url->host);
        if (conn->tls == NULL)
            conn_close(conn, "no memory for TLS");
        else
            conn_flush(conn); /* the handshake's first word; on_open comes after its last */
        return;
    }
    conn->open = true;
    conn->ops->on_open(conn);
}

static void conn_try_next(struct conn *conn)
{
    struct addrinfo *address = conn->next;
    int err = uv_tcp_init(conn->loop, &conn->tcp);
    ASSERT(err == 0);
    conn->tcp.data = conn->connect.data = conn;
    if (address == NULL) {
        conn_close(conn, strdupa(conn->why));
        return;
    }
    conn->next = address->ai_next;
    err = uv_tcp_connect(&conn->connect, &conn->tcp, address->ai_addr, conn_on_connect);
    if (err != 0) {
        snprintf(conn->why, sizeof conn->why, "%s", uv_strerror(err));
        tcp_close(conn);
    }
}

static void conn_on_lookup(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct conn *conn = request->data;
    conn->looks_up = false;
    conn->found = conn->next = found;
    if (conn->closing)
        conn->next = NULL;
    else if (status != 0)
        snprintf(conn->why, sizeof conn->why, "%s", uv_strerror(status));
    conn->closing = false; /* conn_try_next without an address ends it */
    conn_try_next(conn);
}

void conn_open(struct conn *conn, uv_loop_t *loop, const struct url *url, struct tlsc_trust *trust,
               const struct conn_ops *ops)
{
    ASSERT(!url->tls || trust != NULL);
    static const struct addrinfo HINTS = {.ai_socktype = SOCK_STREAM};
    void *data = conn->data;
    memset(conn, 0, offsetof(struct conn, in));
    conn->loop = loop;
    conn->ops = ops;
    conn->data = data;
    conn->url = url;
    conn->trust = trust;
    conn->lookup.data = conn;
    conn->looks_up = true;
    int err = uv_getaddrinfo(loop, &conn->lookup, conn_on_lookup, url->host, url->port, &HINTS);
    if (err == 0)
        return;
    conn->looks_up = false;
    snprintf(conn->why, sizeof conn->why, "%s", uv_strerror(err));
    conn_try_next(conn);
}

static void conn_on_write(uv_write_t *request, int status)
{
    struct conn *conn = request->data;
    conn->writes = false;
    conn->writing.n = 0;
    if (conn->closing)
        return;
    if (status != 0)
        conn_close(conn, uv_strerror(status));
    else if (conn->out.n > 0)
        conn_flush(conn);
    else if (conn->open && conn->ops->on_drain != NULL)
        conn->ops->on_drain(conn);
}

/* What is written next; `writing` is empty before. */
static bool gather(struct conn *conn)
{
    if (conn->tls != NULL) {
        struct span plain = conn->open ? buf_span(&conn->out) : (struct span){0};
        int err = tlsc_encrypt(conn->tls, plain, &conn->writing);
        if (conn->open)
            conn->out.n = 0;
        return err == 0;
    }
    if (conn->open) {
        struct buf empty = conn->writing;
        conn->writing = conn->out;
        conn->out = empty;
    }
    return true;
}

void conn_flush(struct conn *conn)
{
    if (conn->closing || conn->writes)
        return;
    if (!gather(conn)) {
        conn_close(conn, "TLS failed");
        return;
    }
    if (conn->writing.n == 0)
        return;
    conn->write.data = conn;
    conn->writes = true;
    uv_buf_t bytes = uv_buf_init(conn->writing.p, (unsigned)conn->writing.n);
    int err = uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &bytes, 1, conn_on_write);
    if (err != 0) {
        conn->writes = false;
        conn_close(conn, uv_strerror(err));
    }
}

size_t conn_pending(const struct conn *conn)
{
    return conn->out.n + conn->writing.n;
}
