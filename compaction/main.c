/* loquat-compact: what a data directory holds, what may go, and proof that the rest is whole. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compaction/outcome.h"
#include "compaction/report.h"
#include "replication/control.h"
#include "replication/datadir.h"
#include "replication/node.h"
#include "replication/rlog.h"
#include "store/apply.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/config.h"
#include "store/base/err.h"
#include "store/base/link.h"
#include "store/base/log.h"
#include "store/base/output.h"
#include "store/base/program.h"
#include "store/client/cmd.h"
#include "store/client/progress.h"

enum { DONE = 0, FAILED = 1, USAGE = 2, WHY_SIZE = DATADIR_PATH_MAX + 1024 };

struct program {
    char name[48]; /* "loquat-compact run" */
    char *data, *max_age, *conv;
    uint64_t max_count, top, rate;
    bool json, yes;
    char *convs[KEEPER_CONVS_MAX + 1];
    size_t conv_count;
    Loquat__Control ask;
    struct progress progress;
    struct arena arena; /* of the report */
    Loquat__Report *report;
    char why[WHY_SIZE];
};

static int fail(const struct program *program, const char *text)
{
    fprintf(stderr, "%s: %s\n", program->name, text);
    return FAILED;
}

static int usage(const struct program *program, const char *text)
{
    fprintf(stderr, "%s: %s\nTry `%s --help'.\n", program->name, text, program->name);
    return USAGE;
}

/* ---- a running node ---- */

struct conversation {
    struct link link;
    struct program *program;
    bool done;
};

static void take_report(struct program *program, struct span body)
{
    Loquat__Report *report =
        loquat__report__unpack(&program->arena.allocator, body.n, (const uint8_t *)body.p);
    if (report == NULL)
        return;
    if (report->done)
        program->report = report;
    else if (report->all > 0)
        progress_show(&program->progress, report->at, report->phase,
                      report->at < report->all ? (double)report->at / (double)report->all : 1);
}

static void on_message(struct link *link, int type, struct span body)
{
    struct conversation *conversation = container_of(link, struct conversation, link);
    if (type == LINK_REPORT)
        take_report(conversation->program, body);
    if (conversation->program->report != NULL)
        link_close(link, ERR_CLOSED);
}

static void on_close(struct link *link, int err)
{
    (void)err;
    container_of(link, struct conversation, link)->done = true;
}

