#include "gateway/cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "store/base/log.h"
#include "store/base/wire.h"

/* A request, until it is answered. */
struct ask {
    struct list_link link; /* in its route */
    struct cluster *cluster;
    struct flight *flight; /* NULL: it waits */
    uint64_t number, until_ms;
    enum upstream_kind kind;
    uint32_t partition, page;
    upstream_done done;
    void *owner;
    struct buf bytes;
    bool anywhere; /* any replica may answer; it is asked, or none was yet */
    uint64_t replica_until_ms;
};

/* One that was sent to a node: of what came back of it too late nobody wants to know. */
struct flight {
    struct ask *ask; /* NULL: it was sent elsewhere meanwhile */
    struct cluster_node *node;
};

/* ---- requests, where there are several nodes ---- */

static void finish(struct ask *ask, const Loquat__Reply *reply)
{
    struct cluster *cluster = ask->cluster;
    upstream_done done = ask->done;
    void *owner = ask->owner;
    if (ask->flight != NULL)
        ask->flight->ask = NULL;
    if (ask->link.next != NULL)
        list_remove(&ask->link);
    cluster->asks--;
    cluster->ask_bytes -= ask->bytes.n;
    buf_close(&ask->bytes);
    free(ask);
    done(owner, reply);
}

static void give_up(struct ask *ask)
{
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    reply.err = ERR_CLOSED;
    reply.msg = (char *)(uintptr_t) "the store is not reached just now";
    finish(ask, &reply);
}

/* It has no replica of it, or not as much of it, or is away: others are asked for a while. */
static void refuse(struct cluster_route *route, const struct cluster_node *node)
{
    route->refused |= UINT64_C(1) << (node - node->cluster->nodes);
    route->refused_until_ms = uv_now(node->cluster->loop) + CLUSTER_REFUSED_MS;
}

/* Those that came before it stay before it. */
static void wait_again(struct ask *ask)
{
    struct list *waiting = &ask->cluster->routes[ask->partition].waiting;
    struct list_link *after = waiting->head.prev;
    while (after != &waiting->head && container_of(after, struct ask, link)->number > ask->number)
        after = after->prev;
    if (ask->flight != NULL)
        ask->flight->ask = NULL;
    ask->flight = NULL;
    if (ask->link.next != NULL)
        list_remove(&ask->link);
    list_put_after(after, &ask->link);
}

/* To who leads it, then. */
static void leave_replica(struct ask *ask, const struct cluster_node *node)
{
    refuse(&ask->cluster->routes[ask->partition], node);
    ask->anywhere = false;
    wait_again(ask);
}

static void send_waiting(struct cluster_route *route);

static void on_answer(void *owner, const Loquat__Reply *reply)
{
    struct flight *flight = owner;
    struct ask *ask = flight->ask;
    const struct cluster_node *node = flight->node;
    free(flight);
    if (ask == NULL)
        return;
    ask->flight = NULL;
    bool again = reply->err == ERR_NOT_LEADER || reply->err == ERR_CLOSED;
    if (!again || ask->cluster->closing) {
        finish(ask, reply);
        return;
    }
    struct cluster_route *route = &ask->cluster->routes[ask->partition];
    if (!ask->anywhere) {
        wait_again(ask);
        return;
    }
    leave_replica(ask, node);
    send_waiting(route);
}

/* The nodes take turns. NULL: only who leads it is known to answer. */
static struct cluster_node *any_replica(struct cluster *cluster, struct cluster_route *route)
{
    if (uv_now(cluster->loop) > route->refused_until_ms)
        route->refused = 0;
    for (size_t i = 0; i < cluster->count; i++) {
        size_t at = cluster->turn++ % cluster->count;
        if (cluster->nodes[at].up.ready && !(route->refused >> at & 1))
            return &cluster->nodes[at];
    }
    return NULL;
}

