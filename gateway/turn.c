#include "gateway/turn.h"

#include <stdlib.h>

#include "gateway/conn.h"
#include "store/base/batch.h"
#include "store/base/check.h"
#include "store/base/log.h"

struct turn {
    struct batch *batch;
    struct batch_op ops[BATCH_MAX];
    struct conn *readable[BATCH_MAX];
    size_t readable_count;
    char in[BATCH_MAX][TURN_READ_BYTES];
};

struct turn *turn_new(bool ring)
{
    struct turn *turn = xcalloc(1, sizeof *turn);
    turn->batch = batch_new(ring);
    if (ring && !batch_has_ring(turn->batch))
        log_info("io_uring is not allowed here: a system call for each socket instead");
    return turn;
}

void turn_free(struct turn *turn)
{
    batch_free(turn->batch);
    free(turn);
}

/* ---- reading ---- */

static void read_one(struct conn *conn)
{
    char *in = conn->gate->in;
    struct batch_op op = batch_op_of(conn->fd, in, GATE_IN_BYTES);
    batch_receive(conn->gate->turn->batch, &op, 1);
    conn_on_read(conn, in, op.result);
}

void turn_read(struct gate *gate)
{
    struct turn *turn = gate->turn;
    struct conn *conns[BATCH_MAX];
    size_t n = 0;
    for (size_t i = 0; i < turn->readable_count; i++) {
        struct conn *conn = turn->readable[i];
        conn->readable = false;
        if (!conn_reads(conn)) {
            conn_settle(conn); /* not any more, and epoll is to know */
            continue;
        }
        turn->ops[n] = batch_op_of(conn->fd, turn->in[n], TURN_READ_BYTES);
        conns[n++] = conn;
    }
    turn->readable_count = 0;
    if (n == 1) {
        read_one(conns[0]);
        return;
    }
    batch_receive(turn->batch, turn->ops, n);
    for (size_t i = 0; i < n; i++) { /* what one has said may close another */
        if (conns[i]->phase != CONN_CLOSED)
            conn_on_read(conns[i], turn->in[i], turn->ops[i].result);
        if (turn->ops[i].result == TURN_READ_BYTES && conn_reads(conns[i]))
            read_one(conns[i]); /* it has more, as it seems */
    }
}

void turn_readable(struct conn *conn)
{
    struct turn *turn = conn->gate->turn;
    if (conn->readable)
        return;
    conn->readable = true;
    turn->readable[turn->readable_count++] = conn;
    if (turn->readable_count == BATCH_MAX)
        turn_read(conn->gate);
}

/* ---- writing ---- */

/* As many as one batch holds. Nothing else happens to any connection until they are written. */
static void write_some(struct gate *gate)
{
    struct turn *turn = gate->turn;
    struct conn *conns[BATCH_MAX];
    int firsts[BATCH_MAX]; /* conn_first_parts */
    size_t n = 0, op_count = 0;
    struct list_link *link;
    for (; n < BATCH_MAX && (link = list_pop(&gate->dirty)) != NULL; n++) {
        conns[n] = container_of(link, struct conn, in_dirty);
        firsts[n] = conn_first_parts(conns[n], &turn->ops[op_count]);
        op_count += firsts[n] == 1;
    }
    batch_send(turn->batch, turn->ops, op_count);
    const struct batch_op *op = turn->ops;
    for (size_t i = 0; i < n; i++) { /* who is closed by another's turn stays in memory meanwhile */
        if (firsts[i] < 0)
            conn_abort(conns[i]);
        else
            conn_flush_on(conns[i], firsts[i] == 1 ? op++ : NULL);
    }
}

void turn_write(struct gate *gate)
{
    while (!list_empty(&gate->dirty))
        write_some(gate);
}
