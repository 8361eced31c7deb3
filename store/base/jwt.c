#include "store/base/jwt.h"

#include <cjose/cjose.h>
#include <errno.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/base/secret.h"

enum {
    JWKS_MAX = 256 * 1024, /* bytes of a JWKS file */
    KEYS_MAX = 32,         /* keys of a set; a token without kid costs at most as many checks */
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192,
    RSA_EXPONENT_BITS_MAX = 64,
    ED25519_KEY_SIZE = 32,
    ED25519_SIGNATURE_SIZE = 64,
    COORDINATE_CHARS = 43, /* 32 bytes as base64url */
};

/* Seconds; the end of the year 9999. In milliseconds it is far below 2^53. */
#define DATE_MAX INT64_C(253402300799)

enum alg { HS256, RS256, ES256, EDDSA };

static const struct {
    const char *name, *kty, *crv;
    size_t signature_size; /* bytes; RSA: the modulus's */
} ALGS[] = {
    [HS256] = {"HS256", "oct", NULL, 32},
    [RS256] = {"RS256", "RSA", NULL, 0},
    [ES256] = {"ES256", "EC", "P-256", 64},
    [EDDSA] = {"EdDSA", "OKP", "Ed25519", ED25519_SIGNATURE_SIZE},
};
enum { ALG_COUNT = sizeof ALGS / sizeof *ALGS };

struct key {
    enum alg alg;
    char *kid; /* NULL: has none */
    size_t signature_size;
    cjose_jwk_t *jwk; /* all but EdDSA, which cjose does not know */
    EVP_PKEY *ed25519;
};

struct jwt_keys {
    struct key keys[KEYS_MAX];
    size_t count;
};

void jwt_memory_must(void)
{
    cjose_set_alloc_funcs(xmalloc, xrealloc, free);
    json_set_alloc_funcs(xmalloc, free);
}

/* ---- base64url ------------------------------------------------------------------------------ */

static int base64url_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* cjose's decoder ends at '=' whatever follows and takes any bits in an unfinished last byte. Here
 * there is one spelling of each byte string and no other. */
static bool base64url_strict(struct span text)
{
    if (text.n == 0 || text.n % 4 == 1)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (base64url_digit(text.p[i]) < 0)
            return false;
    int unused = text.n % 4 == 2 ? 0xf : text.n % 4 == 3 ? 0x3 : 0;
    return (base64url_digit(text.p[text.n - 1]) & unused) == 0;
}

/* Free with free(). NULL: not strict base64url. */
static uint8_t *decode(struct span text, size_t *n)
{
    uint8_t *bytes = NULL;
    if (!base64url_strict(text) || !cjose_base64url_decode(text.p, text.n, &bytes, n, NULL))
        return NULL;
    return bytes;
}

/* A base64url string member of `object`; an empty span when there is none. */
static struct span member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    const char *text = json_string_value(value);
    return text != NULL ? span_of(text, json_string_length(value)) : (struct span){0};
}

/* ---- key sets ------------------------------------------------------------------------------- */

static struct jwt_keys *keys_new(void)
{
    return xcalloc(1, sizeof(struct jwt_keys));
}

static void key_close(struct key *key)
{
    cjose_jwk_release(key->jwk);
    EVP_PKEY_free(key->ed25519);
    free(key->kid);
}

void jwt_keys_free(struct jwt_keys *keys)
{
    if (keys == NULL)
        return;
    for (size_t i = 0; i < keys->count; i++)
        key_close(&keys->keys[i]);
    free(keys);
}

static bool read_whole(const char *path, size_t max, struct buf *text, char *why, size_t size)
{
    int err = file_read(path, max, text, NULL);
    if (err == ERR_TOO_LARGE)
        return err_refuse(why, size, "%s: more than %zu bytes; is this the right file?", path, max);
    return err == 0 || err_refuse(why, size, "cannot read %s: %s", path, strerror(errno));
}

struct jwt_keys *jwt_keys_load_secret(const char *path, char *why, size_t size)
{
    struct buf text;
    if (secret_load(path, &text, why, size) != 0)
        return NULL;
    struct jwt_keys *keys = NULL;
    cjose_jwk_t *jwk = cjose_jwk_create_oct_spec((const uint8_t *)text.p, text.n, NULL);
    if (jwk == NULL) {
        err_refuse(why, size, "%s: the secret could not be taken", path);
    } else {
        keys = keys_new();
        keys->keys[keys->count++] =
            (struct key){.alg = HS256, .jwk = jwk, .signature_size = ALGS[HS256].signature_size};
    }
    secret_drop(&text);
    return keys;
}

