#include "tests/lib/tokens.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/x509.h>

#include "store/base/err.h"

TestSuite(jwt, .init = tokens_setup, .fini = tokens_teardown);

/* ---- tokens that are fine ---- */

/* What is signed here is accepted here, with its claims. */
Test(jwt, signed_token_is_accepted)
{
    keys_use_secret();
    cr_assert(eq(int, jwt_sign(fix.keys, "alice", "jobs admin", NOW, 60, &fix.token), 0));
    token_accepted();
    cr_assert(eq(str, fix.claims.user, (char *)"alice"));
    cr_assert(eq(u64, fix.claims.exp_ms, NOW + 60000));
    cr_assert(eq(u32, fix.claims.scope, JWT_SCOPE_ADMIN | JWT_SCOPE_JOBS));
}

/* The three public key algorithms, with and without kid. */
Test(jwt, public_keys_are_accepted)
{
    keys_use_all();
    token_make_with(fix.rsa, NULL, 0, "{\"alg\":\"RS256\",\"kid\":\"r\"}", CLAIMS);
    token_accepted();
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\",\"kid\":\"e\"}", CLAIMS);
    token_accepted();
    token_make_with(fix.ed, NULL, 0, "{\"alg\":\"EdDSA\",\"kid\":\"d\"}", CLAIMS);
    token_accepted();
    token_make_with(fix.ed, NULL, 0, "{\"alg\":\"EdDSA\"}", CLAIMS);
    token_accepted();
    cr_assert(eq(str, fix.claims.user, (char *)"alice"));
}

/* The examples of RFC 7515 A.1 to A.3 and RFC 8037 A.4 have no user in them: they are refused for
 * that and not for their signatures. */
#define RFC_PAYLOAD                                                                                \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"

static void vector(const char *text, const char *reason)
{
    fix.token.n = 0;
    buf_add_str(&fix.token, text);
    token_refused(reason);
    fix.token.p[fix.token.n - 30] ^= 1;
    token_refused("signature is wrong");
}

Test(jwt, rfc7515_a1_hs256)
{
    static const unsigned char KEY[] = {
        3,   35,  53, 75,  43,  15, 165, 188, 131, 126, 6,   101, 119, 123, 166, 143,
        90,  179, 40, 230, 240, 84, 201, 40,  169, 15,  132, 178, 210, 80,  46,  191,
        211, 251, 90, 146, 210, 6,  71,  239, 150, 138, 180, 195, 119, 98,  61,  34,
        61,  46,  33, 114, 5,   46, 79,  8,   192, 205, 154, 245, 103, 208, 128, 163};
    keys_load_secret(KEY, sizeof KEY);
    vector("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." RFC_PAYLOAD
           ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
           "sub must be");
}

Test(jwt, rfc7515_a2_rs256)
{
    cr_assert(keys_load_jwks(
        "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJc"
        "yQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOW"
        "vG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2"
        "CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2et"
        "hFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\"}]}"));
    vector("eyJhbGciOiJSUzI1NiJ9." RFC_PAYLOAD
           ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O"
           "8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNP"
           "vkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1p"
           "hCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
           "sub must be");
}

Test(jwt, rfc7515_a3_es256)
{
    cr_assert(keys_load_jwks(
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uP"
        "HvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}"));
    vector("eyJhbGciOiJFUzI1NiJ9." RFC_PAYLOAD
           ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1"
           "Q",
           "sub must be");
}

Test(jwt, rfc8037_a4_ed25519)
{
    cr_assert(
        keys_load_jwks("{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyW"
                       "QHOg7hcvPapiMlrwIaaPcHURo\"}]}"));
    vector("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
           "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
           "claims are not a JSON object");
}

/* ---- tokens that are not ---- */

/* Flips every bit of the token, one at a time; none of them is still accepted. */
static void flip_every_bit(void)
{
    token_accepted();
    for (size_t i = 0; i < fix.token.n * 8; i++) {
        fix.token.p[i / 8] = (char)(fix.token.p[i / 8] ^ (1 << i % 8));
        cr_assert(eq(int, token_verify(), ERR_UNAUTHORIZED), "bit %zu", i);
        fix.token.p[i / 8] = (char)(fix.token.p[i / 8] ^ (1 << i % 8));
    }
    token_accepted();
}

