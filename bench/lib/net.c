#include "bench/lib/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/lib/nettls.h"
#include "store/base/batch.h"
#include "store/base/check.h"

enum { READ_MAX = 256 << 10, READ_TOGETHER = 8 << 10, STALL_S_MAX = 60, SEGMENT = 1448 };

/* Of the loop in use: the connections of this turn. */
static struct turn {
    uv_loop_t *loop;
    pid_t pid;
    uv_prepare_t prepare;
    uv_check_t check;
    struct batch *batch;
    struct list dirty;
    struct net *readable[BATCH_MAX];
    size_t readable_count;
    struct batch_op ops[BATCH_MAX];
    char in[BATCH_MAX][READ_TOGETHER], large[READ_MAX];
} * turn;

static uint64_t closings, closed; /* of all connections; a loop may hold other handles, too */
static uint64_t bytes_in, bytes_out;

void net_bytes(uint64_t *in, uint64_t *out)
{
    *in = bytes_in;
    *out = bytes_out;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void settle(struct net *net)
{
    if (net->closing)
        return;
    int events = net->ended ? 0
                            : (net->connected && !net->stalled ? UV_READABLE : 0) |
                                  (net->blocked || !net->connected ? UV_WRITABLE : 0);
    if (events == 0)
        uv_poll_stop(&net->poll);
    else
        uv_poll_start(&net->poll, events, on_poll);
}

void net_end(struct net *net, const char *why)
{
    if (net->closing || net->ended)
        return;
    net->ended = true;
    settle(net);
    if (net->on_end == NULL)
        bench_fail("a connection ended: %s", why);
    net->on_end(net, why);
}

/* ---- writing ---- */

/* What is to be written next, as it goes over the wire. */
static struct batch_op write_of(struct net *net)
{
    if (net->wire.n == 0) {
        struct buf empty = net->wire;
        if (net->tls != NULL)
            nettls_encrypt(net->tls, &net->out);
        net->wire = net->out;
        net->out = empty;
    }
    return batch_op_of(net->fd, net->wire.p, net->wire.n);
}

static void sent(struct net *net, ssize_t n)
{
    bool was_blocked = net->blocked;
    if (n < 0 && n != -EAGAIN) {
        net_end(net, strerror((int)-n));
        return;
    }
    size_t done = n > 0 ? (size_t)n : 0;
    bytes_out += done;
    buf_cut(&net->wire, done);
    net->blocked = net->wire.n > 0;
    if (!net->blocked)
        buf_close(&net->wire); /* an idle connection holds nothing */
    if (net->blocked != was_blocked)
        settle(net);
    if (was_blocked && !net->blocked)
        net_flush(net);
}

static void write_one(struct net *net)
{
    struct batch_op op = write_of(net);
    batch_send(turn->batch, &op, 1);
    sent(net, op.result);
}

static void write_some(struct list *dirty)
{
    struct net *nets[BATCH_MAX];
    size_t n = 0;
    struct list_link *link;
    while (n < BATCH_MAX && (link = list_pop(dirty)) != NULL) {
        struct net *net = container_of(link, struct net, in_dirty);
        turn->ops[n] = write_of(net);
        if (net->wire.n > 0)
            nets[n++] = net;
    }
    batch_send(turn->batch, turn->ops, n);
    for (size_t i = 0; i < n; i++)
        if (!nets[i]->closing)
            sent(nets[i], turn->ops[i].result);
}

static void on_prepare(uv_prepare_t *prepare)
{
    (void)prepare;
    while (!list_empty(&turn->dirty))
        write_some(&turn->dirty);
}

void net_flush(struct net *net)
{
    if (!net->connected || net->closing)
        return;
    if ((net->out.n > 0 || net->tls != NULL) && !net->blocked && net->in_dirty.next == NULL)
        list_push(&turn->dirty, &net->in_dirty); /* TLS may have something of its own to say */
}

/* ---- reading ---- */

static void take(struct net *net, const char *p, size_t n)
{
    if (net->in.n > 0) {
        buf_add(&net->in, p, n);
        buf_cut(&net->in, net->on_bytes(net, buf_span(&net->in)));
        if (net->in.n == 0)
            buf_close(&net->in); /* an idle connection holds nothing */
        return;
    }
    size_t used = net->on_bytes(net, span_of(p, n));
    if (used < n)
        buf_add(&net->in, p + used, n - used);
}

static void on_read(struct net *net, const char *p, ssize_t n)
{
    if (n == -EAGAIN || net->closing)
        return;
    if (n <= 0) {
        net_end(net, n == 0 ? "end of file" : strerror((int)-n));
        return;
    }
    bytes_in += (uint64_t)n;
    if (net->tls == NULL) {
        take(net, p, (size_t)n);
        return;
    }
    struct buf plain = {0};
    if (!nettls_decrypt(net->tls, span_of(p, (size_t)n), &plain))
        net_end(net, "TLS failed");
    if (plain.n > 0 && !net->closing)
        take(net, plain.p, plain.n);
    buf_close(&plain);
    net_flush(net);
}

static bool reads(const struct net *net)
{
    return !net->closing && !net->ended && !net->stalled;
}

static bool read_one(struct net *net)
{
    struct batch_op op = batch_op_of(net->fd, turn->large, READ_MAX);
    batch_receive(turn->batch, &op, 1);
    on_read(net, turn->large, op.result);
    return op.result != -EAGAIN;
}

static void read_all(void)
{
    struct net *nets[BATCH_MAX];
    size_t n = 0;
    for (size_t i = 0; i < turn->readable_count; i++) {
        struct net *net = turn->readable[i];
        net->readable = false;
        if (!reads(net))
            continue;
        turn->ops[n] = batch_op_of(net->fd, turn->in[n], READ_TOGETHER);
        nets[n++] = net;
    }
    turn->readable_count = 0;
    if (n == 1) {
        read_one(nets[0]);
        return;
    }
    batch_receive(turn->batch, turn->ops, n);
    for (size_t i = 0; i < n; i++) {
        on_read(nets[i], turn->in[i], turn->ops[i].result);
        if (turn->ops[i].result == READ_TOGETHER && reads(nets[i]))
            read_one(nets[i]);
    }
}

static void on_check(uv_check_t *check)
{
    (void)check;
    read_all();
}

/* ---- connecting ---- */

static void use_loop(uv_loop_t *loop)
{
    if (turn != NULL && turn->loop == loop && turn->pid == getpid())
        return;
    turn = xcalloc(1, sizeof *turn); /* that of a parent process is the parent's */
    turn->loop = loop;
    turn->pid = getpid();
    turn->batch = batch_new(true);
    list_init(&turn->dirty);
    uv_prepare_init(loop, &turn->prepare);
    uv_check_init(loop, &turn->check);
    uv_prepare_start(&turn->prepare, on_prepare);
    uv_check_start(&turn->check, on_check);
    uv_unref((uv_handle_t *)&turn->prepare);
    uv_unref((uv_handle_t *)&turn->check);
}

static void on_connect(struct net *net)
{
    socklen_t size = sizeof net->error;
    int on = 1;
    if (net->error == 0)
        getsockopt(net->fd, SOL_SOCKET, SO_ERROR, &net->error, &size);
    if (net->error != 0) {
        net_end(net, strerror(net->error));
        return;
    }
    net->connected = true;
    setsockopt(net->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    settle(net);
    net_flush(net);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct net *net = poll->data;
    if (!net->connected) {
        on_connect(net);
        return;
    }
    while (status != 0 && reads(net)) /* all that came before, and then what is wrong */
        if (!read_one(net))
            net_end(net, uv_strerror(status));
    if (events & UV_WRITABLE && !net->closing)
        write_one(net);
    if (net->readable || !reads(net) || !(events & UV_READABLE))
        return;
    net->readable = true;
    turn->readable[turn->readable_count++] = net;
    if (turn->readable_count == BATCH_MAX)
        read_all();
}

void net_tls(struct net *net)
{
    net->tls = nettls_new();
}

static void be_small(const struct net *net)
{
    int segment = SEGMENT;
    if (setsockopt(net->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment) != 0 ||
        setsockopt(net->fd, SOL_SOCKET, SO_RCVBUF, &net->receive_bytes,
                   sizeof net->receive_bytes) != 0)
        bench_fail("a socket's buffers can't be made small");
}

void net_open(struct net *net, uv_loop_t *loop, int port)
{
    struct sockaddr_in at;
    uv_ip4_addr("127.0.0.1", port, &at);
    use_loop(loop);
    net->loop = loop;
    net->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (net->fd < 0 || uv_poll_init(loop, &net->poll, net->fd) != 0)
        bench_fail("socket: %s", strerror(errno));
    net->poll.data = net;
    if (net->receive_bytes > 0)
        be_small(net);
    if (net->from != 0) {
        struct sockaddr_in own = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + net->from)};
        int on = 1; /* as libuv does */
        setsockopt(net->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(net->fd, (const struct sockaddr *)&own, sizeof own) != 0)
            bench_fail("127.0.0.%u can't be connected from", net->from);
    }
    if (connect(net->fd, (const struct sockaddr *)&at, sizeof at) != 0 && errno != EINPROGRESS)
        net->error = errno; /* said from the loop */
    settle(net);
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct net *net = handle->data;
    close(net->fd);
    buf_close(&net->in);
    buf_close(&net->out);
    buf_close(&net->wire);
    nettls_free(net->tls);
    net->tls = NULL;
    net->closed = true;
    closed++;
}

