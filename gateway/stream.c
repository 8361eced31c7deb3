/* gateway/stream.c: a range of a conversation as NDJSON, page by page. The next page is read when
 * the client has taken most of the one before. */
#include <stdlib.h>

#include "gateway/httpd.h"
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum { STREAM_PAGE_RECORDS = 2000 }; /* some 1.2 ms of writing JSON: others wait no longer */

struct stream {
    Loquat__Read read; /* of the next page; strings are `conv` and the user's */
    char conv[CONV_ID_MAX + 1];
    bool reading, begun;
    uint64_t left; /* records that are still wanted */
};

static void on_page(void *owner, const Loquat__Reply *reply);

static bool ask(struct conn *conn)
{
    struct stream *stream = conn->stream;
    stream->read.user = conn->who->user;
    stream->read.conv = stream->conv;
    if (upstream_read(&conn->gate->up, &stream->read, on_page, conn) != 0)
        return false;
    stream->reading = true;
    conn_ref(conn);
    return true;
}

void httpd_stream_end(struct conn *conn)
{
    free(conn->stream);
    conn->stream = NULL;
}

/* A failure in the middle can't be said any more but by breaking off without the last chunk. */
static void fail(struct conn *conn, int err, const char *msg)
{
    bool begun = conn->stream->begun;
    conn->keep =
        conn->keep && !conn->stream->reading; /* its page must not be taken for another's */
    httpd_stream_end(conn);
    if (begun)
        conn_close_soon(conn);
    else
        httpd_fail(conn, err, msg);
}

static int say_page(struct conn *conn, const Loquat__Reply *reply, struct buf *text)
{
    const struct stream *stream = conn->stream;
    struct say_place place = {.conv = span_str(stream->conv),
                              .partition = stream->read.partition,
                              .self = span_str(conn->who->user)};
    int err = 0;
    for (size_t i = 0; i < reply->n_items && err == 0; i++) {
        err = say_element(text, &place, reply->items[i]);
        buf_add_byte(text, '\n');
    }
    return err;
}

/* Where the next page begins; false: this one is the last. */
static bool move_on(struct conn *conn, const Loquat__Reply *reply)
{
    struct stream *stream = conn->stream;
    for (size_t i = 0; i < reply->n_items; i++)
        stream->left -= reply->items[i]->hole == 0;
    if (stream->left < stream->read.max)
        stream->read.max = (uint32_t)stream->left;
    stream->read.from = reply->next;
    return reply->next != 0 && stream->left > 0 && !conn->head_only;
}

static bool token_holds(const struct conn *conn)
{
    return conn->who->exp_ms > clock_wall_ms();
}

static void take_page(struct conn *conn, const Loquat__Reply *reply)
{
    struct stream *stream = conn->stream;
    struct buf *text = &conn->gate->answer;
    text->n = 0;
    bool more = reply->err == 0 && move_on(conn, reply);
    /* The node reads the next page while this one is written as JSON. */
    if (more && conn->out.bytes <= CONN_OUT_LOW && token_holds(conn) && ask(conn))
        link_flush(&conn->gate->up.link);
    int err = reply->err != 0 ? reply->err : say_page(conn, reply, text);
    if (err != 0) {
        fail(conn, err, reply->msg);
        return;
    }
    if (!stream->begun)
        httpd_begin_chunks(conn, "application/x-ndjson");
    stream->begun = true;
    if (text->n > 0 && !conn->head_only) {
        struct frame *chunk = httpd_chunk(text);
        conn_send_frame(conn, chunk);
        frame_unref(chunk);
    }
    if (more) {
        httpd_stream_go_on(conn);
    } else {
        httpd_stream_end(conn);
        httpd_end_chunks(conn);
    }
}

static void on_page(void *owner, const Loquat__Reply *reply)
{
    struct conn *conn = owner;
    if (!conn_gone(conn) && conn->stream != NULL) {
        conn->stream->reading = false;
        take_page(conn, reply);
        if (!conn_gone(conn))
            conn_settle(conn);
    }
    conn_unref(conn);
}

void httpd_stream_go_on(struct conn *conn)
{
    struct stream *stream = conn->stream;
    if (stream->reading || conn->out.bytes > CONN_OUT_LOW)
        return;
    if (!token_holds(conn))
        fail(conn, ERR_UNAUTHORIZED, "the token has expired");
    else if (!ask(conn))
        fail(conn, ERR_BUSY, NULL);
}

/* The operation behind GET …/records with Accept: application/x-ndjson. */
int op_records(struct request *request)
{
    struct conn *conn = request->conn;
    Loquat__Read read;
    uint64_t max = PROTO_WHOLE_MAX;
    int err = read_take_range(request, &read, &max);
    if (err != 0)
        return err;
    struct stream *stream = xcalloc(1, sizeof *stream);
    stream->read = read;
    stream->read.max = (uint32_t)(max < STREAM_PAGE_RECORDS ? max : STREAM_PAGE_RECORDS);
    stream->left = max;
    memcpy(stream->conv, request->call->conv, sizeof stream->conv);
    conn->stream = stream;
    if (!ask(conn)) {
        httpd_stream_end(conn);
        return ERR_BUSY;
    }
    request->call->http = false; /* the stream is the answer */
    call_ok(request->call);
    return 0;
}
