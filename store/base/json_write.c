#include "store/base/json.h"

#define EACH_BYTE 0x0101010101010101u

/* One of eight bytes is below 0x20, a quote or a backslash. Source: S. E. Anderson, "Bit Twiddling
 * Hacks", "Determine if a word has a byte less than n". */
static bool has_special(const char *p)
{
    uint64_t v = get_le64(p), quote = v ^ EACH_BYTE * '"', slash = v ^ EACH_BYTE * '\\';
    uint64_t found = (v - EACH_BYTE * 0x20) & ~v;
    found |= (quote - EACH_BYTE) & ~quote;
    found |= (slash - EACH_BYTE) & ~slash;
    return (found & EACH_BYTE * 0x80) != 0;
}

void json_put_string(struct buf *buf, struct span text)
{
    static const char digits[] = "0123456789abcdef";
    buf_reserve(buf, text.n + 2);
    buf->p[buf->n++] = '"';
    size_t from = 0;
    for (size_t i = 0; i < text.n; i++) {
        while (text.n - i >= 8 && !has_special(text.p + i))
            i += 8;
        if (i == text.n)
            break;
        unsigned char c = (unsigned char)text.p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(buf, text.p + from, i - from);
        from = i + 1;
        char escape[6] = {'\\', 0, '0', '0', digits[c >> 4], digits[c & 15]};
        size_t n = 2;
        switch (c) {
        case '"':
        case '\\':
            escape[1] = (char)c;
            break;
        case '\n':
            escape[1] = 'n';
            break;
        case '\r':
            escape[1] = 'r';
            break;
        case '\t':
            escape[1] = 't';
            break;
        default:
            escape[1] = 'u';
            n = 6;
        }
        buf_add(buf, escape, n);
    }
    buf_add(buf, text.p + from, text.n - from);
    buf_add_byte(buf, '"');
}

void json_put_u64(struct buf *buf, uint64_t v)
{
    static const char TWO[] = "00010203040506070809101112131415161718192021222324"
                              "25262728293031323334353637383940414243444546474849"
                              "50515253545556575859606162636465666768697071727374"
                              "75767778798081828384858687888990919293949596979899";
    char text[20];
    size_t at = sizeof text;
    for (; v >= 100000000; v /= 100000000) { /* halves that do not wait for each other */
        uint32_t eight = (uint32_t)(v % 100000000), high = eight / 10000, low = eight % 10000;
        at -= 8;
        memcpy(text + at, TWO + (size_t)(high / 100) * 2, 2);
        memcpy(text + at + 2, TWO + (size_t)(high % 100) * 2, 2);
        memcpy(text + at + 4, TWO + (size_t)(low / 100) * 2, 2);
        memcpy(text + at + 6, TWO + (size_t)(low % 100) * 2, 2);
    }
    uint32_t rest = (uint32_t)v;
    for (; rest >= 100; rest /= 100)
        memcpy(text + (at -= 2), TWO + (size_t)(rest % 100) * 2, 2);
    if (rest >= 10)
        memcpy(text + (at -= 2), TWO + (size_t)rest * 2, 2);
    else
        text[--at] = (char)('0' + rest);
    buf_add(buf, text + at, sizeof text - at);
}

void json_put_i64(struct buf *buf, int64_t v)
{
    if (v < 0)
        buf_add_byte(buf, '-');
    json_put_u64(buf, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

void json_put_u64_string(struct buf *buf, uint64_t v)
{
    buf_add_byte(buf, '"');
    json_put_u64(buf, v);
    buf_add_byte(buf, '"');
}
