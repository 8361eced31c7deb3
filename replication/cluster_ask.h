/* replication/cluster_ask.h: asks every node of a roster the same, all at once, over links like
 * those of gateways. For commands: it runs a loop of its own until all have answered, or
 * CLUSTER_ASK_MS.
 * Owner:  answers lie in the arena.
 * Thread: the main one. */
#ifndef LOQUAT_REPLICATION_CLUSTER_ASK_H
#define LOQUAT_REPLICATION_CLUSTER_ASK_H

#include "replication/roster.h"
#include "store/base/arena.h"
#include "store/base/tls.h"
#include "wire.pb-c.h"

enum { CLUSTER_ASK_MS = 3000 };

/* `tls`: of links; NULL: plain. answers[i]: that of roster->nodes[i]; NULL: none came. */
void cluster_ask(const struct roster *roster, struct span secret, struct tls *tls,
                 const Loquat__ClusterAsk *ask, struct arena *arena,
                 Loquat__ClusterState *answers[ROSTER_NODES_MAX]);

/* Of a status: for people, or as one JSON object. Whether all is well: every node answers, reaches
 * all others and has room, and every partition is served. */
void cluster_text(const struct roster *roster, Loquat__ClusterState *const *answers,
                  struct buf *out);
void cluster_json(const struct roster *roster, Loquat__ClusterState *const *answers,
                  struct buf *out);
size_t cluster_partitions(const struct roster *roster, Loquat__ClusterState *const *answers);
/* What who serves it says of it; NULL: nobody does. */
const Loquat__PartitionState *
cluster_served(const struct roster *roster, Loquat__ClusterState *const *answers, size_t partition);
const Loquat__ClusterState *cluster_state_of(const struct roster *roster,
                                             Loquat__ClusterState *const *answers, uint64_t id);
size_t cluster_leads(const Loquat__ClusterState *state); /* how many partitions it serves */
/* Any of the nodes that answer reaches it. */
bool cluster_reached(const struct roster *roster, Loquat__ClusterState *const *answers,
                     uint64_t id);
/* A node with a vote that no leader of its partition reaches; 0: there is none. */
uint64_t cluster_missing(const struct roster *roster, Loquat__ClusterState *const *answers);
bool cluster_well(const struct roster *roster, Loquat__ClusterState *const *answers);

#endif
