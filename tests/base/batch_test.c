#include "store/base/batch.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/span.h"

enum { PAIRS = BATCH_MAX };

static struct batch *batch;
static int ours[PAIRS], theirs[PAIRS];
static struct batch_op ops[PAIRS];

static void open_pairs(void)
{
    for (size_t i = 0; i < PAIRS; i++) {
        int fds[2], size = 8192;
        cr_assert(zero(int, socketpair(AF_UNIX, SOCK_STREAM, 0, fds)));
        cr_assert(zero(int, setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size)));
        ours[i] = fds[0];
        theirs[i] = fds[1];
    }
}

static void setup(void)
{
    batch = batch_new(true);
    open_pairs();
}

static void setup_alone(void)
{
    batch = batch_new(false);
    cr_assert(not(batch_has_ring(batch)));
    open_pairs();
}

static void teardown(void)
{
    for (size_t i = 0; i < PAIRS; i++) {
        close(ours[i]);
        if (theirs[i] >= 0)
            close(theirs[i]);
    }
    batch_free(batch);
}

TestSuite(batch, .init = setup, .fini = teardown);
TestSuite(batch_alone, .init = setup_alone, .fini = teardown);

/* What each of them is to say is another text, of several parts. */
static void say(size_t n)
{
    static char words[PAIRS][2][32];
    for (size_t i = 0; i < n; i++) {
        snprintf(words[i][0], sizeof words[i][0], "socket %zu", i);
        snprintf(words[i][1], sizeof words[i][1], ", part %zu", i % 7);
        ops[i] = (struct batch_op){.fd = ours[i], .part_count = i % 3 == 0 ? 1 : 2};
        for (int part = 0; part < ops[i].part_count; part++)
            ops[i].parts[part] = (struct iovec){words[i][part], strlen(words[i][part])};
    }
    batch_send(batch, ops, n);
}

static void hear(size_t n)
{
    static char rooms[PAIRS][64];
    char wanted[64];
    for (size_t i = 0; i < n; i++)
        ops[i] = (struct batch_op){
            .fd = theirs[i], .part_count = 1, .parts = {{rooms[i], sizeof rooms[i]}}};
    batch_receive(batch, ops, n);
    for (size_t i = 0; i < n; i++) {
        int size = snprintf(wanted, sizeof wanted,
                            i % 3 == 0 ? "socket %zu" : "socket %zu, part %zu", i, i % 7);
        cr_assert(eq(int, (int)ops[i].result, size));
        cr_assert(zero(int, memcmp(rooms[i], wanted, (size_t)size)));
    }
}

static void talk(void)
{
    static const size_t COUNTS[] = {1, 2, 3, 17, PAIRS, 1, PAIRS};
    for (size_t round = 0; round < sizeof COUNTS / sizeof *COUNTS; round++) {
        say(COUNTS[round]);
        for (size_t i = 0; i < COUNTS[round]; i++)
            cr_assert(lt(int, 0, (int)ops[i].result));
        hear(COUNTS[round]);
    }
    batch_send(batch, ops, 0);
    batch_receive(batch, ops, 0);
}

/* Full, without its other side, closed by it, and no socket at all, among some that are fine. */
static void fail(void)
{
    static char much[1 << 20], room[64];
    close(theirs[1]);
    close(theirs[3]);
    theirs[1] = theirs[3] = -1;
    for (size_t i = 0; i < 6; i++)
        ops[i] = (struct batch_op){.fd = ours[i], .part_count = 1, .parts = {{much, 4}}};
    ops[2].parts[0].iov_len = sizeof much;
    ops[4].fd = -1;
    batch_send(batch, ops, 6);
    cr_assert(eq(int, (int)ops[0].result, 4));
    cr_assert(eq(int, (int)ops[1].result, -EPIPE));
    cr_assert(lt(int, 0, (int)ops[2].result));
    cr_assert(lt(int, (int)ops[2].result, (int)sizeof much));
    cr_assert(eq(int, (int)ops[4].result, -EBADF));
    cr_assert(eq(int, (int)ops[5].result, 4));
    batch_send(batch, &ops[2], 2);
    cr_assert(eq(int, (int)ops[2].result, -EAGAIN));
    cr_assert(eq(int, (int)ops[3].result, -EPIPE));
    for (size_t i = 0; i < 4; i++)
        ops[i] = (struct batch_op){.fd = ours[i], .part_count = 1, .parts = {{room, sizeof room}}};
    batch_receive(batch, ops, 4);
    cr_assert(eq(int, (int)ops[0].result, -EAGAIN));
    cr_assert(zero(int, (int)ops[1].result));
    cr_assert(eq(int, (int)ops[2].result, -EAGAIN));
    cr_assert(zero(int, (int)ops[3].result));
}

Test(batch, talk)
{
    talk();
}

Test(batch_alone, talk)
{
    talk();
}

Test(batch, fail)
{
    fail();
}

Test(batch_alone, fail)
{
    fail();
}

/* The kernel takes nothing through the ring any more: all goes on without it. */
Test(batch, the_ring_goes)
{
    if (!batch_has_ring(batch))
        cr_skip("io_uring is not allowed here");
    talk();
    int ring = -1;
    for (int fd = 3; fd < ours[0] && ring < 0; fd++) {
        char path[64], what[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, what, sizeof what - 1) > 0 && strstr(what, "io_uring") != NULL)
            ring = fd;
    }
    cr_assert(lt(int, 0, ring));
    close(ring);
    talk();
    cr_assert(not(batch_has_ring(batch)));
    fail();
}
