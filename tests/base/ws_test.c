#include "store/base/ws.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "tests/lib/wsraw.h"

enum { MESSAGE_MAX = 70000, FIN = 0x80, RSV1 = 0x40, RSV2 = 0x20, RSV3 = 0x10 };
enum { CONT = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

/* One end of a connection, and what it saw: a line per event. */
struct side {
    struct ws ws;
    struct buf saw, out;
    size_t outputs;
    int close_in_message; /* code to close with from on_message */
    bool end_in_message, echo;
};

static struct side server, client;
static struct ws_pool *server_pool, *client_pool;

static struct side *side_of(struct ws *ws)
{
    return container_of(ws, struct side, ws);
}

static void on_message(struct ws *ws, struct span text)
{
    struct side *side = side_of(ws);
    buf_addf(&side->saw, "text %.*s\n", (int)text.n, text.p);
    if (side->close_in_message != 0)
        ws_send_close(ws, side->close_in_message, "enough");
    if (side->end_in_message)
        ws_close(ws);
    if (side->echo)
        wsraw_frame(&side->out, FIN | TEXT, false, text);
}

static void on_binary(struct ws *ws, struct span bytes)
{
    buf_addf(&side_of(ws)->saw, "binary %zu\n", bytes.n);
}

static void on_output(struct ws *ws, struct span bytes)
{
    buf_add_span(&side_of(ws)->out, bytes);
    side_of(ws)->outputs++;
}

static void on_close(struct ws *ws, int code)
{
    buf_addf(&side_of(ws)->saw, "close %d\n", code);
}

static void on_pong(struct ws *ws)
{
    buf_add_str(&side_of(ws)->saw, "pong\n");
}

static const struct ws_ops SERVER_OPS = {
    .on_message = on_message, .on_output = on_output, .on_close = on_close};
static const struct ws_ops CLIENT_OPS = {.on_message = on_message,
                                         .on_binary = on_binary,
                                         .on_output = on_output,
                                         .on_close = on_close,
                                         .on_pong = on_pong};

static void begin(struct side *side, struct ws_pool *pool, const struct ws_ops *ops)
{
    side->saw.n = side->out.n = side->outputs = 0;
    side->close_in_message = 0;
    side->end_in_message = side->echo = false;
    ws_init(&side->ws, pool, ops);
}

static void again(void)
{
    ws_close(&server.ws);
    ws_close(&client.ws);
    begin(&server, server_pool, &SERVER_OPS);
    begin(&client, client_pool, &CLIENT_OPS);
}

static void setup(void)
{
    server_pool = ws_pool_new(MESSAGE_MAX, true);
    client_pool = ws_pool_new(MESSAGE_MAX, false);
    begin(&server, server_pool, &SERVER_OPS);
    begin(&client, client_pool, &CLIENT_OPS);
}

static void teardown(void)
{
    ws_close(&server.ws);
    ws_close(&client.ws);
    cr_assert(eq(sz, ws_pool_in_use(server_pool), 0));
    cr_assert(eq(sz, ws_pool_in_use(client_pool), 0));
    ws_pool_free(server_pool);
    ws_pool_free(client_pool);
    buf_close(&server.saw);
    buf_close(&server.out);
    buf_close(&client.saw);
    buf_close(&client.out);
}

TestSuite(ws, .init = setup, .fini = teardown);

/* In steps, from memory of exactly that size. */
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

static const char *saw(struct side *side)
{
    buf_add_byte(&side->saw, 0);
    side->saw.n--;
    return side->saw.p;
}

/* Whole and byte by byte, with everything that must follow from it. */
static void expect(const struct buf *in, const char *events, int code)
{
    static const size_t STEPS[] = {1 << 20, 1, 2, 3, 7};
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        again();
        int err = feed(&server, buf_span(in), STEPS[i]);
        cr_assert(eq(str, (char *)saw(&server), (char *)events), "in steps of %zu", STEPS[i]);
        cr_assert(eq(int, err, code != 0 ? ERR_CLOSED : 0), "in steps of %zu", STEPS[i]);
        cr_assert(not(ws_has_context(&server.ws)), "in steps of %zu", STEPS[i]);
        if (code == 0)
            continue;
        cr_assert(ge(sz, server.out.n, 4));
        const char *close = server.out.p + server.out.n - 4;
        cr_assert(eq(int, (uint8_t)close[0], FIN | CLOSE));
        cr_assert(eq(int, close[1], 2));
        cr_assert(eq(int, get_be16(close + 2), code), "in steps of %zu", STEPS[i]);
        cr_assert(eq(int, ws_feed(&server.ws, "x", 1), ERR_CLOSED));
        cr_assert(eq(str, (char *)saw(&server), (char *)events));
    }
}

