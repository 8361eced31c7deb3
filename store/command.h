/* store/command.h: what a raft entry holds.
 * Bytes:  version u8 (ENTRY_VERSION), time of the leader u64 LE (ms), then commands: varint size,
 *         protobuf Command.
 * Limits: an entry is closed at ENTRY_BYTES_TARGET; one command is at most COMMAND_BYTES_MAX. */
#ifndef LOQUAT_STORE_COMMAND_H
#define LOQUAT_STORE_COMMAND_H

#include "store/base/buf.h"

enum {
    ENTRY_VERSION = 1,
    ENTRY_HEAD_SIZE = 9,
    ENTRY_BYTES_TARGET = 64 << 10,
    ENTRY_COMMANDS_MAX = 4096, /* feed offsets count them in 12 bits */
    COMMAND_BYTES_MAX = 256 << 10,
};

void entry_begin(struct buf *entry, uint64_t time_ms);
void entry_add(struct buf *entry, struct span command);

struct entry_reader {
    struct span rest;
    uint64_t time_ms;
};
/* 0 or ERR_CORRUPT: not an entry of this version. */
int entry_open(struct entry_reader *reader, struct span entry);
/* 1 a command, 0 the end, ERR_CORRUPT. */
int entry_next(struct entry_reader *reader, struct span *command);

#endif
