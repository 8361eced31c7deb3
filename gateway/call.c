#include "gateway/call.h"

#include <stdlib.h>

#include "gateway/httpd.h"
#include "gateway/say.h"
#include "gateway/session.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/json.h"

struct call *call_new(struct conn *conn, enum call_weight weight)
{
    struct call *call = xcalloc(1, sizeof *call);
    call->conn = conn;
    call->weight = (uint8_t)weight;
    conn->writes += weight == CALL_WRITE;
    conn->reads += weight >= CALL_READ;
    conn->pages += weight == CALL_PAGE;
    conn_ref(conn);
    return call;
}

void call_conv(struct call *call, struct span conv)
{
    ASSERT(conv.n <= CONV_ID_MAX);
    memcpy(call->conv, conv.p, conv.n);
    call->conv[conv.n] = '\0';
    call->partition = partition_of(conv_id_of(conv), call->conn->gate->cluster.partitions);
}

void call_user(struct call *call)
{
    struct conv_id log = user_log_id(span_str(call->conn->who->user));
    call->partition = partition_of(log, call->conn->gate->cluster.partitions);
}

static void finish(struct call *call)
{
    struct conn *conn = call->conn;
    conn->writes -= call->weight == CALL_WRITE;
    conn->reads -= call->weight >= CALL_READ;
    conn->pages -= call->weight == CALL_PAGE;
    free(call);
    if (!conn_gone(conn)) {
        if (conn->phase == CONN_WS && conn->held.n > 0)
            session_take_held(conn);
        conn_settle(conn);
    }
    conn_unref(conn);
}

static void begin(struct buf *text, const struct call *call, const char *rest)
{
    buf_add_str(text, "{\"id\":");
    json_put_i64(text, call->id);
    buf_add_str(text, rest);
}

struct buf *call_begin(struct call *call)
{
    struct buf *text = &call->conn->gate->answer;
    if (!call_wanted(call))
        return NULL;
    text->n = 0;
    if (!call->http)
        begin(text, call, ",\"ok\":");
    return text;
}

static void say(struct call *call, int status)
{
    struct conn *conn = call->conn;
    struct buf *text = &conn->gate->answer;
    if (!call_wanted(call))
        return;
    if (call->http) {
        httpd_answer(conn, status, "application/json", NULL, buf_span(text));
        return;
    }
    buf_add_byte(text, '}');
    session_say(conn, buf_span(text));
}

void call_ok(struct call *call)
{
    say(call, 200);
    finish(call);
}

void call_fail(struct call *call, int err, const char *msg, uint64_t after_ms)
{
    struct buf *text = &call->conn->gate->answer;
    text->n = 0;
    if (call_wanted(call)) {
        if (call->http)
            buf_add_str(text, "{\"err\":");
        else
            begin(text, call, ",\"err\":");
        say_error(text, err, msg, after_ms);
        if (call->http)
            buf_add_byte(text, '}');
    }
    say(call, err_http(err));
    finish(call);
}

void call_write(struct call *call, const Loquat__Command *command, upstream_done done)
{
    int err = cluster_write(&call->conn->gate->cluster, call->partition, command, done, call);
    if (err != 0)
        call_fail(call, err, NULL, 0);
}

bool call_read(struct call *call, Loquat__Read *read, upstream_done done)
{
    return cluster_read(&call->conn->gate->cluster, read, done, call) == 0;
}