/* ---- messages ---- */

/* A text frame is one message, however its bytes come in; at rest no context is held. */
Test(ws, text_comes_whole)
{
    struct buf in = {0};
    wsraw_text(&in, FIN | TEXT, "hello");
    wsraw_text(&in, FIN | TEXT, "");
    wsraw_text(&in, FIN | TEXT, "κόσμε \xf0\x9f\x98\x80");
    expect(&in, "text hello\ntext \ntext κόσμε \xf0\x9f\x98\x80\n", 0);
    cr_assert(eq(sz, server.out.n, 0));
    buf_close(&in);
}

/* Fragments make one message; control frames come between them. */
Test(ws, fragments_make_one_message)
{
    struct buf in = {0};
    wsraw_text(&in, TEXT, "on");
    wsraw_text(&in, FIN | PING, "p");
    wsraw_text(&in, CONT, "");
    wsraw_text(&in, CONT, "e \xe2\x82");
    wsraw_text(&in, FIN | PONG, "unasked");
    wsraw_text(&in, FIN | CONT, "\xac");
    expect(&in, "text one \xe2\x82\xac\n", 0);
    cr_assert(eq(sz, server.out.n, 3));
    cr_assert(eq(int, memcmp(server.out.p, "\x8a\x01p", 3), 0));
    buf_close(&in);
}

/* Every form of the length arrives, in any steps. */
Test(ws, lengths_of_every_form)
{
    static const size_t SIZES[] = {0,    1,    125,   126,   127,        4095,
                                   4096, 4097, 65535, 65536, MESSAGE_MAX};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        struct buf in = {0}, text = {0};
        wsraw_fill(&text, 'x', SIZES[i]);
        wsraw_frame(&in, FIN | TEXT, true, buf_span(&text));
        for (size_t step = 1; step <= 1 << 17; step = step * 11 + 1) {
            again();
            cr_assert(eq(int, feed(&server, buf_span(&in), step), 0));
            cr_assert(eq(sz, server.saw.n, SIZES[i] + 6));
            cr_assert(not(ws_has_context(&server.ws)));
        }
        buf_close(&in);
        buf_close(&text);
    }
}

/* A context is held while a frame or a fragmented message is under way, and only then. */
Test(ws, contexts_are_held_only_in_the_middle)
{
    struct buf in = {0};
    wsraw_text(&in, TEXT, "a");
    size_t boundary = in.n;
    wsraw_text(&in, FIN | CONT, "b");
    for (size_t cut = 1; cut < in.n; cut++) {
        again();
        feed(&server, span_of(in.p, cut), in.n);
        cr_assert(ws_has_context(&server.ws), "after %zu of %zu bytes", cut, boundary);
        cr_assert(eq(sz, ws_pool_in_use(server_pool), 1));
        feed(&server, span_of(in.p + cut, in.n - cut), in.n);
        cr_assert(not(ws_has_context(&server.ws)));
        cr_assert(eq(sz, ws_pool_in_use(server_pool), 0));
    }
    buf_close(&in);
}

/* A connection that ends in the middle of a frame leaves nothing of it to the next one. */
Test(ws, next_connection_starts_clean)
{
    struct buf in = {0};
    wsraw_text(&in, TEXT, "left over");
    feed(&server, span_of(in.p, in.n - 3), 100);
    ws_close(&server.ws);
    cr_assert(eq(sz, ws_pool_in_use(server_pool), 0));
    in.n = 0;
    wsraw_text(&in, RSV2 | FIN | TEXT, "refused though complete");
    again();
    feed(&server, buf_span(&in), 100);
    in.n = 0;
    wsraw_text(&in, FIN | TEXT, "clean");
    expect(&in, "text clean\n", 0);
    buf_close(&in);
}

