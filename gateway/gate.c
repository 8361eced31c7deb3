#include "gateway/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/conn.h"
#include "gateway/follow.h"
#include "gateway/gate_gauges.h"
#include "gateway/marks.h"
#include "gateway/presence.h"
#include "gateway/proto.h"
#include "gateway/secure.h"
#include "gateway/seen.h"
#include "gateway/session.h"
#include "gateway/turn.h"
#include "gateway/typing.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/process.h"
#include "store/base/thread.h"

enum { ACCEPT_PAUSE_MS = 200, HOARD_PAUSE_MS = 20, INNER_BYTES_MAX = 1 << 20 };

static struct metric accepted = {.name = "loquat_connections_accepted_total",
                                 .help = "Connections of clients that were taken",
                                 .type = METRIC_COUNTER};
static struct metric refused = {.name = "loquat_connections_refused_total",
                                .help = "Connections that were closed at once: too many",
                                .type = METRIC_COUNTER};
static struct metric expired = {.name = "loquat_connections_timed_out_total",
                                .help = "Connections closed because a deadline passed",
                                .type = METRIC_COUNTER};

static struct metric hoarders = {.name = "loquat_connections_hoarding_total",
                                 .help = "Connections cut for what waited to be read by them",
                                 .type = METRIC_COUNTER};

void gate_metrics(void)
{
    metric_register(&hoarders);
    metric_register(&accepted);
    metric_register(&refused);
    metric_register(&expired);
    proto_metrics();
    fanout_metrics();
    follow_metrics();
    gate_gauges_register();
    process_metrics();
}

/* ---- accepting ---- */

static void stop_accepting(struct gate *gate)
{
    uv_poll_stop(&gate->listener);
    if (gate->admin_fd >= 0)
        uv_poll_stop(&gate->admin_listener);
    gate->accepting = false;
}

static void accept_all(struct gate *gate, int listen_fd, bool admin)
{
    for (int i = 0; i < GATE_ACCEPTS_MAX; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
                return; /* none left, or one that went away */
            bound_hit(BOUND_CONN_FILES);
            log_warn("no more connections can be taken just now", {"errno", log_int(errno)},
                     {"open", log_int((int64_t)gate->conn_count)});
            stop_accepting(gate);
            gate->accept_at_ms = gate->now_ms + ACCEPT_PAUSE_MS;
            return;
        }
        if (gate->conn_count >= gate->settings->conns_max && !admin) {
            metric_add(&refused, 1);
            close(fd);
            continue;
        }
        metric_add(&accepted, 1);
        conn_open(gate, fd, admin);
    }
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct gate *gate = poll->data;
    gate->now_ms = uv_now(&gate->loop);
    if (status == 0 && gate->state == GATE_SERVING)
        accept_all(gate, poll == &gate->listener ? gate->listen_fd : gate->admin_fd,
                   poll != &gate->listener);
}

static void start_accepting(struct gate *gate)
{
    uv_poll_start(&gate->listener, UV_READABLE, on_listener);
    if (gate->admin_fd >= 0)
        uv_poll_start(&gate->admin_listener, UV_READABLE, on_listener);
    gate->accepting = true;
}

/* ---- deadlines ---- */

static void on_due(struct conn *conn)
{
    switch (conn->due_kind) {
    case DUE_PING:
        session_ping(conn);
        return;
    case DUE_AUTH:
        session_close(conn, SESSION_CLOSE_NO_AUTH, "no auth in time");
        conn_due(conn, DUE_LINGER); /* should what waits not be taken either */
        break;
    default:
        conn_abort(conn);
    }
    metric_add(&expired, 1);
}

static void sweep_due(struct gate *gate)
{
    for (int kind = 0; kind < DUE_NONE; kind++) {
        struct list_link *link;
        while ((link = list_first(&gate->due[kind])) != NULL) {
            struct conn *conn = container_of(link, struct conn, in_due);
            if (conn->due_ms > gate->now_ms)
                break;
            on_due(conn);
        }
    }
}

static void sweep_second(const struct list *expiring, uint64_t wall_ms)
{
    for (struct list_link *link = list_first(expiring), *next; link != NULL; link = next) {
        struct session *session = container_of(link, struct session, in_expiring);
        next = list_next(expiring, link);
        if (session->closes_ms > wall_ms)
            continue; /* in another round */
        list_remove(link);
        if (session->stream)
            conn_close_soon(session->conn);
        else
            session_close(session->conn, SESSION_CLOSE_EXPIRED, "the token has expired");
    }
}

