/* store/base/ws.h: WebSocket framing (RFC 6455) for both ends; the only includer of wslay.h.
 * Contexts are pooled: one is over 4 KiB, so a connection at rest holds none (struct ws is small).
 * One is taken when bytes come in and given back when they ended at a frame boundary with no
 * fragmented message open.
 * Owner:  the caller embeds struct ws in its connection; the pool belongs to a loop.
 * Thread: one pool, one thread. Nothing here does I/O: bytes in by ws_feed, bytes out by callback.
 * Limits: message_max bytes of a whole message (1009), WS_CONTROL_OUT_MAX bytes of pongs between
 *         two messages: above it only the latest ping is answered (RFC 6455, 5.5.3). The caller
 *         stops feeding while its own output waits for the other side.
 * Text is checked for UTF-8 (1007); binary is refused on servers (1003); protocol errors 1002.
 * Compression is permessage-deflate without context takeover (ws_deflate.h). To use it:
 *   handshake  struct ws_deflate agreed = {0}; ws_deflate_offer() for each header line; if
 *              agreed.window_bits != 0, "Sec-WebSocket-Extensions: <agreed.answer>" goes into the
 *              answer, and ws_use_deflate(ws, agreed.window_bits) after ws_init.
 *   reading    nothing: on_message gets the text.
 *   writing    ws_deflate_frame() once per text, for all receivers for which ws_deflate_fits() says
 *              so; the plain frame for the others, and for all when it returns false. */
#ifndef LOQUAT_BASE_WS_H
#define LOQUAT_BASE_WS_H

#include "store/base/buf.h"

enum { WS_CONTROL_OUT_MAX = 4096, WS_HEAD_MAX = 14, WS_KEY_SIZE = 24, WS_ACCEPT_SIZE = 28 };

struct ws_pool; /* contexts and scratch memory of one loop */
struct ws_pool *ws_pool_new(size_t message_max, bool server);
void ws_pool_free(struct ws_pool *pool);
size_t ws_pool_in_use(const struct ws_pool *pool);

struct ws;
struct ws_ops {
    /* A whole text message; the span dies with the return. */
    void (*on_message)(struct ws *ws, struct span text);
    void (*on_binary)(struct ws *ws, struct span bytes); /* NULL: close 1003 */
    /* Bytes that must go out now, in order with the caller's own frames (pongs, close). */
    void (*on_output)(struct ws *ws, struct span bytes);
    /* The other side's close frame, or a protocol error of theirs, was answered: flush and close.
     * `code`: theirs (1005: none), or the one the error was answered with. Once, never after a
     * ws_send_close. */
    void (*on_close)(struct ws *ws, int code);
    void (*on_pong)(struct ws *ws); /* NULL: ignored */
};

struct ws { /* 32 bytes: embedded in every connection */
    struct ws_pool *pool;
    const struct ws_ops *ops;
    void *context; /* while one is held */
    uint32_t flags;
    uint8_t deflate_bits; /* the window of what goes out; 0: no permessage-deflate */
};

void ws_init(struct ws *ws, struct ws_pool *pool, const struct ws_ops *ops);
/* permessage-deflate is in force from here on, at either end; before the first ws_feed.
 * RSV1 on the first frame of a message is allowed then, anywhere else it stays 1002. A compressed
 * message is inflated when it is whole, with memory of the pool: text over message_max is 1009, and
 * no more than a byte over it was made; what is not DEFLATE is 1007 (RFC 7692 names no code; "not
 * consistent with the type of the message" is 1007 in RFC 6455, 7.4.1), and so is wrong UTF-8. */
void ws_use_deflate(struct ws *ws, int window_bits);
/* Gives the context back; no callback after it. From within one as well: then the memory of `ws`
 * must stay until that ws_feed returns. */
void ws_close(struct ws *ws);
/* 0, or ERR_CLOSED after a close was sent or received: the caller reads no more.
 * May call every callback. Safe for the caller to mark itself closing inside one. */
int ws_feed(struct ws *ws, const char *bytes, size_t n);
/* Through on_output; the first counts. A reason over 123 bytes is cut. */
void ws_send_close(struct ws *ws, int code, const char *reason);
bool ws_has_context(const struct ws *ws);

/* A server's text frame around `payload_size` bytes: writes the head, returns its size (2, 4, 10).
 * The same bytes serve every receiver. */
size_t ws_frame_head(char head[WS_HEAD_MAX], size_t payload_size);
/* The whole frame of a server around the text, compressed, appended to `out`: it serves every
 * receiver that ws_deflate_fits allows. False, with `out` as it was, when that is not worth it
 * (under WS_DEFLATE_MIN, or no smaller): send the plain frame. Cost: see ws_zip_deflate. */
bool ws_deflate_frame(struct ws_pool *pool, struct span text, struct buf *out);
/* Whether this connection can read what ws_deflate_frame makes of a text of that size. */
bool ws_deflate_fits(const struct ws *ws, size_t text_size);
/* A client's text frame (masked with a fresh key from clock.h's randomness), appended to `out`. */
void ws_frame_masked(struct buf *out, struct span text);
void ws_ping_masked(struct buf *out);

/* Handshake: Sec-WebSocket-Accept for a key; false when the key is malformed. */
bool ws_accept(struct span key, char accept[WS_ACCEPT_SIZE + 1]);
void ws_key(char key[WS_KEY_SIZE + 1]);

#endif
