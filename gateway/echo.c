#include "gateway/echo.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "gateway/out.h"
#include "store/base/check.h"
#include "store/base/http.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/program.h"
#include "store/base/ws.h"
#include "store/base/ws_deflate.h"

enum { BODY_MAX = 4096, BINARY = 2, OPCODE_MASK = 0x0f };
enum phase { PEER_HTTP, PEER_WS, PEER_LINGER, PEER_CLOSED };

struct echo {
    uv_loop_t loop;
    uv_poll_t listener;
    uv_signal_t term, interrupt;
    int listen_fd;
    bool draining;
    struct list peers;
    size_t count;
    struct ws_pool *ws_pool;
    struct out_pool out_pool;
    char in[ECHO_IN_BYTES];
};

struct peer {
    struct echo *echo;
    uv_poll_t poll;
    uv_timer_t timer;
    int fd, events, handles;
    enum phase phase;
    bool stuck, close_soon;
    struct list_link link;
    struct out out;
    struct http *http; /* PEER_HTTP */
    struct ws ws;      /* PEER_WS */
};

/* ---- the end of a connection ---- */

static void on_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    if (--peer->handles > 0)
        return;
    close(peer->fd);
    free(peer);
}

/* What only a connection that is spoken on needs. */
static void strip(struct peer *peer)
{
    if (peer->phase == PEER_WS)
        ws_close(&peer->ws);
    http_free(peer->http);
    peer->http = NULL;
}

static void abort_peer(struct peer *peer)
{
    if (peer->phase == PEER_CLOSED)
        return;
    strip(peer);
    peer->phase = PEER_CLOSED;
    out_clear(&peer->out, &peer->echo->out_pool);
    list_remove(&peer->link);
    peer->echo->count--;
    uv_close((uv_handle_t *)&peer->poll, on_closed);
    uv_close((uv_handle_t *)&peer->timer, on_closed);
}

static void on_timer(uv_timer_t *timer)
{
    abort_peer(timer->data);
}

static void close_soon(struct peer *peer)
{
    if (peer->close_soon)
        return;
    peer->close_soon = true;
    uv_timer_start(&peer->timer, on_timer, ECHO_FLUSH_MS, 0);
}

/* The other side may still be sending: closing at once could make it lose what it has not read. */
static void begin_linger(struct peer *peer)
{
    strip(peer);
    peer->phase = PEER_LINGER;
    if (shutdown(peer->fd, SHUT_WR) != 0)
        abort_peer(peer);
    else
        uv_timer_start(&peer->timer, on_timer, ECHO_LINGER_MS, 0);
}

/* ---- messages ---- */

static void send_bytes(struct peer *peer, struct span bytes)
{
    out_bytes(&peer->out, &peer->echo->out_pool, bytes);
}

/* ws.h makes heads of text, which is all that the gateway sends; binary differs in the opcode. */
static void send_back(struct peer *peer, struct span bytes, bool binary)
{
    char head[WS_HEAD_MAX];
    struct buf packed = {0};
    struct frame *frame;
    if (ws_deflate_fits(&peer->ws, bytes.n) &&
        ws_deflate_frame(peer->echo->ws_pool, bytes, &packed))
        frame = frame_new(span_of("", 0), buf_span(&packed));
    else
        frame = frame_new(span_of(head, ws_frame_head(head, bytes.n)), bytes);
    if (binary)
        frame->p[0] = (char)((frame->p[0] & ~OPCODE_MASK) | BINARY);
    out_frame(&peer->out, &peer->echo->out_pool, frame);
    frame_unref(frame);
    buf_close(&packed);
}

static void on_message(struct ws *ws, struct span text)
{
    send_back(container_of(ws, struct peer, ws), text, false);
}

static void on_binary(struct ws *ws, struct span bytes)
{
    send_back(container_of(ws, struct peer, ws), bytes, true);
}

static void on_output(struct ws *ws, struct span bytes)
{
    send_bytes(container_of(ws, struct peer, ws), bytes);
}

