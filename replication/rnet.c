#include "replication/rnet.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/dial.h"
#include "store/base/err.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/wire.h"

enum {
    REFUSED_AGAIN_MS = 10000,
    REASON_MAX = 256,
};

/* A node on the roster, other than this one. */
struct other {
    struct rnet *net;
    uint64_t id;
    bool calls; /* this node does, not that one */
    struct dial_target target;
    struct dial dial;
    struct channel *up; /* NULL: not reached */
    uint64_t since_ms;
    uint32_t version; /* that is spoken with it */
    unsigned flags;   /* as it told last */
};

/* A connection. */
struct channel {
    struct link link;
    struct list_link in_net;
    struct rnet *net;
    struct other *other; /* NULL: it did not say yet who it is */
    uint64_t heard_ms;
};

struct rnet {
    struct rnet_env env;
    struct tls *tls; /* NULL: plain */
    uv_timer_t timer;
    bool started, closing, timer_closed;
    uint32_t version_min;
    unsigned flags;      /* enum rnet_flag, of this node */
    uint64_t refused_ms; /* when somebody was refused last, and the log told */
    struct list channels;
    size_t count;
    struct other others[ROSTER_NODES_MAX];
};

static struct other *find(const struct rnet *net, uint64_t id)
{
    for (size_t i = 0; i < net->count; i++)
        if (net->others[i].id == id)
            return (struct other *)&net->others[i];
    return NULL;
}

/* ---- who is let in ---- */

static void say_hello(struct channel *channel, const char *refused)
{
    const struct rnet_env *env = &channel->net->env;
    Loquat__NodeHello hello = LOQUAT__NODE_HELLO__INIT;
    hello.version = WIRE_VERSION;
    hello.cluster = (char *)(uintptr_t)env->cluster;
    hello.partitions = env->partitions;
    hello.id = env->id;
    hello.incarnation = (char *)(uintptr_t)env->incarnation;
    hello.refused = (char *)(uintptr_t)refused;
    hello.to = channel->other != NULL ? channel->other->id : 0;
    char *room = link_send_begin(&channel->link, LINK_NODE_HELLO,
                                 loquat__node_hello__get_packed_size(&hello));
    if (room != NULL)
        loquat__node_hello__pack(&hello, (uint8_t *)room);
}

/* Said now and then: whoever is refused comes again and again. */
static bool may_say(struct rnet *net)
{
    uint64_t now = uv_now(net->env.loop);
    if (net->refused_ms != 0 && now - net->refused_ms < REFUSED_AGAIN_MS)
        return false;
    net->refused_ms = now;
    return true;
}

static bool check_hello(const struct channel *channel, const Loquat__NodeHello *hello, char *why)
{
    const struct rnet_env *env = &channel->net->env;
    if (hello->version < channel->net->version_min)
        return err_refuse(why, REASON_MAX,
                          "node %llu speaks version %u of the protocol; %u is "
                          "needed: bring it up to date",
                          (unsigned long long)hello->id, hello->version, channel->net->version_min);
    if (strcmp(hello->cluster, env->cluster) != 0)
        return err_refuse(why, REASON_MAX,
                          "node %llu belongs to cluster %.40s, this is %s: were "
                          "they set up with the same --cluster and --partitions?",
                          (unsigned long long)hello->id, hello->cluster, env->cluster);
    if (hello->partitions != env->partitions)
        return err_refuse(why, REASON_MAX, "node %llu has %u partitions, here there are %u",
                          (unsigned long long)hello->id, hello->partitions, env->partitions);
    if (hello->id == env->id || find(channel->net, hello->id) == NULL)
        return err_refuse(
            why, REASON_MAX,
            hello->id == env->id
                ? "node %llu is this one; give each another --id"
                : "node %llu is none of this cluster; loquat-node cluster add it first",
            (unsigned long long)hello->id);
    if (hello->to != 0 && hello->to != env->id) /* its link to this one is another */
        return err_refuse(why, REASON_MAX,
                          "node %llu looks for node %llu here, and this is node %llu: take the "
                          "one that is gone out of its --cluster",
                          (unsigned long long)hello->id, (unsigned long long)hello->to,
                          (unsigned long long)env->id);
    if (channel->other != NULL && channel->other->id != hello->id)
        return err_refuse(why, REASON_MAX,
                          "node %llu answers where node %llu should: look at "
                          "--cluster",
                          (unsigned long long)hello->id, (unsigned long long)channel->other->id);
    if (strlen(hello->incarnation) != ROSTER_ID_SIZE)
        return err_refuse(why, REASON_MAX, "node %llu did not say which directory it has",
                          (unsigned long long)hello->id);
    int err = roster_meet(env->dir, hello->id, span_str(hello->incarnation));
    if (err == ERR_CONFLICT)
        return err_refuse(why, REASON_MAX,
                          "node %llu was here before with another directory and "
                          "may not come back under its number: what it promised is lost; bring the "
                          "old directory back",
                          (unsigned long long)hello->id);
    if (err != 0)
        return err_refuse(why, REASON_MAX, "the roster of this node can't be read or written: %s",
                          err_name(err));
    return true;
}

