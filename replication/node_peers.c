/* replication/node_peers.c: what a node has to do with the other nodes of its cluster: consensus
 * and snapshots of its partitions, effects that partitions led elsewhere must get, and who leads
 * what. */
#include <stdio.h>

#include "replication/node_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"

enum {
    SETTLED_MS = 3000, /* a node that is reached for so long may lead again */
    MOVED_SHARE = 32,  /* at a time: one of so many partitions */
};

/* ---- what comes ---- */

static struct shard *shard_of(struct node *node, uint32_t partition)
{
    return partition < node->dir.partitions ? &node->shards[partition] : NULL;
}

static int take_raft(struct node *node, uint64_t from, struct span body)
{
    Loquat__Raft *message =
        loquat__raft__unpack(&node->arena.allocator, body.n, (const uint8_t *)body.p);
    struct shard *shard = message != NULL ? shard_of(node, message->partition) : NULL;
    if (shard == NULL || message->from != from || message->to != node->id)
        return ERR_CORRUPT;
    int err = shard_receive(shard, message, clock_mono_ms());
    if (err == ERR_CONFLICT) /* to go on would be to guess which of the two is right */
        log_fatal("another node contradicts what is committed here: one of the two is broken; run "
                  "`loquat-compact verify` on both",
                  "");
    return err;
}

static int take_chunk(struct node *node, uint64_t from, struct span body)
{
    Loquat__Chunk *chunk =
        loquat__chunk__unpack(&node->arena.allocator, body.n, (const uint8_t *)body.p);
    struct shard *shard = chunk != NULL ? shard_of(node, chunk->partition) : NULL;
    if (shard == NULL || chunk->from != from || chunk->to != node->id)
        return ERR_CORRUPT;
    shard_chunk(shard, chunk, clock_mono_ms());
    return 0;
}

static int take_chunk_reply(struct node *node, uint64_t from, struct span body)
{
    Loquat__ChunkReply *reply =
        loquat__chunk_reply__unpack(&node->arena.allocator, body.n, (const uint8_t *)body.p);
    struct shard *shard = reply != NULL ? shard_of(node, reply->partition) : NULL;
    if (shard == NULL || reply->from != from || reply->to != node->id)
        return ERR_CORRUPT;
    shard_chunk_reply(shard, reply, clock_mono_ms());
    return 0;
}

static void send_answer(struct node *node, uint64_t to, uint64_t id, int err)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.id = id;
    reply.err = err;
    node->packed.n = 0;
    reply_pack(&reply, &node->packed);
    rnet_send(node->net, to, LINK_REPLY, buf_span(&node->packed));
}

/* Effects only: whoever sent it tries again for as long as it is owed. */
static int take_write(struct node *node, uint64_t from, struct span body)
{
    struct write_view write;
    struct shard *shard = write_unpack(body, &write) ? shard_of(node, write.partition) : NULL;
    if (shard == NULL)
        return ERR_CORRUPT;
    struct waiter waiter = {.kind = WAITER_NODE, .owner = (void *)(uintptr_t)from, .id = write.id};
    if (shard_write(shard, write.command, waiter) != 0)
        send_answer(node, from, write.id, ERR_NOT_LEADER);
    return 0;
}

static int take_reply(struct node *node, uint64_t from, struct span body)
{
    Loquat__Reply *reply = reply_unpack(body, &node->arena);
    if (reply == NULL)
        return ERR_CORRUPT;
    effects_reply(&node->effects, from, reply->id, reply->err);
    return 0;
}

static void on_message(void *arg, uint64_t from, int type, struct span body)
{
    struct node *node = arg;
    int err = 0;
    switch (type) {
    case LINK_RAFT:
        err = take_raft(node, from, body);
        break;
    case LINK_CHUNK:
        err = take_chunk(node, from, body);
        break;
    case LINK_CHUNK_REPLY:
        err = take_chunk_reply(node, from, body);
        break;
    case LINK_WRITE:
        err = take_write(node, from, body);
        break;
    case LINK_REPLY:
        err = take_reply(node, from, body);
        break;
    case LINK_READ_PROBE:
        err = readindex_asked(&node->readindex, from, body);
        break;
    case LINK_READ_PROBE_REPLY:
        err = readindex_answered(&node->readindex, from, body);
        break;
    default: /* of a newer node */
        break;
    }
    arena_reset(&node->arena);
    if (err != 0)
        log_error("a message of another node is not taken", {"node", log_int((int64_t)from)},
                  {"err", log_str(err_name(err))});
}