/* NULL, or why a key is not for checking tokens here: other keys of the set may be. */
static const char *why_skipped(const json_t *jwk, struct key *key)
{
    const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops");
    if (use != NULL && !span_is(member(jwk, "use"), "sig"))
        return "its use is not sig";
    if (ops != NULL) {
        bool verify = false;
        for (size_t i = 0; i < json_array_size(ops); i++) {
            const char *op = json_string_value(json_array_get(ops, i));
            verify |= op != NULL && strcmp(op, "verify") == 0;
        }
        if (!verify)
            return "its key_ops lack verify";
    }
    size_t alg = 0;
    while (alg < ALG_COUNT && (!span_is(member(jwk, "kty"), ALGS[alg].kty) ||
                               (ALGS[alg].crv && !span_is(member(jwk, "crv"), ALGS[alg].crv))))
        alg++;
    if (alg == ALG_COUNT)
        return "its kind or curve is not supported; RSA, P-256 and Ed25519 are";
    if (json_object_get(jwk, "alg") != NULL && !span_is(member(jwk, "alg"), ALGS[alg].name))
        return "its alg is not supported; RS256, ES256 and EdDSA are";
    key->alg = (enum alg)alg;
    key->signature_size = ALGS[alg].signature_size;
    return NULL;
}

static bool load_rsa(const json_t *jwk, struct key *key, char *why, size_t size)
{
    size_t n_size = 0, e_size = 0;
    uint8_t *n = decode(member(jwk, "n"), &n_size), *e = decode(member(jwk, "e"), &e_size);
    BIGNUM *modulus = n != NULL ? BN_bin2bn(n, (int)n_size, NULL) : NULL;
    BIGNUM *exponent = e != NULL ? BN_bin2bn(e, (int)e_size, NULL) : NULL;
    int bits = modulus != NULL ? BN_num_bits(modulus) : 0;
    bool fine = modulus != NULL && exponent != NULL;
    if (!fine)
        err_refuse(why, size, "n or e is missing or not base64url");
    else if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        fine = err_refuse(why, size, "an RSA key of %d bits; use one of %d to %d", bits,
                          RSA_BITS_MIN, RSA_BITS_MAX);
    else if (!BN_is_odd(modulus) || !BN_is_odd(exponent) || BN_is_one(exponent) ||
             BN_num_bits(exponent) > RSA_EXPONENT_BITS_MAX)
        fine = err_refuse(why, size, "not an RSA key: n and e must be odd, and e from 3 to 2^64");
    key->signature_size = ((size_t)bits + 7) / 8;
    BN_free(modulus);
    BN_free(exponent);
    free(n);
    free(e);
    return fine;
}

static bool load_ed25519(const json_t *jwk, struct key *key, char *why, size_t size)
{
    size_t n = 0;
    uint8_t *x = decode(member(jwk, "x"), &n);
    if (x != NULL && n == ED25519_KEY_SIZE)
        key->ed25519 = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, n);
    free(x);
    return key->ed25519 != NULL || err_refuse(why, size, "x is not an Ed25519 public key");
}

static bool load_key(const json_t *jwk, struct key *key, char *why, size_t size)
{
    if (key->alg == EDDSA)
        return load_ed25519(jwk, key, why, size);
    if (key->alg == RS256 && !load_rsa(jwk, key, why, size))
        return false;
    struct span x = member(jwk, "x"), y = member(jwk, "y");
    if (key->alg == ES256 && (x.n != COORDINATE_CHARS || y.n != COORDINATE_CHARS ||
                              !base64url_strict(x) || !base64url_strict(y)))
        return err_refuse(why, size, "x and y must be 32 bytes each, as base64url");
    char *text = json_dumps(jwk, JSON_COMPACT);
    if (text != NULL)
        key->jwk = cjose_jwk_import(text, strlen(text), NULL);
    free(text);
    return key->jwk != NULL || err_refuse(why, size, "not a point of its curve, or not a key");
}

