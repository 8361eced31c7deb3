#include "gateway/out.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "store/base/check.h"
#include "store/base/err.h"

struct frame *frame_new(struct span head, struct span body)
{
    struct frame *frame = xmalloc(sizeof *frame + head.n + body.n);
    frame->refs = 1;
    frame->n = (uint32_t)(head.n + body.n);
    if (head.n > 0)
        memcpy(frame->p, head.p, head.n);
    if (body.n > 0) /* a frame that was compressed comes whole */
        memcpy(frame->p + head.n, body.p, body.n);
    return frame;
}

void frame_unref(struct frame *frame)
{
    ASSERT(frame->refs > 0);
    if (--frame->refs == 0)
        free(frame);
}

static struct out_chunk *chunk_add(struct out *out, struct out_pool *pool)
{
    struct out_chunk *chunk = pool->free;
    if (chunk != NULL) {
        pool->free = chunk->next;
        pool->count--;
        chunk->next = NULL;
    } else {
        chunk = xcalloc(1, sizeof *chunk);
    }
    if (out->last != NULL)
        out->last->next = chunk;
    else
        out->first = chunk;
    out->last = chunk;
    return chunk;
}

static void chunk_drop(struct out *out, struct out_pool *pool)
{
    struct out_chunk *chunk = out->first;
    out->first = chunk->next;
    if (out->first == NULL)
        out->last = NULL;
    pool->bytes -= chunk->counted + chunk->own.n;
    if (chunk->frame != NULL)
        frame_unref(chunk->frame);
    chunk->frame = NULL;
    chunk->counted = 0;
    chunk->own.n = 0;
    if (pool->count == OUT_POOL_CHUNKS_MAX) {
        buf_close(&chunk->own);
        free(chunk);
        return;
    }
    if (chunk->own.cap > OUT_POOL_BYTES_MAX)
        buf_close(&chunk->own);
    chunk->next = pool->free;
    pool->free = chunk;
    pool->count++;
}

void out_pool_close(struct out_pool *pool)
{
    while (pool->free != NULL) {
        struct out_chunk *chunk = pool->free;
        pool->free = chunk->next;
        buf_close(&chunk->own);
        free(chunk);
    }
    pool->count = 0;
}

void out_frame(struct out *out, struct out_pool *pool, struct frame *frame)
{
    struct out_chunk *chunk = chunk_add(out, pool);
    chunk->frame = frame;
    chunk->counted = frame->refs == 1 ? frame->n : 0;
    frame->refs++;
    out->bytes += frame->n;
    pool->bytes += chunk->counted;
}

void out_bytes(struct out *out, struct out_pool *pool, struct span bytes)
{
    struct out_chunk *chunk = out->last;
    if (bytes.n == 0)
        return;
    if (chunk == NULL || chunk->frame != NULL || chunk->own.n >= OUT_CHUNK_BYTES)
        chunk = chunk_add(out, pool);
    buf_add_span(&chunk->own, bytes);
    out->bytes += bytes.n;
    pool->bytes += bytes.n;
}

static struct span chunk_span(const struct out_chunk *chunk)
{
    return chunk->frame != NULL ? span_of(chunk->frame->p, chunk->frame->n) : buf_span(&chunk->own);
}

void out_drop(struct out *out, struct out_pool *pool, size_t n)
{
    out->bytes -= n;
    n += out->offset;
    while (out->first != NULL && n >= chunk_span(out->first).n) {
        n -= chunk_span(out->first).n;
        chunk_drop(out, pool);
    }
    out->offset = n;
}

int out_parts(const struct out *out, struct iovec *parts, int max)
{
    int n = 0;
    for (struct out_chunk *c = out->first; c != NULL && n < max; c = c->next) {
        struct span bytes = chunk_span(c);
        size_t skip = c == out->first ? out->offset : 0;
        parts[n++] = (struct iovec){(char *)(uintptr_t)bytes.p + skip, bytes.n - skip};
    }
    return n;
}

int out_write(struct out *out, struct out_pool *pool, int fd)
{
    while (out->first != NULL) {
        struct iovec parts[OUT_WRITE_PARTS_MAX];
        int count = out_parts(out, parts, OUT_WRITE_PARTS_MAX);
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        size_t wanted = 0;
        for (int i = 0; i < count; i++)
            wanted += parts[i].iov_len;
        ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 1 : ERR_CLOSED;
        out_drop(out, pool, (size_t)n);
        if ((size_t)n < wanted)
            return 1;
    }
    return 0;
}

size_t out_peek(const struct out *out, char *to, size_t size)
{
    size_t n = 0, skip = out->offset;
    for (struct out_chunk *c = out->first; c != NULL && n < size; c = c->next, skip = 0) {
        struct span bytes = chunk_span(c);
        size_t part = bytes.n - skip < size - n ? bytes.n - skip : size - n;
        memcpy(to + n, bytes.p + skip, part);
        n += part;
    }
    return n;
}

void out_clear(struct out *out, struct out_pool *pool)
{
    while (out->first != NULL)
        chunk_drop(out, pool);
    out->offset = out->bytes = 0;
}
