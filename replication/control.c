#include "replication/control.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "compaction/keeper.h"
#include "replication/datadir.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/link.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/wire.h"

enum {
    KEEPER_NICE = 10,
    PROGRESS_US = 100000,
    RETRY_MS = 50,
    RETAIN_TRIES_MAX = 200, /* while a partition has no leader or is busy */
};

struct client {
    struct link link;
    struct list_link in_control;
    struct control *control;
};

enum ask { ASK_NONE, ASK_RETAIN, ASK_CALL };

struct control {
    struct control_env env;
    int listener, dir_fd;
    int spare; /* closed to take, and refuse, a connection when no descriptor is free */
    uv_poll_t poll;
    uv_async_t async;
    struct list clients;
    size_t client_count;
    bool closing;
    struct client *owner; /* of the job; NULL when it has gone */
    bool working;         /* the thread is there */
    pthread_t thread;
    struct buf request, report; /* the thread's while it works */

    /* What the thread wants of the loop; one thing at a time. */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    enum ask ask; /* under mutex, like all below */
    bool taken;   /* the loop is at it */
    bool finished, progress_due;
    const char *phase;
    uint64_t at, all;
    atomic_bool cancelled;

    /* Of the ask in work: the thread's before it asks, the loop's until it has answered. */
    uint32_t partition;
    const struct keeper_retain *retains;
    size_t retain_count;
    size_t waiting;
    int err;
    struct job job; /* ASK_CALL */
    uint64_t shown_us;
};

/* ---- on the job's thread ---- */

/* How jobs ended: `stopped` is one whose client went away, or the node. */
static struct metric jobs[] = {
    {.name = "loquat_compact_jobs_total",
     .help = "Jobs of loquat-compact, by how they ended",
     .labels = "end=\"done\"",
     .type = METRIC_COUNTER},
    {.name = "loquat_compact_jobs_total",
     .help = "Jobs of loquat-compact, by how they ended",
     .labels = "end=\"stopped\"",
     .type = METRIC_COUNTER},
    {.name = "loquat_compact_jobs_total",
     .help = "Jobs of loquat-compact, by how they ended",
     .labels = "end=\"failed\"",
     .type = METRIC_COUNTER},
};

static int ask_loop(struct control *control, enum ask ask)
{
    pthread_mutex_lock(&control->mutex);
    control->ask = ask;
    control->err = 0;
    uv_async_send(&control->async);
    while (control->ask != ASK_NONE)
        pthread_cond_wait(&control->cond, &control->mutex);
    int err = control->err;
    pthread_mutex_unlock(&control->mutex);
    return err;
}

static int on_progress(void *arg, const char *phase, uint64_t at, uint64_t all)
{
    struct control *control = arg;
    uint64_t now = clock_mono_us();
    if (now - control->shown_us >= PROGRESS_US) {
        control->shown_us = now;
        pthread_mutex_lock(&control->mutex);
        control->phase = phase;
        control->at = at;
        control->all = all;
        control->progress_due = true;
        pthread_mutex_unlock(&control->mutex);
        uv_async_send(&control->async);
    }
    return atomic_load(&control->cancelled) ? ERR_CLOSED : 0;
}

static int on_retain(void *arg, uint32_t partition, const struct keeper_retain *items, size_t count)
{
    struct control *control = arg;
    int err = ERR_BUSY;
    control->partition = partition;
    control->retains = items;
    control->retain_count = count;
    for (int tries = 0; tries < RETAIN_TRIES_MAX && err_retry(err); tries++) {
        if (atomic_load(&control->cancelled))
            return ERR_CLOSED;
        if (tries > 0)
            nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
        err = ask_loop(control, ASK_RETAIN); /* again is the same: a floor does not fall */
    }
    return err;
}

struct trim_call {
    struct control *control;
    const struct trim_item *items;
    size_t count;
    uint64_t now_ms;
    struct tally *went;
    bool more;
    int err;
};

static void call_trim(struct job *job)
{
    struct trim_call *call = job->owner;
    struct control *control = call->control;
    call->err = trim_slice(control->env.data, control->partition, call->items, call->count,
                           call->now_ms, call->went, &call->more);
}

