/* bench/lib/peer.h: Redis, NATS JetStream and etcd of the Debian packages, on loopback with a
 * directory of their own, and clients for them that keep a number of writes unanswered on each
 * connection.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_PEER_H
#define LOQUAT_BENCH_PEER_H

#include "bench/lib/bare.h"
#include "bench/lib/net.h"

struct peer {
    pid_t pid;
    int port;
    char root[SCRATCH_MAX];
};
void peer_start_redis(struct peer *peer); /* every write synced before its answer */
void peer_start_nats(struct peer *peer);  /* file storage; this version does not sync each write */
void peer_stop(struct peer *peer);
/* Three of a kind that replicate. */
enum { TRIO = 3 };
void trio_start_nats(struct peer peers[TRIO]);
void trio_start_etcd(struct peer peers[TRIO]); /* every write synced before its answer */

/* Connections of a peer, each with `pipeline` writes of BARE_TEXT bytes unanswered. */
struct peer_conn {
    struct net net;
    struct peer_load *load;
    size_t number, unanswered;
    uint32_t stream;         /* etcd: of the last request */
    uint64_t messages, ends; /* etcd: of answers */
};
struct peer_load {
    uv_loop_t *loop;
    struct peer_conn *conns;
    size_t count, pipeline;
    bool going;
    uint64_t sent, answered;
    /* Adds a write to net->out. */
    void (*add)(struct peer_conn *conn);
};
void peer_load_redis(struct peer_load *load, const struct peer *peer, uv_loop_t *loop, size_t count,
                     size_t pipeline);
void peer_load_nats(struct peer_load *load, const struct peer *peer, uv_loop_t *loop, size_t count,
                    size_t pipeline);
/* The same on three servers that hold the same: to the one that leads. */
void peer_load_nats_trio(struct peer_load *load, const struct peer peers[TRIO], uv_loop_t *loop,
                         size_t count, size_t pipeline);
void peer_load_etcd(struct peer_load *load, const struct peer peers[TRIO], uv_loop_t *loop,
                    size_t count, size_t pipeline);
/* For those who make a load: connections, each with what it takes; what an answer does. */
void peer_load_open(struct peer_load *load, const struct peer *peer, uv_loop_t *loop, size_t count,
                    size_t pipeline);
void peer_load_answered(struct peer_conn *conn, size_t count);
/* Writes for `secs` seconds, then waits for every answer: writes a second. */
double peer_load_run(struct peer_load *load, double secs);
void peer_load_close(struct peer_load *load);

#endif
