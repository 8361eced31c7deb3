/* gateway/kafka_conn.c: one client's connection: requests out of its bytes, one after the other,
 * and their answers in the same order. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/kafka_inside.h"
#include "gateway/secure.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/metrics.h"

_Static_assert((int)KAFKA_IN_BYTES == (int)GATE_IN_BYTES, "what is read fits when decrypted");

static struct metric connections = {.name = "loquat_kafka_connections",
                                    .help = "Connections of Kafka clients",
                                    .type = METRIC_GAUGE};
static struct metric sent = {.name = "loquat_kafka_sent_bytes_total",
                             .help = "Bytes of answers to Kafka clients",
                             .type = METRIC_COUNTER};
static const char REQUESTS_HELP[] = "Requests of Kafka clients, by what was asked";
static struct metric requests[] = {
#define X(api, key, low, high, text)                                                               \
    {.name = "loquat_kafka_requests_total",                                                        \
     .help = REQUESTS_HELP,                                                                        \
     .labels = "api=\"" text "\"",                                                                 \
     .type = METRIC_COUNTER},
    KAFKA_APIS(X)
#undef X
};
static const char REFUSED_HELP[] = "Kafka clients whose connection was closed, and why";
#define REFUSED(reason)                                                                            \
    {                                                                                              \
        .name = "loquat_kafka_refused_total", .help = REFUSED_HELP,                                \
        .labels = "reason=\"" reason "\"", .type = METRIC_COUNTER                                  \
    }
static struct metric refused[KAFKA_REFUSALS] = {
    [KAFKA_REFUSED_TOKEN] = REFUSED("token"),
    [KAFKA_REFUSED_NO_TOKEN] = REFUSED("no_token"),
    [KAFKA_REFUSED_MALFORMED] = REFUSED("malformed"),
    [KAFKA_REFUSED_TOO_LARGE] = REFUSED("too_large"),
    [KAFKA_REFUSED_TOO_MANY] = REFUSED("too_many"),
    [KAFKA_REFUSED_STUCK] = REFUSED("stuck"),
};

void kafka_conn_metrics(void)
{
    metric_register(&connections);
    metric_register(&sent);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        metric_register(&requests[i]);
    for (size_t i = 0; i < KAFKA_REFUSALS; i++)
        metric_register(&refused[i]);
}

void kafka_refused(enum kafka_refusal why)
{
    metric_add(&refused[why], 1);
}

/* ---- the end ---- */

void kafka_conn_ref(struct kafka_conn *conn)
{
    conn->refs++;
}

void kafka_conn_unref(struct kafka_conn *conn)
{
    ASSERT(conn->refs > 0);
    if (--conn->refs > 0)
        return;
    buf_close(&conn->in);
    buf_close(&conn->answer);
    arena_close(&conn->arena);
    free(conn);
}

static void on_closed(uv_handle_t *handle)
{
    struct kafka_conn *conn = container_of((uv_poll_t *)handle, struct kafka_conn, poll);
    close(conn->fd);
    kafka_conn_unref(conn);
}

/* What its request has asked the store finds it closed. */
void kafka_conn_abort(struct kafka_conn *conn)
{
    struct kafka *kafka = conn->kafka;
    if (conn->closed)
        return;
    conn->closed = true;
    if (conn->member != NULL)
        kafka_member_unheard(conn);
    kafka_fetch_end(conn);
    out_clear(&conn->out, &kafka->out_pool);
    tls_conn_free(conn->tls);
    conn->tls = NULL;
    if (conn->in_dirty.next != NULL)
        list_remove(&conn->in_dirty);
    list_remove(&conn->in_kafka);
    kafka->conn_count--;
    metric_add(&connections, -1);
    uv_close((uv_handle_t *)&conn->poll, on_closed);
}

void kafka_refuse(struct kafka_conn *conn, enum kafka_refusal why, const char *what)
{
    kafka_refused(why);
    log_debug("a Kafka client was refused", {"why", log_str(what)});
    kafka_conn_abort(conn);
}

/* ---- writing ---- */

