/* gateway/out.h: what waits to be written to one client: shared frames and own bytes, in order.
 * A frame is built once and referred to by every client that gets it. At rest a struct out holds no
 * memory; chunks come from the loop's pool.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_OUT_H
#define LOQUAT_GATEWAY_OUT_H

#include <sys/uio.h>

#include "store/base/buf.h"

enum {
    OUT_CHUNK_BYTES = 64 << 10,   /* own bytes are gathered in chunks of about this size */
    OUT_POOL_CHUNKS_MAX = 1024,   /* kept for reuse */
    OUT_POOL_BYTES_MAX = 4 << 10, /* of a kept chunk's own buffer */
    OUT_WRITE_PARTS_MAX = 64,     /* chunks of one system call */
};

struct frame {
    uint32_t refs;
    uint32_t n;
    char p[];
};
struct frame *frame_new(struct span head, struct span body); /* one reference, the caller's */
void frame_unref(struct frame *frame);

struct out_chunk {
    struct out_chunk *next;
    struct frame *frame; /* or own bytes */
    uint32_t counted;    /* of the frame, in the pool's bytes */
    struct buf own;
};
struct out_pool {
    struct out_chunk *free;
    size_t count;
    size_t bytes; /* that wait, over all clients; a shared frame counts with the first of them */
};
void out_pool_close(struct out_pool *pool);

struct out {
    struct out_chunk *first, *last;
    size_t offset; /* of `first`, already written */
    size_t bytes;  /* waiting */
};
void out_frame(struct out *out, struct out_pool *pool, struct frame *frame); /* takes a reference */
void out_bytes(struct out *out, struct out_pool *pool, struct span bytes);   /* copied */
/* What waits, from its beginning: at most `max` pieces, how many. Borrowed until it is dropped. */
int out_parts(const struct out *out, struct iovec *parts, int max);
/* 0: all is written; 1: the socket takes no more now; ERR_CLOSED. */
int out_write(struct out *out, struct out_pool *pool, int fd);
void out_clear(struct out *out, struct out_pool *pool);
/* For a connection that does not give its bytes to the socket as they are: copies the first ones
 * that wait, as many as fit; and says of some that they have gone. */
size_t out_peek(const struct out *out, char *to, size_t size);
void out_drop(struct out *out, struct out_pool *pool, size_t n);

#endif
