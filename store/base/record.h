/* store/base/record.h: one record as bytes: on disk, in tails and in pages.
 * Bytes:  version u8 (RECORD_VERSION), low 32 bits of XXH3-64 of the rest u32 LE, protobuf Record.
 * Errors: ERR_CORRUPT  too short, wrong version, checksum or schema. */
#ifndef LOQUAT_BASE_RECORD_H
#define LOQUAT_BASE_RECORD_H

#include "store/base/buf.h"
#include "wire.pb-c.h"

enum { RECORD_VERSION = 1, RECORD_HEAD_SIZE = 5 };

void record_encode(const Loquat__Record *record, struct buf *out); /* appended */
/* Unpacks with `allocator`: an arena's, or NULL for the heap (loquat__record__free_unpacked). */
int record_decode(struct span bytes, ProtobufCAllocator *allocator, Loquat__Record **record);
int record_check(struct span bytes); /* checksum only: 0 or ERR_CORRUPT */

/* What a reader of many records asks of each, without unpacking the rest. */
struct record_peek {
    uint32_t kind;
    uint64_t expires;
    bool erased, stripped;
};
/* The same errors as record_decode, but for strings and lists that are not what they should be;
 * also ERR_CORRUPT where protobuf-c is lenient: one of these numbers in another wire type, or of
 * more than 64 bits. */
int record_peek(struct span bytes, struct record_peek *out);

uint64_t record_mid(const Loquat__Record *record, uint32_t partition);
static inline uint64_t record_n(const Loquat__Record *record, uint64_t seq)
{
    return seq - record->gap;
}
static inline bool kind_is_message(uint32_t kind)
{
    return kind >= LOQUAT__KIND__KIND_TEXT && kind <= LOQUAT__KIND__KIND_X;
}
/* "text", "edit", … ; for KIND_X the caller writes "x-" and xkind. NULL: unknown. */
const char *kind_name(uint32_t kind);
/* 0 when unknown. A name that begins with "x-" is KIND_X with the rest in *xkind (1–32 bytes of
 * a-z0-9-). */
uint32_t kind_of(struct span name, struct span *xkind);
const char *role_name(uint32_t role); /* "none" when unknown, as a newer version's are */
uint32_t role_of(struct span name);
const char *hole_name(uint32_t hole); /* likewise */

#endif
