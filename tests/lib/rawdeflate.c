#include "tests/lib/rawdeflate.h"

#define ZLIB_CONST
#include <zlib.h>

#include "store/base/check.h"

void rawdeflate(struct buf *out, struct span text, int level, int window_bits, bool final)
{
    z_stream stream = {0};
    int rv = deflateInit2(&stream, level, Z_DEFLATED, -window_bits, 8, Z_DEFAULT_STRATEGY);
    ASSERT(rv == Z_OK);
    stream.next_in = (const Bytef *)text.p;
    stream.avail_in = (uInt)text.n;
    do {
        buf_reserve(out, 4096);
        uInt room = (uInt)(out->cap - out->n);
        stream.next_out = (Bytef *)out->p + out->n;
        stream.avail_out = room;
        rv = deflate(&stream, final ? Z_FINISH : Z_SYNC_FLUSH);
        ASSERT(rv >= 0 || rv == Z_BUF_ERROR);
        out->n += room - stream.avail_out;
    } while (stream.avail_out == 0);
    (void)deflateEnd(&stream); /* in the middle of the stream unless `final` */
    if (final)
        buf_add_byte(out, 0);
    else
        out->n -= 4;
}

/* Byte by byte: only then zlib has nothing but its window to look back into. */
bool rawinflate(struct buf *out, struct span payload, int window_bits)
{
    struct buf in = {0};
    buf_add_span(&in, payload);
    buf_add(&in, "\0\0\xff\xff", 4);
    z_stream stream = {0};
    int rv = inflateInit2(&stream, -window_bits);
    ASSERT(rv == Z_OK);
    stream.next_in = (const Bytef *)in.p;
    stream.avail_in = (uInt)in.n;
    do {
        Bytef byte;
        stream.next_out = &byte;
        stream.avail_out = 1;
        rv = inflate(&stream, Z_SYNC_FLUSH);
        if (stream.avail_out == 0)
            buf_add_byte(out, byte);
    } while (rv == Z_OK && (stream.avail_in > 0 || stream.avail_out == 0));
    bool whole = (rv == Z_OK || rv == Z_BUF_ERROR) && stream.avail_in == 0;
    rv = inflateEnd(&stream);
    ASSERT(rv == Z_OK);
    buf_close(&in);
    return whole;
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

void rawdeflate_chat(struct buf *out, size_t n)
{
    static const char *const WORDS[] = {"{\"ev\":\"rec\",\"c\":\"g:",
                                        "\",\"seq\":",
                                        ",\"from\":\"",
                                        "\",\"body\":{\"text\":\"",
                                        "hello ",
                                        "lunch? ",
                                        "see you ",
                                        "the build is broken again ",
                                        "\"}}\n"};
    size_t end = out->n + n;
    uint32_t state = 7;
    while (out->n < end) {
        if (next(&state) % 3 == 0)
            buf_addf(out, "%u", next(&state));
        else
            buf_add_str(out, WORDS[next(&state) % (sizeof WORDS / sizeof *WORDS)]);
    }
    out->n = end;
}

void rawdeflate_noise(struct buf *out, size_t n)
{
    uint32_t state = 11;
    for (size_t i = 0; i < n; i++)
        buf_add_byte(out, next(&state) & 0x7f);
}
