#include "store/base/utf8.h"

#include "store/base/buf.h"

static bool utf8_begin(struct utf8 *utf8, uint8_t lead)
{
    if (lead < 0xc2 || lead > 0xf4)
        return false;
    utf8->more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    utf8->low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;  /* no longer than it must be */
    utf8->high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* no surrogate, no 0x110000 */
    return true;
}

static size_t ascii_size(const uint8_t *p, size_t n) /* of the front, in steps of eight */
{
    size_t i = 0;
    while (i + 8 <= n && (get_le64(p + i) & 0x8080808080808080u) == 0)
        i += 8;
    return i;
}

bool utf8_take(struct utf8 *utf8, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (utf8->more > 0) {
            if (p[i] < utf8->low || p[i] > utf8->high)
                return false;
            utf8->more--;
            utf8->low = 0x80;
            utf8->high = 0xbf;
            continue;
        }
        i += ascii_size(p + i, n - i);
        if (i < n && p[i] >= 0x80 && !utf8_begin(utf8, p[i]))
            return false;
    }
    return true;
}
