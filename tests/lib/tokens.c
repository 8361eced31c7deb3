#include "tests/lib/tokens.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/log.h"

static char dir[] = "/tmp/loquat-jwt-test-XXXXXX";
struct token_fixture fix;

/* Not Criterion's: benches and fuzz targets are linked with this file too. */
static void must(bool fine, const char *expected)
{
    if (!fine) {
        fprintf(stderr, "expected \"%s\", but: \"%s\"\n", expected, fix.why);
        abort();
    }
}

void tokens_setup(void)
{
    log_setup("jwt_test", LOG_ERROR, LOG_TEXT);
    ASSERT(mkdtemp(dir) != NULL);
    snprintf(fix.path, sizeof fix.path, "%s/file", dir);
}

void tokens_teardown(void)
{
    unlink(fix.path);
    rmdir(dir);
    jwt_keys_free(fix.keys);
    buf_close(&fix.token);
    buf_close(&fix.jwks);
    EVP_PKEY_free(fix.rsa);
    EVP_PKEY_free(fix.ec);
    EVP_PKEY_free(fix.ed);
}

static void write_file(const void *bytes, size_t n)
{
    FILE *out = fopen(fix.path, "w");
    ASSERT(fwrite(bytes, 1, n, out) == n);
    ASSERT(fclose(out) == 0);
    chmod(fix.path, 0600);
}

void keys_load_secret(const void *bytes, size_t n)
{
    write_file(bytes, n);
    jwt_keys_free(fix.keys);
    fix.keys = jwt_keys_load_secret(fix.path, fix.why, sizeof fix.why);
}

bool keys_load_jwks(const char *text)
{
    write_file(text, strlen(text));
    jwt_keys_free(fix.keys);
    fix.why[0] = '\0';
    fix.keys = jwt_keys_load_jwks(fix.path, fix.why, sizeof fix.why);
    return fix.keys != NULL;
}

static void base64url(struct buf *out, const void *bytes, size_t n)
{
    char *text = buf_grow(out, 4 * n / 3 + 5);
    int size = EVP_EncodeBlock((unsigned char *)text, bytes, (int)n);
    while (size > 0 && text[size - 1] == '=')
        size--;
    for (int i = 0; i < size; i++)
        text[i] = (char)(text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    out->n = (size_t)(text + size - out->p);
}

/* Adds a member of the JWKS; `number` is an EVP parameter of the key. */
static void add_number(EVP_PKEY *key, const char *member, const char *number)
{
    BIGNUM *bn = NULL;
    unsigned char bytes[1024];
    ASSERT(EVP_PKEY_get_bn_param(key, number, &bn));
    int n = key == fix.rsa ? BN_bn2bin(bn, bytes) : BN_bn2binpad(bn, bytes, 32);
    buf_addf(&fix.jwks, ",\"%s\":\"", member);
    base64url(&fix.jwks, bytes, (size_t)n);
    buf_add_str(&fix.jwks, "\"");
    BN_free(bn);
}

/* One JWK; `more`: further members, e.g. ",\"kid\":\"a\"". */
void keys_add(EVP_PKEY *key, const char *more)
{
    buf_add_str(&fix.jwks, fix.jwks.n == 0 ? "{\"keys\":[" : ",");
    if (key == fix.rsa) {
        buf_add_str(&fix.jwks, "{\"kty\":\"RSA\"");
        add_number(key, "n", "n");
        add_number(key, "e", "e");
    } else if (key == fix.ed) {
        unsigned char x[32];
        size_t n = sizeof x;
        ASSERT(EVP_PKEY_get_raw_public_key(key, x, &n));
        buf_add_str(&fix.jwks, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"");
        base64url(&fix.jwks, x, n);
        buf_add_str(&fix.jwks, "\"");
    } else {
        buf_add_str(&fix.jwks, "{\"kty\":\"EC\",\"crv\":\"P-256\"");
        add_number(key, "x", "qx");
        add_number(key, "y", "qy");
    }
    buf_addf(&fix.jwks, "%s}", more);
}

const char *keys_end(void)
{
    buf_add(&fix.jwks, "]}", 3);
    return fix.jwks.p;
}

static size_t raw_signature(EVP_PKEY *key, unsigned char *signature, size_t n)
{
    if (key == fix.rsa || key == fix.ed)
        return n;
    const unsigned char *der = signature;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), signature, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), signature + 32, 32);
    ECDSA_SIG_free(sig);
    return 64;
}

/* Signs with `key`, or when it is NULL with an HMAC of `secret`. */
void token_make_with(EVP_PKEY *key, const void *secret, size_t secret_size, const char *header,
                     const char *payload)
{
    unsigned char signature[1024];
    size_t n = sizeof signature;
    fix.token.n = 0;
    base64url(&fix.token, header, strlen(header));
    buf_add_str(&fix.token, ".");
    base64url(&fix.token, payload, strlen(payload));
    const unsigned char *text = (const unsigned char *)fix.token.p;
    if (key == NULL) {
        unsigned size = 0;
        HMAC(EVP_sha256(), secret, (int)secret_size, text, fix.token.n, signature, &size);
        n = size;
    } else {
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        EVP_DigestSignInit(context, NULL, key == fix.ed ? NULL : EVP_sha256(), NULL, key);
        ASSERT(EVP_DigestSign(context, signature, &n, text, fix.token.n) == 1);
        EVP_MD_CTX_free(context);
        n = raw_signature(key, signature, n);
    }
    buf_add_str(&fix.token, ".");
    base64url(&fix.token, signature, n);
}

void token_make(const char *header, const char *payload)
{
    token_make_with(NULL, SECRET, strlen(SECRET), header, payload);
}

int token_verify(void)
{
    fix.why[0] = '\0';
    return jwt_verify(fix.keys, buf_span(&fix.token), NOW, &fix.claims, fix.why, sizeof fix.why);
}

void token_accepted(void)
{
    must(token_verify() == 0, "accepted");
}

void token_refused(const char *reason)
{
    must(token_verify() == ERR_UNAUTHORIZED && strstr(fix.why, reason) != NULL, reason);
    ASSERT(fix.claims.user[0] == '\0' && fix.claims.scope == 0);
    ASSERT(ERR_peek_error() == 0); /* nothing is left for TLS to trip over */
}

void token_claims_refused(const char *payload, const char *reason)
{
    token_make("{\"alg\":\"HS256\"}", payload);
    token_refused(reason);
}

void keys_use_secret(void)
{
    keys_load_secret(SECRET, strlen(SECRET));
    must(fix.keys != NULL, "a secret");
}

void keys_use_all(void)
{
    fix.rsa = EVP_RSA_gen(2048);
    fix.ec = EVP_EC_gen("P-256");
    fix.ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    keys_add(fix.rsa, ",\"kid\":\"r\"");
    keys_add(fix.ec, ",\"kid\":\"e\"");
    keys_add(fix.ed, ",\"kid\":\"d\"");
    must(keys_load_jwks(keys_end()), "a key set");
}