Test(jwt, one_flipped_bit_is_refused_hs256)
{
    keys_use_secret();
    token_make("{\"alg\":\"HS256\"}", CLAIMS);
    flip_every_bit();
}
Test(jwt, one_flipped_bit_is_refused_rs256)
{
    keys_use_all();
    token_make_with(fix.rsa, NULL, 0, "{\"alg\":\"RS256\"}", CLAIMS);
    flip_every_bit();
}
Test(jwt, one_flipped_bit_is_refused_es256)
{
    keys_use_all();
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\"}", CLAIMS);
    flip_every_bit();
}
Test(jwt, one_flipped_bit_is_refused_eddsa)
{
    keys_use_all();
    token_make_with(fix.ed, NULL, 0, "{\"alg\":\"EdDSA\"}", CLAIMS);
    flip_every_bit();
}

/* A token that is cut off anywhere, or goes on after its end, is refused. */
Test(jwt, truncated_or_extended_is_refused)
{
    static const char *const MORE[] = {"A", "AA", "AAAA", "=", "==", "=A", ".", ".A", "\n", " "};
    keys_use_all();
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\"}", CLAIMS);
    size_t n = fix.token.n;
    for (fix.token.n = 0; fix.token.n < n; fix.token.n++)
        cr_assert(eq(int, token_verify(), ERR_UNAUTHORIZED), "%zu of %zu bytes", fix.token.n, n);
    for (size_t i = 0; i < sizeof MORE / sizeof *MORE; i++) {
        fix.token.n = n;
        token_accepted();
        buf_add_str(&fix.token, MORE[i]);
        cr_assert(eq(int, token_verify(), ERR_UNAUTHORIZED), "and \"%s\"", MORE[i]);
    }
}

/* There is one spelling of a signature: the unused bits of its last digit are 0. */
Test(jwt, second_spelling_of_base64_is_refused)
{
    keys_use_secret();
    token_make("{\"alg\":\"HS256\"}", CLAIMS);
    token_accepted();
    char *last = &fix.token.p[fix.token.n - 1]; /* one of AEIMQUYcgkosw048 */
    *last = (char)(*last + 1);
    token_refused("three parts of base64url");
}

Test(jwt, none_is_refused)
{
    static const char *const NONE[] = {"none", "None", "NONE", "nOnE"};
    keys_use_secret();
    for (size_t i = 0; i < 4; i++) {
        char header[64];
        snprintf(header, sizeof header, "{\"alg\":\"%s\"}", NONE[i]);
        token_make(header, CLAIMS);
        token_refused("no key here has the token's alg");
        while (fix.token.p[fix.token.n - 1] != '.')
            fix.token.n--;
        token_refused("not a signed token");
        fix.token.n--;
        token_refused("not a signed token");
    }
}

/* A public key is no secret: a MAC made with it, in any shape an attacker has, is refused. */
Test(jwt, key_confusion_is_refused)
{
    keys_use_all();
    unsigned char der[1024], *end = der;
    int n = i2d_PUBKEY(fix.rsa, &end);
    token_make_with(NULL, der, (size_t)n, "{\"alg\":\"HS256\",\"kid\":\"r\"}", CLAIMS);
    token_refused("no key here has the token's alg and kid");
    token_make_with(NULL, der, (size_t)n, "{\"alg\":\"RS256\",\"kid\":\"r\"}", CLAIMS);
    token_refused("signature is wrong");
    token_make_with(NULL, "", 0, "{\"alg\":\"HS256\"}", CLAIMS);
    token_refused("no key here");
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\",\"kid\":\"r\"}", CLAIMS);
    token_refused("no key here");
    token_make_with(fix.rsa, NULL, 0, "{\"alg\":\"ES256\",\"kid\":\"e\"}", CLAIMS);
    token_refused("signature is wrong");
    token_make_with(fix.rsa, NULL, 0, "{\"alg\":\"RS512\",\"kid\":\"r\"}", CLAIMS);
    token_refused("no key here");
    token_make_with(fix.rsa, NULL, 0, "{\"alg\":\"PS256\",\"kid\":\"r\"}", CLAIMS);
    token_refused("no key here");
    keys_use_secret();
    token_make_with(fix.rsa, NULL, 0, "{\"alg\":\"RS256\"}", CLAIMS);
    token_refused("no key here");
    token_make_with(NULL, SECRET, sizeof SECRET - 1, "{\"alg\":\"HS384\"}", CLAIMS);
    token_refused("no key here");
}