/* Many connections in the middle of frames hold a context each, and give all of them back. */
Test(ws, many_connections_share_the_pool)
{
    enum { N = 500 };
    static struct side sides[N];
    struct buf in = {0};
    wsraw_text(&in, FIN | TEXT, "hello");
    for (size_t i = 0; i < N; i++) {
        begin(&sides[i], server_pool, &SERVER_OPS);
        feed(&sides[i], span_of(in.p, 1 + i % (in.n - 1)), in.n);
    }
    cr_assert(eq(sz, ws_pool_in_use(server_pool), N));
    for (size_t i = 0; i < N; i++) {
        size_t had = 1 + i % (in.n - 1);
        feed(&sides[i], span_of(in.p + had, in.n - had), in.n);
        cr_assert(eq(str, (char *)saw(&sides[i]), (char *)"text hello\n"));
        buf_close(&sides[i].saw);
    }
    cr_assert(eq(sz, ws_pool_in_use(server_pool), 0));
    buf_close(&in);
}

/* ---- what is refused ---- */

struct refused {
    const char *what;
    int first;
    const char *payload;
    size_t n;
    int code;
};

/* Each wrong frame is answered with its code; what came before it counts. */
Test(ws, wrong_frames_are_answered_with_their_code)
{
    static const char LONG[126] = "";
    static const struct refused REFUSED[] = {
        {"rsv1: no extension", RSV1 | FIN | TEXT, "x", 1, 1002},
        {"rsv2", RSV2 | FIN | TEXT, "x", 1, 1002},
        {"rsv3 of a ping", RSV3 | FIN | PING, "", 0, 1002},
        {"opcode 3", FIN | 3, "x", 1, 1002},
        {"opcode 11", FIN | 11, "", 0, 1002},
        {"opcode 15", FIN | 15, "x", 1, 1002},
        {"stray continuation", FIN | CONT, "x", 1, 1002},
        {"stray continuation, not last", CONT, "x", 1, 1002},
        {"binary", FIN | BINARY, "x", 1, 1003},
        {"binary fragment", BINARY, "", 0, 1003},
        {"fragmented ping", PING, "x", 1, 1002},
        {"fragmented close", CLOSE, "", 0, 1002},
        {"long ping", FIN | PING, LONG, 126, 1002},
        {"long pong", FIN | PONG, LONG, 126, 1002},
        {"long close", FIN | CLOSE, LONG, 126, 1002},
        {"close of one byte", FIN | CLOSE, "\x03", 1, 1002},
        {"close 0", FIN | CLOSE, "\0\0", 2, 1002},
        {"close reason not UTF-8", FIN | CLOSE, "\x03\xe8\xce\xba\xff", 5, 1007},
        {"close reason cut short", FIN | CLOSE, "\x03\xe8\xe2\x82", 4, 1007},
        {"continuation byte", FIN | TEXT, "\x80", 1, 1007},
        {"overlong slash", FIN | TEXT, "\xc0\xaf", 2, 1007},
        {"overlong of three", FIN | TEXT, "\xe0\x9f\xbf", 3, 1007},
        {"overlong of four", FIN | TEXT, "\xf0\x8f\xbf\xbf", 4, 1007},
        {"surrogate", FIN | TEXT, "abcdefgh\xed\xa0\x80", 11, 1007},
        {"above U+10FFFF", FIN | TEXT, "\xf4\x90\x80\x80", 4, 1007},
        {"byte 0xff", FIN | TEXT, "0123456789abcdef\xff", 17, 1007},
        {"cut short", FIN | TEXT, "x\xf0\x9f\x98", 4, 1007},
    };
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        const struct refused *refused = &REFUSED[i];
        struct buf in = {0};
        char events[64];
        wsraw_text(&in, FIN | TEXT, "before");
        wsraw_frame(&in, refused->first, true, span_of(refused->payload, refused->n));
        snprintf(events, sizeof events, "text before\nclose %d\n", refused->code);
        cr_log_info("%s", refused->what);
        expect(&in, events, refused->code);
        buf_close(&in);
    }
}

