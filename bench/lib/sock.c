#include "bench/lib/sock.h"

#include "store/base/ws.h"

enum { OPENS_AT_ONCE = 100 };

struct opening {
    const struct sock_plan *plan;
    uint64_t ready;
};

static void answer_ping(struct sock *sock, struct span payload)
{
    char head[WS_HEAD_MAX];
    size_t n = ws_frame_head(head, payload.n);
    head[0] = (char)0x8a;
    head[1] = (char)(head[1] | 0x80);
    buf_add(&sock->net.out, head, n);
    buf_add(&sock->net.out, "\0\0\0\0", 4);
    buf_add_span(&sock->net.out, payload);
}

/* The server's frames: text is handed out, pings are answered, and a close ends the connection. */
static size_t frame(struct sock *sock, struct span bytes)
{
    const uint8_t *p = (const uint8_t *)bytes.p;
    size_t head = 2, size = bytes.n >= 2 ? p[1] & 127u : 0;
    if (bytes.n < 2)
        return 0;
    if (size == 126)
        head = 4;
    else if (size == 127)
        head = 10;
    if (bytes.n < head)
        return 0;
    if (head == 4)
        size = (size_t)p[2] << 8 | p[3];
    else if (head == 10)
        size = get_be64(p + 2);
    if (bytes.n - head < size)
        return 0;
    int opcode = p[0] & 15;
    if (opcode == 8)
        net_end(&sock->net, "closed by the server");
    if (opcode == 9)
        answer_ping(sock, span_of(bytes.p + head, size));
    const char *at = bytes.p + head, *end = at + size;
    while (opcode == 1 && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        sock->on_line(sock, span_of(at, (size_t)(stop - at)));
        at = stop + 1;
    }
    return head + size;
}

static size_t on_bytes(struct net *net, struct span bytes)
{
    struct sock *sock = net->data;
    size_t used = 0;
    if (!sock->upgraded) {
        const char *end = memmem(bytes.p, bytes.n, "\r\n\r\n", 4);
        if (end == NULL)
            return 0;
        if (!LINE_BEGINS(bytes, "HTTP/1.1 101 ")) {
            if (sock->net.on_end == NULL)
                bench_fail("no WebSocket: %.*s", (int)bytes.n, bytes.p);
            net_end(&sock->net, "no WebSocket");
            return bytes.n;
        }
        sock->upgraded = true;
        used = (size_t)(end - bytes.p) + 4;
    }
    for (size_t n = 1; n > 0 && used < bytes.n; used += n)
        n = frame(sock, span_of(bytes.p + used, bytes.n - used));
    net_flush(net);
    return used;
}

void sock_send(struct sock *sock, struct span text)
{
    struct buf *out = &sock->net.out;
    char head[WS_HEAD_MAX];
    size_t n = ws_frame_head(head, text.n);
    head[1] = (char)(head[1] | 0x80);
    buf_add(out, head, n);
    buf_add(out, "\0\0\0\0", 4);
    buf_add_span(out, text);
}

static void on_opening_line(struct sock *sock, struct span line)
{
    struct opening *opening = sock->data;
    if (LINE_BEGINS(line, "{\"ev\":"))
        return;
    if (memmem(line.p, line.n, "\"ok\":", 5) == NULL)
        bench_fail("refused: %.*s", (int)line.n, line.p);
    const char *more = opening->plan->more;
    if (more != NULL && LINE_BEGINS(line, "{\"id\":1,"))
        sock_send(sock, span_str(more));
    else
        opening->ready++;
}

void sock_begin(struct sock *sock, const struct sock_plan *plan, size_t number)
{
    struct buf token = {0};
    char user[64], key[WS_KEY_SIZE + 1];
    struct buf text = {0};
    plan->user(number, user, sizeof user);
    gateway_token(plan->gateway, user, plan->scope != NULL ? plan->scope : "", &token);
    ws_key(key);
    buf_addf(&sock->net.out,
             "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Protocol: loquat.v1.json\r\n\r\n",
             plan->gateway->port, key);
    buf_addf(&text, "{\"id\":1,\"op\":\"auth\",\"token\":\"%s\"}", token.p);
    sock->on_line = plan->on_line;
    sock->net.data = sock;
    sock->net.on_bytes = on_bytes;
    sock_send(sock, buf_span(&text));
    if (plan->gateway->tls)
        net_tls(&sock->net);
    net_open(&sock->net, plan->loop, plan->gateway->port);
    buf_close(&text);
    buf_close(&token);
}

void sock_open(struct sock *socks, size_t first, size_t count, const struct sock_plan *plan)
{
    struct opening opening = {.plan = plan};
    struct sock_plan first_plan = *plan;
    first_plan.on_line = on_opening_line;
    for (size_t i = 0; i < count; i++) {
        socks[i].data = &opening;
        sock_begin(&socks[i], &first_plan, first + i);
        if (i % OPENS_AT_ONCE == OPENS_AT_ONCE - 1 || i == count - 1)
            net_until(plan->loop, &opening.ready, i + 1);
    }
    for (size_t i = 0; i < count; i++) {
        socks[i].data = NULL;
        socks[i].on_line = plan->on_line;
    }
}

void sock_attach(struct sock *sock, uv_loop_t *loop, int port,
                 void (*on_line)(struct sock *sock, struct span line))
{
    sock->on_line = on_line;
    sock->upgraded = true;
    sock->net.data = sock;
    sock->net.on_bytes = on_bytes;
    net_open(&sock->net, loop, port);
}

struct waiting {
    uint64_t done;
    void (*before)(struct sock *sock, struct span line);
};

static void on_answer(struct sock *sock, struct span line)
{
    struct waiting *waiting = sock->data;
    if (LINE_BEGINS(line, "{\"id\":1,\"ok\":"))
        waiting->done++;
    else if (!LINE_BEGINS(line, "{\"ev\":"))
        bench_fail("refused: %.*s", (int)line.n, line.p);
}

void sock_do(struct sock *sock, const char *text)
{
    struct waiting waiting = {.before = sock->on_line};
    void *data = sock->data;
    sock->data = &waiting;
    sock->on_line = on_answer;
    sock_send(sock, span_str(text));
    net_flush(&sock->net);
    net_until(sock->net.loop, &waiting.done, 1);
    sock->on_line = waiting.before;
    sock->data = data;
}

void sock_close_all(struct sock *socks, size_t count, uv_loop_t *loop)
{
    for (size_t i = 0; i < count; i++)
        net_close(&socks[i].net);
    net_settle(loop);
}
