/* permessage-deflate. The first byte chooses: 0 the rest is the value of a header, and what one
 * line agrees on two lines do; 1 it is a payload: never more than the bound and a byte is inflated,
 * and zlib used plainly says the same; 2 it is a text: what is written is smaller, fits its window
 * and is read again; 3 a text as any client writes it. The second byte: where to cut, the bound,
 * the level and the window. */
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/ws_deflate.h"
#include "tests/lib/rawdeflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void offer(struct span value, uint8_t cut)
{
    struct ws_deflate whole = {0}, again = {0}, lines = {0};
    int err = ws_deflate_offer(value, &whole);
    ASSERT(err == 0 || (err == ERR_BAD_REQUEST && whole.window_bits == 0));
    ASSERT((whole.window_bits == 0) == (whole.answer[0] == 0));
    if (whole.window_bits != 0) { /* an answer is an offer that is answered by itself */
        ASSERT(whole.window_bits >= 8 && whole.window_bits <= 15);
        ASSERT(ws_deflate_offer(span_str(whole.answer), &again) == 0);
        ASSERT(strcmp(again.answer, whole.answer) == 0);
    }
    const char *comma = cut < value.n ? memchr(value.p + cut, ',', value.n - cut) : NULL;
    if (comma == NULL)
        return;
    size_t n = (size_t)(comma - value.p);
    int first = ws_deflate_offer(span_of(value.p, n), &lines);
    int second = ws_deflate_offer(span_of(comma + 1, value.n - n - 1), &lines);
    ASSERT((first == 0 && second == 0) == (err == 0));
    ASSERT(err != 0 || lines.window_bits == whole.window_bits);
}

static void payload(struct ws_zip *zip, struct span bytes, size_t max)
{
    struct buf text = {0}, plain = {0};
    if (bytes.n > ws_zip_payload_max(max))
        bytes.n = ws_zip_payload_max(max);
    int err = ws_zip_inflate(zip, bytes, max, &text);
    ASSERT(err == 0 || err == ERR_BAD_REQUEST || err == ERR_TOO_LARGE);
    ASSERT(text.p != NULL && text.n <= max + 1 && text.cap <= max + 1);
    ASSERT((err == ERR_TOO_LARGE) == (text.n > max));
    if (rawinflate(&plain, bytes, 15)) { /* no final block in it */
        ASSERT((err == ERR_TOO_LARGE) == (plain.n > max));
        ASSERT(err != 0 || span_eq(buf_span(&text), buf_span(&plain)));
    }
    buf_close(&text);
    buf_close(&plain);
}

static void written(struct ws_zip *zip, struct span text)
{
    struct buf made = {0}, again = {0}, plain = {0};
    if (!ws_zip_deflate(zip, text, &made)) {
        ASSERT(made.n == 0);
    } else {
        int bits = WS_DEFLATE_WINDOW_BITS;
        while (bits > WS_DEFLATE_WINDOW_BITS_MIN && text.n <= (size_t)1 << (bits - 1))
            bits--;
        ASSERT(text.n >= WS_DEFLATE_MIN && made.n < text.n);
        ASSERT(rawinflate(&plain, buf_span(&made), bits));
        ASSERT(span_eq(buf_span(&plain), text));
        ASSERT(ws_zip_inflate(zip, buf_span(&made), text.n, &again) == 0);
        ASSERT(span_eq(buf_span(&again), text));
    }
    buf_close(&made);
    buf_close(&again);
    buf_close(&plain);
}

static void read_back(struct ws_zip *zip, struct span text, uint8_t how)
{
    struct buf made = {0}, again = {0};
    rawdeflate(&made, text, how % 10, 9 + how / 10 % 7, how >= 128);
    ASSERT(made.n <= ws_zip_payload_max(text.n));
    ASSERT(ws_zip_inflate(zip, buf_span(&made), text.n, &again) == 0);
    ASSERT(span_eq(buf_span(&again), text));
    if (text.n > 0 && made.n <= ws_zip_payload_max(text.n - 1))
        ASSERT(ws_zip_inflate(zip, buf_span(&made), text.n - 1, &again) == ERR_TOO_LARGE);
    buf_close(&made);
    buf_close(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ws_zip *zip; /* kept: what is left of one input must not show in the next */
    if (size < 2)
        return 0;
    if (zip == NULL)
        zip = ws_zip_new();
    struct span rest = span_of(data + 2, size - 2);
    switch (data[0] % 4) {
    case 0:
        offer(rest, data[1]);
        break;
    case 1:
        payload(zip, rest, (size_t)data[1] * 16);
        break;
    case 2:
        written(zip, rest);
        break;
    default:
        read_back(zip, rest, data[1]);
    }
    return 0;
}
