#include "replication/node.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "replication/node_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/record.h"
#include "store/base/thread.h"

enum {
    TICK_MS = 20,
    DISK_CHECK_TICKS = 10,
    DISK_CHECK_BYTES = 1 << 20, /* taken since: it is looked at again before its time */
    TRIM_TICKS = 5,
    GAUGE_TICKS = 50,
    FLUSH_BYTES =
        64 << 20,       /* of the raft log, that a start after a crash would have to replay; half
                               of it flushes by itself, if it filled the data DB as well */
    FLUSH_MS = 300000,  /* or whatever there is, after so long */
    HANDING_MS = 3000,  /* then the node ends whoever leads */
    BALANCE_TICKS = 50, /* one partition is moved at a time */
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
    case WAITER_NODE:
        node_peers_answer(node, waiter, result);
        break;
    }
}

/* What a user has set of himself may say who sees whether he is there. */
static bool sets_privacy(const struct apply_record *record)
{
    struct record_view view;
    return record->user_log && record_view(record->bytes, &view) == 0 &&
           (view.kind == LOQUAT__KIND__KIND_BLOCK || view.kind == LOQUAT__KIND__KIND_PRIVACY);
}

static void on_applied(void *arg, struct shard *shard, const struct applied *applied)
{
    struct node *node = arg;
    feed_publish(&node->feed, applied);
    for (size_t i = 0; i < applied->record_count; i++)
        if (!applied->records[i].user_log) {
            rpc_page_fed(&node->rpc, shard->partition);
            indexer_wake(node->indexer);
            break;
        }
    for (size_t i = 0; i < applied->record_count; i++)
        if (sets_privacy(&applied->records[i]))
            presence_again(&node->presence, applied->records[i].id);
}

static bool settled(const struct node *node)
{
    if (node->net != NULL)
        return node_lead_settled(node);
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        if (!node->shards[i].serving)
            return false;
    return true;
}

static void serve_if_settled(struct node *node)
{
    if (node->phase != NODE_STARTING || !settled(node))
        return;
    node->phase = NODE_SERVING;
    if (node->net == NULL) /* else other nodes come through it, too, and long before */
        door_open(node->door);
    pthread_mutex_lock(&node->mutex);
    node->ready = true;
    pthread_cond_signal(&node->cond);
    pthread_mutex_unlock(&node->mutex);
}

static void on_shard_state(void *arg, struct shard *shard)
{
    (void)shard;
    serve_if_settled(arg);
}

/* ---- the loop ---- */

