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

/* What belongs to a consumer, or excludes one. NULL: nothing is wrong. */
static const char *misuse(const struct feed *feed, const char *consumer, const char *worker,
                          const char *at)
{
    if (consumer == NULL && worker != NULL)
        return "--worker is one of a consumer's: give --consumer, too";
    if (consumer != NULL &&
        (feed->partition != CMD_UNSET || feed->after != CMD_UNSET || at != NULL || feed->left != 0))
        return "a consumer's worker reads what it is given, from the consumer's cursors on: not "
               "with --partition, --after, --at, --max (`loquat-log consumer seek' sets cursors)";
    if (feed->after != CMD_UNSET && at != NULL)
        return "--after or --at, not both";
    if (feed->after != CMD_UNSET && feed->partition == CMD_UNSET)
        return "--after is an offset of one partition: give --partition, too";
    if (consumer != NULL && !user_valid(span_str(consumer)))
        return "--consumer has 1 to 64 of A-Z a-z 0-9 . _ @ -";
    if (worker != NULL && !user_valid(span_str(worker)))
        return "--worker has 1 to 64 of A-Z a-z 0-9 . _ @ -";
    return NULL;
}

static int run(struct feed *feed, const char *consumer, const char *worker)
{
    char self[USER_MAX + 1];
    if (!cmd_connect(feed->cmd, &feed->server))
        return CMD_FAILED;
    if (feed->left == 0)
        feed->left = UINT64_MAX;
    if (feed->after == CMD_UNSET)
        feed->after = 0;
    if (consumer != NULL) {
        default_worker(self, sizeof self);
        feed->share = xcalloc(1, sizeof *feed->share);
        loquat_path_escape(consumer, feed->share->name, sizeof feed->share->name);
        loquat_path_escape(worker != NULL ? worker : self, feed->share->worker,
                           sizeof feed->share->worker);
    }
    int status = feed_run(feed);
    free(feed->share);
    return status;
}

int cmd_feed(int argc, char **argv)
{
    struct cmd cmd = {.name = "loquat-log feed"};
    struct feed feed = {.cmd = &cmd, .partition = CMD_UNSET, .after = CMD_UNSET};
    char *at = NULL, *consumer = NULL, *worker = NULL;
    const struct config_option options[] = {
        {.name = "partition",
         .key = 'p',
         .type = CONFIG_UINT,
         .arg = "P",
         .help = "Of this partition only",
         .value = &feed.partition},
        {.name = "after",
         .type = CONFIG_UINT,
         .arg = "OFFSET",
         .help = "Behind this offset of the partition; default: from the start",
         .value = &feed.after},
        {.name = "at",
         .type = CONFIG_STRING,
         .arg = "TIME",
         .help = "From this time on: 2026-01-31T12:00:00Z, 2026-01-31, \"90m ago\", now",
         .value = &at},
        {.name = "max",
         .key = 'n',
         .type = CONFIG_UINT,
         .arg = "COUNT",
         .help = "At most so many records; 0: all",
         .value = &feed.left},
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
         .value = &consumer},
        {.name = "worker",
         .type = CONFIG_STRING,
         .arg = "NAME",
         .help = "Which worker this is, unlike all others; default: host and process",
         .value = &worker},
        {0},
    };
    int first = cmd_load(&cmd, argc, argv, "",
                         "Print the records of all conversations, partition by partition in the "
                         "order in which they were committed: partition, offset, conversation, "
                         "record. The token must have the scope jobs or admin.",
                         true, options);
    if (first != argc)
        return cmd_usage(&cmd, "takes options only");
    const char *wrong = misuse(&feed, consumer, worker, at);
    if (wrong != NULL)
        return cmd_usage(&cmd, wrong);
    if (at != NULL && !cmd_time(at, clock_wall_ms(), &feed.at))
        return cmd_usage(&cmd, CMD_TIME_IS);
    return run(&feed, consumer, worker);
}
