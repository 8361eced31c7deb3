/* replication/node_start.c: how a node begins: directory, journal and database, shards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "replication/node_inside.h"
#include "replication/rlog_old.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/base/thread.h"

/* ---- start ---- */

/* Of the raft logs of all partitions, for nodes that are away for a while: who is away for longer
 * gets the whole of each partition. */
enum {
    TRAILING_BYTES = 128 << 20,
    HELD_BYTES = 2 << 20, /* of these, in memory */
};

static int open_data(const struct node *node, const struct kv_options *options, struct kv **kv,
                     char *why, size_t size)
{
    int err = kv_open(node->dir.data, KV_DATA, options, kv);
    if (err != 0)
        snprintf(why, size, "%s can't be opened: %s%s", node->dir.data, kv_error(),
                 kv_damaged(err) ? "; restore the directory from a backup" : "");
    return err;
}

static int damaged(const struct node *node, uint32_t partition, int err, const char *detail,
                   char *why, size_t size)
{
    bool damage = err != ERR_IO || kv_damaged(err);
    snprintf(why, size, "partition %u of %s %s (%s%s)%s", partition, node->path,
             damage ? "is damaged" : "can't be read", err_name(err), detail,
             damage ? "; restore the directory from a backup" : "");
    return err;
}

static int open_journal(struct node *node, char *why, size_t size)
{
    char what[512] = "";
    if (node->dir.fresh && mkdir(node->dir.journal, 0700) != 0 && errno != EEXIST) {
        snprintf(why, size, "%s: %s", node->dir.journal, strerror(errno));
        return ERR_IO;
    }
    if (node->dir.fresh) /* of a first start that was cut short; nothing was acknowledged */
        file_empty_directory(node->dir.journal);
    node->logs = xcalloc(node->dir.partitions, sizeof *node->logs);
    int err = rlog_load(node->dir.journal, node->logs, node->dir.partitions, what, sizeof what,
                        &node->journal);
    if (err != 0)
        snprintf(why, size, "%s%s", what,
                 err == ERR_CORRUPT ? "; restore the directory from a backup" : "");
    for (uint32_t p = 0; p < node->dir.partitions && err == 0 && !node->dir.fresh; p++)
        if ((err = rlog_finish(&node->logs[p])) != 0)
            damaged(node, p, err, ": its raft log has a gap", why, size);
    return err;
}

/* The database is looked at first, so that a directory of which one half is damaged stays as it was
 * found. */
static int open_both(struct node *node, const struct node_config *config, char *why, size_t size)
{
    struct kv_options look = {.read_only = true},
                      options = {.create = node->dir.fresh,
                                 .memtable_bytes = config->memtable_bytes,
                                 .stagger = node->id - 1,
                                 .filter = filter_row,
                                 .filter_arg = node->filter};
    struct kv *looked_at = NULL;
    int err = datadir_check_room(node->path, why, size);
    if (err == 0 && !node->dir.fresh)
        err = open_data(node, &look, &looked_at, why, size);
    kv_close(looked_at);
    if (err == 0 && !node->dir.fresh)
        err = rlog_old_convert(&node->dir, node->path, why, size);
    if (err == 0)
        err = open_journal(node, why, size);
    return err == 0 ? open_data(node, &options, &node->data, why, size) : err;
}

/* Of a node that has to be told everything: it votes for nobody until it is. */
static void bootstrap_empty(struct node *node, const char *cluster, struct journal_batch *batch)
{
    char id[ROSTER_ID_SIZE + 1];
    snprintf(id, sizeof id, "%s", cluster);
    datadir_join(&node->dir, id, node->id);
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        rlog_close(&node->logs[p]);
        rlog_bootstrap_empty(&node->logs[p], batch, p);
    }
}

