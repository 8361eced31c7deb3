/* permessage-deflate through struct ws: which frames may be compressed, how messages are put
 * together, and what the pool keeps. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/ws.h"
#include "store/base/ws_deflate.h"
#include "tests/lib/rawdeflate.h"
#include "tests/lib/wsraw.h"

enum { MESSAGE_MAX = 70000, FIN = 0x80, RSV1 = 0x40, RSV2 = 0x20, RSV3 = 0x10 };
enum { CONT = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

_Static_assert(sizeof(struct ws) <= 32, "it is embedded in every connection");

struct side {
    struct ws ws;
    struct buf saw, out;
    struct side *nested; /* fed with `in` from on_message */
    struct buf in;
};

static struct side server, other, client;
static struct ws_pool *server_pool, *client_pool;

static struct side *side_of(struct ws *ws)
{
    return container_of(ws, struct side, ws);
}

static int feed(struct side *side, struct span bytes, size_t step)
{
    int err = 0;
    for (size_t at = 0; at < bytes.n && err == 0; at += step) {
        size_t n = step < bytes.n - at ? step : bytes.n - at;
        char *copy = xmalloc(n);
        memcpy(copy, bytes.p + at, n);
        err = ws_feed(&side->ws, copy, n);
        free(copy);
    }
    return err;
}

static void on_message(struct ws *ws, struct span text)
{
    struct side *side = side_of(ws);
    if (side->nested != NULL)
        feed(side->nested, buf_span(&side->in), side->in.n);
    cr_assert(text.p != NULL);
    buf_addf(&side->saw, "text %zu ", text.n);
    buf_add_span(&side->saw, text);
    buf_add_byte(&side->saw, '\n');
}

static void on_binary(struct ws *ws, struct span bytes)
{
    buf_addf(&side_of(ws)->saw, "binary %zu\n", bytes.n);
}

static void on_output(struct ws *ws, struct span bytes)
{
    buf_add_span(&side_of(ws)->out, bytes);
}

static void on_close(struct ws *ws, int code)
{
    buf_addf(&side_of(ws)->saw, "close %d\n", code);
}

static const struct ws_ops SERVER_OPS = {
    .on_message = on_message, .on_output = on_output, .on_close = on_close};
static const struct ws_ops CLIENT_OPS = {
    .on_message = on_message, .on_binary = on_binary, .on_output = on_output, .on_close = on_close};

static void begin(struct side *side, struct ws_pool *pool, const struct ws_ops *ops)
{
    ws_close(&side->ws);
    side->saw.n = side->out.n = side->in.n = 0;
    side->nested = NULL;
    ws_init(&side->ws, pool, ops);
    ws_use_deflate(&side->ws, 15);
}

static void setup(void)
{
    server_pool = ws_pool_new(MESSAGE_MAX, true);
    client_pool = ws_pool_new(MESSAGE_MAX, false);
    begin(&server, server_pool, &SERVER_OPS);
    begin(&other, server_pool, &SERVER_OPS);
    begin(&client, client_pool, &CLIENT_OPS);
}

static void end(struct side *side)
{
    ws_close(&side->ws);
    buf_close(&side->saw);
    buf_close(&side->out);
    buf_close(&side->in);
}

static void teardown(void)
{
    end(&server);
    end(&other);
    end(&client);
    cr_assert(eq(sz, ws_pool_in_use(server_pool), 0));
    cr_assert(eq(sz, ws_pool_in_use(client_pool), 0));
    ws_pool_free(server_pool);
    ws_pool_free(client_pool);
}

TestSuite(ws_compressed, .init = setup, .fini = teardown);

static void expect_saw(const struct side *side, struct span want, const char *what)
{
    cr_assert(span_eq(buf_span(&side->saw), want), "%s: saw %.*s", what, (int)side->saw.n,
              side->saw.p);
}

