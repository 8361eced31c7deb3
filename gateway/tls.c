#include "gateway/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/base/metrics.h"

enum { PEM_MAX = 1 << 20, DATE_SIZE = 32 };

/* What HAProxy's example offers, too. TLS 1.3 has no others than good ones. */
static const char CIPHERS[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char GROUPS[] = "X25519:P-256:P-384";

struct tls {
    pthread_mutex_t lock; /* of ctx: held while it is changed, or taken over by a connection */
    SSL_CTX *ctx;
    char *cert_file, *key_file;
};

struct tls_conn {
    SSL *ssl;
    struct span in;  /* of tls_feed, not taken yet */
    struct buf wire; /* to be sent, from `sent` on */
    size_t sent;
    size_t covered; /* bytes of tls_encrypt that are in `wire` */
    bool begun, established, ended, bye;
    enum tls_failure failure;
};

static struct metric not_after = {.name = "loquat_tls_not_after_seconds",
                                  .help = "When the certificate expires, as Unix time",
                                  .type = METRIC_GAUGE};

void tls_metrics(void)
{
    metric_register(&not_after);
}

/* ---- certificate and key ---- */

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text != NULL ? text : "no memory";
}

static bool read_pem(const char *path, struct buf *text, unsigned *mode, char *why, size_t size)
{
    int err = file_read(path, PEM_MAX, text, mode);
    if (err == ERR_TOO_LARGE)
        return err_refuse(why, size, "%s: more than %d bytes; is this the right file?", path,
                          PEM_MAX);
    if (err != 0 && errno == EACCES)
        return err_refuse(
            why, size,
            "cannot read %s: Permission denied; give a copy to the user that the server "
            "runs as (chown, chmod 600)",
            path);
    return err == 0 || err_refuse(why, size, "cannot read %s: %s", path, strerror(errno));
}

