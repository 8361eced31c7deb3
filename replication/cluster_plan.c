#include "replication/cluster_plan.h"

#include "store/base/check.h"

bool plan_has(const struct plan_set *set, uint64_t id)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->ids[i] == id)
            return true;
    return false;
}

void plan_put(struct plan_set *set, uint64_t id)
{
    if (plan_has(set, id))
        return;
    ASSERT(set->count < PLAN_NODES_MAX);
    set->ids[set->count++] = id;
}

void plan_drop(struct plan_set *set, uint64_t id)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++)
        if (set->ids[i] != id)
            set->ids[kept++] = set->ids[i];
    set->count = kept;
}

/* How many partitions a node holds. */
static size_t held(const struct plan_set *sets, size_t count, uint64_t id)
{
    size_t n = 0;
    for (size_t p = 0; p < count; p++)
        n += plan_has(&sets[p], id);
    return n;
}

/* Of the nodes, the one that holds least, or most: of those that hold `set`, or of those that do
 * not. 0: there is none. */
static uint64_t extreme(const struct plan_set *sets, size_t count, const struct plan_set *nodes,
                        const struct plan_set *set, bool holding, bool most)
{
    uint64_t best = 0;
    size_t best_held = 0;
    for (size_t i = 0; i < nodes->count; i++) {
        uint64_t id = nodes->ids[i];
        if (set != NULL && plan_has(set, id) != holding)
            continue;
        size_t n = held(sets, count, id);
        if (best == 0 || (most ? n > best_held : n < best_held)) {
            best = id;
            best_held = n;
        }
    }
    return best;
}

static void fill(struct plan_set *sets, size_t count, size_t p, const struct plan_set *nodes,
                 size_t replicas)
{
    struct plan_set *set = &sets[p];
    for (size_t i = set->count; i-- > 0;)
        if (!plan_has(nodes, set->ids[i]))
            plan_drop(set, set->ids[i]);
    while (set->count > replicas)
        plan_drop(set, extreme(sets, count, nodes, set, true, true));
    while (set->count < replicas && set->count < nodes->count)
        plan_put(set, extreme(sets, count, nodes, set, false, false));
}

/* One partition from who holds most to who holds least; false: they hold as many, or nearly. */
static bool even_out(struct plan_set *sets, size_t count, const struct plan_set *nodes)
{
    uint64_t most = extreme(sets, count, nodes, NULL, false, true);
    uint64_t least = extreme(sets, count, nodes, NULL, false, false);
    if (most == 0 || held(sets, count, most) < held(sets, count, least) + 2)
        return false;
    for (size_t p = 0; p < count; p++) {
        if (!plan_has(&sets[p], most) || plan_has(&sets[p], least))
            continue;
        plan_drop(&sets[p], most);
        plan_put(&sets[p], least);
        return true;
    }
    return false; /* not reached: who holds more has one that the other has not */
}

void plan_spread(struct plan_set *sets, size_t count, const struct plan_set *nodes, size_t replicas)
{
    for (size_t p = 0; p < count; p++)
        fill(sets, count, p, nodes, replicas);
    while (even_out(sets, count, nodes)) {
    }
}
