#include "gateway/secure.h"

#include <errno.h>
#include <sys/socket.h>

#include "gateway/httpd.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/metrics.h"

static const char HANDSHAKES_HELP[] = "TLS handshakes that were done, in full or by a ticket";
static struct metric handshakes[] = {{.name = "loquat_tls_handshakes_total",
                                      .help = HANDSHAKES_HELP,
                                      .labels = "kind=\"full\"",
                                      .type = METRIC_COUNTER},
                                     {.name = "loquat_tls_handshakes_total",
                                      .help = HANDSHAKES_HELP,
                                      .labels = "kind=\"resumed\"",
                                      .type = METRIC_COUNTER}};
static struct metric failures[] = {
#define X(number, label)                                                                           \
    [number] = {.name = "loquat_tls_handshakes_failed_total",                                      \
                .help = "TLS handshakes that came to nothing, and why",                            \
                .labels = "reason=\"" label "\"",                                                  \
                .type = METRIC_COUNTER},
    TLS_FAILURES(X)
#undef X
};

void secure_metrics(void)
{
    tls_metrics();
    for (size_t i = 0; i < sizeof handshakes / sizeof *handshakes; i++)
        metric_register(&handshakes[i]);
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        metric_register(&failures[i]);
}

bool secure_open(struct conn *conn)
{
    conn->tls = tls_accept(conn->gate->settings->tls);
    return conn->tls != NULL;
}

void secure_close(struct conn *conn)
{
    enum tls_failure why = tls_failure(conn->tls);
    if (why == TLS_NO_FAILURE) {
        bool late = conn->due_kind == DUE_HEAD && conn->due_ms <= conn->gate->now_ms;
        why = late ? TLS_TIMEOUT : TLS_GONE;
    }
    if (!tls_established(conn->tls))
        metric_add(&failures[why], 1);
    tls_conn_free(conn->tls);
    conn->tls = NULL;
}

/* ---- reading ---- */

/* A handshake is worth thousands of messages: after a restart, when everybody comes at once, those
 * who are served already must not wait for all of them. */
bool secure_may_read(struct conn *conn)
{
    if (tls_established(conn->tls) || conn->gate->handshakes++ < GATE_HANDSHAKES_MAX)
        return true;
    bound_hit(BOUND_HANDSHAKES);
    return false;
}

static void answer_plain(struct conn *conn)
{
    secure_close(conn);
    conn->busy = true;
    httpd_answer(conn, 400, "text/plain", NULL,
                 span_str("This port speaks TLS: use https:// or wss://\n"));
}

void secure_on_bytes(struct conn *conn, struct span wire)
{
    struct gate *gate = conn->gate;
    size_t n = 0;
    bool before = tls_established(conn->tls);
    int rv = tls_feed(conn->tls, wire, gate->plain, SECURE_PLAIN_BYTES, &n);
    if (tls_failure(conn->tls) == TLS_PLAIN_HTTP) {
        answer_plain(conn);
        return;
    }
    if (!before && tls_established(conn->tls))
        metric_add(&handshakes[tls_resumed(conn->tls)], 1);
    if (tls_wire(conn->tls).n > 0)
        conn_mark_dirty(conn);
    if (n > 0)
        conn_on_bytes(conn, gate->plain, n);
    if (rv < 0)
        conn_close_soon(conn);
    else
        secure_settle(conn);
}

void secure_settle(struct conn *conn)
{
    if (conn_gone(conn) || conn->close_soon || !tls_ended(conn->tls))
        return;
    if (conn->phase != CONN_HTTP || conn->session != NULL)
        conn_abort(conn);
    else if (!conn->busy && conn->out.bytes == 0)
        conn_close_soon(conn);
}

/* ---- writing ---- */

/* Fills tls_wire. 0: there is nothing more to send; 1; ERR_CLOSED. */
static int encrypt_more(struct tls_conn *tls, const struct out *out, bool bye)
{
    char plain[TLS_RECORD_MAX];
    if (!tls_established(tls) || tls_failure(tls) != TLS_NO_FAILURE)
        return 0;
    size_t n = out_peek(out, plain, sizeof plain);
    if (n == 0 && bye)
        tls_bye(tls);
    else if (n > 0 && tls_encrypt(tls, span_of(plain, n)) != 0)
        return ERR_CLOSED;
    return tls_wire(tls).n > 0;
}

int secure_first_part(struct conn *conn, struct batch_op *op)
{
    if (tls_wire(conn->tls).n == 0) {
        int rv = encrypt_more(conn->tls, &conn->out, conn->close_soon);
        if (rv <= 0)
            return rv;
    }
    struct span wire = tls_wire(conn->tls);
    *op = batch_op_of(conn->fd, wire.p, wire.n);
    return 1;
}

int secure_out(struct tls_conn *tls, struct out *out, struct out_pool *pool, int fd, bool bye)
{
    int more;
    do {
        struct span wire = tls_wire(tls);
        while (wire.n > 0) {
            ssize_t n = send(fd, wire.p, wire.n, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return errno == EAGAIN || errno == EWOULDBLOCK ? 1 : ERR_CLOSED;
            out_drop(out, pool, tls_sent(tls, (size_t)n));
            if ((size_t)n < wire.n)
                return 1;
            wire = tls_wire(tls);
        }
        more = encrypt_more(tls, out, bye);
    } while (more > 0);
    return more;
}

int secure_write(struct conn *conn)
{
    return secure_out(conn->tls, &conn->out, &conn->gate->out_pool, conn->fd, conn->close_soon);
}
