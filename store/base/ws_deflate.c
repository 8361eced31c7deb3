#include "store/base/ws_deflate.h"

#include <stdio.h>
#include <stdlib.h>
#define ZLIB_CONST /* input is const */
#include <zlib.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum {
    LEVEL = 1,
    MEM_LEVEL = 5, /* 2,048 symbols per block, a hash of 8 KiB to clear per message */
    TAIL_SIZE = 4,
    BLOCK = 16384, /* first size of what a payload is inflated into */
    VALUE_MAX = 2  /* of a parameter: no valid one is longer */
};

/* What ends every flush, and is left out of every payload (7.2.1). */
static const char TAIL[TAIL_SIZE] = {0, 0, (char)0xff, (char)0xff};

/* ---- negotiation ---- */

enum param {
    SERVER_NO_CONTEXT = 1,
    CLIENT_NO_CONTEXT = 2,
    SERVER_WINDOW = 4,
    CLIENT_WINDOW = 8,
};

static const struct {
    const char *name;
    enum param param;
    bool value_allowed, value_needed;
} PARAMS[] = {
    {"server_no_context_takeover", SERVER_NO_CONTEXT, false, false},
    {"client_no_context_takeover", CLIENT_NO_CONTEXT, false, false},
    {"server_max_window_bits", SERVER_WINDOW, true, true},
    {"client_max_window_bits", CLIENT_WINDOW, true, false},
};

struct scan { /* what is left of a header's value */
    const char *p, *end;
};

struct offer {
    bool declined;
    unsigned params; /* those seen */
    uint8_t window_bits;
};

struct value {
    bool there;
    size_t n; /* may be over VALUE_MAX: only so much is kept */
    char text[VALUE_MAX];
};

static bool token_byte(char c)
{
    return c > ' ' && c < 0x7f && strchr("()<>@,;:\\\"/[]?={}", c) == NULL;
}

static void skip_space(struct scan *scan)
{
    while (scan->p < scan->end && (*scan->p == ' ' || *scan->p == '\t'))
        scan->p++;
}

static bool take_byte(struct scan *scan, char c)
{
    skip_space(scan);
    if (scan->p == scan->end || *scan->p != c)
        return false;
    scan->p++;
    return true;
}

static bool take_token(struct scan *scan, struct span *token)
{
    skip_space(scan);
    const char *from = scan->p;
    while (scan->p < scan->end && token_byte(*scan->p))
        scan->p++;
    *token = span_of(from, (size_t)(scan->p - from));
    return token->n > 0;
}

static void value_add(struct value *value, char c)
{
    if (value->n < VALUE_MAX)
        value->text[value->n] = c;
    value->n++;
}

/* After the quote. What stands between quotes must be a token as well (RFC 6455, 9.1). */
static bool take_quoted(struct scan *scan, struct value *value)
{
    while (scan->p < scan->end && *scan->p != '"') {
        if (*scan->p == '\\' && ++scan->p == scan->end)
            return false;
        if (!token_byte(*scan->p))
            return false;
        value_add(value, *scan->p++);
    }
    return value->n > 0 && take_byte(scan, '"');
}

static bool take_value(struct scan *scan, struct value *value)
{
    struct span token;
    value->there = true;
    if (take_byte(scan, '"'))
        return take_quoted(scan, value);
    if (!take_token(scan, &token))
        return false;
    for (size_t i = 0; i < token.n; i++)
        value_add(value, token.p[i]);
    return true;
}

static uint8_t window_bits_of(const struct value *value) /* 0: not one */
{
    for (int bits = WS_DEFLATE_WINDOW_BITS_MIN; bits <= WS_DEFLATE_WINDOW_BITS_MAX; bits++) {
        char text[4];
        int n = snprintf(text, sizeof text, "%d", bits);
        if (span_eq(span_of(text, (size_t)n), span_of(value->text, value->n)))
            return (uint8_t)bits;
    }
    return 0;
}

static bool param_fits(struct offer *offer, struct span name, const struct value *value)
{
    for (size_t i = 0; i < sizeof PARAMS / sizeof *PARAMS; i++) {
        if (!span_is(name, PARAMS[i].name))
            continue;
        if (offer->params & PARAMS[i].param)
            return false;
        offer->params |= PARAMS[i].param;
        if (!value->there)
            return !PARAMS[i].value_needed;
        uint8_t bits = window_bits_of(value);
        if (PARAMS[i].param == SERVER_WINDOW)
            offer->window_bits = bits;
        return PARAMS[i].value_allowed && bits != 0;
    }
    return false;
}

static bool take_offer(struct scan *scan, struct offer *offer)
{
    struct span name;
    if (!take_token(scan, &name))
        return false;
    offer->declined = !span_is(name, "permessage-deflate");
    while (take_byte(scan, ';')) {
        struct value value = {0};
        if (!take_token(scan, &name))
            return false;
        if (take_byte(scan, '=') && !take_value(scan, &value))
            return false;
        if (!offer->declined)
            offer->declined = !param_fits(offer, name, &value);
    }
    skip_space(scan);
    return scan->p == scan->end || *scan->p == ',';
}