static void set_up(struct channel *channel, struct other *other, uint32_t version)
{
    struct channel *before = other->up;
    if (before == channel)
        return;
    channel->other = other;
    other->up = channel;
    other->version = wire_spoken_with(version);
    other->flags = 0;
    other->since_ms = uv_now(channel->net->env.loop);
    if (before != NULL)
        link_close(&before->link, ERR_CLOSED); /* that node has begun anew */
    if (other->calls)
        dial_worked(&other->dial);
    log_info("a node is reached", {"node", log_int((int64_t)other->id)},
             {"at", log_str(other->target.name)}, {"version", log_int(version)});
    channel->net->env.on_link(channel->net->env.arg, other->id, true);
}

static void on_hello(struct channel *channel, struct span body)
{
    struct rnet *net = channel->net;
    char why[REASON_MAX] = "";
    Loquat__NodeHello *hello = loquat__node_hello__unpack(NULL, body.n, (const uint8_t *)body.p);
    if (hello == NULL) {
        link_close(&channel->link, ERR_CORRUPT);
        return;
    }
    if (hello->refused[0] != '\0') {
        if (may_say(net))
            log_error("another node refuses this one", {"node", log_int((int64_t)hello->id)},
                      {"why", log_str(hello->refused)});
        link_close(&channel->link, ERR_CLOSED);
    } else if (!check_hello(channel, hello, why)) {
        if (may_say(net))
            log_error("a node is refused", {"why", log_str(why)});
        say_hello(channel, why);
        link_flush(&channel->link);
        link_close(&channel->link, ERR_CLOSED);
    } else {
        set_up(channel, find(net, hello->id), hello->version);
    }
    loquat__node_hello__free_unpacked(hello, NULL);
}

/* ---- channels ---- */

static void on_message(struct link *link, int type, struct span body)
{
    struct channel *channel = container_of(link, struct channel, link);
    struct rnet *net = channel->net;
    bool up = channel->other != NULL && channel->other->up == channel;
    channel->heard_ms = uv_now(net->env.loop);
    if (type == LINK_NODE_HELLO)
        on_hello(channel, body);
    else if (up && type == LINK_ALIVE)
        channel->other->flags = body.n > 0 ? (unsigned char)body.p[0] : 0;
    else if (up)
        net->env.on_message(net->env.arg, channel->other->id, type, body);
    else if (!up && channel->other == NULL)
        link_close(link, ERR_CORRUPT); /* it did not say who it is */
}

static void on_channel_closed(struct link *link, int err)
{
    struct channel *channel = container_of(link, struct channel, link);
    struct rnet *net = channel->net;
    struct other *other = channel->other;
    bool was_up = other != NULL && other->up == channel;
    list_remove(&channel->in_net);
    free(channel);
    if (was_up) {
        other->up = NULL;
        log_warn("a node is not reached any more", {"node", log_int((int64_t)other->id)},
                 {"err", log_str(err_name(err))});
        net->env.on_link(net->env.arg, other->id, false);
    }
    if (other != NULL && other->calls && other->up == NULL && !net->closing)
        dial_start(&other->dial);
}

static const struct link_ops OPS = {.on_message = on_message, .on_close = on_channel_closed};

static void open_channel(struct rnet *net, struct other *other, struct line line)
{
    struct channel *channel = xcalloc(1, sizeof *channel);
    channel->net = net;
    channel->other = other;
    channel->heard_ms = uv_now(net->env.loop);
    list_push(&net->channels, &channel->in_net);
    if (link_open(&channel->link, net->env.loop, line, &OPS) == 0)
        say_hello(channel, "");
}

static void on_called(void *arg, struct line line)
{
    struct other *other = arg;
    open_channel(other->net, other, line);
}

void rnet_adopt(struct rnet *net, struct line line)
{
    if (net->closing)
        line_close(&line);
    else
        open_channel(net, NULL, line);
}

static void on_timer(uv_timer_t *timer)
{
    struct rnet *net = container_of(timer, struct rnet, timer);
    uint64_t now = uv_now(net->env.loop);
    char flags = (char)net->flags;
    for (struct list_link *link = list_first(&net->channels), *next; link != NULL; link = next) {
        struct channel *channel = container_of(link, struct channel, in_net);
        next = list_next(&net->channels, link);
        if (now - channel->heard_ms > RNET_SILENT_MS)
            link_close(&channel->link, ERR_AGAIN);
        else if (link_pending(&channel->link) < RNET_PENDING_MAX)
            link_send(&channel->link, LINK_ALIVE, span_of(&flags, 1));
    }
}

/* ---- what goes ---- */

bool rnet_reaches(const struct rnet *net, uint64_t node)
{
    const struct other *other = find(net, node);
    return other != NULL && other->up != NULL && link_pending(&other->up->link) < RNET_PENDING_MAX;
}

