#include "store/base/ws_deflate.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "tests/lib/rawdeflate.h"

/* ---- negotiation ---- */

#define BASE "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

struct rule {
    const char *offers;
    int window_bits; /* -1: against the grammar */
    const char *answer;
};

/* In memory of exactly its size. */
static int offer(const char *text, struct ws_deflate *agreed)
{
    size_t n = strlen(text);
    char *copy = xmalloc(n > 0 ? n : 1);
    memcpy(copy, text, n);
    int err = ws_deflate_offer(span_of(copy, n), agreed);
    free(copy);
    return err;
}

static void expect_rules(const struct rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct ws_deflate agreed = {0};
        int err = offer(rules[i].offers, &agreed);
        bool wrong = rules[i].window_bits < 0;
        cr_assert(eq(int, err, wrong ? ERR_BAD_REQUEST : 0), "%s", rules[i].offers);
        cr_assert(eq(int, agreed.window_bits, wrong ? 0 : rules[i].window_bits), "%s",
                  rules[i].offers);
        cr_assert(eq(str, agreed.answer, (char *)rules[i].answer), "%s", rules[i].offers);
    }
}

/* Whatever is offered in order, the answer has both no_context_takeovers, and a window only for who
 * asks for one. */
Test(ws_deflate, acceptable_offers)
{
    static const struct rule RULES[] = {
        {"permessage-deflate", 15, BASE},
        {"permessage-deflate; client_max_window_bits", 15, BASE},
        {"permessage-deflate; client_max_window_bits=8", 15, BASE},
        {"permessage-deflate;client_max_window_bits=\"15\"", 15, BASE},
        {"permessage-deflate; server_no_context_takeover", 15, BASE},
        {"permessage-deflate; client_no_context_takeover", 15, BASE},
        {"permessage-deflate; server_max_window_bits=8", 8, BASE "; server_max_window_bits=8"},
        {"permessage-deflate; server_max_window_bits=9", 9, BASE "; server_max_window_bits=9"},
        {"permessage-deflate; server_max_window_bits=10", 10, BASE "; server_max_window_bits=10"},
        {"permessage-deflate; server_max_window_bits=15", 15, BASE "; server_max_window_bits=15"},
        {"permessage-deflate; server_max_window_bits=\"12\"", 12,
         BASE "; server_max_window_bits=12"},
        {"permessage-deflate; server_max_window_bits=\"1\\2\"", 12,
         BASE "; server_max_window_bits=12"},
        {" \tpermessage-deflate\t; client_max_window_bits = 10 ;server_max_window_bits= 11; "
         "client_no_context_takeover ;server_no_context_takeover  ",
         11, BASE "; server_max_window_bits=11"},
        {", ,permessage-deflate,,", 15, BASE},
    };
    expect_rules(RULES, sizeof RULES / sizeof *RULES);
}

