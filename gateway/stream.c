/* gateway/stream.c: a range of a conversation as NDJSON, page by page. The next page is read when
 * the client has taken most of the one before; of a long way up several at the same time, each a
 * fixed window of sequences, so that the node reads while this one writes JSON. What comes after
 * the stream has begun is not in it. */
#include <stdlib.h>

#include "gateway/httpd.h"
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum {
    STREAM_PAGE_RECORDS = 4000, /* some two milliseconds of writing JSON: others wait no longer */
    STREAM_PAGE_BYTES = 640 << 10,
    STREAM_WINDOWS = 4, /* so many pages, and one more, wait at most for who does not read */
    STREAM_WINDOW_MIN = 16,
};

struct window {
    uint64_t from, to; /* sequences; from == to: nothing of it is left to be read */
    bool asked;
    struct buf text; /* of what was read before its turn came */
};

struct stream {
    Loquat__Read read; /* strings are `conv` and the user's */
    char conv[CONV_ID_MAX + 1];
    bool begun;
    uint64_t left; /* records that are still wanted */
    size_t asked;
    uint64_t end; /* windows are used: behind the last sequence; 0: one page after the other */
    uint64_t window_size; /* sequences: about a page */
    struct window windows[STREAM_WINDOWS];
    size_t turn; /* the window whose text comes next */
};

/* A page on its way; the stream may be gone when it comes. */
struct page_ask {
    struct conn *conn;
    size_t window;
};

static void on_page(void *owner, const Loquat__Reply *reply);

static bool ask(struct conn *conn, size_t window)
{
    struct stream *stream = conn->stream;
    struct page_ask *page = xmalloc(sizeof *page);
    Loquat__Read read = stream->read;
    read.user = conn->who->user;
    read.conv = stream->conv;
    if (stream->end != 0) {
        read.from = stream->windows[window].from;
        read.to = stream->windows[window].to;
    }
    *page = (struct page_ask){conn, window};
    if (cluster_read(&conn->gate->cluster, &read, on_page, page) != 0) {
        free(page);
        return false;
    }
    stream->windows[window].asked = true;
    stream->asked++;
    conn_ref(conn);
    return true;
}

void httpd_stream_end(struct conn *conn)
{
    for (size_t i = 0; i < STREAM_WINDOWS; i++)
        buf_close(&conn->stream->windows[i].text);
    free(conn->stream);
    conn->stream = NULL;
}

