#include "replication/rpc.h"

#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/presence.h"
#include "replication/roster.h"
#include "replication/rpc_inside.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/kv.h"
#include "store/timeline.h"

void rpc_unref(struct peer *peer)
{
    ASSERT(peer->refs > 0);
    if (--peer->refs == 0)
        free(peer);
}

static void feed_ref(struct feed_peer *feed)
{
    container_of(feed, struct peer, feed)->refs++;
}

static void feed_unref(struct feed_peer *feed)
{
    rpc_unref(container_of(feed, struct peer, feed));
}

/* ---- answers ---- */

static void send_reply(struct peer *peer, const Loquat__Reply *reply)
{
    if (peer->closed)
        return;
    struct buf *packed = &peer->env->packed;
    packed->n = 0;
    reply_pack(reply, packed);
    link_send(&peer->link, LINK_REPLY, buf_span(packed));
}

void rpc_error(struct peer *peer, uint64_t id, int err, const char *msg)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.id = id;
    reply.err = err;
    reply.msg = (char *)(uintptr_t)msg;
    send_reply(peer, &reply);
}

void rpc_answer(struct rpc_env *env, const struct waiter *waiter, const struct apply_result *result)
{
    (void)env;
    struct peer *peer = waiter->owner;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.id = waiter->id;
    reply.err = result->err;
    if (result->msg != NULL)
        reply.msg = (char *)(uintptr_t)result->msg;
    reply.seq = result->seq;
    reply.mid = result->mid;
    reply.ts = result->ts;
    reply.n = result->n;
    reply.dup = result->dup;
    send_reply(peer, &reply);
    rpc_unref(peer);
}

/* ---- writes ---- */

static void on_write(struct peer *peer, struct span body)
{
    struct rpc_env *env = peer->env;
    struct write_view write;
    if (!write_unpack(body, &write) || write.partition >= env->partitions) {
        link_close(&peer->link, ERR_CORRUPT);
        return;
    }
    if (*env->disk_full) {
        bound_hit(BOUND_DISK);
        rpc_error(peer, write.id, ERR_NO_SPACE, "the disk is full; reading goes on");
        return;
    }
    struct waiter waiter = {.kind = WAITER_PEER, .owner = peer, .id = write.id};
    int err = shard_write(&env->shards[write.partition], write.command, waiter);
    env->taken_bytes += write.command.n;
    if (err == 0)
        peer->refs++;
    else
        rpc_error(peer, write.id, err,
                  err == ERR_BUSY ? "too much is waiting to be written" : "not served here now");
}

/* ---- which partitions are served here ---- */

/* Of all nodes that hold a partition; lent by the cores. */
static size_t addresses(const struct rpc_env *env, char *nodes[ROSTER_NODES_MAX])
{
    uint64_t ids[ROSTER_NODES_MAX];
    size_t count = 0;
    for (uint32_t p = 0; p < env->partitions; p++) {
        struct rcore_server servers[READINDEX_VOTERS_MAX];
        size_t n = rcore_servers(env->shards[p].core, servers, READINDEX_VOTERS_MAX);
        for (size_t i = 0; i < n && i < READINDEX_VOTERS_MAX; i++) {
            size_t at = 0;
            while (at < count && ids[at] != servers[i].id)
                at++;
            if (at < count || count == ROSTER_NODES_MAX)
                continue;
            ids[count] = servers[i].id;
            nodes[count++] = (char *)(uintptr_t)servers[i].address;
        }
    }
    return count;
}

static Loquat__Holders *holders(const struct shard *shard, uint64_t term, struct arena *arena)
{
    struct rcore_server servers[ROSTER_NODES_MAX];
    Loquat__Holders *made = arena_alloc(arena, sizeof *made);
    loquat__holders__init(made);
    size_t count = rcore_servers(shard->core, servers, ROSTER_NODES_MAX);
    if (!shard->serving || rcore_term(shard->core) != term || count > ROSTER_NODES_MAX ||
        rcore_uncommitted_conf_index(shard->core) != 0)
        return made;
    made->index = rcore_conf_index(shard->core);
    made->nodes = arena_alloc(arena, count * sizeof *made->nodes);
    for (size_t i = 0; i < count; i++)
        made->nodes[made->n_nodes++] = servers[i].id;
    return made;
}