/* RFC 7692, 7.1: unknown, repeated or wrong parameters make an offer one that is declined. */
Test(ws_deflate, declined_offers)
{
    static const struct rule RULES[] = {
        {"", 0, ""},
        {" ", 0, ""},
        {" , ,", 0, ""},
        {"permessage-bzip2", 0, ""},
        {"permessage-deflate2", 0, ""},
        {"Permessage-Deflate", 0, ""},
        {"x-webkit-deflate-frame; no_context_takeover", 0, ""},
        {"permessage-deflate; unknown", 0, ""},
        {"permessage-deflate; unknown=1; client_max_window_bits", 0, ""},
        {"permessage-deflate; Server_No_Context_Takeover", 0, ""},
        {"permessage-deflate; server_no_context_takeover; server_no_context_takeover", 0, ""},
        {"permessage-deflate; client_no_context_takeover; client_no_context_takeover", 0, ""},
        {"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", 0, ""},
        {"permessage-deflate; client_max_window_bits; client_max_window_bits=9", 0, ""},
        {"permessage-deflate; server_no_context_takeover=1", 0, ""},
        {"permessage-deflate; client_no_context_takeover=\"true\"", 0, ""},
        {"permessage-deflate; server_no_context_takeover=8", 0, ""},
        {"permessage-deflate; server_max_window_bits", 0, ""},
        {"permessage-deflate; server_max_window_bits=7", 0, ""},
        {"permessage-deflate; server_max_window_bits=16", 0, ""},
        {"permessage-deflate; server_max_window_bits=08", 0, ""},
        {"permessage-deflate; server_max_window_bits=\"09\"", 0, ""},
        {"permessage-deflate; server_max_window_bits=100", 0, ""},
        {"permessage-deflate; server_max_window_bits=1", 0, ""},
        {"permessage-deflate; server_max_window_bits=+9", 0, ""},
        {"permessage-deflate; server_max_window_bits=-9", 0, ""},
        {"permessage-deflate; server_max_window_bits=1a", 0, ""},
        {"permessage-deflate; server_max_window_bits=99999999999999999999999", 0, ""},
        {"permessage-deflate; client_max_window_bits=7", 0, ""},
        {"permessage-deflate; client_max_window_bits=16", 0, ""},
        {"permessage-deflate; client_max_window_bits=010", 0, ""},
        {"permessage-deflate; client_max_window_bits=x", 0, ""},
    };
    expect_rules(RULES, sizeof RULES / sizeof *RULES);
}

/* Of several offers the first that is acceptable counts; those behind it change nothing. */
Test(ws_deflate, first_acceptable_offer_wins)
{
    static const struct rule RULES[] = {
        {"permessage-deflate; server_max_window_bits=10, permessage-deflate", 10,
         BASE "; server_max_window_bits=10"},
        {"permessage-deflate, permessage-deflate; server_max_window_bits=10", 15, BASE},
        {"permessage-deflate; server_max_window_bits=7, permessage-deflate; "
         "server_max_window_bits=14",
         14, BASE "; server_max_window_bits=14"},
        {"foo; a=\"b\"; c, bar, permessage-deflate; unknown,permessage-deflate", 15, BASE},
        {"permessage-deflate, foo", 15, BASE},
    };
    expect_rules(RULES, sizeof RULES / sizeof *RULES);
}

/* What is not a list of extensions at all agrees on nothing, whatever good offer stands before. */
Test(ws_deflate, wrong_grammar)
{
    static const struct rule RULES[] = {
        {"permessage-deflate;", -1, ""},
        {"permessage-deflate; ;client_max_window_bits", -1, ""},
        {"; client_max_window_bits", -1, ""},
        {"=15", -1, ""},
        {"permessage-deflate client_max_window_bits", -1, ""},
        {"permessage-deflate=1", -1, ""},
        {"permessage-deflate; server_max_window_bits=", -1, ""},
        {"permessage-deflate; server_max_window_bits= ,foo", -1, ""},
        {"permessage-deflate; server_max_window_bits=\"\"", -1, ""},
        {"permessage-deflate; server_max_window_bits=\"9", -1, ""},
        {"permessage-deflate; server_max_window_bits=\"9\\", -1, ""},
        {"permessage-deflate; server_max_window_bits=\"\\", -1, ""},
        {"permessage-deflate; server_max_window_bits=\"9 \"", -1, ""},
        {"permessage-deflate; server_max_window_bits=\"9\"9", -1, ""},
        {"permessage-deflate; server_max_window_bits=9=9", -1, ""},
        {"permessage-deflate; server_max_window_bits==9", -1, ""},
        {"permessage-deflate, \"quoted\"", -1, ""},
        {"permessage-deflate, foo; a=\"b;c\"", -1, ""},
        {"permessage-deflate, @", -1, ""},
        {"permessage-deflate, caf\xc3\xa9", -1, ""},
        {"permessage-deflate\x7f", -1, ""},
    };
    expect_rules(RULES, sizeof RULES / sizeof *RULES);
}