/* 0, or why not; the ask is where it was then. */
static int send_ask(struct ask *ask)
{
    struct cluster_route *route = &ask->cluster->routes[ask->partition];
    struct cluster_node *node = ask->anywhere ? any_replica(ask->cluster, route) : NULL;
    ask->anywhere = node != NULL;
    node = node != NULL ? node : route->node;
    if (node == NULL)
        return ERR_NOT_LEADER;
    struct flight *flight = xcalloc(1, sizeof *flight);
    *flight = (struct flight){ask, node};
    ask->replica_until_ms = uv_now(ask->cluster->loop) + CLUSTER_REPLICA_MS;
    struct upstream *up = &node->up;
    int err =
        ask->kind == UPSTREAM_WRITE
            ? upstream_write_packed(up, ask->partition, buf_span(&ask->bytes), on_answer, flight)
            : upstream_read_packed(up, ask->kind, ask->page, buf_span(&ask->bytes), on_answer,
                                   flight);
    if (err != 0) {
        free(flight);
        return err;
    }
    ask->flight = flight;
    if (ask->link.next != NULL)
        list_remove(&ask->link);
    list_push(&route->flying, &ask->link);
    return 0;
}

static void send_waiting(struct cluster_route *route)
{
    struct list_link *link;
    while ((link = list_first(&route->waiting)) != NULL)
        if (send_ask(container_of(link, struct ask, link)) != 0)
            return;
}

/* Takes it over, with what it was made of. */
static int begin_ask(struct cluster *cluster, struct ask *ask)
{
    struct cluster_route *route = &cluster->routes[ask->partition];
    cluster->asks++;
    cluster->ask_bytes += ask->bytes.n;
    int err = list_empty(&route->waiting) || ask->anywhere ? send_ask(ask) : ERR_NOT_LEADER;
    if (err == ERR_BUSY) {
        cluster->asks--;
        cluster->ask_bytes -= ask->bytes.n;
        buf_close(&ask->bytes);
        free(ask);
        return err;
    }
    if (err != 0)
        list_push(&route->waiting, &ask->link);
    return 0;
}

static struct ask *new_ask(struct cluster *cluster, enum upstream_kind kind, uint32_t partition,
                           upstream_done done, void *owner)
{
    if (cluster->asks >= CLUSTER_ASKS_MAX || cluster->ask_bytes > CLUSTER_BYTES_MAX) {
        bound_hit(BOUND_CLUSTER_ASKS);
        return NULL;
    }
    struct ask *ask = xcalloc(1, sizeof *ask);
    *ask = (struct ask){.cluster = cluster,
                        .number = ++cluster->asked,
                        .until_ms = uv_now(cluster->loop) + CLUSTER_WAIT_MS,
                        .kind = kind,
                        .partition = partition,
                        .done = done,
                        .owner = owner};
    return ask;
}

int cluster_write(struct cluster *cluster, uint32_t partition, const Loquat__Command *command,
                  upstream_done done, void *owner)
{
    if (cluster->count == 1)
        return upstream_write(&cluster->nodes[0].up, partition, command, done, owner);
    if (cluster->partitions == 0 || cluster->closing)
        return ERR_CLOSED;
    struct ask *ask = new_ask(cluster, UPSTREAM_WRITE, partition, done, owner);
    if (ask == NULL)
        return ERR_BUSY;
    command_pack(command, &ask->bytes);
    return begin_ask(cluster, ask);
}

int cluster_read(struct cluster *cluster, Loquat__Read *read, upstream_done done, void *owner)
{
    if (cluster->count == 1)
        return upstream_read(&cluster->nodes[0].up, read, done, owner);
    if (cluster->partitions == 0 || cluster->closing)
        return ERR_CLOSED;
    struct ask *ask = new_ask(cluster, upstream_kind_of(read), read->partition, done, owner);
    if (ask == NULL)
        return ERR_BUSY;
    ask->page = upstream_page_of(read);
    ask->until_ms += read->wait_ms;
    ask->anywhere = read->seen != 0;
    read->id = 0;
    size_t size = loquat__read__get_packed_size(read);
    loquat__read__pack(read, (uint8_t *)buf_grow(&ask->bytes, size));
    return begin_ask(cluster, ask);
}

