#include "store/client/tlsc.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum { PIECE_BYTES = 16 << 10 };

struct tlsc_trust {
    SSL_CTX *ctx;
};

struct tlsc {
    SSL *ssl;
    BIO *in, *out;
};

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return text != NULL ? text : "no memory";
}

struct tlsc_trust *tlsc_trust_new(const char *ca_file, char *why, size_t size)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        snprintf(why, size, "OpenSSL can't be used: %s", reason());
        goto fail;
    }
    if (ca_file != NULL && SSL_CTX_load_verify_file(ctx, ca_file) != 1) {
        snprintf(why, size, "no certificates to trust can be read from %s: %s", ca_file, reason());
        goto fail;
    }
    if (ca_file == NULL && SSL_CTX_set_default_verify_paths(ctx) != 1) {
        snprintf(why, size, "the system's certificates can't be read: %s", reason());
        goto fail;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    struct tlsc_trust *trust = xcalloc(1, sizeof *trust);
    trust->ctx = ctx;
    return trust;
fail:
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return NULL;
}

void tlsc_trust_free(struct tlsc_trust *trust)
{
    if (trust == NULL)
        return;
    SSL_CTX_free(trust->ctx);
    free(trust);
}

/* The name that the certificate must have; an address is none, and is not told to the server. */
static bool ask_for(SSL *ssl, const char *host)
{
    static const unsigned char ALPN[] = "\x08http/1.1";
    if (SSL_set_alpn_protos(ssl, ALPN, sizeof ALPN - 1) != 0) /* 0 is success here */
        return false;
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1)
        return true;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct tlsc *tlsc_new(struct tlsc_trust *trust, const char *host)
{
    struct tlsc *tls = xcalloc(1, sizeof *tls);
    tls->ssl = SSL_new(trust->ctx);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        SSL_free(tls->ssl);
        free(tls);
        return NULL;
    }
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_connect_state(tls->ssl);
    if (ask_for(tls->ssl, host))
        return tls;
    tlsc_free(tls);
    return NULL;
}

void tlsc_free(struct tlsc *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    free(tls);
}

bool tlsc_established(const struct tlsc *tls)
{
    return SSL_is_init_finished(tls->ssl) == 1;
}

static void explain(const struct tlsc *tls, char why[TLSC_WHY_SIZE])
{
    long verified = SSL_get_verify_result(tls->ssl);
    if (verified != X509_V_OK)
        snprintf(why, TLSC_WHY_SIZE, "the server's certificate is not accepted: %s",
                 X509_verify_cert_error_string(verified));
    else if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_WRONG_VERSION_NUMBER)
        snprintf(why, TLSC_WHY_SIZE, "the server does not speak TLS there; is it http://?");
    else
        snprintf(why, TLSC_WHY_SIZE, "TLS failed: %s", reason());
}

int tlsc_decrypt(struct tlsc *tls, struct span wire, struct buf *plain, char why[TLSC_WHY_SIZE])
{
    ERR_clear_error();
    if (BIO_write(tls->in, wire.p, (int)wire.n) != (int)wire.n) {
        snprintf(why, TLSC_WHY_SIZE, "no memory for TLS");
        return ERR_CLOSED;
    }
    for (size_t n = 0;; plain->n += n) {
        buf_reserve(plain, PIECE_BYTES);
        int rv = SSL_read_ex(tls->ssl, plain->p + plain->n, PIECE_BYTES, &n);
        if (rv == 1)
            continue;
        rv = SSL_get_error(tls->ssl, rv);
        if (rv == SSL_ERROR_WANT_READ)
            return 0;
        if (rv == SSL_ERROR_ZERO_RETURN)
            snprintf(why, TLSC_WHY_SIZE, "the server closed the connection");
        else
            explain(tls, why);
        ERR_clear_error();
        return ERR_CLOSED;
    }
}

int tlsc_encrypt(struct tlsc *tls, struct span plain, struct buf *wire)
{
    size_t n = 0;
    int err = 0;
    ERR_clear_error();
    if (!tlsc_established(tls)) {
        ASSERT(plain.n == 0);
        (void)SSL_do_handshake(tls->ssl); /* what fails here is seen when the answer is read */
    } else if (plain.n > 0 && SSL_write_ex(tls->ssl, plain.p, plain.n, &n) != 1) {
        err = ERR_CLOSED;
    }
    ERR_clear_error();
    for (int size; (size = BIO_pending(tls->out)) > 0;) {
        char *to = buf_grow(wire, (size_t)size);
        int got = BIO_read(tls->out, to, size);
        ASSERT(got == size);
    }
    return err;
}
