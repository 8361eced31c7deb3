#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/client/feed.h"

/* This process, as the name of a worker: whatever names may not hold becomes a dash. */
static void default_worker(char *out, size_t size)
{
    if (gethostname(out, 48) != 0)
        out[0] = 0;
    out[47] = 0;
    for (char *at = out; *at != 0; at++)
        if (!user_valid(span_of(at, 1)))
            *at = '-';
    size_t n = strlen(out);
    snprintf(out + n, size - n, "%s%ld", n > 0 ? "-" : "w-", (long)getpid());
}

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

static const char *take(const struct wants *wants, struct feed *feed)
{
    feed->partition = FEED_ALL;
    feed->left = wants->max != 0 ? wants->max : UINT64_MAX;
    if (wants->partition != NULL && !cmd_whole(wants->partition, &feed->partition))
        return "--partition is a number";
    if (wants->after != NULL && !cmd_whole(wants->after, &feed->after))
        return "--after is a number";
    if (wants->at != NULL && !cmd_time(wants->at, clock_wall_ms(), &feed->at))
        return CMD_TIME_IS;
    return NULL;
}

static int run(struct feed *feed, const struct wants *wants)
{
    char self[USER_MAX + 1];
    if (!cmd_connect(feed->cmd, &feed->server))
        return CMD_FAILED;
    if (wants->consumer != NULL) {
        struct share *share = xcalloc(1, sizeof *share);
        default_worker(self, sizeof self);
        loquat_path_escape(wants->consumer, share->name, sizeof share->name);
        loquat_path_escape(wants->worker != NULL ? wants->worker : self, share->worker,
                           sizeof share->worker);
        feed->share = share;
    }
    int status = feed_run(feed);
    free(feed->share);
    return status;
}

int cmd_feed(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log feed"};
    struct feed feed = {.cmd = &cmd};
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
        wrong = take(&wants, &feed);
    return wrong != NULL ? cmd_usage(&cmd, wrong) : run(&feed, &wants);
}