static bool idle(const struct node *node)
{
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        if (!shard_idle(&node->shards[i]))
            return false;
    return !node->flushing && !node->raise.running && !node->warm.running &&
           lags_idle(node->lags) && wal_idle(node->wal) && applier_idle(node->applier) &&
           node->feed.reads == 0 && node->rpc.reads == 0 && node->rpc.peer_count == 0 &&
           node->rpc.wait_count == 0 && control_idle(node->control) && door_idle(node->door) &&
           (node->net == NULL || (rnet_idle(node->net) && readindex_idle(&node->readindex)));
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

/* What is in memory has to go to files as well, at the latest when the node starts again, and the
 * journal gets another segment when this one is full. */
void node_check_disk(struct node *node)
{
    uint64_t wanted = node->disk_reserve + JOURNAL_SEGMENT + kv_memory(node->data);
    uint64_t room = datadir_free_bytes(node->path);
    bool full = room < wanted;
    node->rpc.taken_bytes = 0;
    if (full && !node->disk_full)
        log_error("the disk is full: writes are refused until there is room, reading goes on",
                  {"dir", log_str(node->path)}, {"reserve", log_int((int64_t)node->disk_reserve)});
    if (!full && node->disk_full)
        log_info("there is room on the disk again: writes are taken", {"dir", log_str(node->path)});
    if (full != node->disk_full)
        indexer_hold(node->indexer, full);
    node->disk_full = full;
    gauges_disk(room, wanted, full);
}

/* ---- flushing and trimming ---- */

static void trim_all(struct node *node)
{
    uint64_t files = kv_files(node->data);
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        if (files != node->files || node->shards[i].applied != node->shards[i].trimmed_at)
            shard_trim(&node->shards[i], node->data, clock_mono_ms());
    node->files = files;
    node_journal_tidy(node);
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
    watermark_write(&node->mark);
    for (uint32_t i = 0; i < node->dir.partitions; i++)
        shard_turn(&node->shards[i], now);
    applier_kick(node->applier);
    wal_kick(node->wal);
    if (node->rpc.taken_bytes > DISK_CHECK_BYTES)
        node_check_disk(node);
    if (rpc_tell_leads(&node->rpc) && node->net != NULL)
        node_lead_say(node, 0);
    if (node->net != NULL)
        readindex_turn(&node->readindex, now);
    if (node->phase >= NODE_DRAINING && idle(node))
        stop_step(node);
}

/* Nobody comes any more, and nothing is asked of anybody. */
static void drain(struct node *node)
{
    node->phase = NODE_DRAINING;
    door_close(node->door);
    rpc_close_all(&node->rpc);
    control_close(node->control);
    if (node->net != NULL)
        rnet_close(node->net);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct node *node = prepare->data;
    turn(node);
    pace_turn(&node->pace, &node->loop);
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
    presence_tick(&node->presence, now);
    rpc_page_tick(&node->rpc, false);
    node->ticks++;
    if (node->ticks % DISK_CHECK_TICKS == 0)
        node_check_disk(node);
    if (node->ticks % TRIM_TICKS == 0) {
        trim_all(node);
        flush_if_due(node);
    }
    if (node->ticks % GAUGE_TICKS == 0) {
        node_format_tick(node);
        gauges_take(&node->gauges);
        if (node->phase == NODE_SERVING)
            lags_tick(node->lags, now);
    }
    if (node->net == NULL)
        return;
    serve_if_settled(node);
    if (node->ticks % BALANCE_TICKS == 0 && node->phase <= NODE_SERVING) {
        node_lead_tell(node);
        node_members_tick(node);
    }
    if (node->ticks % BALANCE_TICKS == 0 && node->phase == NODE_SERVING)
        node_lead_balance(node);
    if (node->phase == NODE_HANDING && (node_lead_hand_over(node) || now > node->handing_until_ms))
        drain(node);
}

static void on_caller(void *arg, enum handshake_role role, struct line line)
{
    struct node *node = arg;
    if (role == HANDSHAKE_GATEWAY && rpc_adopt(&node->rpc, line) != 0)
        log_error("a gateway's link could not be opened");
    else if (role == HANDSHAKE_NODE && node->net != NULL)
        rnet_adopt(node->net, line);
    else if (role == HANDSHAKE_NODE)
        line_close(&line); /* there are no others */
}

static void on_async(uv_async_t *async)
{
    struct node *node = async->data;
    int connects[NODE_CONNECTS_MAX];
    pthread_mutex_lock(&node->mutex);
    size_t count = node->connect_count;
    memcpy(connects, node->connects, sizeof connects);
    node->connect_count = 0;
    bool stop = node->stop_asked;
    pthread_mutex_unlock(&node->mutex);
    for (size_t i = 0; i < count; i++)
        on_caller(node, HANDSHAKE_GATEWAY, (struct line){.fd = connects[i]});
    if (stop && node->phase < NODE_HANDING) {
        node->phase = NODE_HANDING;
        node->handing_until_ms = clock_mono_ms() + HANDING_MS;
        if (node->net == NULL)
            drain(node);
    }
}

static void *run(void *arg)
{
    struct node *node = arg;
    sigset_t broken; /* a link whose other end went: an error of the write, not of the process */
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken, NULL);
    pace_open(&node->pace, node->net != NULL);
    uv_run(&node->loop, UV_RUN_DEFAULT);
    pace_close(&node->pace);
    return NULL;
}

static void on_user(void *arg, struct conv_id user, bool lost)
{
    struct node *node = arg;
    presence_changed(&node->presence, user, lost, clock_mono_ms());
}

void node_callbacks(struct node *node)
{
    struct shard_env *env = &node->shard_env;
    env->on_answer = on_answer;
    env->on_applied = on_applied;
    env->on_owed = on_owed;
    env->on_state = on_shard_state;
    env->arg = node;
    node->feed.on_user = on_user;
    node->feed.arg = node;
    uv_prepare_init(&node->loop, &node->prepare);
    uv_timer_init(&node->loop, &node->timer);
    uv_async_init(&node->loop, &node->async, on_async);
    node->prepare.data = node->timer.data = node->async.data = node;
    if (node->door_fd >= 0)
        node->door = door_new(&node->loop, node->door_fd, node->secret, node->tls, on_caller, node);
}

void node_launch(struct node *node)
{
    uv_prepare_start(&node->prepare, on_prepare);
    uv_timer_start(&node->timer, on_tick, TICK_MS, TICK_MS);
    if (node->net != NULL) {
        door_open(node->door);
        rnet_start(node->net);
    }
    thread_start(&node->thread, "node loop", run, node);
}

/* ---- for others ---- */

bool node_ready(struct node *node)
{
    pthread_mutex_lock(&node->mutex);
    bool ready = node->ready;
    pthread_mutex_unlock(&node->mutex);
    return ready;
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
    bool room = node->connect_count < NODE_CONNECTS_MAX;
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
    lags_free(node->lags);
    presence_close(&node->presence);
    feed_close(&node->feed);
    rpc_free(&node->rpc);
    for (uint32_t p = 0; p < node->dir.partitions; p++)
        shard_close(&node->shards[p]);
    free(node->shards);
    effects_close(&node->effects);
    door_free(node->door);
    if (node->net != NULL) {
        readindex_close(&node->readindex);
        rnet_free(node->net);
        free(node->led);
    }
    int rv = uv_loop_close(&node->loop);
    ASSERT(rv == 0);
    node_free(node);
}