/* Several header lines are one list; a wrong one takes nothing back. */
Test(ws_deflate, several_header_lines)
{
    struct ws_deflate agreed = {0};
    cr_assert(eq(int, offer("foo, permessage-deflate; server_max_window_bits=7", &agreed), 0));
    cr_assert(eq(int, agreed.window_bits, 0));
    cr_assert(eq(int, offer("permessage-deflate; server_max_window_bits=11", &agreed), 0));
    cr_assert(eq(int, agreed.window_bits, 11));
    cr_assert(eq(int, offer("permessage-deflate", &agreed), 0));
    cr_assert(eq(int, offer("permessage-deflate;", &agreed), ERR_BAD_REQUEST));
    cr_assert(eq(int, agreed.window_bits, 11));
    cr_assert(eq(str, agreed.answer, (char *)BASE "; server_max_window_bits=11"));
}

/* ---- payloads ---- */

enum { MAX = 70000 };

static struct ws_zip *zip;
static struct buf text, payload, got;

static void setup(void)
{
    zip = ws_zip_new();
}

static void teardown(void)
{
    ws_zip_free(zip);
    buf_close(&text);
    buf_close(&payload);
    buf_close(&got);
}

TestSuite(ws_zip, .init = setup, .fini = teardown);

static int inflate_bytes(struct span bytes, size_t max)
{
    char *copy = xmalloc(bytes.n > 0 ? bytes.n : 1);
    memcpy(copy, bytes.p, bytes.n);
    int err = ws_zip_inflate(zip, span_of(copy, bytes.n), max, &got);
    free(copy);
    return err;
}

static const size_t SIZES[] = {0, 1, 255, 256, 257, 4095, 4096, 4097, 16383, 32768, 65536, MAX};

/* Whatever a client's zlib makes of a text, in any window and at any level, is read. */
Test(ws_zip, reads_every_window_and_level)
{
    static const int LEVELS[] = {0, 1, 6, 9};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        for (int window = 9; window <= 15; window++) {
            int level = LEVELS[(i + (size_t)window) % 4];
            bool final = (i + (size_t)window) % 3 == 0;
            text.n = payload.n = 0;
            rawdeflate_chat(&text, SIZES[i]);
            rawdeflate(&payload, buf_span(&text), level, window, final);
            cr_assert(eq(int, inflate_bytes(buf_span(&payload), MAX), 0));
            cr_assert(span_eq(buf_span(&got), buf_span(&text)), "%zu bytes, %d bits", SIZES[i],
                      window);
        }
    }
}

/* What is written is read by zlib in the window promised, and by ours; it is smaller. */
Test(ws_zip, writes_within_its_window)
{
    struct buf again = {0};
    for (size_t i = 3; i < sizeof SIZES / sizeof *SIZES; i++) {
        text.n = payload.n = again.n = 0;
        rawdeflate_chat(&text, SIZES[i]);
        buf_add_str(&payload, "before");
        cr_assert(ws_zip_deflate(zip, buf_span(&text), &payload));
        cr_assert(lt(sz, payload.n - 6, text.n));
        cr_assert(eq(int, memcmp(payload.p, "before", 6), 0));
        struct span made = span_of(payload.p + 6, payload.n - 6);
        cr_assert(rawinflate(&again, made, WS_DEFLATE_WINDOW_BITS));
        cr_assert(span_eq(buf_span(&again), buf_span(&text)));
        cr_assert(eq(int, inflate_bytes(made, MAX), 0));
        cr_assert(span_eq(buf_span(&got), buf_span(&text)));
    }
    buf_close(&again);
}

