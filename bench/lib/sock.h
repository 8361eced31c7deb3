/* bench/lib/sock.h: WebSockets of a bench, on net.h. */
#ifndef LOQUAT_BENCH_SOCK_H
#define LOQUAT_BENCH_SOCK_H

#include "bench/lib/net.h"

/* A WebSocket: `net.on_bytes` is taken; messages come line by line. */
struct sock {
    struct net net;
    void (*on_line)(struct sock *sock, struct span line);
    void *data;
    bool upgraded;
};
/* Connects, upgrades and authenticates `count` sockets, a hundred at a time. `users`: a name by
 * number. `more`: a further request after auth, e.g. sync; NULL: none. Then on_line takes over. */
struct sock_plan {
    const struct gateway *gateway;
    uv_loop_t *loop;
    void (*user)(size_t number, char *name, size_t size);
    const char *scope, *more;
    void (*on_line)(struct sock *sock, struct span line);
};
void sock_open(struct sock *socks, size_t first, size_t count, const struct sock_plan *plan);
/* Begins one: connects, upgrades, and asks for auth with "id":1; returns at once. Every line goes
 * to plan->on_line. `sock` is zero but for data, net.on_end, net.from and net.receive_bytes. */
void sock_begin(struct sock *sock, const struct sock_plan *plan, size_t number);
/* Frames of a server that needs neither handshake nor token. */
void sock_attach(struct sock *sock, uv_loop_t *loop, int port,
                 void (*on_line)(struct sock *sock, struct span line));
/* A text frame into `out`, masked with a key of zeros; sock->net is to be flushed. */
void sock_send(struct sock *sock, struct span text);
/* A request, and waits for its answer, which must be ok. `text` has "id":1. */
void sock_do(struct sock *sock, const char *text);
void sock_close_all(struct sock *socks, size_t count, uv_loop_t *loop);

static inline bool line_begins(struct span line, const char *head, size_t n)
{
    return line.n >= n && memcmp(line.p, head, n) == 0;
}
#define LINE_BEGINS(line, head) line_begins(line, head, sizeof(head) - 1)

#endif