/* Whole and in steps; `code` 0: no close. */
static void expect(const struct buf *in, struct span events, int code, const char *what)
{
    static const size_t STEPS[] = {1 << 20, 1, 2, 3, 7};
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        begin(&server, server_pool, &SERVER_OPS);
        int err = feed(&server, buf_span(in), STEPS[i]);
        cr_assert(eq(int, err, code != 0 ? ERR_CLOSED : 0), "%s", what);
        expect_saw(&server, events, what);
        cr_assert(not(ws_has_context(&server.ws)), "%s", what);
        if (code != 0)
            cr_assert(eq(int, get_be16(server.out.p + server.out.n - 2), code), "%s", what);
    }
}

static void add_compressed(struct buf *in, struct span text)
{
    struct buf payload = {0};
    rawdeflate(&payload, text, 6, 15, false);
    wsraw_frame(in, FIN | RSV1 | TEXT, true, buf_span(&payload));
    buf_close(&payload);
}

/* ---- reading ---- */

/* Compressed and plain messages in any order, whatever their size, however they come in. */
Test(ws_compressed, messages_of_both_kinds)
{
    static const size_t SIZES[] = {0, 1, 200, 5000, 70000};
    struct buf in = {0}, want = {0}, text = {0};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        text.n = 0;
        rawdeflate_chat(&text, SIZES[i]);
        add_compressed(&in, buf_span(&text));
        wsraw_frame(&in, FIN | TEXT, true, buf_span(&text));
        for (int both = 0; both < 2; both++) {
            buf_addf(&want, "text %zu ", text.n);
            buf_add_span(&want, buf_span(&text));
            buf_add_byte(&want, '\n');
        }
    }
    expect(&in, buf_span(&want), 0, "both kinds");
    cr_assert(eq(sz, server.out.n, 0));
    buf_close(&in);
    buf_close(&want);
    buf_close(&text);
}

/* A compressed message in fragments cut anywhere, empty ones and control frames among them. */
Test(ws_compressed, fragments_of_every_cut)
{
    static const char SAYS[] = "text 16 Hello Hello \xe2\x82\xac!\n";
    struct buf payload = {0};
    rawdeflate(&payload, span_of(SAYS + 8, 16), 6, 15, false);
    for (size_t a = 0; a <= payload.n; a++) {
        for (size_t b = a; b <= payload.n; b++) {
            struct buf in = {0};
            wsraw_frame(&in, RSV1 | TEXT, true, span_of(payload.p, a));
            wsraw_text(&in, FIN | PING, "p");
            wsraw_frame(&in, CONT, true, span_of(payload.p + a, b - a));
            wsraw_text(&in, FIN | PONG, "");
            wsraw_frame(&in, FIN | CONT, true, span_of(payload.p + b, payload.n - b));
            expect(&in, span_str(SAYS), 0, "fragments");
            cr_assert(eq(sz, server.out.n, 3));
            cr_assert(eq(int, memcmp(server.out.p, "\x8a\x01p", 3), 0));
            buf_close(&in);
        }
    }
    buf_close(&payload);
}

/* A compressed message of no bytes at all is an empty one, also as the first that a pool sees. */
Test(ws_compressed, empty_payload_is_an_empty_message)
{
    struct buf in = {0};
    wsraw_text(&in, FIN | RSV1 | TEXT, "");
    wsraw_text(&in, RSV1 | TEXT, "");
    wsraw_text(&in, FIN | CONT, "");
    expect(&in, span_str("text 0 \ntext 0 \n"), 0, "empty");
    buf_close(&in);
}

struct frame {
    const char *what;
    int first, then; /* `then` < 0: none */
    const char *bytes;
    size_t n;
    int code;
};

/* RFC 7692, 6: the bit stands on the first frame of a data message or nowhere; the other two mean
 * nothing. Wrong bytes in a compressed message have the code that they have in a plain one. */
