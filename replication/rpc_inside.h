/* replication/rpc_inside.h: the node's end of a gateway's link, shared by rpc*.c only. */
#ifndef LOQUAT_REPLICATION_RPC_INSIDE_H
#define LOQUAT_REPLICATION_RPC_INSIDE_H

#include "replication/rpc.h"

struct peer {
    struct link link;
    struct feed_peer feed;
    struct rpc_env *env;
    struct list_link in_env;
    size_t refs, reads, waits;
    bool closed, greeted;
    uint32_t version; /* that is spoken with it, once it has greeted */
    struct arena arena;
};

void rpc_unref(struct peer *peer);
void rpc_error(struct peer *peer, uint64_t id, int err, const char *msg); /* answers a request */

void rpc_read(struct peer *peer, struct span body); /* rpc_read.c */

/* rpc_page.c: one that peer->refs and peer->reads count already. */
bool rpc_page_is(uint32_t op);
void rpc_page(struct peer *peer, const Loquat__Read *read, struct span body);
void rpc_page_free(struct rpc_env *env);

#endif
