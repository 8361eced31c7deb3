/* replication/node_start.c: how a node begins: its directory, its databases, its shards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "replication/node_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/thread.h"

/* ---- start ---- */

/* Of the raft logs of all partitions, for nodes that are away for a while: who is away for longer
 * gets the whole of each partition. */
enum { TRAILING_BYTES = 128 << 20 };

static int open_both(struct node *node, const struct kv_options *options, const char **path)
{
    *path = node->dir.raft;
    int err = kv_open(*path, KV_RAFT, options, &node->raft);
    if (err == 0) {
        *path = node->dir.data;
        err = kv_open(*path, KV_DATA, options, &node->data);
    }
    return err;
}

/* Looked at first, so that a directory of which one half is damaged stays as it was found. */
static int look_at_both(struct node *node, const char **path)
{
    struct kv_options options = {.read_only = true};
    int err = open_both(node, &options, path);
    kv_close(node->data);
    kv_close(node->raft);
    node->data = node->raft = NULL;
    return err;
}

static int open_databases(struct node *node, const struct node_config *config, char *why,
                          size_t size)
{
    struct kv_options options = {.create = node->dir.fresh,
                                 .memtable_bytes = config->memtable_bytes,
                                 .filter = filter_row,
                                 .filter_arg = node->filter};
    const char *path = node->dir.raft;
    int err = datadir_check_room(&node->dir, node->path, why, size);
    if (err != 0)
        return err;
    err = node->dir.fresh ? 0 : look_at_both(node, &path);
    if (err == 0)
        err = open_both(node, &options, &path);
    if (err != 0)
        snprintf(why, size, "%s can't be opened: %s%s", path, kv_error(),
                 kv_damaged(err) ? "; restore the directory from a backup" : "");
    return err;
}

static int commit_first(struct node *node, struct kv_batch *batch, char *why, size_t size)
{
    int err = kv_write(batch);
    kv_batch_close(batch);
    if (err != 0)
        snprintf(why, size, "%s: %s", node->dir.raft, kv_error());
    return err != 0 ? err : datadir_commit(&node->dir, node->path, why, size);
}

/* Of a node that has to be told everything: it votes for nobody until it is. */
static int bootstrap_empty(struct node *node, const char *cluster, char *why, size_t size)
{
    struct kv_batch batch;
    char id[ROSTER_ID_SIZE + 1];
    snprintf(id, sizeof id, "%s", cluster);
    datadir_join(&node->dir, id, node->id);
    kv_batch_init(&batch, node->raft);
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        rlog_bootstrap_empty(&batch, p);
    return commit_first(node, &batch, why, size);
}

static int bootstrap(struct node *node, const char *join, char *why, size_t size)
{
    struct kv_batch batch;
    struct rcore_server servers[ROSTER_NODES_MAX] = {{node->id, "1", true}};
    size_t count = node->roster.count;
    if (join != NULL)
        return bootstrap_empty(node, join, why, size);
    for (size_t i = 0; i < count; i++)
        servers[i] =
            (struct rcore_server){node->roster.nodes[i].id, node->roster.nodes[i].name, true};
    if (count > 1) {
        char cluster[ROSTER_ID_SIZE + 1];
        roster_cluster_id(&node->roster, node->dir.partitions, cluster);
        datadir_join(&node->dir, cluster, node->id);
    }
    kv_batch_init(&batch, node->raft);
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        rlog_bootstrap(&batch, p, servers, count > 0 ? count : 1);
    return commit_first(node, &batch, why, size);
}

static void on_synced(void *arg) /* on the wal thread */
{
    watermark_sync(&((struct node *)arg)->mark);
}

static int open_watermark(struct node *node, bool first, char *why, size_t size)
{
    int err = watermark_open(&node->mark, node->path, node->dir.partitions);
    if (err != 0)
        snprintf(why, size, "%s/WATERMARK: %s", node->path, strerror(errno));
    for (uint32_t p = 0; p < node->dir.partitions && err == 0 && node->dir.fresh && first; p++)
        watermark_put(&node->mark, p, (struct watermark_row){1, 1, 0}); /* of rlog_bootstrap */
    if (err == 0)
        watermark_write(&node->mark);
    return err;
}

static void init_loop(struct node *node)
{
    int rv = uv_loop_init(&node->loop);
    if (rv != 0)
        log_fatal("no event loop could be made", uv_strerror(rv));
    node->wal = wal_new(&node->loop, node->raft, on_synced, node);
    node->applier = applier_new(&node->loop, node->data);
    feed_init(&node->feed, &node->loop, node->data, node->dir.partitions);
    node->shard_env = (struct shard_env){
        .id = node->id,
        .raft = node->raft,
        .data = node->data,
        .dir = node->path,
        .trailing = SHARD_TRAILING,
        .trailing_bytes = node->roster.count > 1 ? TRAILING_BYTES / node->dir.partitions : 0,
        .chunk_bytes = SHARD_CHUNK_BYTES,
        .wal = node->wal,
        .applier = node->applier,
        .mark = &node->mark,
    };
    node->rpc = (struct rpc_env){
        .loop = &node->loop,
        .partitions = node->dir.partitions,
        .data = node->data,
        .applier = node->applier,
        .feed = &node->feed,
        .name = node->dir.id,
        .cluster = node->dir.cluster,
        .disk_full = &node->disk_full,
        .on_cluster = node_members_asked,
        .arg = node,
    };
    list_init(&node->rpc.peers);
    node->rpc.told = xcalloc(node->dir.partitions, sizeof *node->rpc.told);
    node_callbacks(node);
}

