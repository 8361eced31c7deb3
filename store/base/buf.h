/* store/base/buf.h: a growable run of bytes, and fixed-width and varint numbers.
 * Owner: whoever holds the struct; `buf_close` frees. Zero-initialised is empty and valid.
 * Big-endian is for keys (order), little-endian for values. */
#ifndef LOQUAT_BASE_BUF_H
#define LOQUAT_BASE_BUF_H

#include "store/base/span.h"

struct buf {
    char *p;
    size_t n, cap;
};

void buf_close(struct buf *buf);
void buf_reserve_slow(struct buf *buf, size_t more); /* where there is no room */
void buf_addf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_cut(struct buf *buf, size_t front); /* drops bytes at the front */

/* Room for `more` bytes after n; n stays. */
static inline void buf_reserve(struct buf *buf, size_t more)
{
    if (more > buf->cap - buf->n)
        buf_reserve_slow(buf, more);
}

/* Room for `more` bytes, counted in n at once. Never NULL: memcpy and memset want none. */
static inline char *buf_grow(struct buf *buf, size_t more)
{
    buf_reserve(buf, more > 0 ? more : 1);
    char *p = buf->p + buf->n;
    buf->n += more;
    return p;
}

static inline void buf_add(struct buf *buf, const void *bytes, size_t n)
{
    if (n > 0)
        memcpy(buf_grow(buf, n), bytes, n);
}

static inline void buf_add_str(struct buf *buf, const char *text)
{
    buf_add(buf, text, strlen(text));
}

static inline void buf_add_span(struct buf *buf, struct span span)
{
    buf_add(buf, span.p, span.n);
}

static inline void buf_add_byte(struct buf *buf, uint8_t byte)
{
    *buf_grow(buf, 1) = (char)byte;
}

static inline struct span buf_span(const struct buf *buf)
{
    return (struct span){buf->p, buf->n};
}

static inline void put_be16(void *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(p, &v, 2);
}
static inline void put_be64(void *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}
static inline uint16_t get_be16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}
static inline uint64_t get_be64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
static inline void put_le32(void *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void put_le64(void *p, uint64_t v)
{
    memcpy(p, &v, 8);
}
static inline uint32_t get_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t get_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

enum { VARINT_MAX = 10 };

/* LEB128. `put_varint` writes at most VARINT_MAX bytes and returns how many; `get_varint` returns
 * how many were read, 0 when the bytes end early or the number does not fit. */
size_t put_varint_slow(void *p, uint64_t v);
size_t get_varint_slow(const void *p, size_t n, uint64_t *v);
static inline size_t put_varint(void *p, uint64_t v)
{
    if (v >= 0x80)
        return put_varint_slow(p, v);
    *(uint8_t *)p = (uint8_t)v;
    return 1;
}
static inline size_t get_varint(const void *p, size_t n, uint64_t *v)
{
    const uint8_t *in = (const uint8_t *)p; /* C++, too, reads this */
    if (n > 0 && in[0] < 0x80) {
        *v = in[0];
        return 1;
    }
    if (n > 1 && in[1] < 0x80) {
        *v = (uint64_t)in[1] << 7 | (in[0] & 0x7f);
        return 2;
    }
    return get_varint_slow(p, n, v);
}
void buf_add_varint(struct buf *buf, uint64_t v);

#endif
