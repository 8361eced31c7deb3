/* WebSocket frames from anyone: how bytes are cut into reads changes nothing, no message that is
 * not UTF-8 gets through, and a connection that is over or at rest holds no context. First byte:
 * bit 0 the server's end (otherwise the client's), bit 1 the rest is a text that goes through as a
 * frame of the client, bit 2 permessage-deflate is in force: then the text is compressed and in two
 * fragments. Second byte: how the rest is cut. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/ws.h"
#include "tests/lib/rawdeflate.h"
#include "tests/lib/wsraw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_MAX = 1000 };

struct side {
    struct ws ws;
    struct buf saw, out;
    int closes, err;
};

static struct side *side_of(struct ws *ws)
{
    return container_of(ws, struct side, ws);
}

static void on_message(struct ws *ws, struct span text)
{
    ASSERT(text.n <= MESSAGE_MAX && utf8_valid(text));
    buf_addf(&side_of(ws)->saw, "text %zu ", text.n);
    buf_add_span(&side_of(ws)->saw, text);
}

static void on_binary(struct ws *ws, struct span bytes)
{
    ASSERT(bytes.n <= MESSAGE_MAX);
    buf_addf(&side_of(ws)->saw, "binary %zu ", bytes.n);
    buf_add_span(&side_of(ws)->saw, bytes);
}

static void on_output(struct ws *ws, struct span bytes)
{
    buf_add_span(&side_of(ws)->out, bytes);
}

static void on_close(struct ws *ws, int code)
{
    ASSERT(code >= 1000 && code <= 4999);
    buf_addf(&side_of(ws)->saw, "close %d", code);
    side_of(ws)->closes++;
}

static void on_pong(struct ws *ws)
{
    buf_addf(&side_of(ws)->saw, "pong ");
}

static const struct ws_ops SERVER_OPS = {
    .on_message = on_message, .on_output = on_output, .on_close = on_close, .on_pong = on_pong};
static const struct ws_ops CLIENT_OPS = {.on_message = on_message,
                                         .on_binary = on_binary,
                                         .on_output = on_output,
                                         .on_close = on_close,
                                         .on_pong = on_pong};

static void feed(struct side *side, struct span bytes, uint8_t cut)
{
    uint32_t state = cut;
    while (bytes.n > 0 && side->err == 0) {
        state = state * 1664525u + 1013904223u;
        size_t n = cut == 0 ? bytes.n : cut == 1 ? 1 : 1 + (state >> 16) % cut;
        n = n < bytes.n ? n : bytes.n;
        char *copy = xmalloc(n);
        memcpy(copy, bytes.p, n);
        side->err = ws_feed(&side->ws, copy, n);
        free(copy);
        bytes = span_of(bytes.p + n, bytes.n - n);
    }
    ASSERT(side->err == 0 || side->err == ERR_CLOSED);
    ASSERT((side->err != 0) == (side->closes == 1));
    ASSERT(side->err == 0 || !ws_has_context(&side->ws));
}

static void end(struct side *side)
{
    ws_close(&side->ws);
    buf_close(&side->saw);
    buf_close(&side->out);
}

static void frames(struct span bytes, bool server, bool deflate, uint8_t cut)
{
    struct ws_pool *pool = ws_pool_new(MESSAGE_MAX, server);
    struct side whole = {0}, pieces = {0};
    ws_init(&whole.ws, pool, server ? &SERVER_OPS : &CLIENT_OPS);
    ws_init(&pieces.ws, pool, server ? &SERVER_OPS : &CLIENT_OPS);
    if (deflate) {
        ws_use_deflate(&whole.ws, 15);
        ws_use_deflate(&pieces.ws, 15);
    }
    feed(&whole, bytes, 0);
    feed(&pieces, bytes, cut > 0 ? cut : 1);
    ASSERT(whole.err == pieces.err);
    ASSERT(span_eq(buf_span(&whole.saw), buf_span(&pieces.saw)));
    ASSERT(ws_has_context(&whole.ws) == ws_has_context(&pieces.ws));
    if (server &&
        bytes.n <= WS_CONTROL_OUT_MAX / 2) /* masks differ; so does what the bound drops */
        ASSERT(span_eq(buf_span(&whole.out), buf_span(&pieces.out)));
    struct ws_pool *others = ws_pool_new(MESSAGE_MAX, !server);
    struct side other = {0}; /* can read what is answered */
    ws_init(&other.ws, others, server ? &CLIENT_OPS : &SERVER_OPS);
    feed(&other, buf_span(&whole.out), 0);
    ASSERT(other.closes == whole.closes && other.out.n <= 8);
    end(&whole);
    end(&pieces);
    end(&other);
    ASSERT(ws_pool_in_use(pool) == 0 && ws_pool_in_use(others) == 0);
    ws_pool_free(pool);
    ws_pool_free(others);
}

static void add_compressed(struct buf *out, struct span text, uint8_t cut)
{
    struct buf payload = {0};
    rawdeflate(&payload, text, cut % 10, 9 + cut % 7, cut >= 128);
    size_t n = cut < payload.n ? cut : payload.n;
    wsraw_frame(out, 0x41, true, span_of(payload.p, n));
    wsraw_frame(out, 0x80, true, span_of(payload.p + n, payload.n - n));
    buf_close(&payload);
}

static void text(struct span bytes, bool deflate, uint8_t cut)
{
    struct ws_pool *pool = ws_pool_new(MESSAGE_MAX, true);
    struct side server = {0};
    struct buf frame = {0}, want = {0};
    ws_init(&server.ws, pool, &SERVER_OPS);
    if (deflate) {
        ws_use_deflate(&server.ws, 15);
        add_compressed(&frame, bytes, cut);
    } else {
        ws_frame_masked(&frame, bytes);
    }
    ws_ping_masked(&frame);
    feed(&server, buf_span(&frame), cut);
    if (bytes.n > MESSAGE_MAX) {
        buf_addf(&want, "close 1009");
    } else if (!utf8_valid(bytes)) {
        buf_addf(&want, "close 1007");
    } else {
        buf_addf(&want, "text %zu ", bytes.n);
        buf_add_span(&want, bytes);
    }
    ASSERT(span_eq(buf_span(&server.saw), buf_span(&want)));
    ASSERT(!ws_has_context(&server.ws));
    end(&server);
    ws_pool_free(pool);
    buf_close(&frame);
    buf_close(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span rest = span_of(data + 2, size - 2);
    if (data[0] & 2)
        text(rest, data[0] & 4, data[1]);
    else
        frames(rest, data[0] & 1, data[0] & 4, data[1]);
    return 0;
}
