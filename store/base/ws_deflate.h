/* store/base/ws_deflate.h: permessage-deflate (RFC 7692), always without context takeover in either
 * direction: what is offered in a handshake, and the payloads of messages. ws.h puts both to use;
 * ws_deflate.c is the only includer of zlib.h.
 * Owner:  one struct ws_zip per pool, reset for each message: no connection holds a zlib state, and
 *         what was compressed once can be read by every receiver.
 * Thread: a struct ws_zip has one; negotiation may run on any.
 * Limits: WS_DEFLATE_MIN bytes of text, below which nothing is compressed; the bound of a message
 *         for what comes in, which is never exceeded by more than one byte. */
#ifndef LOQUAT_BASE_WS_DEFLATE_H
#define LOQUAT_BASE_WS_DEFLATE_H

#include "store/base/buf.h"

enum {
    WS_DEFLATE_MIN = 256, /* below it a frame costs 8 us to save some 50 bytes */
    WS_DEFLATE_WINDOW_BITS = 12,
    WS_DEFLATE_WINDOW_BITS_MIN = 8,
    WS_DEFLATE_WINDOW_BITS_MAX = 15,
    WS_DEFLATE_ANSWER_SIZE = 128,
};

/* ---- negotiation (section 7.1) ---- */

struct ws_deflate { /* zero-initialised: nothing agreed yet */
    /* 0: not agreed. Otherwise what the client asked for, or 15: no reference in a frame to it may
     * reach further back than 1 << window_bits. */
    uint8_t window_bits;
    char answer[WS_DEFLATE_ANSWER_SIZE]; /* value of the answer's Sec-WebSocket-Extensions, or "" */
};

/* One value of Sec-WebSocket-Extensions; a request with several lines: each in its turn, with the
 * same `agreed`. The first offer that is acceptable wins. Declined is an offer with an unknown or
 * repeated parameter, a value where none belongs, none where one must be, or one that is not a
 * number from 8 to 15 without leading zeros; names are compared with their case.
 * A window of 8 bits, which zlib can't write, is accepted: texts longer than the window go to such
 * a client uncompressed (ws_deflate_fits), so no state of that size is needed. What the client says
 * of its own window is not held against it: any is read.
 * 0, or ERR_BAD_REQUEST: not in the grammar of RFC 6455, 9.1, which wants the handshake to fail
 * (400). `agreed` is as before then. */
int ws_deflate_offer(struct span offers, struct ws_deflate *agreed);

/* ---- payloads (section 7.2) ---- */

struct ws_zip; /* two zlib states, each made at its first use: 40 KiB to write, 39 KiB to read */
struct ws_zip *ws_zip_new(void);
void ws_zip_free(struct ws_zip *zip);

/* Appends the payload of a compressed frame to `out`. False, with `out` as it was: it would not be
 * smaller than the text, or the text is under WS_DEFLATE_MIN.
 * Cost (level 1, 12 bits, JSON of chats): 13 us for 512 bytes, 18 us for 1 KiB, 9 to 10 us per KiB
 * from 4 KiB on; the result is 0.51, 0.41, 0.28 of the text. A window of 15 bits is faster only
 * from 16 KiB on (7 us per KiB, 0.26), and its state of 260 KiB costs 2 us of every message that
 * finds it out of the cache. Levels 2 and 3 take 5 % longer and give 2 % less. */
bool ws_zip_deflate(struct ws_zip *zip, struct span text, struct buf *out);

/* The whole payload of a message into `text` (its memory is reused, what it held is dropped).
 * Errors: ERR_TOO_LARGE    over `max` bytes; inflating ended there.
 *         ERR_BAD_REQUEST  not a DEFLATE stream, or one that is cut short.
 * Several final blocks (BFINAL) are several streams, one after the other; garbage behind one must
 * make sense as another. A final block may be the end with or without an octet of padding after it,
 * and an empty payload is an empty message.
 * Cost: 2 us for 200 bytes, 2 us per KiB of JSON; the worst that was found (nothing but tables of
 * empty blocks) takes 80 us per KiB of payload. */
int ws_zip_inflate(struct ws_zip *zip, struct span payload, size_t max, struct buf *text);
/* How long a compressed payload may be whose text is no longer than `max`: more than what DEFLATE
 * adds to what can't be compressed. */
size_t ws_zip_payload_max(size_t max);

#endif
