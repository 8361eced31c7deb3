/* replication/node_members.c: which nodes hold the partitions that are led here, changed one at a
 * time and one server at a time: who comes gets everything first, then a vote; who goes is told so,
 * and removes what it has; and how all of it stands, for whoever asks. */
#include "replication/node_inside.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/wire.h"
#include "store/key.h"

enum {
    HOLDERS_AGAIN_MS = 30000,
    HOLDERS_PRIME = 1000003,
    ROOM_AFTER_MS = 30000, /* after the last of several that left, as one compaction is for all */
};

struct members {
    struct rcore_server servers[ROSTER_NODES_MAX]; /* addresses are lent by the core */
    size_t count;
};

static struct members members_of(const struct shard *shard)
{
    struct members members;
    members.count = rcore_servers(shard->core, members.servers, ROSTER_NODES_MAX);
    if (members.count > ROSTER_NODES_MAX)
        members.count = ROSTER_NODES_MAX;
    return members;
}

/* ---- how it stands ---- */

static void fill_replicas(const struct node *node, const struct shard *shard,
                          Loquat__PartitionState *state, struct arena *arena)
{
    struct members members = members_of(shard);
    Loquat__ReplicaState *all = arena_alloc(arena, members.count * sizeof *all);
    state->replicas = arena_alloc(arena, members.count * sizeof(Loquat__ReplicaState *));
    for (size_t i = 0; i < members.count; i++) {
        uint64_t id = members.servers[i].id;
        loquat__replica_state__init(&all[i]);
        all[i].id = id;
        all[i].voter = members.servers[i].voter;
        if (rcore_state(shard->core) == RCORE_LEADER)
            all[i].match =
                id == node->id ? rcore_last_stored(shard->core) : rcore_match(shard->core, id);
        state->replicas[state->n_replicas++] = &all[i];
    }
}

static void fill_partition(const struct node *node, const struct shard *shard,
                           Loquat__PartitionState *state, struct arena *arena)
{
    loquat__partition_state__init(state);
    state->partition = shard->partition;
    state->serving = shard->serving;
    state->leader = shard->serving ? node->id : rcore_leader(shard->core);
    state->term = rcore_term(shard->core);
    state->first = shard->log.first;
    state->last = rcore_last_index(shard->core);
    state->commit = rcore_commit_index(shard->core);
    state->applied = shard->applied;
    fill_replicas(node, shard, state, arena);
}

static void fill_status(const struct node *node, Loquat__ClusterState *state, struct arena *arena)
{
    uint32_t count = node->dir.partitions;
    Loquat__PartitionState *all = arena_alloc(arena, count * sizeof *all);
    state->partitions = arena_alloc(arena, count * sizeof(Loquat__PartitionState *));
    for (uint32_t p = 0; p < count; p++) {
        fill_partition(node, &node->shards[p], &all[p], arena);
        state->partitions[state->n_partitions++] = &all[p];
    }
    size_t others = node->net != NULL ? rnet_others(node->net) : 0;
    state->reached = arena_alloc(arena, (others + 1) * sizeof(uint64_t));
    for (size_t i = 0; i < others; i++)
        if (rnet_reaches(node->net, rnet_other(node->net, i)))
            state->reached[state->n_reached++] = rnet_other(node->net, i);
    state->disk_full = node->disk_full;
    state->drained = node->drained;
    state->version = WIRE_VERSION;
    state->format = node->dir.format;
    state->disk_free = datadir_free_bytes(node->path);
    state->ready = node->phase == NODE_SERVING;
}

/* ---- changes ---- */

static size_t member_at(const struct members *members, uint64_t id) /* count: it is none */
{
    size_t at = 0;
    while (at < members->count && members->servers[at].id != id)
        at++;
    return at;
}

/* Led here, and no change of it is under way. */
static bool may_change(const struct shard *shard)
{
    return shard->serving && !rcore_transferring(shard->core) &&
           rcore_uncommitted_conf_index(shard->core) == 0;
}

/* What is refused now is tried again by whoever wants it. */
static void change(struct shard *shard, const struct members *members)
{
    struct buf conf = {0};
    rcore_encode_conf(members->servers, members->count, &conf);
    shard_change(shard, buf_span(&conf), clock_mono_ms());
    buf_close(&conf);
}

static void add_member(struct shard *shard, uint64_t id, const char *address)
{
    struct members members = members_of(shard);
    if (member_at(&members, id) < members.count || members.count == ROSTER_NODES_MAX)
        return;
    members.servers[members.count++] = (struct rcore_server){id, address, false};
    change(shard, &members);
}

static void remove_member(struct shard *shard, uint64_t id)
{
    struct members members = members_of(shard);
    size_t at = member_at(&members, id);
    if (at == members.count)
        return;
    if (id == shard->env->id) { /* first somebody else leads, who does it then */
        (void)rcore_transfer(shard->core, 0, clock_mono_ms());
        return;
    }
    members.servers[at] = members.servers[--members.count];
    change(shard, &members);
}

/* Who has caught up gets a vote. */
static void promote_one(struct shard *shard)
{
    struct members members = members_of(shard);
    uint64_t last = rcore_last_index(shard->core);
    for (size_t i = 0; i < members.count; i++) {
        uint64_t match = rcore_match(shard->core, members.servers[i].id);
        if (members.servers[i].voter || match == 0 || match + RCORE_BEHIND_MAX < last)
            continue;
        members.servers[i].voter = true;
        change(shard, &members);
        return;
    }
}

