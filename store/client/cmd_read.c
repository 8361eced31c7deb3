#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/client/cmd.h"
#include "store/client/print.h"

struct printer {
    struct cmd *cmd;
    struct json *json;
    struct buf out;
    bool flush; /* each record at once */
};

static bool printer_on_record(const struct loquat_record *record, void *arg)
{
    struct printer *printer = arg;
    printer->out.n = 0;
    if (printer->cmd->json) {
        buf_add(&printer->out, record->json.p, record->json.n);
        buf_add_byte(&printer->out, '\n');
    } else {
        print_record(&printer->out, printer->json, record);
    }
    fwrite(printer->out.p, 1, printer->out.n, stdout);
    return printer->flush ? fflush(stdout) == 0 : !ferror(stdout);
}

static int printer_end(struct printer *printer, int err, const char *why)
{
    json_free(printer->json);
    buf_close(&printer->out);
    int status = cmd_finish(printer->cmd);
    return err == 0 ? status : cmd_fail(printer->cmd, why, NULL);
}

int cmd_read(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log read"};
    struct loquat_range range = {0};
    uint64_t max = 0;
    char *view = "folded";
    const struct config_option options[] = {
        {.name = "from",
         .type = CONFIG_UINT,
         .arg = "SEQ",
         .help = "First sequence; 0: the oldest, with --desc the newest",
         .value = &range.from},
        {.name = "to",
         .type = CONFIG_UINT,
         .arg = "SEQ",
         .help = "Where to stop, itself left out; 0: at the end",
         .value = &range.to},
        {.name = "max",
         .key = 'n',
         .type = CONFIG_UINT,
         .arg = "COUNT",
         .help = "At most so many records; 0: all",
         .value = &max},
        {.name = "desc",
         .key = 'd',
         .type = CONFIG_FLAG,
         .help = "The newest first",
         .value = &range.desc},
        {.name = "view",
         .type = CONFIG_STRING,
         .arg = "log|folded",
         .help = "log: every record as it was written; folded: messages as people see them",
         .value = &view},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "CONVERSATION",
                         "Print a conversation: sequence, time, author, text. With --json one "
                         "record or hole a line, as the server gives it.",
                         true, options);
    if (first + 1 != argc)
        return cmd_usage(&cmd, "takes one conversation");
    range.folded = strcmp(view, "folded") == 0;
    if (!range.folded && strcmp(view, "log") != 0)
        return cmd_usage(&cmd, "--view is log or folded");
    struct loquat_options server;
    char why[CMD_WHY_SIZE] = "";
    if (!cmd_connect(&cmd, &server))
        return CMD_FAILED;
    range.c = argv[first];
    range.max = max < UINT32_MAX ? (uint32_t)max : UINT32_MAX;
    struct printer printer = {.cmd = &cmd, .json = json_new(8 << 20)};
    int err = loquat_read(&server, &range, printer_on_record, &printer, why, sizeof why);
    return printer_end(&printer, err, why);
}

static void tail_on_interrupt(int signal_number)
{
    (void)signal_number;
    _exit(CMD_DONE); /* every record was flushed when it came */
}

int cmd_tail(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log tail"};
    uint64_t from = 0;
    const struct config_option options[] = {
        {.name = "from",
         .type = CONFIG_UINT,
         .arg = "SEQ",
         .help = "First sequence; 0: only what comes from now on",
         .value = &from},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "CONVERSATION",
                         "Follow a conversation until Ctrl-C. Breaks of the connection are "
                         "bridged: every record is printed once.",
                         true, options);
    if (first + 1 != argc)
        return cmd_usage(&cmd, "takes one conversation");
    struct loquat_options server;
    char why[CMD_WHY_SIZE] = "";
    if (!cmd_connect(&cmd, &server))
        return CMD_FAILED;
    server.no_retry = false;
    if (signal(SIGINT, tail_on_interrupt) == SIG_ERR ||
        signal(SIGTERM, tail_on_interrupt) == SIG_ERR)
        return cmd_fail(&cmd, "cannot catch signals", NULL);
    struct printer printer = {.cmd = &cmd, .json = json_new(8 << 20), .flush = true};
    int err = loquat_tail(&server, argv[first], from, printer_on_record, &printer, why, sizeof why);
    return printer_end(&printer, err, why);
}