Test(ws_compressed, wrong_frames_are_answered_with_their_code)
{
    static const struct frame FRAMES[] = {
        {"rsv2", FIN | RSV2 | TEXT, -1, "x", 1, 1002},
        {"rsv3", FIN | RSV3 | TEXT, -1, "x", 1, 1002},
        {"rsv1 and rsv2", FIN | RSV1 | RSV2 | TEXT, -1, "\x00", 1, 1002},
        {"rsv1 and rsv3", FIN | RSV1 | RSV3 | TEXT, -1, "\x00", 1, 1002},
        {"rsv1 of a ping", FIN | RSV1 | PING, -1, "", 0, 1002},
        {"rsv1 of a pong", FIN | RSV1 | PONG, -1, "", 0, 1002},
        {"rsv1 of a close", FIN | RSV1 | CLOSE, -1, "", 0, 1002},
        {"rsv1 of a stray continuation", FIN | RSV1 | CONT, -1, "\x00", 1, 1002},
        {"rsv1 of opcode 3", FIN | RSV1 | 3, -1, "", 0, 1002},
        {"rsv1 again", RSV1 | TEXT, FIN | RSV1 | CONT, "\xf2\x48", 2, 1002},
        {"rsv1 only on the second", TEXT, FIN | RSV1 | CONT, "x", 1, 1002},
        {"rsv1 of a ping in between", RSV1 | TEXT, FIN | RSV1 | PING, "\xf2\x48", 2, 1002},
        {"binary", FIN | RSV1 | BINARY, -1, "\x00", 1, 1003},
        {"not DEFLATE", FIN | RSV1 | TEXT, -1, "Hello", 5, 1007},
        {"cut short", FIN | RSV1 | TEXT, -1, "\xf2\x48\xcd\xc9\xc9", 5, 1007},
        {"context of another message", FIN | RSV1 | TEXT, -1, "\xf2\x00\x11\x00\x00", 5, 1007},
        {"final, then garbage", FIN | RSV1 | TEXT, -1, "\xf3\x48\xcd\xc9\xc9\x07\x00garbage", 14,
         1007},
        {"not UTF-8", FIN | RSV1 | TEXT, -1, "\x00\x01\x00\xfe\xff\xff\x00", 7, 1007},
        {"UTF-8 cut short", FIN | RSV1 | TEXT, -1, "\x00\x02\x00\xfd\xff\xe2\x82\x00", 8, 1007},
    };
    for (size_t i = 0; i < sizeof FRAMES / sizeof *FRAMES; i++) {
        const struct frame *frame = &FRAMES[i];
        struct buf in = {0};
        char events[64];
        add_compressed(&in, span_str("before"));
        wsraw_frame(&in, frame->first, true, span_of(frame->bytes, frame->n));
        if (frame->then >= 0)
            wsraw_text(&in, frame->then, "");
        add_compressed(&in, span_str("after"));
        snprintf(events, sizeof events, "text 6 before\nclose %d\n", frame->code);
        expect(&in, span_str(events), frame->code, frame->what);
        buf_close(&in);
    }
}

/* Without the extension RSV1 is refused, also after a connection of the same pool that has it. */
Test(ws_compressed, not_without_the_extension)
{
    struct buf in = {0};
    add_compressed(&in, span_str("Hello"));
    cr_assert(eq(int, feed(&other, buf_span(&in), in.n), 0));
    ws_close(&server.ws);
    ws_init(&server.ws, server_pool, &SERVER_OPS);
    cr_assert(eq(int, feed(&server, buf_span(&in), in.n), ERR_CLOSED));
    expect_saw(&server, span_str("close 1002\n"), "plain");
    buf_close(&in);
}

/* A text over the limit is 1009 whatever it was compressed to, and so is a payload that no text
 * within the limit can have; the latter by its head. At the limit all is well. */
