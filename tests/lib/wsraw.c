#include "tests/lib/wsraw.h"

void wsraw_head(struct buf *out, int first, bool masked, uint64_t n)
{
    int mask = masked ? 0x80 : 0;
    buf_add_byte(out, (uint8_t)first);
    if (n < 126) {
        buf_add_byte(out, (uint8_t)(mask | (int)n));
    } else if (n <= UINT16_MAX) {
        buf_add_byte(out, (uint8_t)(mask | 126));
        put_be16(buf_grow(out, 2), (uint16_t)n);
    } else {
        buf_add_byte(out, (uint8_t)(mask | 127));
        put_be64(buf_grow(out, 8), n);
    }
}

void wsraw_frame(struct buf *out, int first, bool masked, struct span payload)
{
    static const char KEY[4] = {0x5a, (char)0xa5, 0x0f, (char)0xf0};
    wsraw_head(out, first, masked, payload.n);
    if (masked)
        buf_add(out, KEY, 4);
    char *to = buf_grow(out, payload.n);
    for (size_t i = 0; i < payload.n; i++)
        to[i] = (char)(masked ? payload.p[i] ^ KEY[i % 4] : payload.p[i]);
}

void wsraw_text(struct buf *out, int first, const char *text)
{
    wsraw_frame(out, first, true, span_str(text));
}

void wsraw_close(struct buf *out, int code, const char *reason)
{
    char payload[125];
    put_be16(payload, (uint16_t)code);
    memcpy(payload + 2, reason, strlen(reason));
    wsraw_frame(out, 0x88, true, span_of(payload, 2 + strlen(reason)));
}

void wsraw_fill(struct buf *out, char byte, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_add_byte(out, (uint8_t)byte);
}
