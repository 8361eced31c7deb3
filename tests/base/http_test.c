#include "store/base/http.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum { BODY_MAX = 1000 };

static struct buf said; /* what came out, a line per message */

static void teardown(void)
{
    buf_close(&said);
}

TestSuite(http, .fini = teardown);

static void say(const struct http_msg *msg)
{
    if (msg->request)
        buf_addf(&said, "%.*s %.*s?%.*s", (int)msg->method.n, msg->method.p, (int)msg->path.n,
                 msg->path.p, (int)msg->query.n, msg->query.p);
    else
        buf_addf(&said, "%d", msg->status);
    buf_addf(&said, " [%.*s] %zu%s%s\n", (int)msg->body.n, msg->body.p, msg->header_count,
             msg->keep_alive ? " keep" : "", msg->upgrade_websocket ? " ws" : "");
}

/* Feeds in steps, from memory of exactly that size. Returns the error that ended it, or 0. */
static int run(struct http *http, struct span in, size_t step)
{
    int got = 0;
    said.n = 0;
    for (size_t at = 0; at < in.n && got >= 0; at += step) {
        struct http_msg msg;
        size_t n = step < in.n - at ? step : in.n - at;
        char *copy = xmalloc(n);
        memcpy(copy, in.p + at, n);
        got = http_feed(http, copy, n, &msg);
        free(copy);
        for (; got == 1; got = msg.upgrade_websocket ? 0 : http_next(http, &msg))
            say(&msg);
    }
    buf_add_byte(&said, 0);
    said.n--;
    return got;
}

static const size_t STEPS[] = {1 << 20, 1, 2, 3, 5, 17};
enum { STEPS_COUNT = sizeof STEPS / sizeof *STEPS };

static void expect(bool request, const char *in, const char *want)
{
    for (size_t i = 0; i < STEPS_COUNT; i++) {
        struct http *http = http_new(request, BODY_MAX, false);
        int err = run(http, span_str(in), STEPS[i]);
        cr_assert(eq(int, err, 0), "in steps of %zu: %s", STEPS[i], in);
        cr_assert(eq(str, said.p, (char *)want), "in steps of %zu", STEPS[i]);
        http_free(http);
    }
}

static void refused_bytes(bool request, struct span in, int status)
{
    for (size_t i = 0; i < STEPS_COUNT; i++) {
        struct http *http = http_new(request, BODY_MAX, false);
        struct http_msg msg;
        int err = run(http, in, STEPS[i]);
        cr_assert(lt(int, err, 0), "in steps of %zu: %.*s", STEPS[i], (int)in.n, in.p);
        cr_assert(eq(int, http_status(http), status), "in steps of %zu: %.*s", STEPS[i], (int)in.n,
                  in.p);
        cr_assert(eq(sz, said.n, 0), "in steps of %zu: %.*s", STEPS[i], (int)in.n, in.p);
        cr_assert(lt(int, http_feed(http, "GET ", 4, &msg), 0));
        http_free(http);
    }
}

static void refused(const char *in, int status)
{
    refused_bytes(true, span_str(in), status);
}

#define HOST "Host: h\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST
#define POST "POST /p HTTP/1.1\r\n" HOST
#define UPGRADE                                                                                    \
    "GET /v1/ws HTTP/1.1\r\n" HOST "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"

/* ---- what is taken ---- */

