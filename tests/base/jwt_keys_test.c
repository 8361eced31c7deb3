#include "tests/lib/tokens.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/log.h"

TestSuite(jwt_keys, .init = tokens_setup, .fini = tokens_teardown);

/* Keys for other purposes may stand in a set: they are left out, not an error. */
Test(jwt_keys, keys_of_other_uses_are_skipped)
{
    fix.ec = EVP_EC_gen("P-256");
    EVP_PKEY *other = EVP_EC_gen("P-256");
    keys_add(other, ",\"kid\":\"a\",\"use\":\"enc\"");
    keys_add(other, ",\"kid\":\"b\",\"key_ops\":[\"encrypt\"]");
    keys_add(other, ",\"kid\":\"c\",\"alg\":\"ECDH-ES\"");
    buf_add_str(&fix.jwks, ",{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AAAA\"}");
    buf_add_str(&fix.jwks, ",{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AAAA\",\"y\":\"AAAA\"}");
    buf_add_str(&fix.jwks, ",{\"kty\":\"future\"}");
    keys_add(fix.ec, "");
    cr_assert(keys_load_jwks(keys_end()), "%s", fix.why);
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\"}", CLAIMS);
    token_accepted();
    token_make_with(other, NULL, 0, "{\"alg\":\"ES256\"}", CLAIMS);
    token_refused("signature is wrong");
    token_make_with(other, NULL, 0, "{\"alg\":\"ES256\",\"kid\":\"a\"}", CLAIMS);
    token_refused("no key here");
    EVP_PKEY_free(other);
}

static void jwks_refused(const char *text, const char *reason)
{
    cr_assert(not(keys_load_jwks(text)));
    cr_assert(ne(ptr, strstr(fix.why, reason), NULL), "\"%s\" instead of \"%s\"", fix.why, reason);
    cr_assert(eq(int, strncmp(fix.why, fix.path, strlen(fix.path)), 0), "%s", fix.why);
}

Test(jwt_keys, broken_key_sets_are_refused)
{
    jwks_refused("", ":1:0: not JSON");
    jwks_refused("{\"keys\":[}", ":1:10: not JSON");
    jwks_refused("{\"keys\":[],\"keys\":[]}", "not JSON: duplicate");
    jwks_refused("[]", "must look like");
    jwks_refused("{\"kty\":\"EC\"}", "must look like");
    jwks_refused("{\"keys\":{}}", "must look like");
    jwks_refused("{\"keys\":[]}", "no key for RS256, ES256 or EdDSA");
    jwks_refused("{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\"}]}", "no key for RS256");
    jwks_refused("{\"keys\":[7]}", "key 1: not a JSON object");
    jwks_refused("{\"keys\":[{\"kty\":\"RSA\",\"kid\":7}]}", "key 1: its kid is not a string");
    jwks_refused("{\"keys\":[{\"kty\":\"RSA\"}]}", "key 1: n or e is missing");
    jwks_refused("{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
                 "key 1: x is not an Ed25519");
    jwks_refused("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}]}",
                 "key 1: x and y must be 32 bytes");
    jwks_refused(/* the RFC's point with one digit changed */
                 "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
                 "\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uP"
                 "HvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a4\"}]}",
                 "key 1: not a point");
}

