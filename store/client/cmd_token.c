#include <stdio.h>

#include "store/base/clock.h"
#include "store/base/jwt.h"
#include "store/client/cmd.h"

int cmd_token(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log token"};
    char *user = NULL, *scope = "", *ttl = "1d", *secret_file = "data/secret";
    const struct config_option options[] = {
        {.name = "user",
         .type = CONFIG_STRING,
         .arg = "USER",
         .help = "Who the token is for: 1-64 bytes of A-Za-z0-9._@-",
         .value = &user},
        {.name = "scope",
         .type = CONFIG_STRING,
         .arg = "SCOPE",
         .help = "jobs (reads every log), admin (everything), send:C (writes into conversation C "
                 "and nothing else); none: an ordinary user",
         .value = &scope},
        {.name = "ttl",
         .type = CONFIG_STRING,
         .arg = "TIME",
         .help = "How long it is good: seconds, or 10m, 12h, 7d",
         .value = &ttl},
        {.name = "secret-file",
         .type = CONFIG_STRING,
         .arg = "FILE",
         .help = "The server's secret (its --auth-secret-file)",
         .value = &secret_file},
        {0},
    };
    int first = config_load(argc, argv, cmd.name, "--user USER",
                            "Print a signed token (JWT, HS256) for a user.", options);
    uint64_t ttl_s;
    char why[CMD_WHY_SIZE];
    if (first != argc)
        return cmd_usage(&cmd, "takes options only");
    if (user == NULL)
        return cmd_usage(&cmd, "--user is missing");
    if (!user_valid(span_str(user)))
        return cmd_usage(&cmd, "a user is 1-64 bytes of A-Za-z0-9._@-");
    if (!cmd_seconds(ttl, &ttl_s))
        return cmd_usage(&cmd, "--ttl takes seconds, or a number with m, h or d");
    struct jwt_keys *keys = jwt_keys_load_secret(secret_file, why, sizeof why);
    if (keys == NULL)
        return cmd_fail(&cmd, why, NULL);
    struct buf token = {0};
    int err = jwt_sign(keys, user, scope, clock_wall_ms(), ttl_s, &token);
    if (err == 0)
        printf("%.*s\n", (int)token.n, token.p);
    buf_close(&token);
    jwt_keys_free(keys);
    return err == 0 ? cmd_finish(&cmd) : cmd_fail(&cmd, "cannot sign", NULL);
}