/* A new message before the last one ended, a length longer than it must be, no mask. */
Test(ws, wrong_order_and_form_are_protocol_errors)
{
    struct buf in = {0};
    wsraw_text(&in, TEXT, "a");
    wsraw_text(&in, FIN | TEXT, "b");
    expect(&in, "close 1002\n", 1002);
    in.n = 0;
    buf_add(&in, "\x81\xfe\x00\x7d....", 8);
    expect(&in, "close 1002\n", 1002);
    in.n = 0;
    buf_add(&in, "\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff....", 14);
    expect(&in, "close 1002\n", 1002);
    in.n = 0;
    buf_add(&in, "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00....", 14);
    expect(&in, "close 1002\n", 1002);
    in.n = 0;
    wsraw_frame(&in, FIN | TEXT, false, span_str("no mask"));
    expect(&in, "close 1002\n", 1002);
    buf_close(&in);
}

/* Wrong UTF-8 ends the connection at its first wrong byte, not at the end of the message. */
Test(ws, wrong_text_fails_before_the_message_ends)
{
    static const char *const BAD[] = {"\xce\xba\xe1\xbd\xb9\xf4\x90", "\xed\xa0", "ok\xc1"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct buf in = {0};
        wsraw_text(&in, TEXT, "fine so far \xe2\x82");
        wsraw_text(&in, CONT, "\xac");
        wsraw_text(&in, CONT, BAD[i]);
        expect(&in, "close 1007\n", 1007);
        buf_close(&in);
    }
    struct buf in = {0};
    wsraw_head(&in, FIN | TEXT, true, 1000);
    buf_add(&in, "\0\0\0\0abc\xff", 8);
    expect(&in, "close 1007\n", 1007);
    buf_close(&in);
}

/* A message over the limit is refused by its head, whole or in fragments. */
Test(ws, too_long_messages_are_1009)
{
    struct buf in = {0}, text = {0};
    wsraw_fill(&text, 'x', MESSAGE_MAX);
    wsraw_head(&in, FIN | TEXT, true, MESSAGE_MAX + 1);
    buf_add(&in, "\0\0\0\0x", 5);
    expect(&in, "close 1009\n", 1009);
    in.n = 0;
    wsraw_head(&in, FIN | TEXT, true, INT64_MAX);
    buf_add(&in, "\0\0\0\0x", 5);
    expect(&in, "close 1009\n", 1009);
    in.n = 0;
    wsraw_frame(&in, TEXT, true, buf_span(&text));
    wsraw_head(&in, FIN | CONT, true, 1);
    buf_add(&in, "\0\0\0\0x", 5);
    expect(&in, "close 1009\n", 1009);
    in.n = 0;
    wsraw_frame(&in, TEXT, true, buf_span(&text));
    wsraw_text(&in, FIN | CONT, "");
    cr_assert(eq(int, (again(), feed(&server, buf_span(&in), in.n)), 0));
    cr_assert(eq(sz, server.saw.n, MESSAGE_MAX + 6));
    buf_close(&in);
    buf_close(&text);
}

/* ---- closing ---- */

/* Each valid code is echoed; reserved ones are a protocol error. */
Test(ws, close_codes)
{
    static const int GOOD[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011,
                               1012, 1013, 1014, 3000, 3999, 4000, 4100, 4999};
    static const int BAD[] = {1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535};
    struct buf in = {0};
    char events[32];
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        in.n = 0;
        wsraw_close(&in, GOOD[i], "γειά σου");
        wsraw_text(&in, FIN | TEXT, "ignored");
        snprintf(events, sizeof events, "close %d\n", GOOD[i]);
        expect(&in, events, GOOD[i]);
    }
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        in.n = 0;
        wsraw_close(&in, BAD[i], "");
        expect(&in, "close 1002\n", 1002);
    }
    buf_close(&in);
}

/* A close frame without a code is answered by one. */
Test(ws, close_without_code)
{
    struct buf in = {0};
    wsraw_text(&in, FIN | CLOSE, "");
    cr_assert(eq(int, feed(&server, buf_span(&in), in.n), ERR_CLOSED));
    cr_assert(eq(str, (char *)saw(&server), (char *)"close 1005\n"));
    cr_assert(eq(sz, server.out.n, 2));
    cr_assert(eq(int, memcmp(server.out.p, "\x88\0", 2), 0));
    buf_close(&in);
}