uint64_t cluster_calls(const struct cluster *cluster)
{
    uint64_t calls = cluster->asks;
    for (size_t i = 0; i < cluster->count && cluster->count == 1; i++)
        calls += cluster->nodes[i].up.calls;
    return calls;
}

static void give_up_old(struct list *list, uint64_t now_ms)
{
    for (struct list_link *link = list_first(list), *next; link != NULL; link = next) {
        struct ask *ask = container_of(link, struct ask, link);
        next = list_next(list, link);
        if (ask->until_ms <= now_ms)
            give_up(ask);
    }
}

static void leave_slow_replicas(struct cluster_route *route, uint64_t now_ms)
{
    for (struct list_link *link = list_first(&route->flying), *next; link != NULL; link = next) {
        struct ask *ask = container_of(link, struct ask, link);
        next = list_next(&route->flying, link);
        if (ask->anywhere && now_ms >= ask->replica_until_ms)
            leave_replica(ask, ask->flight->node);
    }
}

void cluster_tick(struct cluster *cluster)
{
    uint64_t now = uv_now(cluster->loop);
    for (uint32_t p = 0; p < cluster->partitions && cluster->asks > 0; p++) {
        struct cluster_route *route = &cluster->routes[p];
        leave_slow_replicas(route, now);
        send_waiting(route);
        give_up_old(&route->waiting, now);
        give_up_old(&route->flying, now); /* the node hangs, and nobody has taken its place */
    }
}

/* ---- who serves what ---- */

/* Who was asked before answers too late, if at all. */
static void route_to(struct cluster_route *route, struct cluster_node *node, uint64_t term)
{
    struct list_link *link;
    bool same = route->node == node;
    route->node = node;
    route->term = term;
    while (!same && (link = list_first(&route->flying)) != NULL)
        wait_again(container_of(link, struct ask, link));
}

/* Routes to a node that serves them no more, of those that `leads` does not name. */
static void unroute(struct cluster *cluster, const struct cluster_node *node,
                    const Loquat__Leads *leads)
{
    bool *named = cluster->changed;
    if (cluster->partitions == 0)
        return;
    memset(named, 0, cluster->partitions * sizeof *named);
    for (size_t i = 0; leads != NULL && i < leads->n_partitions; i++)
        if (leads->partitions[i] < cluster->partitions)
            named[leads->partitions[i]] = true;
    for (uint32_t p = 0; p < cluster->partitions; p++)
        if (cluster->routes[p].node == node && !named[p])
            cluster->routes[p].node = NULL;
}

static void add_node(struct cluster *cluster, const struct dial_target *target);

/* A node that was named by another one. */
static void know(struct cluster *cluster, const char *name)
{
    struct dial_target target = cluster->nodes[0].target; /* role, secret, TLS are the same */
    if (cluster_inside(cluster) || cluster->closing || cluster->count == CLUSTER_NODES_MAX ||
        strlen(name) >= sizeof target.name || !address_parse(name, &target.address))
        return;
    for (size_t i = 0; i < cluster->count; i++)
        if (strcmp(cluster->nodes[i].target.name, name) == 0)
            return;
    snprintf(target.name, sizeof target.name, "%s", name);
    add_node(cluster, &target);
}

static void on_leads(void *arg, const Loquat__Leads *leads)
{
    struct cluster_node *node = arg;
    struct cluster *cluster = node->cluster;
    bool any = false;
    for (size_t i = 0; i < leads->n_nodes; i++)
        know(cluster, leads->nodes[i]);
    unroute(cluster, node, leads);
    bool *changed = cluster->changed;
    memset(changed, 0, cluster->partitions * sizeof *changed);
    for (size_t i = 0; i < leads->n_partitions && i < leads->n_terms; i++) {
        uint32_t p = leads->partitions[i];
        if (p >= cluster->partitions)
            continue;
        struct cluster_route *route = &cluster->routes[p];
        uint64_t term = leads->terms[i];
        if (route->node == node ? term == route->term : route->node != NULL && term < route->term)
            continue;
        route_to(route, node, term);
        changed[p] = any = true;
    }
    if (!any)
        return;
    cluster->ops->on_routed(cluster->arg, changed);
    for (uint32_t p = 0; p < cluster->partitions; p++)
        send_waiting(&cluster->routes[p]);
}

