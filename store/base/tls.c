#include "store/base/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/tls_cert.h"

/* What HAProxy's example offers, too. TLS 1.3 has no others than good ones. */
static const char CIPHERS[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char GROUPS[] = "X25519:P-256:P-384";

struct tls {
    pthread_mutex_t lock; /* of ctx: held while it is changed, or taken over by a connection */
    SSL_CTX *ctx;
    struct tls_files files;
};

struct tls_conn {
    SSL *ssl;
    int fd;          /* of tls_shake and tls_recv, while they run; else -1 */
    struct span in;  /* of tls_feed, not taken yet */
    struct buf wire; /* to be sent, from `sent` on */
    size_t sent;
    size_t covered;   /* bytes of tls_encrypt that are in `wire` */
    uint64_t records; /* encrypted with the present key */
    bool begun, established, ended, bye, hung_up;
    enum tls_failure failure;
    unsigned long error; /* OpenSSL's, of the failure */
};

static const char *reason(unsigned long error)
{
    const char *text = ERR_reason_error_string(error);
    return text != NULL ? text : "no memory";
}

/* ---- what all connections of a certificate share ---- */

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned in_n, void *arg)
{
    static const unsigned char OURS[] = "\x08http/1.1";
    (void)ssl;
    (void)arg;
    return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_n, OURS, sizeof OURS - 1, in,
                                 in_n) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void suit_clients(SSL_CTX *ctx)
{
    /* Chacha for those who prefer it: phones without AES in their processor. */
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL); /* no session is cached: tickets are enough */
}

/* A new link is a rare thing: each side shows its certificate every time. */
static void suit_links(SSL_CTX *ctx)
{
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_num_tickets(ctx, 0);
}

static SSL_CTX *ctx_new(bool links, char *why, size_t size)
{
    SSL_CTX *ctx = SSL_CTX_new(links ? TLS_method() : TLS_server_method());
    int oldest = links ? TLS1_3_VERSION : TLS1_2_VERSION;
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, oldest) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS) != 1 || SSL_CTX_set1_groups_list(ctx, GROUPS) != 1) {
        err_refuse(why, size, "OpenSSL can't be used: %s", reason(ERR_peek_last_error()));
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    links ? suit_links(ctx) : suit_clients(ctx);
    return ctx;
}

static SSL_CTX *load(const struct tls *tls, char *why, size_t size)
{
    ERR_clear_error();
    SSL_CTX *ctx = ctx_new(tls->files.ca != NULL, why, size);
    if (ctx == NULL || tls_cert_use(ctx, &tls->files, why, size))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static struct tls *new_tls(struct tls_files files, char *why, size_t size)
{
    struct tls *tls = xcalloc(1, sizeof *tls);
    pthread_mutex_init(&tls->lock, NULL);
    tls->files = files;
    tls->ctx = load(tls, why, size);
    if (tls->ctx != NULL)
        return tls;
    tls_free(tls);
    return NULL;
}

struct tls *tls_new(const char *cert_file, const char *key_file, char *why, size_t size)
{
    struct tls_files files = {.cert = xstrdup(cert_file), .key = xstrdup(key_file)};
    return new_tls(files, why, size);
}

struct tls *tls_link_new(const char *cert_file, const char *key_file, const char *ca_file,
                         char *why, size_t size)
{
    struct tls_files files = {
        .cert = xstrdup(cert_file), .key = xstrdup(key_file), .ca = xstrdup(ca_file)};
    return new_tls(files, why, size);
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->ctx);
    pthread_mutex_destroy(&tls->lock);
    free(tls->files.cert);
    free(tls->files.key);
    free(tls->files.ca);
    free(tls);
}

int tls_reload(struct tls *tls, char *why, size_t size)
{
    SSL_CTX *fresh = load(tls, why, size), *old;
    if (fresh == NULL)
        return ERR_UNAVAILABLE;
    pthread_mutex_lock(&tls->lock);
    old = tls->ctx;
    tls->ctx = fresh;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(old); /* when its last connection has gone */
    return 0;
}

/* ---- memory instead of a socket ---- */

/* OpenSSL asks for a record's head, and then for the rest of that record: for nothing behind it. */
static int read_fd(struct tls_conn *conn, BIO *bio, char *to, size_t size, size_t *n)
{
    ssize_t got;
    do
        got = recv(conn->fd, to, size, 0);
    while (got < 0 && errno == EINTR);
    *n = got > 0 ? (size_t)got : 0;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        BIO_set_retry_read(bio);
    else if (got <= 0)
        conn->hung_up = true;
    return got > 0;
}