static int ask_node(struct program *program)
{
    static const struct link_ops ops = {.on_message = on_message, .on_close = on_close};
    struct conversation conversation = {.program = program};
    int fd = control_connect(program->data);
    if (fd < 0) {
        snprintf(program->why, WHY_SIZE,
                 "%s is in use, and %s/control.sock does not answer (%s): another loquat-compact "
                 "is at work there, or it is another user's",
                 program->data, program->data, strerror(errno));
        return ERR_LOCKED;
    }
    uv_loop_t loop;
    int rv = uv_loop_init(&loop);
    if (rv != 0) {
        close(fd);
        snprintf(program->why, WHY_SIZE, "no event loop: %s", uv_strerror(rv));
        return ERR_INTERNAL;
    }
    program->report = NULL;
    progress_begin(&program->progress);
    if (link_open_fd(&conversation.link, &loop, fd, &ops) == 0) {
        size_t size = loquat__control__get_packed_size(&program->ask);
        char *room = link_send_begin(&conversation.link, LINK_CONTROL, size);
        ASSERT(room != NULL);
        loquat__control__pack(&program->ask, (uint8_t *)room);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    rv = uv_loop_close(&loop);
    ASSERT(rv == 0 && conversation.done);
    progress_end(&program->progress);
    if (program->report == NULL) {
        snprintf(program->why, WHY_SIZE, "the node went away before it had answered");
        return ERR_CLOSED;
    }
    return 0;
}

/* ---- a directory at rest ---- */

static int on_progress(void *arg, const char *phase, uint64_t at, uint64_t all)
{
    struct program *program = arg;
    progress_show(&program->progress, at, phase,
                  all == 0   ? -1
                  : at < all ? (double)at / (double)all
                             : 1);
    return 0;
}

/* The raft logs are no part of the data DB, but of what must be whole: their sums and indexes are
 * read; what they hold beyond the data DB's files is applied at the next start. */
static int check_raft(const struct datadir *dir, struct kv *data, struct outcome *outcome,
                      char *why, size_t size)
{
    struct rlog *logs = xcalloc(dir->partitions, sizeof *logs);
    struct journal *journal = NULL;
    uint64_t ahead = 0;
    int err = rlog_load(dir->journal, logs, dir->partitions, why, size, &journal);
    if (err != 0 && err != ERR_IO)
        outcome_damage(outcome, KV_LOG, 0, "", 0, why);
    for (uint32_t p = 0; p < dir->partitions; p++) {
        struct rlog *log = &logs[p];
        uint64_t index = 0, term = 0;
        if (err == 0 && rlog_finish(log) != 0)
            outcome_damage(outcome, KV_LOG, p, "", 0, "the raft log of the partition has a gap");
        else if (err == 0 && apply_flushed_index(data, p, &index, &term) == 0 &&
                 rlog_last(log) > index)
            ahead += rlog_last(log) - index;
        rlog_close(log);
    }
    free(logs);
    journal_close(journal);
    if (ahead > 0)
        outcome_note(outcome,
                     "%llu entries of the raft log are newer than what was looked at; the next "
                     "start of the server applies them",
                     (unsigned long long)ahead);
    return err == ERR_IO ? err : 0;
}

/* What keeper_do found, and what only a directory at rest lets one see. An error: what is there
 * could not be read for now, which is no damage. */
static int add_raft(struct program *program, const struct datadir *dir, struct kv *data)
{
    struct outcome *outcome = xcalloc(1, sizeof *outcome);
    struct buf packed = {0};
    outcome_init(outcome, 1);
    int err = 0;
    if (dir->format < DATADIR_FORMAT)
        outcome_note(outcome, "the raft log, which is of an older format, was not looked at; the "
                              "next start of the server makes a journal of it");
    else
        err = check_raft(dir, data, outcome, program->why, WHY_SIZE);
    outcome_pack(outcome, 0, "", &packed);
    Loquat__Report *more =
        loquat__report__unpack(&program->arena.allocator, packed.n, (const uint8_t *)packed.p);
    Loquat__Report *report = program->report;
    if (more != NULL && report != NULL) {
        size_t room = sizeof(void *) * (more->n_damages + report->n_damages + 1);
        Loquat__Damage **damages = arena_alloc(&program->arena, room);
        for (size_t i = 0; i < more->n_damages; i++)
            damages[i] = more->damages[i];
        for (size_t i = 0; i < report->n_damages; i++)
            damages[more->n_damages + i] = report->damages[i];
        report->damages = damages;
        report->n_damages += more->n_damages;
        report->damage_count += more->damage_count;
        if (report->n_notes == 0) {
            report->notes = more->notes;
            report->n_notes = more->n_notes;
        }
    }
    outcome_close(outcome);
    free(outcome);
    buf_close(&packed);
    return err;
}

static int read_at_rest(struct program *program, const struct datadir *dir)
{
    static const struct keeper_ops ops = {.progress = on_progress};
    struct kv_options options = {.read_only = true};
    struct keeper keeper = {
        .partitions = dir->partitions, .now_ms = clock_wall_ms(), .ops = &ops, .arg = program};
    int err = kv_open(dir->data, KV_DATA, &options, &keeper.kv);
    if (err != 0) {
        snprintf(program->why, WHY_SIZE, "%s can't be opened: %s%s", dir->data, kv_error(),
                 kv_damaged(err) ? "; restore the directory from a backup" : "");
        return err;
    }
    struct buf bytes = {0};
    progress_begin(&program->progress);
    keeper_do(&keeper, &program->ask, &bytes); /* its error stands in the report */
    progress_end(&program->progress);
    program->report =
        loquat__report__unpack(&program->arena.allocator, bytes.n, (const uint8_t *)bytes.p);
    ASSERT(program->report != NULL);
    err = add_raft(program, dir, keeper.kv);
    buf_close(&bytes);
    kv_close(keeper.kv);
    return err;
}

static int run_at_rest(struct program *program)
{
    struct node_config config = {.dir = program->data};
    struct node *node = NULL;
    int err = node_start(&config, &node, program->why, WHY_SIZE);
    if (err != 0)
        return err;
    err = ask_node(program);
    node_stop(node);
    return err;
}

/* Sets program->report. *running: a node answered. */
static int work(struct program *program, bool *running)
{
    char format[DATADIR_PATH_MAX];
    snprintf(format, sizeof format, "%s/FORMAT", program->data);
    if (access(format, F_OK) != 0) { /* before anything is opened that would make files */
        snprintf(program->why, WHY_SIZE, "%s holds no loquat data that can be read (FORMAT: %s)",
                 program->data, strerror(errno));
        return ERR_NOT_FOUND;
    }
    struct datadir dir;
    int err = datadir_open(&dir, program->data, 0, false, program->why, WHY_SIZE);
    *running = err == ERR_LOCKED;
    if (*running)
        return ask_node(program);
    if (err != 0)
        return err;
    if (program->ask.op != LOQUAT__CONTROL_OP__CONTROL_RUN &&
        program->ask.op != LOQUAT__CONTROL_OP__CONTROL_REINDEX) {
        err = read_at_rest(program, &dir);
        datadir_close(&dir);
        return err;
    }
    datadir_close(&dir);
    return run_at_rest(program);
}

/* ---- commands ---- */

static int show(struct program *program, bool running)
{
    struct report_about about = {.op = program->ask.op, .dir = program->data, .running = running};
    const Loquat__Report *report = program->report;
    struct buf out = {0};
    int status = report->err == 0 ? DONE : FAILED;
    if (program->ask.op == LOQUAT__CONTROL_OP__CONTROL_VERIFY && report->damage_count > 0)
        status = FAILED;
    if (program->json)
        report_json(&about, report, &out);
    else if (report->err == 0)
        report_text(&about, report, &out);
    fwrite(out.p, 1, out.n, stdout);
    buf_close(&out);
    if (report->err != 0)
        fail(program, report->msg);
    return output_finish(program->name) ? status : FAILED;
}

static int ask_and_show(struct program *program, bool quiet)
{
    bool running = false;
    int err = work(program, &running);
    if (err != 0)
        return fail(program, program->why);
    return quiet && program->report->err == 0 ? DONE : show(program, running);
}

/* True: go on. What goes does not come back, so that somebody says yes to it. */
static bool confirmed(const struct program *program)
{
    char line[16] = "";
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "%s: records would be removed for good; say --yes\n", program->name);
        return false;
    }
    fprintf(stderr, "This can't be undone. Go on? [y/N] ");
    bool yes = fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
    if (!yes)
        fprintf(stderr, "%s: nothing was changed\n", program->name);
    return yes;
}

