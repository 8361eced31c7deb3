#include "store/base/tls_cert.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/tls.h"

enum { PEM_MAX = 1 << 20, DATE_SIZE = 32 };

static struct metric not_after = {.name = "loquat_tls_not_after_seconds",
                                  .help = "When the certificate expires, as Unix time",
                                  .type = METRIC_GAUGE};
static struct metric links_not_after = {.name = "loquat_links_tls_not_after_seconds",
                                        .help = "When the certificate of links to nodes expires, "
                                                "as Unix time",
                                        .type = METRIC_GAUGE};

void tls_metrics(void)
{
    metric_register(&not_after);
}

void tls_link_metrics(void)
{
    metric_register(&links_not_after);
}

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

/* A program that does not start would be worse than one that some refuse. */
static void mind_dates(const X509 *leaf, const struct tls_files *files)
{
    const char *path = files->cert;
    int64_t from_s = seconds_of(X509_get0_notBefore(leaf));
    int64_t until_s = seconds_of(X509_get0_notAfter(leaf));
    int64_t now_s = (int64_t)(clock_wall_ms() / 1000);
    bool early = now_s < from_s;
    metric_set(files->ca != NULL ? &links_not_after : &not_after, until_s);
    if (!early && now_s <= until_s)
        return;
    char date[DATE_SIZE];
    struct tm tm;
    time_t at = (time_t)(early ? from_s : until_s);
    if (gmtime_r(&at, &tm) == NULL || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(date, sizeof date, "?");
    if (early)
        log_warn("the certificate is not valid yet: others refuse it", {"file", log_str(path)},
                 {"from", log_str(date)}, {"do", log_str("check this machine's clock")});
    else
        log_warn("the certificate has expired: others refuse it", {"file", log_str(path)},
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

static bool use_key(SSL_CTX *ctx, X509 *leaf, const struct tls_files *files, char *why, size_t size)
{
    struct buf text = {0};
    const char *path = files->key;
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
            path, files->cert);
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

/* ---- whom it trusts ---- */

/* What the others would say of it. Its end is a matter of its own: mind_dates. */
static bool is_of(SSL_CTX *ctx, X509 *leaf, const struct tls_files *files, char *why, size_t size)
{
    STACK_OF(X509) *chain = NULL;
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    bool fine = false;
    SSL_CTX_get0_chain_certs(ctx, &chain);
    if (check == NULL ||
        X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(ctx), leaf, chain) != 1) {
        err_refuse(why, size, "OpenSSL can't be used: %s", reason());
    } else {
        X509_STORE_CTX_set_flags(check, X509_V_FLAG_NO_CHECK_TIME);
        fine = X509_verify_cert(check) == 1;
        if (!fine)
            err_refuse(why, size,
                       "%s is not signed by a CA in %s (%s): other nodes would refuse it; sign it "
                       "with that CA, or name the file of the CA that has signed it",
                       files->cert, files->ca,
                       X509_verify_cert_error_string(X509_STORE_CTX_get_error(check)));
    }
    X509_STORE_CTX_free(check);
    return fine;
}

static bool use_ca(SSL_CTX *ctx, X509 *leaf, const struct tls_files *files, char *why, size_t size)
{
    struct buf text = {0};
    bool fine = read_pem(files->ca, &text, NULL, why, size);
    buf_close(&text);
    if (fine && SSL_CTX_load_verify_file(ctx, files->ca) != 1)
        fine = err_refuse(why, size,
                          "%s has no certificate in it that can be used: %s; it must be PEM: that "
                          "of the CA which has signed those of all nodes and gateways",
                          files->ca, reason());
    fine = fine && is_of(ctx, leaf, files, why, size);
    ERR_clear_error();
    return fine;
}

bool tls_cert_use(SSL_CTX *ctx, const struct tls_files *files, char *why, size_t size)
{
    X509 *leaf = use_chain(ctx, files->cert, why, size);
    bool fine = leaf != NULL && use_key(ctx, leaf, files, why, size) &&
                (files->ca == NULL || use_ca(ctx, leaf, files, why, size));
    if (fine)
        mind_dates(leaf, files);
    X509_free(leaf);
    return fine;
}