void rpc_pack_leads(const struct rpc_env *env, struct buf *out)
{
    uint32_t partitions[PARTITIONS_MAX];
    uint64_t terms[PARTITIONS_MAX];
    Loquat__Holders *held[PARTITIONS_MAX];
    struct arena arena;
    arena_init(&arena);
    Loquat__Leads leads = LOQUAT__LEADS__INIT;
    leads.partitions = partitions;
    leads.terms = terms;
    leads.holders = held;
    for (uint32_t p = 0; p < env->partitions; p++) {
        if (env->told[p] == 0)
            continue;
        partitions[leads.n_partitions++] = p;
        terms[leads.n_terms++] = env->told[p];
        held[leads.n_holders++] = holders(&env->shards[p], env->told[p], &arena);
    }
    char *nodes[ROSTER_NODES_MAX];
    leads.nodes = nodes;
    leads.n_nodes = addresses(env, nodes);
    size_t size = loquat__leads__get_packed_size(&leads);
    loquat__leads__pack(&leads, (uint8_t *)buf_grow(out, size));
    arena_close(&arena);
}

static void send_leads(struct peer *peer)
{
    struct buf packed = {0};
    rpc_pack_leads(peer->env, &packed);
    link_send(&peer->link, LINK_LEADS, buf_span(&packed));
    buf_close(&packed);
}

static void send_leads_to_all(struct rpc_env *env)
{
    for (struct list_link *link = list_first(&env->peers); link != NULL;
         link = list_next(&env->peers, link)) {
        struct peer *peer = container_of(link, struct peer, in_env);
        if (peer->greeted)
            send_leads(peer);
    }
}

void rpc_tell_nodes(struct rpc_env *env)
{
    char *nodes[ROSTER_NODES_MAX];
    size_t count = addresses(env, nodes);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum = XXH3_64bits_withSeed(nodes[i], strlen(nodes[i]), sum);
    if (sum != env->told_nodes)
        send_leads_to_all(env);
    env->told_nodes = sum;
}

bool rpc_tell_leads(struct rpc_env *env)
{
    bool changed = false;
    for (uint32_t p = 0; p < env->partitions; p++) {
        const struct shard *shard = &env->shards[p];
        uint64_t term = shard->serving ? rcore_term(shard->core) : 0, before = env->told[p];
        if (term == before)
            continue;
        changed = true;
        env->told[p] = term;
        presence_drop(env->presence, p);
        presence_led(env->presence, p, clock_mono_ms());
        for (struct list_link *link = before != 0 ? list_first(&env->peers) : NULL; link != NULL;
             link = list_next(&env->peers, link))
            feed_drop(env->feed, &container_of(link, struct peer, in_env)->feed, p);
    }
    if (changed)
        send_leads_to_all(env);
    return changed;
}

/* ---- the link ---- */

static void on_hello(struct peer *peer, struct span body)
{
    Loquat__Hello *hello =
        loquat__hello__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (hello == NULL || hello->version < WIRE_VERSION_MIN) {
        link_close(&peer->link, ERR_VERSION);
        return;
    }
    peer->greeted = true;
    peer->version = peer->feed.version = wire_spoken_with(hello->version);
    send_leads(peer);
}

static void on_sub(struct peer *peer, struct span body)
{
    Loquat__Sub *sub = loquat__sub__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (sub == NULL)
        link_close(&peer->link, ERR_CORRUPT);
    else if (sub->partition < peer->env->partitions && !peer->env->shards[sub->partition].serving)
        feed_refuse(peer->env->feed, &peer->feed, sub, ERR_NOT_LEADER);
    else
        feed_sub(peer->env->feed, &peer->feed, sub);
}

static void on_unsub(struct peer *peer, struct span body)
{
    Loquat__Unsub *unsub =
        loquat__unsub__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (unsub == NULL)
        link_close(&peer->link, ERR_CORRUPT);
    else
        feed_unsub(peer->env->feed, &peer->feed, unsub);
}

static void on_credit(struct peer *peer, struct span body)
{
    Loquat__Credit *credit =
        loquat__credit__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (credit == NULL)
        link_close(&peer->link, ERR_CORRUPT);
    else
        feed_credit(peer->env->feed, &peer->feed, credit->bytes);
}

static void on_typing(struct peer *peer, struct span body)
{
    Loquat__Typing *typing =
        loquat__typing__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (typing == NULL)
        link_close(&peer->link, ERR_CORRUPT);
    else
        feed_typing(peer->env->feed, typing);
}

static void on_watch(struct peer *peer, struct span body)
{
    Loquat__Watch *watch =
        loquat__watch__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (watch == NULL)
        link_close(&peer->link, ERR_CORRUPT);
    else if (watch->partition < peer->env->partitions &&
             peer->env->shards[watch->partition].serving) /* else it is said to who leads it */
        presence_watch(peer->env->presence, &peer->feed, watch, clock_mono_ms());
}

