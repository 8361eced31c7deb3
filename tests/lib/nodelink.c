#include "tests/lib/nodelink.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/ids.h"

static void wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    int n = poll(&p, 1, 60000);
    ASSERT(n == 1);
}

void nodelink_flush(struct nodelink *link)
{
    if (link->out.n == 0)
        return;
    size_t size = link->out.n - LINK_HEAD_SIZE;
    memcpy(link->out.p, "lq\1\0", 4);
    put_le32(link->out.p + 4, (uint32_t)size);
    put_le64(link->out.p + 8, XXH3_64bits(link->out.p + LINK_HEAD_SIZE, size));
    for (size_t at = 0; at < link->out.n;) {
        ssize_t n = write(link->fd, link->out.p + at, link->out.n - at);
        if (n > 0)
            at += (size_t)n;
        else
            wait_for(link->fd, POLLOUT);
    }
    link->out.n = 0;
}

void nodelink_add(struct nodelink *link, int type, const ProtobufCMessage *message)
{
    if (link->out.n == 0)
        buf_grow(&link->out, LINK_HEAD_SIZE);
    size_t size = protobuf_c_message_get_packed_size(message);
    buf_add_varint(&link->out, size + 1);
    buf_add_byte(&link->out, (uint8_t)type);
    protobuf_c_message_pack(message, (uint8_t *)buf_grow(&link->out, size));
}

static bool fill(struct nodelink *link, size_t want)
{
    while (link->in.n < want) {
        buf_reserve(&link->in, 1 << 18);
        ssize_t n = read(link->fd, link->in.p + link->in.n, link->in.cap - link->in.n);
        if (n == 0)
            return false;
        if (n > 0)
            link->in.n += (size_t)n;
        else
            wait_for(link->fd, POLLIN);
    }
    return true;
}

bool nodelink_next(struct nodelink *link, int *type, struct span *body)
{
    if (link->at == link->block_end) {
        buf_cut(&link->in, link->block_end);
        link->at = link->block_end = 0;
        if (!fill(link, LINK_HEAD_SIZE))
            return false;
        size_t size = LINK_HEAD_SIZE + get_le32(link->in.p + 4);
        if (!fill(link, size))
            return false;
        link->at = LINK_HEAD_SIZE;
        link->block_end = size;
    }
    uint64_t size = 0;
    size_t head = get_varint(link->in.p + link->at, link->block_end - link->at, &size);
    ASSERT(head > 0 && size > 0);
    *type = (uint8_t)link->in.p[link->at + head];
    *body = span_of(link->in.p + link->at + head + 1, (size_t)size - 1);
    link->at += head + (size_t)size;
    return true;
}

void nodelink_open(struct nodelink *link, int fd)
{
    *link = (struct nodelink){.fd = fd, .next_id = 1};
    arena_init(&link->arena);
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = 1;
    hello.name = "test";
    nodelink_add(link, LINK_HELLO, &hello.base);
    nodelink_flush(link);
    int type = 0;
    struct span body;
    bool ok = nodelink_next(link, &type, &body);
    ASSERT(ok && type == LINK_HELLO);
    Loquat__Hello *theirs =
        loquat__hello__unpack(&link->arena.allocator, body.n, (const uint8_t *)body.p);
    ASSERT(theirs != NULL);
    link->partitions = theirs->partitions;
}

void nodelink_close(struct nodelink *link)
{
    close(link->fd);
    buf_close(&link->in);
    buf_close(&link->out);
    arena_close(&link->arena);
}

uint64_t nodelink_write(struct nodelink *link, const Loquat__Command *command)
{
    struct buf bytes = {0};
    size_t size = loquat__command__get_packed_size(command);
    loquat__command__pack(command, (uint8_t *)buf_grow(&bytes, size));
    Loquat__Write write = LOQUAT__WRITE__INIT;
    write.id = link->next_id++;
    write.partition = partition_of(conv_id_of(span_str(command->conv)), link->partitions);
    write.command = (ProtobufCBinaryData){bytes.n, (uint8_t *)bytes.p};
    nodelink_add(link, LINK_WRITE, &write.base);
    buf_close(&bytes);
    return write.id;
}

