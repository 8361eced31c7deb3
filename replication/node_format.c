/* replication/node_format.c: when the directory of a node is raised to the newest format that its
 * program knows. What is written then may be what an older program would misread, in its own files
 * and in what other nodes are sent of them. So it waits until every node that holds a partition
 * speaks a version that reads it, and has done so for FORMAT_SETTLED_MS: until then any of them can
 * go back to the program that it had. From then on no node that speaks less is let in. A node that
 * is alone has nobody to wait for but itself: it is raised once it serves. */
#include "replication/node_inside.h"
#include "store/base/check.h"
#include "store/base/log.h"
#include "store/command.h"

enum { FORMAT_SETTLED_MS = 10000 };

unsigned node_entry_version(const struct node *node)
{
    if (node->dir.format < DATADIR_FORMAT_CHAT)
        return ENTRY_VERSION_OLDEST;
    if (node->dir.format < DATADIR_FORMAT_SOCIAL)
        return ENTRY_VERSION_CHAT;
    if (node->dir.format < DATADIR_FORMAT_JOBS)
        return ENTRY_VERSION_SOCIAL;
    return node->dir.format < DATADIR_FORMAT_FIND ? ENTRY_VERSION_JOBS : ENTRY_VERSION_FIND;
}

static bool reads_newest(const struct node *node, uint64_t id)
{
    return rnet_version(node->net, id) >= DATADIR_NEWEST_WIRE &&
           rnet_reached_ms(node->net, id) >= FORMAT_SETTLED_MS;
}

/* This node is one of them: a newcomer that was told nothing yet knows nobody. */
static bool holders_read_newest(const struct node *node, const struct shard *shard)
{
    struct rcore_server servers[ROSTER_NODES_MAX];
    size_t count = rcore_servers(shard->core, servers, ROSTER_NODES_MAX);
    bool self = false;
    for (size_t i = 0; i < count && i < ROSTER_NODES_MAX; i++) {
        self = self || servers[i].id == node->id;
        if (servers[i].id != node->id && !reads_newest(node, servers[i].id))
            return false;
    }
    return self;
}

static bool all_read_newest(const struct node *node)
{
    if (node->net == NULL)
        return true;
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        if (!holders_read_newest(node, &node->shards[p]))
            return false;
    return rnet_version_lowest(node->net) >= DATADIR_NEWEST_WIRE; /* who is about to hold some */
}

static void on_raise_work(uv_work_t *work)
{
    struct node *node = container_of(work, struct node, raise.work);
    node->raise.err = datadir_raise(&node->dir, DATADIR_FORMAT_NEWEST, node->path, node->raise.why,
                                    sizeof node->raise.why);
}

static void on_raise_done(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct node *node = container_of(work, struct node, raise.work);
    node->raise.running = false;
    if (node->raise.err != 0) { /* tried again */
        if (node->raise.err != node->raise.said)
            log_error("the directory could not be raised to a newer format",
                      {"why", log_str(node->raise.why)});
        node->raise.said = node->raise.err;
        return;
    }
    log_info("the directory was raised to a newer format: older programs refuse it from now on",
             {"dir", log_str(node->path)}, {"format", log_int(DATADIR_FORMAT_NEWEST)},
             {"before", log_int(node->dir.format)});
    node->dir.format = DATADIR_FORMAT_NEWEST;
    node->shard_env.entry_version = node_entry_version(node);
}

void node_format_begin(struct node *node)
{
    if (node->net == NULL)
        return;
    if (datadir_newest(&node->dir))
        rnet_require(node->net, DATADIR_NEWEST_WIRE);
    else
        log_info("the directory keeps its format until every node of the cluster has been brought "
                 "up to date",
                 {"format", log_int(node->dir.format)}, {"newest", log_int(DATADIR_FORMAT_NEWEST)},
                 {"version", log_int(DATADIR_NEWEST_WIRE)});
}

void node_format_tick(struct node *node)
{
    if (datadir_newest(&node->dir) || node->raise.running || node->phase != NODE_SERVING ||
        !all_read_newest(node))
        return;
    if (node->net != NULL)
        rnet_require(node->net, DATADIR_NEWEST_WIRE); /* before it is so: what was said holds */
    node->raise.running = true;
    int rv = uv_queue_work(&node->loop, &node->raise.work, on_raise_work, on_raise_done);
    ASSERT(rv == 0);
}
