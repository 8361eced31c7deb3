/* replication/roster.h: the nodes of a cluster: numbers and addresses as `--cluster` names them,
 * and with which directory each of them was met. A node that comes back with an empty disk has
 * forgotten its votes and what it had acknowledged: it must not take part under its old number.
 * Rows:   raft DB, [0xffff u16][node u64 BE] → version u8, incarnation of ROSTER_ID_SIZE bytes;
 *         of node 0: version u8, whether this node is drained u8
 * Errors: roster_parse: false, with what is wrong and what to do in `why`. */
#ifndef LOQUAT_REPLICATION_ROSTER_H
#define LOQUAT_REPLICATION_ROSTER_H

#include "store/base/address.h"
#include "store/kv.h"

enum { ROSTER_NODES_MAX = 64, ROSTER_ID_SIZE = 32 };

struct roster_node {
    uint64_t id;
    struct address address;
    char name[ADDRESS_HOST_MAX + ADDRESS_PORT_MAX + 3]; /* host:port, as it was given */
};

struct roster { /* by rising number */
    size_t count;
    struct roster_node nodes[ROSTER_NODES_MAX];
};

/* "1=HOST:PORT,2=HOST:PORT,…" */
bool roster_parse(const char *text, struct roster *roster, char *why, size_t size);
const struct roster_node *roster_find(const struct roster *roster, uint64_t id); /* or NULL */
/* What a cluster that begins with these nodes is called; the same on each of them. */
void roster_cluster_id(const struct roster *roster, uint32_t partitions,
                       char id[ROSTER_ID_SIZE + 1]);

/* 0: that node was met with this directory before, or never, and then it is remembered, synced.
 * ERR_CONFLICT: with another one. Or a kv error. */
int roster_meet(struct kv *raft, uint64_t id, struct span incarnation);

/* Whether this node shall lead nothing. 0, ERR_CORRUPT, or a kv error; synced. */
int roster_put_drained(struct kv *raft, bool drained);
int roster_get_drained(struct kv *raft, bool *drained);

#endif
