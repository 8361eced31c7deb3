/* gateway/cluster.h: a loop's links to all nodes of the store, and which of them serves which
 * partition: each node says so itself (Leads), and the newest term is right; and which nodes there
 * are, so that those that were not named are found. A request goes to who
 * serves its partition. With several nodes it waits while nobody does, and goes again, in the order
 * in which requests came, when its node has gone, has lost the partition, or another one says that
 * it has it now: what writes has a cid or is the same the second time. A client sees a pause.
 * A read that says how far its log must reach (`seen`) goes to any replica, by turns, and to who
 * serves it when that one does not answer it.
 * With one node nobody else could answer: a request fails at once when it is away.
 * Thread: the loop's.
 * Limits: CLUSTER_ASKS_MAX requests and CLUSTER_BYTES_MAX bytes of them (above: ERR_BUSY), each for
 *         CLUSTER_WAIT_MS and as long as it says that it may wait (then ERR_CLOSED), beside those
 *         of each link (upstream.h).
 * Rule:   a request that returns 0 calls back exactly once, later; one that fails never does. */
#ifndef LOQUAT_GATEWAY_CLUSTER_H
#define LOQUAT_GATEWAY_CLUSTER_H

#include "gateway/upstream.h"
#include "store/base/dial.h"
#include "store/base/list.h"

enum {
    CLUSTER_NODES_MAX = 64,
    CLUSTER_ASKS_MAX = UPSTREAM_CALLS_MAX,
    CLUSTER_BYTES_MAX = 64 << 20,
    CLUSTER_WAIT_MS = 10000,
    CLUSTER_REPLICA_MS = 1500, /* a replica that has not answered by then is given up */
    CLUSTER_REFUSED_MS = 5000, /* and for so long not asked again */
};

struct cluster_ops {
    void (*on_tail)(void *arg, const Loquat__Tail *tail);
    void (*on_mark)(void *arg, const Loquat__MarkEvent *mark);
    void (*on_typing)(void *arg, const Loquat__Typing *typing);
    void (*on_presence)(void *arg, const Loquat__Presence *presence);
    /* These are served from now on by who did not before: subscriptions begin again. */
    void (*on_routed)(void *arg, const bool *partitions);
    /* A node is reached, or not any more, or all links have ended: look what is so now. */
    void (*on_change)(void *arg);
};
/* Of who follows nothing, and only reads and writes. */
extern const struct cluster_ops CLUSTER_FOLLOWS_NOTHING;

struct cluster_node {
    struct cluster *cluster;
    struct upstream up;
    struct dial_target target;
    struct dial dial; /* of one inside: not used */
};

struct cluster_route {
    struct cluster_node *node; /* who serves the partition; NULL: nobody that is known */
    uint64_t term;
    struct list waiting, flying; /* requests, by rising number */
    uint64_t refused;            /* nodes that are not asked as replicas, by their place */
    uint64_t refused_until_ms;
};

struct cluster {
    const struct cluster_ops *ops;
    void *arg;
    uv_loop_t *loop;
    bool closing;
    size_t count;
    struct cluster_node *nodes;
    uint32_t partitions; /* 0: no node was reached yet */
    char name[64];       /* of the store: its logs have come from no other */
    struct cluster_route *routes;
    bool *changed;        /* room for on_routed */
    uint64_t asks, asked; /* under way; so far */
    uint64_t ask_bytes;
    size_t turn; /* whose it is among replicas */
};

/* Nodes over TCP: some of them at least, which name the others. */
void cluster_init(struct cluster *cluster, uv_loop_t *loop, const struct dial_target *targets,
                  size_t count, const struct cluster_ops *ops, void *arg);
/* The one node inside, through `fd`. Then cluster_init had no targets. */
int cluster_open(struct cluster *cluster, int fd);
bool cluster_ready(const struct cluster *cluster);  /* a node is reached: partitions are known */
bool cluster_inside(const struct cluster *cluster); /* its node is in this process */
void cluster_tick(struct cluster *cluster);         /* every now and then: what waits too long */
void cluster_close(struct cluster *cluster);        /* on_change follows when all has ended: */
bool cluster_closed(const struct cluster *cluster);
void cluster_free(struct cluster *cluster);

int cluster_write(struct cluster *cluster, uint32_t partition, const Loquat__Command *command,
                  upstream_done done, void *owner);
int cluster_read(struct cluster *cluster, Loquat__Read *read, upstream_done done, void *owner);
/* Of a partition that nobody serves now: on_routed will ask for it again. */
void cluster_sub(struct cluster *cluster, const Loquat__Sub *sub);
void cluster_unsub(struct cluster *cluster, const Loquat__Unsub *unsub);
void cluster_typing(struct cluster *cluster, const Loquat__Typing *typing); /* or nothing */
void cluster_watch(struct cluster *cluster, const Loquat__Watch *watch);    /* or nothing */
void cluster_flush(struct cluster *cluster);           /* what was asked goes out now */
uint64_t cluster_calls(const struct cluster *cluster); /* not answered yet */

#endif