/* A text no longer than a smaller window never needs more of it. */
Test(ws_zip, short_texts_fit_smaller_windows)
{
    for (int bits = WS_DEFLATE_WINDOW_BITS_MIN; bits < WS_DEFLATE_WINDOW_BITS; bits++) {
        text.n = payload.n = got.n = 0;
        rawdeflate_chat(&text, 32);
        rawdeflate_noise(&text, ((size_t)1 << bits) - 64);
        rawdeflate_chat(&text, 32); /* repeats what is as far back as can be */
        if (!ws_zip_deflate(zip, buf_span(&text), &payload))
            cr_fatal("%d bits: not compressed", bits);
        cr_assert(rawinflate(&got, buf_span(&payload), bits), "%d bits", bits);
        cr_assert(span_eq(buf_span(&got), buf_span(&text)));
    }
}

/* Neither short texts nor such as don't get smaller are compressed; nothing is left of them. */
Test(ws_zip, compresses_only_what_is_worth_it)
{
    rawdeflate_chat(&text, WS_DEFLATE_MIN - 1);
    cr_assert(not(ws_zip_deflate(zip, buf_span(&text), &payload)));
    cr_assert(eq(sz, payload.n, 0));
    for (size_t i = 3; i < sizeof SIZES / sizeof *SIZES; i++) {
        text.n = 0;
        uint32_t state = (uint32_t)i;
        while (text.n < SIZES[i]) {
            state = state * 1664525u + 1013904223u;
            buf_add_byte(&text, (uint8_t)(state >> 24));
        }
        cr_assert(not(ws_zip_deflate(zip, buf_span(&text), &payload)), "%zu bytes", SIZES[i]);
        cr_assert(eq(sz, payload.n, 0));
    }
    text.n = 0;
    rawdeflate_chat(&text, 1000); /* the state is clean again */
    cr_assert(ws_zip_deflate(zip, buf_span(&text), &payload));
    cr_assert(eq(int, inflate_bytes(buf_span(&payload), MAX), 0));
    cr_assert(span_eq(buf_span(&got), buf_span(&text)));
}

struct example {
    const char *what, *bytes;
    size_t n;
    const char *text; /* NULL: refused */
};

