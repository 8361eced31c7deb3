#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <uv.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/file.h"
#include "store/base/ids.h"
#include "store/client/cmd.h"
#include "store/client/print.h"

enum { FEED_RECORD_MAX = 8 << 20 };

struct wants { /* as given */
    char *partition, *after, *at, *consumer, *worker;
    uint64_t max;
};

/* What belongs to a consumer, or excludes one. NULL: nothing is wrong. */
static const char *misuse(const struct wants *wants)
{
    if (wants->consumer == NULL && wants->worker != NULL)
        return "--worker is one of a consumer's: give --consumer, too";
    if (wants->consumer != NULL &&
        (wants->partition != NULL || wants->after != NULL || wants->at != NULL || wants->max != 0))
        return "a consumer's worker reads what it is given, from the consumer's cursors on: not "
               "with --partition, --after, --at, --max (`loquat-log consumer seek' sets cursors)";
    if (wants->consumer != NULL && !user_valid(span_str(wants->consumer)))
        return "--consumer has 1 to 64 of A-Z a-z 0-9 . _ @ -";
    if (wants->worker != NULL && !user_valid(span_str(wants->worker)))
        return "--worker has 1 to 64 of A-Z a-z 0-9 . _ @ -";
    if (wants->after != NULL && wants->at != NULL)
        return "--after or --at, not both";
    if (wants->after != NULL && wants->partition == NULL)
        return "--after is an offset of one partition: give --partition, too";
    return NULL;
}

/* ---- printing ---- */

struct feeding {
    struct cmd *cmd;
    struct json *json;
    struct buf out;
    struct loquat_reader *reader;
    uv_signal_t signals[2];
    bool stopping;
    int err;
    char why[CMD_WHY_SIZE];
};

/* Nothing is taken that standard output has not. */
static bool feeding_on_page(const struct loquat_feed_page *page, void *arg)
{
    struct feeding *feeding = arg;
    feeding->out.n = 0;
    for (size_t i = 0; i < page->count; i++)
        print_feed(&feeding->out, feeding->json, feeding->cmd->json, page->p, &page->records[i]);
    fwrite(feeding->out.p, 1, feeding->out.n, stdout);
    return fflush(stdout) == 0 && !ferror(stdout); /* cmd_finish says why not */
}

static void feeding_on_end(int err, const char *why, void *arg)
{
    struct feeding *feeding = arg;
    feeding->err = err;
    snprintf(feeding->why, sizeof feeding->why, "%s", why);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&feeding->signals[i], NULL);
}

static void feeding_on_signal(uv_signal_t *handle, int number)
{
    struct feeding *feeding = handle->data;
    (void)number;
    if (feeding->stopping)
        _exit(CMD_FAILED); /* in earnest */
    feeding->stopping = true;
    loquat_reader_stop(feeding->reader);
}

static void catch_signals(struct feeding *feeding, uv_loop_t *loop)
{
    static const int SIGNALS[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(loop, &feeding->signals[i]);
        feeding->signals[i].data = feeding;
        uv_signal_start(&feeding->signals[i], feeding_on_signal, SIGNALS[i]);
    }
}

static int run(struct cmd *cmd, const struct loquat_feed *wants)
{
    uv_loop_t loop;
    struct loquat_options server;
    struct feeding feeding = {.cmd = cmd};
    if (!cmd_connect(cmd, &server))
        return CMD_FAILED;
    (void)file_limit_raise(); /* a connection for each partition */
    int err = uv_loop_init(&loop);
    ASSERT(err == 0);
    server.no_retry = false;
    server.loop = &loop;
    feeding.json = json_new(FEED_RECORD_MAX);
    feeding.err = LOQUAT_BAD_REQUEST;
    feeding.reader = loquat_start_feed(&server, wants, feeding_on_page, feeding_on_end, &feeding,
                                       feeding.why, sizeof feeding.why);
    if (feeding.reader != NULL)
        catch_signals(&feeding, &loop);
    uv_run(&loop, UV_RUN_DEFAULT);
    err = uv_loop_close(&loop);
    ASSERT(err == 0);
    json_free(feeding.json);
    buf_close(&feeding.out);
    int status = cmd_finish(cmd);
    if (feeding.err == 0)
        return status;
    bool none = wants->consumer != NULL && feeding.err == LOQUAT_NOT_FOUND;
    return cmd_fail(cmd, feeding.why, none ? "`loquat-log consumer add NAME' makes it" : NULL);
}

static const char *take(const struct wants *wants, struct loquat_place *place,
                        struct loquat_feed *feed)
{
    uint64_t p = 0;
    if (wants->partition != NULL && (!cmd_whole(wants->partition, &p) || p > UINT32_MAX))
        return "--partition is a number";
    if (wants->after != NULL && !cmd_whole(wants->after, &place->after))
        return "--after is a number";
    if (wants->at != NULL && !cmd_time(wants->at, clock_wall_ms(), &feed->at))
        return CMD_TIME_IS;
    place->p = (uint32_t)p;
    feed->consumer = wants->consumer;
    feed->worker = wants->worker;
    feed->max = wants->max;
    feed->places = place;
    feed->only = wants->partition != NULL;
    feed->place_count = feed->only ? 1 : 0;
    return NULL;
}

int cmd_feed(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log feed"};
    struct loquat_feed feed = {0};
    struct loquat_place place = {0};
    struct wants wants = {0};
    const struct config_option options[] = {
        {.name = "partition",
         .key = 'p',
         .type = CONFIG_STRING,
         .arg = "P",
         .help = "Of this partition only",
         .value = &wants.partition},
        {.name = "after",
         .type = CONFIG_STRING,
         .arg = "OFFSET",
         .help = "Behind this offset of the partition; default: from the start",
         .value = &wants.after},
        {.name = "at",
         .type = CONFIG_STRING,
         .arg = "TIME",
         .help = "From this time on: 2026-01-31T12:00:00Z, 2026-01-31, \"90m ago\", now",
         .value = &wants.at},
        {.name = "max",
         .key = 'n',
         .type = CONFIG_UINT,
         .arg = "COUNT",
         .help = "At most so many records; 0: all",
         .value = &wants.max},
        {.name = "follow",
         .key = 'f',
         .type = CONFIG_FLAG,
         .help = "Go on with what comes, until Ctrl-C",
         .value = &feed.follow},
        {.name = "consumer",
         .key = 'c',
         .type = CONFIG_STRING,
         .arg = "NAME",
         .help = "Share the partitions with the other workers of this consumer; its cursor moves "
                 "behind what was printed",
         .value = &wants.consumer},
        {.name = "worker",
         .type = CONFIG_STRING,
         .arg = "NAME",
         .help = "Which worker this is, unlike all others; default: host and process",
         .value = &wants.worker},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "",
                         "Print the records of all conversations, partition by partition in the "
                         "order in which they were committed: partition, offset, conversation, "
                         "record. The token must have the scope jobs or admin.",
                         true, options);
    if (first != argc)
        return cmd_usage(&cmd, "takes options only");
    const char *wrong = misuse(&wants);
    if (wrong == NULL)
        wrong = take(&wants, &place, &feed);
    return wrong != NULL ? cmd_usage(&cmd, wrong) : run(&cmd, &feed);
}
