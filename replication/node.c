#include "replication/node.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "replication/datadir.h"
#include "replication/effects.h"
#include "replication/gauges.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/thread.h"

enum {
    TICK_MS = 20,
    DISK_CHECK_TICKS = 10,
    DISK_CHECK_BYTES = 1 << 20, /* taken since: it is looked at again before its time */
    TRIM_TICKS = 5,
    GAUGE_TICKS = 50,
    FLUSH_BYTES =
        64 << 20,      /* of the raft log, that a start after a crash would have to replay; half
                               of it flushes by itself, if it filled the data DB as well */
    FLUSH_MS = 300000, /* or whatever there is, after so long */
    CONNECTS_MAX = 64,
    NODE_ID = 1 /* as long as there is one */
};

enum node_phase {
    NODE_STARTING,
    NODE_SERVING,
    NODE_DRAINING, /* what was accepted is being answered */
    NODE_FLUSHING, /* the data DB goes to its files, so that the next start has little to replay */
    NODE_TRIMMING, /* the raft log is cut below that */
    NODE_CLOSING
};

struct node {
    struct datadir dir;
    char path[DATADIR_PATH_MAX];
    uint64_t disk_reserve;
    struct kv *raft, *data;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_timer_t timer;
    uv_async_t async;
    uv_work_t flush;
    bool flushing;
    uint64_t flushed_ms; /* when the last flush began */
    struct watermark mark;
    struct wal *wal;
    struct applier *applier;
    struct shard *shards;
    struct shard_env shard_env;
    struct feed feed;
    struct rpc_env rpc;
    struct door *door; /* NULL: no gateway comes from outside */
    struct filter *filter;
    struct control *control;
    struct gauges_env gauges;
    struct effects effects;
    bool disk_full, writers_stopped;
    uint64_t ticks;
    enum node_phase phase; /* loop thread; `ready` tells others */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool ready, stop_asked; /* under mutex */
    int connects[CONNECTS_MAX];
    size_t connect_count;
};

/* ---- what shards ask for ---- */

static void on_owed(void *arg, struct owed *owed)
{
    effects_put(&((struct node *)arg)->effects, owed);
}

static void on_answer(void *arg, const struct waiter *waiter, const struct apply_result *result)
{
    struct node *node = arg;
    switch (waiter->kind) {
    case WAITER_NONE:
        break;
    case WAITER_PEER:
        rpc_answer(&node->rpc, waiter, result);
        break;
    case WAITER_OUT:
        effects_answer(&node->effects, waiter->owner, result);
        break;
    case WAITER_CONTROL:
        control_answer(waiter->owner, result);
        break;
    }
}

static void on_applied(void *arg, struct shard *shard, const struct applied *applied)
{
    (void)shard;
    struct node *node = arg;
    feed_publish(&node->feed, applied);
}

static void on_shard_state(void *arg, struct shard *shard)
{
    (void)shard;
    struct node *node = arg;
    if (node->phase != NODE_STARTING)
        return;
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        if (!node->shards[i].serving)
            return;
    node->phase = NODE_SERVING;
    door_open(node->door);
    pthread_mutex_lock(&node->mutex);
    node->ready = true;
    pthread_cond_signal(&node->cond);
    pthread_mutex_unlock(&node->mutex);
}

/* ---- the loop ---- */

static bool idle(const struct node *node)
{
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        if (!shard_idle(&node->shards[i]))
            return false;
    return !node->flushing && wal_idle(node->wal) && applier_idle(node->applier) &&
           node->feed.reads == 0 && node->rpc.reads == 0 && node->rpc.peer_count == 0 &&
           control_idle(node->control) && door_idle(node->door);
}

static void on_writer_closed(uv_handle_t *handle)
{
    struct node *node = handle->data;
    if (!node->writers_stopped) { /* the first of two */
        node->writers_stopped = true;
        return;
    }
    uv_close((uv_handle_t *)&node->prepare, NULL);
    uv_close((uv_handle_t *)&node->timer, NULL);
    uv_close((uv_handle_t *)&node->async, NULL);
}

/* What is in memory has to go to files as well, at the latest when the node starts again. */
static void check_disk(struct node *node)
{
    uint64_t wanted = node->disk_reserve + kv_memory(node->raft) + kv_memory(node->data);
    uint64_t room = datadir_free_bytes(node->path);
    bool full = room < wanted;
    node->rpc.taken_bytes = 0;
    if (full && !node->disk_full)
        log_error("the disk is full: writes are refused until there is room, reading goes on",
                  {"dir", log_str(node->path)}, {"reserve", log_int((int64_t)node->disk_reserve)});
    if (!full && node->disk_full)
        log_info("there is room on the disk again: writes are taken", {"dir", log_str(node->path)});
    node->disk_full = full;
    gauges_disk(room, wanted, full);
}

/* ---- flushing and trimming ---- */

static void trim_all(struct node *node)
{
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        shard_trim(&node->shards[i], node->data, clock_mono_ms());
}