/* The seconds that have come since the last time, this one again and again. */
static void sweep_tokens(struct gate *gate)
{
    uint64_t wall_ms = clock_wall_ms(), now_s = wall_ms / 1000, s = gate->expiry_s;
    if (s > now_s || now_s - s >= GATE_EXPIRY_SLOTS) /* the clock was set */
        s = now_s - GATE_EXPIRY_SLOTS + 1;
    for (; s <= now_s; s++)
        sweep_second(&gate->expiring[s % GATE_EXPIRY_SLOTS], wall_ms);
    gate->expiry_s = now_s;
}

static void sweep_sessions(struct gate *gate)
{
    struct list_link *link;
    while (cluster_ready(&gate->cluster) && (link = list_first(&gate->marking)) != NULL) {
        struct session *session = container_of(link, struct session, in_marking);
        if (session->marks_due_ms > gate->now_ms)
            break;
        marks_write(session);
    }
    struct list again;
    list_init(&again);
    while ((link = list_pop(&gate->hungry)) != NULL)
        list_push(&again, link);
    while ((link = list_pop(&again)) != NULL) {
        struct session *session = container_of(link, struct session, in_hungry);
        follow_catch_up(session);
        marks_find(session);
    }
    marks_again(gate);
    presence_sweep(gate);
    seen_sweep(gate);
}

/* Many clients that ask and do not read what they get. */
static void sweep_hoarders(struct gate *gate)
{
    gate->hoard_at_ms = gate->now_ms + HOARD_PAUSE_MS;
    for (struct list_link *link = list_first(&gate->conns), *next; link != NULL; link = next) {
        struct conn *conn = container_of(link, struct conn, in_gate);
        next = list_next(&gate->conns, link);
        if (conn->stuck && conn->out.bytes > CONN_OUT_HIGH && gate->out_pool.bytes > GATE_OUT_MAX) {
            metric_add(&hoarders, 1);
            conn_abort(conn);
        }
    }
}

/* ---- the loop's state ---- */

static void close_handles(struct gate *gate);

static void say_goodbye(struct gate *gate)
{
    for (struct list_link *link = list_first(&gate->conns), *next; link != NULL; link = next) {
        struct conn *conn = container_of(link, struct conn, in_gate);
        next = list_next(&gate->conns, link);
        if (conn->phase == CONN_WS)
            session_goodbye(conn);
        else if (conn->phase == CONN_HTTP && (!conn->busy || conn->session != NULL))
            conn_close_soon(conn);
        conn_settle(conn);
    }
}

/* Each is closed when what it asked for has been answered. */
static void drain_answered(struct gate *gate)
{
    for (struct list_link *link = list_first(&gate->conns), *next; link != NULL; link = next) {
        struct conn *conn = container_of(link, struct conn, in_gate);
        next = list_next(&gate->conns, link);
        if (gate->now_ms >= gate->drain_until_ms) {
            conn_abort(conn);
        } else if (conn->phase == CONN_WS && conn->refs == 1 && !conn->close_soon) {
            if (conn->session->mark_count > 0)
                marks_write(conn->session);
            else
                session_close(conn, SESSION_CLOSE_RESTART, "restart");
        }
    }
}

static void gate_tick(struct gate *gate)
{
    enum gate_state before;
    do {
        before = gate->state;
        switch (gate->state) {
        case GATE_STARTING:
            if (gate->drain_asked) {
                gate->state = GATE_CLOSING;
                cluster_close(&gate->cluster);
            } else if (cluster_ready(&gate->cluster)) {
                gate->state = GATE_SERVING;
                start_accepting(gate);
            }
            break;
        case GATE_SERVING:
            if (gate->drain_asked) {
                gate->state = GATE_DRAINING;
                stop_accepting(gate);
                shutdown(gate->listen_fd,
                         SHUT_RDWR); /* who comes now is refused, not kept waiting */
                gate->drain_until_ms = gate->now_ms + GATE_DRAIN_MS;
                say_goodbye(gate);
            }
            break;
        case GATE_DRAINING:
            drain_answered(gate);
            if (gate->conn_count == 0 &&
                (cluster_calls(&gate->cluster) == 0 || gate->now_ms >= gate->drain_until_ms)) {
                gate->state = GATE_CLOSING;
                cluster_close(&gate->cluster);
            }
            break;
        case GATE_CLOSING:
            if (cluster_closed(&gate->cluster) && !gate->ended) {
                gate->ended = true;
                close_handles(gate);
            }
            break;
        }
    } while (gate->state != before);
    atomic_store(&gate->phase, (int)gate->state);
}