/* Who puts a private key where others may read it learns of it at once. */
Test(jwt_keys, private_keys_are_refused)
{
    jwks_refused("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "holds a private or secret key");
    jwks_refused("{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\",\"d\":\"AAAA\"}]}",
                 "(member \"d\")");
    jwks_refused("{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\",\"qi\":\"AAAA\"}]}",
                 "here belong public keys only");
}

Test(jwt_keys, weak_rsa_is_refused)
{
    fix.rsa = EVP_RSA_gen(1024);
    keys_add(fix.rsa, "");
    jwks_refused(keys_end(), "an RSA key of 1024 bits; use one of 2048 to 8192");
}

Test(jwt_keys, number_of_keys_is_bounded)
{
    fix.ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    for (int i = 0; i < 33; i++)
        keys_add(fix.ed, "");
    jwks_refused(keys_end(), "33 keys; at most 32 are taken");
}

Test(jwt_keys, size_of_the_set_is_bounded)
{
    static char text[256 * 1024 + 2];
    memset(text, ' ', sizeof text - 1);
    jwks_refused(text, "is this the right file?");
}

Test(jwt_keys, missing_files_are_named)
{
    cr_assert(eq(ptr, jwt_keys_load_jwks("/nonexistent/k", fix.why, sizeof fix.why), NULL));
    cr_assert(eq(str, fix.why, (char *)"cannot read /nonexistent/k: No such file or directory"));
    cr_assert(eq(ptr, jwt_keys_load_secret("/nonexistent/s", fix.why, sizeof fix.why), NULL));
    cr_assert(eq(str, fix.why, (char *)"cannot read /nonexistent/s: No such file or directory"));
}

/* A secret has at least 32 bytes; an editor's newline after it is not one of them. */
Test(jwt_keys, short_secret_is_refused)
{
    static char huge[5000];
    keys_load_secret("0123456789abcdef0123456789abcde\n", 32);
    cr_assert(eq(ptr, fix.keys, NULL));
    cr_assert(ne(ptr, strstr(fix.why, "31 bytes is too short"), NULL), "%s", fix.why);
    keys_load_secret("", 0);
    cr_assert(eq(ptr, fix.keys, NULL));
    keys_load_secret(huge, sizeof huge);
    cr_assert(eq(ptr, fix.keys, NULL));
    keys_load_secret("0123456789abcdef0123456789abcdef\n", 33);
    cr_assert(ne(ptr, fix.keys, NULL));
    token_make("{\"alg\":\"HS256\"}", CLAIMS);
    token_accepted();
}

/* A secret that every user of the machine may read is told of, and taken. */
Test(jwt_keys, secret_open_to_all_is_warned_of)
{
    char line[512] = "";
    int sink = memfd_create("stderr", 0);
    keys_use_secret();
    log_setup("jwt_keys_test", LOG_WARN, LOG_JSON);
    cr_assert(ge(int, dup2(sink, STDERR_FILENO), 0));
    for (int mode = 0600; mode <= 0644; mode += 0044) {
        jwt_keys_free(fix.keys);
        cr_assert(eq(int, chmod(fix.path, (mode_t)mode), 0));
        fix.keys = jwt_keys_load_secret(fix.path, fix.why, sizeof fix.why);
        cr_assert(ne(ptr, fix.keys, NULL));
        cr_assert(eq(int, pread(sink, line, sizeof line - 1, 0) > 0, mode == 0644));
    }
    cr_assert(ne(ptr, strstr(line, "chmod 600"), NULL), "%s", line);
    cr_assert(ne(ptr, strstr(line, fix.path), NULL), "%s", line);
    cr_assert(eq(ptr, strstr(line, SECRET), NULL));
}

static struct buf tokens[3];

static void *verify_many(void *failures)
{
    struct jwt_claims claims;
    char why[256];
    for (int i = 0; i < 300; i++)
        if (jwt_verify(fix.keys, buf_span(&tokens[i % 3]), NOW, &claims, why, sizeof why) != 0)
            ++*(int *)failures;
    return NULL;
}

/* A key set that is loaded serves any number of threads. */
Test(jwt_keys, threads_share_a_key_set)
{
    pthread_t threads[4];
    int failures[4] = {0};
    keys_use_all();
    token_make_with(fix.rsa, NULL, 0, "{\"alg\":\"RS256\"}", CLAIMS);
    buf_add_span(&tokens[0], buf_span(&fix.token));
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\"}", CLAIMS);
    buf_add_span(&tokens[1], buf_span(&fix.token));
    token_make_with(fix.ed, NULL, 0, "{\"alg\":\"EdDSA\"}", CLAIMS);
    buf_add_span(&tokens[2], buf_span(&fix.token));
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, verify_many, &failures[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        cr_assert(eq(int, failures[i], 0));
    }
    for (int i = 0; i < 3; i++)
        buf_close(&tokens[i]);
}

/* ---- signing ---- */

Test(jwt_keys, signing_refuses_what_nobody_would_accept)
{
    keys_use_secret();
    cr_assert(eq(int, jwt_sign(fix.keys, "a b", "", NOW, 60, &fix.token), ERR_BAD_REQUEST));
    cr_assert(eq(int, jwt_sign(fix.keys, "", "", NOW, 60, &fix.token), ERR_BAD_REQUEST));
    cr_assert(eq(int, jwt_sign(fix.keys, "a", "", NOW, 0, &fix.token), ERR_BAD_REQUEST));
    cr_assert(eq(int, jwt_sign(fix.keys, "a", "", NOW, UINT64_MAX, &fix.token), ERR_BAD_REQUEST));
    cr_assert(eq(int, jwt_sign(fix.keys, "a", "\xff", NOW, 60, &fix.token), ERR_BAD_REQUEST));
    keys_use_all();
    cr_assert(eq(int, jwt_sign(fix.keys, "a", "", NOW, 60, &fix.token), ERR_BAD_REQUEST));
    cr_assert(eq(sz, fix.token.n, 0));
}

/* Nothing is appended but the token, and what was there stays. */
Test(jwt_keys, signing_appends)
{
    keys_use_secret();
    buf_add_str(&fix.token, "before ");
    cr_assert(eq(int, jwt_sign(fix.keys, "a", NULL, NOW, 60, &fix.token), 0));
    cr_assert(eq(int, strncmp(fix.token.p, "before ", 7), 0));
    buf_cut(&fix.token, 7);
    token_accepted();
}

Test(jwt_keys, user_names)
{
    char name[JWT_USER_MAX + 2];
    memset(name, 'a', sizeof name);
    cr_assert(user_valid(span_of(name, JWT_USER_MAX)));
    cr_assert(not(user_valid(span_of(name, JWT_USER_MAX + 1))));
    cr_assert(not(user_valid(span_of(name, 0))));
    for (int c = 0; c < 256; c++) {
        name[0] = (char)c;
        bool good = c != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789._@-",
                                     c) != NULL;
        cr_assert(eq(int, user_valid(span_of(name, 1)), good), "byte %d", c);
    }
}