static void on_flush_work(uv_work_t *work)
{
    struct node *node = container_of(work, struct node, flush);
    uint64_t start = clock_mono_us();
    if (kv_flush(node->data, node->dir.scratch) != 0)
        log_warn("the data could not be flushed to its files; the raft log has it all",
                 {"err", log_str(kv_error())});
    gauges_flushed(clock_mono_us() - start);
}

static void on_flush_done(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct node *node = container_of(work, struct node, flush);
    node->flushing = false;
    if (node->phase == NODE_FLUSHING)
        node->phase = NODE_TRIMMING;
    trim_all(node);
}

static uint64_t unflushed_bytes(const struct node *node)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        bytes += node->shards[i].unflushed_bytes;
    return bytes;
}

static void start_flush(struct node *node)
{
    node->flushing = true;
    node->flushed_ms = clock_mono_ms();
    int rv = uv_queue_work(&node->loop, &node->flush, on_flush_work, on_flush_done);
    ASSERT(rv == 0);
}

static void flush_if_due(struct node *node)
{
    uint64_t bytes = unflushed_bytes(node);
    if (node->phase != NODE_SERVING || node->flushing || node->disk_full || bytes == 0)
        return;
    if (bytes > FLUSH_BYTES || clock_mono_ms() - node->flushed_ms > FLUSH_MS)
        start_flush(node);
}

/* Every step of it ends when nothing is under way any more. */
static void stop_step(struct node *node)
{
    if (node->phase == NODE_DRAINING) {
        node->phase = NODE_FLUSHING;
        start_flush(node);
    } else if (node->phase == NODE_TRIMMING) {
        node->phase = NODE_CLOSING;
        control_stop(node->control);
        wal_stop(node->wal, on_writer_closed, node);
        applier_stop(node->applier, on_writer_closed, node);
    }
}

static void turn(struct node *node)
{
    uint64_t now = clock_mono_ms();
    if (node->phase == NODE_CLOSING)
        return;
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        shard_turn(&node->shards[i], now);
    applier_kick(node->applier);
    wal_kick(node->wal);
    if (node->rpc.taken_bytes > DISK_CHECK_BYTES)
        check_disk(node);
    if (node->phase >= NODE_DRAINING && idle(node))
        stop_step(node);
}

static void on_prepare(uv_prepare_t *prepare)
{
    turn(prepare->data);
}

static void on_tick(uv_timer_t *timer)
{
    struct node *node = timer->data;
    if (node->phase == NODE_CLOSING)
        return;
    uint64_t now = clock_mono_ms();
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        shard_tick(&node->shards[i], now);
    effects_retry(&node->effects);
    node->ticks++;
    if (node->ticks % DISK_CHECK_TICKS == 0)
        check_disk(node);
    if (node->ticks % TRIM_TICKS == 0) {
        trim_all(node);
        flush_if_due(node);
    }
    if (node->ticks % GAUGE_TICKS == 0)
        gauges_take(&node->gauges);
}

static void adopt(void *arg, int fd)
{
    struct node *node = arg;
    if (rpc_adopt(&node->rpc, fd) != 0)
        log_error("a gateway's link could not be opened");
}

static void on_async(uv_async_t *async)
{
    struct node *node = async->data;
    int connects[CONNECTS_MAX];
    pthread_mutex_lock(&node->mutex);
    size_t count = node->connect_count;
    memcpy(connects, node->connects, sizeof connects);
    node->connect_count = 0;
    bool stop = node->stop_asked;
    pthread_mutex_unlock(&node->mutex);
    for (size_t i = 0; i < count; i++)
        adopt(node, connects[i]);
    if (stop && node->phase < NODE_DRAINING) {
        node->phase = NODE_DRAINING;
        door_close(node->door);
        rpc_close_all(&node->rpc);
        control_close(node->control);
    }
}

