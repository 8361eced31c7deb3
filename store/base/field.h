/* store/base/field.h: the fields of a packed protobuf message one after the other, for readers that
 * want a few of many: nothing is copied or allocated.
 * Thread: any. */
#ifndef LOQUAT_BASE_FIELD_H
#define LOQUAT_BASE_FIELD_H

#include "store/base/buf.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 }; /* in the low bits of a tag */

/* The field at the front of *rest, which is moved on: its tag (number << 3 | type), and *number of
 * WIRE_VARINT, *bytes of WIRE_BYTES. False: the bytes end early or are not understood. */
bool field_next(struct span *rest, uint64_t *tag, struct span *bytes, uint64_t *number);

#endif