static int on_trim(void *arg, uint32_t partition, const struct trim_item *items, size_t count,
                   uint64_t now_ms, struct tally went[CAUSE_COUNT], bool *more)
{
    struct control *control = arg;
    struct trim_call call = {control, items, count, now_ms, went, false, 0};
    control->partition = partition;
    control->job.call = call_trim;
    control->job.owner = &call;
    int err = ask_loop(control, ASK_CALL);
    *more = call.more;
    return err != 0 ? err : call.err;
}

struct seal_call {
    struct control *control;
    uint64_t index;
};

static void call_seal(struct job *job)
{
    struct seal_call *call = job->owner;
    struct control *control = call->control;
    struct apply *apply = control->env.shards[control->partition].apply;
    struct kv_batch batch;
    kv_batch_init(&batch, control->env.data);
    apply_seal(apply, &batch);
    if (kv_write(&batch) != 0)
        log_fatal("the data database can't go on; nothing acknowledged is lost: the raft log still "
                  "holds it. Check the disk, then `loquat-compact verify`",
                  kv_error());
    apply_written(apply);
    kv_batch_close(&batch);
    call->index = apply_index(apply);
}

static int on_seal(void *arg, uint32_t partition, uint64_t *index)
{
    struct control *control = arg;
    struct seal_call call = {control, 0};
    control->partition = partition;
    control->job.call = call_seal;
    control->job.owner = &call;
    int err = ask_loop(control, ASK_CALL);
    *index = call.index;
    return err;
}

static uint64_t on_room(void *arg)
{
    const struct control *control = arg;
    return datadir_free_bytes(control->env.dir);
}

static int on_index(void *arg, const Loquat__Control *ask, bool all, uint64_t *segments)
{
    struct control *control = arg;
    struct indexer_again again = {all,       ask->convs,  ask->n_convs, clock_wall_ms(),
                                  ask->rate, on_progress, control,      0};
    int err = indexer_again(control->env.indexer, &again);
    *segments = again.segments;
    return err;
}

static const struct keeper_ops keeper_ops = {
    .progress = on_progress,
    .retain = on_retain,
    .trim = on_trim,
    .seal = on_seal,
    .room = on_room,
    .index = on_index,
};

static void *work(void *arg)
{
    struct control *control = arg;
    struct arena arena;
    arena_init(&arena);
    if (setpriority(PRIO_PROCESS, 0, KEEPER_NICE) != 0) /* this thread alone, on Linux */
        log_debug("the keeper keeps its priority");
    const Loquat__Control *ask = loquat__control__unpack(&arena.allocator, control->request.n,
                                                         (const uint8_t *)control->request.p);
    ASSERT(ask != NULL); /* the loop has unpacked it before */
    struct keeper keeper = {
        .kv = control->env.data,
        .partitions = control->env.partitions,
        .now_ms = clock_wall_ms(),
        .filter = control->env.filter,
        .ops = &keeper_ops,
        .arg = control,
    };
    int err = keeper_do(&keeper, ask, &control->report);
    if (err != ERR_CLOSED && err_http(err) >= 500)
        log_warn("a job of loquat-compact failed", {"err", log_str(err_name(err))});
    arena_close(&arena);
    metric_add(&jobs[err == 0 ? 0 : err == ERR_CLOSED ? 1 : 2], 1);
    pthread_mutex_lock(&control->mutex);
    control->finished = true;
    control->at = control->all = 0;
    uv_async_send(&control->async);
    pthread_mutex_unlock(&control->mutex);
    return NULL;
}

/* ---- on the loop: what the thread asked for ---- */

static void answered(struct control *control)
{
    pthread_mutex_lock(&control->mutex);
    control->ask = ASK_NONE;
    control->taken = false;
    pthread_cond_signal(&control->cond);
    pthread_mutex_unlock(&control->mutex);
}

void control_answer(struct control *control, const struct apply_result *result)
{
    ASSERT(control->waiting > 0);
    if (result->err != 0 && result->err != ERR_NOT_FOUND && control->err == 0)
        control->err = result->err;
    if (--control->waiting == 0)
        answered(control);
}

static void start_retains(struct control *control)
{
    struct shard *shard = &control->env.shards[control->partition];
    struct buf bytes = {0};
    control->waiting = 1;                        /* until all are handed over */
    bool elsewhere = shard_led_elsewhere(shard); /* that node raises these floors */
    for (size_t i = 0; i < control->retain_count && !elsewhere; i++) {
        Loquat__Command command = LOQUAT__COMMAND__INIT;
        command.op = LOQUAT__OP__OP_RETAIN;
        command.admin = true;
        command.conv = (char *)(uintptr_t)control->retains[i].conv;
        command.floor = control->retains[i].floor;
        bytes.n = 0;
        command_pack(&command, &bytes);
        int err = shard_write(shard, buf_span(&bytes),
                              (struct waiter){.kind = WAITER_CONTROL, .owner = control});
        if (err == 0)
            control->waiting++;
        else
            control->err = err;
    }
    buf_close(&bytes);
    control_answer(control, &(struct apply_result){0});
}

