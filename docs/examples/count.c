/* count.c: counts the messages of each conversation, from the feed of all of them, on a libuv loop.
 * It is a worker of the consumer `count`: several share the work, and each goes on where the one
 * before stopped. What is counted is printed as it comes: conversation, messages of this page.
 *
 *   cc -o count count.c $(pkg-config --cflags --libs loquat)
 *   LOQUAT_URL=… LOQUAT_TOKEN=… ./count [--follow]     the token: of scope jobs; Ctrl-C ends it */
#include <loquat.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct job {
    struct loquat_reader *reader;
    uv_signal_t interrupt;
    int err;
};

static bool same(struct loquat_text a, struct loquat_text b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static bool is_message(const struct loquat_record *record)
{
    return !record->hole && same(record->kind, (struct loquat_text){"text", 4});
}

/* Runs of one conversation, a line each. A job of your own writes to its database here, and says
 * true once that is safe: only then is the consumer's cursor moved. */
static bool on_page(const struct loquat_feed_page *page, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < page->count;) {
        struct loquat_text c = page->records[i].record.c;
        unsigned messages = 0;
        for (; i < page->count && same(page->records[i].record.c, c); i++)
            messages += is_message(&page->records[i].record);
        if (messages > 0)
            printf("%.*s %u\n", (int)c.n, c.p, messages);
    }
    return fflush(stdout) == 0;
}

static void on_end(int err, const char *why, void *arg)
{
    struct job *job = arg;
    if (err != 0)
        fprintf(stderr, "count: %s\n", why);
    job->err = err;
    uv_close((uv_handle_t *)&job->interrupt, NULL);
}

static void on_interrupt(uv_signal_t *handle, int number)
{
    struct job *job = handle->data;
    (void)number;
    loquat_reader_stop(job->reader); /* on_end comes once it has left */
}

static bool ignore(struct loquat_text line, void *arg)
{
    (void)line;
    (void)arg;
    return true;
}

int main(int argc, char **argv)
{
    struct loquat_options options = {
        .url = getenv("LOQUAT_URL"), .token = getenv("LOQUAT_TOKEN"), .loop = uv_default_loop()};
    struct loquat_feed feed = {.consumer = "count",
                               .follow = argc > 1 && strcmp(argv[1], "--follow") == 0};
    struct job job = {0};
    char why[256];
    /* Makes the consumer; one that is there stays where it is. */
    if (loquat_ask(&options, "PUT", "/v1/consumers/count", "{}", NULL, ignore, NULL, why,
                   sizeof why) != 0 ||
        (job.reader = loquat_start_feed(&options, &feed, on_page, on_end, &job, why, sizeof why)) ==
            NULL) {
        fprintf(stderr, "count: %s\n", why);
        return 1;
    }
    uv_signal_init(options.loop, &job.interrupt);
    job.interrupt.data = &job;
    uv_signal_start(&job.interrupt, on_interrupt, SIGINT);
    uv_run(options.loop, UV_RUN_DEFAULT);
    return job.err == 0 ? 0 : 1;
}
