#include "gateway/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/follow.h"
#include "gateway/httpd.h"
#include "gateway/marks.h"
#include "gateway/route.h"
#include "gateway/secure.h"
#include "gateway/session.h"
#include "gateway/turn.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/metrics.h"

enum { HEAD_MS = 10000, IDLE_MS = 60000, LINGER_MS = 2000 };

static const uint32_t DUE_MS[DUE_NONE] = {
    [DUE_HEAD] = HEAD_MS,         [DUE_IDLE] = IDLE_MS,        [DUE_AUTH] = GATEWAY_AUTH_MS,
    [DUE_PING] = GATEWAY_PING_MS, [DUE_STUCK] = CONN_STUCK_MS, [DUE_LINGER] = LINGER_MS};

void conn_ref(struct conn *conn)
{
    conn->refs++;
}

void conn_unref(struct conn *conn)
{
    ASSERT(conn->refs > 0);
    if (--conn->refs > 0)
        return;
    ASSERT(conn->phase == CONN_CLOSED);
    free(conn);
}

void conn_due(struct conn *conn, enum due due)
{
    if (conn->in_due.next != NULL)
        list_remove(&conn->in_due);
    conn->due_kind = due;
    if (due == DUE_NONE)
        return;
    conn->due_ms = conn->gate->now_ms + DUE_MS[due];
    list_push(&conn->gate->due[due], &conn->in_due);
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct conn *conn = container_of((uv_poll_t *)handle, struct conn, poll);
    close(conn->fd);
    conn_unref(conn);
}

/* Everything but the socket goes; calls that are under way find the connection gone. */
static void strip(struct conn *conn)
{
    if (conn->session != NULL)
        session_end(conn);
    if (conn->stream != NULL)
        httpd_stream_end(conn);
    if (conn->phase == CONN_WS)
        ws_close(&conn->ws);
    if (conn->http != NULL)
        http_free(conn->http);
    conn->http = NULL;
    if (conn->tls != NULL)
        secure_close(conn);
    conn_forget(conn);
    buf_close(&conn->held);
}

void conn_abort(struct conn *conn)
{
    if (conn->phase == CONN_CLOSED)
        return;
    if (conn->phase != CONN_LINGER)
        strip(conn);
    conn->phase = CONN_CLOSED;
    conn_due(conn, DUE_NONE);
    out_clear(&conn->out, &conn->gate->out_pool);
    if (conn->in_dirty.next != NULL)
        list_remove(&conn->in_dirty);
    list_remove(&conn->in_gate);
    conn->gate->conn_count--;
    uv_close((uv_handle_t *)&conn->poll, on_closed);
}

/* Nothing more goes out. Who closes at once may make the other side lose what it has not read yet,
 * so what it still sends is read and dropped for a while. */
static void begin_linger(struct conn *conn)
{
    strip(conn);
    conn->phase = CONN_LINGER;
    if (shutdown(conn->fd, SHUT_WR) != 0) {
        conn_abort(conn);
        return;
    }
    conn_due(conn, DUE_LINGER);
    conn_settle(conn);
}

/* A socket that takes no more says itself when it does. */
void conn_mark_dirty(struct conn *conn)
{
    if (conn->in_dirty.next == NULL && !conn->stuck)
        list_push(&conn->gate->dirty, &conn->in_dirty);
}

void conn_close_soon(struct conn *conn)
{
    if (conn_gone(conn) || conn->close_soon)
        return;
    conn->close_soon = true;
    conn_mark_dirty(conn);
}

/* ---- writing ---- */

void conn_send(struct conn *conn, struct span bytes)
{
    if (conn_gone(conn) || conn->close_soon)
        return;
    out_bytes(&conn->out, &conn->gate->out_pool, bytes);
    conn_mark_dirty(conn);
}

void conn_send_frame(struct conn *conn, struct frame *frame)
{
    if (conn_gone(conn) || conn->close_soon)
        return;
    out_frame(&conn->out, &conn->gate->out_pool, frame);
    conn_mark_dirty(conn);
}

static void on_room(struct conn *conn)
{
    if (conn->phase == CONN_WS)
        session_take_held(conn);
    else
        route_next(conn);
    if (!conn_gone(conn) && conn->session != NULL)
        follow_catch_up(conn->session);
    if (!conn_gone(conn) && conn->session != NULL)
        marks_find(conn->session);
    if (!conn_gone(conn) && conn->stream != NULL)
        httpd_stream_go_on(conn);
}