static void mark_dirty(struct kafka_conn *conn)
{
    if (conn->in_dirty.next == NULL && !conn->stuck)
        list_push(&conn->kafka->dirty, &conn->in_dirty);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void settle(struct kafka_conn *conn)
{
    bool reads = !conn->busy && !conn->close_soon && conn->out.bytes == 0;
    int events = (reads ? UV_READABLE : 0) | (conn->stuck ? UV_WRITABLE : 0) | UV_DISCONNECT;
    if (conn->closed || events == conn->events)
        return;
    conn->events = (uint8_t)events;
    uv_poll_start(&conn->poll, events, on_poll);
}

static void take_requests(struct kafka_conn *conn);

void kafka_conn_flush(struct kafka_conn *conn)
{
    struct out_pool *pool = &conn->kafka->out_pool;
    size_t before = conn->out.bytes;
    if (conn->closed)
        return;
    int rv = conn->tls != NULL ? secure_out(conn->tls, &conn->out, pool, conn->fd, conn->close_soon)
                               : out_write(&conn->out, pool, conn->fd);
    if (rv < 0 || (rv == 0 && conn->close_soon)) {
        kafka_conn_abort(conn);
        return;
    }
    conn->stuck = rv == 1;
    if (conn->out.bytes < before)
        conn->moved_ms = kafka_now(conn->kafka);
    if (conn->out.bytes == 0)
        take_requests(conn);
    settle(conn);
}

struct buf *kafka_answer(struct kafka_conn *conn)
{
    conn->answer.n = 0;
    conn->answer_at = kafka_length(&conn->answer);
    if (!conn->raw)
        kafka_i32(&conn->answer, conn->request.number);
    return &conn->answer;
}

void kafka_answered(struct kafka_conn *conn)
{
    ASSERT(conn->busy);
    if (conn->closed)
        return;
    kafka_length_is(&conn->answer, conn->answer_at);
    metric_add(&sent, (int64_t)conn->answer.n);
    out_bytes(&conn->out, &conn->kafka->out_pool, buf_span(&conn->answer));
    buf_close(&conn->answer);
    arena_reset(&conn->arena);
    buf_cut(&conn->in, conn->frame);
    if (conn->in.n == 0 && conn->in.cap > KAFKA_IN_BYTES)
        buf_close(&conn->in);
    conn->busy = false;
    conn->moved_ms = kafka_now(conn->kafka);
    mark_dirty(conn);
}

/* ---- requests ---- */

static bool first(int16_t api) /* that may be asked before there was a token */
{
    return api == KAFKA_API_VERSIONS || api == KAFKA_SASL_HANDSHAKE ||
           api == KAFKA_SASL_AUTHENTICATE;
}

static void run(struct kafka_conn *conn)
{
    static void (*const DO[])(struct kafka_conn * conn) = {
        [KAFKA_PRODUCE] = kafka_do_produce,
        [KAFKA_FETCH] = kafka_do_fetch,
        [KAFKA_LIST_OFFSETS] = kafka_do_list_offsets,
        [KAFKA_METADATA] = kafka_do_metadata,
        [KAFKA_OFFSET_COMMIT] = kafka_do_commit,
        [KAFKA_OFFSET_FETCH] = kafka_do_offsets,
        [KAFKA_FIND_COORDINATOR] = kafka_do_coordinator,
        [KAFKA_JOIN_GROUP] = kafka_do_join,
        [KAFKA_HEARTBEAT] = kafka_do_heartbeat,
        [KAFKA_LEAVE_GROUP] = kafka_do_leave,
        [KAFKA_SYNC_GROUP] = kafka_do_sync,
        [KAFKA_SASL_HANDSHAKE] = kafka_do_handshake,
        [KAFKA_API_VERSIONS] = kafka_do_versions,
        [KAFKA_SASL_AUTHENTICATE] = kafka_do_authenticate,
    };
    DO[conn->request.api](conn);
}

static void count(int16_t api)
{
    size_t i = 0;
#define X(name, key, low, high, text)                                                              \
    if (api == (key))                                                                              \
        metric_add(&requests[i], 1);                                                               \
    i++;
    KAFKA_APIS(X)
#undef X
}

static void take(struct kafka_conn *conn, struct span bytes)
{
    struct kafka_request *request = &conn->request;
    conn->busy = true;
    conn->heard_ms = kafka_now(conn->kafka);
    if (conn->raw) {
        kafka_do_raw_token(conn, bytes);
        return;
    }
    bool fine = kafka_parse(bytes, &conn->arena, request);
    if (!fine && request->api == KAFKA_API_VERSIONS &&
        !kafka_speaks(request->api, request->version)) {
        kafka_say_versions(kafka_answer(conn), 0, KAFKA_UNSUPPORTED_VERSION);
        kafka_answered(conn);
    } else if (!fine) {
        kafka_refuse(conn, KAFKA_REFUSED_MALFORMED, "no request, or of a version not spoken");
    } else if (!conn->known && !first(request->api)) {
        kafka_refuse(conn, KAFKA_REFUSED_NO_TOKEN, "it asks before it has shown a token");
    } else {
        count(request->api);
        run(conn);
    }
}

/* Those that have come in whole, while none is in work. */
static void take_requests(struct kafka_conn *conn)
{
    if (conn->taking)
        return;
    conn->taking = true;
    while (!conn->closed && !conn->busy && !conn->close_soon && conn->out.bytes == 0 &&
           conn->in.n >= 4) {
        uint32_t n = (uint32_t)get_be16(conn->in.p) << 16 | get_be16(conn->in.p + 2);
        uint32_t most = conn->known ? KAFKA_REQUEST_MAX : KAFKA_FIRST_REQUEST_MAX;
        if (n > most) {
            bound_hit(BOUND_KAFKA_REQUEST);
            kafka_refuse(conn, KAFKA_REFUSED_TOO_LARGE, "its request has too many bytes");
            break;
        }
        if (n < KAFKA_REQUEST_MIN && !conn->raw) {
            kafka_refuse(conn, KAFKA_REFUSED_MALFORMED, "too short for a request");
            break;
        }
        if (conn->in.n - 4 < n)
            break;
        conn->frame = 4 + n;
        take(conn, span_of(conn->in.p + 4, n));
    }
    conn->taking = false;
}

/* ---- reading ---- */

static void on_readable(struct kafka_conn *conn)
{
    struct kafka *kafka = conn->kafka;
    struct span plain = {0};
    size_t n = 0;
    int rv = 0;
    ssize_t got = recv(conn->fd, kafka->in, KAFKA_IN_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        kafka_conn_abort(conn);
        return;
    }
    plain = span_of(kafka->in, (size_t)got);
    if (conn->tls != NULL) {
        rv = tls_feed(conn->tls, plain, kafka->plain, SECURE_PLAIN_BYTES, &n);
        plain = span_of(kafka->plain, n);
        if (tls_wire(conn->tls).n > 0)
            mark_dirty(conn);
    }
    buf_add_span(&conn->in, plain);
    take_requests(conn);
    if (rv == 0 || conn->closed)
        return;
    if (rv < 0) /* no TLS; else it says no more */
        kafka_refused(KAFKA_REFUSED_MALFORMED);
    conn->close_soon = true;
    mark_dirty(conn);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct kafka_conn *conn = container_of(poll, struct kafka_conn, poll);
    if (status < 0) {
        kafka_conn_abort(conn);
        return;
    }
    if (events & UV_WRITABLE) {
        conn->stuck = false;
        kafka_conn_flush(conn);
    }
    if (events & UV_READABLE && !conn->closed)
        on_readable(conn);
    else if (events & UV_DISCONNECT)
        kafka_conn_abort(conn); /* nobody reads the answer to what is in work */
    if (!conn->closed)
        settle(conn);
}

/* ---- the beginning, and deadlines ---- */

void kafka_conn_open(struct kafka *kafka, int fd)
{
    struct kafka_conn *conn = xcalloc(1, sizeof *conn);
    int on = 1;
    conn->kafka = kafka;
    conn->fd = fd;
    conn->refs = 1;
    conn->opened_ms = conn->heard_ms = conn->moved_ms = kafka_now(kafka);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (kafka->settings->tls != NULL)
        conn->tls = tls_accept(kafka->settings->tls);
    if ((kafka->settings->tls != NULL && conn->tls == NULL) ||
        uv_poll_init(&kafka->loop, &conn->poll, fd) != 0) {
        tls_conn_free(conn->tls);
        close(fd);
        free(conn);
        return;
    }
    arena_init(&conn->arena);
    list_push(&kafka->conns, &conn->in_kafka);
    kafka->conn_count++;
    metric_add(&connections, 1);
    settle(conn);
}

void kafka_conn_tick(struct kafka_conn *conn)
{
    uint64_t now = kafka_now(conn->kafka);
    if (!conn->known && now >= conn->opened_ms + KAFKA_AUTH_MS)
        kafka_refuse(conn, KAFKA_REFUSED_NO_TOKEN, "no token in time");
    else if (conn->known && clock_wall_ms() >= conn->exp_ms)
        kafka_refuse(conn, KAFKA_REFUSED_TOKEN, "its token has expired");
    else if (conn->stuck && now >= conn->moved_ms + KAFKA_STUCK_MS)
        kafka_refuse(conn, KAFKA_REFUSED_STUCK, "it takes nothing of its answer");
    else if (!conn->busy && conn->out.bytes == 0 && now >= conn->heard_ms + KAFKA_IDLE_MS)
        kafka_conn_abort(conn);
}
