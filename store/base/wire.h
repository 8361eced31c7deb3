/* store/base/wire.h: the messages of wire.proto that come with each message that is written and
 * with each page that is read, packed and unpacked without descriptors: the same bytes as
 * protobuf's, in one walk.
 * Owner:  what is unpacked lies in `arena`, and its bytes and bodies in the bytes that were read.
 * Thread: any.
 * Errors: NULL where protobuf refuses the bytes; write_unpack, which looks at nothing but its three
 *         fields, false where those are not right. */
#ifndef LOQUAT_BASE_WIRE_H
#define LOQUAT_BASE_WIRE_H

#include "store/base/arena.h"
#include "store/base/buf.h"
#include "wire.pb-c.h"

/* Said in every Hello and NodeHello: the newest that is spoken; on a link the older one of the two
 * sides' is, so whoever is newer speaks as the other one. And the oldest that are understood. */
enum {
    WIRE_VERSION = 6,
    WIRE_VERSION_MIN = 1,    /* between gateways and nodes */
    WIRE_VERSION_LEADS = 2,  /* from this one on nodes say what they lead */
    WIRE_VERSION_NODES = 2,  /* between nodes */
    WIRE_VERSION_CHAT = 3,   /* entries of ENTRY_VERSION_CHAT, and what they make, are read */
    WIRE_VERSION_SOCIAL = 4, /* and of ENTRY_VERSION_SOCIAL */
    WIRE_VERSION_JOBS = 5,   /* and of ENTRY_VERSION_JOBS */
    WIRE_VERSION_FIND = 6    /* and of ENTRY_VERSION_FIND */
};

static inline uint32_t wire_spoken_with(uint32_t other)
{
    return other < WIRE_VERSION ? other : WIRE_VERSION;
}

/* Appended. */
void command_pack(const Loquat__Command *command, struct buf *out);
void record_pack(const Loquat__Record *record, struct buf *out);
void reply_pack(const Loquat__Reply *reply, struct buf *out);

Loquat__Command *command_unpack(struct span bytes, struct arena *arena);
Loquat__Reply *reply_unpack(struct span bytes, struct arena *arena);

/* A Write, whose command passes through as bytes. */
struct write_view {
    uint64_t id;
    uint32_t partition;
    struct span command;
};
void write_pack(const struct write_view *write, struct buf *out);
bool write_unpack(struct span bytes, struct write_view *write);

#endif
