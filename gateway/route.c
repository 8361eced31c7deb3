#include "gateway/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "gateway/httpd.h"
#include "gateway/jobs.h"
#include "gateway/proto.h"
#include "gateway/query.h"
#include "gateway/session.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/metrics.h"
#include "store/base/ws_deflate.h"

struct target { /* of a path below /v1/conversations */
    struct buf conv;
    struct span rest; /* "", "messages", "records", "tail" */
    bool named;
};

/* ---- who asks ---- */

bool route_method_is(const struct http_msg *msg, const char *method)
{
    return span_is(msg->method, method);
}

static struct span bearer(const struct http_msg *msg)
{
    const struct span *value = http_header_get(msg, "Authorization");
    if (value == NULL || value->n < 8 || strncasecmp(value->p, "Bearer ", 7) != 0)
        return (struct span){0};
    return span_of(value->p + 7, value->n - 7);
}

static bool origin_allowed(struct conn *conn, const struct http_msg *msg)
{
    return origins_allow(&conn->gate->settings->origins, http_header_get(msg, "Origin"),
                         http_header_get(msg, "Host"));
}

bool route_identify(struct conn *conn, const struct http_msg *msg)
{
    struct jwt_claims claims;
    char why[120] = "send a token: Authorization: Bearer …";
    struct span token = bearer(msg);
    int err = ERR_UNAUTHORIZED;
    if (!origin_allowed(conn, msg)) {
        httpd_fail(conn, ERR_FORBIDDEN, "this Origin is not on the server's list");
        return false;
    }
    if (token.n > 0)
        err = auth_check(conn->gate->settings->auth, token, clock_wall_ms(), &claims, why,
                         sizeof why);
    if (err != 0) {
        httpd_fail(conn, err, why);
        return false;
    }
    conn_identify(conn, &claims, false);
    return true;
}

/* ---- WebSocket ---- */

static bool header_is(const struct http_header *header, const char *name)
{
    return header->name.n == strlen(name) && strncasecmp(header->name.p, name, header->name.n) == 0;
}

static bool offers_protocol(const struct http_msg *msg, bool *offers)
{
    static const char NAME[] = "loquat.v1.json";
    *offers = false;
    for (size_t i = 0; i < msg->header_count; i++) {
        struct span value = msg->headers[i].value;
        if (!header_is(&msg->headers[i], "Sec-WebSocket-Protocol"))
            continue;
        *offers = true;
        for (size_t at = 0; at < value.n;) {
            while (at < value.n && (value.p[at] == ' ' || value.p[at] == ','))
                at++;
            size_t n = 0;
            while (at + n < value.n && value.p[at + n] != ',' && value.p[at + n] != ' ')
                n++;
            if (span_is(span_of(value.p + at, n), NAME))
                return true;
            at += n;
        }
    }
    return false;
}

/* False: not in the grammar of extensions. */
static bool agree_on_deflate(const struct http_msg *msg, struct ws_deflate *agreed)
{
    for (size_t i = 0; i < msg->header_count; i++)
        if (header_is(&msg->headers[i], "Sec-WebSocket-Extensions") &&
            ws_deflate_offer(msg->headers[i].value, agreed) != 0)
            return false;
    return true;
}

/* The handshake is answered; from here on the bytes are frames. */
static void switch_protocols(struct conn *conn, const char *accept, bool ours,
                             const struct ws_deflate *agreed)
{
    struct buf head = {0};
    buf_addf(&head,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
             accept);
    if (ours)
        buf_add_str(&head, "Sec-WebSocket-Protocol: loquat.v1.json\r\n");
    if (agreed->window_bits != 0)
        buf_addf(&head, "Sec-WebSocket-Extensions: %s\r\n", agreed->answer);
    buf_add_str(&head, "\r\n");
    conn_send(conn, buf_span(&head));
    buf_close(&head);
    struct http *http = conn->http;
    conn->http = NULL;
    conn->busy = false;
    conn->phase = CONN_WS;
    conn_forget(conn); /* a proxy may put requests of several users on one connection */
    session_begin(conn, agreed->window_bits);
    struct span rest = http_rest(http);
    if (rest.n > 0)
        session_on_bytes(conn, rest.p, rest.n);
    http_free(http);
}