/* Our own close goes out once, with as much of its reason as fits; nothing is read after it. */
Test(ws, own_close_counts_once)
{
    char reason[200];
    memset(reason, 'r', sizeof reason);
    memcpy(reason + 122, "\xe2\x82\xac", 4);
    ws_send_close(&server.ws, 4301, reason);
    ws_send_close(&server.ws, 1000, "");
    cr_assert(eq(sz, server.out.n, 2 + 2 + 122)); /* the euro sign does not fit */
    cr_assert(eq(int, get_be16(server.out.p + 2), 4301));
    cr_assert(eq(int, ws_feed(&server.ws, "\x81\x80....", 6), ERR_CLOSED));
    cr_assert(eq(sz, server.saw.n, 0));
    cr_assert(not(ws_has_context(&server.ws)));
}

/* A close from inside a callback stops what is left of the same bytes. */
Test(ws, close_inside_a_callback)
{
    struct buf in = {0};
    wsraw_text(&in, FIN | PING, "owed");
    wsraw_text(&in, FIN | TEXT, "first");
    wsraw_text(&in, FIN | TEXT, "second");
    server.close_in_message = 4200;
    cr_assert(eq(int, feed(&server, buf_span(&in), in.n), ERR_CLOSED));
    cr_assert(eq(str, (char *)saw(&server), (char *)"text first\n"));
    cr_assert(eq(sz, server.out.n, 6 + 4 + 6));
    cr_assert(eq(int,
                 memcmp(server.out.p,
                        "\x8a\x04owed\x88\x08\x10\x68"
                        "enough",
                        16),
                 0));
    cr_assert(not(ws_has_context(&server.ws)));
    buf_close(&in);
}

/* So does the connection's end; what was owed is not sent any more. */
Test(ws, end_inside_a_callback)
{
    struct buf in = {0};
    wsraw_text(&in, TEXT, "fir");
    wsraw_text(&in, FIN | CONT, "st");
    wsraw_text(&in, FIN | PING, "not owed");
    wsraw_text(&in, FIN | TEXT, "second");
    server.end_in_message = true;
    cr_assert(eq(int, feed(&server, buf_span(&in), in.n), ERR_CLOSED));
    cr_assert(eq(str, (char *)saw(&server), (char *)"text first\n"));
    cr_assert(eq(sz, server.out.n, 0));
    cr_assert(eq(sz, ws_pool_in_use(server_pool), 0));
    ws_close(&server.ws);
    buf_close(&in);
}

/* ---- ping and pong ---- */

/* Pings are answered in order, with their payload, in one go. */
Test(ws, pings_are_answered)
{
    char payload[125];
    memset(payload, 'p', sizeof payload);
    struct buf in = {0}, want = {0};
    for (size_t n = 0; n <= 125; n += 25) {
        wsraw_frame(&in, FIN | PING, true, span_of(payload, n));
        wsraw_frame(&want, FIN | PONG, false, span_of(payload, n));
    }
    cr_assert(eq(int, feed(&server, buf_span(&in), in.n), 0));
    cr_assert(span_eq(buf_span(&server.out), buf_span(&want)));
    cr_assert(eq(sz, server.outputs, 1));
    again();
    cr_assert(eq(int, feed(&server, buf_span(&in), 1), 0));
    cr_assert(span_eq(buf_span(&server.out), buf_span(&want)));
    buf_close(&in);
    buf_close(&want);
}

