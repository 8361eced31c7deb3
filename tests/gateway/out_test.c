#include "gateway/out.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/err.h"

static struct out out;
static struct out_pool pool;
static int ours, theirs;
static struct buf got; /* what the other side has read */

static void setup(void)
{
    int fds[2], size = 4096;
    cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM, 0, fds)));
    ours = fds[0];
    theirs = fds[1];
    cr_assert(zero(int, setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &size, sizeof size)));
    cr_assert(zero(int, fcntl(theirs, F_SETFL, O_NONBLOCK)));
    out = (struct out){0};
    pool = (struct out_pool){0};
    got = (struct buf){0};
}

static void teardown(void)
{
    out_clear(&out, &pool);
    cr_assert(zero(sz, pool.bytes));
    out_pool_close(&pool);
    buf_close(&got);
    close(ours);
    if (theirs >= 0)
        close(theirs);
}

TestSuite(out, .init = setup, .fini = teardown);

static size_t read_some(size_t most)
{
    char *room = buf_grow(&got, most);
    ssize_t n = read(theirs, room, most);
    got.n -= most - (n > 0 ? (size_t)n : 0);
    return n > 0 ? (size_t)n : 0;
}

/* Writes until all is written, while the other side reads `step` bytes between. */
static void write_all(size_t step)
{
    int rv;
    while ((rv = out_write(&out, &pool, ours)) == 1)
        cr_assert(lt(sz, 0, read_some(step)));
    cr_assert(zero(int, rv));
    while (read_some(step) > 0)
        ;
}

static struct frame *frame_of(size_t n, char c)
{
    char *bytes = xmalloc(n);
    memset(bytes, c, n);
    struct frame *frame = frame_new(span_of("<", 1), span_of(bytes, n));
    free(bytes);
    return frame;
}

/* Own bytes and shared frames reach the other side in the order in which they were given, whatever
 * pieces the socket takes. */
Test(out, order_is_kept_over_partial_writes)
{
    struct buf want = {0};
    for (unsigned i = 0; i < 300; i++) {
        char text[400];
        size_t n = 1 + (i * 37) % sizeof text;
        memset(text, 'a' + (int)(i % 26), n);
        if (i % 3 == 0) {
            struct frame *frame = frame_of(n * 20, text[0]);
            out_frame(&out, &pool, frame);
            buf_add(&want, frame->p, frame->n);
            frame_unref(frame);
        } else {
            out_bytes(&out, &pool, span_of(text, n));
            buf_add(&want, text, n);
        }
    }
    cr_assert(eq(sz, out.bytes, want.n));
    cr_assert(eq(int, out_write(&out, &pool, ours), 1));
    cr_assert(lt(sz, out.bytes, want.n));
    write_all(1013);
    cr_assert(zero(sz, out.bytes));
    cr_assert(eq(sz, got.n, want.n));
    cr_assert(zero(int, memcmp(got.p, want.p, want.n)));
    buf_close(&want);
}

/* A frame is freed by the last of those who have written it or given it up, and is never copied. */
Test(out, a_shared_frame_goes_with_its_last_user)
{
    struct out other = {0};
    struct frame *frame = frame_of(100000, 'x');
    out_frame(&out, &pool, frame);
    out_frame(&other, &pool, frame);
    cr_assert(eq(u32, frame->refs, 3));
    cr_assert(eq(sz, out.bytes, 100001));
    cr_assert(eq(sz, other.bytes, 100001));
    out_clear(&other, &pool);
    cr_assert(eq(u32, frame->refs, 2));
    write_all(4096);
    cr_assert(eq(u32, frame->refs, 1));
    cr_assert(eq(sz, got.n, 100001));
    frame_unref(frame); /* a leak here or a use after it is the sanitizer's to say */
}

/* What waits for all clients is counted, a frame that many share once. */
Test(out, the_pool_counts_a_shared_frame_once)
{
    struct out others[3] = {0};
    struct frame *frame = frame_of(1000, 'x');
    for (size_t i = 0; i < 3; i++)
        out_frame(&others[i], &pool, frame);
    frame_unref(frame);
    cr_assert(eq(sz, pool.bytes, 1001));
    out_bytes(&out, &pool, span_str("hello"));
    cr_assert(eq(sz, pool.bytes, 1006));
    write_all(64);
    cr_assert(eq(sz, pool.bytes, 1001));
    for (size_t i = 0; i < 3; i++)
        out_clear(&others[i], &pool);
    cr_assert(zero(sz, pool.bytes));
}

/* A client at rest costs no memory here, and a pool keeps a bounded number of small chunks. */
Test(out, nothing_is_kept_at_rest)
{
    for (size_t i = 0; i < OUT_POOL_CHUNKS_MAX + 100; i++) {
        struct frame *frame = frame_of(1, 'x');
        out_frame(&out, &pool, frame);
        frame_unref(frame);
    }
    out_clear(&out, &pool);
    cr_assert(eq(ptr, out.first, NULL));
    cr_assert(eq(ptr, out.last, NULL));
    cr_assert(eq(sz, pool.count, OUT_POOL_CHUNKS_MAX));
    char large[OUT_POOL_BYTES_MAX * 2] = {0};
    out_bytes(&out, &pool, span_of(large, sizeof large));
    out_clear(&out, &pool);
    cr_assert(zero(sz, pool.free->own.cap));
}

/* The other side's end is an error, not a signal. */
Test(out, a_closed_socket_is_an_error)
{
    close(theirs);
    theirs = -1;
    out_bytes(&out, &pool, span_str("hello"));
    cr_assert(eq(int, out_write(&out, &pool, ours), ERR_CLOSED));
}

/* Either part of a frame may be empty. */
Test(out, frames_of_one_part)
{
    struct frame *head = frame_new(span_of("head", 4), (struct span){0});
    struct frame *body = frame_new((struct span){0}, span_of("body", 4));
    out_frame(&out, &pool, head);
    out_frame(&out, &pool, body);
    frame_unref(head);
    frame_unref(body);
    write_all(64);
    cr_assert(span_is(buf_span(&got), "headbody"));
}

Test(out, nothing_to_write_is_done)
{
    out_bytes(&out, &pool, span_of("", 0));
    cr_assert(eq(ptr, out.first, NULL));
    cr_assert(zero(int, out_write(&out, &pool, ours)));
}

/* Who encrypts looks at what waits, as much as fits, and says later how much of it has gone. */
Test(out, peeked_at_and_dropped)
{
    struct frame *frame = frame_new(span_str("head,"), span_str("body,"));
    char bytes[32];
    out_bytes(&out, &pool, span_str("own,"));
    out_frame(&out, &pool, frame);
    out_bytes(&out, &pool, span_str("last"));
    cr_assert(eq(sz, out_peek(&out, bytes, 6), 6));
    cr_assert(zero(int, memcmp(bytes, "own,he", 6)));
    cr_assert(eq(sz, out.bytes, 18)); /* looking changes nothing */
    out_drop(&out, &pool, 6);
    cr_assert(eq(u32, frame->refs, 2));
    cr_assert(eq(sz, out_peek(&out, bytes, sizeof bytes), 12));
    cr_assert(zero(int, memcmp(bytes, "ad,body,last", 12)));
    out_drop(&out, &pool, 8);
    cr_assert(eq(u32, frame->refs, 1));
    out_drop(&out, &pool, 0);
    out_drop(&out, &pool, 4);
    cr_assert(zero(sz, out.bytes + out_peek(&out, bytes, sizeof bytes)));
    cr_assert(zero(sz, pool.bytes));
    frame_unref(frame);
}