/* Appends one key of the set, or logs why it is of no use. False: the whole set is refused. */
static bool add_key(struct jwt_keys *keys, const json_t *jwk, char *why, size_t size)
{
    static const char *const PRIVATE[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};
    if (!json_is_object(jwk))
        return err_refuse(why, size, "not a JSON object");
    for (size_t i = 0; i < sizeof PRIVATE / sizeof *PRIVATE; i++)
        if (json_object_get(jwk, PRIVATE[i]) != NULL)
            return err_refuse(
                why, size,
                "holds a private or secret key (member \"%s\"); here belong public keys "
                "only: remove it, and make a new pair if others could read the file",
                PRIVATE[i]);
    const json_t *kid = json_object_get(jwk, "kid");
    if (kid != NULL && !json_is_string(kid))
        return err_refuse(why, size, "its kid is not a string");
    struct key key = {0};
    const char *skipped = why_skipped(jwk, &key);
    if (skipped != NULL) {
        log_info("key of the JWKS skipped",
                 {"kid", log_str(kid != NULL ? json_string_value(kid) : "")},
                 {"why", log_str(skipped)});
        return true;
    }
    if (!load_key(jwk, &key, why, size)) {
        key_close(&key);
        return false;
    }
    key.kid = kid != NULL ? xstrdup(json_string_value(kid)) : NULL;
    keys->keys[keys->count++] = key;
    return true;
}

static bool add_keys(struct jwt_keys *keys, const char *path, const json_t *set, char *why,
                     size_t size)
{
    const json_t *list = json_object_get(set, "keys");
    if (!json_is_array(list))
        return err_refuse(why, size, "%s: not a key set; it must look like {\"keys\":[{…},…]}",
                          path);
    if (json_array_size(list) > KEYS_MAX)
        return err_refuse(why, size, "%s: %zu keys; at most %d are taken: remove old ones", path,
                          json_array_size(list), KEYS_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char what[256];
        if (!add_key(keys, json_array_get(list, i), what, sizeof what))
            return err_refuse(why, size, "%s: key %zu: %s", path, i + 1, what);
    }
    return keys->count > 0 ||
           err_refuse(why, size, "%s: no key for RS256, ES256 or EdDSA signatures in it", path);
}

struct jwt_keys *jwt_keys_load_jwks(const char *path, char *why, size_t size)
{
    struct buf text = {0};
    struct jwt_keys *keys = NULL;
    if (!read_whole(path, JWKS_MAX, &text, why, size))
        goto out;
    json_error_t error;
    json_t *set = json_loadb(text.n > 0 ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &error);
    if (set == NULL) {
        err_refuse(why, size, "%s:%d:%d: not JSON: %s", path, error.line, error.column, error.text);
        goto out;
    }
    keys = keys_new();
    if (!add_keys(keys, path, set, why, size)) {
        jwt_keys_free(keys);
        keys = NULL;
    }
    json_decref(set);
out:
    ERR_clear_error();
    buf_close(&text);
    return keys;
}

/* ---- verifying ------------------------------------------------------------------------------ */

struct token {
    struct span header, payload, signature; /* base64url */
    struct span whole, signed_part;
};

static bool split(struct span whole, struct token *token)
{
    const char *end = whole.p + whole.n;
    const char *dot = whole.n > 0 ? memchr(whole.p, '.', whole.n) : NULL;
    const char *last = dot != NULL ? memchr(dot + 1, '.', (size_t)(end - dot - 1)) : NULL;
    if (last == NULL)
        return false;
    token->whole = whole;
    token->header = span_of(whole.p, (size_t)(dot - whole.p));
    token->payload = span_of(dot + 1, (size_t)(last - dot - 1));
    token->signature = span_of(last + 1, (size_t)(end - last - 1));
    token->signed_part = span_of(whole.p, (size_t)(last - whole.p));
    return base64url_strict(token->header) && base64url_strict(token->payload) &&
           base64url_strict(token->signature);
}

/* An object with no name twice, or NULL. */
static json_t *decode_json(struct span text)
{
    size_t n = 0;
    uint8_t *bytes = decode(text, &n);
    json_t *json = NULL;
    if (bytes != NULL)
        json = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
    free(bytes);
    if (json != NULL && !json_is_object(json)) {
        json_decref(json);
        json = NULL;
    }
    return json;
}

