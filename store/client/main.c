/* loquat-log: read, write, follow, import and export conversations from a shell. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "store/base/program.h"
#include "store/client/cmd.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *doc;
} COMMANDS[] = {
    {"token", cmd_token, "make a token for a user from the server's secret"},
    {"open", cmd_open, "open a conversation and print its id"},
    {"send", cmd_send, "send a message"},
    {"read", cmd_read, "print a conversation"},
    {"tail", cmd_tail, "follow a conversation"},
    {"import", cmd_import, "put a chat archive into the server"},
    {"export", cmd_export, "write conversations as a chat archive"},
    {"feed", cmd_feed, "print what was written into all conversations"},
    {"consumer", cmd_consumer, "named readers of that, and how far they are"},
    {"stat", cmd_stat, "numbers of a conversation or of the server"},
};

enum { COMMAND_COUNT = sizeof COMMANDS / sizeof *COMMANDS };

static void print_help(FILE *out)
{
    fprintf(out, "Usage: loquat-log COMMAND [OPTION…]\n\n");
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-8s %s\n", COMMANDS[i].name, COMMANDS[i].doc);
    fprintf(out, "\n`loquat-log COMMAND --help' says more. The server is --url or LOQUAT_URL, the\n"
                 "token --token, --token-file or LOQUAT_TOKEN.\n"
                 "Exit status: 0 done, 1 failed, 2 wrong usage.\n");
}

int main(int argc, char **argv)
{
    if (!program_begin("loquat-log", true))
        return CMD_FAILED;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) /* a closed pipe is an error of the write */
        return CMD_FAILED;
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("loquat-log %s\n", LOQUAT_VERSION);
        return 0;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-?") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return 0;
    }
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, COMMANDS[i].name) == 0)
            return COMMANDS[i].run(argc - 1, argv + 1);
    if (*name != 0)
        fprintf(stderr, "loquat-log: no command \"%s\"\n", name);
    print_help(stderr);
    return CMD_USAGE;
}
