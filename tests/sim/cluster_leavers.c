/* tests/sim/cluster_leavers.c: servers without a vote are struck out of the configuration, in some
 * runs of five nodes, told so by who leads, as replication/node_members.c tells them, and taken in
 * again: before they know of it, while they remove what they have, or long after. When all is
 * healed everybody is in again. Dice of its own, so that other runs are the same with it and
 * without. */
#include "store/base/check.h"
#include "tests/lib/dice.h"
#include "tests/sim/cluster.h"

enum { RUNS_PERCENT = 50, CHANGE_PERCENT = 20, BACK_PERCENT = 25, TOLD_PERCENT = 20, STAY_MIN = 3 };

static bool chance(unsigned percent)
{
    return dice_roll(&world.leave_dice, 100) < percent;
}

void leavers_expected(void)
{
    uint64_t dice = world.seed ^ UINT64_C(0x5bd1e995);
    if (!world.members_change || (world_season < 0 && dice_roll(&dice, 100) >= RUNS_PERCENT))
        return;
    world.leave_dice = dice;
    if (world.weather.trailing == 0)
        world.weather.trailing = 1; /* who comes back is sent everything: rcore.h on index 1 */
}

/* False: nothing is to be changed now. */
static bool next_servers(const struct node *leader, struct rcore_server *servers, size_t *count)
{
    static const char *const addresses[NODES_MAX] = {"1", "2", "3", "4", "5"};
    uint64_t any = dice_roll(&world.leave_dice, NODES_MAX) + 1;
    size_t at = 0;
    while (at < *count && servers[at].id != any)
        at++;
    if (at == *count) {
        if (!world.calm && !chance(BACK_PERCENT))
            return false;
        servers[(*count)++] = (struct rcore_server){any, addresses[any - 1], false};
        return true;
    }
    if (world.calm || servers[at].voter || any == leader->number + 1 || *count <= STAY_MIN ||
        !chance(CHANGE_PERCENT))
        return false;
    servers[at] = servers[--*count];
    return true;
}

static void tell(struct node *leader, const struct rcore_server *servers, size_t count)
{
    uint32_t partition = 0;
    uint64_t term = rcore_term(leader->shard.core), ids[NODES_MAX];
    Loquat__Holders holders = LOQUAT__HOLDERS__INIT, *all = &holders;
    Loquat__Leads leads = LOQUAT__LEADS__INIT;
    char bytes[256];
    for (size_t i = 0; i < count; i++)
        ids[holders.n_nodes++] = servers[i].id;
    holders.index = rcore_conf_index(leader->shard.core);
    holders.nodes = ids;
    leads.n_partitions = leads.n_terms = leads.n_holders = 1;
    leads.partitions = &partition;
    leads.terms = &term;
    leads.holders = &all;
    ASSERT(loquat__leads__get_packed_size(&leads) <= sizeof bytes);
    size_t size = loquat__leads__pack(&leads, (uint8_t *)bytes);
    for (uint64_t id = 1; id <= world.nodes; id++)
        if (id != leader->number + 1)
            node_say(leader, id, LINK_LEADS, span_of(bytes, size));
}

void leavers_told(struct node *node, struct span bytes)
{
    Loquat__Leads *leads = loquat__leads__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
    ASSERT(leads != NULL && leads->n_holders == 1);
    const Loquat__Holders *holders = leads->holders[0];
    const struct rcore *core = node->shard.core;
    uint64_t term = rcore_term(core), newest = rcore_conf_index(core);
    bool in = false, before = node->shard.install != NULL;
    for (size_t i = 0; i < holders->n_nodes; i++)
        in = in || holders->nodes[i] == node->number + 1;
    if (!in)
        shard_leave(&node->shard, leads->terms[0], holders->index);
    if (!before && node->shard.install != NULL) {
        TRACE("node %u leaves", node->number);
        world.leaves++;
        if (leads->terms[0] < term || holders->index < newest)
            fail("node %u leaves, and knows of more than who says so", node->number);
    }
    loquat__leads__free_unpacked(leads, NULL);
}

bool leavers_are_back(const struct shard *leader)
{
    struct rcore_server servers[NODES_MAX];
    return world.leave_dice == 0 || rcore_servers(leader->core, servers, NODES_MAX) == world.nodes;
}

void leavers_step(void)
{
    for (unsigned i = 0; i < world.nodes && world.leave_dice != 0 && !world.failed; i++) {
        struct node *node = &world.node[i];
        if (!node->up || !node->shard.serving ||
            rcore_uncommitted_conf_index(node->shard.core) != 0)
            continue;
        struct rcore_server servers[NODES_MAX];
        size_t count = rcore_servers(node->shard.core, servers, NODES_MAX);
        if (chance(TOLD_PERCENT))
            tell(node, servers, count);
        if (!rcore_transferring(node->shard.core) && next_servers(node, servers, &count))
            node_change(node, servers, count);
    }
}
