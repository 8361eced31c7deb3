/* store/base/jwt.h: signed tokens (RFC 7519) and keys (RFC 7517); the only includer of cjose.
 * HS256 with one secret, or RS256, ES256, EdDSA (Ed25519, by OpenSSL) with the public keys of a
 * JWKS. The header's `alg` must be the key's; `none`, an unknown `crit`, a key of the wrong use:
 * refused. MACs are compared in constant time.
 * Thread: a key set is read-only once loaded; any thread may verify with it. */
#ifndef LOQUAT_BASE_JWT_H
#define LOQUAT_BASE_JWT_H

#include "store/base/buf.h"
#include "store/base/ids.h"
#include "store/base/secret.h"

enum {
    JWT_USER_MAX = USER_MAX,
    JWT_TOKEN_MAX = 8192,
    JWT_SECRET_MIN = SECRET_MIN,
    JWT_SKEW_S = 30
};

enum jwt_scope { JWT_SCOPE_ADMIN = 1, JWT_SCOPE_JOBS = 2 };

struct jwt_claims {
    char user[JWT_USER_MAX + 1];
    uint64_t exp_ms;
    uint32_t scope; /* bits of enum jwt_scope */
    /* Of a word send:C: the only conversation into which it may be written, and that is all that
     * may be done; empty: an ordinary token. */
    char send_to[CONV_ID_MAX + 1];
};

struct jwt_keys;
/* From files. On failure NULL, and `why` (size bytes) says what is wrong and what to do. A secret
 * file holds at least JWT_SECRET_MIN bytes (one trailing newline does not count). Keys of a JWKS
 * for other uses and algorithms are skipped with a line in the log; private ones are refused. */
struct jwt_keys *jwt_keys_load_secret(const char *path, char *why, size_t size);
struct jwt_keys *jwt_keys_load_jwks(const char *path, char *why, size_t size);
void jwt_keys_free(struct jwt_keys *keys);

/* 0, or ERR_UNAUTHORIZED with `why`. `now_ms`: the caller's clock. */
int jwt_verify(const struct jwt_keys *keys, struct span token, uint64_t now_ms,
               struct jwt_claims *claims, char *why, size_t size);
/* HS256 only, for `loquat-log token` and tests; appended. Scope: the claim as text, may be empty.
 * ERR_BAD_REQUEST: no secret, a user that is none, a lifetime that ends never or at once. */
int jwt_sign(const struct jwt_keys *keys, const char *user, const char *scope, uint64_t now_ms,
             uint64_t ttl_s, struct buf *out);

/* cjose and jansson end the process from here on when they get no memory (memory.h): cjose reads
 * through NULL in places. */
void jwt_memory_must(void);

#endif