/* How long HTTP waits for a client that does not take its answer. */
static void mind_stuck(struct conn *conn, bool progress)
{
    if (progress && conn->session != NULL)
        conn->heard_s = (uint32_t)(conn->gate->now_ms / 1000);
    if (conn->session != NULL)
        return; /* DUE_PING looks at it */
    if (conn->stuck && (progress || conn->due_kind != DUE_STUCK))
        conn_due(conn, DUE_STUCK);
    else if (!conn->stuck && conn->due_kind == DUE_STUCK)
        conn_due(conn, conn->busy ? DUE_NONE : http_idle(conn->http) ? DUE_IDLE : DUE_HEAD);
}

int conn_first_parts(struct conn *conn, struct batch_op *op)
{
    if (conn_gone(conn))
        return 0;
    if (conn->tls != NULL)
        return secure_first_part(conn, op);
    op->fd = conn->fd;
    op->part_count = out_parts(&conn->out, op->parts, BATCH_PARTS_MAX);
    return op->part_count > 0;
}

/* 0: what else waits may follow; 1: the socket takes no more now; ERR_CLOSED. */
static int first_sent(struct conn *conn, const struct batch_op *op)
{
    size_t wanted = 0;
    if (op->result < 0)
        return op->result == -EAGAIN ? 1 : ERR_CLOSED;
    for (int i = 0; i < op->part_count; i++)
        wanted += op->parts[i].iov_len;
    size_t n = (size_t)op->result;
    out_drop(&conn->out, &conn->gate->out_pool, conn->tls != NULL ? tls_sent(conn->tls, n) : n);
    return n < wanted;
}

void conn_flush_on(struct conn *conn, const struct batch_op *first)
{
    if (conn_gone(conn))
        return;
    size_t before = conn->out.bytes;
    int rv = first != NULL ? first_sent(conn, first) : 0;
    if (rv == 0)
        rv = conn->tls != NULL ? secure_write(conn)
                               : out_write(&conn->out, &conn->gate->out_pool, conn->fd);
    if (rv < 0) {
        conn_abort(conn);
        return;
    }
    conn->stuck = rv == 1;
    if (conn->phase == CONN_HTTP)
        mind_stuck(conn, conn->out.bytes < before);
    if (conn->close_soon && !conn->stuck) {
        begin_linger(conn);
        return;
    }
    if (conn->out.bytes <= CONN_OUT_LOW && !conn->close_soon)
        on_room(conn);
    if (conn->tls != NULL)
        secure_settle(conn);
    conn_settle(conn);
}

void conn_flush(struct conn *conn)
{
    conn_flush_on(conn, NULL);
}

/* ---- reading ---- */

bool conn_takes(const struct conn *conn)
{
    return !conn_gone(conn) && !conn->close_soon && conn->out.bytes < CONN_OUT_HIGH &&
           conn->reads < CONN_READS_MAX && conn->pages < CONN_PAGES_MAX &&
           conn->writes < CONN_WRITES_MAX && conn->gate->state == GATE_SERVING;
}

static bool reads_more(const struct conn *conn)
{
    if (conn->phase == CONN_LINGER)
        return true;
    if (conn->close_soon)
        return false;
    if (conn->phase == CONN_WS) /* while draining the answer to our close is still wanted */
        return conn->held.n == 0 && (conn_takes(conn) || conn->gate->state != GATE_SERVING) &&
               conn->out.bytes < CONN_OUT_HIGH;
    if (conn->session != NULL)
        return true; /* an event stream: to see its end */
    return !conn->busy && conn->out.bytes < CONN_OUT_HIGH;
}

/* A live client is not read for a while: which bound holds it back. */
static void count_pause(const struct conn *conn)
{
    if (conn->phase != CONN_WS || conn->close_soon)
        return;
    if (conn->out.bytes >= CONN_OUT_HIGH)
        bound_hit(BOUND_CONN_OUT);
    else if (conn->reads >= CONN_READS_MAX || conn->pages >= CONN_PAGES_MAX)
        bound_hit(BOUND_CONN_READS);
    else if (conn->writes >= CONN_WRITES_MAX)
        bound_hit(BOUND_CONN_WRITES);
}

static void conn_on_poll(uv_poll_t *poll, int status, int events);

void conn_settle(struct conn *conn)
{
    if (conn->phase == CONN_CLOSED)
        return;
    int events = (reads_more(conn) ? UV_READABLE : 0) | (conn->stuck ? UV_WRITABLE : 0);
    if (events == conn->events)
        return;
    if (conn->events & UV_READABLE && !(events & UV_READABLE))
        count_pause(conn);
    conn->events = (uint8_t)events;
    if (events == 0)
        uv_poll_stop(&conn->poll);
    else
        uv_poll_start(&conn->poll, events, conn_on_poll);
}