/* The examples of RFC 7692, 7.2.3, and what comes close to them. */
Test(ws_zip, examples)
{
    static const struct example EXAMPLES[] = {
        {"one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello"},
        {"stored", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11, "Hello"},
        {"final", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8, "Hello"},
        {"two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13, "Hello"},
        {"empty", "\x00", 1, ""},
        {"empty fixed block", "\x02\x00", 2, ""},
        {"nothing at all", "", 0, ""},
        {"final without padding", "\xf3\x48\xcd\xc9\xc9\x07\x00", 7, "Hello"},
        {"two final blocks", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 15,
         "HelloHello"},
        {"final, then not final", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", 14,
         "HelloHello"},
        {"final and stored, its length cut off", "\x01", 1, ""},
        {"takes up the context before it", "\xf2\x00\x11\x00\x00", 5, NULL},
        {"final, then garbage", "\xf3\x48\xcd\xc9\xc9\x07\x00garbage", 14, NULL},
        {"final, then half a block", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd", 10, NULL},
        {"block type 3", "\x06", 1, NULL},
        {"stored, lengths differ", "\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00", 11, NULL},
        {"stored, cut short", "\x00\x06\x00\xf9\xff\x48", 6, NULL},
        {"the flush at its end twice", "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", 11, NULL},
        {"cut short", "\xf2\x48\xcd\xc9\xc9", 5, NULL},
        {"zlib's head", "\x78\x9c\xf3\x48\xcd\xc9\xc9\x07\x00\x05\x8c\x01\xf5", 13, NULL},
        {"plain text", "Hello", 5, NULL},
    };
    for (size_t i = 0; i < sizeof EXAMPLES / sizeof *EXAMPLES; i++) {
        const struct example *example = &EXAMPLES[i];
        int err = inflate_bytes(span_of(example->bytes, example->n), MAX);
        cr_assert(eq(int, err, example->text != NULL ? 0 : ERR_BAD_REQUEST), "%s", example->what);
        if (err == 0)
            cr_assert(span_is(buf_span(&got), example->text), "%s", example->what);
    }
}

/* A text may be as long as the bound, however badly it was compressed, and not a byte longer. */
Test(ws_zip, bound_is_exact)
{
    for (int level = 0; level <= 6; level += 3) {
        text.n = payload.n = 0;
        rawdeflate_noise(&text, MAX);
        rawdeflate(&payload, buf_span(&text), level, 9, false);
        cr_assert(le(sz, payload.n, ws_zip_payload_max(MAX)));
        cr_assert(eq(int, inflate_bytes(buf_span(&payload), MAX), 0));
        cr_assert(span_eq(buf_span(&got), buf_span(&text)));
        cr_assert(eq(int, inflate_bytes(buf_span(&payload), MAX - 1), ERR_TOO_LARGE));
    }
    cr_assert(eq(int, inflate_bytes(span_of("\xf2\x48\xcd\xc9\xc9\x07\x00", 7), 0), ERR_TOO_LARGE));
    cr_assert(eq(int, inflate_bytes(span_of("\x00", 1), 0), 0));
}

/* 64 MiB in 64 KiB: no more memory than the bound and a byte is ever held. */
Test(ws_zip, bombs_are_cut_at_the_bound)
{
    enum { BOMB = 64 << 20 };
    memset(buf_grow(&text, BOMB), ' ', BOMB);
    rawdeflate(&payload, buf_span(&text), 9, 15, false);
    cr_assert(lt(sz, payload.n, MAX));
    buf_close(&text);
    for (size_t max = 0; max <= MAX; max = max * 3 + 1) {
        buf_close(&got);
        size_t longest = payload.n < ws_zip_payload_max(max) ? payload.n : ws_zip_payload_max(max);
        cr_assert(eq(int, inflate_bytes(span_of(payload.p, longest), max), ERR_TOO_LARGE));
        cr_assert(eq(sz, got.n, max + 1));
        cr_assert(le(sz, got.cap, max + 1));
    }
}

/* Many final blocks of nothing are one empty message; they take no memory. */
Test(ws_zip, many_final_blocks)
{
    for (int i = 0; i < MAX / 2; i++)
        buf_add(&payload, "\x03\x00", 2);
    cr_assert(eq(int, inflate_bytes(buf_span(&payload), MAX), 0));
    cr_assert(eq(sz, got.n, 0));
}

/* Cut or changed payloads are refused or read as some text within the bound; the next one is read
 * as if nothing had been. */
Test(ws_zip, broken_payloads_leave_nothing_behind)
{
    struct buf good = {0}, broken = {0};
    rawdeflate_chat(&text, 600);
    rawdeflate(&good, buf_span(&text), 6, 15, false);
    size_t refused = 0;
    for (size_t i = 0; i < good.n * 8; i++) {
        broken.n = 0;
        buf_add_span(&broken, buf_span(&good));
        broken.p[i / 8] ^= (char)(1 << i % 8);
        if (i % 8 == 0)
            broken.n = i / 8;
        int err = inflate_bytes(buf_span(&broken), 2000);
        cr_assert(err == 0 || err == ERR_BAD_REQUEST || err == ERR_TOO_LARGE);
        cr_assert(le(sz, got.n, 2001));
        bool padding = i / 8 == good.n - 1 && i % 8 != 0;
        cr_assert(err != 0 || padding || !span_eq(buf_span(&got), buf_span(&text)), "bit %zu", i);
        refused += err != 0;
        cr_assert(eq(int, inflate_bytes(buf_span(&good), 2000), 0));
        cr_assert(span_eq(buf_span(&got), buf_span(&text)));
    }
    cr_assert(lt(sz, good.n, refused));
    buf_close(&good);
    buf_close(&broken);
}
