#include "store/base/link.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum { LINK_READ_SIZE = 256 << 10, MAGIC_0 = 'l', MAGIC_1 = 'q' };

struct write_req {
    uv_write_t req;
    struct buf bytes;
};

static void on_handle_closed(uv_handle_t *handle)
{
    struct link *link = handle->data;
    if (--link->handles > 0)
        return;
    buf_close(&link->in);
    buf_close(&link->out);
    buf_close(&link->tls_in);
    buf_close(&link->tls_out);
    tls_conn_free(link->tls);
    link->ops->on_close(link, link->err); /* may free the link */
}

void link_close(struct link *link, int err)
{
    if (link->closing)
        return;
    link->closing = true;
    link->err = err;
    uv_close(&link->io.handle, on_handle_closed);
    uv_close((uv_handle_t *)&link->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&link->idle, on_handle_closed);
}

static void on_written(uv_write_t *req, int status)
{
    struct write_req *write = container_of(req, struct write_req, req);
    struct link *link = req->handle->data;
    link->pending -= write->bytes.n;
    buf_close(&write->bytes);
    free(write);
    if (status < 0)
        link_close(link, ERR_CLOSED);
    else if (link->pending == 0 && link->out.n == 0 && !link->closing && link->ops->on_drain)
        link->ops->on_drain(link);
}

/* Fills in the head that link_send_begin left room for. */
static void seal_block(struct buf *block)
{
    size_t size = block->n - LINK_HEAD_SIZE;
    char *head = block->p;
    head[0] = MAGIC_0;
    head[1] = MAGIC_1;
    head[2] = LINK_VERSION;
    head[3] = 0;
    put_le32(head + 4, (uint32_t)size);
    put_le64(head + 8, XXH3_64bits(block->p + LINK_HEAD_SIZE, size));
}

