#include "store/client/get.h"

#include <stdio.h>

#include "store/base/check.h"
#include "store/base/json.h"
#include "store/client/answer.h"

static void get_on_timer(uv_timer_t *timer)
{
    struct get *get = timer->data;
    conn_close(&get->conn, "no answer in time");
}

static void heard(struct get *get)
{
    uv_timer_start(&get->timer, get_on_timer, GET_SILENCE_MS, 0);
}

static void get_on_open(struct conn *conn)
{
    struct get *get = conn->data;
    struct buf *out = &conn->out;
    buf_addf(out, "GET %s HTTP/1.1\r\nHost: ", get->target);
    url_add_host(&get->url, out);
    if (get->options->token != NULL)
        buf_addf(out, "\r\nAuthorization: Bearer %s", get->options->token);
    if (get->accept != NULL)
        buf_addf(out, "\r\nAccept: %s", get->accept);
    buf_addf(out, "\r\nConnection: close\r\n%s\r\n", get->header != NULL ? get->header : "");
    conn_flush(conn);
}

static void end(struct get *get, bool done, const char *why)
{
    get->done |= done;
    conn_close(&get->conn, why);
}

static void take_body(struct get *get)
{
    struct span piece;
    int got;
    while (!get->stopped && (got = http_body(get->http, &piece)) == 1) {
        if (get->status == 200)
            get->stopped = !get->on_piece(get, piece);
        else if (get->refusal.n + piece.n <= GET_REFUSAL_MAX)
            buf_add_span(&get->refusal, piece);
    }
    if (get->stopped || got == 2)
        end(get, true, "");
    else if (got < 0)
        end(get, false, "the server's answer is broken");
}

static void get_on_bytes(struct conn *conn, const char *bytes, size_t n)
{
    struct get *get = conn->data;
    struct http_msg msg;
    heard(get);
    int got = http_feed(get->http, bytes, n, &msg);
    if (got < 0) {
        end(get, false, "the server's answer is no HTTP");
        return;
    }
    if (got == 1)
        get->status = msg.status;
    if (get->status != 0)
        take_body(get);
}

static void get_on_close(struct conn *conn, const char *why)
{
    struct get *get = conn->data;
    (void)why;
    uv_close((uv_handle_t *)&get->timer, NULL);
}

static const struct conn_ops CONN_OPS = {
    .on_open = get_on_open,
    .on_bytes = get_on_bytes,
    .on_close = get_on_close,
};

static int refused(struct get *get, char *why, size_t why_size)
{
    struct json *json = json_new(GET_REFUSAL_MAX);
    struct json_obj obj;
    struct answer_words words;
    struct loquat_answer answer = {.err = LOQUAT_INTERNAL};
    if (json_parse(json, get->refusal.p, get->refusal.n, &obj) == 0 &&
        json_get(&obj, "err") != NULL) {
        answer_parse(json, &obj, &words, &answer);
        snprintf(why, why_size, "%s: %s", answer.code, answer.message);
    } else {
        answer.err = get->status == 404   ? LOQUAT_NOT_FOUND
                     : get->status == 401 ? LOQUAT_UNAUTHORIZED
                     : get->status >= 500 ? LOQUAT_UNAVAILABLE
                                          : LOQUAT_INTERNAL;
        snprintf(why, why_size, "the server answered %d", get->status);
    }
    json_free(json);
    return answer.err;
}

int get_run(struct get *get, char *why, size_t why_size)
{
    uv_loop_t loop;
    const char *problem = "";
    const char *url = get->options->url;
    if (url_parse(url != NULL ? url : "http://127.0.0.1:8080", &get->url, &problem) != 0) {
        snprintf(why, why_size, "%s", problem);
        return LOQUAT_BAD_REQUEST;
    }
    struct tlsc_trust *trust = NULL;
    if (get->url.tls && (trust = tlsc_trust_new(get->options->ca, why, why_size)) == NULL)
        return LOQUAT_BAD_REQUEST;
    int err = uv_loop_init(&loop);
    if (err != 0) {
        snprintf(why, why_size, "%s", uv_strerror(err));
        return LOQUAT_UNAVAILABLE;
    }
    get->done = get->stopped = false;
    get->status = 0;
    get->refusal.n = 0;
    get->http = http_new(false, SIZE_MAX, true);
    get->conn.data = get->timer.data = get;
    uv_timer_init(&loop, &get->timer);
    heard(get);
    conn_open(&get->conn, &loop, &get->url, trust, &CONN_OPS);
    uv_run(&loop, UV_RUN_DEFAULT);
    err = uv_loop_close(&loop);
    ASSERT(err == 0);
    http_free(get->http);
    tlsc_trust_free(trust);
    int result = 0;
    if (!get->done) {
        result = LOQUAT_UNAVAILABLE;
        snprintf(why, why_size, "%s", get->conn.why);
    } else if (get->status != 200) {
        result = refused(get, why, why_size);
    }
    buf_close(&get->refusal);
    return result;
}
