#include "store/base/dial.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum { DOUBLINGS_MAX = 16, QUIET_TRIES = 3, WHY_SIZE = 256 };

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

/* `why` has room for what TLS says. */
static const char *reason(const struct dial *dial, char *why, size_t size)
{
    if (line_why(&dial->line, why, size))
        return why;
    switch (dial->err) {
    case ERR_UNAUTHORIZED:
        return "what answers there has another cluster secret";
    case ERR_CLOSED:
        return dial->line.tls != NULL
                   ? "it hung up: is its cluster secret another?"
                   : "it hung up: is its cluster secret another, does it speak TLS only "
                     "(--tls-cert, of a gateway --cluster-tls-cert), or is it no loquat-node?";
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
    dial->state = DIAL_RESTING;
    if (dial->err == 0 && !dial->stopping) {
        struct line line = dial->line;
        dial->line = (struct line){.fd = -1};
        dial->on_link(dial->arg, line);
        return;
    }
    char why[WHY_SIZE];
    const char *text = reason(dial, why, sizeof why);
    if (!dial->stopping)
        say_failed(dial, text);
    line_close(&dial->line);
    if (dial->stopping)
        stopped(dial);
    else
        wait_and_try(dial);
}

/* The descriptor is free for another owner only when libuv has let go of it. */
static void let_go(struct dial *dial, int err)
{
    dial->err = err;
    dial->state = DIAL_LETTING_GO;
    uv_timer_stop(&dial->timer);
    uv_close((uv_handle_t *)&dial->poll, on_poll_closed);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static int begin_proving(struct dial *dial, int status)
{
    const struct dial_target *target = dial->target;
    int failed = 0;
    socklen_t size = sizeof failed;
    if (status < 0 || getsockopt(dial->line.fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0 ||
        failed != 0)
        return ERR_IO;
    dial->state = DIAL_PROVING;
    if (target->tls != NULL && (dial->line.tls = tls_connect(target->tls)) == NULL)
        return ERR_NOMEM;
    handshake_begin(&dial->handshake, true, target->role, HANDSHAKE_NODE, target->secret);
    uv_poll_start(&dial->poll, UV_READABLE, on_poll);
    return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct dial *dial = container_of(poll, struct dial, poll);
    int err = 0;
    if (dial->state == DIAL_CONNECTING)
        err = begin_proving(dial, status);
    if (err == 0)
        err = handshake_step(&dial->handshake, &dial->line); /* of one that was cut: what it said */
    if (err == 0 && status < 0)
        err = ERR_CLOSED;
    if (err != 0)
        let_go(dial, err < 0 ? err : 0);
}

static void connect_to(struct dial *dial, const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS) {
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        say_failed(dial, strerror(errno));
        wait_and_try(dial);
        return;
    }
    dial->line.fd = fd;
    handshake_tune(fd);
    int rv = uv_poll_init(dial->loop, &dial->poll, fd);
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
               void (*on_link)(void *arg, struct line line), void (*on_stopped)(void *arg),
               void *arg)
{
    *dial = (struct dial){.target = target,
                          .loop = loop,
                          .line = {.fd = -1},
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