static bool verify_ed25519(const struct key *key, const struct token *token)
{
    size_t n = 0;
    uint8_t *signature = decode(token->signature, &n);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool fine = signature != NULL && context != NULL &&
                EVP_DigestVerifyInit(context, NULL, NULL, NULL, key->ed25519) == 1 &&
                EVP_DigestVerify(context, signature, n, (const uint8_t *)token->signed_part.p,
                                 token->signed_part.n) == 1;
    EVP_MD_CTX_free(context);
    free(signature);
    return fine;
}

/* cjose ignores what exceeds an ES256 signature, hence the exact size. */
static bool verify_with(const struct key *key, const struct token *token)
{
    if (token->signature.n != (key->signature_size * 4 + 2) / 3)
        return false;
    if (key->alg == EDDSA)
        return verify_ed25519(key, token);
    cjose_jws_t *jws = cjose_jws_import(token->whole.p, token->whole.n, NULL);
    bool fine = jws != NULL && cjose_jws_verify(jws, key->jwk, NULL);
    cjose_jws_release(jws);
    return fine;
}

/* The header decides which keys are tried, never how: a key knows its alg. */
static bool verify_signature(const struct jwt_keys *keys, const struct token *token, char *why,
                             size_t size)
{
    json_t *header = decode_json(token->header);
    if (header == NULL)
        return err_refuse(why, size, "the token's header is not a JSON object");
    const json_t *kid = json_object_get(header, "kid");
    struct span alg = member(header, "alg");
    bool fine = false, fits = false;
    if (alg.n == 0)
        err_refuse(why, size, "the token names no alg");
    else if (json_object_get(header, "crit") != NULL)
        err_refuse(why, size, "the token asks for extensions (crit) that are not known here");
    else if (kid != NULL && !json_is_string(kid))
        err_refuse(why, size, "the token's kid is not a string");
    else {
        for (size_t i = 0; i < keys->count && !fine; i++) {
            const struct key *key = &keys->keys[i];
            bool named = kid == NULL || key->alg == HS256 ||
                         (key->kid != NULL && strcmp(key->kid, json_string_value(kid)) == 0);
            if (!named || !span_is(alg, ALGS[key->alg].name))
                continue;
            fits = true;
            fine = verify_with(key, token);
        }
        if (!fine)
            err_refuse(why, size, "%s",
                       fits ? "the token's signature is wrong"
                            : "no key here has the token's alg and kid");
    }
    ERR_clear_error(); /* TLS on this thread reads the same queue */
    json_decref(header);
    return fine;
}

static bool date_ms(const json_t *value, uint64_t *ms)
{
    double seconds = json_is_number(value) ? json_number_value(value) : -1;
    if (!(seconds >= 0 && seconds <= (double)DATE_MAX))
        return false;
    *ms = json_is_integer(value) ? (uint64_t)json_integer_value(value) * 1000
                                 : (uint64_t)(seconds * 1000);
    return true;
}

/* A token that may do less than an ordinary one says so in full, or is refused. */
static bool take_send(struct span word, struct jwt_claims *claims)
{
    static const char SEND[] = "send:";
    size_t n = sizeof SEND - 1;
    if (word.n < n || memcmp(word.p, SEND, n) != 0)
        return true;
    struct span conv = span_of(word.p + n, word.n - n);
    if (!conv_name_valid(conv) || claims->send_to[0] != '\0')
        return false;
    memcpy(claims->send_to, conv.p, conv.n);
    claims->send_to[conv.n] = '\0';
    return true;
}

static bool parse_scope(const char *text, struct jwt_claims *claims)
{
    while (*text != '\0') {
        struct span word = span_of(text, strcspn(text, " "));
        if (span_is(word, "admin"))
            claims->scope |= JWT_SCOPE_ADMIN;
        else if (span_is(word, "jobs"))
            claims->scope |= JWT_SCOPE_JOBS;
        else if (!take_send(word, claims))
            return false;
        text += word.n;
        text += strspn(text, " ");
    }
    return claims->send_to[0] == '\0' || claims->scope == 0;
}

