/* store/base/link.h: framed messages over a libuv stream (TCP or a socketpair), both ways.
 * Wire:   blocks: magic "lq" u16, version u16, size u32, XXH3-64 of the content u64 (all
 *         little-endian), then `size` bytes: messages, each varint size, type byte, body. One block
 *         per loop turn.
 *         With TLS: the same, inside of its records.
 * Owner:  the caller embeds struct link; message spans die with the callback.
 * Thread: the loop's.
 * Limits: a block holds at most LINK_BLOCK_MAX bytes; a message LINK_MESSAGE_MAX. What was sent and
 *         not yet written is bounded by the caller: ask link_pending before sending more.
 * Errors: a malformed block ends the link with ERR_CORRUPT, one of another version with
 *         ERR_VERSION, the other side's end with ERR_CLOSED; on_close comes once, last. */
#ifndef LOQUAT_BASE_LINK_H
#define LOQUAT_BASE_LINK_H

#include <uv.h>

#include "store/base/line.h"

enum {
    LINK_VERSION = 1,
    LINK_MESSAGE_MAX = 4 << 20,
    LINK_BLOCK_MAX = 16 << 20,
    LINK_HEAD_SIZE = 16,
};

/* The message of wire.proto that the body holds. */
enum link_type {
    LINK_HELLO = 1,
    LINK_WRITE,
    LINK_READ,
    LINK_SUB,
    LINK_UNSUB,
    LINK_CREDIT,
    LINK_REPLY,
    LINK_TAIL,
    LINK_MARK,
    LINK_CONTROL,
    LINK_REPORT,
    LINK_RAFT,
    LINK_CHUNK,
    LINK_CHUNK_REPLY,
    LINK_NODE_HELLO,
    LINK_LEADS,
    LINK_READ_PROBE,
    LINK_READ_PROBE_REPLY,
    LINK_CLUSTER_ASK,
    LINK_CLUSTER_STATE,
    LINK_ALIVE, /* between nodes: a byte of enum rnet_flag; so that silence means something */
    LINK_TYPING,
    LINK_WATCH,
    LINK_PRESENCE,
};

struct link;
struct link_ops {
    void (*on_message)(struct link *link, int type, struct span body);
    void (*on_block_end)(struct link *link); /* all messages of one block were given; may be NULL */
    void (*on_drain)(struct link *link);     /* everything sent is written; may be NULL */
    void (*on_close)(struct link *link, int err); /* memory may be freed now */
};

struct link {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    const struct link_ops *ops;
    void *data; /* the caller's */
    struct buf in, out;
    size_t pending;             /* bytes handed to libuv and not yet written */
    struct tls_conn *tls;       /* NULL: plain */
    struct buf tls_in, tls_out; /* records: room to read into; what comes of a block */
    int err;
    bool closing, flush_queued;
    uv_prepare_t prepare; /* flushes `out` once per loop turn, before the loop sleeps */
    uv_idle_t idle;       /* keeps it from sleeping before that */
    int handles;          /* still open */
};

/* Adopts a line, whose handshakes are done: 0, or ERR_IO, and then it is closed and on_close comes
 * as well. */
int link_open(struct link *link, uv_loop_t *loop, struct line line, const struct link_ops *ops);
/* The same of a connected descriptor (socketpair or TCP) without TLS. */
int link_open_fd(struct link *link, uv_loop_t *loop, int fd, const struct link_ops *ops);
/* Adds a message to this turn's block. Silently dropped once the link is closing. */
void link_send(struct link *link, int type, struct span body);
/* The same without a copy: body_size bytes to be filled by the caller at once; NULL: closing. */
char *link_send_begin(struct link *link, int type, size_t body_size);
/* What was sent in this turn goes out now: for who has much to do before the turn ends. */
void link_flush(struct link *link);
size_t link_pending(const struct link *link); /* unsent + unwritten bytes */
void link_close(struct link *link, int err);

#endif