uint64_t nodelink_read(struct nodelink *link, Loquat__Read *read, const char *place)
{
    read->id = link->next_id++;
    read->partition = read->op == LOQUAT__READ_OP__READ_USER
                          ? partition_of(user_log_id(span_str(place)), link->partitions)
                          : partition_of(conv_id_of(span_str(place)), link->partitions);
    nodelink_add(link, LINK_READ, &read->base);
    nodelink_flush(link);
    return read->id;
}

Loquat__Reply *nodelink_reply(struct nodelink *link, uint64_t id)
{
    int type;
    struct span body;
    while (nodelink_next(link, &type, &body)) {
        if (type != LINK_REPLY)
            continue;
        Loquat__Reply *reply =
            loquat__reply__unpack(&link->arena.allocator, body.n, (const uint8_t *)body.p);
        ASSERT(reply != NULL);
        if (reply->id == id)
            return reply;
    }
    return NULL;
}

Loquat__Reply *nodelink_do(struct nodelink *link, const Loquat__Command *command)
{
    uint64_t id = nodelink_write(link, command);
    nodelink_flush(link);
    return nodelink_reply(link, id);
}

static char *lend(const char *text)
{
    return (char *)(uintptr_t)text;
}

Loquat__Command command_open_group(const char *user, const char *cid, char *id_out, char **members,
                                   size_t count)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    group_id(span_str(user), span_str(cid), id_out);
    command.op = LOQUAT__OP__OP_OPEN;
    command.conv_kind = LOQUAT__CONV_KIND__CONV_GROUP;
    command.user = lend(user);
    command.cid = lend(cid);
    command.conv = id_out;
    command.members = members;
    command.n_members = count;
    return command;
}

Loquat__Command command_open_direct(const char *user, const char *with, char *id_out)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    direct_id(span_str(user), span_str(with), id_out);
    command.op = LOQUAT__OP__OP_OPEN;
    command.conv_kind = LOQUAT__CONV_KIND__CONV_DIRECT;
    command.user = lend(user);
    command.with = lend(with);
    command.conv = id_out;
    return command;
}

static Loquat__Command command_of(uint32_t op, const char *user, const char *conv, const char *cid)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = op;
    command.user = lend(user);
    command.conv = lend(conv);
    command.cid = lend(cid);
    return command;
}

static ProtobufCBinaryData body_of(const char *body)
{
    return (ProtobufCBinaryData){strlen(body), (uint8_t *)lend(body)};
}

Loquat__Command command_send(const char *user, const char *conv, const char *cid, const char *body)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_SEND, user, conv, cid);
    command.kind = LOQUAT__KIND__KIND_TEXT;
    command.body = body_of(body);
    return command;
}

Loquat__Command command_edit(const char *user, const char *conv, const char *cid, uint64_t target,
                             const char *body)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_EDIT, user, conv, cid);
    command.target = target;
    command.body = body_of(body);
    return command;
}

Loquat__Command command_delete(const char *user, const char *conv, const char *cid, uint64_t target)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_DELETE, user, conv, cid);
    command.target = target;
    return command;
}

Loquat__Command command_react(const char *user, const char *conv, const char *cid, uint64_t target,
                              const char *emoji, bool on)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_REACT, user, conv, cid);
    command.target = target;
    command.emoji = lend(emoji);
    command.on = on;
    return command;
}

Loquat__Command command_pin(const char *user, const char *conv, const char *cid, uint64_t target,
                            bool on)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_PIN, user, conv, cid);
    command.target = target;
    command.on = on;
    return command;
}

Loquat__Command command_meta(const char *user, const char *conv, const char *cid)
{
    return command_of(LOQUAT__OP__OP_META, user, conv, cid);
}

Loquat__Command command_member(const char *user, const char *conv, const char *cid, uint32_t set,
                               const char *who, uint32_t role)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_MEMBER, user, conv, cid);
    command.set = set;
    command.who = lend(who);
    command.role = role;
    return command;
}

Loquat__Command command_leave(const char *user, const char *conv, const char *cid)
{
    return command_of(LOQUAT__OP__OP_LEAVE, user, conv, cid);
}

Loquat__Command command_mark(const char *user, const char *conv, uint64_t read, uint64_t delivered)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_MARK, user, conv, "");
    command.read = read;
    command.delivered = delivered;
    return command;
}

Loquat__Command command_retain(const char *conv, uint64_t floor)
{
    Loquat__Command command = command_of(LOQUAT__OP__OP_RETAIN, "", conv, "");
    command.admin = true;
    command.floor = floor;
    return command;
}