void cluster_sub(struct cluster *cluster, const Loquat__Sub *sub)
{
    struct cluster_node *node = cluster->routes[sub->partition].node;
    if (node != NULL && node->up.ready)
        upstream_sub(&node->up, sub);
}

void cluster_unsub(struct cluster *cluster, const Loquat__Unsub *unsub)
{
    struct cluster_node *node = cluster->routes[unsub->partition].node;
    if (node != NULL && node->up.ready)
        upstream_unsub(&node->up, unsub);
}

void cluster_typing(struct cluster *cluster, const Loquat__Typing *typing)
{
    struct cluster_node *node = cluster->routes[typing->partition].node;
    if (node != NULL && node->up.ready)
        upstream_typing(&node->up, typing);
}

void cluster_watch(struct cluster *cluster, const Loquat__Watch *watch)
{
    struct cluster_node *node = cluster->routes[watch->partition].node;
    if (node != NULL && node->up.ready)
        upstream_watch(&node->up, watch);
}

static void on_tail(void *arg, const Loquat__Tail *tail)
{
    struct cluster_node *node = arg;
    struct cluster *cluster = node->cluster;
    if (tail->partition < cluster->partitions && cluster->routes[tail->partition].node == node &&
        tail->err != ERR_NOT_LEADER)
        cluster->ops->on_tail(cluster->arg, tail);
}

static void on_presence(void *arg, const Loquat__Presence *presence)
{
    struct cluster_node *node = arg;
    struct cluster *cluster = node->cluster;
    if (presence->partition < cluster->partitions &&
        cluster->routes[presence->partition].node == node)
        cluster->ops->on_presence(cluster->arg, presence);
}

static void on_typing(void *arg, const Loquat__Typing *typing)
{
    struct cluster *cluster = ((struct cluster_node *)arg)->cluster;
    cluster->ops->on_typing(cluster->arg, typing);
}

static void on_mark(void *arg, const Loquat__MarkEvent *mark)
{
    struct cluster *cluster = ((struct cluster_node *)arg)->cluster;
    cluster->ops->on_mark(cluster->arg, mark);
}

/* ---- links ---- */

static void learn(struct cluster *cluster, const struct upstream *up)
{
    cluster->partitions = up->partitions;
    snprintf(cluster->name, sizeof cluster->name, "%s", up->node);
    cluster->routes = xcalloc(up->partitions, sizeof *cluster->routes);
    cluster->changed = xcalloc(up->partitions, sizeof *cluster->changed);
    for (uint32_t p = 0; p < up->partitions; p++) {
        list_init(&cluster->routes[p].waiting);
        list_init(&cluster->routes[p].flying);
    }
}

/* One of before there were several says nothing: it serves all. */
static void lead_all(struct cluster_node *node)
{
    uint32_t partitions[PARTITIONS_MAX];
    uint64_t terms[PARTITIONS_MAX] = {0};
    Loquat__Leads leads = LOQUAT__LEADS__INIT;
    leads.partitions = partitions;
    leads.terms = terms;
    leads.n_partitions = leads.n_terms = node->cluster->partitions;
    for (uint32_t p = 0; p < node->cluster->partitions; p++)
        partitions[p] = p;
    on_leads(node, &leads);
}

