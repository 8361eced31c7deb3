#include "store/base/json.h"

void json_put_string(struct buf *buf, struct span text)
{
    static const char digits[] = "0123456789abcdef";
    buf_reserve(buf, text.n + 2);
    buf->p[buf->n++] = '"';
    size_t from = 0;
    for (size_t i = 0; i < text.n; i++) {
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
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    buf_add(buf, text + at, sizeof text - at);
}

void json_put_u64_string(struct buf *buf, uint64_t v)
{
    buf_add_byte(buf, '"');
    json_put_u64(buf, v);
    buf_add_byte(buf, '"');
}