uint64_t rnet_reached_ms(const struct rnet *net, uint64_t node)
{
    const struct other *other = find(net, node);
    return other != NULL && other->up != NULL ? uv_now(net->env.loop) - other->since_ms : 0;
}

void rnet_tell(struct rnet *net, unsigned flags)
{
    net->flags = flags;
}

unsigned rnet_told(const struct rnet *net, uint64_t node)
{
    const struct other *other = find(net, node);
    return other != NULL ? other->flags : 0;
}

uint32_t rnet_version(const struct rnet *net, uint64_t node)
{
    const struct other *other = find(net, node);
    return other != NULL && other->up != NULL ? other->version : 0;
}

uint32_t rnet_version_lowest(const struct rnet *net)
{
    uint32_t lowest = WIRE_VERSION;
    for (size_t i = 0; i < net->count; i++)
        if (net->others[i].up != NULL && net->others[i].version < lowest)
            lowest = net->others[i].version;
    return lowest;
}

void rnet_require(struct rnet *net, uint32_t version)
{
    net->version_min = version;
}

void rnet_send(struct rnet *net, uint64_t to, int type, struct span body)
{
    struct other *other = find(net, to);
    if (other == NULL || other->up == NULL)
        return;
    if (link_pending(&other->up->link) + body.n > RNET_PENDING_MAX) {
        bound_hit(BOUND_RNET_PENDING);
        return;
    }
    link_send(&other->up->link, type, body);
}

size_t rnet_others(const struct rnet *net)
{
    return net->count;
}

uint64_t rnet_other(const struct rnet *net, size_t number)
{
    return net->others[number].id;
}

size_t rnet_links(const struct rnet *net, size_t *pending)
{
    size_t count = 0;
    *pending = 0;
    for (size_t i = 0; i < net->count; i++) {
        if (net->others[i].up == NULL)
            continue;
        count++;
        *pending += link_pending(&net->others[i].up->link);
    }
    return count;
}

/* ---- begin and end ---- */

static void on_dial_stopped(void *arg)
{
    (void)arg;
}

struct rnet *rnet_new(const struct rnet_env *env)
{
    struct rnet *net = xcalloc(1, sizeof *net);
    net->env = *env;
    net->version_min = WIRE_VERSION_NODES;
    list_init(&net->channels);
    for (size_t i = 0; i < env->roster->count; i++)
        rnet_know(net, env->roster->nodes[i].id, env->roster->nodes[i].name);
    uv_timer_init(env->loop, &net->timer);
    return net;
}

void rnet_know(struct rnet *net, uint64_t id, const char *name)
{
    const struct rnet_env *env = &net->env;
    struct address address;
    if (id == env->id || find(net, id) != NULL || net->count == ROSTER_NODES_MAX || net->closing ||
        !address_parse(name, &address))
        return;
    struct other *other = &net->others[net->count++];
    other->net = net;
    other->id = id;
    other->calls = env->id < id;
    other->target = (struct dial_target){
        .address = address, .role = HANDSHAKE_NODE, .secret = env->secret, .tls = net->tls};
    snprintf(other->target.name, sizeof other->target.name, "%s", name);
    dial_init(&other->dial, env->loop, &other->target, on_called, on_dial_stopped, other);
    if (net->started && other->calls)
        dial_start(&other->dial);
}

void rnet_secure(struct rnet *net, struct tls *tls)
{
    ASSERT(!net->started);
    net->tls = tls;
    for (size_t i = 0; i < net->count; i++)
        net->others[i].target.tls = tls;
}

void rnet_start(struct rnet *net)
{
    net->started = true;
    uv_timer_start(&net->timer, on_timer, RNET_ALIVE_MS, RNET_ALIVE_MS);
    for (size_t i = 0; i < net->count; i++)
        if (net->others[i].calls)
            dial_start(&net->others[i].dial);
}

static void on_timer_closed(uv_handle_t *handle)
{
    container_of((uv_timer_t *)handle, struct rnet, timer)->timer_closed = true;
}

void rnet_close(struct rnet *net)
{
    if (net->closing)
        return;
    net->closing = true;
    uv_close((uv_handle_t *)&net->timer, on_timer_closed);
    for (size_t i = 0; i < net->count; i++)
        dial_stop(&net->others[i].dial);
    for (struct list_link *link = list_first(&net->channels), *next; link != NULL; link = next) {
        next = list_next(&net->channels, link);
        link_close(&container_of(link, struct channel, in_net)->link, ERR_CLOSED);
    }
}

bool rnet_idle(const struct rnet *net)
{
    bool idle = net->timer_closed && list_empty(&net->channels);
    for (size_t i = 0; i < net->count; i++)
        idle = idle && dial_stopped(&net->others[i].dial);
    return idle;
}

void rnet_free(struct rnet *net)
{
    ASSERT(rnet_idle(net));
    free(net);
}