static int start_shards(struct node *node, char *why, size_t size)
{
    node->shards = xcalloc(node->dir.partitions, sizeof *node->shards);
    node->rpc.shards = node->shards;
    effects_init(&node->effects, node->shards, node->dir.partitions);
    if (node->roster.count > 1) {
        node_peers_open(node);
        rnet_secure(node->net, node->tls);
    }
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        int err = shard_start(&node->shards[p], p, node->dir.partitions, &node->shard_env);
        if (err != 0) {
            bool damaged = err != ERR_IO || kv_damaged(err);
            snprintf(why, size, "partition %u of %s %s (%s: %s)%s", p, node->path,
                     damaged ? "is damaged" : "can't be read", err_name(err), kv_error(),
                     damaged ? "; restore the directory from a backup" : "");
            return err;
        }
    }
    return 0;
}

void node_free(struct node *node)
{
    watermark_close(&node->mark);
    kv_close(node->data);
    kv_close(node->raft);
    filter_free(node->filter);
    datadir_close(&node->dir);
    arena_close(&node->arena);
    buf_close(&node->packed);
    pthread_mutex_destroy(&node->mutex);
    pthread_cond_destroy(&node->cond);
    free(node);
}

/* A directory stays with the cluster and the number that it was made for. */
static int check_cluster(const struct node *node, char *why, size_t size)
{
    const struct datadir *dir = &node->dir;
    if (dir->fresh)
        return 0;
    if (datadir_alone(dir) != (node->roster.count <= 1)) {
        snprintf(why, size,
                 datadir_alone(dir)
                     ? "%s is that of a node that is alone; it can't become one of several yet"
                     : "%s is that of a node among others: run it with loquat-node and the "
                       "--cluster that it was made with",
                 node->path);
        return ERR_BAD_REQUEST;
    }
    if (dir->node != node->id) {
        snprintf(why, size, "%s is that of node %llu, and this is node %llu (--id)", node->path,
                 (unsigned long long)dir->node, (unsigned long long)node->id);
        return ERR_BAD_REQUEST;
    }
    return 0;
}

static struct node *node_new(const struct node_config *config)
{
    struct node *node = xcalloc(1, sizeof *node);
    pthread_mutex_init(&node->mutex, NULL);
    pthread_cond_init(&node->cond, NULL);
    snprintf(node->path, sizeof node->path, "%s", config->dir);
    node->disk_reserve =
        config->disk_reserve != 0 ? config->disk_reserve : NODE_DISK_RESERVE_DEFAULT;
    node->filter = filter_new();
    node->mark.fd = -1;
    node->secret = config->secret;
    node->tls = config->tls;
    node->door_fd = config->listens ? config->listen_fd : -1;
    node->id = 1;
    arena_init(&node->arena);
    if (config->roster != NULL && config->roster->count > 1) {
        node->roster = *config->roster;
        node->id = config->id;
    }
    return node;
}

int node_start(const struct node_config *config, struct node **out, char *why, size_t size)
{
    gauges_register();
    struct node *node = node_new(config);
    uint64_t start = clock_mono_ms();
    int err = datadir_open(&node->dir, config->dir, config->partitions, true, why, size);
    if (err == 0)
        err = check_cluster(node, why, size);
    if (err == 0)
        err = open_databases(node, config, why, size);
    if (err == 0 && node->dir.fresh)
        err = bootstrap(node, config->join, why, size);
    if (err == 0 && (err = roster_get_drained(node->raft, &node->drained)) != 0)
        snprintf(why, size, "%s: whether the node is drained can't be read: %s", node->path,
                 err_name(err));
    if (err == 0)
        err = open_watermark(node, config->join == NULL, why, size);
    if (err != 0) {
        node_free(node);
        return err;
    }
    init_loop(node);
    err = start_shards(node, why, size);
    if (err != 0) {
        /* Threads hold the databases; the process is about to end with `why`. */
        return err;
    }
    node_format_begin(node);
    node->flushed_ms = clock_mono_ms();
    node_check_disk(node);
    node->control = control_start(&(struct control_env){
        .loop = &node->loop,
        .dir = node->path,
        .data = node->data,
        .filter = node->filter,
        .applier = node->applier,
        .shards = node->shards,
        .partitions = node->dir.partitions,
    });
    node->gauges = (struct gauges_env){
        .dir = &node->dir,
        .raft = node->raft,
        .data = node->data,
        .shards = node->shards,
        .partitions = node->dir.partitions,
        .wal = node->wal,
        .applier = node->applier,
        .rpc = &node->rpc,
        .feed = &node->feed,
        .door = node->door,
        .control = node->control,
        .owed = &node->effects.waiting,
        .net = node->net,
    };
    gauges_take(&node->gauges);
    node_launch(node);
    *out = node;
    if (node->net != NULL)
        return 0;
    pthread_mutex_lock(&node->mutex);
    while (!node->ready)
        pthread_cond_wait(&node->cond, &node->mutex);
    pthread_mutex_unlock(&node->mutex);
    log_info("the store is ready", {"dir", log_str(node->path)}, {"node", log_str(node->dir.id)},
             {"partitions", log_int(node->dir.partitions)},
             {"ms", log_int((int64_t)(clock_mono_ms() - start))});
    return 0;
}
