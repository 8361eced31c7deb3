#include "store/base/dial.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum { DOUBLINGS_MAX = 16, QUIET_TRIES = 3 };

/* ---- when ---- */

static void on_timer(uv_timer_t *timer);

static uint64_t wait_ms(const struct dial *dial)
{
    unsigned doublings = dial->tries < DOUBLINGS_MAX ? dial->tries : DOUBLINGS_MAX;
    uint64_t most = (uint64_t)DIAL_WAIT_MIN_MS << doublings;
    if (most > DIAL_WAIT_MAX_MS)
        most = DIAL_WAIT_MAX_MS;
    return most / 2 + random_u64() % (most / 2 + 1);
}

static void wait_and_try(struct dial *dial)
{
    dial->state = DIAL_WAITING;
    uv_timer_start(&dial->timer, on_timer, wait_ms(dial), 0);
    dial->tries++;
}

/* Not each of many tries: a node that restarts is a matter of a few. */
static void say_failed(const struct dial *dial, const char *why)
{
    if (dial->tries == QUIET_TRIES || dial->tries % DOUBLINGS_MAX == 0)
        log_warn("the node is not reached; it is tried again and again",
                 {"node", log_str(dial->target->name)}, {"why", log_str(why)},
                 {"tries", log_int(dial->tries)});
}

static const char *reason(int err)
{
    switch (err) {
    case ERR_UNAUTHORIZED:
        return "what answers there has another cluster secret";
    case ERR_CLOSED:
        return "it hung up: is its cluster secret another, or is it no loquat-node?";
    case ERR_FORBIDDEN:
    case ERR_CORRUPT:
        return "what answers there is no loquat-node";
    case ERR_VERSION:
        return "it speaks another version of the handshake";
    case ERR_AGAIN:
        return "no answer in time";
    default:
        return "it does not take connections";
    }
}

/* ---- the steps ---- */

static void stopped(struct dial *dial)
{
    if (!dial->timer_closed || dial->resolving || dial->state == DIAL_LETTING_GO ||
        dial->state == DIAL_STOPPED)
        return;
    dial->state = DIAL_STOPPED;
    dial->on_stopped(dial->arg);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct dial *dial = container_of((uv_poll_t *)handle, struct dial, poll);
    int fd = dial->fd;
    dial->fd = -1;
    dial->state = DIAL_RESTING;
    if (dial->err != 0 || dial->stopping)
        close(fd);
    if (dial->stopping) {
        stopped(dial);
    } else if (dial->err != 0) {
        say_failed(dial, reason(dial->err));
        wait_and_try(dial);
    } else {
        dial->on_link(dial->arg, fd);
    }
}

/* The descriptor is free for another owner only when libuv has let go of it. */
static void let_go(struct dial *dial, int err)
{
    dial->err = err;
    dial->state = DIAL_LETTING_GO;
    uv_timer_stop(&dial->timer);
    uv_close((uv_handle_t *)&dial->poll, on_poll_closed);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct dial *dial = container_of(poll, struct dial, poll);
    int err = status < 0 ? ERR_IO : 0;
    if (err == 0 && dial->state == DIAL_CONNECTING) {
        int failed = 0;
        socklen_t size = sizeof failed;
        if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0 || failed != 0)
            err = ERR_IO;
        dial->state = DIAL_PROVING;
        handshake_begin(&dial->handshake, true, dial->target->role, HANDSHAKE_NODE,
                        dial->target->secret);
        uv_poll_start(poll, UV_READABLE, on_poll);
    }
    if (err == 0)
        err = handshake_step(&dial->handshake, dial->fd);
    if (err != 0)
        let_go(dial, err < 0 ? err : 0);
}

static void connect_to(struct dial *dial, const struct addrinfo *at)
{
    dial->fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd >= 0 && connect(dial->fd, at->ai_addr, at->ai_addrlen) != 0 &&
        errno != EINPROGRESS) {
        close(dial->fd);
        dial->fd = -1;
    }
    if (dial->fd < 0) {
        say_failed(dial, strerror(errno));
        wait_and_try(dial);
        return;
    }
    handshake_tune(dial->fd);
    int rv = uv_poll_init(dial->loop, &dial->poll, dial->fd);
    ASSERT(rv == 0);
    uv_poll_start(&dial->poll, UV_WRITABLE, on_poll);
    dial->state = DIAL_CONNECTING;
    uv_timer_start(&dial->timer, on_timer, DIAL_TRY_MS, 0);
}

/* Of several addresses each has its turn. */
static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct dial *dial = container_of(req, struct dial, resolve);
    dial->resolving = false;
    if (dial->stopping) {
        stopped(dial);
    } else if (status != 0) {
        say_failed(dial, uv_strerror(status));
        wait_and_try(dial);
    } else {
        const struct addrinfo *at = found;
        for (unsigned skip = dial->tries; skip > 0; skip--)
            at = at->ai_next != NULL ? at->ai_next : found;
        connect_to(dial, at);
    }
    uv_freeaddrinfo(found);
}

static void resolve(struct dial *dial)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    dial->state = DIAL_RESOLVING;
    dial->resolving = true;
    int rv = uv_getaddrinfo(dial->loop, &dial->resolve, on_resolved, dial->target->address.host,
                            dial->target->address.port, &hints);
    if (rv != 0) { /* a name that can't be one */
        dial->resolving = false;
        say_failed(dial, uv_strerror(rv));
        wait_and_try(dial);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct dial *dial = container_of(timer, struct dial, timer);
    if (dial->state == DIAL_WAITING)
        resolve(dial);
    else if (dial->state == DIAL_CONNECTING || dial->state == DIAL_PROVING)
        let_go(dial, ERR_AGAIN);
}

/* ---- begin and end ---- */

void dial_init(struct dial *dial, uv_loop_t *loop, const struct dial_target *target,
               void (*on_link)(void *arg, int fd), void (*on_stopped)(void *arg), void *arg)
{
    *dial = (struct dial){.target = target,
                          .loop = loop,
                          .fd = -1,
                          .on_link = on_link,
                          .on_stopped = on_stopped,
                          .arg = arg};
    uv_timer_init(loop, &dial->timer);
}

void dial_start(struct dial *dial)
{
    if (dial->stopping || dial->state != DIAL_RESTING)
        return;
    if (dial->tries == 0) { /* the first time there is nobody to be spared */
        dial->tries++;
        resolve(dial);
    } else {
        wait_and_try(dial);
    }
}

void dial_worked(struct dial *dial)
{
    dial->tries = 1;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct dial *dial = container_of((uv_timer_t *)handle, struct dial, timer);
    dial->timer_closed = true;
    stopped(dial);
}

void dial_stop(struct dial *dial)
{
    if (dial->stopping)
        return;
    dial->stopping = true;
    uv_close((uv_handle_t *)&dial->timer, on_timer_closed);
    if (dial->resolving)
        (void)uv_cancel((uv_req_t *)&dial->resolve); /* may be under way: then it is waited for */
    if (dial->state == DIAL_CONNECTING || dial->state == DIAL_PROVING) {
        dial->err = ERR_CLOSED;
        dial->state = DIAL_LETTING_GO;
        uv_close((uv_handle_t *)&dial->poll, on_poll_closed);
    }
}