Test(jwt, other_secret_is_refused)
{
    keys_use_secret();
    token_make_with(NULL, "0123456789abcdef0123456789abcdeF", 32, "{\"alg\":\"HS256\"}", CLAIMS);
    token_refused("signature is wrong");
}

Test(jwt, bad_headers_are_refused)
{
    keys_use_secret();
    token_make("{\"typ\":\"JWT\"}", CLAIMS);
    token_refused("names no alg");
    token_make("{\"alg\":5}", CLAIMS);
    token_refused("names no alg");
    token_make("[\"alg\",\"HS256\"]", CLAIMS);
    token_refused("header is not a JSON object");
    token_make("{\"alg\":\"HS256\"", CLAIMS);
    token_refused("header is not a JSON object");
    token_make("{\"alg\":\"none\",\"alg\":\"HS256\"}", CLAIMS); /* a name twice */
    token_refused("header is not a JSON object");
    token_make("{\"alg\":\"HS256\",\"kid\":7}", CLAIMS);
    token_refused("kid is not a string");
    token_make("{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}", CLAIMS);
    token_refused("crit");
    token_make("{\"alg\":\"HS256\",\"crit\":[]}", CLAIMS);
    token_refused("crit");
    token_make("{\"alg\":\"HS256\",\"crit\":null}", CLAIMS);
    token_refused("crit");
    token_make("{\"alg\":\"HS256\",\"kid\":\"whatever\",\"x\":1}", CLAIMS);
    token_accepted();
}

/* An expired token is refused at once: in the very millisecond, without grace. */
Test(jwt, expiry_is_exact)
{
    keys_use_secret();
    token_claims_refused("{\"sub\":\"a\",\"exp\":1699999999}", "has expired");
    token_claims_refused("{\"sub\":\"a\",\"exp\":1700000000}", "has expired");
    token_make("{\"alg\":\"HS256\"}", "{\"sub\":\"a\",\"exp\":1700000000.002}");
    token_accepted();
    token_make("{\"alg\":\"HS256\"}", "{\"sub\":\"a\",\"exp\":1700000001}");
    token_accepted();
}

Test(jwt, expiry_must_be_a_date)
{
    const char *reason = "exp must be there";
    keys_use_secret();
    token_claims_refused("{\"sub\":\"a\"}", reason);
    token_claims_refused("{\"sub\":\"a\",\"exp\":\"1700000060\"}", reason);
    token_claims_refused("{\"sub\":\"a\",\"exp\":null}", reason);
    token_claims_refused("{\"sub\":\"a\",\"exp\":true}", reason);
    token_claims_refused("{\"sub\":\"a\",\"exp\":-1}", reason);
    token_claims_refused("{\"sub\":\"a\",\"exp\":9223372036854775807}", reason);
    token_claims_refused("{\"sub\":\"a\",\"exp\":1e300}", reason);
    token_claims_refused("{\"sub\":\"a\",\"exp\":1e999}", "not a JSON object");
}

/* Clocks differ a little: nbf, and only nbf, has JWT_SKEW_S of grace. */
Test(jwt, not_before_has_grace)
{
    keys_use_secret();
    token_make("{\"alg\":\"HS256\"}", "{\"sub\":\"a\",\"exp\":1700009999,\"nbf\":1700000030}");
    token_accepted();
    token_claims_refused("{\"sub\":\"a\",\"exp\":1700009999,\"nbf\":1700000031}", "not valid yet");
    token_claims_refused("{\"sub\":\"a\",\"exp\":1700009999,\"nbf\":\"x\"}", "nbf must be");
}

Test(jwt, subject_must_be_a_user)
{
    const char *reason = "sub must be";
    keys_use_secret();
    token_claims_refused("{\"exp\":1700000060}", reason);
    token_claims_refused("{\"sub\":\"\",\"exp\":1700000060}", reason);
    token_claims_refused("{\"sub\":7,\"exp\":1700000060}", reason);
    token_claims_refused("{\"sub\":\"a b\",\"exp\":1700000060}", reason);
    token_claims_refused("{\"sub\":\"a\\u0000b\",\"exp\":1700000060}", "not a JSON object");
    token_claims_refused("{\"sub\":\"\xc3\xa9\",\"exp\":1700000060}", reason);
    token_claims_refused("{\"sub\":\"a\",\"sub\":\"b\",\"exp\":1700000060}", "not a JSON object");
    token_claims_refused("[]", "not a JSON object");
}