static void bootstrap(struct node *node, struct journal_batch *batch)
{
    struct rcore_server servers[ROSTER_NODES_MAX] = {{node->id, "1", true}};
    size_t count = node->roster.count;
    for (size_t i = 0; i < count; i++)
        servers[i] =
            (struct rcore_server){node->roster.nodes[i].id, node->roster.nodes[i].name, true};
    if (count > 1) {
        char cluster[ROSTER_ID_SIZE + 1];
        roster_cluster_id(&node->roster, node->dir.partitions, cluster);
        datadir_join(&node->dir, cluster, node->id);
    }
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        rlog_close(&node->logs[p]);
        rlog_bootstrap(&node->logs[p], batch, p, servers, count > 0 ? count : 1);
    }
}

/* The journal goes on with what each log is, in a segment of its own. */
static int begin_journal(struct node *node, const char *join, char *why, size_t size)
{
    struct journal_batch batch = {0};
    int err = journal_begin(node->journal, &batch.at);
    if (node->dir.fresh && join != NULL)
        bootstrap_empty(node, join, &batch);
    else if (node->dir.fresh)
        bootstrap(node, &batch);
    else
        for (uint32_t p = 0; p < node->dir.partitions; p++)
            rlog_put_state(&node->logs[p], &batch);
    if (err == 0)
        err = journal_write(node->journal, &batch);
    if (err != 0)
        snprintf(why, size, "%s: %s", node->dir.journal, strerror(errno));
    node->journal_at = journal_after(&batch);
    journal_batch_close(&batch);
    if (node->dir.fresh && datadir_alone(&node->dir)) /* nobody else reads what is written */
        node->dir.format = DATADIR_FORMAT_NEWEST;
    if (err == 0 && node->dir.fresh)
        err = datadir_commit(&node->dir, node->path, why, size);
    return err;
}

static void on_segment(void *arg)
{
    struct node *node = arg;
    for (uint32_t p = 0; p < node->dir.partitions; p++) {
        const struct rlog *log = &node->shards[p].log; /* not yet there, while the node begins */
        rlog_put_state(log->first != 0 ? log : &node->logs[p], wal_batch(node->wal));
    }
}

static void on_synced(void *arg) /* on the wal thread */
{
    watermark_sync(&((struct node *)arg)->mark);
}

static int open_watermark(struct node *node, char *why, size_t size)
{
    int err = watermark_open(&node->mark, node->path, node->dir.partitions);
    if (err != 0)
        snprintf(why, size, "%s/WATERMARK: %s", node->path, strerror(errno));
    return err;
}

/* Before the journal goes on: what was lost at its end is seen in it as it was found. */
static int check_watermarks(struct node *node, char *why, size_t size)
{
    int err = open_watermark(node, why, size);
    for (uint32_t p = 0; p < node->dir.partitions && err == 0; p++)
        if ((err = shard_check_watermark(&node->logs[p], &node->mark)) != 0)
            damaged(node, p, err, "", why, size);
    return err;
}

static int first_watermarks(struct node *node, bool bootstrapped, char *why, size_t size)
{
    int err = open_watermark(node, why, size);
    for (uint32_t p = 0; p < node->dir.partitions && err == 0 && bootstrapped; p++)
        watermark_put(&node->mark, p, (struct watermark_row){1, 1, 0}); /* of rlog_bootstrap */
    if (err == 0)
        watermark_write(&node->mark);
    return err;
}

static uint32_t state_of(void *feed, struct conv_id user)
{
    return feed_presence(feed, user);
}

static void say_presence(void *feed, struct feed_peer *peer, struct span message)
{
    (void)feed;
    if (peer->link != NULL)
        link_send(peer->link, LINK_PRESENCE, message);
}

static const struct presence_ops PRESENCE_OPS = {state_of, say_presence};