static void on_ready(void *arg)
{
    struct cluster_node *node = arg;
    struct cluster *cluster = node->cluster;
    const struct upstream *up = &node->up;
    if (cluster->partitions == 0)
        learn(cluster, up);
    if (up->partitions != cluster->partitions || strcmp(up->node, cluster->name) != 0) {
        log_error("another store answers than before, with other logs: it is not used; start this "
                  "gateway again if that is meant",
                  {"store", log_str(up->node)}, {"before", log_str(cluster->name)});
        upstream_close(&node->up);
        return;
    }
    if (node->dial.target != NULL) {
        dial_worked(&node->dial);
        log_info("a node is reached", {"node", log_str(node->dial.target->name)},
                 {"version", log_int(up->version)});
    }
    cluster->ops->on_change(cluster->arg);
    if (up->version < WIRE_VERSION_LEADS)
        lead_all(node);
}

static void on_closed(void *arg)
{
    struct cluster_node *node = arg;
    struct cluster *cluster = node->cluster;
    unroute(cluster, node, NULL);
    if (node->dial.target != NULL) {
        if (!cluster->closing)
            log_warn("a node is not reached", {"node", log_str(node->dial.target->name)});
        dial_start(&node->dial);
    }
    cluster->ops->on_change(cluster->arg);
}

static const struct upstream_ops UPSTREAM_OPS = {.on_tail = on_tail,
                                                 .on_mark = on_mark,
                                                 .on_typing = on_typing,
                                                 .on_presence = on_presence,
                                                 .on_leads = on_leads,
                                                 .on_ready = on_ready,
                                                 .on_closed = on_closed};

static void on_link(void *arg, struct line line)
{
    struct cluster_node *node = arg;
    if (upstream_open(&node->up, node->cluster->loop, line) != 0)
        log_error("a link to the node could not be opened"); /* on_closed comes */
}

static void on_dial_stopped(void *arg)
{
    struct cluster *cluster = ((struct cluster_node *)arg)->cluster;
    cluster->ops->on_change(cluster->arg);
}

bool cluster_ready(const struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].up.ready)
            return true;
    return false;
}

bool cluster_inside(const struct cluster *cluster)
{
    return cluster->nodes[0].dial.target == NULL;
}

void cluster_flush(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].up.open)
            link_flush(&cluster->nodes[i].up.link);
}

/* ---- begin and end ---- */

static void add_node(struct cluster *cluster, const struct dial_target *target)
{
    struct cluster_node *node = &cluster->nodes[cluster->count++];
    node->cluster = cluster;
    upstream_init(&node->up, &UPSTREAM_OPS, node);
    if (target == NULL)
        return;
    node->target = *target;
    dial_init(&node->dial, cluster->loop, &node->target, on_link, on_dial_stopped, node);
    dial_start(&node->dial);
}

void cluster_init(struct cluster *cluster, uv_loop_t *loop, const struct dial_target *targets,
                  size_t count, const struct cluster_ops *ops, void *arg)
{
    *cluster = (struct cluster){.ops = ops, .arg = arg, .loop = loop};
    cluster->nodes = xcalloc(count > 0 ? CLUSTER_NODES_MAX : 1, sizeof *cluster->nodes);
    for (size_t i = 0; i < count; i++)
        add_node(cluster, &targets[i]);
    if (count == 0)
        add_node(cluster, NULL);
}

int cluster_open(struct cluster *cluster, int fd)
{
    return upstream_open(&cluster->nodes[0].up, cluster->loop, (struct line){.fd = fd});
}

void cluster_close(struct cluster *cluster)
{
    cluster->closing = true;
    for (uint32_t p = 0; p < cluster->partitions; p++)
        give_up_old(&cluster->routes[p].waiting, UINT64_MAX);
    for (size_t i = 0; i < cluster->count; i++) {
        upstream_close(&cluster->nodes[i].up);
        if (cluster->nodes[i].dial.target != NULL)
            dial_stop(&cluster->nodes[i].dial);
    }
}

bool cluster_closed(const struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].up.open || !dial_stopped(&cluster->nodes[i].dial))
            return false;
    return true;
}

void cluster_free(struct cluster *cluster)
{
    ASSERT(cluster->asks == 0);
    for (size_t i = 0; i < cluster->count; i++)
        upstream_free(&cluster->nodes[i].up);
    free(cluster->nodes);
    free(cluster->routes);
    free(cluster->changed);
}
