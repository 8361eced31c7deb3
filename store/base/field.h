/* store/base/field.h: the fields of a packed protobuf message one after the other, for readers that
 * want a few of many: nothing is copied or allocated.
 * Thread: any. */
#ifndef LOQUAT_BASE_FIELD_H
#define LOQUAT_BASE_FIELD_H

#include "store/base/buf.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 }; /* in the low bits of a tag */

/* The field at the front of *rest, which is moved on: its tag (number << 3 | type), and *number of
 * WIRE_VARINT, *bytes of WIRE_BYTES. False: the bytes end early or are not understood. */
static inline bool field_next(struct span *rest, uint64_t *tag, struct span *bytes,
                              uint64_t *number)
{
    size_t size = get_varint(rest->p, rest->n, tag), more = 0;
    if (size == 0)
        return false;
    const char *p = rest->p + size;
    size_t n = rest->n - size;
    switch (*tag & 7) {
    case WIRE_VARINT:
        more = get_varint(p, n, number);
        break;
    case WIRE_BYTES:
        size = get_varint(p, n, number);
        more = size > 0 && *number <= n - size ? size + (size_t)*number : 0;
        *bytes = span_of(p + size, (size_t)*number);
        break;
    case WIRE_64:
        more = 8;
        break;
    case WIRE_32:
        more = 4;
        break;
    default:
        break;
    }
    if (more == 0 || more > n)
        return false;
    *rest = span_of(p + more, n - more);
    return true;
}

#endif