/* ---- the loop's callbacks ---- */

static void on_prepare(uv_prepare_t *prepare)
{
    struct gate *gate = prepare->data;
    gate->now_ms = uv_now(&gate->loop);
    gate->handshakes = 0;
    if (gate->state == GATE_DRAINING)
        gate_tick(gate);
    turn_write(gate);
    if (gate->out_pool.bytes > GATE_OUT_MAX && gate->now_ms >= gate->hoard_at_ms)
        sweep_hoarders(gate);
    pace_turn(&gate->pace, &gate->loop);
}

static void on_check(uv_check_t *check)
{
    turn_read(check->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct gate *gate = timer->data;
    gate->now_ms = uv_now(&gate->loop);
    gate_gauges_take(gate);
    cluster_tick(&gate->cluster);
    if (gate->state == GATE_SERVING || gate->state == GATE_DRAINING) {
        sweep_due(gate);
        sweep_tokens(gate);
        sweep_sessions(gate);
    }
    if (gate->state == GATE_SERVING && !gate->accepting && gate->now_ms >= gate->accept_at_ms)
        start_accepting(gate);
    gate_tick(gate);
}

static void on_async(uv_async_t *async)
{
    struct gate *gate = async->data;
    gate->drain_asked = true;
    gate_tick(gate);
}

static void on_tail(void *arg, const Loquat__Tail *tail)
{
    fanout_on_tail(&((struct gate *)arg)->fanout, tail);
}

static void on_presence(void *arg, const Loquat__Presence *presence)
{
    presence_take(arg, presence);
}

static void on_typing(void *arg, const Loquat__Typing *typing)
{
    typing_take(arg, typing);
}

static void on_mark(void *arg, const Loquat__MarkEvent *mark)
{
    fanout_on_mark(&((struct gate *)arg)->fanout, mark);
}

static void on_routed(void *arg, const bool *partitions)
{
    fanout_go_on(&((struct gate *)arg)->fanout, partitions);
    presence_go_on(arg, partitions);
}

/* When the store goes, sessions stay: what they follow goes on from where it was when it is back.
 * */
static void on_change(void *arg)
{
    struct gate *gate = arg;
    bool ready = cluster_ready(&gate->cluster);
    if (!ready && cluster_inside(&gate->cluster) && gate->state == GATE_STARTING)
        log_fatal("the store has gone before it could be used", ""); /* nobody brings it back */
    if (gate->reached && !ready && gate->state != GATE_CLOSING)
        log_error("the store has gone: nothing can be written or read");
    if (!gate->reached && ready && gate->state == GATE_SERVING)
        log_info("the store is back", {"store", log_str(gate->cluster.name)});
    gate->reached = ready;
    gate_tick(gate);
}

static const struct cluster_ops CLUSTER_OPS = {.on_tail = on_tail,
                                               .on_mark = on_mark,
                                               .on_typing = on_typing,
                                               .on_presence = on_presence,
                                               .on_routed = on_routed,
                                               .on_change = on_change};

/* ---- begin and end ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    ((struct gate *)handle->data)->handles--;
}

static void close_handle(struct gate *gate, uv_handle_t *handle)
{
    gate->handles++;
    uv_close(handle, on_handle_closed);
}

static void close_handles(struct gate *gate)
{
    close_handle(gate, (uv_handle_t *)&gate->prepare);
    close_handle(gate, (uv_handle_t *)&gate->check);
    close_handle(gate, (uv_handle_t *)&gate->timer);
    close_handle(gate, (uv_handle_t *)&gate->async);
    close_handle(gate, (uv_handle_t *)&gate->listener);
    if (gate->admin_fd >= 0)
        close_handle(gate, (uv_handle_t *)&gate->admin_listener);
}

static void init_handles(struct gate *gate)
{
    int rv = uv_loop_init(&gate->loop);
    if (rv != 0)
        log_fatal("no event loop could be made", uv_strerror(rv));
    uv_prepare_init(&gate->loop, &gate->prepare);
    uv_check_init(&gate->loop, &gate->check);
    uv_timer_init(&gate->loop, &gate->timer);
    uv_async_init(&gate->loop, &gate->async, on_async);
    rv = uv_poll_init(&gate->loop, &gate->listener, gate->listen_fd);
    ASSERT(rv == 0);
    if (gate->admin_fd >= 0) {
        rv = uv_poll_init(&gate->loop, &gate->admin_listener, gate->admin_fd);
        ASSERT(rv == 0);
    }
    gate->prepare.data = gate->check.data = gate->timer.data = gate->async.data = gate;
    gate->listener.data = gate->admin_listener.data = gate;
    uv_prepare_start(&gate->prepare, on_prepare);
    uv_check_start(&gate->check, on_check);
    uv_timer_start(&gate->timer, on_timer, GATE_SWEEP_MS, GATE_SWEEP_MS);
    gate->now_ms = uv_now(&gate->loop);
}

struct gate *gate_new(struct settings *settings, int number, int listen_fd, int admin_fd)
{
    struct gate *gate = xcalloc(1, sizeof *gate);
    gate->settings = gate->shared = settings;
    gate->number = number;
    gate->listen_fd = listen_fd;
    gate->admin_fd = admin_fd;
    gate->in = xmalloc(GATE_IN_BYTES);
    gate->turn = turn_new(settings->io_uring);
    gate->plain = settings->tls != NULL ? xmalloc(SECURE_PLAIN_BYTES) : NULL;
    gate->ws_pool = ws_pool_new(settings->frame_max, true);
    gate->json = json_new(settings->frame_max);
    gate->inner = json_new(INNER_BYTES_MAX);
    arena_init(&gate->arena);
    list_init(&gate->conns);
    list_init(&gate->dirty);
    list_init(&gate->marking);
    for (int i = 0; i < GATE_EXPIRY_SLOTS; i++)
        list_init(&gate->expiring[i]);
    gate->expiry_s = clock_wall_ms() / 1000;
    list_init(&gate->hungry);
    for (int i = 0; i < DUE_NONE; i++)
        list_init(&gate->due[i]);
    init_handles(gate);
    fanout_init(&gate->fanout, gate);
    presence_begin(gate);
    seen_begin(gate);
    cluster_init(&gate->cluster, &gate->loop, settings->nodes, settings->node_count, &CLUSTER_OPS,
                 gate);
    if (settings->node_count == 0) {
        int fd = settings->connect(settings->connect_arg);
        if (fd < 0 || cluster_open(&gate->cluster, fd) != 0)
            log_fatal("no link to the store could be opened", "");
    }
    return gate;
}

static void *run(void *arg)
{
    struct gate *gate = arg;
    pace_open(&gate->pace, gate->settings->node_count > 0); /* not beside a node of its own */
    uv_run(&gate->loop, UV_RUN_DEFAULT);
    pace_close(&gate->pace);
    return NULL;
}

void gate_start(struct gate *gate)
{
    thread_start(&gate->thread, "gateway loop", run, gate);
}

void gate_drain(struct gate *gate)
{
    uv_async_send(&gate->async);
}

bool gate_ready(const struct gate *gate)
{
    return atomic_load(&gate->phase) == GATE_SERVING;
}

void gate_join(struct gate *gate)
{
    pthread_join(gate->thread, NULL);
    ASSERT(gate->handles == 0 && gate->conn_count == 0);
    int rv = uv_loop_close(&gate->loop);
    ASSERT(rv == 0);
    presence_end(gate);
    seen_end(gate);
    fanout_close(&gate->fanout);
    cluster_free(&gate->cluster);
    ws_pool_free(gate->ws_pool);
    json_free(gate->json);
    json_free(gate->inner);
    arena_close(&gate->arena);
    buf_close(&gate->answer);
    out_pool_close(&gate->out_pool);
    turn_free(gate->turn);
    free(gate->in);
    free(gate->plain);
    close(gate->listen_fd);
    if (gate->admin_fd >= 0)
        close(gate->admin_fd);
    free(gate);
}
