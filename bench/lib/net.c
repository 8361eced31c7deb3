#include "bench/lib/net.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/nettls.h"

enum { READ_MAX = 256 << 10, STALL_S_MAX = 60, SEGMENT = 1448 };

static uint64_t closings, closed; /* of all connections; a loop may hold other handles, too */
static uint64_t bytes_in, bytes_out;

void net_bytes(uint64_t *in, uint64_t *out)
{
    *in = bytes_in;
    *out = bytes_out;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char shared[READ_MAX];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(shared, sizeof shared);
}

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

void net_end(struct net *net, const char *why)
{
    if (net->closing)
        return;
    if (net->on_end == NULL)
        bench_fail("a connection ended: %s", why);
    net->on_end(net, why);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct net *net = stream->data;
    if (n < 0)
        net_end(net, uv_strerror((int)n));
    if (n <= 0 || net->closing)
        return;
    bytes_in += (uint64_t)n;
    if (net->tls == NULL) {
        take(net, buf->base, (size_t)n);
        return;
    }
    struct buf plain = {0};
    if (!nettls_decrypt(net->tls, span_of(buf->base, (size_t)n), &plain))
        net_end(net, "TLS failed");
    if (plain.n > 0 && !net->closing)
        take(net, plain.p, plain.n);
    buf_close(&plain);
    net_flush(net);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct net *net = request->data;
    if (status != 0) {
        net_end(net, uv_strerror(status));
        return;
    }
    net->connected = true;
    uv_tcp_nodelay(&net->tcp, 1);
    uv_read_start((uv_stream_t *)&net->tcp, on_alloc, on_read);
    net_flush(net);
}

void net_tls(struct net *net)
{
    net->tls = nettls_new();
}

static void be_small(struct net *net)
{
    int fd = -1, segment = SEGMENT, bytes = net->receive_bytes;
    if (uv_fileno((const uv_handle_t *)&net->tcp, &fd) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment) != 0 ||
        uv_recv_buffer_size((uv_handle_t *)&net->tcp, &bytes) != 0)
        bench_fail("a socket's buffers can't be made small");
}

void net_open(struct net *net, uv_loop_t *loop, int port)
{
    struct sockaddr_in at;
    uv_ip4_addr("127.0.0.1", port, &at);
    uv_tcp_init_ex(loop, &net->tcp, AF_INET);
    net->tcp.data = net;
    net->connect.data = net;
    net->write.data = net;
    if (net->receive_bytes > 0)
        be_small(net);
    if (net->from != 0) {
        struct sockaddr_in own = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + net->from)};
        if (uv_tcp_bind(&net->tcp, (const struct sockaddr *)&own, 0) != 0)
            bench_fail("127.0.0.%u can't be connected from", net->from);
    }
    int err = uv_tcp_connect(&net->connect, &net->tcp, (const struct sockaddr *)&at, on_connect);
    if (err != 0)
        bench_fail("connect: %s", uv_strerror(err));
}

static void on_written(uv_write_t *write, int status)
{
    struct net *net = write->data;
    net->blocked = false;
    net->writing.n = 0;
    if (status == 0)
        net_flush(net);
}

void net_flush(struct net *net)
{
    if (!net->connected || net->blocked || net->closing)
        return;
    if (net->tls != NULL)
        nettls_encrypt(net->tls, &net->out);
    if (net->out.n == 0)
        return;
    uv_stream_t *stream = (uv_stream_t *)&net->tcp;
    uv_buf_t buf = uv_buf_init(net->out.p, (unsigned)net->out.n);
    int n = uv_try_write(stream, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        net_end(net, uv_strerror(n));
        return;
    }
    size_t done = n > 0 ? (size_t)n : 0;
    bytes_out += net->out.n;
    if (done < net->out.n) {
        buf_add(&net->writing, net->out.p + done, net->out.n - done);
        buf = uv_buf_init(net->writing.p, (unsigned)net->writing.n);
        net->blocked = true;
        uv_write(&net->write, stream, &buf, 1, on_written);
    }
    net->out.n = 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct net *net = handle->data;
    buf_close(&net->in);
    buf_close(&net->out);
    buf_close(&net->writing);
    nettls_free(net->tls);
    net->tls = NULL;
    net->closed = true;
    closed++;
}

void net_stall(struct net *net)
{
    uv_read_stop((uv_stream_t *)&net->tcp);
}

void net_go_on(struct net *net)
{
    if (net->connected && !net->closing)
        uv_read_start((uv_stream_t *)&net->tcp, on_alloc, on_read);
}

void net_close(struct net *net)
{
    net->closing = true;
    closings++;
    uv_close((uv_handle_t *)&net->tcp, on_closed);
}

void net_reset(struct net *net)
{
    net->closing = true;
    closings++;
    if (uv_tcp_close_reset(&net->tcp, on_closed) != 0)
        uv_close((uv_handle_t *)&net->tcp, on_closed);
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
