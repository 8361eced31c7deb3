#include "store/base/link.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "tests/lib/certs.h"
#include "tests/lib/scratch.h"

/* A link, what it heard (a line per message) and whether it is closed. */
struct side {
    struct link link;
    struct buf heard;
    size_t messages, blocks, drains, closes;
    int err;
    bool close_at_message;
};

static uv_loop_t loop;
static struct side here, there;
static int raw; /* the other end where there is no link */

static struct side *side_of(struct link *link)
{
    return container_of(link, struct side, link);
}

static void on_message(struct link *link, int type, struct span body)
{
    struct side *side = side_of(link);
    side->messages++;
    if (body.n <= 64)
        buf_addf(&side->heard, "%d %.*s\n", type, (int)body.n, body.p);
    else
        buf_addf(&side->heard, "%d %zu bytes %016llx\n", type, body.n,
                 (unsigned long long)XXH3_64bits(body.p, body.n));
    if (side->close_at_message)
        link_close(link, ERR_BUSY);
}

static void on_block_end(struct link *link)
{
    side_of(link)->blocks++;
}

static void on_drain(struct link *link)
{
    side_of(link)->drains++;
}

static void on_close(struct link *link, int err)
{
    side_of(link)->closes++;
    side_of(link)->err = err;
}

static const struct link_ops OPS = {
    .on_message = on_message,
    .on_block_end = on_block_end,
    .on_drain = on_drain,
    .on_close = on_close,
};

static void begin(void)
{
    int fds[2];
    here.heard.n = 0;
    here.messages = here.blocks = here.drains = here.closes = 0;
    here.err = 0;
    here.close_at_message = false;
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0));
    raw = fds[1];
    cr_assert(eq(int, link_open_fd(&here.link, &loop, fds[0], &OPS), 0));
}

static void setup(void)
{
    uv_loop_init(&loop);
    begin();
}

/* `there` takes over the raw end. */
static void link_both(void)
{
    cr_assert(eq(int, link_open_fd(&there.link, &loop, raw, &OPS), 0));
    raw = -1;
}

static void end(void)
{
    link_close(&here.link, ERR_CLOSED);
    if (raw >= 0)
        close(raw);
    else
        link_close(&there.link, ERR_CLOSED);
    while (uv_run(&loop, UV_RUN_ONCE) != 0)
        continue;
    cr_assert(eq(sz, here.closes, 1));
}

static void teardown(void)
{
    end();
    cr_assert(eq(int, uv_loop_close(&loop), 0));
    buf_close(&here.heard);
    buf_close(&there.heard);
}

TestSuite(link, .init = setup, .fini = teardown);

static const char *heard(struct side *side)
{
    buf_add_byte(&side->heard, 0);
    side->heard.n--;
    return side->heard.p;
}

/* ---- both ends ---- */

/* Messages of one turn make one block, in order. */
Test(link, messages_come_in_order)
{
    link_both();
    link_send(&here.link, LINK_HELLO, span_str("first"));
    memcpy(link_send_begin(&here.link, LINK_READ, 6), "second", 6);
    link_send(&here.link, 255, (struct span){0});
    cr_assert(lt(sz, 0, link_pending(&here.link)));
    while (there.messages < 3)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(str, (char *)heard(&there), (char *)"1 first\n3 second\n255 \n"));
    cr_assert(eq(sz, there.blocks, 1));
    cr_assert(eq(sz, link_pending(&here.link), 0));
    link_send(&there.link, LINK_REPLY, span_str("back"));
    while (here.messages < 1)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(str, (char *)heard(&here), (char *)"7 back\n"));
}

/* As large as one may be; no two parts of it are alike. */
static void fill_message(struct buf *body)
{
    uint64_t state = 1;
    for (size_t i = 0; i < (LINK_MESSAGE_MAX - 1) / 8; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        buf_add(body, &state, 8);
    }
}

