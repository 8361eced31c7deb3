/* bench/lib/net.h: the client's side of a bench: many TCP connections on one libuv loop, at little
 * cost for itself. Bytes are read into memory that all share; a connection keeps only what was
 * incomplete. What is written and read in one turn of the loop goes by one system call for many
 * connections (store/base/batch.h). Connecting and setting up block (the loop runs until it is
 * done).
 * Thread: one. Errors: none: a connection that ends before net_close fails the bench, unless it has
 * an `on_end`. */
#ifndef LOQUAT_BENCH_NET_H
#define LOQUAT_BENCH_NET_H

#include <uv.h>

#include "bench/lib/server.h"
#include "store/base/list.h"

struct net {
    uv_poll_t poll;
    uv_loop_t *loop;
    int fd;
    struct buf in, out, wire; /* wire: of `out`, as it is being written */
    /* Takes what is whole, returns how many bytes that were. */
    size_t (*on_bytes)(struct net *net, struct span bytes);
    /* It could not be made, or has ended; what is to be done is net_close. Once. */
    void (*on_end)(struct net *net, const char *why);
    void *data;
    unsigned from; /* connects from 127.0.0.`from`; 0: from any */
    /* Of its socket's buffer, and then segments are as on Ethernet (the server's buffer is sized by
     * them); 0: as the system has them. */
    int receive_bytes;
    int error; /* why it can't be made; 0: it may yet */
    bool connected, closing, blocked, closed, stalled, readable, ended;
    struct list_link in_dirty;
    struct nettls *tls; /* NULL: plain */
};
void net_open(struct net *net, uv_loop_t *loop, int port);
void net_tls(struct net *net);   /* before net_open: it speaks TLS, and trusts anybody */
void net_flush(struct net *net); /* `out` is written before the loop sleeps */
void net_end(struct net *net, const char *why); /* it is of no use any more: on_end, or fails */
void net_stall(struct net *net);                /* reads nothing until net_go_on */
void net_go_on(struct net *net);
/* Bytes that all connections have got and given so far, TLS and all. */
void net_bytes(uint64_t *in, uint64_t *out);
void net_close(struct net *net);            /* memory may go after net_settle, or when `closed` */
void net_reset(struct net *net);            /* the same, and the other side gets a reset */
void net_settle(uv_loop_t *loop);           /* runs until all that was closed is */
void net_run(uv_loop_t *loop, double secs); /* runs the loop for a time */
/* Runs the loop until the number is reached; fails after a minute without progress. */
void net_until(uv_loop_t *loop, const uint64_t *count, uint64_t at_least);

#endif
