/* package_reads: the ways to read of the installed library: a range, a tail and feeds, blocking and
 * on a loop; where they begin, how they are stopped, what they refuse. Says what is wrong. */
#include <loquat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { SENT = 5, WHY_SIZE = 256 };

static struct loquat_options user, jobs; /* without a loop; with one, on_loop */
static char conv[128], why[WHY_SIZE];
static int failures;

static void expect(bool fine, const char *what)
{
    if (!fine)
        printf("%s (%s)\n", what, why);
    failures += !fine;
}

static struct loquat_options on_loop(struct loquat_options options)
{
    options.loop = uv_default_loop();
    return options;
}

static bool ignore(struct loquat_text line, void *arg)
{
    (void)line;
    (void)arg;
    return true;
}

static void prepare(void)
{
    struct loquat_answer answer;
    struct loquat *chat = loquat_new(&user, why, sizeof why);
    const char *const members[] = {"bob"};
    int err = loquat_wait_open_group(chat, "read", members, 1, "reads-1", &answer);
    if (err != 0 || sscanf(answer.json.p, "{\"c\":\"%127[^\"]\"", conv) != 1)
        exit(3);
    for (int i = 0; i < SENT; i++)
        if (loquat_wait_send(chat, &(struct loquat_message){.c = conv, .text = "said"}, &answer))
            exit(3);
    loquat_free(chat);
}

/* ---- three readers on one loop ---- */

struct count {
    struct loquat_reader *reader;
    int records, ends, err;
    int until;            /* stops then: by saying false, or: */
    bool stops, told_off; /* by loquat_reader_stop; something came after it */
    uint64_t first;       /* sequence */
    struct loquat_place places[256];
    size_t place_count;
};

static bool count_record(const struct loquat_record *record, void *arg)
{
    struct count *count = arg;
    if (record->c.n != strlen(conv) || memcmp(record->c.p, conv, record->c.n) != 0)
        return true;
    count->told_off |= count->until != 0 && count->records >= count->until;
    if (count->records++ == 0)
        count->first = record->s;
    if (count->records != count->until)
        return true;
    if (count->stops)
        loquat_reader_stop(count->reader);
    return count->stops;
}

static bool count_page(const struct loquat_feed_page *page, void *arg)
{
    struct count *count = arg;
    bool go_on = true;
    expect(page->count > 0, "a page without records");
    expect(page->records[page->count - 1].offset <= page->next && page->next <= page->head,
           "records, next, head of a page");
    for (size_t i = 0; i < page->count; i++)
        go_on &= count_record(&page->records[i].record, count);
    count->places[count->place_count++ % 256] = (struct loquat_place){page->p, page->next};
    return go_on;
}

static void count_end(int err, const char *text, void *arg)
{
    struct count *count = arg;
    count->ends++;
    count->err = err;
    snprintf(why, sizeof why, "%s", text);
}

static void ended(const struct count *count, int records, const char *what)
{
    expect(count->ends == 1 && count->err == 0 && count->records == records && !count->told_off,
           what);
}

static void together(void)
{
    struct loquat_options a = on_loop(user), b = on_loop(jobs);
    struct count range = {0}, tail = {.until = SENT}, feed = {.until = SENT, .stops = true},
                 stopped = {0};
    struct loquat_feed all = {.follow = true};
    range.reader = loquat_start_read(&a, &(struct loquat_range){.c = conv, .folded = true},
                                     count_record, count_end, &range, why, sizeof why);
    tail.reader = loquat_start_tail(&a, conv, 2, count_record, count_end, &tail, why, sizeof why);
    feed.reader = loquat_start_feed(&b, &all, count_page, count_end, &feed, why, sizeof why);
    stopped.reader = loquat_start_feed(&b, &all, count_page, count_end, &stopped, NULL, 0);
    loquat_reader_stop(stopped.reader);
    loquat_reader_stop(stopped.reader);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    ended(&tail, SENT, "a tail says false");
    expect(tail.first == 2, "a tail begins where it is told to");
    expect(range.ends == 1 && range.err == 0 && range.records >= SENT, "a range comes to its end");
    expect(feed.ends == 1 && feed.err == 0 && feed.records >= SENT, "a feed is stopped");
    ended(&stopped, 0, "a feed is stopped before it begins");
}

/* A tail and a feed that wait are stopped from elsewhere. */
static void stop_both(uv_timer_t *timer)
{
    struct count *const *both = timer->data;
    if (both[0]->records < SENT || both[1]->records < SENT)
        return;
    loquat_reader_stop(both[0]->reader);
    loquat_reader_stop(both[1]->reader);
    uv_close((uv_handle_t *)timer, NULL);
}

static void waiting(void)
{
    struct loquat_options a = on_loop(user), b = on_loop(jobs);
    struct count tail = {0}, feed = {0}, *both[] = {&tail, &feed};
    uv_timer_t timer;
    tail.reader = loquat_start_tail(&a, conv, 2, count_record, count_end, &tail, why, sizeof why);
    feed.reader =
        loquat_start_feed(&b, &(struct loquat_feed){.consumer = "waiting", .follow = true},
                          count_page, count_end, &feed, why, sizeof why);
    uv_timer_init(uv_default_loop(), &timer);
    timer.data = both;
    uv_timer_start(&timer, stop_both, 0, 10);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    ended(&tail, SENT, "a tail that waits is stopped");
    expect(feed.ends == 1 && feed.err == 0, "a worker that waits is stopped");
}

