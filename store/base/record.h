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

/* A record as a reader of many wants it: nothing is copied or allocated, texts lie in `bytes`. */
struct record_view {
    uint64_t ts, gap, reply, thread, expires, target;
    int64_t mid_off;
    uint32_t kind;
    bool mention_all, erased, stripped, on;
    struct span xkind, from, body, cid, emoji;
    struct span mentions; /* from the first one on, to the end of the record; empty: none */
};
/* The same errors as record_decode; also ERR_CORRUPT where protobuf-c is lenient: a field in
 * another wire type, or a number of more than 64 bits. */
int record_view(struct span bytes, struct record_view *out);
/* The next of `view->mentions`: *rest begins as that and is moved on. False: there is none. */
bool record_mention(struct span *rest, struct span *user);

/* What readers are shown instead of it, enum Hole; HOLE_NONE: itself. */
uint32_t record_hole(const struct record_view *record, uint64_t now_ms);

uint64_t record_mid(uint64_t ts, int64_t mid_off, uint32_t partition);
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
