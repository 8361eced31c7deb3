/* store/command.h: what a raft entry holds.
 * Bytes:  version u8, time of the leader u64 LE (ms), then commands: varint size, protobuf Command.
 * Version: who leads writes the newest one that all who hold the partition read
 *         (replication/node_format.c); which commands an entry may hold depends on it, so that
 *         programs of different age make the same of it.
 * Limits: an entry is closed at ENTRY_BYTES_TARGET; one command is at most COMMAND_BYTES_MAX. */
#ifndef LOQUAT_STORE_COMMAND_H
#define LOQUAT_STORE_COMMAND_H

#include "store/base/buf.h"

enum {
    ENTRY_VERSION_OLDEST = 1,
    ENTRY_VERSION_CHAT = 2,   /* react, pin, meta, prefs */
    ENTRY_VERSION_SOCIAL = 3, /* hide, invites, places in threads, block, privacy; what is noted of
                                 roles, threads and expiry */
    ENTRY_VERSION_JOBS = 4,   /* consumers and their cursors */
    ENTRY_VERSION_FIND = 5,   /* what of a conversation can be searched */
    ENTRY_VERSION = 5,        /* the newest */
    ENTRY_HEAD_SIZE = 9,
    ENTRY_BYTES_TARGET = 64 << 10,
    ENTRY_COMMANDS_MAX = 4096, /* feed offsets count them in 12 bits */
    COMMAND_BYTES_MAX = 256 << 10,
};

void entry_begin(struct buf *entry, unsigned version, uint64_t time_ms);
void entry_add(struct buf *entry, struct span command);

struct entry_reader {
    struct span rest;
    uint64_t time_ms;
    unsigned version;
};
/* 0 or ERR_CORRUPT: not an entry of a version that is known. */
int entry_open(struct entry_reader *reader, struct span entry);
/* 1 a command, 0 the end, ERR_CORRUPT. */
int entry_next(struct entry_reader *reader, struct span *command);

#endif