/* A failure in the middle can't be said any more but by breaking off without the last chunk. */
static void fail(struct conn *conn, int err, const char *msg)
{
    bool begun = conn->stream->begun;
    conn->keep = conn->keep && conn->stream->asked == 0; /* no page may be taken for another's */
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

static bool token_holds(const struct conn *conn)
{
    return conn->who->exp_ms > clock_wall_ms();
}

static void send_text(struct conn *conn, struct buf *text)
{
    struct stream *stream = conn->stream;
    if (!stream->begun)
        httpd_begin_chunks(conn, "application/x-ndjson");
    stream->begun = true;
    if (text->n > 0 && !conn->head_only) {
        struct frame *chunk = httpd_chunk(text);
        conn_send_frame(conn, chunk);
        frame_unref(chunk);
    }
    text->n = 0;
}

/* ---- windows ---- */

static bool finished(const struct stream *stream)
{
    for (size_t i = 0; i < STREAM_WINDOWS; i++)
        if (stream->windows[i].from < stream->windows[i].to || stream->windows[i].asked)
            return false;
    return stream->read.from >= stream->end;
}

/* The next window in order, or none: read.from is where no window has begun yet. */
static void next_window(struct stream *stream, struct window *window)
{
    uint64_t from = stream->read.from, left = stream->end - from;
    window->from = from;
    window->to = from + (left < stream->window_size ? left : stream->window_size);
    stream->read.from = window->to;
}

/* A little less than the first page had, so that one page nearly always has a window whole. */
static uint64_t window_size(uint64_t from, const Loquat__Reply *reply)
{
    uint64_t size = (reply->next - from) * 7 / 8;
    return size < STREAM_WINDOW_MIN     ? STREAM_WINDOW_MIN
           : size > STREAM_PAGE_RECORDS ? STREAM_PAGE_RECORDS
                                        : size;
}

static bool begin_windows(struct stream *stream, const Loquat__Reply *reply)
{
    uint64_t end = reply->head + 1;
    if (stream->read.to != 0 && stream->read.to < end)
        end = stream->read.to;
    if (stream->read.desc || stream->left < end - reply->next)
        return false;
    stream->end = end;
    stream->window_size = window_size(stream->read.from, reply);
    stream->read.from = reply->next;
    for (size_t i = 0; i < STREAM_WINDOWS; i++)
        next_window(stream, &stream->windows[i]);
    return true;
}

static bool ask_windows(struct conn *conn)
{
    struct stream *stream = conn->stream;
    for (size_t i = 0; i < STREAM_WINDOWS; i++) {
        const struct window *window = &stream->windows[(stream->turn + i) % STREAM_WINDOWS];
        bool held = i > 0 && window->text.n > 0;
        if (!window->asked && !held && window->from < window->to &&
            !ask(conn, (stream->turn + i) % STREAM_WINDOWS))
            return false;
    }
    return true;
}

/* The window whose turn it is has been read whole: a new one takes its place. */
static void turn_window(struct stream *stream)
{
    next_window(stream, &stream->windows[stream->turn]);
    stream->turn = (stream->turn + 1) % STREAM_WINDOWS;
}

/* Sends what was held for its turn. */
static void send_held(struct conn *conn)
{
    struct stream *stream = conn->stream;
    for (size_t i = 0; i < STREAM_WINDOWS; i++) {
        struct window *window = &stream->windows[stream->turn];
        send_text(conn, &window->text);
        if (window->asked || window->from < window->to)
            return;
        turn_window(stream);
    }
}

/* Where the text of a window's page is to be written. */
static struct buf *take_window(struct conn *conn, const Loquat__Reply *reply, size_t at)
{
    struct stream *stream = conn->stream;
    struct window *window = &stream->windows[at];
    window->from = reply->next != 0 ? reply->next : window->to;
    if (at != stream->turn)
        return &window->text;
    send_text(conn, &window->text);
    if (window->from == window->to)
        turn_window(stream);
    return &conn->gate->answer;
}

/* ---- pages ---- */

/* What of the range is left after this page; false: nothing. */
static bool move_on(struct conn *conn, const Loquat__Reply *reply)
{
    struct stream *stream = conn->stream;
    for (size_t i = 0; i < reply->n_items; i++)
        stream->left -= reply->items[i]->hole == 0;
    if (stream->end != 0)
        return !finished(stream);
    if (stream->left < stream->read.max)
        stream->read.max = (uint32_t)stream->left;
    if (reply->next == 0 || stream->left == 0 || conn->head_only)
        return false;
    if (stream->read.seen == 0) /* from here on any replica will do that has as much */
        stream->read.seen = reply->head;
    if (!begin_windows(stream, reply))
        stream->read.from = reply->next;
    return true;
}

static bool ask_more(struct conn *conn)
{
    bool asked = conn->stream->end != 0 ? ask_windows(conn) : ask(conn, 0);
    cluster_flush(&conn->gate->cluster);
    return asked;
}

static void take_page(struct conn *conn, const Loquat__Reply *reply, size_t at)
{
    struct stream *stream = conn->stream;
    struct buf *text = &conn->gate->answer;
    text->n = 0;
    bool more = reply->err == 0;
    if (more && stream->end != 0)
        text = take_window(conn, reply, at);
    more = more && move_on(conn, reply);
    /* The node goes on reading while this page is written as JSON. */
    if (more && conn->out.bytes <= CONN_OUT_LOW && token_holds(conn))
        (void)ask_more(conn); /* or later */
    int err = reply->err != 0 ? reply->err : say_page(conn, reply, text);
    if (err != 0) {
        fail(conn, err, reply->msg);
        return;
    }
    if (text == &conn->gate->answer)
        send_text(conn, text);
    if (stream->end != 0) {
        send_held(conn);
        more = !finished(stream);
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
    struct page_ask *page = owner;
    struct conn *conn = page->conn;
    if (!conn_gone(conn) && conn->stream != NULL) {
        conn->stream->windows[page->window].asked = false;
        conn->stream->asked--;
        take_page(conn, reply, page->window);
        if (!conn_gone(conn))
            conn_settle(conn);
    }
    free(page);
    conn_unref(conn);
}

void httpd_stream_go_on(struct conn *conn)
{
    struct stream *stream = conn->stream;
    bool waits = stream->end != 0 ? stream->asked == STREAM_WINDOWS : stream->asked > 0;
    if (waits || conn->out.bytes > CONN_OUT_LOW)
        return;
    if (!token_holds(conn))
        fail(conn, ERR_UNAUTHORIZED, "the token has expired");
    else if (!ask_more(conn) && stream->asked == 0)
        fail(conn, ERR_BUSY, NULL); /* else it is tried again when the next page has come */
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
    stream->read.scan = true;
    stream->read.bytes_max = STREAM_PAGE_BYTES;
    stream->read.max = (uint32_t)(max < STREAM_PAGE_RECORDS ? max : STREAM_PAGE_RECORDS);
    stream->left = max;
    memcpy(stream->conv, request->call->conv, sizeof stream->conv);
    conn->stream = stream;
    if (!ask(conn, 0)) {
        httpd_stream_end(conn);
        return ERR_BUSY;
    }
    request->call->http = false; /* the stream is the answer */
    call_ok(request->call);
    return 0;
}
