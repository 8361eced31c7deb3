#include "replication/admin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

#include "store/base/check.h"
#include "store/base/http.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/thread.h"

enum { BACKLOG = 128, BYTES_AT_ONCE = 4096, NO_BODY = 0 };

struct admin {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_async_t stop;
    pthread_t thread;
    atomic_bool ready;
    unsigned conns;
};

struct visit {
    struct admin *admin;
    uv_tcp_t tcp;
    uv_timer_t deadline;
    uv_write_t write;
    struct http *http;
    struct buf answer;
    char bytes[BYTES_AT_ONCE];
    int handles;
};

static void on_visit_closed(uv_handle_t *handle)
{
    struct visit *visit = handle->data;
    if (--visit->handles > 0)
        return;
    visit->admin->conns--;
    http_free(visit->http);
    buf_close(&visit->answer);
    free(visit);
}

static void end_visit(struct visit *visit)
{
    if (uv_is_closing((uv_handle_t *)&visit->tcp))
        return;
    uv_close((uv_handle_t *)&visit->tcp, on_visit_closed);
    uv_close((uv_handle_t *)&visit->deadline, on_visit_closed);
}

static void on_deadline(uv_timer_t *timer)
{
    end_visit(timer->data);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status; /* it is the end either way */
    end_visit(container_of(write, struct visit, write));
}

static void answer(struct visit *visit, int status, const char *type, struct span body)
{
    buf_addf(
        &visit->answer,
        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
        status, http_reason(status), type, body.n);
    buf_add_span(&visit->answer, body);
    uv_buf_t bytes = uv_buf_init(visit->answer.p, (unsigned)visit->answer.n);
    uv_read_stop((uv_stream_t *)&visit->tcp);
    if (uv_write(&visit->write, (uv_stream_t *)&visit->tcp, &bytes, 1, on_written) != 0)
        end_visit(visit);
}

static void say(struct visit *visit, int status, const char *text)
{
    answer(visit, status, "text/plain", span_str(text));
}

static void take(struct visit *visit, const struct http_msg *msg)
{
    if (!span_is(msg->method, "GET")) {
        say(visit, 405, "GET alone\n");
    } else if (span_is(msg->path, "/healthz")) {
        say(visit, 200, "ok\n");
    } else if (span_is(msg->path, "/readyz")) {
        bool ready = atomic_load(&visit->admin->ready);
        say(visit, ready ? 200 : 503, ready ? "ready\n" : "not ready\n");
    } else if (span_is(msg->path, "/metrics")) {
        struct buf text = {0};
        metrics_write(&text);
        answer(visit, 200, "text/plain; version=0.0.4; charset=utf-8", buf_span(&text));
        buf_close(&text);
    } else {
        say(visit, 404, "no such path\n");
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct visit *visit = handle->data;
    *out = uv_buf_init(visit->bytes, BYTES_AT_ONCE);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct visit *visit = stream->data;
    struct http_msg msg;
    if (n < 0) {
        end_visit(visit);
        return;
    }
    int rv = http_feed(visit->http, bytes->base, (size_t)n, &msg);
    if (rv > 0)
        take(visit, &msg);
    else if (rv < 0)
        say(visit, http_status(visit->http), "this is no request\n");
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct admin *admin = listener->data;
    if (status < 0)
        return; /* libuv keeps a descriptor for that: who came was let go */
    struct visit *visit = xcalloc(1, sizeof *visit);
    visit->admin = admin;
    visit->handles = 2;
    visit->http = http_new(true, NO_BODY, false);
    visit->tcp.data = visit->deadline.data = visit;
    uv_tcp_init(&admin->loop, &visit->tcp);
    uv_timer_init(&admin->loop, &visit->deadline);
    admin->conns++;
    if (uv_accept(listener, (uv_stream_t *)&visit->tcp) != 0 || admin->conns > ADMIN_CONNS_MAX ||
        uv_read_start((uv_stream_t *)&visit->tcp, on_alloc, on_read) != 0) {
        end_visit(visit);
        return;
    }
    uv_timer_start(&visit->deadline, on_deadline, ADMIN_MS_MAX, 0);
}

static void close_any(uv_handle_t *handle, void *arg)
{
    const struct admin *admin = arg;
    if (uv_is_closing(handle))
        return;
    if (handle == (const uv_handle_t *)&admin->listener ||
        handle == (const uv_handle_t *)&admin->stop)
        uv_close(handle, NULL);
    else
        end_visit(handle->data);
}

static void on_stop(uv_async_t *async)
{
    struct admin *admin = container_of(async, struct admin, stop);
    uv_walk(&admin->loop, close_any, admin);
}

static void *run(void *arg)
{
    struct admin *admin = arg;
    uv_run(&admin->loop, UV_RUN_DEFAULT);
    return NULL;
}

struct admin *admin_start(int fd)
{
    struct admin *admin = xcalloc(1, sizeof *admin);
    int rv = uv_loop_init(&admin->loop);
    if (rv != 0)
        log_fatal("no event loop could be made", uv_strerror(rv));
    uv_async_init(&admin->loop, &admin->stop, on_stop);
    uv_tcp_init(&admin->loop, &admin->listener);
    admin->listener.data = admin;
    rv = uv_tcp_open(&admin->listener, fd);
    ASSERT(rv == 0);
    rv = uv_listen((uv_stream_t *)&admin->listener, BACKLOG, on_connection);
    ASSERT(rv == 0);
    thread_start(&admin->thread, "admin", run, admin);
    return admin;
}

void admin_ready(struct admin *admin, bool ready)
{
    if (admin != NULL)
        atomic_store(&admin->ready, ready);
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL)
        return;
    uv_async_send(&admin->stop);
    pthread_join(admin->thread, NULL);
    int rv = uv_loop_close(&admin->loop);
    ASSERT(rv == 0);
    free(admin);
}
