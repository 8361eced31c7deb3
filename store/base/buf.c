#include "store/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"

void buf_close(struct buf *buf)
{
    free(buf->p);
    *buf = (struct buf){0};
}

void buf_reserve_slow(struct buf *buf, size_t more)
{
    ASSERT(more <= SIZE_MAX / 4 && buf->n <= SIZE_MAX / 4);
    size_t need = buf->n + more;
    size_t cap = buf->cap < 64 ? 64 : buf->cap;
    while (cap < need)
        cap += cap / 2;
    buf->p = xrealloc(buf->p, cap);
    buf->cap = cap;
}

void buf_addf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    buf_reserve(buf, 64);
    int n = vsnprintf(buf->p + buf->n, buf->cap - buf->n, format, args);
    ASSERT(n >= 0);
    if ((size_t)n >= buf->cap - buf->n) {
        buf_reserve(buf, (size_t)n + 1);
        n = vsnprintf(buf->p + buf->n, buf->cap - buf->n, format, again);
    }
    buf->n += (size_t)n;
    va_end(again);
    va_end(args);
}

void buf_cut(struct buf *buf, size_t front)
{
    ASSERT(front <= buf->n);
    if (front > 0 && front < buf->n)
        memmove(buf->p, buf->p + front, buf->n - front);
    buf->n -= front;
}

size_t put_varint_slow(void *p, uint64_t v)
{
    uint8_t *out = p;
    size_t n = 0;
    while (v >= 0x80) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)v;
    return n;
}

size_t get_varint_slow(const void *p, size_t n, uint64_t *v)
{
    const uint8_t *in = p;
    uint64_t value = 0;
    for (size_t i = 0; i < n && i < VARINT_MAX; i++) {
        if (i == VARINT_MAX - 1 && in[i] > 1)
            return 0;
        value |= (uint64_t)(in[i] & 0x7f) << (7 * i);
        if (in[i] < 0x80) {
            *v = value;
            return i + 1;
        }
    }
    return 0;
}

void buf_add_varint(struct buf *buf, uint64_t v)
{
    buf_reserve(buf, VARINT_MAX);
    buf->n += put_varint(buf->p + buf->n, v);
}
