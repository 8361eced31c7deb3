/* tests/lib/tokens.h: keys and tokens for tests, made without the code under test.
 * State:  one test's; tokens_setup and tokens_teardown are its init and fini. */
#ifndef LOQUAT_TESTS_TOKENS_H
#define LOQUAT_TESTS_TOKENS_H

#include <openssl/evp.h>

#include "store/base/jwt.h"

#define NOW UINT64_C(1700000000000)
#define CLAIMS "{\"sub\":\"alice\",\"exp\":1700000060}"
#define SECRET "0123456789abcdef0123456789abcdef"

extern struct token_fixture {
    char path[64], why[512]; /* of the key file; of the last refusal */
    struct jwt_keys *keys;
    struct jwt_claims claims; /* of the last token_verify */
    struct buf token, jwks;   /* what is being made */
    EVP_PKEY *rsa, *ec, *ed;
} fix;

void tokens_setup(void);
void tokens_teardown(void);

/* Into `keys`. */
void keys_load_secret(const void *bytes, size_t n);
bool keys_load_jwks(const char *text);
void keys_use_secret(void); /* SECRET */
void keys_use_all(void);    /* fresh rsa, ec and ed, with the kids r, e and d */

/* Adds `key` to `jwks`; `more`: further members, e.g. ",\"kid\":\"a\"". */
void keys_add(EVP_PKEY *key, const char *more);
const char *keys_end(void); /* its text */

/* Into `token`: signed with `key`, or when that is NULL with an HMAC of `secret`. */
void token_make_with(EVP_PKEY *key, const void *secret, size_t secret_size, const char *header,
                     const char *payload);
void token_make(const char *header, const char *payload); /* HMAC of SECRET */

int token_verify(void); /* `token` at NOW */
void token_accepted(void);
void token_refused(const char *reason); /* with `reason` in `why`, and nothing left behind */
void token_claims_refused(const char *payload, const char *reason);

#endif