static void accept(const struct offer *offer, struct ws_deflate *agreed)
{
    bool asked = (offer->params & SERVER_WINDOW) != 0;
    agreed->window_bits = asked ? offer->window_bits : WS_DEFLATE_WINDOW_BITS_MAX;
    int n = snprintf(agreed->answer, sizeof agreed->answer,
                     "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    if (asked)
        n += snprintf(agreed->answer + n, sizeof agreed->answer - (size_t)n,
                      "; server_max_window_bits=%d", agreed->window_bits);
    ASSERT(n > 0 && (size_t)n < sizeof agreed->answer);
}

int ws_deflate_offer(struct span offers, struct ws_deflate *agreed)
{
    struct scan scan = {offers.p, offers.p + offers.n};
    struct ws_deflate found = *agreed;
    for (;;) {
        while (take_byte(&scan, ',')) /* a list may have empty places */
            ;
        if (scan.p == scan.end)
            break;
        struct offer offer = {0};
        if (!take_offer(&scan, &offer))
            return ERR_BAD_REQUEST;
        if (!offer.declined && found.window_bits == 0)
            accept(&offer, &found);
    }
    *agreed = found;
    return 0;
}

/* ---- payloads ---- */

struct ws_zip {
    z_stream out, in;
    bool can_write, can_read; /* the stream is made */
};

static void *zip_on_alloc(void *context, unsigned count, unsigned size)
{
    (void)context;
    return xcalloc(count, size);
}

static void zip_on_free(void *context, void *p)
{
    (void)context;
    free(p);
}

struct ws_zip *ws_zip_new(void)
{
    struct ws_zip *zip = xcalloc(1, sizeof *zip);
    zip->out.zalloc = zip->in.zalloc = zip_on_alloc;
    zip->out.zfree = zip->in.zfree = zip_on_free;
    return zip;
}

void ws_zip_free(struct ws_zip *zip)
{
    if (zip == NULL)
        return;
    if (zip->can_write)
        (void)deflateEnd(
            &zip->out); /* Z_DATA_ERROR: something was left to flush; nobody wants it */
    if (zip->can_read)
        ASSERT(inflateEnd(&zip->in) == Z_OK);
    free(zip);
}

bool ws_zip_deflate(struct ws_zip *zip, struct span text, struct buf *out)
{
    z_stream *stream = &zip->out;
    ASSERT(text.n <= UINT32_MAX - TAIL_SIZE);
    if (text.n < WS_DEFLATE_MIN)
        return false;
    int rv = zip->can_write ? deflateReset(stream)
                            : deflateInit2(stream, LEVEL, Z_DEFLATED, -WS_DEFLATE_WINDOW_BITS,
                                           MEM_LEVEL, Z_DEFAULT_STRATEGY);
    if (rv == Z_MEM_ERROR)
        check_no_memory(0);
    ASSERT(rv == Z_OK);
    zip->can_write = true;
    buf_reserve(out, text.n + TAIL_SIZE);
    stream->next_in = (const Bytef *)text.p;
    stream->avail_in = (uInt)text.n;
    stream->next_out = (Bytef *)out->p + out->n;
    stream->avail_out = (uInt)text.n + TAIL_SIZE;
    rv = deflate(stream, Z_SYNC_FLUSH);
    ASSERT(rv == Z_OK);
    if (stream->avail_out == 0) /* no smaller, or not even all of it */
        return false;
    ASSERT(stream->avail_in == 0);
    out->n += text.n - stream->avail_out;
    ASSERT(memcmp(out->p + out->n, TAIL, TAIL_SIZE) == 0);
    return true;
}

size_t ws_zip_payload_max(size_t max)
{
    ASSERT(max <= UINT32_MAX / 2); /* what zlib counts in */
    return max + max / 8 + 64;
}

/* Room for at least a byte more, in steps that double, up to one byte over `max`. */
static void make_room(struct buf *text, size_t max)
{
    if (text->n < text->cap)
        return;
    size_t cap = text->cap < BLOCK / 2 ? BLOCK : text->cap * 2;
    text->cap = cap < max + 1 ? cap : max + 1;
    text->p = xrealloc(text->p, text->cap);
}

/* `ended`: the bytes so far end with a final block. */
static int inflate_part(z_stream *stream, struct span part, size_t max, struct buf *text,
                        bool *ended)
{
    stream->next_in = (const Bytef *)part.p;
    stream->avail_in = (uInt)part.n;
    for (;;) {
        if (*ended && stream->avail_in == 0)
            return 0;
        if (*ended && inflateReset(stream) != Z_OK)
            return ERR_INTERNAL;
        make_room(text, max);
        size_t room = (text->cap < max + 1 ? text->cap : max + 1) - text->n;
        stream->next_out = (Bytef *)text->p + text->n;
        stream->avail_out = (uInt)room;
        int rv = inflate(stream, Z_SYNC_FLUSH);
        if (rv == Z_MEM_ERROR) /* its window; not the sender's fault */
            check_no_memory(0);
        text->n += room - stream->avail_out;
        if (text->n > max)
            return ERR_TOO_LARGE;
        *ended = rv == Z_STREAM_END;
        if (*ended)
            continue;
        if (rv != Z_OK && rv != Z_BUF_ERROR)
            return ERR_BAD_REQUEST;
        if (stream->avail_out > 0)
            return 0; /* it stopped for want of input */
    }
}

int ws_zip_inflate(struct ws_zip *zip, struct span payload, size_t max, struct buf *text)
{
    z_stream *stream = &zip->in;
    text->n = 0;
    ASSERT(payload.n <= ws_zip_payload_max(max));
    make_room(text, max);
    if (payload.n == 0)
        return 0;
    int rv = zip->can_read ? inflateReset(stream) : inflateInit2(stream, -MAX_WBITS);
    if (rv == Z_MEM_ERROR)
        check_no_memory(0);
    ASSERT(rv == Z_OK);
    zip->can_read = true;
    bool ended = false;
    int err = inflate_part(stream, payload, max, text, &ended);
    if (err != 0 || ended)
        return err;
    err = inflate_part(stream, span_of(TAIL, TAIL_SIZE), max, text, &ended);
    bool between_blocks = stream->data_type == 128; /* no bit is left over, see zlib.h */
    return err != 0 || ended || between_blocks ? err : ERR_BAD_REQUEST;
}
