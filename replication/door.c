#include "replication/door.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/metrics.h"

enum { WARN_MS = 5000, WHY_SIZE = 256 };

struct door {
    uv_loop_t *loop;
    uv_poll_t listener;
    uv_timer_t timer;
    int fd;
    struct span secret;
    struct tls *tls;
    uint64_t steps_ms; /* of TLS: how many were taken in this millisecond */
    int steps;
    struct list callers; /* who has been there longest comes first */
    size_t caller_count;
    int handles; /* of the door and of callers, still open */
    bool closing;
    uint64_t open_at_ms, warn_at_ms, refused; /* refused: since the last warning */
    void (*on_proved)(void *arg, enum handshake_role role, struct line line);
    void *arg;
};

struct caller {
    struct door *door;
    struct list_link in_door;
    uv_poll_t poll;
    struct line line;
    bool proved;
    uint64_t until_ms;
    struct handshake handshake;
};

static struct metric let_in = {.name = "loquat_links_accepted_total",
                               .help = "Links of gateways and nodes that have proved themselves",
                               .type = METRIC_COUNTER};
static struct metric refused = {.name = "loquat_links_refused_total",
                                .help = "Connections of callers that have not proved themselves",
                                .type = METRIC_COUNTER};

/* ---- callers ---- */

static void on_caller_closed(uv_handle_t *handle)
{
    struct caller *caller = container_of((uv_poll_t *)handle, struct caller, poll);
    struct door *door = caller->door;
    door->handles--;
    if (caller->proved && !door->closing) {
        metric_add(&let_in, 1);
        door->on_proved(door->arg, handshake_other(&caller->handshake), caller->line);
    } else {
        line_close(&caller->line);
    }
    free(caller);
}

/* The descriptor is free for another owner only when libuv has let go of it. */
static void end_caller(struct caller *caller)
{
    list_remove(&caller->in_door);
    caller->door->caller_count--;
    uv_close((uv_handle_t *)&caller->poll, on_caller_closed);
}

static const char *reason(const struct caller *caller, int err, char *why, size_t size)
{
    bool tls = caller->door->tls != NULL;
    if (line_why(&caller->line, why, size))
        return why;
    if (tls && caller->line.tls == NULL && err == ERR_CORRUPT)
        return "it does not speak TLS, and this node does: start it with --tls-cert, --tls-key and "
               "--tls-ca, a gateway with --cluster-tls-cert and so on";
    if (!tls && err == ERR_CORRUPT && handshake_met_tls(&caller->handshake))
        return "it speaks TLS, and this node does not: start this one with --tls-cert, --tls-key "
               "and --tls-ca";
    return err == ERR_UNAUTHORIZED ? "it has another cluster secret"
           : err == ERR_AGAIN      ? "it said nothing in time"
           : err == ERR_BUSY       ? "others came meanwhile"
           : err == ERR_CLOSED     ? "it hung up"
                                   : "it is no gateway and no node";
}

/* Said at most now and then, however many come: nobody fills the log from outside. */
static void refuse(struct caller *caller, int err)
{
    struct door *door = caller->door;
    uint64_t now = uv_now(door->loop);
    metric_add(&refused, 1);
    door->refused++;
    if (now >= door->warn_at_ms) {
        char why[WHY_SIZE];
        log_warn("a caller was refused: it did not prove that it belongs to the cluster",
                 {"why", log_str(reason(caller, err, why, sizeof why))},
                 {"err", log_str(err_name(err))}, {"refused", log_int((int64_t)door->refused)});
        door->warn_at_ms = now + WARN_MS;
        door->refused = 0;
    }
    end_caller(caller);
}

/* Whoever begins with anything else gets no word, and nothing is made for him. */
static int begin_tls(struct caller *caller)
{
    char first = 0;
    ssize_t n = recv(caller->line.fd, &first, 1, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n != 1)
        return ERR_CLOSED;
    if (first != TLS_FIRST_BYTE)
        return ERR_CORRUPT;
    caller->line.tls = tls_accept(caller->door->tls);
    return caller->line.tls != NULL ? 1 : ERR_NOMEM;
}

/* Who must wait is asked again in the next turn. */
static bool may_step(struct door *door)
{
    uint64_t now = uv_now(door->loop);
    if (door->steps_ms != now)
        door->steps = 0;
    door->steps_ms = now;
    if (door->steps++ < DOOR_STEPS_MAX)
        return true;
    bound_hit(BOUND_LINK_STEPS);
    return false;
}

static int step(struct caller *caller)
{
    struct door *door = caller->door;
    int rv = 1;
    if (door->tls != NULL && caller->line.tls == NULL)
        rv = begin_tls(caller);
    if (rv == 1 && door->tls != NULL && !may_step(door))
        rv = 0;
    return rv == 1 ? handshake_step(&caller->handshake, &caller->line) : rv;
}

