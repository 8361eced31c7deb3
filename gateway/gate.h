/* gateway/gate.h: one loop of the gateway, on a thread of its own: its listeners, its connections,
 * its links to the nodes. Loops share nothing but struct settings.
 * Thread: gate_new, gate_start, gate_drain, gate_join: the main thread; all else: the loop. */
#ifndef LOQUAT_GATEWAY_GATE_H
#define LOQUAT_GATEWAY_GATE_H

#include <pthread.h>
#include <uv.h>

#include "gateway/cluster.h"
#include "gateway/fanout.h"
#include "gateway/out.h"
#include "gateway/settings.h"
#include "store/base/json.h"
#include "store/base/list.h"
#include "store/base/pace.h"
#include "store/base/ws.h"

enum {
    GATE_IN_BYTES = 64 << 10, /* read from a socket at once */
    GATE_SWEEP_MS = 250,      /* deadlines are looked at so often */
    GATE_EXPIRY_SLOTS = 512,  /* a second each, then round again */
    GATE_ACCEPTS_MAX = 256,   /* new connections of one turn */
    GATE_HANDSHAKES_MAX = 32, /* steps of TLS handshakes of one turn */
    GATE_DRAIN_MS = 5000,     /* after that, what is still open is cut */
    GATE_GAUGES_MAX = 16,
    TYPING_SLOTS = 4096,      /* of a user and a conversation, by hash */
    GATE_OUT_MAX = 128 << 20, /* bytes that wait for clients: above, who takes none of over
                                 CONN_OUT_HIGH is cut, and nothing more is read for anybody */
};

/* What a connection waits for at most how long: a list each, oldest first. */
enum due {
    DUE_HEAD,   /* a whole request */
    DUE_IDLE,   /* the next request */
    DUE_AUTH,   /* the first `auth` */
    DUE_PING,   /* the next ping of ours */
    DUE_STUCK,  /* the other side to take some of what waits */
    DUE_LINGER, /* the other side to close */
    DUE_NONE,
};

enum gate_state { GATE_STARTING, GATE_SERVING, GATE_DRAINING, GATE_CLOSING };

struct gate {
    const struct settings *settings;
    struct settings *shared; /* the same; for limits, whose counters are atomics */
    int number;
    enum gate_state state;   /* changed by gate_tick alone */
    bool drain_asked, ended; /* ended: its handles are being closed */
    uv_loop_t loop;
    uv_prepare_t prepare;
    struct pace pace; /* of one that nodes are away from */
    uv_check_t check;
    uv_timer_t timer;
    uv_async_t async;
    uv_poll_t listener, admin_listener;
    int listen_fd, admin_fd; /* -1: none */
    bool accepting;
    uint64_t accept_at_ms, drain_until_ms, hoard_at_ms;
    uint64_t now_ms; /* monotonic, of this turn */
    struct list conns, due[DUE_NONE], dirty;
    struct list marking;                     /* sessions */
    struct list expiring[GATE_EXPIRY_SLOTS]; /* by the second in which the token ends */
    uint64_t expiry_s;                       /* up to here they were looked at; wall clock */
    struct list hungry;                      /* sessions whose read was refused: tried again */
    size_t conn_count;
    int64_t behind;                /* logs that sessions are behind with */
    int64_t told[GATE_GAUGES_MAX]; /* of this loop, in the gauges of all (gate_gauges.h) */
    struct cluster cluster;
    bool reached; /* a node of it is */
    struct fanout fanout;
    struct map watches; /* presence.h */
    struct list unchecked;
    struct map seens; /* seen.h */
    struct list seen_due;
    uint64_t typing_ms[TYPING_SLOTS]; /* when one of these was passed on */
    struct ws_pool *ws_pool;
    struct json *json;  /* requests */
    struct json *inner; /* bodies of records, beside it */
    struct arena arena; /* of the request in work */
    struct buf answer;
    struct out_pool out_pool;
    struct turn *turn;
    char *in, *plain; /* what was read; and decrypted, where TLS is spoken */
    int handshakes;   /* steps in this turn */
    int handles;
    pthread_t thread;
    _Atomic int phase; /* for others: enum gate_state */
};

struct gate *gate_new(struct settings *settings, int number, int listen_fd, int admin_fd);
void gate_start(struct gate *gate); /* its thread */
void gate_drain(struct gate *gate);
void gate_join(struct gate *gate); /* ended and freed */
bool gate_ready(const struct gate *gate);

void gate_metrics(void); /* registers those of all loops; once */

#endif