void conn_on_bytes(struct conn *conn, const char *bytes, size_t n)
{
    conn->heard_s = (uint32_t)(conn->gate->now_ms / 1000);
    switch (conn->phase) {
    case CONN_HTTP:
        httpd_on_bytes(conn, bytes, n);
        break;
    case CONN_WS:
        session_on_bytes(conn, bytes, n);
        break;
    default: /* lingering: dropped */
        break;
    }
}

bool conn_reads(const struct conn *conn)
{
    return conn->phase != CONN_CLOSED && conn->events & UV_READABLE && reads_more(conn);
}

void conn_on_read(struct conn *conn, const char *bytes, ssize_t n)
{
    if (n == -EAGAIN)
        return;
    if (n > 0 && conn->tls != NULL) {
        secure_on_bytes(conn, span_of(bytes, (size_t)n));
    } else if (n > 0) {
        conn_on_bytes(conn, bytes, (size_t)n);
    } else if (n == 0 && conn->phase == CONN_HTTP && conn->out.bytes > 0 && conn->session == NULL) {
        conn_close_soon(conn); /* it says no more, but still reads our answer */
    } else {
        conn_abort(conn);
        return;
    }
    conn_settle(conn);
}

static void conn_on_poll(uv_poll_t *poll, int status, int events)
{
    struct conn *conn = container_of(poll, struct conn, poll);
    conn->gate->now_ms = uv_now(&conn->gate->loop);
    if (status < 0) {
        conn_abort(conn);
        return;
    }
    if (events & UV_WRITABLE)
        conn_flush(conn);
    if (!(events & UV_READABLE) || conn->phase == CONN_CLOSED)
        return;
    if (conn->tls == NULL || secure_may_read(conn)) /* or it is asked for in the next turn */
        turn_readable(conn);
}

/* ---- the beginning ---- */

static bool is_local(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(fd, &peer.any, &size) != 0)
        return false;
    if (peer.any.sa_family == AF_INET)
        return ntohl(peer.v4.sin_addr.s_addr) >> 24 == 127;
    return peer.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&peer.v6.sin6_addr);
}

void conn_open(struct gate *gate, int fd, bool admin)
{
    struct conn *conn = xcalloc(1, sizeof *conn);
    int on = 1;
    conn->gate = gate;
    conn->fd = fd;
    conn->refs = 1;
    conn->admin = admin;
    conn->local = is_local(fd);
    conn->due_kind = DUE_NONE;
    conn->heard_s = (uint32_t)(gate->now_ms / 1000);
    conn->http = http_new(true, gate->settings->frame_max, false);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    list_push(&gate->conns, &conn->in_gate);
    gate->conn_count++;
    bool fine = admin || gate->settings->tls == NULL || secure_open(conn);
    if (!fine || uv_poll_init(&gate->loop, &conn->poll, fd) != 0) {
        list_remove(&conn->in_gate);
        gate->conn_count--;
        tls_conn_free(conn->tls);
        http_free(conn->http);
        close(fd);
        free(conn);
        return;
    }
    conn_due(conn, DUE_HEAD);
    conn_settle(conn);
}

void conn_forget(struct conn *conn)
{
    if (conn->who != NULL && conn->who->held)
        limits_release(&conn->gate->shared->limits, conn->who->slot);
    if (conn->who != NULL)
        free(conn->who->send_to);
    free(conn->who);
    conn->who = NULL;
}

bool conn_identify(struct conn *conn, const struct jwt_claims *claims, bool hold)
{
    struct span user = span_of(claims->user, strlen(claims->user));
    struct limits *limits = &conn->gate->shared->limits;
    struct who *who = conn->who;
    if (who == NULL || strcmp(who->user, claims->user) != 0) {
        conn_forget(conn);
        who = conn->who = xcalloc(1, sizeof *who + user.n + 1);
        memcpy(who->user, claims->user, user.n);
        who->slot = limits_slot(limits, user);
    }
    who->exp_ms = claims->exp_ms;
    who->scope = claims->scope;
    free(who->send_to);
    who->send_to = claims->send_to[0] != '\0' ? xstrdup(claims->send_to) : NULL;
    return !hold || conn_hold(conn);
}

bool conn_hold(struct conn *conn)
{
    struct who *who = conn->who;
    if (!who->held)
        who->held = limits_hold(&conn->gate->shared->limits, who->slot);
    if (!who->held)
        bound_hit(BOUND_USER_CONNS);
    return who->held;
}
