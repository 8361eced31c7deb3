/* store/client/cmd.h: the subcommands of loquat-log. Each takes its own argv (argv[0] is its name)
 * and returns the exit status: 0 done, 1 failed, 2 wrong usage. */
#ifndef LOQUAT_CLIENT_CMD_H
#define LOQUAT_CLIENT_CMD_H

#include "store/base/buf.h"
#include "store/base/config.h"
#include "store/client/loquat.h"

enum { CMD_DONE = 0, CMD_FAILED = 1, CMD_USAGE = 2, CMD_WHY_SIZE = 256, CMD_OPTIONS_MAX = 16 };

struct cmd {
    const char *name; /* "loquat-log send" */
    char *url, *ca, *token, *token_file;
    bool json;
    char token_read[8193];
};

/* What subcommands that talk to a server share: --url, --ca, --token, --token-file, and --json
 * where that makes sense (`with_json`), before their own options. Returns the index of the first
 * positional argument; does not return on wrong usage or --help. */
int cmd_load(struct cmd *cmd, int argc, char **argv, const char *usage, const char *doc,
             bool with_json, const struct config_option *own);
/* The options for a session or a read; false after saying that there is no token. */
bool cmd_connect(struct cmd *cmd, struct loquat_options *options);
/* "loquat-log send: TEXT" on standard error; returns CMD_FAILED. */
int cmd_fail(const struct cmd *cmd, const char *text, const char *more);
int cmd_fail_answer(const struct cmd *cmd, const struct loquat_answer *answer);
int cmd_usage(const struct cmd *cmd, const char *text);
/* CMD_DONE, or CMD_FAILED after saying that standard output could not be written. */
int cmd_finish(const struct cmd *cmd);

int cmd_token(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_open(int argc, char **argv);
int cmd_read(int argc, char **argv);
int cmd_tail(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_feed(int argc, char **argv);
int cmd_consumer(int argc, char **argv);
/* What `consumer list' prints, when there are any and the token may know of them; false after
 * saying what went wrong. */
bool cmd_list_consumers(const struct cmd *cmd, const struct loquat_options *server,
                        struct buf *out);

/* Digits, at most 15. */
bool cmd_whole(const char *text, uint64_t *number);
/* "90", "45s", "10m", "12h", "7d" → seconds; false: none of these, or 0. */
bool cmd_seconds(const char *text, uint64_t *seconds);
/* RFC 3339 (without a zone: local time), Unix milliseconds, "90m ago" or "now" → ms. */
bool cmd_time(const char *text, uint64_t now_ms, uint64_t *ms);
#define CMD_TIME_IS                                                                                \
    "a time is 2026-01-31T12:00:00Z, 2026-01-31, Unix milliseconds, \"90m ago\" or now"

#endif