static void on_called(struct job *job)
{
    answered(container_of(job, struct control, job));
}

static void start_call(struct control *control)
{
    control->job.kind = JOB_CALL;
    control->job.done = on_called;
    applier_push(control->env.applier, &control->job);
}

/* ---- reports ---- */

static void send_progress(struct client *client, const char *phase, uint64_t at, uint64_t all)
{
    Loquat__Report report = LOQUAT__REPORT__INIT;
    report.phase = (char *)(uintptr_t)phase;
    report.at = at;
    report.all = all;
    char *room =
        link_send_begin(&client->link, LINK_REPORT, loquat__report__get_packed_size(&report));
    if (room != NULL)
        loquat__report__pack(&report, (uint8_t *)room);
}

static void send_refusal(struct client *client, int err, const char *msg)
{
    Loquat__Report report = LOQUAT__REPORT__INIT;
    report.done = true;
    report.err = err;
    report.msg = (char *)(uintptr_t)msg;
    char *room =
        link_send_begin(&client->link, LINK_REPORT, loquat__report__get_packed_size(&report));
    if (room != NULL)
        loquat__report__pack(&report, (uint8_t *)room);
}

static void finish(struct control *control)
{
    int rv = pthread_join(control->thread, NULL);
    ASSERT(rv == 0);
    control->working = false;
    if (control->owner != NULL)
        link_send(&control->owner->link, LINK_REPORT, buf_span(&control->report));
    control->owner = NULL;
    buf_close(&control->request);
    buf_close(&control->report);
}

static void on_async(uv_async_t *async)
{
    struct control *control = async->data;
    pthread_mutex_lock(&control->mutex);
    enum ask ask = control->taken ? ASK_NONE : control->ask;
    control->taken = control->ask != ASK_NONE;
    bool finished = control->finished, due = control->progress_due;
    const char *phase = control->phase;
    uint64_t at = control->at, all = control->all;
    control->finished = control->progress_due = false;
    pthread_mutex_unlock(&control->mutex);
    if (due && control->owner != NULL)
        send_progress(control->owner, phase, at, all);
    if (ask == ASK_RETAIN)
        start_retains(control);
    else if (ask == ASK_CALL)
        start_call(control);
    if (finished)
        finish(control);
}

/* ---- links ---- */

static void on_request(struct client *client, struct span body)
{
    struct control *control = client->control;
    Loquat__Control *ask = loquat__control__unpack(NULL, body.n, (const uint8_t *)body.p);
    if (ask == NULL) {
        link_close(&client->link, ERR_CORRUPT);
        return;
    }
    loquat__control__free_unpacked(ask, NULL);
    if (control->working || control->closing) {
        if (!control->closing)
            bound_hit(BOUND_CONTROL_JOBS);
        send_refusal(client, ERR_BUSY,
                     control->closing ? "the node is stopping"
                                      : "another loquat-compact is at work on this node");
        return;
    }
    buf_add_span(&control->request, body);
    control->owner = client;
    control->working = true;
    atomic_store(&control->cancelled, false);
    if (pthread_create(&control->thread, NULL, work, control) == 0)
        return;
    control->working = false;
    control->owner = NULL;
    buf_close(&control->request);
    send_refusal(client, ERR_UNAVAILABLE, "the node gets no thread to do it; try again later");
}

static void on_message(struct link *link, int type, struct span body)
{
    struct client *client = container_of(link, struct client, link);
    if (type == LINK_CONTROL)
        on_request(client, body);
    else
        link_close(link, ERR_CORRUPT);
}

static void on_close(struct link *link, int err)
{
    (void)err;
    struct client *client = container_of(link, struct client, link);
    struct control *control = client->control;
    if (control->owner == client) {
        control->owner = NULL;
        atomic_store(&control->cancelled, true);
    }
    list_remove(&client->in_control);
    control->client_count--;
    free(client);
}

