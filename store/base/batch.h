/* store/base/batch.h: sends to many sockets, or reads of many, by one system call (io_uring)
 * instead of one each; where the kernel does not allow it, one each. Nothing waits either way, and
 * all results are there when the call returns.
 * Thread: one at a time.
 * Bounds: BATCH_MAX sockets at once, BATCH_PARTS_MAX parts of each. */
#ifndef LOQUAT_BASE_BATCH_H
#define LOQUAT_BASE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { BATCH_MAX = 64, BATCH_PARTS_MAX = 8 };

struct batch_op {
    int fd;
    int part_count;
    struct iovec parts[BATCH_PARTS_MAX]; /* of a read: where to; one */
    ssize_t result;                      /* bytes; or -EAGAIN, or what else went wrong, negative */
};

/* Of these bytes, or into them. */
static inline struct batch_op batch_op_of(int fd, const void *p, size_t n)
{
    return (struct batch_op){.fd = fd, .part_count = 1, .parts = {{(void *)(uintptr_t)p, n}}};
}

struct batch;
struct batch *batch_new(bool ring); /* false: one system call each in any case */
bool batch_has_ring(const struct batch *batch);
void batch_free(struct batch *batch);
/* Each operation is of another socket. SIGPIPE does not come. */
void batch_send(struct batch *batch, struct batch_op *ops, size_t n);
void batch_receive(struct batch *batch, struct batch_op *ops, size_t n);

#endif