/* Takes the bytes, or at least what is in them. */
static void write_out(struct link *link, struct buf *bytes)
{
    size_t sent = 0;
    if (link->pending == 0) { /* the usual case: the socket takes it at once */
        uv_buf_t whole = uv_buf_init(bytes->p, (unsigned)bytes->n);
        int n = uv_try_write(&link->io.stream, &whole, 1);
        if (n < 0 && n != UV_EAGAIN) {
            link_close(link, ERR_CLOSED);
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
        if (sent == bytes->n) {
            bytes->n = 0;
            return;
        }
    }
    struct write_req *write = xmalloc(sizeof *write);
    buf_cut(bytes, sent);
    write->bytes = *bytes;
    *bytes = (struct buf){0};
    link->pending += write->bytes.n;
    uv_buf_t rest = uv_buf_init(write->bytes.p, (unsigned)write->bytes.n);
    if (uv_write(&write->req, &link->io.stream, &rest, 1, on_written) != 0) {
        link->pending -= write->bytes.n;
        buf_close(&write->bytes);
        free(write);
        link_close(link, ERR_CLOSED);
    }
}

/* Of the block, if there is one; and what TLS itself has to say. */
static void write_records(struct link *link)
{
    int err = link->out.n > 0 ? tls_encrypt(link->tls, buf_span(&link->out)) : 0;
    link->out.n = 0;
    tls_take(link->tls, &link->tls_out);
    if (err != 0)
        link_close(link, ERR_CLOSED);
    else if (link->tls_out.n > 0)
        write_out(link, &link->tls_out);
}

static void flush(struct link *link)
{
    uv_prepare_stop(&link->prepare);
    uv_idle_stop(&link->idle);
    link->flush_queued = false;
    if (link->closing)
        return;
    if (link->out.n > 0)
        seal_block(&link->out);
    if (link->tls != NULL)
        write_records(link);
    else if (link->out.n > 0)
        write_out(link, &link->out);
}

void link_flush(struct link *link)
{
    flush(link);
}

/* While it runs the loop does not sleep: what is sent by another prepare callback, after which
 * this one's turn comes only in the next round, goes out at once all the same. */
static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void on_prepare(uv_prepare_t *prepare)
{
    flush(prepare->data);
}

/* One block's messages. False when the content is malformed. */
static bool deliver(struct link *link, const char *p, size_t n)
{
    while (n > 0 && !link->closing) {
        uint64_t size = 0;
        size_t head = get_varint(p, n, &size);
        if (head == 0 || size == 0 || size > LINK_MESSAGE_MAX || size > n - head)
            return false;
        const char *body = p + head;
        link->ops->on_message(link, (uint8_t)body[0], span_of(body + 1, (size_t)size - 1));
        p = body + size;
        n -= head + (size_t)size;
    }
    return true;
}

/* 1: a block was taken, 0: more bytes wanted, negative: malformed. */
static int take_block(struct link *link, size_t *at)
{
    const char *p = link->in.p + *at;
    size_t n = link->in.n - *at;
    if (n < LINK_HEAD_SIZE)
        return 0;
    uint32_t size = get_le32(p + 4);
    if (p[0] != MAGIC_0 || p[1] != MAGIC_1 || size > LINK_BLOCK_MAX)
        return ERR_CORRUPT;
    if (p[2] != LINK_VERSION || p[3] != 0)
        return ERR_VERSION;
    if (n - LINK_HEAD_SIZE < size)
        return 0;
    if (get_le64(p + 8) != XXH3_64bits(p + LINK_HEAD_SIZE, size))
        return ERR_CORRUPT;
    *at += LINK_HEAD_SIZE + size;
    if (!deliver(link, p + LINK_HEAD_SIZE, size))
        return ERR_CORRUPT;
    if (!link->closing && link->ops->on_block_end != NULL)
        link->ops->on_block_end(link);
    return 1;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct link *link = handle->data;
    struct buf *in = link->tls != NULL ? &link->tls_in : &link->in;
    buf_reserve(in, LINK_READ_SIZE);
    *out = uv_buf_init(in->p + in->n, (unsigned)(in->cap - in->n));
}

/* So many bytes of records: what is in them comes to `in`. */
static int decrypt(struct link *link, size_t n)
{
    size_t got = 0;
    buf_reserve(&link->in, n + TLS_RECORD_MAX);
    int rv = tls_feed(link->tls, span_of(link->tls_in.p, n), link->in.p + link->in.n,
                      link->in.cap - link->in.n, &got);
    link->in.n += got;
    if (rv == 0 && tls_wire(link->tls).n > 0)
        flush(link);
    return rv == 0 ? 0 : rv > 0 ? ERR_CLOSED : ERR_CORRUPT;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    struct link *link = stream->data;
    if (n < 0) {
        link_close(link, ERR_CLOSED);
        return;
    }
    int ended = 0;
    if (link->tls != NULL)
        ended = decrypt(link, (size_t)n);
    else
        link->in.n += (size_t)n;
    if (ended == ERR_CORRUPT) {
        link_close(link, ended);
        return;
    }
    size_t at = 0;
    int err = 1;
    while (err > 0 && !link->closing)
        err = take_block(link, &at);
    err = err >= 0 ? ended : err;
    if (err < 0)
        link_close(link, err);
    else if (!link->closing)
        buf_cut(&link->in, at);
}

static int open_stream(struct link *link, uv_loop_t *loop, int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    int rv = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    if (rv == 0 && domain == AF_UNIX) {
        int err = uv_pipe_init(loop, &link->io.pipe, 0);
        ASSERT(err == 0);
        return uv_pipe_open(&link->io.pipe, fd);
    }
    int err = uv_tcp_init(loop, &link->io.tcp);
    ASSERT(err == 0);
    if (rv != 0)
        return UV_EBADF;
    rv = uv_tcp_open(&link->io.tcp, fd);
    if (rv == 0)
        uv_tcp_nodelay(&link->io.tcp, 1);
    return rv;
}

int link_open_fd(struct link *link, uv_loop_t *loop, int fd, const struct link_ops *ops)
{
    return link_open(link, loop, (struct line){.fd = fd}, ops);
}

int link_open(struct link *link, uv_loop_t *loop, struct line line, const struct link_ops *ops)
{
    void *data = link->data;
    *link = (struct link){.ops = ops, .data = data, .tls = line.tls};
    int rv = open_stream(link, loop, line.fd);
    if (rv != 0)
        close(line.fd); /* libuv did not take it */
    link->io.handle.data = link;
    uv_prepare_init(loop, &link->prepare);
    uv_idle_init(loop, &link->idle);
    link->prepare.data = link->idle.data = link;
    link->handles = 3;
    if (rv == 0)
        rv = uv_read_start(&link->io.stream, on_alloc, on_read);
    if (rv != 0) {
        link_close(link, ERR_IO);
        return ERR_IO;
    }
    return 0;
}

char *link_send_begin(struct link *link, int type, size_t body_size)
{
    ASSERT(body_size < LINK_MESSAGE_MAX);
    if (link->closing)
        return NULL;
    if (link->out.n + body_size + VARINT_MAX + 1 > LINK_BLOCK_MAX)
        flush(link);
    if (link->closing)
        return NULL;
    if (link->out.n == 0)
        buf_grow(&link->out, LINK_HEAD_SIZE);
    if (!link->flush_queued) {
        link->flush_queued = true;
        uv_prepare_start(&link->prepare, on_prepare);
        uv_idle_start(&link->idle, on_idle);
    }
    buf_add_varint(&link->out, body_size + 1);
    buf_add_byte(&link->out, (uint8_t)type);
    return buf_grow(&link->out, body_size);
}

void link_send(struct link *link, int type, struct span body)
{
    char *room = link_send_begin(link, type, body.n);
    if (room != NULL && body.n > 0)
        memcpy(room, body.p, body.n);
}

size_t link_pending(const struct link *link)
{
    return link->pending + link->out.n;
}