Test(ws_compressed, too_long_messages_are_1009)
{
    enum { BOMB = 32 << 20 };
    struct buf in = {0}, text = {0}, payload = {0}, want = {0};
    memset(buf_grow(&text, BOMB), ' ', BOMB);
    add_compressed(&in, buf_span(&text));
    cr_assert(lt(sz, in.n, MESSAGE_MAX));
    expect(&in, span_str("close 1009\n"), 1009, "bomb");
    in.n = 0;
    add_compressed(&in, span_of(text.p, MESSAGE_MAX + 1));
    expect(&in, span_str("close 1009\n"), 1009, "one byte over");
    in.n = 0;
    rawdeflate(&payload, span_of(text.p, MESSAGE_MAX), 0, 9, false);
    wsraw_frame(&in, FIN | RSV1 | TEXT, true, buf_span(&payload));
    buf_addf(&want, "text %d ", MESSAGE_MAX);
    buf_add_span(&want, span_of(text.p, MESSAGE_MAX));
    buf_add_byte(&want, '\n');
    cr_assert(lt(sz, MESSAGE_MAX, payload.n));
    expect(&in, buf_span(&want), 0, "at the limit, and longer on the way");
    in.n = 0;
    wsraw_head(&in, FIN | RSV1 | TEXT, true, ws_zip_payload_max(MESSAGE_MAX) + 1);
    buf_add(&in, "\0\0\0\0x", 5);
    expect(&in, span_str("close 1009\n"), 1009, "by its head");
    in.n = 0;
    wsraw_frame(&in, RSV1 | TEXT, true, span_of(text.p, ws_zip_payload_max(MESSAGE_MAX)));
    wsraw_head(&in, FIN | CONT, true, 1);
    buf_add(&in, "\0\0\0\0x", 5);
    expect(&in, span_str("close 1009\n"), 1009, "by the head of a fragment");
    buf_close(&in);
    buf_close(&text);
    buf_close(&payload);
    buf_close(&want);
}

/* Two connections in the middle of compressed messages do not see each other's. */
Test(ws_compressed, connections_take_turns)
{
    struct buf one = {0}, two = {0};
    add_compressed(&one, span_str("one one one one one"));
    add_compressed(&two, span_str("two two two two two"));
    size_t n = one.n < two.n ? one.n : two.n;
    for (size_t cut = 1; cut < n; cut++) {
        begin(&server, server_pool, &SERVER_OPS);
        begin(&other, server_pool, &SERVER_OPS);
        feed(&server, span_of(one.p, cut), cut);
        feed(&other, span_of(two.p, cut), cut);
        cr_assert(eq(sz, ws_pool_in_use(server_pool), 2));
        feed(&server, span_of(one.p + cut, one.n - cut), one.n);
        feed(&other, span_of(two.p + cut, two.n - cut), two.n);
        expect_saw(&server, span_str("text 19 one one one one one\n"), "first");
        expect_saw(&other, span_str("text 19 two two two two two\n"), "second");
        cr_assert(eq(sz, ws_pool_in_use(server_pool), 0));
    }
    buf_close(&one);
    buf_close(&two);
}

/* A callback that feeds another connection of the pool keeps its own text. */
Test(ws_compressed, feeding_from_a_callback)
{
    struct buf in = {0};
    add_compressed(&in, span_str("outside"));
    add_compressed(&in, span_str("again"));
    add_compressed(&server.in, span_str("inside"));
    server.nested = &other;
    cr_assert(eq(int, feed(&server, buf_span(&in), in.n), 0));
    expect_saw(&server, span_str("text 7 outside\ntext 5 again\n"), "outside");
    expect_saw(&other, span_str("text 6 inside\ntext 6 inside\n"), "inside");
    buf_close(&in);
}

/* A message that was refused, or that never ended, leaves nothing to the next connection. */
Test(ws_compressed, next_connection_starts_clean)
{
    struct buf half = {0}, broken = {0}, in = {0};
    wsraw_frame(&half, RSV1 | TEXT, true, span_of("\xf2\x48\xcd", 3));
    wsraw_frame(&broken, FIN | RSV1 | TEXT, true, span_of("\xf2\x48\xcd", 3));
    add_compressed(&in, span_str("clean"));
    wsraw_text(&in, FIN | TEXT, "plain");
    for (int i = 0; i < 3; i++) {
        feed(&other, i == 0 ? buf_span(&half) : buf_span(&broken), 100);
        ws_close(&other.ws);
        expect(&in, span_str("text 5 clean\ntext 5 plain\n"), 0, "after a broken one");
        begin(&other, server_pool, &SERVER_OPS);
    }
    buf_close(&half);
    buf_close(&broken);
    buf_close(&in);
}

/* ---- writing ---- */