static const struct link_ops link_ops = {.on_message = on_message, .on_close = on_close};

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct control *control = poll->data;
    if (status < 0)
        return;
    int fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && control->spare >= 0) {
        close(control->spare);
        fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return;
    }
    if (fd < 0)
        return; /* gone again */
    if (control->client_count == CONTROL_CLIENTS_MAX) {
        bound_hit(BOUND_CONTROL_LINKS);
        close(fd);
        return;
    }
    struct client *client = xcalloc(1, sizeof *client);
    client->control = control;
    list_push(&control->clients, &client->in_control);
    control->client_count++;
    if (link_open_fd(&client->link, control->env.loop, fd, &link_ops) != 0)
        log_warn("a control link could not be opened"); /* on_close frees the client */
}

/* ---- the socket ---- */

static const char SOCKET_NAME[] = "control.sock";

/* Paths of sockets are short; through its descriptor a directory's is. */
static int make_address(const char *dir, struct sockaddr_un *address, int *dir_fd)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    *dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return -1;
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", *dir_fd,
             SOCKET_NAME);
    return 0;
}

static int listen_at(struct control *control)
{
    struct sockaddr_un address;
    if (make_address(control->env.dir, &address, &control->dir_fd) != 0)
        return -1;
    if (unlinkat(control->dir_fd, SOCKET_NAME, 0) != 0 && errno != ENOENT)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* Nobody can connect before listen, so the mode is right before it matters. */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        fchmodat(control->dir_fd, SOCKET_NAME, 0600, 0) == 0 &&
        listen(fd, CONTROL_CLIENTS_MAX) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

struct control *control_start(const struct control_env *env)
{
    static bool registered;
    for (size_t i = 0; !registered && i < sizeof jobs / sizeof *jobs; i++)
        metric_register(&jobs[i]);
    registered = true;
    struct control *control = xcalloc(1, sizeof *control);
    control->env = *env;
    control->dir_fd = -1;
    control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    list_init(&control->clients);
    pthread_mutex_init(&control->mutex, NULL);
    pthread_cond_init(&control->cond, NULL);
    uv_async_init(env->loop, &control->async, on_async);
    control->async.data = control;
    control->listener = listen_at(control);
    if (control->listener < 0) {
        log_warn("no control socket: loquat-compact can't speak to this node while it runs",
                 {"dir", log_str(env->dir)}, {"why", log_str(strerror(errno))});
        return control;
    }
    uv_poll_init(env->loop, &control->poll, control->listener);
    control->poll.data = control;
    uv_poll_start(&control->poll, UV_READABLE, on_acceptable);
    return control;
}

void control_close(struct control *control)
{
    if (control->closing)
        return;
    control->closing = true;
    atomic_store(&control->cancelled, true);
    if (control->listener >= 0) {
        uv_close((uv_handle_t *)&control->poll, NULL);
        if (unlinkat(control->dir_fd, SOCKET_NAME, 0) != 0)
            log_debug("the control socket was gone already");
    }
    for (struct list_link *link = list_first(&control->clients); link != NULL;
         link = list_next(&control->clients, link))
        link_close(&container_of(link, struct client, in_control)->link, ERR_CLOSED);
}

struct control_state control_state(struct control *control)
{
    struct control_state state = {.working = control->working};
    pthread_mutex_lock(&control->mutex);
    state.at = control->at;
    state.all = control->all;
    pthread_mutex_unlock(&control->mutex);
    return state;
}

bool control_idle(const struct control *control)
{
    return !control->working && control->client_count == 0;
}

void control_stop(struct control *control)
{
    ASSERT(control->closing && control_idle(control));
    uv_close((uv_handle_t *)&control->async, NULL);
}

void control_free(struct control *control)
{
    if (control->listener >= 0)
        close(control->listener);
    if (control->dir_fd >= 0)
        close(control->dir_fd);
    if (control->spare >= 0)
        close(control->spare);
    pthread_mutex_destroy(&control->mutex);
    pthread_cond_destroy(&control->cond);
    buf_close(&control->request);
    buf_close(&control->report);
    free(control);
}

int control_connect(const char *dir)
{
    struct sockaddr_un address;
    int dir_fd = -1, fd = -1;
    if (make_address(dir, &address, &dir_fd) == 0)
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int why = errno;
        close(fd);
        fd = -1;
        errno = why;
    }
    int why = errno;
    if (dir_fd >= 0)
        close(dir_fd);
    errno = why;
    return fd;
}