static void on_close(struct ws *ws, int code)
{
    log_debug("closed", {"code", log_int(code)});
    close_soon(container_of(ws, struct peer, ws));
}

static const struct ws_ops OPS = {
    .on_message = on_message,
    .on_binary = on_binary,
    .on_output = on_output,
    .on_close = on_close,
};

/* ---- the handshake ---- */

static void refuse(struct peer *peer, int status)
{
    struct buf head = {0};
    buf_addf(&head,
             "HTTP/1.1 %d %s\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Content-Length: 0\r\nConnection: close\r\n\r\n",
             status, http_reason(status));
    send_bytes(peer, buf_span(&head));
    buf_close(&head);
    close_soon(peer);
}

static bool agree_on_deflate(const struct http_msg *msg, struct ws_deflate *agreed)
{
    static const char NAME[] = "Sec-WebSocket-Extensions";
    for (size_t i = 0; i < msg->header_count; i++) {
        struct span name = msg->headers[i].name;
        if (name.n == sizeof NAME - 1 && strncasecmp(name.p, NAME, name.n) == 0 &&
            ws_deflate_offer(msg->headers[i].value, agreed) != 0)
            return false;
    }
    return true;
}

static void switch_protocols(struct peer *peer, const char *accept, const struct ws_deflate *agreed)
{
    struct buf head = {0};
    buf_addf(&head,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
             accept);
    if (agreed->window_bits != 0)
        buf_addf(&head, "Sec-WebSocket-Extensions: %s\r\n", agreed->answer);
    buf_add_str(&head, "\r\n");
    send_bytes(peer, buf_span(&head));
    buf_close(&head);
    uv_timer_stop(&peer->timer);
    ws_init(&peer->ws, peer->echo->ws_pool, &OPS);
    if (agreed->window_bits != 0)
        ws_use_deflate(&peer->ws, agreed->window_bits);
    peer->phase = PEER_WS;
    struct http *http = peer->http;
    peer->http = NULL;
    struct span rest = http_rest(http);
    ws_feed(&peer->ws, rest.p, rest.n);
    http_free(http);
}

static void take_handshake(struct peer *peer, const struct http_msg *msg)
{
    struct ws_deflate agreed = {0};
    const struct span *key = http_header_get(msg, "Sec-WebSocket-Key");
    const struct span *version = http_header_get(msg, "Sec-WebSocket-Version");
    char accept[WS_ACCEPT_SIZE + 1];
    if (!span_is(msg->method, "GET") || !msg->upgrade_websocket || version == NULL ||
        !span_is(*version, "13"))
        refuse(peer, 426);
    else if (key == NULL || !ws_accept(*key, accept) || !agree_on_deflate(msg, &agreed))
        refuse(peer, 400);
    else
        switch_protocols(peer, accept, &agreed);
}

static void take_http(struct peer *peer, const char *bytes, size_t n)
{
    struct http_msg msg;
    int got = http_feed(peer->http, bytes, n, &msg);
    if (got == 1)
        take_handshake(peer, &msg);
    else if (got < 0)
        refuse(peer, http_status(peer->http));
}