static void on_link(void *arg, uint64_t other, bool up)
{
    struct node *node = arg;
    if (up)
        return;
    effects_lost(&node->effects, other);
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        shard_lost(&node->shards[p], other, clock_mono_ms());
}

void node_peers_answer(struct node *node, const struct waiter *waiter,
                       const struct apply_result *result)
{
    send_answer(node, (uint64_t)(uintptr_t)waiter->owner, waiter->id, result->err);
}

/* ---- what goes ---- */

static void send_message(void *arg, uint64_t to, enum link_type type, struct span message)
{
    rnet_send(((struct node *)arg)->net, to, type, message);
}

static bool reaches(void *arg, uint64_t to)
{
    return rnet_reaches(((struct node *)arg)->net, to);
}

static bool send_effect(void *arg, uint64_t to, struct span write)
{
    struct node *node = arg;
    if (!rnet_reaches(node->net, to))
        return false;
    rnet_send(node->net, to, LINK_WRITE, write);
    return true;
}

void node_peers_open(struct node *node)
{
    node->net = rnet_new(&(struct rnet_env){
        .loop = &node->loop,
        .roster = &node->roster,
        .id = node->id,
        .cluster = node->dir.cluster,
        .incarnation = node->dir.id,
        .partitions = node->dir.partitions,
        .secret = node->secret,
        .raft = node->raft,
        .on_message = on_message,
        .on_link = on_link,
        .arg = node,
    });
    node->shard_env.on_message = send_message;
    node->shard_env.reaches = reaches;
    readindex_init(&node->readindex, node->shards, node->dir.partitions, node->id, send_message,
                   node);
    node->rpc.readindex = &node->readindex;
    node->effects.self = node->id;
    node->effects.send = send_effect;
    node->effects.arg = node;
}

/* ---- who leads ---- */

bool node_peers_settled(const struct node *node)
{
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        if (!shard_served(&node->shards[p]))
            return false;
    return true;
}

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

/* Of the first so many voters, beginning with the one that should lead it: the partitions are dealt
 * out to them in turn. 0: none of them may. */
static uint64_t heir(const struct node *node, const struct shard *shard, size_t first,
                     uint64_t settled_ms)
{
    struct rcore_server servers[ROSTER_NODES_MAX];
    size_t voters = voters_of(shard, servers);
    for (size_t i = 0; i < first && i < voters; i++) {
        uint64_t id = servers[(shard->partition + i) % voters].id;
        if (may_lead(node, shard, id, settled_ms))
            return id;
    }
    return 0;
}

/* The one that should; while this node's disk is full, any other one that may. 0: it stays. */
static uint64_t better_leader(const struct node *node, const struct shard *shard)
{
    return heir(node, shard, node->disk_full ? ROSTER_NODES_MAX : 1, SETTLED_MS);
}

static bool behind(const struct node *node)
{
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        if (shard_behind(&node->shards[p]))
            return true;
    return node->phase == NODE_STARTING;
}

void node_peers_tell(struct node *node)
{
    rnet_tell(node->net, (node->disk_full ? RNET_FULL : 0) | (behind(node) ? RNET_BEHIND : 0));
}

void node_peers_balance(struct node *node)
{
    uint64_t now = clock_mono_ms();
    uint32_t count = node->dir.partitions, moved = 0, first = node->balanced;
    uint32_t most = node->disk_full ? count : count / MOVED_SHARE + 1;
    for (uint32_t i = 0; i < count && moved < most; i++) {
        struct shard *shard = &node->shards[(first + i) % count];
        uint64_t to =
            shard->serving && !rcore_transferring(shard->core) ? better_leader(node, shard) : 0;
        if (to == 0)
            continue;
        node->balanced = shard->partition + 1;
        moved += rcore_transfer(shard->core, to, now) == 0;
    }
}

bool node_peers_hand_over(struct node *node)
{
    bool none = true;
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        struct shard *shard = &node->shards[p];
        if (rcore_state(shard->core) != RCORE_LEADER)
            continue;
        none = false;
        if (!rcore_transferring(shard->core))
            (void)rcore_transfer(shard->core, heir(node, shard, ROSTER_NODES_MAX, 1),
                                 clock_mono_ms()); /* or again */
    }
    return none;
}
