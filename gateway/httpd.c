#include "gateway/httpd.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/route.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* ---- answers ---- */

static void put_head(struct conn *conn, int status, const char *type, const char *headers,
                     const char *size)
{
    struct buf head = {0};
    buf_addf(&head, "HTTP/1.1 %d %s\r\n%s", status, http_reason(status), size);
    if (type != NULL)
        buf_addf(&head, "Content-Type: %s\r\n", type);
    buf_add_str(&head, headers != NULL ? headers : "Cache-Control: no-store\r\n");
    if (!conn->keep)
        buf_add_str(&head, "Connection: close\r\n");
    buf_add_str(&head, "X-Content-Type-Options: nosniff\r\n\r\n");
    conn_send(conn, buf_span(&head));
    buf_close(&head);
}

/* The answer was handed over: the next request, or the end. */
static void done(struct conn *conn)
{
    conn->busy = false;
    if (!conn->keep || conn->gate->state != GATE_SERVING) {
        conn_close_soon(conn);
        return;
    }
    conn_due(conn, http_idle(conn->http) ? DUE_IDLE : DUE_HEAD);
    if (conn->taking)
        return; /* httpd_take goes on by itself */
    route_next(conn);
}

void httpd_answer(struct conn *conn, int status, const char *type, const char *headers,
                  struct span body)
{
    char size[48];
    snprintf(size, sizeof size, "Content-Length: %zu\r\n", body.n);
    if (status == 304) /* a length would be that of what is not sent again */
        size[0] = '\0';
    put_head(conn, status, type, headers, size);
    if (!conn->head_only)
        conn_send(conn, body);
    done(conn);
}

void httpd_fail_with(struct conn *conn, int status, const char *headers, int err, const char *msg)
{
    struct buf text = {0};
    buf_add_str(&text, "{\"err\":");
    say_error(&text, err, msg, 0);
    buf_add_byte(&text, '}');
    httpd_answer(conn, status, "application/json", headers, buf_span(&text));
    buf_close(&text);
}

void httpd_fail(struct conn *conn, int err, const char *msg)
{
    httpd_fail_with(conn, err_http(err), NULL, err, msg);
}

void httpd_begin_chunks(struct conn *conn, const char *type)
{
    put_head(conn, 200, type, "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n",
             "Transfer-Encoding: chunked\r\n");
}

struct frame *httpd_chunk(const struct buf *text)
{
    char head[24];
    int n = snprintf(head, sizeof head, "%zx\r\n", text->n);
    struct frame *frame = xmalloc(sizeof *frame + (size_t)n + text->n + 2);
    frame->refs = 1;
    frame->n = (uint32_t)((size_t)n + text->n + 2);
    memcpy(frame->p, head, (size_t)n);
    memcpy(frame->p + n, text->p, text->n);
    memcpy(frame->p + (size_t)n + text->n, "\r\n", 2);
    return frame;
}

void httpd_end_chunks(struct conn *conn)
{
    conn_send(conn, span_str("0\r\n\r\n"));
    done(conn);
}

/* ---- requests ---- */

/* Bytes that are no HTTP request: answered, and the connection ends. */
static void refuse(struct conn *conn)
{
    int status = http_status(conn->http);
    conn->keep = false;
    conn->head_only = false;
    conn->busy = true;
    httpd_fail_with(conn, status, NULL, status == 413 ? ERR_TOO_LARGE : ERR_BAD_REQUEST,
                    http_reason(status));
}

/* Requests that are whole, one after the other, until one is answered later. */
static void take(struct conn *conn, int got, struct http_msg *msg)
{
    conn->taking = true;
    while (got == 1) {
        conn->busy = true;
        conn->keep = msg->keep_alive && conn->gate->state == GATE_SERVING;
        conn->head_only = span_is(msg->method, "HEAD");
        conn_due(conn, conn->stuck ? DUE_STUCK : DUE_NONE);
        route_request(conn, msg);
        if (conn->busy || conn->phase != CONN_HTTP || conn->close_soon)
            break;
        if (conn->out.bytes >= CONN_OUT_HIGH) {
            got = 0; /* the rest waits until the client has taken what it asked for */
            break;
        }
        got = http_next(conn->http, msg);
    }
    conn->taking = false;
    if (conn->phase == CONN_HTTP && !conn->busy && got < 0)
        refuse(conn);
    else if (conn->phase == CONN_HTTP && !conn->busy && !conn->close_soon &&
             conn->due_kind == DUE_IDLE && !http_idle(conn->http))
        conn_due(conn, DUE_HEAD);
}

void route_next(struct conn *conn)
{
    struct http_msg msg;
    if (conn->phase == CONN_HTTP && !conn->busy && !conn->close_soon && !conn->taking &&
        conn->out.bytes < CONN_OUT_HIGH)
        take(conn, http_next(conn->http, &msg), &msg);
}

void httpd_on_bytes(struct conn *conn, const char *bytes, size_t n)
{
    struct http_msg msg;
    if (conn->busy || conn->close_soon)
        return; /* an event stream: what a client says in it is not heard */
    take(conn, http_feed(conn->http, bytes, n, &msg), &msg);
}