/* What is more than a block and more than the socket takes arrives whole; drained is told. */
Test(link, big_messages_arrive_whole)
{
    enum { N = 9 };
    struct buf body = {0}, want = {0};
    link_both();
    fill_message(&body);
    for (size_t i = 0; i < N; i++) {
        body.p[0] = (char)i;
        link_send(&here.link, LINK_TAIL, buf_span(&body));
        buf_addf(&want, "8 %zu bytes %016llx\n", body.n,
                 (unsigned long long)XXH3_64bits(body.p, body.n));
    }
    cr_assert(ge(sz, link_pending(&here.link), N * body.n - (1 << 20)));
    while (there.messages < N && there.closes == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(span_eq(buf_span(&there.heard), buf_span(&want)));
    while (here.drains == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(sz, link_pending(&here.link), 0));
    buf_close(&body);
    buf_close(&want);
}

/* The other side's end is ERR_CLOSED; what is sent after it is dropped. */
Test(link, other_side_ends)
{
    link_both();
    link_close(&there.link, ERR_BUSY);
    while (here.closes == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(int, here.err, ERR_CLOSED));
    cr_assert(eq(int, there.err, ERR_BUSY));
    cr_assert(eq(ptr, link_send_begin(&here.link, LINK_HELLO, 5), NULL));
    link_send(&here.link, LINK_HELLO, span_str("hello"));
}

/* A link that is closed from a callback gives out nothing more. */
Test(link, close_inside_a_callback)
{
    link_both();
    there.close_at_message = true;
    link_send(&here.link, 1, span_str("a"));
    link_send(&here.link, 1, span_str("b"));
    while (here.closes == 0 || there.closes == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(str, (char *)heard(&there), (char *)"1 a\n"));
    cr_assert(eq(sz, there.blocks, 0));
    cr_assert(eq(int, there.err, ERR_BUSY));
}

/* What can't be opened is closed, and says so like any other link. */
Test(link, bad_descriptor)
{
    static struct side bad;
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, link_open_fd(&bad.link, &loop, file, &OPS), ERR_IO));
    while (bad.closes == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(int, bad.err, ERR_IO));
    cr_assert(eq(int, fcntl(file, F_GETFD), -1));
}

/* ---- by TLS ---- */

enum { DAY_S = 86400 };

static char dir[SCRATCH_MAX];
static struct tls *certs;

/* Both ends as links, whose lines have shaken hands before. */
static void link_both_tls(void)
{
    int fds[2];
    scratch_make(dir);
    cert_sign(dir, "ca", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "node", "ca", -DAY_S, DAY_S);
    certs = cert_link(dir, "node", "ca");
    end();
    here.heard.n = 0;
    here.messages = here.blocks = here.drains = here.closes = 0;
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0));
    struct line lines[2] = {{.fd = fds[0], .tls = tls_connect(certs)},
                            {.fd = fds[1], .tls = tls_accept(certs)}};
    for (int done = 0; done < 2;) {
        done = 0;
        for (int i = 0; i < 2; i++) {
            int rv = line_shake(&lines[i]);
            cr_assert(ge(int, rv, 0));
            done += rv;
        }
    }
    cr_assert(eq(int, link_open(&here.link, &loop, lines[0], &OPS), 0));
    cr_assert(eq(int, link_open(&there.link, &loop, lines[1], &OPS), 0));
    raw = -1;
}

static void free_certs(void)
{
    tls_free(certs); /* links keep what they began with */
    scratch_remove(dir);
}

Test(link, tls_messages_come_in_order)
{
    link_both_tls();
    link_send(&here.link, LINK_HELLO, span_str("first"));
    link_send(&here.link, LINK_READ, span_str("second"));
    while (there.messages < 2)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(str, (char *)heard(&there), (char *)"1 first\n3 second\n"));
    cr_assert(eq(sz, there.blocks, 1));
    cr_assert(eq(sz, link_pending(&here.link), 0));
    free_certs();
    link_send(&there.link, LINK_REPLY, span_str("back"));
    while (here.messages < 1)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(str, (char *)heard(&here), (char *)"7 back\n"));
}