static void upgrade(struct conn *conn, const struct http_msg *msg)
{
    struct ws_deflate agreed = {0};
    const struct span *key = http_header_get(msg, "Sec-WebSocket-Key");
    const struct span *version = http_header_get(msg, "Sec-WebSocket-Version");
    char accept[WS_ACCEPT_SIZE + 1];
    bool offers = false, ours = offers_protocol(msg, &offers);
    conn->keep = false;
    if (!route_method_is(msg, "GET") || !msg->upgrade_websocket) {
        httpd_answer(conn, 426, "text/plain", "Upgrade: websocket\r\n",
                     span_str("this is a WebSocket\n"));
    } else if (version == NULL || !span_is(*version, "13")) {
        httpd_answer(conn, 426, "text/plain", "Sec-WebSocket-Version: 13\r\n",
                     span_str("WebSocket version 13 is spoken here\n"));
    } else if (key == NULL || !ws_accept(*key, accept)) {
        httpd_fail(conn, ERR_BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64");
    } else if (offers && !ours) {
        httpd_fail(conn, ERR_BAD_REQUEST, "the subprotocol is loquat.v1.json");
    } else if (!agree_on_deflate(msg, &agreed)) {
        httpd_fail(conn, ERR_BAD_REQUEST, "Sec-WebSocket-Extensions is malformed");
    } else if (!origin_allowed(conn, msg)) {
        httpd_fail(conn, ERR_FORBIDDEN, "this Origin is not on the server's list");
    } else if (!cluster_ready(&conn->gate->cluster)) {
        httpd_fail(conn, ERR_UNAVAILABLE, "the store is not reached just now");
    } else {
        switch_protocols(conn, accept, ours, &agreed);
    }
}

/* ---- operations ---- */

static void run_query(struct conn *conn, const struct http_msg *msg, const char *op, struct span c)
{
    struct json_obj obj;
    query_fields(conn, msg, &obj);
    proto_http(conn, proto_find(span_str(op)), c, &obj);
}

static void run_body(struct conn *conn, const struct http_msg *msg, const char *op, struct span c)
{
    struct json_obj obj;
    struct json *json = conn->gate->json;
    int err = json_parse(json, msg->body.p, msg->body.n, &obj);
    if (err != 0)
        httpd_fail(conn, err, json_error(json));
    else
        proto_http(conn, proto_find(span_str(op)), c, &obj);
}

/* ---- /v1/conversations ---- */

bool route_wants(const struct http_msg *msg, const char *type)
{
    const struct span *accept = http_header_get(msg, "Accept");
    return accept != NULL && memmem(accept->p, accept->n, type, strlen(type)) != NULL;
}

static void on_tail_checked(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    struct conn *conn = call->conn;
    uint64_t cursor = *(uint64_t *)call->state;
    int err = reply->err;
    free(call->state);
    if (err == 0)
        err = reply->n_convs == 1 ? reply->convs[0]->err : ERR_CORRUPT;
    if (err != 0) {
        call_fail(call, err, err == ERR_NOT_FOUND ? "no such conversation" : reply->msg, 0);
        return;
    }
    if (!conn_gone(conn) && !conn->head_only && !conn_hold(conn)) {
        call_fail(call, ERR_RATE_LIMITED, "too many connections of this user", 0);
        return;
    }
    if (conn_gone(conn)) {
        /* nobody waits */
    } else if (conn->head_only) {
        httpd_answer(conn, 200, "text/event-stream", NULL, (struct span){0});
    } else {
        uint64_t head = reply->convs[0]->head;
        conn->keep = false;
        httpd_begin_chunks(conn, "text/event-stream");
        session_begin_stream(conn, span_str(call->conv), cursor < head ? cursor : head,
                             reply->convs[0]->since);
    }
    call->http = false; /* the stream is the answer */
    call->has_id = false;
    call_ok(call);
}

/* The last sequence that the client holds: Last-Event-ID, or what comes before `from`. */
static bool tail_cursor(const struct http_msg *msg, uint64_t *cursor)
{
    const struct span *last = http_header_get(msg, "Last-Event-ID");
    struct buf value = {0};
    bool fine = true;
    *cursor = FOLLOW_FROM_HEAD;
    if (last != NULL) {
        fine = query_whole(*last, cursor);
    } else if (http_query_get(msg->query, "from", &value)) {
        fine = query_whole(buf_span(&value), cursor);
        *cursor -= fine && *cursor > 0;
    }
    buf_close(&value);
    return fine;
}

static void run_tail(struct conn *conn, const struct http_msg *msg, struct span c)
{
    uint64_t cursor;
    if (!conv_name_valid(c)) {
        httpd_fail(conn, ERR_NOT_FOUND, "no such conversation");
        return;
    }
    if (!tail_cursor(msg, &cursor)) {
        httpd_fail(conn, ERR_BAD_REQUEST, "from and Last-Event-ID are sequences");
        return;
    }
    if (conn->who->send_to != NULL) {
        httpd_fail(conn, ERR_FORBIDDEN, PROTO_SEND_ONLY);
        return;
    }
    struct call *call = call_new(conn, CALL_READ);
    call->http = true;
    uint64_t after_ms = proto_rate(conn);
    if (after_ms > 0) {
        call_fail(call, ERR_RATE_LIMITED, "too many requests of this user", after_ms);
        return;
    }
    call_conv(call, c);
    uint64_t *state = xmalloc(sizeof *state);
    *state = cursor;
    call->state = state;
    if (!read_ask_conv(call, on_tail_checked)) {
        free(state);
        call_fail(call, ERR_BUSY, NULL, 0);
    }
}

static void run_records(struct conn *conn, const struct http_msg *msg, struct span c)
{
    run_query(conn, msg, route_wants(msg, "application/x-ndjson") ? "records" : "range", c);
}

void route_not_allowed(struct conn *conn, const char *allow)
{
    char header[80];
    snprintf(header, sizeof header, "Allow: %s\r\n", allow);
    httpd_fail_with(conn, 405, header, ERR_BAD_REQUEST, "not with this method");
}

/* /v1/conversations[/{c}[/messages|records|tail]] : false when it is none of these. */
static bool split(struct span path, struct target *target)
{
    static const char BASE[] = "/v1/conversations";
    size_t n = sizeof BASE - 1;
    if (path.n < n || memcmp(path.p, BASE, n) != 0)
        return false;
    path = span_of(path.p + n, path.n - n);
    if (path.n == 0)
        return true;
    if (path.p[0] != '/' || path.n == 1)
        return false;
    const char *slash = memchr(path.p + 1, '/', path.n - 1);
    size_t size = slash != NULL ? (size_t)(slash - path.p) - 1 : path.n - 1;
    target->named = true;
    target->rest = slash != NULL ? span_of(slash + 1, path.n - size - 2) : (struct span){0};
    return http_percent_decode(span_of(path.p + 1, size), &target->conv) &&
           (slash == NULL || span_is(target->rest, "messages") ||
            span_is(target->rest, "records") || span_is(target->rest, "tail"));
}

static void run_conversations(struct conn *conn, const struct http_msg *msg,
                              const struct target *target)
{
    struct span c = buf_span(&target->conv);
    bool get = route_method_is(msg, "GET") || route_method_is(msg, "HEAD"),
         post = route_method_is(msg, "POST");
    bool messages = span_is(target->rest, "messages");
    if (c.p == NULL)
        c = span_of("", 0);
    if (!target->named && !get && !post)
        route_not_allowed(conn, "GET, HEAD, POST");
    else if (target->named && messages && !post)
        route_not_allowed(conn, "POST");
    else if (target->named && !messages && !get)
        route_not_allowed(conn, "GET, HEAD");
    else if (!route_identify(conn, msg))
        return;
    else if (!target->named && post)
        run_body(conn, msg, "open", (struct span){0});
    else if (!target->named)
        run_query(conn, msg, "list", (struct span){0});
    else if (messages)
        run_body(conn, msg, "send", c);
    else if (span_is(target->rest, "records"))
        run_records(conn, msg, c);
    else if (span_is(target->rest, "tail"))
        run_tail(conn, msg, c);
    else
        run_query(conn, msg, "conv", c);
}

static void run_search(struct conn *conn, const struct http_msg *msg)
{
    if (!route_method_is(msg, "GET") && !route_method_is(msg, "HEAD"))
        route_not_allowed(conn, "GET, HEAD");
    else if (route_identify(conn, msg))
        run_query(conn, msg, "search", (struct span){0});
}

/* ---- health, metrics, page ---- */

static bool metrics_allowed(const struct conn *conn, const struct http_msg *msg)
{
    if (conn->admin)
        return true;
    /* What a proxy on this machine passes on comes from elsewhere. */
    return conn->gate->settings->metrics_public && conn->local &&
           http_header_get(msg, "X-Forwarded-For") == NULL &&
           http_header_get(msg, "Forwarded") == NULL && http_header_get(msg, "Via") == NULL;
}

static bool run_health(struct conn *conn, const struct http_msg *msg)
{
    if (span_is(msg->path, "/healthz")) {
        httpd_answer(conn, 200, "text/plain", NULL, span_str("ok\n"));
    } else if (span_is(msg->path, "/readyz")) {
        bool ready = cluster_ready(&conn->gate->cluster) && conn->gate->state == GATE_SERVING;
        httpd_answer(conn, ready ? 200 : 503, "text/plain", NULL,
                     span_str(ready ? "ready\n" : "not ready\n"));
    } else if (span_is(msg->path, "/metrics") && metrics_allowed(conn, msg)) {
        struct buf text = {0};
        metrics_write(&text);
        httpd_answer(conn, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, buf_span(&text));
        buf_close(&text);
    } else {
        return false;
    }
    return true;
}

static void run_page(struct conn *conn, const struct http_msg *msg)
{
    const struct page *page = conn->gate->settings->page;
    const struct page_file *file = page != NULL ? page_find(page, msg->path) : NULL;
    if (file == NULL && page == NULL && span_is(msg->path, "/")) {
        httpd_answer(conn, 404, "text/plain", NULL,
                     span_str("The web page is not here: build it with `make web`, or name its "
                              "folder with --web.\n"));
        return;
    }
    if (file == NULL) {
        httpd_fail(conn, ERR_NOT_FOUND, "no such path");
        return;
    }
    char headers[1024];
    snprintf(headers, sizeof headers, "ETag: %s\r\nCache-Control: %s\r\n%s", file->etag,
             file->fixed ? "public, max-age=31536000, immutable" : "no-cache", PAGE_HEADERS);
    const struct span *have = http_header_get(msg, "If-None-Match");
    if (have != NULL && span_is(*have, file->etag))
        httpd_answer(conn, 304, NULL, headers, (struct span){0});
    else
        httpd_answer(conn, 200, file->type, headers, buf_span(&file->bytes));
}

void route_request(struct conn *conn, const struct http_msg *msg)
{
    struct target target = {0};
    bool get = route_method_is(msg, "GET") || route_method_is(msg, "HEAD");
    if (conn->admin) {
        if (!get)
            route_not_allowed(conn, "GET, HEAD");
        else if (!run_health(conn, msg))
            httpd_fail(conn, ERR_NOT_FOUND, "no such path");
    } else if (span_is(msg->path, "/v1/ws")) {
        upgrade(conn, msg);
    } else if (split(msg->path, &target)) {
        run_conversations(conn, msg, &target);
    } else if (span_is(msg->path, "/v1/search")) {
        run_search(conn, msg);
    } else if (jobs_route(conn, msg)) {
        /* answered, or under way */
    } else if (msg->path.n >= 4 && memcmp(msg->path.p, "/v1/", 4) == 0) {
        httpd_fail(conn, ERR_NOT_FOUND, "no such path");
    } else if (!get) {
        route_not_allowed(conn, "GET, HEAD");
    } else if (!run_health(conn, msg)) {
        run_page(conn, msg);
    }
    buf_close(&target.conv);
}