static int wire_read(BIO *bio, char *to, size_t size, size_t *n)
{
    struct tls_conn *conn = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (conn->fd >= 0)
        return read_fd(conn, bio, to, size, n);
    *n = conn->in.n < size ? conn->in.n : size;
    if (*n == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(to, conn->in.p, *n);
    conn->in = span_of(conn->in.p + *n, conn->in.n - *n);
    return 1;
}

static int wire_write(BIO *bio, const char *from, size_t size, size_t *n)
{
    struct tls_conn *conn = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    buf_add(&conn->wire, from, size);
    *n = size;
    return 1;
}

static long wire_ctrl(BIO *bio, int what, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return what == BIO_CTRL_FLUSH;
}

/* BIO_s_mem would keep the memory of the largest burst for the life of the connection. */
static BIO_METHOD *wire_method;

static void make_wire_method(void)
{
    wire_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "loquat");
    if (wire_method == NULL)
        return;
    BIO_meth_set_read_ex(wire_method, wire_read);
    BIO_meth_set_write_ex(wire_method, wire_write);
    BIO_meth_set_ctrl(wire_method, wire_ctrl);
}

/* ---- a connection ---- */

static struct tls_conn *conn_new(struct tls *tls)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_wire_method);
    pthread_mutex_lock(&tls->lock);
    SSL *ssl = SSL_new(tls->ctx);
    pthread_mutex_unlock(&tls->lock);
    BIO *bio = ssl != NULL && wire_method != NULL ? BIO_new(wire_method) : NULL;
    if (bio == NULL) {
        SSL_free(ssl);
        return NULL;
    }
    struct tls_conn *conn = xcalloc(1, sizeof *conn);
    conn->ssl = ssl;
    conn->fd = -1;
    conn->failure = TLS_NO_FAILURE;
    BIO_set_data(bio, conn);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return conn;
}

struct tls_conn *tls_accept(struct tls *tls)
{
    struct tls_conn *conn = conn_new(tls);
    if (conn != NULL)
        SSL_set_accept_state(conn->ssl);
    return conn;
}

struct tls_conn *tls_connect(struct tls *tls)
{
    struct tls_conn *conn = conn_new(tls);
    if (conn != NULL)
        SSL_set_connect_state(conn->ssl);
    return conn;
}

void tls_conn_free(struct tls_conn *conn)
{
    if (conn == NULL)
        return;
    SSL_free(conn->ssl);
    buf_close(&conn->wire);
    free(conn);
}

static enum tls_failure failure_of(unsigned long error)
{
    int why = ERR_GET_REASON(error);
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && why >= SSL_AD_REASON_OFFSET)
        return TLS_REFUSED; /* an alert that the client sent */
    switch (why) {
    case SSL_R_WRONG_VERSION_NUMBER: /* of a record: of the handshake it is the one below */
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        return TLS_GARBAGE;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_SSL_VERSION:
        return TLS_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return TLS_NOTHING_COMMON;
    default:
        return TLS_BROKEN;
    }
}

/* TLS begins with a byte that no method does. */
static bool is_http(char first)
{
    return first >= 'A' && first <= 'Z';
}

/* After a call that did not do what it should: 0: more has to come, 1: nothing more will. */
static int settle(struct tls_conn *conn, int rv)
{
    rv = SSL_get_error(conn->ssl, rv);
    conn->ended = rv == SSL_ERROR_ZERO_RETURN;
    if (rv == SSL_ERROR_WANT_READ || conn->ended)
        return conn->ended;
    conn->error = ERR_peek_error();
    conn->failure = conn->hung_up ? TLS_GONE : failure_of(conn->error);
    return ERR_CLOSED;
}

int tls_feed(struct tls_conn *conn, struct span wire, char *plain, size_t size, size_t *n)
{
    ASSERT(size >= wire.n + TLS_RECORD_MAX);
    *n = 0;
    if (!conn->begun && wire.n > 0 && is_http(wire.p[0]))
        conn->failure = TLS_PLAIN_HTTP;
    conn->begun = true;
    if (conn->failure != TLS_NO_FAILURE)
        return ERR_CLOSED;
    ERR_clear_error();
    conn->in = wire;
    int rv = 0;
    for (size_t got = 0;; *n += got) {
        ASSERT(*n < size);
        rv = SSL_read_ex(conn->ssl, plain + *n, size - *n, &got);
        if (rv != 1)
            break;
    }
    rv = settle(conn, rv);
    conn->in = (struct span){0};
    if (rv >= 0 && SSL_is_init_finished(conn->ssl))
        conn->established = true;
    return rv;
}

int tls_shake(struct tls_conn *conn, int fd)
{
    conn->begun = true;
    if (conn->failure != TLS_NO_FAILURE)
        return ERR_CLOSED;
    ERR_clear_error();
    conn->fd = fd;
    int rv = SSL_do_handshake(conn->ssl);
    conn->fd = -1;
    conn->established = rv == 1;
    return rv == 1 ? 1 : settle(conn, rv) == 0 ? 0 : ERR_CLOSED;
}

int tls_recv(struct tls_conn *conn, int fd, char *to, size_t size, size_t *n)
{
    *n = 0;
    ASSERT(conn->established && size > 0);
    if (conn->failure != TLS_NO_FAILURE)
        return ERR_CLOSED;
    ERR_clear_error();
    conn->fd = fd;
    int rv = SSL_read_ex(conn->ssl, to, size, n);
    conn->fd = -1;
    return rv == 1 || settle(conn, rv) == 0 ? 0 : ERR_CLOSED;
}

