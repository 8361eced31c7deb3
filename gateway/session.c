#include "gateway/session.h"

#include <stdlib.h>

#include "gateway/blocks.h"
#include "gateway/follow.h"
#include "gateway/marks.h"
#include "gateway/presence.h"
#include "gateway/proto.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum { SILENCE_S = 2 * GATEWAY_PING_MS / 1000 + 10 };

/* ---- out ---- */

void session_say(struct conn *conn, struct span text)
{
    struct buf packed = {0};
    if (text.n >= SESSION_COMPRESS_MIN && text.n <= SESSION_COMPRESS_MAX &&
        ws_deflate_fits(&conn->ws, text.n) &&
        ws_deflate_frame(conn->gate->ws_pool, text, &packed)) {
        conn_send(conn, buf_span(&packed));
    } else {
        char head[WS_HEAD_MAX];
        size_t n = ws_frame_head(head, text.n);
        conn_send(conn, span_of(head, n));
        conn_send(conn, text);
    }
    buf_close(&packed);
}

void session_close(struct conn *conn, int code, const char *why)
{
    if (conn_gone(conn) || conn->close_soon)
        return;
    ws_send_close(&conn->ws, code, why);
    conn_close_soon(conn);
}

void session_goodbye(struct conn *conn)
{
    char text[128];
    int n = snprintf(text, sizeof text,
                     "{\"ev\":\"goodbye\",\"why\":\"drain\",\"reconnect_ms\":[%d,%d]}",
                     GATEWAY_RECONNECT_MIN_MS, GATEWAY_RECONNECT_MAX_MS);
    session_say(conn, span_of(text, (size_t)n));
}

void session_ping(struct conn *conn)
{
    static const char PING[] = {(char)0x89, 0};
    static const char COMMENT[] = "2\r\n:\n\r\n"; /* of an event stream, as a chunk */
    uint32_t now_s = (uint32_t)(conn->gate->now_ms / 1000);
    if (now_s - conn->heard_s > SILENCE_S) {
        conn_abort(conn); /* nobody there, or nobody who reads */
        return;
    }
    if (!conn->stuck)
        conn_send(conn, conn->phase == CONN_WS ? span_of(PING, sizeof PING) : span_str(COMMENT));
    conn_due(conn, DUE_PING);
}

/* ---- lines that come in ---- */

static void hold(struct conn *conn, struct span text)
{
    if (conn->held.n > 0)
        buf_add_byte(&conn->held, '\n');
    buf_add_span(&conn->held, text);
}

/* Takes lines until there are none, or no more may be taken; returns what is left. */
static struct span take_lines(struct conn *conn, struct span text)
{
    while (text.n > 0 && conn_takes(conn)) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        if (n > 0)
            proto_take(conn, span_of(text.p, n));
        n += end != NULL;
        text = span_of(text.p + n, text.n - n);
    }
    return text;
}

static void on_message(struct ws *ws, struct span text)
{
    struct conn *conn = container_of(ws, struct conn, ws);
    if (conn->close_soon || conn->gate->state != GATE_SERVING)
        return;
    if (text.n == 0) { /* an empty message holds no request */
        proto_refuse(conn, ERR_BAD_REQUEST, "an empty message");
        return;
    }
    if (conn->held.n == 0)
        text = take_lines(conn, text);
    if (text.n > 0 && !conn->close_soon)
        hold(conn, text);
}

void session_take_held(struct conn *conn)
{
    if (conn->held.n == 0 || conn->taking)
        return;
    conn->taking = true;
    struct buf held = conn->held;
    conn->held = (struct buf){0};
    struct span rest = take_lines(conn, buf_span(&held));
    if (rest.n > 0 && !conn_gone(conn))
        buf_add_span(&conn->held, rest);
    buf_close(&held);
    conn->taking = false;
}

static void on_output(struct ws *ws, struct span bytes)
{
    conn_send(container_of(ws, struct conn, ws), bytes);
}

static void on_close(struct ws *ws, int code)
{
    (void)code;
    conn_close_soon(container_of(ws, struct conn, ws));
}

static const struct ws_ops OPS = {
    .on_message = on_message, .on_output = on_output, .on_close = on_close};

void session_on_bytes(struct conn *conn, const char *bytes, size_t n)
{
    if (!conn->close_soon)
        ws_feed(&conn->ws, bytes, n);
}

/* ---- begin and end ---- */

static struct session *session_new(struct conn *conn)
{
    struct session *session = xcalloc(1, sizeof *session);
    session->conn = conn;
    conn->session = session;
    return session;
}

void session_begin(struct conn *conn, int deflate_bits)
{
    struct gate *gate = conn->gate;
    ws_init(&conn->ws, gate->ws_pool, &OPS);
    if (deflate_bits != 0)
        ws_use_deflate(&conn->ws, deflate_bits);
    session_new(conn);
    struct buf *text = &gate->answer;
    text->n = 0;
    buf_add_str(text, "{\"ev\":\"hello\",\"v\":1,\"node\":");
    json_put_string(text, span_str(gate->cluster.name));
    buf_addf(text, ",\"ping_ms\":%d,\"max_in\":%llu,\"window\":%d,\"auth_ms\":%d}", GATEWAY_PING_MS,
             (unsigned long long)gate->settings->frame_max, GATEWAY_WINDOW, GATEWAY_AUTH_MS);
    session_say(conn, buf_span(text));
    conn_due(conn, DUE_AUTH);
}

void session_begin_stream(struct conn *conn, struct span conv, uint64_t cursor, uint64_t since)
{
    struct session *session = session_new(conn);
    session->stream = true;
    session_expires(conn, conn->who->exp_ms);
    conn_due(conn, DUE_PING);
    if (follow_begin(session, conv, cursor, since) != 0 || conn->gate->state != GATE_SERVING)
        conn_close_soon(conn);
}

void session_expires(struct conn *conn, uint64_t exp_ms)
{
    struct session *session = conn->session;
    uint64_t now_ms = clock_wall_ms(), at_ms = exp_ms > now_ms ? exp_ms : now_ms;
    if (session->in_expiring.next != NULL)
        list_remove(&session->in_expiring);
    session->closes_ms = exp_ms;
    list_push(&conn->gate->expiring[at_ms / 1000 % GATE_EXPIRY_SLOTS], &session->in_expiring);
}

void session_end(struct conn *conn)
{
    struct session *session = conn->session;
    if (session->mark_count > 0)
        marks_write(session);
    while (session->count > 0)
        follow_remove(session, &session->follows[session->count - 1]);
    presence_forget(session);
    blocks_forget(session);
    if (session->in_expiring.next != NULL)
        list_remove(&session->in_expiring);
    if (session->in_hungry.next != NULL)
        list_remove(&session->in_hungry);
    proto_drop_cursors(session);
    free(session->follows);
    free(session);
    conn->session = NULL;
}
