#include "store/client/ask.h"

#include <stdio.h>

#include "store/base/check.h"
#include "store/base/json.h"
#include "store/client/answer.h"

int ask_place_open(struct ask_place *place, const struct loquat_options *options, char *why,
                   size_t why_size)
{
    const char *problem = "";
    const char *url = options->url != NULL ? options->url : "http://127.0.0.1:8080";
    *place = (struct ask_place){.token = options->token};
    if (url_parse(url, &place->url, &problem) != 0) {
        snprintf(why, why_size, "%s", problem);
        return LOQUAT_BAD_REQUEST;
    }
    if (!place->url.tls)
        return 0;
    place->trust = tlsc_trust_new(options->ca, why, why_size);
    return place->trust != NULL ? 0 : LOQUAT_BAD_REQUEST;
}

void ask_place_close(struct ask_place *place)
{
    tlsc_trust_free(place->trust);
    place->trust = NULL;
}

static void ask_on_timer(uv_timer_t *timer)
{
    struct ask *ask = timer->data;
    conn_close(&ask->conn, "no answer in time");
}

static void heard(struct ask *ask)
{
    uv_timer_start(&ask->timer, ask_on_timer, ASK_SILENCE_MS, 0);
}

static void send_request(struct ask *ask)
{
    struct buf *out = &ask->conn.out;
    buf_addf(out, "%s %s HTTP/1.1\r\nHost: ", ask->method, ask->target);
    url_add_host(&ask->place->url, out);
    if (ask->place->token != NULL)
        buf_addf(out, "\r\nAuthorization: Bearer %s", ask->place->token);
    if (ask->accept != NULL)
        buf_addf(out, "\r\nAccept: %s", ask->accept);
    if (ask->body != NULL)
        buf_addf(out, "\r\nContent-Type: application/json\r\nContent-Length: %zu",
                 strlen(ask->body));
    buf_addf(out, "%s\r\n%s\r\n", ask->keeps ? "" : "\r\nConnection: close",
             ask->header != NULL ? ask->header : "");
    if (ask->body != NULL)
        buf_add_str(out, ask->body);
    conn_flush(&ask->conn);
}

static void ask_on_open(struct conn *conn)
{
    send_request(conn->data);
}

static int refused(struct ask *ask, char *why, size_t why_size)
{
    struct json *json = json_new(ASK_REFUSAL_MAX);
    struct json_obj obj;
    struct answer_words words;
    struct loquat_answer answer = {.err = LOQUAT_INTERNAL};
    if (json_parse(json, ask->refusal.p, ask->refusal.n, &obj) == 0 &&
        json_get(&obj, "err") != NULL) {
        answer_parse(json, &obj, &words, &answer);
        snprintf(why, why_size, "%s: %s", answer.code, answer.message);
    } else {
        answer.err = ask->status == 404   ? LOQUAT_NOT_FOUND
                     : ask->status == 401 ? LOQUAT_UNAUTHORIZED
                     : ask->status >= 500 ? LOQUAT_UNAVAILABLE
                                          : LOQUAT_INTERNAL;
        snprintf(why, why_size, "the server answered %d", ask->status);
    }
    json_free(json);
    return answer.err;
}

/* The request is over. */
static void tell(struct ask *ask)
{
    char why[ASK_WHY_SIZE] = "";
    int err = 0;
    if (ask->dropped) {
        err = LOQUAT_CLOSED;
    } else if (!ask->done) {
        err = LOQUAT_UNAVAILABLE;
        snprintf(why, sizeof why, "%s", ask->conn.why);
    } else if (ask->status != 200) {
        err = refused(ask, why, sizeof why);
    }
    http_free(ask->http);
    ask->http = NULL;
    buf_close(&ask->refusal);
    ask->busy = false;
    ask->on_end(ask, err, why); /* the caller's from here */
}

static void end(struct ask *ask, bool done, const char *why)
{
    ask->done |= done;
    if (!ask->keeps || !done || ask->stopped || ask->last || !http_idle(ask->http)) {
        conn_close(&ask->conn, why);
        return;
    }
    uv_timer_stop(&ask->timer);
    ask->used = true;
    tell(ask);
}