static void init_loop(struct node *node)
{
    int rv = uv_loop_init(&node->loop);
    if (rv != 0)
        log_fatal("no event loop could be made", uv_strerror(rv));
    struct wal_events events = {on_segment, on_synced, node};
    node->wal = wal_new(&node->loop, node->journal, node->journal_at, &events);
    node->applier = applier_new(&node->loop, node->data);
    node->indexer = indexer_start(node->data, node->dir.index, node->dir.id, node->dir.partitions);
    feed_init(&node->feed, &node->loop, node->data, node->dir.partitions);
    presence_init(&node->presence, node->dir.partitions, &PRESENCE_OPS, &node->feed);
    node->shard_env = (struct shard_env){
        .id = node->id,
        .data = node->data,
        .dir = node->path,
        .trailing = node->roster.count > 1 ? SHARD_TRAILING : 1, /* alone: nobody needs them */
        .trailing_bytes = node->roster.count > 1 ? TRAILING_BYTES / node->dir.partitions : 0,
        .held_bytes = node->roster.count > 1 ? HELD_BYTES / node->dir.partitions : 0,
        .entry_version = node_entry_version(node),
        .eager = node->roster.count > 1 ? 1 : SHARD_INFLIGHT_MAX,
        .chunk_bytes = SHARD_CHUNK_BYTES,
        .mark_bytes = SHARD_MARK_BYTES,
        .wal = node->wal,
        .applier = node->applier,
        .mark = &node->mark,
    };
    node->rpc = (struct rpc_env){
        .loop = &node->loop,
        .partitions = node->dir.partitions,
        .data = node->data,
        .indexer = node->indexer,
        .applier = node->applier,
        .feed = &node->feed,
        .presence = &node->presence,
        .name = node->dir.id,
        .cluster = node->dir.cluster,
        .disk_full = &node->disk_full,
        .on_cluster = node_members_asked,
        .arg = node,
    };
    list_init(&node->rpc.peers);
    node->rpc.waits = xcalloc(node->dir.partitions, sizeof *node->rpc.waits);
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        list_init(&node->rpc.waits[p]);
    node->rpc.told = xcalloc(node->dir.partitions, sizeof *node->rpc.told);
    list_init(&node->rpc.feed_turns);
    node->rpc.feed_reads_max = uv_available_parallelism();
    if (node->rpc.feed_reads_max < FEED_READS_LEAST)
        node->rpc.feed_reads_max = FEED_READS_LEAST;
    node->rpc.fed = xcalloc(node->dir.partitions, sizeof *node->rpc.fed);
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
        char detail[512];
        int err =
            shard_start(&node->shards[p], &node->logs[p], node->dir.partitions, &node->shard_env);
        snprintf(detail, sizeof detail, ": %s", kv_error());
        if (err != 0)
            return damaged(node, p, err, detail, why, size);
    }
    return 0;
}

void node_free(struct node *node)
{
    watermark_close(&node->mark);
    indexer_stop(node->indexer);
    kv_close(node->data);
    journal_close(node->journal);
    for (uint32_t p = 0; node->logs != NULL && p < node->dir.partitions; p++)
        rlog_close(&node->logs[p]);
    free(node->logs);
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

static int read_drained(struct node *node, char *why, size_t size)
{
    int err = roster_get_drained(node->path, &node->drained);
    if (err == ERR_CORRUPT)
        snprintf(why, size, "%s/ROSTER is damaged; restore it from a backup", node->path);
    else if (err != 0)
        snprintf(why, size, "%s/ROSTER: %s", node->path, strerror(errno));
    return err;
}

int node_start(const struct node_config *config, struct node **out, char *why, size_t size)
{
    gauges_register();
    lags_register();
    struct node *node = node_new(config);
    uint64_t start = clock_mono_ms();
    int err = datadir_open(&node->dir, config->dir, config->partitions, true, why, size);
    if (err == 0)
        err = check_cluster(node, why, size);
    if (err == 0)
        err = open_both(node, config, why, size);
    if (err == 0)
        err = read_drained(node, why, size);
    if (err == 0 && !node->dir.fresh)
        err = check_watermarks(node, why, size);
    if (err == 0)
        err = begin_journal(node, config->join, why, size);
    if (err == 0 && node->dir.fresh)
        err = first_watermarks(node, config->join == NULL, why, size);
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
        .indexer = node->indexer,
        .filter = node->filter,
        .applier = node->applier,
        .shards = node->shards,
        .partitions = node->dir.partitions,
    });
    node->gauges = (struct gauges_env){
        .dir = &node->dir,
        .journal = node->journal,
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
    node->lags = lags_new(&node->loop, node->data, node->shards, node->dir.partitions);
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