static int do_run(struct program *program)
{
    if (!program->yes) {
        program->ask.op = LOQUAT__CONTROL_OP__CONTROL_PLAN;
        int status = ask_and_show(program, program->json);
        if (status != DONE)
            return status;
        if (report_gone(program->report) > 0 && !confirmed(program))
            return isatty(STDIN_FILENO) ? FAILED : USAGE;
    }
    program->ask.op = LOQUAT__CONTROL_OP__CONTROL_RUN;
    return ask_and_show(program, false);
}

static const struct {
    const char *name;
    uint32_t op;
    bool policy;
    const char *doc, *more;
} COMMANDS[] = {
    {"status", LOQUAT__CONTROL_OP__CONTROL_STATUS, false, "what a data directory holds, and why",
     "Bytes by column family, and by the reason why they are there. Changes nothing."},
    {"plan", LOQUAT__CONTROL_OP__CONTROL_PLAN, true, "what `run' would remove",
     "Says what `run' with the same options would remove. Changes nothing."},
    {"run", LOQUAT__CONTROL_OP__CONTROL_RUN, true, "raise floors, remove what may go, compact",
     "Raises the floor of conversations by age and count, removes what lies below it, the content "
     "of expired messages and of edits that later ones replaced, and compacts the files. May be "
     "interrupted and run again. Without --yes it shows the plan and asks."},
    {"verify", LOQUAT__CONTROL_OP__CONTROL_VERIFY, false, "read and check every record",
     "Reads every row: checksums, dense sequences, heads, ordinals, marks, cids, lists. Changes "
     "nothing. Exit status 1 names what is damaged."},
    {"reindex", LOQUAT__CONTROL_OP__CONTROL_REINDEX, false, "make the search index anew",
     "Makes the search index anew, a part of a conversation at a time; searching goes on "
     "meanwhile. "
     "The index is made of the records alone: nothing is lost with it."},
};

enum { COMMAND_COUNT = sizeof COMMANDS / sizeof *COMMANDS, OPTIONS_MAX = 8 };

static bool add_conv(struct program *program, char *conv)
{
    if (program->conv_count == KEEPER_CONVS_MAX)
        return false;
    program->convs[program->conv_count++] = conv;
    return true;
}

/* Takes --conv out of argv, where it may stand more than once. How many are left, or -1. */
static int take_convs(struct program *program, int argc, char **argv)
{
    int left = 0;
    bool ok = true;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--conv") == 0 && i + 1 < argc)
            ok = add_conv(program, argv[++i]) && ok;
        else if (strncmp(argv[i], "--conv=", 7) == 0)
            ok = add_conv(program, argv[i] + 7) && ok;
        else
            argv[left++] = argv[i];
    }
    return ok ? left : -1;
}

