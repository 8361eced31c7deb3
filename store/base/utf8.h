/* store/base/utf8.h: whether bytes that come in pieces are UTF-8.
 * Thread: any. */
#ifndef LOQUAT_BASE_UTF8_H
#define LOQUAT_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What of a character is still to come, and the bounds of its next byte. Zero: between two. */
struct utf8 {
    uint8_t more, low, high;
};

/* False at the first byte that can't be: earlier than the end of the character. At the end of a
 * text `more` is 0. */
bool utf8_take(struct utf8 *utf8, const uint8_t *p, size_t n);

#endif
