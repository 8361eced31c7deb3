/* HTTP from anyone: how bytes are cut into reads changes neither the messages nor whether they are
 * refused, and what comes out keeps the rules of store/base/http.h.
 * First byte: bit 0 requests (otherwise responses), bit 1 streamed bodies. Second: the cuts. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "store/base/check.h"
#include "store/base/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 512 };

struct outcome {
    struct buf said;
    bool refused, upgraded;
    struct buf rest;
};

static void check_header(const struct http_header *header)
{
    ASSERT(header->name.n > 0);
    for (size_t i = 0; i < header->name.n; i++)
        ASSERT(header->name.p[i] > ' ' && header->name.p[i] != ':');
    for (size_t i = 0; i < header->value.n; i++)
        ASSERT(header->value.p[i] != '\r' && header->value.p[i] != '\n' && header->value.p[i] != 0);
}

static void say(struct outcome *outcome, const struct http_msg *msg)
{
    ASSERT(msg->header_count <= HTTP_HEADERS_MAX && msg->body.n <= BODY_MAX);
    struct buf *said = &outcome->said;
    buf_add_str(said, "\n--\n");
    buf_add_span(said, msg->method);
    buf_add_span(said, msg->path);
    buf_add_byte(said, '?');
    buf_add_span(said, msg->query);
    buf_addf(said, " %d %d %d\n", msg->status, msg->keep_alive, msg->upgrade_websocket);
    for (size_t i = 0; i < msg->header_count; i++) {
        check_header(&msg->headers[i]);
        buf_add_span(said, msg->headers[i].name);
        buf_add_span(said, msg->headers[i].value);
    }
    buf_add_span(said, msg->body);
    if (msg->request) {
        struct buf decoded = {0};
        ASSERT(msg->path.n > 0 && memchr(msg->path.p, ' ', msg->path.n) == NULL);
        http_percent_decode(msg->path, &decoded);
        http_query_get(msg->query, "a", &decoded);
        buf_close(&decoded);
    }
    outcome->upgraded |= msg->upgrade_websocket;
}

/* Takes the body that is there; false when it is refused. */
static bool stream(struct http *http, struct outcome *outcome, bool *inside)
{
    struct span piece;
    int got = 1;
    while (*inside && (got = http_body(http, &piece)) == 1)
        buf_add_span(&outcome->said, piece);
    *inside = *inside && got == 0;
    return got >= 0;
}

static void run(struct outcome *outcome, struct span in, int flags, uint8_t cut)
{
    struct http *http = http_new(flags & 1, BODY_MAX, flags & 2);
    struct http_msg msg;
    uint32_t state = cut;
    bool inside = false;
    while (in.n > 0 && !outcome->refused) {
        state = state * 1664525u + 1013904223u;
        size_t n = cut == 0 ? in.n : cut == 1 ? 1 : 1 + (state >> 16) % cut;
        n = n < in.n ? n : in.n;
        char *copy = xmalloc(n);
        memcpy(copy, in.p, n);
        int got = http_feed(http, copy, n, &msg);
        free(copy);
        in = span_of(in.p + n, in.n - n);
        while (got == 1 || inside) {
            if (got == 1) {
                say(outcome, &msg);
                inside = (flags & 2) != 0 && !outcome->upgraded;
            }
            if (!stream(http, outcome, &inside))
                got = -1;
            if (got < 0 || inside || outcome->upgraded)
                break;
            got = http_next(http, &msg);
        }
        outcome->refused = got < 0;
    }
    if (outcome->refused)
        ASSERT(http_status(http) >= 400);
    if (outcome->upgraded)
        buf_add_span(&outcome->rest, http_rest(http));
    http_free(http);
}

static void end(struct outcome *outcome)
{
    buf_close(&outcome->said);
    buf_close(&outcome->rest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span in = span_of(data + 2, size - 2);
    struct outcome whole = {0}, pieces = {0};
    run(&whole, in, data[0], 0);
    run(&pieces, in, data[0], data[1] > 0 ? data[1] : 1);
    ASSERT(whole.refused == pieces.refused && whole.upgraded == pieces.upgraded);
    if (!whole.refused) /* a refused body may have been given out in part */
        ASSERT(span_eq(buf_span(&whole.said), buf_span(&pieces.said)));
    ASSERT(span_eq(buf_span(&whole.rest), buf_span(&pieces.rest)));
    end(&whole);
    end(&pieces);
    return 0;
}