static int load(struct program *program, int argc, char **argv, int command)
{
    struct config_option options[OPTIONS_MAX] = {
        {"data", 'd', CONFIG_STRING, "DIR", "The data directory", &program->data, 0, 0},
        {"json", 'j', CONFIG_FLAG, NULL, "Print one JSON object", &program->json, 0, 0},
        {"conv", 0, CONFIG_STRING, "ID", "This conversation only; may be given more than once",
         &program->conv, 0, CONV_ID_MAX},
        {"top", 'n', CONFIG_UINT, "COUNT", "List so many conversations, the largest", &program->top,
         1, KEEPER_TOP_MAX},
    };
    size_t n = 4;
    if (COMMANDS[command].policy) {
        options[n++] = (struct config_option){
            "max-age",
            'a',
            CONFIG_STRING,
            "TIME",
            "Remove what is older: 90d, 12h; a conversation's oldest records, up to the first that "
            "is younger",
            &program->max_age,
            0,
            0};
        options[n++] =
            (struct config_option){"max-count",
                                   'm',
                                   CONFIG_UINT,
                                   "COUNT",
                                   "Keep so many messages of each conversation, the newest; 0: all",
                                   &program->max_count,
                                   0,
                                   0};
    }
    if (COMMANDS[command].op == LOQUAT__CONTROL_OP__CONTROL_RUN)
        options[n++] = (struct config_option){"yes",        'y',           CONFIG_FLAG, NULL,
                                              "Do not ask", &program->yes, 0,           0};
    if (COMMANDS[command].op == LOQUAT__CONTROL_OP__CONTROL_REINDEX)
        options[n++] = (struct config_option){
            "rate",         'r', CONFIG_UINT, "COUNT", "Take so many messages a second at most",
            &program->rate, 1,   1000000000};
    ASSERT(n < OPTIONS_MAX);
    program->top = KEEPER_TOP_DEFAULT;
    return config_load(argc, argv, program->name, "--data DIR", COMMANDS[command].more, options);
}

static int run_command(int argc, char **argv, int command)
{
    static struct program program; /* large; zero */
    snprintf(program.name, sizeof program.name, "loquat-compact %s", COMMANDS[command].name);
    argc = take_convs(&program, argc, argv);
    if (argc < 0)
        return usage(&program, "too many conversations");
    argv[argc] = NULL;
    argv[0] = program.name;
    int first = load(&program, argc, argv, command);
    if (first != argc)
        return usage(&program, "takes options only");
    if (program.data == NULL || program.data[0] == 0)
        return usage(&program, "which directory? --data DIR");
    if (program.conv != NULL && !add_conv(&program, program.conv))
        return usage(&program, "too many conversations");
    uint64_t seconds = 0;
    if (program.max_age != NULL && !cmd_seconds(program.max_age, &seconds))
        return usage(&program, "--max-age is a number and s, m, h or d");
    for (size_t i = 0; i < program.conv_count; i++)
        if (!conv_name_valid(span_str(program.convs[i])))
            return usage(&program, "--conv is not the id of a conversation");
    loquat__control__init(&program.ask);
    program.ask.op = COMMANDS[command].op;
    program.ask.max_age_ms = seconds * 1000;
    program.ask.max_count = program.max_count;
    program.ask.convs = program.convs;
    program.ask.n_convs = program.conv_count;
    program.ask.top = (uint32_t)program.top;
    program.ask.rate = program.rate;
    arena_init(&program.arena);
    int status = COMMANDS[command].op == LOQUAT__CONTROL_OP__CONTROL_RUN
                     ? do_run(&program)
                     : ask_and_show(&program, false);
    arena_close(&program.arena);
    return status;
}

static void print_help(FILE *out)
{
    fprintf(out, "Usage: loquat-compact COMMAND --data DIR [OPTION…]\n\n");
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-8s %s\n", COMMANDS[i].name, COMMANDS[i].doc);
    fprintf(out, "\nWorks on a data directory at rest, and on that of a running server, which then "
                 "does the work.\n`loquat-compact COMMAND --help' says more.\n"
                 "Exit status: 0 done, 1 failed or damaged, 2 wrong usage.\n");
}

int main(int argc, char **argv)
{
    if (!program_begin("loquat-compact", true))
        return FAILED;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) /* a closed pipe is an error of the write */
        return FAILED;
    log_setup("loquat-compact", LOG_WARN, LOG_AUTO);
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("loquat-compact %s\n", LOQUAT_VERSION);
        return DONE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-?") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return DONE;
    }
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, COMMANDS[i].name) == 0)
            return run_command(argc - 1, argv + 1, i);
    if (*name != 0)
        fprintf(stderr, "loquat-compact: no command \"%s\"\n", name);
    print_help(stderr);
    return USAGE;
}
