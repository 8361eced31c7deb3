/* `loquat-log token`: what it prints is what the server takes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/jwt.h"
#include "store/client/cmd.h"

static char path[] = "/tmp/loquat-secret-XXXXXX";

static void setup(void)
{
    static const char SECRET[] = "0123456789abcdef0123456789abcdef\n";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, SECRET, sizeof SECRET - 1) == sizeof SECRET - 1);
    close(fd);
    cr_redirect_stdout();
    cr_redirect_stderr();
}

static void clean_up(void)
{
    unlink(path);
}

TestSuite(token, .init = setup, .fini = clean_up);

Test(token, is_taken_by_the_server)
{
    char *argv[] = {"token", "--user", "ann",           "--scope", "admin",
                    "--ttl", "2h",     "--secret-file", path,      NULL};
    cr_assert(eq(int, cmd_token(9, argv), CMD_DONE));
    fflush(stdout);
    char token[JWT_TOKEN_MAX], why[128];
    FILE *out = cr_get_redirected_stdout();
    cr_assert(fgets(token, sizeof token, out) != NULL);
    token[strcspn(token, "\n")] = 0;
    struct jwt_keys *keys = jwt_keys_load_secret(path, why, sizeof why);
    struct jwt_claims claims;
    uint64_t now = clock_wall_ms();
    cr_assert_eq(jwt_verify(keys, span_str(token), now, &claims, why, sizeof why), 0, "%s", why);
    cr_assert(eq(str, claims.user, "ann"));
    cr_assert_eq(claims.scope, JWT_SCOPE_ADMIN);
    cr_assert(claims.exp_ms > now + 7190000 && claims.exp_ms < now + 7210000);
    jwt_keys_free(keys);
}

Test(token, wrong_usage_is_2)
{
    char *nobody[] = {"token", "--secret-file", path, NULL};
    cr_assert(eq(int, cmd_token(3, nobody), CMD_USAGE));
    char *bad_user[] = {"token", "--user", "a b", "--secret-file", path, NULL};
    cr_assert(eq(int, cmd_token(5, bad_user), CMD_USAGE));
    char *bad_ttl[] = {"token", "--user", "a", "--ttl", "1y", "--secret-file", path, NULL};
    cr_assert(eq(int, cmd_token(7, bad_ttl), CMD_USAGE));
}

/* No secret where it is looked for: says which file, and fails. */
Test(token, missing_secret_is_named)
{
    char *argv[] = {"token", "--user", "a", "--secret-file", "/nowhere/secret", NULL};
    cr_assert(eq(int, cmd_token(5, argv), CMD_FAILED));
    fflush(stderr);
    char text[256] = "";
    FILE *err = cr_get_redirected_stderr();
    cr_assert(fgets(text, sizeof text, err) != NULL);
    cr_assert(strstr(text, "/nowhere/secret") != NULL, "%s", text);
}

Test(token, times)
{
    uint64_t s;
    cr_assert(cmd_seconds("90", &s) && s == 90);
    cr_assert(cmd_seconds("10m", &s) && s == 600);
    cr_assert(cmd_seconds("12h", &s) && s == 43200);
    cr_assert(cmd_seconds("7d", &s) && s == 604800);
    cr_assert(not(cmd_seconds("", &s)));
    cr_assert(not(cmd_seconds("0", &s)));
    cr_assert(not(cmd_seconds("d", &s)));
    cr_assert(not(cmd_seconds("1x", &s)));
    cr_assert(not(cmd_seconds("1dd", &s)));
    cr_assert(not(cmd_seconds("99999999999999999999d", &s)));
}