bool tls_holds_plain(const struct tls_conn *conn)
{
    return SSL_pending(conn->ssl) > 0;
}

/* A link may live for months, and a key is good for so many records (RFC 8446, 5.5). The other side
 * does the same with its own. */
static void change_key(struct tls_conn *conn, uint64_t records)
{
    conn->records += records;
    if (conn->records < TLS_KEY_RECORDS || SSL_version(conn->ssl) != TLS1_3_VERSION)
        return;
    conn->records = 0;
    int rv = SSL_key_update(conn->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    ASSERT(rv == 1); /* it is told with what is written next */
}

/* A client that breaks off in the middle of a message of its own, which it would have to split over
 * two records for that, can't be written to, and is cut: none does it in good faith. */
int tls_encrypt(struct tls_conn *conn, struct span plain)
{
    size_t n = 0;
    ASSERT(conn->established && conn->covered == 0 && plain.n > 0);
    if (conn->failure != TLS_NO_FAILURE)
        return ERR_CLOSED;
    ERR_clear_error();
    change_key(conn, plain.n / TLS_RECORD_MAX + 1);
    if (SSL_write_ex(conn->ssl, plain.p, plain.n, &n) != 1) {
        conn->failure = TLS_BROKEN;
        return ERR_CLOSED;
    }
    ASSERT(n == plain.n);
    conn->covered = n;
    return 0;
}

void tls_bye(struct tls_conn *conn)
{
    if (!conn->established || conn->failure != TLS_NO_FAILURE || conn->bye)
        return;
    conn->bye = true;
    ERR_clear_error();
    if (SSL_shutdown(conn->ssl) < 0)
        conn->failure = TLS_BROKEN;
}

struct span tls_wire(const struct tls_conn *conn)
{
    return span_of(conn->wire.p + conn->sent, conn->wire.n - conn->sent);
}

size_t tls_sent(struct tls_conn *conn, size_t n)
{
    size_t done = n < conn->covered ? n : conn->covered;
    ASSERT(n <= conn->wire.n - conn->sent);
    conn->sent += n;
    conn->covered -= done;
    if (conn->sent == conn->wire.n) {
        ASSERT(conn->covered == 0); /* a record is larger than what is in it */
        buf_close(&conn->wire);
        conn->sent = 0;
    }
    return done;
}

void tls_take(struct tls_conn *conn, struct buf *to)
{
    struct buf wire = conn->wire;
    ASSERT(conn->sent == 0 && to->n == 0);
    conn->wire = *to;
    conn->covered = 0;
    *to = wire;
}

bool tls_established(const struct tls_conn *conn)
{
    return conn->established;
}

bool tls_resumed(const struct tls_conn *conn)
{
    return SSL_session_reused(conn->ssl) == 1;
}

bool tls_ended(const struct tls_conn *conn)
{
    return conn->ended;
}

enum tls_failure tls_failure(const struct tls_conn *conn)
{
    return conn->failure;
}

/* ---- for people ---- */

static const char OPTIONS[] = "--tls-cert, --tls-key and --tls-ca, of a gateway --cluster-tls-cert "
                              "and so on";

static bool is_of_certificate(int alert)
{
    return (alert >= SSL_AD_BAD_CERTIFICATE && alert <= SSL_AD_CERTIFICATE_UNKNOWN) ||
           alert == SSL_AD_UNKNOWN_CA || alert == TLS13_AD_CERTIFICATE_REQUIRED;
}

void tls_why(const struct tls_conn *conn, char *why, size_t size)
{
    long verified = SSL_get_verify_result(conn->ssl);
    int code = ERR_GET_REASON(conn->error);
    if (conn->failure == TLS_GONE && !conn->established)
        snprintf(why, size, "it hung up when TLS began: does it speak TLS? %s", OPTIONS);
    else if (conn->failure == TLS_REFUSED && is_of_certificate(code - SSL_AD_REASON_OFFSET))
        snprintf(why, size,
                 "it does not accept the certificate of this side (%s): is it of the CA that is "
                 "known there, and valid now?",
                 reason(conn->error));
    else if (verified != X509_V_OK)
        snprintf(why, size,
                 "its certificate is not accepted (%s): it must be of the CA that is known here, "
                 "and valid now",
                 X509_verify_cert_error_string(verified));
    else if (code == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        snprintf(why, size, "it shows no certificate; give it one: %s", OPTIONS);
    else if (conn->failure == TLS_GARBAGE)
        snprintf(why, size, "it does not speak TLS; start it with %s", OPTIONS);
    else if (conn->failure == TLS_VERSION || code - SSL_AD_REASON_OFFSET == SSL_AD_PROTOCOL_VERSION)
        snprintf(why, size, "it does not speak TLS 1.3");
    else
        snprintf(why, size, "TLS failed: %s", reason(conn->error));
}