static int64_t seconds_of(const ASN1_TIME *at)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* A server that does not start would be worse than one that some clients refuse. */
static void mind_dates(const X509 *leaf, const char *path)
{
    int64_t from_s = seconds_of(X509_get0_notBefore(leaf));
    int64_t until_s = seconds_of(X509_get0_notAfter(leaf));
    int64_t now_s = (int64_t)(clock_wall_ms() / 1000);
    bool early = now_s < from_s;
    metric_set(&not_after, until_s);
    if (!early && now_s <= until_s)
        return;
    char date[DATE_SIZE];
    struct tm tm;
    time_t at = (time_t)(early ? from_s : until_s);
    if (gmtime_r(&at, &tm) == NULL || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(date, sizeof date, "?");
    if (early)
        log_warn("the certificate is not valid yet: clients refuse it", {"file", log_str(path)},
                 {"from", log_str(date)}, {"do", log_str("check this machine's clock")});
    else
        log_warn("the certificate has expired: clients refuse it", {"file", log_str(path)},
                 {"expired", log_str(date)}, {"do", log_str("renew it, then send SIGHUP")});
}

/* The first certificate is the server's own, the others are its chain. */
static X509 *use_chain(SSL_CTX *ctx, const char *path, char *why, size_t size)
{
    struct buf text = {0};
    X509 *leaf = NULL, *next = NULL;
    BIO *bio = NULL;
    int count = 0;
    if (!read_pem(path, &text, NULL, why, size))
        goto out;
    bio = BIO_new_mem_buf(text.p, (int)text.n);
    while (bio != NULL && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        bool taken = count == 0 ? SSL_CTX_use_certificate(ctx, next) == 1
                                : SSL_CTX_add0_chain_cert(ctx, next) == 1;
        if (count++ == 0)
            leaf = next;
        if (taken)
            continue;
        if (next != leaf)
            X509_free(next);
        err_refuse(why, size, "%s: certificate %d can't be used: %s", path, count, reason());
        goto fail;
    }
    if (count > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
        goto out;
    if (count == 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
        err_refuse(why, size,
                   "%s has no certificate in it; it must be PEM: the server's own first, then its "
                   "chain (fullchain.pem of certbot)",
                   path);
    else
        err_refuse(why, size, "%s: certificate %d is damaged: %s", path, count + 1, reason());
fail:
    X509_free(leaf);
    leaf = NULL;
out:
    BIO_free(bio);
    buf_close(&text);
    ERR_clear_error();
    return leaf;
}

/* Nobody is there to be asked for a passphrase. */
static int on_passphrase(char *to, int size, int writing, void *asked)
{
    (void)to;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static bool use_key(SSL_CTX *ctx, X509 *leaf, const struct tls *tls, char *why, size_t size)
{
    struct buf text = {0};
    const char *path = tls->key_file;
    unsigned mode = 0;
    bool encrypted = false, fine = false;
    EVP_PKEY *key = NULL;
    if (!read_pem(path, &text, &mode, why, size))
        goto out;
    BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
    key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &encrypted) : NULL;
    BIO_free(bio);
    if (encrypted)
        err_refuse(
            why, size,
            "%s: the key has a passphrase; take it off: openssl pkey -in %s -out NEW, chmod 600",
            path, path);
    else if (key == NULL)
        err_refuse(why, size,
                   "%s has no private key in it; it must be PEM (privkey.pem of certbot)", path);
    else if (X509_check_private_key(leaf, key) != 1)
        err_refuse(
            why, size,
            "%s is not the key of the first certificate in %s; take both from the same request, "
            "and put the server's own certificate before its chain",
            path, tls->cert_file);
    else if (SSL_CTX_use_PrivateKey(ctx, key) != 1)
        err_refuse(why, size, "%s: the key can't be used: %s", path, reason());
    else
        fine = true;
    if (fine && (mode & (S_IROTH | S_IWOTH)) != 0)
        log_warn("every user of this machine may read or change the key; chmod 600 it",
                 {"file", log_str(path)});
out:
    EVP_PKEY_free(key);
    if (text.p != NULL)
        OPENSSL_cleanse(text.p, text.cap);
    buf_close(&text);
    ERR_clear_error();
    return fine;
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

static SSL_CTX *ctx_new(char *why, size_t size)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS) != 1 || SSL_CTX_set1_groups_list(ctx, GROUPS) != 1) {
        err_refuse(why, size, "OpenSSL can't be used: %s", reason());
        SSL_CTX_free(ctx);
        return NULL;
    }
    /* Chacha for those who prefer it: phones without AES in their processor. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets are enough */
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    return ctx;
}

static SSL_CTX *load(const struct tls *tls, char *why, size_t size)
{
    ERR_clear_error();
    SSL_CTX *ctx = ctx_new(why, size);
    X509 *leaf = ctx != NULL ? use_chain(ctx, tls->cert_file, why, size) : NULL;
    if (leaf == NULL || !use_key(ctx, leaf, tls, why, size)) {
        SSL_CTX_free(ctx);
        ctx = NULL;
    } else {
        mind_dates(leaf, tls->cert_file);
    }
    X509_free(leaf);
    return ctx;
}

struct tls *tls_new(const char *cert_file, const char *key_file, char *why, size_t size)
{
    struct tls *tls = xcalloc(1, sizeof *tls);
    pthread_mutex_init(&tls->lock, NULL);
    tls->cert_file = xstrdup(cert_file);
    tls->key_file = xstrdup(key_file);
    tls->ctx = load(tls, why, size);
    if (tls->ctx != NULL)
        return tls;
    tls_free(tls);
    return NULL;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->ctx);
    pthread_mutex_destroy(&tls->lock);
    free(tls->cert_file);
    free(tls->key_file);
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

static int wire_read(BIO *bio, char *to, size_t size, size_t *n)
{
    struct tls_conn *conn = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
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

struct tls_conn *tls_accept(struct tls *tls)
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
    conn->failure = TLS_NO_FAILURE;
    BIO_set_data(bio, conn);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
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
    for (size_t got = 0;; *n += got) {
        ASSERT(*n < size);
        int rv = SSL_read_ex(conn->ssl, plain + *n, size - *n, &got);
        if (rv == 1)
            continue;
        rv = SSL_get_error(conn->ssl, rv);
        conn->ended = rv == SSL_ERROR_ZERO_RETURN;
        if (rv != SSL_ERROR_WANT_READ && !conn->ended)
            conn->failure = failure_of(ERR_peek_error());
        break;
    }
    conn->in = (struct span){0};
    if (conn->failure != TLS_NO_FAILURE)
        return ERR_CLOSED;
    if (SSL_is_init_finished(conn->ssl))
        conn->established = true;
    return conn->ended;
}

/* A client that breaks off in the middle of a message of its own, which it would have to split over
 * two records for that, can't be written to, and is cut: none does it in good faith. */
int tls_encrypt(struct tls_conn *conn, struct span plain)
{
    size_t n = 0;
    ASSERT(conn->established && conn->failure == TLS_NO_FAILURE && conn->wire.n == 0);
    ASSERT(plain.n > 0 && plain.n <= TLS_RECORD_MAX);
    ERR_clear_error();
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