/* A pong is out before what answers the message after its ping. */
Test(ws, answers_keep_the_order_of_frames)
{
    struct buf in = {0}, want = {0};
    wsraw_text(&in, TEXT, "a");
    wsraw_text(&in, FIN | PING, "1");
    wsraw_text(&in, FIN | CONT, "b");
    wsraw_text(&in, FIN | PING, "2");
    wsraw_text(&in, FIN | TEXT, "c");
    wsraw_text(&in, FIN | PING, "3");
    wsraw_frame(&want, FIN | PONG, false, span_str("1"));
    wsraw_frame(&want, FIN | TEXT, false, span_str("ab"));
    wsraw_frame(&want, FIN | PONG, false, span_str("2"));
    wsraw_frame(&want, FIN | TEXT, false, span_str("c"));
    wsraw_frame(&want, FIN | PONG, false, span_str("3"));
    for (size_t step = 1; step <= in.n; step++) {
        again();
        server.echo = true;
        cr_assert(eq(int, feed(&server, buf_span(&in), step), 0));
        cr_assert(span_eq(buf_span(&server.out), buf_span(&want)), "in steps of %zu", step);
    }
    buf_close(&in);
    buf_close(&want);
}

/* A flood of pings makes no more than the bound; the latest is answered. */
Test(ws, ping_flood_is_bounded)
{
    struct buf in = {0};
    for (int i = 0; i < 20000; i++)
        wsraw_text(&in, FIN | PING, "flood");
    wsraw_text(&in, FIN | PING, "last");
    cr_assert(eq(int, feed(&server, buf_span(&in), in.n), 0));
    cr_assert(le(sz, server.out.n, WS_CONTROL_OUT_MAX));
    cr_assert(ge(sz, server.out.n, 6));
    cr_assert(eq(int, memcmp(server.out.p + server.out.n - 6, "\x8a\x04last", 6), 0));
    cr_assert(not(ws_has_context(&server.ws)));
    buf_close(&in);
}

/* ---- the client's end ---- */

static void pass(struct side *from, struct side *to)
{
    feed(to, buf_span(&from->out), from->out.n);
    from->out.n = 0;
}

/* What one end writes the other reads; masks differ from frame to frame. */
Test(ws, both_ends_understand_each_other)
{
    char head[WS_HEAD_MAX];
    ws_frame_masked(&client.out, span_str("same"));
    ws_frame_masked(&client.out, span_str("same"));
    cr_assert(eq(sz, client.out.n, 20));
    cr_assert(not(eq(int, memcmp(client.out.p, client.out.p + 10, 10), 0)));
    ws_ping_masked(&client.out);
    pass(&client, &server);
    cr_assert(eq(str, (char *)saw(&server), (char *)"text same\ntext same\n"));
    buf_add(&server.out, head, ws_frame_head(head, 2));
    buf_add_str(&server.out, "ok");
    wsraw_frame(&server.out, FIN | BINARY, false, span_str("four"));
    wsraw_frame(&server.out, FIN | PING, false, span_str("?"));
    pass(&server, &client);
    cr_assert(eq(str, (char *)saw(&client), (char *)"pong\ntext ok\nbinary 4\n"));
    pass(&client, &server); /* the pong is masked, or the server would close */
    cr_assert(eq(str, (char *)saw(&server), (char *)"text same\ntext same\n"));
    ws_send_close(&client.ws, 1000, "bye");
    pass(&client, &server);
    cr_assert(eq(str, (char *)saw(&server), (char *)"text same\ntext same\nclose 1000\n"));
}

/* Masked frames of any size are read as they were written. */
Test(ws, masked_frames_of_every_length)
{
    static const size_t SIZES[] = {0, 1, 3, 4, 5, 125, 126, 65535, 65536, MESSAGE_MAX};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        struct buf text = {0};
        wsraw_fill(&text, 'm', SIZES[i]);
        again();
        ws_frame_masked(&client.out, buf_span(&text));
        pass(&client, &server);
        cr_assert(eq(sz, server.saw.n, SIZES[i] + 6));
        cr_assert(eq(sz, server.out.n, 0));
        buf_close(&text);
    }
}

/* A server must not mask; its close reaches the client with its code. */
Test(ws, client_refuses_masked_frames)
{
    wsraw_text(&server.out, FIN | TEXT, "masked");
    pass(&server, &client);
    cr_assert(eq(str, (char *)saw(&client), (char *)"close 1002\n"));
    pass(&client, &server);
    cr_assert(eq(str, (char *)saw(&server), (char *)"close 1002\n"));
    again();
    ws_send_close(&server.ws, 4103, "token");
    pass(&server, &client);
    cr_assert(eq(str, (char *)saw(&client), (char *)"close 4103\n"));
}
