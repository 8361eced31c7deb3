/* Tokens and key sets from anyone: none crashes, none is accepted that was not signed.
 * First byte: 0 the rest is a token; 1 header, newline and payload, to be signed here; 2 a JWKS. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/jwt.h"
#include "store/base/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW UINT64_C(1700000000000)
static const char SECRET[] = "0123456789abcdef0123456789abcdef";
static struct jwt_keys *keys;
static int file;
static char path[32];

static void fill(const void *bytes, size_t n)
{
    ASSERT(ftruncate(file, 0) == 0);
    ASSERT(pwrite(file, bytes, n, 0) == (ssize_t)n);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    char why[256];
    log_setup("jwt_fuzz", LOG_ERROR, LOG_TEXT);
    file = memfd_create("keys", 0);
    ASSERT(file >= 0 && fchmod(file, 0600) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    fill(SECRET, sizeof SECRET - 1);
    keys = jwt_keys_load_secret(path, why, sizeof why);
    ASSERT(keys != NULL);
    return 0;
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

static void verify(struct span token, bool may_pass)
{
    struct jwt_claims claims;
    char why[256] = "";
    if (jwt_verify(keys, token, NOW, &claims, why, sizeof why) == 0) {
        ASSERT(may_pass);
        ASSERT(claims.exp_ms > NOW && user_valid(span_str(claims.user)));
    } else {
        ASSERT(why[0] != '\0' && claims.user[0] == '\0' && claims.scope == 0);
    }
}

static void verify_signed(struct span header, struct span payload)
{
    struct buf token = {0};
    unsigned char mac[32];
    unsigned size = sizeof mac;
    base64url(&token, header.p, header.n);
    buf_add_str(&token, ".");
    base64url(&token, payload.p, payload.n);
    HMAC(EVP_sha256(), SECRET, sizeof SECRET - 1, (unsigned char *)token.p, token.n, mac, &size);
    buf_add_str(&token, ".");
    base64url(&token, mac, size);
    verify(buf_span(&token), true);
    buf_close(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    const char *line = rest.n > 0 ? memchr(rest.p, '\n', rest.n) : NULL;
    char why[256] = "";
    if (data[0] % 3 == 0) {
        verify(rest, false);
    } else if (data[0] % 3 == 1 && line != NULL) {
        size_t n = (size_t)(line - rest.p);
        verify_signed(span_of(rest.p, n), span_of(line + 1, rest.n - n - 1));
    } else if (data[0] % 3 == 2) {
        fill(rest.p, rest.n);
        struct jwt_keys *set = jwt_keys_load_jwks(path, why, sizeof why);
        ASSERT(set != NULL || why[0] != '\0');
        jwt_keys_free(set);
    }
    return 0;
}