/* ---- a feed, blocking ---- */

static int read_feed(const struct loquat_feed *feed, struct count *count)
{
    *count = (struct count){.until = count->until};
    return loquat_read_feed(&jobs, feed, count_page, count, why, sizeof why);
}

static void places(void)
{
    struct count count = {0}, rest = {0};
    expect(read_feed(&(struct loquat_feed){0}, &count) == 0 && count.records >= SENT,
           "all of every feed");
    struct loquat_feed behind = {.places = count.places, .place_count = count.place_count};
    expect(read_feed(&behind, &rest) == 0 && rest.place_count == 0, "behind all of them: nothing");
    behind.only = true;
    behind.place_count = 1;
    expect(read_feed(&behind, &rest) == 0 && rest.place_count == 0, "behind one, and no other");
    behind.only = false;
    expect(read_feed(&behind, &rest) == 0 && rest.place_count == count.place_count - 1,
           "behind one, and the others");
    struct loquat_place start = {count.places[0].p, 0};
    expect(read_feed(&(struct loquat_feed){.places = &start, .place_count = 1, .only = true},
                     &rest) == 0 &&
               rest.place_count == 1,
           "one from its start");
    expect(read_feed(&(struct loquat_feed){.max = 1}, &rest) == 0 && rest.place_count == 1,
           "one record");
    start.p = 99999;
    expect(read_feed(&(struct loquat_feed){.places = &start, .place_count = 1}, &rest) ==
               LOQUAT_NOT_FOUND,
           "a partition that there is not");
}

static void workers(void)
{
    struct loquat_feed feed = {.consumer = "reads"};
    struct count all = {0}, count = {0};
    expect(read_feed(&feed, &count) == LOQUAT_NOT_FOUND, "no such consumer");
    for (int i = 0; i < 2; i++)
        expect(loquat_ask(&jobs, "PUT", i == 0 ? "/v1/consumers/reads" : "/v1/consumers/waiting",
                          "{}", NULL, ignore, NULL, why, sizeof why) == 0,
               "a consumer is made");
    expect(read_feed(&(struct loquat_feed){0}, &all) == 0, "the feed");
    count.until = 1;
    expect(read_feed(&feed, &count) == 0 && count.records >= 1, "a worker that does not take it");
    count.until = 0;
    expect(read_feed(&feed, &count) == 0 && count.records == all.records,
           "the next one has it all");
    expect(read_feed(&feed, &count) == 0 && count.records == 0, "then there is no more");
}

static void refused(void)
{
    struct count count = {0};
    struct loquat_options loop = on_loop(jobs), nobody = user, nowhere = jobs;
    expect(loquat_start_feed(&jobs, &(struct loquat_feed){0}, count_page, count_end, &count, why,
                             sizeof why) == NULL &&
               strcmp(why, "a loop is needed") == 0,
           "a start without a loop");
    expect(loquat_start_feed(&loop, &(struct loquat_feed){.worker = "w"}, count_page, count_end,
                             &count, why, sizeof why) == NULL,
           "a worker of no consumer");
    expect(read_feed(&(struct loquat_feed){.consumer = "reads", .max = 1}, &count) ==
               LOQUAT_BAD_REQUEST,
           "a worker that would begin elsewhere");
    expect(read_feed(&(struct loquat_feed){.consumer = "a b"}, &count) == LOQUAT_BAD_REQUEST,
           "a name that can't be");
    expect(loquat_read_feed(&nobody, &(struct loquat_feed){0}, count_page, &count, why,
                            sizeof why) == LOQUAT_FORBIDDEN,
           "a user");
    nowhere.url = "http://127.0.0.1:1";
    expect(loquat_read_feed(&nowhere, &(struct loquat_feed){0}, count_page, &count, why,
                            sizeof why) == LOQUAT_UNAVAILABLE,
           "no server");
    nowhere.no_retry = true;
    expect(loquat_read_feed(&nowhere, &(struct loquat_feed){.follow = true}, count_page, &count,
                            why, sizeof why) == LOQUAT_UNAVAILABLE,
           "no server, and no_retry");
    expect(loquat_tail(&nowhere, conv, 1, count_record, &count, why, sizeof why) ==
               LOQUAT_UNAVAILABLE,
           "a tail of no server, and no_retry");
}

int main(void)
{
    user = (struct loquat_options){.url = getenv("LOQUAT_URL"), .token = getenv("LOQUAT_TOKEN")};
    jobs = (struct loquat_options){.url = user.url, .token = getenv("LOQUAT_TOKEN_JOBS")};
    prepare();
    together();
    places();
    workers();
    waiting();
    refused();
    uv_loop_close(uv_default_loop());
    return failures == 0 ? 0 : 1;
}
