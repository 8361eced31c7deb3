#include "store/base/batch.h"

#include <errno.h>
#include <liburing.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "store/base/check.h"
#include "store/base/log.h"

enum { FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL };

struct batch {
    struct io_uring ring;
    bool has_ring;
    struct msghdr messages[BATCH_MAX]; /* of what is being sent */
};

static bool ring_knows(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (probe == NULL)
        return false;
    bool knows = io_uring_opcode_supported(probe, IORING_OP_SEND) &&
                 io_uring_opcode_supported(probe, IORING_OP_SENDMSG) &&
                 io_uring_opcode_supported(probe, IORING_OP_RECV);
    io_uring_free_probe(probe);
    return knows;
}

struct batch *batch_new(bool ring)
{
    struct batch *batch = xcalloc(1, sizeof *batch);
    if (!ring || io_uring_queue_init(BATCH_MAX, &batch->ring, 0) != 0)
        return batch;
    batch->has_ring = ring_knows(&batch->ring);
    if (!batch->has_ring)
        io_uring_queue_exit(&batch->ring);
    return batch;
}

bool batch_has_ring(const struct batch *batch)
{
    return batch->has_ring;
}

static void drop_ring(struct batch *batch)
{
    if (batch->has_ring)
        io_uring_queue_exit(&batch->ring);
    batch->has_ring = false;
}

void batch_free(struct batch *batch)
{
    if (batch == NULL)
        return;
    drop_ring(batch);
    free(batch);
}

/* ---- one by one ---- */

static void do_one(struct batch_op *op, bool send)
{
    do {
        struct msghdr message = {.msg_iov = op->parts, .msg_iovlen = (size_t)op->part_count};
        op->result = send ? sendmsg(op->fd, &message, FLAGS)
                          : recv(op->fd, op->parts[0].iov_base, op->parts[0].iov_len, FLAGS);
    } while (op->result < 0 && errno == EINTR);
    if (op->result < 0)
        op->result = errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

/* ---- by the ring ---- */

static void prepare(struct batch *batch, struct batch_op *op, size_t number, bool send)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&batch->ring);
    ASSERT(entry != NULL);
    if (!send) {
        io_uring_prep_recv(entry, op->fd, op->parts[0].iov_base, op->parts[0].iov_len, FLAGS);
    } else if (op->part_count == 1) {
        io_uring_prep_send(entry, op->fd, op->parts[0].iov_base, op->parts[0].iov_len, FLAGS);
    } else {
        batch->messages[number] =
            (struct msghdr){.msg_iov = op->parts, .msg_iovlen = (size_t)op->part_count};
        io_uring_prep_sendmsg(entry, op->fd, &batch->messages[number], FLAGS);
    }
    io_uring_sqe_set_data(entry, op);
    op->result = -EINPROGRESS;
}

/* How many were handed over; fewer than n when the ring is of no use any more. */
static size_t submit(struct batch *batch, size_t n)
{
    size_t done = 0;
    while (done < n) {
        int rv = io_uring_submit(&batch->ring);
        if (rv == -EINTR)
            continue;
        if (rv <= 0)
            break;
        done += (size_t)rv;
    }
    return done;
}

/* Results of as many; they are there already, as nothing is to wait (MSG_DONTWAIT). */
static void collect(struct batch *batch, size_t n)
{
    while (n > 0) {
        struct io_uring_cqe *entry;
        int rv = io_uring_wait_cqe(&batch->ring, &entry);
        if (rv == -EINTR)
            continue;
        if (rv != 0)
            log_fatal("io_uring has taken requests and does not say what became of them",
                      strerror(-rv));
        struct batch_op *op = io_uring_cqe_get_data(entry);
        op->result = entry->res;
        io_uring_cqe_seen(&batch->ring, entry);
        n--;
    }
}

static void run(struct batch *batch, struct batch_op *ops, size_t n, bool send)
{
    ASSERT(n <= BATCH_MAX);
    bool together = batch->has_ring && n > 1;
    if (together) {
        for (size_t i = 0; i < n; i++)
            prepare(batch, &ops[i], i, send);
        size_t taken = submit(batch, n);
        collect(batch, taken);
        if (taken < n) { /* with what it did not take */
            log_warn("io_uring takes nothing more: a system call for each socket from here on");
            drop_ring(batch);
        }
    }
    for (size_t i = 0; i < n; i++)
        if (!together || ops[i].result == -EINPROGRESS || ops[i].result == -EINTR)
            do_one(&ops[i], send);
}

void batch_send(struct batch *batch, struct batch_op *ops, size_t n)
{
    run(batch, ops, n, true);
}

void batch_receive(struct batch *batch, struct batch_op *ops, size_t n)
{
    run(batch, ops, n, false);
}
