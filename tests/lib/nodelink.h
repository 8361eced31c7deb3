/* tests/lib/nodelink.h: a blocking gateway's end of a link, for tests and benches. One thread. */
#ifndef LOQUAT_TESTS_NODELINK_H
#define LOQUAT_TESTS_NODELINK_H

#include "store/base/arena.h"
#include "store/base/link.h"
#include "wire.pb-c.h"

struct nodelink {
    int fd;
    struct buf out, in;
    size_t at, block_end; /* of the block in `in` */
    uint64_t next_id;
    uint32_t partitions;
    struct arena arena; /* of messages received; reset by the caller */
};

void nodelink_open(struct nodelink *link, int fd); /* greets */
void nodelink_close(struct nodelink *link);
void nodelink_add(struct nodelink *link, int type, const ProtobufCMessage *message);
void nodelink_flush(struct nodelink *link);
/* The next message; false when the node has closed. */
bool nodelink_next(struct nodelink *link, int *type, struct span *body);

uint64_t nodelink_write(struct nodelink *link,
                        const Loquat__Command *command); /* id; not flushed */
uint64_t nodelink_read(struct nodelink *link, Loquat__Read *read, const char *place);
/* Waits for the reply with this id; other messages are dropped. Lives in the arena. */
Loquat__Reply *nodelink_reply(struct nodelink *link, uint64_t id);
/* Both in one. */
Loquat__Reply *nodelink_do(struct nodelink *link, const Loquat__Command *command);

/* Commands with the usual fields set; strings are borrowed. */
Loquat__Command command_open_group(const char *user, const char *cid, char *id_out, char **members,
                                   size_t count);
Loquat__Command command_open_direct(const char *user, const char *with, char *id_out);
Loquat__Command command_send(const char *user, const char *conv, const char *cid, const char *body);
Loquat__Command command_edit(const char *user, const char *conv, const char *cid, uint64_t target,
                             const char *body);
Loquat__Command command_delete(const char *user, const char *conv, const char *cid,
                               uint64_t target);
Loquat__Command command_react(const char *user, const char *conv, const char *cid, uint64_t target,
                              const char *emoji, bool on);
Loquat__Command command_pin(const char *user, const char *conv, const char *cid, uint64_t target,
                            bool on);
Loquat__Command command_meta(const char *user, const char *conv, const char *cid);
enum { MEMBER_ADD = 1, MEMBER_REMOVE = 2, MEMBER_ROLE = 3 };
Loquat__Command command_member(const char *user, const char *conv, const char *cid, uint32_t set,
                               const char *who, uint32_t role);
Loquat__Command command_leave(const char *user, const char *conv, const char *cid);
Loquat__Command command_mark(const char *user, const char *conv, uint64_t read, uint64_t delivered);
Loquat__Command command_retain(const char *conv, uint64_t floor);

#endif
