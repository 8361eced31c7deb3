#include "store/client/cmd.h"

#include <stdio.h>
#include <string.h>

#include "store/base/check.h"
#include "store/base/file.h"
#include "store/base/output.h"

int cmd_load(struct cmd *cmd, int argc, char **argv, const char *usage, const char *doc,
             bool with_json, const struct config_option *own)
{
    struct config_option options[CMD_OPTIONS_MAX] = {
        {.name = "url",
         .key = 'u',
         .type = CONFIG_STRING,
         .arg = "URL",
         .help = "Where the server is",
         .value = &cmd->url},
        {.name = "ca",
         .type = CONFIG_STRING,
         .arg = "FILE",
         .help = "Of https://: certificates to trust, PEM; default: those that the system trusts",
         .value = &cmd->ca},
        {.name = "token",
         .type = CONFIG_STRING,
         .arg = "JWT",
         .help = "Who is asking; safer in LOQUAT_TOKEN or a file than on a command line",
         .value = &cmd->token},
        {.name = "token-file",
         .type = CONFIG_STRING,
         .arg = "FILE",
         .help = "Read the token from FILE",
         .value = &cmd->token_file},
    };
    size_t n = 4;
    if (with_json)
        options[n++] = (struct config_option){.name = "json",
                                              .key = 'j',
                                              .type = CONFIG_FLAG,
                                              .help = "Print JSON as the server gives it",
                                              .value = &cmd->json};
    for (; own != NULL && own->name != NULL; own++) {
        ASSERT(n + 1 < CMD_OPTIONS_MAX);
        options[n++] = *own;
    }
    cmd->url = "http://127.0.0.1:8080";
    return config_load(argc, argv, cmd->name, usage, doc, options);
}

bool cmd_connect(struct cmd *cmd, struct loquat_options *options)
{
    if (cmd->token == NULL && cmd->token_file != NULL) {
        struct buf text = {0};
        if (file_read(cmd->token_file, sizeof cmd->token_read - 1, &text, NULL) != 0) {
            cmd_fail(cmd, "cannot read the token file", cmd->token_file);
            return false;
        }
        memcpy(cmd->token_read, text.p, text.n);
        buf_close(&text);
        cmd->token_read[strcspn(cmd->token_read, "\r\n")] = 0;
        cmd->token = cmd->token_read;
    }
    if (cmd->token == NULL) {
        cmd_fail(cmd,
                 "no token: give --token, --token-file or LOQUAT_TOKEN "
                 "(`loquat-log token` makes one)",
                 NULL);
        return false;
    }
    *options = (struct loquat_options){.url = cmd->url,
                                       .ca = cmd->ca,
                                       .token = cmd->token,
                                       .device = "loquat-log",
                                       .no_retry = true};
    return true;
}

int cmd_fail(const struct cmd *cmd, const char *text, const char *more)
{
    fprintf(stderr, "%s: %s%s%s\n", cmd->name, text, more != NULL ? ": " : "",
            more != NULL ? more : "");
    return CMD_FAILED;
}

int cmd_fail_answer(const struct cmd *cmd, const struct loquat_answer *answer)
{
    return cmd_fail(cmd, answer->code, answer->message);
}

int cmd_usage(const struct cmd *cmd, const char *text)
{
    fprintf(stderr, "%s: %s\nTry `%s --help'.\n", cmd->name, text, cmd->name);
    return CMD_USAGE;
}

int cmd_finish(const struct cmd *cmd)
{
    return output_finish(cmd->name) ? CMD_DONE : CMD_FAILED;
}