/* ---- who has a part in it, said to the others ---- */

void node_members_told(struct node *node, uint32_t partition, uint64_t term,
                       const Loquat__Holders *holders)
{
    if (holders->index == 0 || node->phase != NODE_SERVING)
        return;
    for (size_t i = 0; i < holders->n_nodes; i++)
        if (holders->nodes[i] == node->id)
            return;
    shard_leave(&node->shards[partition], term, holders->index);
}

/* When it has changed, and now and then: who could not leave a partition then is told again. */
static void tell_holders(struct node *node)
{
    uint64_t now = clock_mono_ms(), sum = 0;
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        const struct rcore *core = node->shards[p].core;
        if (node->shards[p].serving && rcore_uncommitted_conf_index(core) == 0)
            sum = sum * HOLDERS_PRIME + rcore_conf_index(core) + p;
    }
    if (sum == node->holders && now < node->said_ms + HOLDERS_AGAIN_MS)
        return;
    node->holders = sum;
    node->said_ms = now;
    node_lead_say(node, 0);
}

/* Of what has left the room on the disk is free when files have been compacted. */
static void free_room(struct node *node)
{
    uint64_t newest = 0;
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        newest = newest < node->shards[p].left_ms ? node->shards[p].left_ms : newest;
    if (newest == 0 || clock_mono_ms() < newest + ROOM_AFTER_MS)
        return;
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        struct key from = key_partition(p), until = key_partition(p + 1);
        for (enum kv_cf cf = 0; cf < KV_CF_COUNT && node->shards[p].left_ms != 0; cf++)
            kv_compact_later(node->data, cf, key_span(&from), key_span(&until));
        node->shards[p].left_ms = 0;
    }
}

void node_members_tick(struct node *node)
{
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        struct shard *shard = &node->shards[p];
        struct members members = members_of(shard);
        for (size_t i = 0; i < members.count; i++)
            rnet_know(node->net, members.servers[i].id, members.servers[i].address);
        if (may_change(shard))
            promote_one(shard);
    }
    rpc_tell_nodes(&node->rpc);
    tell_holders(node);
    free_room(node);
}

static void make_changes(struct node *node, const Loquat__ClusterAsk *ask)
{
    for (size_t i = 0; i < ask->n_changes; i++) {
        const Loquat__ClusterChange *one = ask->changes[i];
        struct shard *shard = &node->shards[one->partition];
        if (!may_change(shard))
            continue;
        if (one->address[0] != '\0')
            add_member(shard, one->node, one->address);
        else
            remove_member(shard, one->node);
    }
}

/* NULL, or why not. */
static const char *check_changes(const struct node *node, const Loquat__ClusterAsk *ask)
{
    struct address address;
    for (size_t i = 0; i < ask->n_changes; i++) {
        const Loquat__ClusterChange *one = ask->changes[i];
        if (one->partition >= node->dir.partitions)
            return "there is no such partition";
        if (one->node == 0 || one->node > UINT32_MAX)
            return "a node's number is a whole number from 1 on";
        if (one->address[0] != '\0' && (!address_parse(one->address, &address) ||
                                        strlen(one->address) >= sizeof node->roster.nodes[0].name))
            return "the address of the new node must be HOST:PORT";
    }
    return NULL;
}

/* ---- what is asked ---- */

/* NULL, or why not. */
static const char *do_ask(struct node *node, const Loquat__ClusterAsk *ask)
{
    const char *why = NULL;
    if (ask->op == LOQUAT__CLUSTER_OP__CLUSTER_STATUS)
        return NULL;
    if (node->net == NULL)
        return "this node is alone: it can't become one of several yet";
    switch (ask->op) {
    case LOQUAT__CLUSTER_OP__CLUSTER_CHANGE:
        why = check_changes(node, ask);
        if (why == NULL)
            make_changes(node, ask);
        return why;
    case LOQUAT__CLUSTER_OP__CLUSTER_TRANSFER:
        return node_lead_transfer(node, ask->partition, ask->node);
    case LOQUAT__CLUSTER_OP__CLUSTER_DRAIN:
        return node_lead_drain(node, ask->node, true);
    case LOQUAT__CLUSTER_OP__CLUSTER_UNDRAIN:
        return node_lead_drain(node, ask->node, false);
    default:
        return "this node is too old to understand that";
    }
}

void node_members_asked(void *arg, const Loquat__ClusterAsk *ask, struct buf *out)
{
    struct node *node = arg;
    struct arena arena;
    Loquat__ClusterState state = LOQUAT__CLUSTER_STATE__INIT;
    arena_init(&arena);
    state.cluster = node->dir.cluster;
    state.id = node->id;
    const char *why = do_ask(node, ask);
    if (why != NULL) {
        state.err = ERR_BAD_REQUEST;
        state.msg = (char *)(uintptr_t)why;
    }
    fill_status(node, &state, &arena);
    size_t size = loquat__cluster_state__get_packed_size(&state);
    loquat__cluster_state__pack(&state, (uint8_t *)buf_grow(out, size));
    arena_close(&arena);
}
