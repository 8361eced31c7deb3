/* replication/roster.h: the nodes of a cluster: numbers and addresses as `--cluster` names them,
 * and with which directory each of them was met. A node that comes back with an empty disk has
 * forgotten its votes and what it had acknowledged: it must not take part under its old number.
 * File:   DIR/ROSTER, text: format; whether this node is drained; of each node that was met its
 *         number and the id of its directory; XXH3-64 of these lines. Written anew when something
 *         changes, synced
 * Errors: roster_parse: false, with what is wrong and what to do in `why`. */
#ifndef LOQUAT_REPLICATION_ROSTER_H
#define LOQUAT_REPLICATION_ROSTER_H

#include "store/base/address.h"
#include "store/base/buf.h"

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

/* `dir`: of this node. 0: that node was met with this directory before, or never, and then it is
 * remembered, synced. ERR_CONFLICT: with another one. ERR_CORRUPT, ERR_IO, ERR_NO_SPACE. */
int roster_meet(const char *dir, uint64_t id, struct span incarnation);

/* Whether this node shall lead nothing. 0, or the same errors; synced. */
int roster_put_drained(const char *dir, bool drained);
int roster_get_drained(const char *dir, bool *drained);
void roster_forget(const char *dir); /* all of it */

#endif
