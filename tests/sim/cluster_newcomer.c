/* tests/sim/cluster_newcomer.c: a node that is gone for good has a successor with a new number, in
 * some runs of three nodes: it begins with nothing, is taken in without a vote, the lost one is
 * struck out, and when it has caught up it gets a vote: what replication/node_members.c does when
 * it is told to. Dice of its own, so that other runs are the same with it and without. */
#include "tests/lib/dice.h"
#include "tests/sim/cluster.h"

enum { SUCCESSOR_PERCENT = 60, SUCCESSOR_AFTER_MS = 1000, CHANGE_PERCENT = 20 };

void newcomer_expected(const struct node *lost)
{
    if (world.nodes != 3 || world.lost != 0 ||
        dice_roll(&world.newcomer_dice, 100) >= SUCCESSOR_PERCENT)
        return;
    world.lost = lost->number + 1;
    world.newcomer_ms = sim_now_ms + SUCCESSOR_AFTER_MS;
}

static void come(void)
{
    struct node *node = &world.node[world.nodes];
    struct journal_batch batch = {0};
    struct rlog log;
    node->number = world.nodes;
    node->journal = sim_journal_new();
    node->data = sim_kv_new();
    node->mark = sim_mark_new();
    batch.at = sim_journal_next(node->journal);
    rlog_bootstrap_empty(&log, &batch, 0);
    (void)journal_write(node->journal, &batch);
    journal_batch_close(&batch);
    rlog_close(&log);
    world.nodes++;
    world.newcomer_ms = 0;
    world.newcomers++;
    TRACE("node %u comes in the place of node %u", node->number, world.lost - 1);
    node_start(node);
}

/* What is to be changed next. False: nothing, or not now. */
static bool next_members(const struct rcore *core, uint64_t id, struct rcore_server *servers,
                         size_t *count)
{
    static char address[] = "4";
    size_t at = 0, lost = 0;
    while (at < *count && servers[at].id != id)
        at++;
    while (lost < *count && servers[lost].id != world.lost)
        lost++;
    if (at == *count) {
        servers[(*count)++] = (struct rcore_server){id, address, false};
        return true;
    }
    if (lost < *count) { /* first: as long as it counts, a vote more could be one too many */
        servers[lost] = servers[--*count];
        return true;
    }
    if (servers[at].voter)
        return false;
    servers[at].voter = true;
    return rcore_match(core, id) + RCORE_BEHIND_MAX >= rcore_last_index(core);
}

static void take_in(struct node *node)
{
    struct rcore *core = node->shard.core;
    struct rcore_server servers[NODES_MAX];
    size_t count = rcore_servers(core, servers, NODES_MAX);
    if (rcore_state(core) != RCORE_LEADER || rcore_transferring(core) ||
        rcore_uncommitted_conf_index(core) != 0 || !node->shard.serving ||
        dice_roll(&world.newcomer_dice, 100) >= CHANGE_PERCENT ||
        !next_members(core, world.nodes, servers, &count))
        return;
    node_change(node, servers, count);
}

/* It has a vote, and nobody counts on the lost one any more. */
bool newcomer_is_in(const struct shard *leader)
{
    struct rcore_server servers[NODES_MAX];
    size_t count = rcore_servers(leader->core, servers, NODES_MAX);
    bool votes = false;
    if (world.newcomers == 0)
        return true;
    for (size_t i = 0; i < count; i++) {
        votes = votes || (servers[i].id == world.nodes && servers[i].voter);
        if (servers[i].id == world.lost)
            return false;
    }
    return votes;
}

void newcomer_step(void)
{
    if (world.lost == 0)
        return;
    if (world.newcomer_ms != 0) {
        if (sim_now_ms >= world.newcomer_ms)
            come();
        return;
    }
    for (unsigned i = 0; i < world.nodes && !world.failed; i++)
        if (world.node[i].up)
            take_in(&world.node[i]);
}
