/* replication/cluster_plan.h: which nodes should hold which partition. Where one is kept now stands
 * in its own configuration, which is the only truth; a plan says what it should become, with
 * as little moved as can be: nobody who goes keeps one, each partition has so many replicas, and
 * no node holds two more than another one. The same input gives the same plan, and one that is
 * fulfilled asks for nothing: whoever was interrupted plans again.
 * Thread: any. */
#ifndef LOQUAT_REPLICATION_CLUSTER_PLAN_H
#define LOQUAT_REPLICATION_CLUSTER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLAN_REPLICAS_DEFAULT = 3, PLAN_REPLICAS_MAX = 7, PLAN_NODES_MAX = 64 };

/* Who holds a partition, or should. */
struct plan_set {
    uint64_t ids[PLAN_NODES_MAX];
    size_t count;
};

bool plan_has(const struct plan_set *set, uint64_t id);
void plan_put(struct plan_set *set, uint64_t id);  /* once */
void plan_drop(struct plan_set *set, uint64_t id); /* if it is there */
/* Changes sets[0] to sets[count - 1]: only `nodes` hold them, `replicas` of them each, or all when
 * there are fewer. */
void plan_spread(struct plan_set *sets, size_t count, const struct plan_set *nodes,
                 size_t replicas);

#endif
