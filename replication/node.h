/* replication/node.h: one store node on threads of its own, as a library: the whole of it inside a
 * gateway's process (`--embed`), or in loquat-node's for gateways that call on it over TCP; both
 * speak the same frames.
 * Thread: node_start, node_connect and node_stop from any one thread; everything else is inside. */
#ifndef LOQUAT_REPLICATION_NODE_H
#define LOQUAT_REPLICATION_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/span.h"

struct roster;
struct tls;

#define NODE_DISK_RESERVE_DEFAULT (256ull << 20)

struct node_config {
    const char *dir;
    uint32_t partitions;     /* 0: those of the directory, or the default for a new one */
    uint64_t disk_reserve;   /* writes are refused when less is free, beside what is in
                                 memory and still to be written; 0: NODE_DISK_RESERVE_DEFAULT */
    uint64_t memtable_bytes; /* 0: the default; tests make it small */
    bool listens;            /* gateways call on `listen_fd`, the node's once it has started, and
                                prove themselves with `secret`, borrowed until it stops */
    int listen_fd;
    struct span secret;
    struct tls *tls;             /* of links to and from this node, borrowed; NULL: plain */
    const struct roster *roster; /* the nodes of the cluster; NULL, or this one only: it is alone */
    uint64_t id;                 /* of this one among them */
    const char *join;            /* a new directory: of the cluster that it is to become part of */
};

struct node;
/* Opens or makes the directory, replays what a crash left to be replayed, and returns when every
 * partition can serve; of a node among others, at once: whether every partition has a leader is not
 * in its power. On failure `why` says what is wrong and what to do. */
int node_start(const struct node_config *config, struct node **node, char *why, size_t size);
bool node_ready(struct node *node);  /* every partition is served, here or elsewhere */
int node_connect(struct node *node); /* a descriptor for a gateway's link; -1: too many */
/* Hands over what it leads, answers what was accepted, flushes, closes. Links are ended. */
void node_stop(struct node *node);

#endif