void net_stall(struct net *net)
{
    net->stalled = true;
    settle(net);
}

void net_go_on(struct net *net)
{
    net->stalled = false;
    settle(net);
}

void net_close(struct net *net)
{
    net->closing = true;
    closings++;
    if (net->in_dirty.next != NULL) { /* as much of it as goes at once */
        struct batch_op op = write_of(net);
        list_remove(&net->in_dirty);
        batch_send(turn->batch, &op, 1);
        bytes_out += op.result > 0 ? (uint64_t)op.result : 0;
    }
    uv_close((uv_handle_t *)&net->poll, on_closed);
}

void net_reset(struct net *net)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(net->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    net_close(net);
}

static void on_time(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

void net_run(uv_loop_t *loop, double secs)
{
    bool over = false;
    uv_timer_t timer = {.data = &over};
    uv_timer_init(loop, &timer);
    uv_update_time(loop);
    uv_timer_start(&timer, on_time, (uint64_t)(secs * 1000), 0);
    while (!over)
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(loop, UV_RUN_NOWAIT); /* the timer is this function's */
}

void net_until(uv_loop_t *loop, const uint64_t *count, uint64_t at_least)
{
    uint64_t seen = *count;
    double at = now_s();
    while (*count < at_least) {
        uv_run(loop, UV_RUN_ONCE);
        if (*count != seen) {
            seen = *count;
            at = now_s();
        } else if (now_s() - at > STALL_S_MAX) {
            bench_fail("nothing more came: %llu of %llu", (unsigned long long)seen,
                       (unsigned long long)at_least);
        }
    }
}

void net_settle(uv_loop_t *loop)
{
    net_until(loop, &closed, closings);
}