/* ---- the socket ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

static void settle(struct peer *peer)
{
    if (peer->phase == PEER_CLOSED)
        return;
    bool reads =
        peer->phase == PEER_LINGER || (!peer->close_soon && peer->out.bytes < ECHO_OUT_HIGH);
    int events = (reads ? UV_READABLE : 0) | (peer->stuck ? UV_WRITABLE : 0);
    if (events == peer->events)
        return;
    peer->events = events;
    if (events == 0)
        uv_poll_stop(&peer->poll);
    else
        uv_poll_start(&peer->poll, events, on_poll);
}

static void flush(struct peer *peer)
{
    if (peer->phase >= PEER_LINGER)
        return;
    int rv = out_write(&peer->out, &peer->echo->out_pool, peer->fd);
    if (rv < 0) {
        abort_peer(peer);
        return;
    }
    peer->stuck = rv == 1;
    if (peer->close_soon && !peer->stuck)
        begin_linger(peer);
    settle(peer);
}

static void on_readable(struct peer *peer)
{
    char *in = peer->echo->in;
    ssize_t n = recv(peer->fd, in, ECHO_IN_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n <= 0) {
        abort_peer(peer);
        return;
    }
    if (peer->phase == PEER_HTTP)
        take_http(peer, in, (size_t)n);
    else if (peer->phase == PEER_WS)
        ws_feed(&peer->ws, in, (size_t)n);
    flush(peer);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct peer *peer = poll->data;
    if (status < 0) {
        abort_peer(peer);
        return;
    }
    if (events & UV_WRITABLE)
        flush(peer);
    if (events & UV_READABLE && (peer->phase == PEER_LINGER || !peer->close_soon))
        on_readable(peer);
}

static void open_peer(struct echo *echo, int fd)
{
    struct peer *peer = xcalloc(1, sizeof *peer);
    int on = 1;
    if (uv_poll_init(&echo->loop, &peer->poll, fd) != 0) {
        close(fd);
        free(peer);
        return;
    }
    peer->echo = echo;
    peer->fd = fd;
    peer->poll.data = peer->timer.data = peer;
    peer->handles = 2;
    peer->http = http_new(true, BODY_MAX, false);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    uv_timer_init(&echo->loop, &peer->timer);
    uv_timer_start(&peer->timer, on_timer, ECHO_HEAD_MS, 0);
    list_push(&echo->peers, &peer->link);
    echo->count++;
    settle(peer);
}

/* ---- the loop ---- */

static void on_listener(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct echo *echo = poll->data;
    int fd = status < 0 ? -1 : accept4(echo->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (echo->count < ECHO_CONNS_MAX)
        open_peer(echo, fd);
    else
        close(fd);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct echo *echo = handle->data;
    if (echo->draining)
        return;
    echo->draining = true;
    log_info("draining", {"signal", log_int(number)});
    uv_close((uv_handle_t *)&echo->listener, NULL);
    uv_close((uv_handle_t *)&echo->term, NULL);
    uv_close((uv_handle_t *)&echo->interrupt, NULL);
    for (struct list_link *link = list_first(&echo->peers), *next; link != NULL; link = next) {
        struct peer *peer = container_of(link, struct peer, link);
        next = list_next(&echo->peers, link);
        if (peer->phase == PEER_WS)
            ws_send_close(&peer->ws, 1001, "the server ends");
        close_soon(peer);
        flush(peer);
    }
}

static void catch_signal(struct echo *echo, uv_signal_t *handle, int number)
{
    uv_signal_init(&echo->loop, handle);
    handle->data = echo;
    uv_signal_start(handle, on_signal, number);
}

void echo_serve(int listen_fd, const char *address)
{
    struct echo *echo = xcalloc(1, sizeof *echo);
    echo->listen_fd = listen_fd;
    echo->ws_pool = ws_pool_new(ECHO_MESSAGE_MAX, true);
    list_init(&echo->peers);
    if (uv_loop_init(&echo->loop) != 0 ||
        uv_poll_init(&echo->loop, &echo->listener, listen_fd) != 0)
        log_fatal("the loop can't be made", "uv_loop_init");
    catch_signal(echo, &echo->term, SIGTERM);
    catch_signal(echo, &echo->interrupt, SIGINT);
    echo->listener.data = echo;
    uv_poll_start(&echo->listener, UV_READABLE, on_listener);
    log_info("echoing", {"listen", log_str(address)});
    program_ready(address);
    uv_run(&echo->loop, UV_RUN_DEFAULT);
    ASSERT(echo->count == 0);
    uv_loop_close(&echo->loop);
    close(listen_fd);
    ws_pool_free(echo->ws_pool);
    out_pool_close(&echo->out_pool);
    free(echo);
}