/* The parts of a request, the same however its bytes come. */
Test(http, request_in_any_pieces)
{
    expect(true, GET "\r\n", "GET /? [] 1 keep\n");
    expect(true, "GET /a%20b?x=1&y HTTP/1.1\r\n" HOST "A: \t b \t\r\nConnection: close\r\n\r\n",
           "GET /a%20b?x=1&y [] 3\n");
    expect(true, "GET /q?a?b HTTP/1.1\r\nhOsT:\r\n\r\n", "GET /q?a?b [] 1 keep\n");
    expect(true, "GET / HTTP/1.0\r\n\r\n", "GET /? [] 0\n");
    expect(true, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS *? [] 1 keep\n");
}

/* Bodies by length and by chunks. */
Test(http, bodies)
{
    expect(true, POST "Content-Length: 5\r\n\r\nhello", "POST /p? [hello] 2 keep\n");
    expect(true, POST "Content-Length: 0\r\n\r\n", "POST /p? [] 2 keep\n");
    expect(true,
           POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
           "POST /p? [hello world] 2 keep\n");
    expect(true, POST "transfer-encoding:Chunked\r\n\r\n0\r\n\r\n", "POST /p? [] 2 keep\n");
}

/* Requests in a row come out one by one, empty lines between them forgiven. */
Test(http, pipelining)
{
    expect(true,
           GET "\r\n" POST "Content-Length: 2\r\n\r\nab\r\n\r\n" POST
               "Transfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n" GET "\r\n",
           "GET /? [] 1 keep\nPOST /p? [ab] 2 keep\nPOST /p? [c] 2 keep\nGET /? [] 1 keep\n");
}

/* Idle: between messages, not inside one. */
Test(http, idle_between_messages)
{
    struct http *http = http_new(true, BODY_MAX, false);
    struct http_msg msg;
    cr_assert(http_idle(http));
    cr_assert(eq(int, http_feed(http, "GET", 3, &msg), 0));
    cr_assert(not(http_idle(http)));
    cr_assert(eq(int, http_feed(http, " / HTTP/1.0\r\nContent-Length: 1\r\n\r\n", 34, &msg), 0));
    cr_assert(not(http_idle(http)));
    cr_assert(eq(int, http_feed(http, "x", 1, &msg), 1));
    cr_assert(http_idle(http));
    http_free(http);
}

/* ---- upgrades ---- */

/* After an upgrade request every byte is the caller's. */
Test(http, upgrade_leaves_the_rest)
{
    static const char in[] = UPGRADE "\r\n\x81\x85GET / HTTP/1.1\r\n\r\n";
    struct span rest = span_str("\x81\x85GET / HTTP/1.1\r\n\r\n");
    for (size_t i = 0; i < STEPS_COUNT; i++) {
        struct http *http = http_new(true, BODY_MAX, false);
        int err = run(http, span_str(in), STEPS[i]);
        cr_assert(eq(int, err, 0), "step %zu, status %d", STEPS[i], http_status(http));
        cr_assert(eq(str, said.p, (char *)"GET /v1/ws? [] 3 keep ws\n"), "step %zu", STEPS[i]);
        cr_assert(span_eq(http_rest(http), rest));
        http_free(http);
    }
}

/* Only a GET of HTTP/1.1 that names websocket, with Connection: upgrade, is one. */
Test(http, other_upgrades_are_ordinary_requests)
{
    expect(true, "GET /websocket HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
           "GET /websocket? [] 3 keep\n");
    expect(true, GET "Upgrade: websocket\r\n\r\n", "GET /? [] 2 keep\n");
    expect(true, GET "Upgrade: xwebsocket\r\nConnection: upgrade\r\n\r\n", "GET /? [] 3 keep\n");
    expect(true, POST "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", "POST /p? [] 3 keep\n");
    expect(true, "GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
           "GET /? [] 2\n");
    expect(true, GET "Upgrade: h2c, WebSocket\r\nConnection: upgrade\r\n\r\n",
           "GET /? [] 3 keep ws\n");
    expect(true, "CONNECT / HTTP/1.1\r\n" HOST "\r\n" GET "\r\n",
           "CONNECT /? [] 1 keep\nGET /? [] 1 keep\n");
}

/* A handshake with a body would be read differently by whoever is in front. */
Test(http, upgrade_with_a_body_is_refused)
{
    refused(UPGRADE "Content-Length: 3\r\n\r\nabc", 400);
    refused(UPGRADE "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
}

/* ---- what is refused: shapes that two parsers read differently ---- */

Test(http, line_ends_that_lie)
{
    refused("GET / HTTP/1.1\n" HOST "\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: h\n\n", 400);
    refused("GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\r\n" HOST "\r\n", 400);
    refused(GET "A: b\r\r\n\r\n", 400);
    refused(GET "A: b\r\n folded\r\n\r\n", 400);
    refused(GET "A: b\r\n\tfolded\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400);
}

Test(http, headers_that_lie)
{
    refused(GET "Host: i\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400);
    refused(GET "A B: c\r\n\r\n", 400);
    refused(GET ": c\r\n\r\n", 400);
    refused(GET "no colon\r\n\r\n", 400);
    refused(GET "A: \x01\r\n\r\n", 400);
    refused(GET "A: \x7f\r\n\r\n", 400);
    refused_bytes(true, span_of(GET "A: b\0c\r\n\r\n", sizeof GET + 9), 400);
    refused_bytes(true, span_of("GET /\0 HTTP/1.1\r\n" HOST "\r\n", 28), 400);
}

Test(http, lengths_that_lie)
{
    refused(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    refused(POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 400);
    refused(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400);
    refused(POST "Content-Length: 1, 1\r\n\r\na", 400);
    refused(POST "Content-Length: +1\r\n\r\na", 400);
    refused(POST "Content-Length: -1\r\n\r\na", 400);
    refused(POST "Content-Length: 0x1\r\n\r\na", 400);
    refused(POST "Content-Length: 1 1\r\n\r\na", 400);
    refused(POST "Content-Length:\r\n\r\na", 400);
    refused(POST "Content-Length: 9999999999999999999999\r\n\r\na", 400);
    refused(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    refused(POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501);
    refused(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501);
    refused(POST "Transfer-Encoding: identity\r\n\r\n", 501);
    refused(POST "Transfer-Encoding: xchunked\r\n\r\n", 501);
    refused(POST "Transfer-Encoding:\vchunked\r\n\r\n", 400);
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
}

#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
Test(http, chunks_that_lie)
{
    refused(CHUNKED "x\r\n", 400);
    refused(CHUNKED "-1\r\n", 400);
    refused(CHUNKED "0x1\r\na\r\n0\r\n\r\n", 400);
    refused(CHUNKED "\r\na\r\n0\r\n\r\n", 400);
    refused(CHUNKED "1\na\r\n0\r\n\r\n", 400);
    refused(CHUNKED "1\rXa\r\n0\r\n\r\n", 400);
    refused(CHUNKED "1 \r\na\r\n0\r\n\r\n", 400);
    refused(CHUNKED "1\r\nab\r\n0\r\n\r\n", 400);
    refused(CHUNKED "1\r\na0\r\n\r\n", 400);
    refused(CHUNKED "1\r\na\n0\r\n\r\n", 400);
    refused(CHUNKED "fffffffffffffffff\r\na\r\n0\r\n\r\n", 400);
    refused(CHUNKED "0\r\nTrailer: x\r\n\r\n", 400);
    refused(CHUNKED "0\r\n\rX", 400);
    refused(CHUNKED "0\r\n\n", 400);
}

Test(http, other_protocols)
{
    refused("GET /\r\n\r\n", 400);
    refused("GET / HTTP/0.9\r\n" HOST "\r\n", 505);
    refused("GET / HTTP/2.0\r\n" HOST "\r\n", 505);
    refused("GET / HTTP/1.2\r\n" HOST "\r\n", 505);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    refused("GET / HTTP/11\r\n" HOST "\r\n", 400);
    refused("GET / http/1.1\r\n" HOST "\r\n", 400);
    refused("GET / HTTP/1.1 \r\n" HOST "\r\n", 400);
    refused("GET  / HTTP/1.1\r\n" HOST "\r\n", 400);
    refused("GET / x HTTP/1.1\r\n" HOST "\r\n", 400);
    refused("GET h HTTP/1.1\r\n" HOST "\r\n", 400);
    refused("GET http://h/ HTTP/1.1\r\n" HOST "\r\n", 400);
    refused(" GET / HTTP/1.1\r\n" HOST "\r\n", 400);
    refused("GE(T / HTTP/1.1\r\n" HOST "\r\n", 400);
    static const char TLS[] = "\x16\x03\x01\x02\x00\x01\xfc\x03\x03 a client hello\r\n\r\n";
    refused_bytes(true, span_of(TLS, sizeof TLS - 1), 400);
    refused("HTTP/1.1 200 OK\r\n\r\n", 400);
}

/* ---- bounds ---- */

static void refused_long(const char *front, char fill, size_t n, const char *back, int status)
{
    struct buf in = {0};
    buf_add_str(&in, front);
    memset(buf_grow(&in, n), fill, n);
    buf_add_str(&in, back);
    refused_bytes(true, buf_span(&in), status);
    buf_close(&in);
}

/* Heads, targets and bodies that are too long are named as such, complete or not. */
Test(http, too_long)
{
    refused_long(GET "A: ", 'a', HTTP_HEAD_MAX, "\r\n\r\n", 431);
    refused_long(GET "A: ", 'a', HTTP_HEAD_MAX, "", 431);
    refused_long("GET /", 'a', 9000, " HTTP/1.1\r\n" HOST "\r\n", 414);
    refused_long("GET /", 'a', HTTP_HEAD_MAX + 1, "", 414);
    refused(POST "Content-Length: 1001\r\n\r\n", 413);
    refused_long(CHUNKED "3e9\r\n", 'b', 1001, "", 413);
    struct buf in = {0};
    buf_add_str(&in, GET);
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        buf_addf(&in, "A%d: b\r\n", i);
    buf_add_str(&in, "\r\n");
    refused_bytes(true, buf_span(&in), 431);
    buf_close(&in);
}

/* As many headers as allowed are taken. */
Test(http, many_headers)
{
    struct buf in = {0};
    buf_add_str(&in, GET);
    for (int i = 1; i < HTTP_HEADERS_MAX; i++)
        buf_addf(&in, "A%d: b%d\r\n", i, i);
    buf_add_str(&in, "\r\n");
    struct http *http = http_new(true, BODY_MAX, false);
    struct http_msg msg;
    cr_assert(eq(int, http_feed(http, in.p, in.n, &msg), 1));
    cr_assert(eq(sz, msg.header_count, HTTP_HEADERS_MAX));
    cr_assert(span_is(*http_header_get(&msg, "a63"), "b63"));
    cr_assert(eq(ptr, (void *)http_header_get(&msg, "a64"), NULL));
    http_free(http);
    buf_close(&in);
}

/* ---- responses ---- */

Test(http, responses)
{
    expect(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 [ok] 1 keep\n");
    expect(false,
           "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
           "404 [no] 1 keep\n");
    expect(false, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 x\r\n\r\n",
           "204 [] 0 keep\n304 [] 0 keep\n");
    refused_bytes(false, span_str("HTTP/2 200\r\n\r\n"), 400);
    refused_bytes(false, span_str("HTTP/1.1 2x0 OK\r\n\r\n"), 400);
    refused_bytes(false, span_str("SSH-2.0-OpenSSH_9.2\r\n\r\n"), 400);
    refused_bytes(false,
                  span_str("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                  400);
}

/* 101: what follows belongs to the other protocol. */
Test(http, response_of_an_upgrade)
{
    static const char in[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\n\r\n\x81\x02hi";
    struct http *http = http_new(false, BODY_MAX, false);
    struct http_msg msg;
    cr_assert(eq(int, http_feed(http, in, sizeof in - 1, &msg), 1));
    cr_assert(eq(int, msg.status, 101));
    cr_assert(msg.upgrade_websocket);
    cr_assert(span_is(http_rest(http), "\x81\x02hi"));
    http_free(http);
    expect(false, "HTTP/1.1 101 To what\r\nConnection: Upgrade\r\n\r\n", "101 [] 1 keep\n");
}

/* A streamed body comes in pieces, of any total length; then its end, then the next message. */
static void stream(const char *head, const char *body, size_t step)
{
    struct http *http = http_new(false, 10, true);
    struct http_msg msg;
    struct span piece;
    struct buf whole = {0};
    cr_assert(eq(int, http_feed(http, head, strlen(head), &msg), 1));
    cr_assert(eq(int, msg.status, 200));
    int got = http_body(http, &piece);
    for (size_t at = 0; got < 2 && at < strlen(body); at += step) {
        size_t n = step < strlen(body) - at ? step : strlen(body) - at;
        cr_assert(eq(int, http_feed(http, body + at, n, &msg), 0));
        while ((got = http_body(http, &piece)) == 1)
            buf_add_span(&whole, piece);
        cr_assert(ge(int, got, 0));
    }
    cr_assert(eq(int, got, 2));
    cr_assert(span_is(buf_span(&whole), "a streamed body"));
    cr_assert(eq(int, http_body(http, &piece), 2));
    static const char next[] = "HTTP/1.1 204 Fine\r\n\r\n";
    cr_assert(eq(int, http_feed(http, next, sizeof next - 1, &msg), 1));
    cr_assert(eq(int, msg.status, 204));
    http_free(http);
    buf_close(&whole);
}

Test(http, bodies_are_streamed)
{
    for (size_t step = 1; step < 50; step += 6) {
        stream("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n", "a streamed body", step);
        stream("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
               "a\r\na streamed\r\n5\r\n body\r\n0\r\n\r\n", step);
    }
}

/* A streamed body that breaks its framing is an error, not an end. */
Test(http, broken_stream_is_an_error)
{
    static const char in[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nz\r\n";
    struct http *http = http_new(false, 10, true);
    struct http_msg msg;
    struct span piece;
    cr_assert(eq(int, http_feed(http, in, sizeof in - 1, &msg), 1));
    int got = http_body(http, &piece);
    while (got == 1)
        got = http_body(http, &piece);
    cr_assert(eq(int, got, ERR_BAD_REQUEST));
    cr_assert(eq(int, http_body(http, &piece), ERR_BAD_REQUEST));
    http_free(http);
}

/* ---- small things ---- */

static void query(const char *text, const char *name, const char *want)
{
    struct buf out = {0};
    bool there = http_query_get(span_str(text), name, &out);
    cr_assert(eq(int, there, want != NULL), "%s of %s", name, text);
    if (want != NULL)
        cr_assert(span_is(buf_span(&out), want), "%s of %s", name, text);
    buf_close(&out);
}

Test(http, query_parameters)
{
    query("a=1&bb=2&b=3", "b", "3");
    query("a=1&bb=2&b=3", "bb", "2");
    query("a=1&b", "b", "");
    query("a=%41%2f+%2B", "a", "A/ +");
    query("a=x=y&a=z", "a", "x=y");
    query("", "a", NULL);
    query("ab=1", "a", NULL);
    query("a=%4", "a", NULL);
    query("a=%", "a", NULL);
    query("a=%g0", "a", NULL);
    query("&&a=1", "a", "1");
}

Test(http, percent_decoding)
{
    struct buf out = {0};
    cr_assert(http_percent_decode(span_str("d-%e2%82%AC+x"), &out));
    cr_assert(span_is(buf_span(&out), "d-\xe2\x82\xac+x"));
    cr_assert(http_percent_decode(span_str("%00"), &out));
    cr_assert(eq(sz, out.n, 1));
    cr_assert(not(http_percent_decode(span_str("a%4"), &out)));
    cr_assert(not(http_percent_decode(span_str("%4x"), &out)));
    buf_close(&out);
}

Test(http, reasons)
{
    cr_assert(eq(str, (char *)http_reason(431), (char *)"Request Header Fields Too Large"));
    cr_assert(eq(str, (char *)http_reason(799), (char *)"Unknown"));
}