/* A frame is made once and read by every receiver; heads of each form. */
Test(ws_compressed, one_frame_serves_many_receivers)
{
    static const size_t SIZES[] = {256, 600, 5000, 60000, MESSAGE_MAX};
    struct buf text = {0}, frame = {0}, want = {0};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        text.n = want.n = frame.n = 0;
        rawdeflate_chat(&text, SIZES[i]);
        buf_add_str(&frame, "*");
        cr_assert(ws_deflate_frame(server_pool, buf_span(&text), &frame));
        cr_assert(eq(int, frame.p[0], '*'));
        cr_assert(eq(int, (uint8_t)frame.p[1], FIN | RSV1 | TEXT));
        cr_assert(lt(sz, frame.n - 1, text.n));
        buf_addf(&want, "text %zu ", text.n);
        buf_add_span(&want, buf_span(&text));
        buf_add_byte(&want, '\n');
        for (int receiver = 0; receiver < 3; receiver++) {
            begin(&client, client_pool, &CLIENT_OPS);
            cr_assert(eq(int, feed(&client, span_of(frame.p + 1, frame.n - 1), 1 + i * 100), 0));
            expect_saw(&client, buf_span(&want), "receiver");
        }
    }
    text.n = frame.n = 0;
    rawdeflate_noise(&text, 300000); /* more than 65,535 bytes of payload */
    cr_assert(ws_deflate_frame(server_pool, buf_span(&text), &frame));
    cr_assert(eq(int, (uint8_t)frame.p[1], 127));
    cr_assert(eq(u64, get_be64(frame.p + 2), frame.n - 10));
    buf_close(&text);
    buf_close(&frame);
    buf_close(&want);
}

/* No frame is made of what is short or does not get smaller: not a byte of it. */
Test(ws_compressed, no_frame_when_it_is_not_worth_it)
{
    struct buf text = {0}, frame = {0};
    cr_assert(not(ws_deflate_frame(server_pool, span_of("", 0), &frame)));
    rawdeflate_chat(&text, WS_DEFLATE_MIN - 1);
    cr_assert(not(ws_deflate_frame(server_pool, buf_span(&text), &frame)));
    text.n = 0;
    for (uint32_t i = 0, state = 1; i < 1000; i++, state = state * 1664525u + 1013904223u)
        buf_add_byte(&text, (uint8_t)(state >> 24));
    cr_assert(not(ws_deflate_frame(server_pool, buf_span(&text), &frame)));
    cr_assert(eq(sz, frame.n, 0));
    buf_close(&text);
    buf_close(&frame);
}

/* Who asked for a small window gets compressed only what fits it; who has no extension, nothing. */
Test(ws_compressed, small_windows_get_short_texts)
{
    static const size_t LONGEST[] = {256, 512, 1024, 2048};
    for (int bits = WS_DEFLATE_WINDOW_BITS_MIN; bits <= WS_DEFLATE_WINDOW_BITS_MAX; bits++) {
        ws_use_deflate(&server.ws, bits);
        bool small = bits < WS_DEFLATE_WINDOW_BITS;
        size_t longest = small ? LONGEST[bits - WS_DEFLATE_WINDOW_BITS_MIN] : SIZE_MAX;
        cr_assert(ws_deflate_fits(&server.ws, longest), "%d", bits);
        cr_assert(small == !ws_deflate_fits(&server.ws, small ? longest + 1 : longest), "%d", bits);
    }
    ws_init(&server.ws, server_pool, &SERVER_OPS);
    cr_assert(not(ws_deflate_fits(&server.ws, 1)));
}

/* A client's end follows the same rules: binary too, and its close is masked. */
Test(ws_compressed, client_end)
{
    struct buf in = {0};
    wsraw_frame(&in, FIN | RSV1 | BINARY, false, span_of("\xf2\x48\xcd\xc9\xc9\x07\x00", 7));
    wsraw_frame(&in, FIN | RSV1 | TEXT, false, span_of("\xf2\x48\xcd\xc9\xc9\x07\x00", 7));
    wsraw_frame(&in, FIN | RSV1 | TEXT, false, span_of("\xff", 1));
    cr_assert(eq(int, feed(&client, buf_span(&in), 5), ERR_CLOSED));
    expect_saw(&client, span_str("binary 5\ntext 5 Hello\nclose 1007\n"), "client");
    feed(&server, buf_span(&client.out), 100);
    expect_saw(&server, span_str("close 1007\n"), "server");
    buf_close(&in);
}
