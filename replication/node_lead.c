/* replication/node_lead.c: which node leads which partition: known here as far as the node's own
 * replica or the other nodes say; dealt out evenly; handed over by who ends, is drained, or has no
 * room; and moved because somebody wants it. */
#include "replication/node_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum {
    SETTLED_MS = 3000, /* a node that is reached for so long may lead again */
    MOVED_SHARE = 16,  /* at a time: one of so many partitions */
    TURNS = 3,         /* nodes do it in turn, a second each, by the clock: else all give to one */
};

/* ---- who does ---- */

struct node_led {
    uint64_t node, term; /* as it said itself; 0: it does no more */
};

void node_lead_open(struct node *node)
{
    node->led = xcalloc(node->dir.partitions, sizeof *node->led);
}

/* The own replica may not be of the partition any more, and then hears nothing. */
uint64_t node_lead_of(const struct node *node, uint32_t partition)
{
    const struct shard *shard = &node->shards[partition];
    const struct node_led *led = &node->led[partition];
    uint64_t leader = rcore_leader(shard->core);
    return leader != 0 && rcore_term(shard->core) >= led->term ? leader : led->node;
}

bool node_lead_settled(const struct node *node)
{
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        uint64_t leader = node_lead_of(node, p);
        if (!node->shards[p].serving && (leader == 0 || leader == node->id))
            return false;
    }
    return true;
}

int node_lead_told(struct node *node, uint64_t from, struct span body)
{
    Loquat__Leads *leads =
        loquat__leads__unpack(&node->arena.allocator, body.n, (const uint8_t *)body.p);
    if (leads == NULL)
        return ERR_CORRUPT;
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        if (node->led[p].node == from)
            node->led[p].node = 0;
    for (size_t i = 0; i < leads->n_partitions && i < leads->n_terms; i++) {
        uint32_t p = leads->partitions[i];
        if (p >= node->dir.partitions || leads->terms[i] < node->led[p].term)
            continue;
        node->led[p] = (struct node_led){from, leads->terms[i]};
        if (i < leads->n_holders)
            node_members_told(node, p, leads->terms[i], leads->holders[i]);
    }
    return 0;
}

void node_lead_say(struct node *node, uint64_t to)
{
    node->packed.n = 0;
    rpc_pack_leads(&node->rpc, &node->packed);
    for (size_t i = 0; i < rnet_others(node->net); i++)
        if (to == 0 || to == rnet_other(node->net, i))
            rnet_send(node->net, rnet_other(node->net, i), LINK_LEADS, buf_span(&node->packed));
}

/* ---- who should ---- */

static size_t voters_of(const struct shard *shard, struct rcore_server servers[ROSTER_NODES_MAX])
{
    size_t count = rcore_servers(shard->core, servers, ROSTER_NODES_MAX), voters = 0;
    for (size_t i = 0; i < count && i < ROSTER_NODES_MAX; i++)
        if (servers[i].voter)
            servers[voters++] = servers[i];
    return voters;
}

/* It has been there for so long, has room, has applied what it has, and lacks little. */
static bool may_lead(const struct node *node, const struct shard *shard, uint64_t id,
                     uint64_t settled_ms)
{
    return id != node->id && rnet_reached_ms(node->net, id) >= settled_ms &&
           rnet_told(node->net, id) == 0 &&
           rcore_match(shard->core, id) + SHARD_NEARLY >= rcore_last_index(shard->core);
}

/* How many partitions each node leads, as far as is known here. */
struct lead_tally {
    uint64_t ids[ROSTER_NODES_MAX];
    uint32_t leads[ROSTER_NODES_MAX];
    size_t count;
};

static uint32_t *tally_of(struct lead_tally *tally, uint64_t id)
{
    size_t at = 0;
    while (at < tally->count && tally->ids[at] != id)
        at++;
    if (at == ROSTER_NODES_MAX)
        return &tally->leads[at - 1]; /* more than there can be: some count as one */
    if (at == tally->count) {
        tally->ids[tally->count++] = id;
        tally->leads[at] = 0;
    }
    return &tally->leads[at];
}

static void take_tally(const struct node *node, struct lead_tally *tally)
{
    tally->count = 0;
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        uint64_t leader = node_lead_of(node, p);
        if (leader != 0)
            ++*tally_of(tally, leader);
    }
}