/* Scopes are words; what looks like one and is not, is none. */
Test(jwt, scope_is_words)
{
    static const struct {
        const char *text;
        uint32_t scope;
    } CASES[] = {
        {"", 0},
        {"admin", JWT_SCOPE_ADMIN},
        {"  jobs  ", JWT_SCOPE_JOBS},
        {"openid admin email jobs", JWT_SCOPE_ADMIN | JWT_SCOPE_JOBS},
        {"administrator jobs2 xadmin admin,jobs ADMIN admin\\tjobs", 0},
    };
    keys_use_secret();
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char payload[200];
        snprintf(payload, sizeof payload, "{\"sub\":\"a\",\"exp\":1700000060,\"scope\":\"%s\"}",
                 CASES[i].text);
        token_make("{\"alg\":\"HS256\"}", payload);
        token_accepted();
        cr_assert(eq(u32, fix.claims.scope, CASES[i].scope), "%s", CASES[i].text);
    }
    token_claims_refused("{\"sub\":\"a\",\"exp\":1700000060,\"scope\":[\"admin\"]}",
                         "scope must be");
}

/* One that may do less than others says so clearly: what is not understood is no ordinary token. */
Test(jwt, scope_to_send)
{
    static const char *const WRONG[] = {"send:", "send:a/b", "send:g-1 send:g-2", "send:g-1 admin",
                                        "jobs send:g-1"};
    char payload[200];
    keys_use_secret();
    token_make("{\"alg\":\"HS256\"}",
               "{\"sub\":\"a\",\"exp\":1700000060,\"scope\":\"openid send:g-1\"}");
    token_accepted();
    cr_assert(eq(str, fix.claims.send_to, "g-1"));
    cr_assert(eq(u32, fix.claims.scope, 0));
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        snprintf(payload, sizeof payload, "{\"sub\":\"a\",\"exp\":1700000060,\"scope\":\"%s\"}",
                 WRONG[i]);
        token_claims_refused(payload, "names one conversation");
    }
    token_make("{\"alg\":\"HS256\"}", "{\"sub\":\"a\",\"exp\":1700000060,\"scope\":\"sender\"}");
    token_accepted();
    cr_assert(eq(str, fix.claims.send_to, ""));
}

Test(jwt, long_tokens_are_refused)
{
    static char payload[JWT_TOKEN_MAX];
    keys_use_secret();
    memset(payload, ' ', sizeof payload - 1);
    memcpy(payload, CLAIMS, strlen(CLAIMS));
    payload[6000] = '\0';
    token_make("{\"alg\":\"HS256\"}", payload);
    token_accepted();
    payload[6000] = ' ';
    payload[6200] = '\0';
    token_make("{\"alg\":\"HS256\"}", payload);
    token_refused("longer than 8192 bytes");
    fix.token.n = 0;
    token_refused("not a signed token");
}

/* With a kid exactly that key is asked; without one, all keys of the algorithm are. */
Test(jwt, kid_selects_the_key)
{
    fix.ec = EVP_EC_gen("P-256");
    EVP_PKEY *old = EVP_EC_gen("P-256");
    keys_add(old, ",\"kid\":\"old\"");
    keys_add(fix.ec, ",\"kid\":\"new\",\"alg\":\"ES256\",\"use\":\"sig\",\"key_ops\":[\"verify\"]");
    cr_assert(keys_load_jwks(keys_end()), "%s", fix.why);
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\",\"kid\":\"new\"}", CLAIMS);
    token_accepted();
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\"}", CLAIMS);
    token_accepted();
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\",\"kid\":\"old\"}", CLAIMS);
    token_refused("signature is wrong");
    token_make_with(fix.ec, NULL, 0, "{\"alg\":\"ES256\",\"kid\":\"other\"}", CLAIMS);
    token_refused("no key here");
    EVP_PKEY_free(old);
}