static void on_caller(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct caller *caller = container_of(poll, struct caller, poll);
    int err = step(caller); /* of one that was reset, too: what it said before can still be read */
    if (status < 0 && err == 0)
        err = ERR_CLOSED;
    if (err < 0) {
        refuse(caller, err);
    } else if (err > 0) {
        caller->proved = true;
        end_caller(caller);
    }
}

static void begin(struct door *door, int fd)
{
    if (door->caller_count == DOOR_CALLERS_MAX) {
        bound_hit(BOUND_CALLERS);
        refuse(container_of(list_first(&door->callers), struct caller, in_door), ERR_BUSY);
    }
    struct caller *caller = xcalloc(1, sizeof *caller);
    caller->door = door;
    caller->line.fd = fd;
    caller->until_ms = uv_now(door->loop) + HANDSHAKE_MS_MAX;
    handshake_tune(fd);
    handshake_begin(&caller->handshake, false, HANDSHAKE_NODE, HANDSHAKE_ANY, door->secret);
    int rv = uv_poll_init(door->loop, &caller->poll, fd);
    ASSERT(rv == 0);
    door->handles++;
    uv_poll_start(&caller->poll, UV_READABLE, on_caller);
    list_push(&door->callers, &caller->in_door);
    door->caller_count++;
}

/* ---- the door ---- */

static void on_listener(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct door *door = container_of(poll, struct door, listener);
    for (int i = 0; i < DOOR_ACCEPTS_MAX && status == 0; i++) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            begin(door, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            bound_hit(BOUND_LINK_FILES);
            log_warn("no more links can be taken just now", {"errno", log_int(errno)});
            uv_poll_stop(&door->listener);
            door->open_at_ms = uv_now(door->loop) + DOOR_PAUSE_MS;
        }
        return; /* none left, or one that went away */
    }
}

static void on_sweep(uv_timer_t *timer)
{
    struct door *door = container_of(timer, struct door, timer);
    uint64_t now = uv_now(door->loop);
    struct list_link *link;
    while ((link = list_first(&door->callers)) != NULL) {
        struct caller *caller = container_of(link, struct caller, in_door);
        if (caller->until_ms > now)
            break;
        refuse(caller, ERR_AGAIN);
    }
    if (door->open_at_ms != 0 && now >= door->open_at_ms) {
        door->open_at_ms = 0;
        uv_poll_start(&door->listener, UV_READABLE, on_listener);
    }
}

struct door *door_new(uv_loop_t *loop, int fd, struct span secret, struct tls *tls,
                      void (*on_proved)(void *arg, enum handshake_role role, struct line line),
                      void *arg)
{
    static bool registered;
    if (!registered) {
        registered = true;
        metric_register(&let_in);
        metric_register(&refused);
    }
    struct door *door = xcalloc(1, sizeof *door);
    *door = (struct door){.loop = loop,
                          .fd = fd,
                          .secret = secret,
                          .tls = tls,
                          .on_proved = on_proved,
                          .arg = arg,
                          .handles = 2};
    list_init(&door->callers);
    int rv = uv_poll_init(loop, &door->listener, fd);
    ASSERT(rv == 0);
    uv_timer_init(loop, &door->timer);
    return door;
}

void door_open(struct door *door)
{
    if (door == NULL)
        return;
    uv_poll_start(&door->listener, UV_READABLE, on_listener);
    uv_timer_start(&door->timer, on_sweep, DOOR_SWEEP_MS, DOOR_SWEEP_MS);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct door *door = container_of((uv_poll_t *)handle, struct door, listener);
    close(door->fd);
    door->handles--;
}

static void on_timer_closed(uv_handle_t *handle)
{
    container_of((uv_timer_t *)handle, struct door, timer)->handles--;
}

void door_close(struct door *door)
{
    if (door == NULL || door->closing)
        return;
    door->closing = true;
    struct list_link *link;
    while ((link = list_first(&door->callers)) != NULL)
        end_caller(container_of(link, struct caller, in_door));
    shutdown(door->fd, SHUT_RDWR); /* who comes now is refused, not kept waiting */
    uv_close((uv_handle_t *)&door->listener, on_listener_closed);
    uv_close((uv_handle_t *)&door->timer, on_timer_closed);
}

size_t door_callers(const struct door *door)
{
    return door != NULL ? door->caller_count : 0;
}

bool door_idle(const struct door *door)
{
    return door == NULL || door->handles == 0;
}

void door_free(struct door *door)
{
    ASSERT(door_idle(door));
    free(door);
}
