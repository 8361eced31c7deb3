#include "bench/lib/nettls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "bench/lib/measure.h"

enum { PIECE = 16 << 10 };

struct nettls {
    SSL *ssl;
    BIO *in, *out;
    struct buf early; /* to be sent when the handshake is done */
};

static SSL_CTX *context(void)
{
    static SSL_CTX *ctx;
    if (ctx == NULL) {
        ctx = SSL_CTX_new(TLS_client_method());
        if (ctx == NULL)
            bench_fail("OpenSSL can't be used");
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    }
    return ctx;
}

struct nettls *nettls_new(void)
{
    struct nettls *tls = xcalloc(1, sizeof *tls);
    tls->ssl = SSL_new(context());
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL)
        bench_fail("no memory for TLS");
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_connect_state(tls->ssl);
    return tls;
}

void nettls_free(struct nettls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    buf_close(&tls->early);
    free(tls);
}

bool nettls_decrypt(struct nettls *tls, struct span wire, struct buf *plain)
{
    size_t n = 0;
    ERR_clear_error();
    if (BIO_write(tls->in, wire.p, (int)wire.n) != (int)wire.n)
        bench_fail("no memory for TLS");
    for (;;) {
        buf_reserve(plain, PIECE);
        int rv = SSL_read_ex(tls->ssl, plain->p + plain->n, PIECE, &n);
        if (rv != 1)
            return SSL_get_error(tls->ssl, rv) == SSL_ERROR_WANT_READ;
        plain->n += n;
    }
}

void nettls_encrypt(struct nettls *tls, struct buf *bytes)
{
    size_t n = 0;
    ERR_clear_error();
    buf_add_span(&tls->early, buf_span(bytes));
    bytes->n = 0;
    if (!SSL_is_init_finished(tls->ssl))
        (void)SSL_do_handshake(tls->ssl); /* it says itself what it has to send */
    if (SSL_is_init_finished(tls->ssl) && tls->early.n > 0) {
        if (SSL_write_ex(tls->ssl, tls->early.p, tls->early.n, &n) != 1)
            bench_fail("TLS can't write");
        buf_close(&tls->early);
    }
    while (BIO_pending(tls->out) > 0) {
        char *to = buf_grow(bytes, PIECE);
        int got = BIO_read(tls->out, to, PIECE);
        bytes->n -= (size_t)(PIECE - (got > 0 ? got : 0));
    }
}