/* Of those that may lead it, the one that leads least; with no more than so many. 0: none. */
static uint64_t heir(const struct node *node, const struct shard *shard, struct lead_tally *tally,
                     uint32_t most, uint64_t settled_ms)
{
    struct rcore_server servers[ROSTER_NODES_MAX];
    size_t voters = voters_of(shard, servers);
    uint64_t best = 0;
    for (size_t i = 0; i < voters; i++) {
        uint64_t id = servers[(shard->partition + i) % voters].id;
        uint32_t leads = *tally_of(tally, id);
        if (leads > most || !may_lead(node, shard, id, settled_ms))
            continue;
        best = id;
        most = leads > 0 ? leads - 1 : 0;
        if (leads == 0)
            break;
    }
    return best;
}

static bool yields(const struct node *node)
{
    return node->disk_full || node->drained;
}

/* Who leads two less at least; while this node should lead nothing, anybody. 0: it stays. */
static uint64_t better_leader(const struct node *node, const struct shard *shard,
                              struct lead_tally *tally)
{
    uint32_t own = *tally_of(tally, node->id);
    if (yields(node))
        return heir(node, shard, tally, UINT32_MAX, SETTLED_MS);
    return shard->kept || own < 2 ? 0 : heir(node, shard, tally, own - 2, SETTLED_MS);
}

/* To anybody: 0. */
static bool give(struct node *node, struct shard *shard, uint64_t to, struct lead_tally *tally)
{
    if (rcore_transfer(shard->core, to, clock_mono_ms()) != 0)
        return false;
    uint32_t *own = tally_of(tally, node->id);
    *own -= *own > 0;
    ++*tally_of(tally, to);
    return true;
}

static bool behind(const struct node *node)
{
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        if (shard_behind(&node->shards[p]))
            return true;
    return node->phase == NODE_STARTING;
}

void node_lead_tell(struct node *node)
{
    rnet_tell(node->net, (node->disk_full ? RNET_FULL : 0) | (behind(node) ? RNET_BEHIND : 0) |
                             (node->drained ? RNET_DRAINED : 0));
}

void node_lead_balance(struct node *node)
{
    struct lead_tally tally;
    uint32_t count = node->dir.partitions, moved = 0, first = node->balanced;
    uint32_t most = yields(node) ? count : count / MOVED_SHARE + 1;
    if (!yields(node) && clock_wall_ms() / 1000 % TURNS != node->id % TURNS)
        return;
    take_tally(node, &tally);
    for (uint32_t i = 0; i < count && moved < most; i++) {
        struct shard *shard = &node->shards[(first + i) % count];
        if (!shard->serving || rcore_transferring(shard->core))
            continue;
        uint64_t to = better_leader(node, shard, &tally);
        if (to == 0)
            continue;
        node->balanced = shard->partition + 1;
        moved += give(node, shard, to, &tally);
    }
}

bool node_lead_hand_over(struct node *node)
{
    bool none = true;
    struct lead_tally tally;
    take_tally(node, &tally);
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        struct shard *shard = &node->shards[p];
        if (rcore_state(shard->core) != RCORE_LEADER)
            continue;
        none = false;
        if (rcore_transferring(shard->core))
            continue; /* it is tried again when that came to nothing */
        (void)give(node, shard, heir(node, shard, &tally, UINT32_MAX, 1), &tally);
    }
    return none;
}

/* ---- what is wanted ---- */

/* Each node is asked: who leads it lets go, who shall have it keeps it. */
const char *node_lead_transfer(struct node *node, uint32_t partition, uint64_t to)
{
    if (partition >= node->dir.partitions)
        return "there is no such partition";
    struct shard *shard = &node->shards[partition];
    shard->kept = to == node->id;
    if (shard->serving && to != node->id && !rcore_transferring(shard->core))
        (void)rcore_transfer(shard->core, to, clock_mono_ms()); /* or when it is asked again */
    return NULL;
}

const char *node_lead_drain(struct node *node, uint64_t who, bool drained)
{
    if (who != node->id || node->drained == drained)
        return NULL;
    if (roster_put_drained(node->path, drained) != 0)
        return "the node can't write down that it is drained: look at its disk";
    node->drained = drained;
    log_info(drained ? "drained: others lead what was led here" : "drained no more");
    node_lead_tell(node);
    node_lead_balance(node);
    return NULL;
}
