/* replication/node_peers.c: what a node has to do with the other nodes of its cluster: consensus
 * and snapshots of its partitions, and effects that partitions led elsewhere must get. */
#include <stdio.h>

#include "replication/node_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"

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
        log_fatal("another node contradicts what this one leads or has committed: one of them is "
                  "broken or has an old copy of its directory; run `loquat-compact verify` on both",
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
    case LINK_LEADS:
        err = node_lead_told(node, from, body);
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
    if (up) {
        node_lead_say(node, other);
        return;
    }
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

static uint64_t leader(void *arg, uint32_t partition)
{
    return node_lead_of(arg, partition);
}

void node_peers_open(struct node *node)
{
    node_lead_open(node);
    node->net = rnet_new(&(struct rnet_env){
        .loop = &node->loop,
        .roster = &node->roster,
        .id = node->id,
        .cluster = node->dir.cluster,
        .incarnation = node->dir.id,
        .partitions = node->dir.partitions,
        .secret = node->secret,
        .dir = node->path,
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
    node->effects.leader = leader;
    node->effects.arg = node;
}