static void on_cluster(struct peer *peer, struct span body)
{
    struct rpc_env *env = peer->env;
    Loquat__ClusterAsk *ask =
        loquat__cluster_ask__unpack(&peer->arena.allocator, body.n, (const uint8_t *)body.p);
    if (ask == NULL) {
        link_close(&peer->link, ERR_CORRUPT);
        return;
    }
    env->packed.n = 0;
    env->on_cluster(env->arg, ask, &env->packed);
    link_send(&peer->link, LINK_CLUSTER_STATE, buf_span(&env->packed));
}

static void on_message(struct link *link, int type, struct span body)
{
    struct peer *peer = container_of(link, struct peer, link);
    if (!peer->greeted && type != LINK_HELLO) {
        link_close(link, ERR_VERSION);
        return;
    }
    switch (type) {
    case LINK_HELLO:
        on_hello(peer, body);
        break;
    case LINK_WRITE:
        on_write(peer, body);
        break;
    case LINK_READ:
        rpc_read(peer, body);
        break;
    case LINK_SUB:
        on_sub(peer, body);
        break;
    case LINK_UNSUB:
        on_unsub(peer, body);
        break;
    case LINK_CREDIT:
        on_credit(peer, body);
        break;
    case LINK_TYPING:
        on_typing(peer, body);
        break;
    case LINK_WATCH:
        on_watch(peer, body);
        break;
    case LINK_CLUSTER_ASK:
        on_cluster(peer, body);
        break;
    default:
        link_close(link, ERR_CORRUPT);
    }
    arena_reset(&peer->arena);
}

static void on_close(struct link *link, int err)
{
    struct peer *peer = container_of(link, struct peer, link);
    if (err != ERR_CLOSED)
        log_warn("a gateway's link ended", {"err", log_str(err_name(err))});
    peer->closed = true;
    presence_peer_close(peer->env->presence, &peer->feed);
    feed_peer_close(peer->env->feed, &peer->feed);
    list_remove(&peer->in_env);
    peer->env->peer_count--;
    arena_close(&peer->arena);
    rpc_unref(peer);
}

static const struct link_ops ops = {.on_message = on_message, .on_close = on_close};

int rpc_adopt(struct rpc_env *env, struct line line)
{
    if (env->peer_count >= PEERS_MAX) {
        bound_hit(BOUND_PEERS);
        line_close(&line);
        return ERR_BUSY;
    }
    struct peer *peer = xcalloc(1, sizeof *peer);
    peer->env = env;
    peer->refs = 1;
    arena_init(&peer->arena);
    feed_peer_init(&peer->feed, &peer->link);
    peer->feed.ref = feed_ref;
    peer->feed.unref = feed_unref;
    list_push(&env->peers, &peer->in_env);
    env->peer_count++;
    int err = link_open(&peer->link, env->loop, line, &ops);
    if (err != 0)
        return err; /* on_close frees the peer */
    Loquat__Hello hello = LOQUAT__HELLO__INIT;
    hello.version = WIRE_VERSION;
    hello.node = (char *)(uintptr_t)env->name;
    hello.partitions = env->partitions;
    hello.cluster = (char *)(uintptr_t)env->cluster;
    char *room = link_send_begin(&peer->link, LINK_HELLO, loquat__hello__get_packed_size(&hello));
    loquat__hello__pack(&hello, (uint8_t *)room);
    return 0;
}

void rpc_free(struct rpc_env *env)
{
    rpc_page_free(env);
    buf_close(&env->packed);
    free(env->told);
    free(env->fed);
    free(env->waits);
}

struct rpc_sizes rpc_sizes(const struct rpc_env *env)
{
    struct rpc_sizes sizes = {0};
    for (struct list_link *link = list_first(&env->peers); link != NULL;
         link = list_next(&env->peers, link)) {
        const struct peer *peer = container_of(link, struct peer, in_env);
        size_t pending = link_pending(&peer->link);
        bool first = link == list_first(&env->peers);
        sizes.pending += pending;
        sizes.subs += peer->feed.subs.count;
        if (peer->reads > sizes.reads_largest)
            sizes.reads_largest = peer->reads;
        if (pending > sizes.pending_largest)
            sizes.pending_largest = pending;
        if (peer->greeted && (sizes.version == 0 || peer->version < sizes.version))
            sizes.version = peer->version;
        if (first || peer->feed.credit < sizes.credit_lowest)
            sizes.credit_lowest = peer->feed.credit;
    }
    return sizes;
}

void rpc_close_all(struct rpc_env *env)
{
    rpc_page_tick(env, true);
    for (struct list_link *link = list_first(&env->peers); link != NULL;
         link = list_next(&env->peers, link))
        link_close(&container_of(link, struct peer, in_env)->link, ERR_CLOSED);
}