static bool check_claims(const json_t *payload, uint64_t now_ms, struct jwt_claims *claims,
                         char *why, size_t size)
{
    struct span user = member(payload, "sub");
    const json_t *nbf = json_object_get(payload, "nbf"), *scope = json_object_get(payload, "scope");
    uint64_t nbf_ms = 0;
    if (!user_valid(user))
        return err_refuse(why, size, "sub must be 1 to %d of A-Za-z0-9._@-", JWT_USER_MAX);
    if (!date_ms(json_object_get(payload, "exp"), &claims->exp_ms))
        return err_refuse(why, size, "exp must be there, in seconds since 1970");
    if (claims->exp_ms <= now_ms)
        return err_refuse(why, size, "the token has expired");
    if (nbf != NULL && !date_ms(nbf, &nbf_ms))
        return err_refuse(why, size, "nbf must be seconds since 1970");
    if (nbf_ms > now_ms + JWT_SKEW_S * UINT64_C(1000))
        return err_refuse(why, size, "the token is not valid yet");
    if (scope != NULL && !json_is_string(scope))
        return err_refuse(why, size, "scope must be a string");
    memcpy(claims->user, user.p, user.n);
    claims->user[user.n] = '\0';
    claims->scope = 0;
    claims->send_to[0] = '\0';
    if (scope != NULL && !parse_scope(json_string_value(scope), claims))
        return err_refuse(why, size, "scope send:… names one conversation, and stands alone");
    return true;
}

int jwt_verify(const struct jwt_keys *keys, struct span token, uint64_t now_ms,
               struct jwt_claims *claims, char *why, size_t size)
{
    *claims = (struct jwt_claims){0};
    struct token parts;
    bool fine = false;
    if (token.n > JWT_TOKEN_MAX)
        err_refuse(why, size, "the token is longer than %d bytes", JWT_TOKEN_MAX);
    else if (!split(token, &parts))
        err_refuse(why, size, "not a signed token (three parts of base64url)");
    else
        fine = verify_signature(keys, &parts, why, size);
    if (!fine)
        return ERR_UNAUTHORIZED;

    json_t *payload = decode_json(parts.payload);
    if (payload == NULL)
        fine = err_refuse(why, size, "the token's claims are not a JSON object");
    else
        fine = check_claims(payload, now_ms, claims, why, size);
    json_decref(payload);
    if (!fine)
        *claims = (struct jwt_claims){0};
    return fine ? 0 : ERR_UNAUTHORIZED;
}

/* ---- signing -------------------------------------------------------------------------------- */

static bool sign(const struct key *key, const json_t *claims, struct buf *out)
{
    bool fine = false;
    const char *token = NULL;
    char *text = json_dumps(claims, JSON_COMPACT);
    cjose_header_t *header = cjose_header_new(NULL);
    cjose_jws_t *jws = NULL;
    if (text != NULL && header != NULL && cjose_header_set(header, "alg", "HS256", NULL) &&
        cjose_header_set(header, "typ", "JWT", NULL))
        jws = cjose_jws_sign(key->jwk, header, (const uint8_t *)text, strlen(text), NULL);
    if (jws != NULL && cjose_jws_export(jws, &token, NULL)) {
        fine = strlen(token) <= JWT_TOKEN_MAX;
        if (fine)
            buf_add_str(out, token);
    }
    cjose_jws_release(jws);
    cjose_header_release(header);
    free(text);
    return fine;
}

int jwt_sign(const struct jwt_keys *keys, const char *user, const char *scope, uint64_t now_ms,
             uint64_t ttl_s, struct buf *out)
{
    int64_t now_s = (int64_t)(now_ms / 1000);
    if (keys->count != 1 || keys->keys[0].alg != HS256 || !user_valid(span_str(user)) ||
        ttl_s == 0 || ttl_s > DATE_MAX || now_s > DATE_MAX - (int64_t)ttl_s)
        return ERR_BAD_REQUEST;
    json_t *claims = json_pack("{s:s, s:I, s:I}", "sub", user, "iat", (json_int_t)now_s, "exp",
                               (json_int_t)now_s + (json_int_t)ttl_s);
    bool fine = claims != NULL;
    if (fine && scope != NULL && *scope != '\0')
        fine = json_object_set_new(claims, "scope", json_string(scope)) == 0;
    fine = fine && sign(&keys->keys[0], claims, out);
    json_decref(claims);
    return fine ? 0 : ERR_BAD_REQUEST;
}