static void *run(void *arg)
{
    struct node *node = arg;
    sigset_t broken; /* a link whose other end went: an error of the write, not of the process */
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken, NULL);
    uv_run(&node->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- start ---- */

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

static int bootstrap(struct node *node, char *why, size_t size)
{
    struct kv_batch batch;
    struct rcore_server self = {NODE_ID, "1", true};
    kv_batch_init(&batch, node->raft);
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        rlog_bootstrap(&batch, p, &self, 1);
    int err = kv_write(&batch);
    kv_batch_close(&batch);
    if (err != 0)
        snprintf(why, size, "%s: %s", node->dir.raft, kv_error());
    return err != 0 ? err : datadir_commit(&node->dir, node->path, why, size);
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
    for (uint32_t p = 0; p < node->dir.partitions && err == 0 && node->dir.fresh; p++)
        watermark_put(&node->mark, p, (struct watermark_row){1, 1, 0}); /* of rlog_bootstrap */
    return err;
}

static void init_loop(struct node *node, const struct node_config *config)
{
    int rv = uv_loop_init(&node->loop);
    if (rv != 0)
        log_fatal("no event loop could be made", uv_strerror(rv));
    uv_prepare_init(&node->loop, &node->prepare);
    uv_timer_init(&node->loop, &node->timer);
    uv_async_init(&node->loop, &node->async, on_async);
    node->prepare.data = node->timer.data = node->async.data = node;
    node->wal = wal_new(&node->loop, node->raft, on_synced, node);
    node->applier = applier_new(&node->loop, node->data);
    feed_init(&node->feed, &node->loop, node->data, node->dir.partitions);
    node->shard_env = (struct shard_env){
        .id = NODE_ID,
        .raft = node->raft,
        .data = node->data,
        .dir = node->path,
        .trailing = SHARD_TRAILING,
        .chunk_bytes = SHARD_CHUNK_BYTES,
        .wal = node->wal,
        .applier = node->applier,
        .mark = &node->mark,
        .on_answer = on_answer,
        .on_applied = on_applied,
        .on_owed = on_owed,
        .on_state = on_shard_state,
        .arg = node,
    };
    node->rpc = (struct rpc_env){
        .loop = &node->loop,
        .partitions = node->dir.partitions,
        .data = node->data,
        .applier = node->applier,
        .feed = &node->feed,
        .name = node->dir.id,
        .disk_full = &node->disk_full,
    };
    list_init(&node->rpc.peers);
    if (config->listens)
        node->door = door_new(&node->loop, config->listen_fd, config->secret, adopt, node);
}

static int start_shards(struct node *node, char *why, size_t size)
{
    node->shards = xcalloc(node->dir.partitions, sizeof *node->shards);
    node->rpc.shards = node->shards;
    effects_init(&node->effects, node->shards, node->dir.partitions);
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

static void free_databases(struct node *node)
{
    watermark_close(&node->mark);
    kv_close(node->data);
    kv_close(node->raft);
    filter_free(node->filter);
    datadir_close(&node->dir);
    pthread_mutex_destroy(&node->mutex);
    pthread_cond_destroy(&node->cond);
    free(node);
}

int node_start(const struct node_config *config, struct node **out, char *why, size_t size)
{
    gauges_register();
    struct node *node = xcalloc(1, sizeof *node);
    pthread_mutex_init(&node->mutex, NULL);
    pthread_cond_init(&node->cond, NULL);
    snprintf(node->path, sizeof node->path, "%s", config->dir);
    node->disk_reserve =
        config->disk_reserve != 0 ? config->disk_reserve : NODE_DISK_RESERVE_DEFAULT;
    node->filter = filter_new();
    node->mark.fd = -1;
    uint64_t start = clock_mono_ms();
    int err = datadir_open(&node->dir, config->dir, config->partitions, true, why, size);
    if (err == 0)
        err = open_databases(node, config, why, size);
    if (err == 0 && node->dir.fresh)
        err = bootstrap(node, why, size);
    if (err == 0)
        err = open_watermark(node, why, size);
    if (err != 0) {
        free_databases(node);
        return err;
    }
    init_loop(node, config);
    err = start_shards(node, why, size);
    if (err != 0) {
        /* Threads hold the databases; the process is about to end with `why`. */
        return err;
    }
    node->flushed_ms = clock_mono_ms();
    check_disk(node);
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
    };
    gauges_take(&node->gauges);
    uv_prepare_start(&node->prepare, on_prepare);
    uv_timer_start(&node->timer, on_tick, TICK_MS, TICK_MS);
    thread_start(&node->thread, "node loop", run, node);
    pthread_mutex_lock(&node->mutex);
    while (!node->ready)
        pthread_cond_wait(&node->cond, &node->mutex);
    pthread_mutex_unlock(&node->mutex);
    log_info("the store is ready", {"dir", log_str(node->path)}, {"node", log_str(node->dir.id)},
             {"partitions", log_int(node->dir.partitions)},
             {"ms", log_int((int64_t)(clock_mono_ms() - start))});
    *out = node;
    return 0;
}

int node_connect(struct node *node)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return -1;
    int buffer = 1 << 20;
    for (int i = 0; i < 2; i++) {
        setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        setsockopt(pair[i], SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    }
    pthread_mutex_lock(&node->mutex);
    bool room = node->connect_count < CONNECTS_MAX;
    if (room)
        node->connects[node->connect_count++] = pair[1];
    pthread_mutex_unlock(&node->mutex);
    if (!room) {
        close(pair[0]);
        close(pair[1]);
        return -1;
    }
    uv_async_send(&node->async);
    return pair[0];
}

void node_stop(struct node *node)
{
    pthread_mutex_lock(&node->mutex);
    node->stop_asked = true;
    pthread_mutex_unlock(&node->mutex);
    uv_async_send(&node->async);
    pthread_join(node->thread, NULL);
    wal_free(node->wal);
    applier_free(node->applier);
    control_free(node->control);
    feed_close(&node->feed);
    rpc_free(&node->rpc);
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        shard_close(&node->shards[p]);
    free(node->shards);
    effects_close(&node->effects);
    door_free(node->door);
    int rv = uv_loop_close(&node->loop);
    ASSERT(rv == 0);
    free_databases(node);
}
