#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/client/cmd.h"
#include "store/client/import.h"
#include "store/client/print.h"

static void print_totals(const struct cmd *cmd, const struct import *import)
{
    const struct import_totals *totals = &import->totals;
    double seconds = progress_seconds(&import->progress);
    double rate = seconds > 0 ? (double)(totals->fresh + totals->dup) / seconds : 0;
    struct buf out = {0};
    if (cmd->json) {
        buf_addf(&out,
                 "{\"lines\":%llu,\"conversations\":%llu,\"new\":%llu,\"there\":%llu,"
                 "\"failed\":%llu,\"disorder\":%llu,\"seconds\":%.3f,\"rate\":%.0f}\n",
                 (unsigned long long)totals->lines, (unsigned long long)totals->convs,
                 (unsigned long long)totals->fresh, (unsigned long long)totals->dup,
                 (unsigned long long)totals->failed, (unsigned long long)totals->disorder, seconds,
                 rate);
    } else {
        print_count(&out, totals->lines);
        buf_add_str(&out, " lines: ");
        print_count(&out, totals->fresh);
        buf_add_str(&out, " new, ");
        print_count(&out, totals->dup);
        buf_add_str(&out, " already there (");
        print_count(&out, totals->convs);
        buf_addf(&out, " conversations, %.1f s, ", seconds);
        print_count(&out, (uint64_t)rate);
        buf_add_str(&out, " lines/s)\n");
    }
    fwrite(out.p, 1, out.n, stdout);
    buf_close(&out);
}

int cmd_import(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log import"};
    struct import import = {0};
    const struct config_option options[] = {
        {.name = "keep",
         .type = CONFIG_FLAG,
         .help = "Keep fields that are not understood (lang, …) in the messages' bodies, for an "
                 "export that gives whole lines back",
         .value = &import.keep},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "FILE",
                         "Put a chat archive (JSON Lines, zstd or not; - is standard input) into "
                         "the server, each line with its own time and author. The token must have "
                         "the scope admin. The lines of a conversation come together and in "
                         "their order. Importing again writes nothing twice: a line's position "
                         "in its conversation is its id.",
                         true, options);
    struct loquat_options server;
    if (first + 1 != argc)
        return cmd_usage(&cmd, "takes one file, or - for standard input");
    if (!cmd_connect(&cmd, &server))
        return CMD_FAILED;
    import.path = argv[first];
    import.source = source_open(import.path);
    if (import.source == NULL)
        return cmd_fail(&cmd, import.path, strerror(errno));
    int err = import_run(&import, &server);
    source_close(import.source);
    if (err == 0 || import.totals.lines > 0)
        print_totals(&cmd, &import);
    if (err != 0)
        return cmd_fail(&cmd, import.why, NULL);
    if (import.totals.disorder > 0)
        fprintf(stderr, "%s: %llu lines are not in order in the log\n", cmd.name,
                (unsigned long long)import.totals.disorder);
    if (import.totals.members_failed > 0)
        fprintf(stderr, "%s: %llu members could not be added\n", cmd.name,
                (unsigned long long)import.totals.members_failed);
    int status = cmd_finish(&cmd);
    return import.totals.failed + import.totals.disorder > 0 ? CMD_FAILED : status;
}