static void take_body(struct ask *ask)
{
    struct span piece;
    int got;
    while (!ask->stopped && (got = http_body(ask->http, &piece)) == 1) {
        if (ask->status == 200)
            ask->stopped = !ask->on_piece(ask, piece);
        else if (ask->refusal.n + piece.n <= ASK_REFUSAL_MAX)
            buf_add_span(&ask->refusal, piece);
    }
    if (ask->stopped || got == 2)
        end(ask, true, "");
    else if (got < 0)
        end(ask, false, "the server's answer is broken");
}

static void ask_on_bytes(struct conn *conn, const char *bytes, size_t n)
{
    struct ask *ask = conn->data;
    struct http_msg msg;
    if (!ask->busy) {
        conn_close(conn, "nothing was asked");
        return;
    }
    heard(ask);
    int got = http_feed(ask->http, bytes, n, &msg);
    if (got < 0) {
        end(ask, false, "the server's answer is no HTTP");
        return;
    }
    if (got == 1) {
        ask->status = msg.status;
        ask->last = !msg.keep_alive;
    }
    if (ask->status != 0)
        take_body(ask);
}

static void open_conn(struct ask *ask);

static void ask_on_timer_closed(uv_handle_t *handle)
{
    struct ask *ask = handle->data;
    bool again = ask->begun || (ask->busy && ask->used && ask->status == 0 && !ask->dropped);
    ask->up = false;
    if (again)
        open_conn(ask);
    else if (ask->busy)
        tell(ask);
    else if (ask->closed)
        ask->on_closed(ask);
}

static void ask_on_close(struct conn *conn, const char *why)
{
    struct ask *ask = conn->data;
    (void)why;
    uv_close((uv_handle_t *)&ask->timer, ask_on_timer_closed);
}

static const struct conn_ops CONN_OPS = {
    .on_open = ask_on_open,
    .on_bytes = ask_on_bytes,
    .on_close = ask_on_close,
};

static void open_conn(struct ask *ask)
{
    ask->up = true;
    ask->used = ask->begun = false;
    ask->conn.data = ask->timer.data = ask;
    uv_timer_init(ask->loop, &ask->timer);
    heard(ask);
    conn_open(&ask->conn, ask->loop, &ask->place->url, ask->place->trust, &CONN_OPS);
}

void ask_begin(struct ask *ask, uv_loop_t *loop)
{
    ASSERT(!ask->busy && !ask->closed);
    ask->loop = loop;
    ask->busy = true;
    ask->done = ask->stopped = ask->dropped = ask->last = false;
    ask->status = 0;
    ask->http = http_new(false, SIZE_MAX, true);
    if (!ask->up) {
        open_conn(ask);
    } else if (ask->conn.closing) {
        ask->begun = true; /* once that is closed */
    } else {
        heard(ask);
        send_request(ask);
    }
}

void ask_end(struct ask *ask)
{
    if (!ask->busy || ask->done)
        return;
    ask->dropped = true;
    ask->begun = false;
    conn_close(&ask->conn, "");
}

bool ask_close(struct ask *ask)
{
    ASSERT(!ask->busy);
    ask->closed = true;
    if (ask->up)
        conn_close(&ask->conn, "");
    return !ask->up;
}

struct ask_result {
    void *data;
    char *why;
    size_t why_size;
    int err;
};

static void ask_on_run_end(struct ask *ask, int err, const char *why)
{
    struct ask_result *result = ask->timer.loop->data;
    snprintf(result->why, result->why_size, "%s", why);
    result->err = err;
}

int ask_run(struct ask *ask, char *why, size_t why_size)
{
    uv_loop_t loop;
    struct ask_result result = {.why = why, .why_size = why_size};
    int err = uv_loop_init(&loop);
    if (err != 0) {
        snprintf(why, why_size, "%s", uv_strerror(err));
        return LOQUAT_UNAVAILABLE;
    }
    loop.data = &result;
    ask->on_end = ask_on_run_end;
    ask_begin(ask, &loop);
    uv_run(&loop, UV_RUN_DEFAULT);
    err = uv_loop_close(&loop);
    ASSERT(err == 0);
    return result.err;
}