/* More than a record, than a block, and than the socket takes; and both ways at once. */
Test(link, tls_big_messages_arrive_whole)
{
    enum { N = 9 };
    struct buf body = {0}, want = {0};
    link_both_tls();
    fill_message(&body);
    for (size_t i = 0; i < N; i++) {
        body.p[0] = (char)i;
        link_send(&here.link, LINK_TAIL, buf_span(&body));
        link_send(&there.link, LINK_TAIL, buf_span(&body));
        buf_addf(&want, "8 %zu bytes %016llx\n", body.n,
                 (unsigned long long)XXH3_64bits(body.p, body.n));
    }
    while (there.messages < N || here.messages < N || here.drains == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(span_eq(buf_span(&there.heard), buf_span(&want)));
    cr_assert(span_eq(buf_span(&here.heard), buf_span(&want)));
    cr_assert(eq(sz, link_pending(&here.link), 0));
    buf_close(&body);
    buf_close(&want);
    free_certs();
}

/* What is changed or put in between on the way ends the link. */
Test(link, tls_forged_record)
{
    static const char RECORD[] = "\x17\3\3\0\x20"
                                 "0123456789abcdef0123456789abcdef";
    link_both_tls();
    int fd = -1;
    cr_assert(zero(int, uv_fileno(&here.link.io.handle, &fd)));
    link_send(&here.link, LINK_READ, span_str("true"));
    link_send(&there.link, LINK_REPLY, span_str("not to be sent any more"));
    link_flush(&here.link);
    cr_assert(eq(long, write(fd, RECORD, sizeof RECORD - 1), (long)sizeof RECORD - 1));
    while (there.closes == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(int, there.err, ERR_CORRUPT));
    cr_assert(zero(sz, there.messages));
    free_certs();
}

/* ---- raw blocks ---- */

static void add_block(struct buf *out, struct span content)
{
    char head[LINK_HEAD_SIZE] = {'l', 'q', LINK_VERSION, 0};
    put_le32(head + 4, (uint32_t)content.n);
    put_le64(head + 8, XXH3_64bits(content.p, content.n));
    buf_add(out, head, sizeof head);
    buf_add_span(out, content);
}

static void write_raw(struct span bytes)
{
    cr_assert(eq(sz, (size_t)write(raw, bytes.p, bytes.n), bytes.n));
}

/* Blocks are taken however they are split. */
Test(link, blocks_in_pieces)
{
    struct buf in = {0};
    add_block(&in, span_str("\x04\x01"
                            "abc\x02\x02"
                            "d"));
    add_block(&in, (struct span){0});
    add_block(&in, span_str("\x01\x09"));
    for (size_t step = 1; step <= in.n; step++) {
        for (size_t at = 0; at < in.n; at += step) {
            write_raw(span_of(in.p + at, step < in.n - at ? step : in.n - at));
            uv_run(&loop, UV_RUN_ONCE);
        }
        cr_assert(eq(str, (char *)heard(&here), (char *)"1 abc\n2 d\n9 \n"), "steps of %zu", step);
        cr_assert(eq(sz, here.blocks, 3));
        end();
        begin();
    }
    buf_close(&in);
}

/* The end of the stream inside a block is an end. */
Test(link, end_inside_a_block)
{
    struct buf in = {0};
    add_block(&in, span_str("\x04\x01xyz"));
    write_raw(span_of(in.p, in.n - 1));
    shutdown(raw, SHUT_WR);
    while (here.closes == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(int, here.err, ERR_CLOSED));
    cr_assert(eq(sz, here.messages, 0));
    buf_close(&in);
}

static void malformed(const char *what, struct span bytes, int err, size_t messages)
{
    write_raw(bytes);
    while (here.closes == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(int, here.err, err), "%s", what);
    cr_assert(eq(sz, here.messages, messages), "%s", what);
    cr_assert(eq(sz, here.blocks, 0), "%s", what);
    end();
    begin();
}

/* Each byte of a head matters, and the content is what its checksum says. */
Test(link, malformed_blocks_close_the_link)
{
    struct buf in = {0};
    add_block(&in, span_str("\x04\x01xyz"));
    for (size_t i = 0; i < in.n; i++) {
        if (i >= 4 && i < 7)
            continue; /* a size that is larger and still allowed waits for more bytes */
        in.p[i] = (char)(in.p[i] ^ 0x04);
        malformed("a flipped bit", buf_span(&in), i == 2 || i == 3 ? ERR_VERSION : ERR_CORRUPT, 0);
        in.p[i] = (char)(in.p[i] ^ 0x04);
    }
    put_le32(in.p + 4, LINK_BLOCK_MAX + 1);
    malformed("a block over the limit", buf_span(&in), ERR_CORRUPT, 0);
    put_le32(in.p + 4, 3);
    malformed("a block that is cut", buf_span(&in), ERR_CORRUPT, 0);
    buf_close(&in);
}

/* Content with a right checksum and wrong messages is malformed as well. */
Test(link, malformed_messages_close_the_link)
{
    static const struct {
        const char *what, *content;
        size_t n, messages;
    } BAD[] = {
        {"no type", "\0", 1, 0},
        {"longer than the block", "\x05\x01xyz", 5, 0},
        {"after a good one", "\x02\x01x\x03\x01y", 6, 1},
        {"size that does not end", "\x80\x80", 2, 0},
        {"size that does not fit", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, 0},
        {"size over the limit", "\x81\x80\x80\x02\x01", 5, 0},
        {"size without end", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 12, 0},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct buf in = {0};
        add_block(&in, span_of(BAD[i].content, BAD[i].n));
        malformed(BAD[i].what, buf_span(&in), ERR_CORRUPT, BAD[i].messages);
        buf_close(&in);
    }
}
