/* store/base/http.h: HTTP/1.1 heads from a byte stream, for servers and clients (the only includer
 * of llhttp.h). Strict: see docs/PROTOCOL.md. The head is collected and guarded before llhttp sees
 * it (no bare CR, no fold, one Host, HTTP/1.1 or 1.0 only, no Transfer-Encoding except
 * chunked bodies, no TE together with CL, no trailers, no body with an upgrade).
 * Shape:  feed bytes; one message at a time comes out; its spans borrow the parser and die with the
 *         next `http_feed` or `http_next`. Pipelined bytes wait inside the parser.
 * Thread: one parser, one thread. Nothing here does I/O.
 * Limits: HTTP_HEAD_MAX bytes of head, HTTP_HEADERS_MAX headers, body_max bytes of body. */
#ifndef LOQUAT_BASE_HTTP_H
#define LOQUAT_BASE_HTTP_H

#include "store/base/buf.h"

enum { HTTP_HEAD_MAX = 16384, HTTP_HEADERS_MAX = 64 };

struct http_header {
    struct span name, value; /* value: trimmed */
};

struct http_msg {
    bool request;
    struct span method; /* "GET" */
    struct span path;   /* percent-encoded, up to '?' */
    struct span query;  /* after '?', without it */
    int status;         /* of a response */
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t header_count;
    struct span body; /* whole; responses of streams: see http_new */
    bool keep_alive;
    bool upgrade_websocket; /* GET or 101 with Upgrade: websocket and Connection: upgrade */
};

struct http; /* a parser */

/* `stream_body`: a message is handed out when its head is complete, and its body then comes in
 * pieces from `http_body` (for clients that read NDJSON or SSE). */
struct http *http_new(bool request, size_t body_max, bool stream_body);
void http_free(struct http *http);

/* 0: more bytes wanted; 1: *msg is complete; negative: ERR_BAD_REQUEST, ERR_TOO_LARGE
 * (`http_status` is the status to answer with before closing: 400, 413, 414, 431, 501, 505).
 * Bytes after an upgrade request are left for the caller: `http_rest`. */
int http_feed(struct http *http, const char *bytes, size_t n, struct http_msg *msg);
int http_next(struct http *http,
              struct http_msg *msg);                  /* after a message: the next, if it is here */
int http_body(struct http *http, struct span *piece); /* stream_body: 1 piece, 0 wait, 2 the end */
struct span http_rest(const struct http *http);
int http_status(const struct http *http);
bool http_idle(const struct http *http); /* holds no byte of an unfinished message */

const struct span *http_header_get(const struct http_msg *msg, const char *name); /* any case */
/* Query parameter, percent-decoded into `out` (cleared first). False when absent or malformed. */
bool http_query_get(struct span query, const char *name, struct buf *out);
bool http_percent_decode(struct span in, struct buf *out);
const char *http_reason(int status);

#endif
