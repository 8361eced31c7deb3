/* Bytes on a link from anyone: how they are cut into reads changes neither the messages nor the
 * error, and the link always ends.
 * First byte: bit 0 the rest is the content of blocks, to be sealed here. Second: how it is cut. */
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uv_loop_t *loop;
static struct buf heard[2];
static int ended;

static void on_message(struct link *link, int type, struct span body)
{
    struct buf *out = link->data;
    buf_addf(out, "%d %zu ", type, body.n);
    buf_add_span(out, body);
}

static void on_block_end(struct link *link)
{
    buf_add_byte(link->data, '\n');
}

static void on_close(struct link *link, int err)
{
    (void)link;
    ASSERT(err == ERR_CLOSED || err == ERR_CORRUPT || err == ERR_VERSION);
    ended = err;
}

static const struct link_ops OPS = {
    .on_message = on_message, .on_block_end = on_block_end, .on_close = on_close};

static int run(struct span bytes, struct buf *out, uint8_t cut)
{
    static struct link link;
    int fds[2];
    uint32_t state = cut;
    ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    out->n = 0;
    link.data = out;
    ended = 0;
    ASSERT(link_open_fd(&link, loop, fds[0], &OPS) == 0);
    while (bytes.n > 0 && ended == 0 && !link.closing) {
        state = state * 1664525u + 1013904223u;
        size_t n = cut == 0 ? bytes.n : 1 + (state >> 16) % cut;
        n = n < bytes.n ? n : bytes.n;
        ASSERT(send(fds[1], bytes.p, n, MSG_NOSIGNAL) == (ssize_t)n);
        bytes = span_of(bytes.p + n, bytes.n - n);
        uv_run(loop, UV_RUN_NOWAIT);
    }
    close(fds[1]);
    while (ended == 0)
        uv_run(loop, UV_RUN_ONCE);
    return ended;
}

static void seal(struct buf *out, struct span content)
{
    char head[LINK_HEAD_SIZE] = {'l', 'q', LINK_VERSION, 0};
    put_le32(head + 4, (uint32_t)content.n);
    put_le64(head + 8, XXH3_64bits(content.p, content.n));
    buf_add(out, head, sizeof head);
    buf_add_span(out, content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    if (loop == NULL)
        loop = uv_default_loop();
    struct span rest = span_of(data + 2, size - 2);
    struct buf bytes = {0};
    if (data[0] & 1) {
        seal(&bytes, span_of(rest.p, rest.n / 2));
        seal(&bytes, span_of(rest.p + rest.n / 2, rest.n - rest.n / 2));
    } else {
        buf_add_span(&bytes, rest);
    }
    int whole = run(buf_span(&bytes), &heard[0], 0);
    int pieces = run(buf_span(&bytes), &heard[1], (uint8_t)(data[1] | 16));
    ASSERT(whole == pieces);
    ASSERT(span_eq(buf_span(&heard[0]), buf_span(&heard[1])));
    buf_close(&bytes);
    return 0;
}
