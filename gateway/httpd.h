/* gateway/httpd.h: HTTP/1.1 on a connection: the upgrade to WebSocket, the protocol's operations as
 * requests, ranges as NDJSON, tails as Server-Sent Events, health, metrics, the web page.
 * One request of a connection at a time; the next is taken when the answer was handed over.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_HTTPD_H
#define LOQUAT_GATEWAY_HTTPD_H

#include "gateway/conn.h"

void httpd_on_bytes(struct conn *conn, const char *bytes, size_t n);
/* A whole answer. `headers`: further lines, each with CRLF; may be NULL. */
void httpd_answer(struct conn *conn, int status, const char *type, const char *headers,
                  struct span body);
/* An answer {"err":…} with the status of the error; or with another, and further headers. */
void httpd_fail(struct conn *conn, int err, const char *msg);
void httpd_fail_with(struct conn *conn, int status, const char *headers, int err, const char *msg);
/* The head of an answer that comes in pieces, each made by httpd_chunk, until httpd_end_chunks. */
void httpd_begin_chunks(struct conn *conn, const char *type);
struct frame *httpd_chunk(const struct buf *text); /* one reference, the caller's */
void httpd_end_chunks(struct conn *conn);

/* stream.c: a range as NDJSON, as fast as the client reads it. */
void httpd_stream_go_on(struct conn *conn);
void httpd_stream_end(struct conn *conn); /* from conn.c */

#endif
