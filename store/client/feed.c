#include "store/client/feed.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/file.h"
#include "store/client/answer.h"

bool feed_transient(const struct feed *feed, int err)
{
    return feed->follow && !feed->stopping &&
           (err == LOQUAT_UNAVAILABLE || err == LOQUAT_RATE_LIMITED);
}

uint64_t feed_backoff(uint32_t *bound)
{
    *bound = *bound * 2 > FEED_AGAIN_MAX_MS ? FEED_AGAIN_MAX_MS : *bound * 2;
    return random_u64() % *bound;
}

bool feed_on_piece(struct ask *ask, struct span piece)
{
    struct buf *text = ask->data;
    if (text->n + piece.n > FEED_PAGE_BYTES)
        return false;
    buf_add_span(text, piece);
    return true;
}

void feed_fail(struct feed *feed, const char *why, const char *more)
{
    if (feed->status == CMD_DONE)
        feed->status = cmd_fail(feed->cmd, why, more);
    feed_stop(feed);
}

/* ---- a partition ---- */

bool feed_part_done(const struct feed_part *part)
{
    bool group = part->feed->share != NULL;
    return !part->feed->follow && (part->at_end || part->after >= part->until) &&
           (!group || part->taken) && part->at == 0;
}

static void feed_part_on_end(struct ask *ask, int err, const char *why);

static void part_ask(struct feed_part *part, enum feed_does does, const char *method)
{
    part->does = does;
    part->text.n = 0;
    part->ask.place = &part->feed->place;
    part->ask.method = method;
    part->ask.target = part->target;
    part->ask.body = part->body[0] != 0 ? part->body : NULL;
    part->ask.on_piece = feed_on_piece;
    part->ask.on_end = feed_part_on_end;
    part->ask.data = &part->text;
    ask_begin(&part->ask, &part->feed->loop);
}

static void part_read(struct feed_part *part)
{
    const struct feed *feed = part->feed;
    uint64_t max = feed->left < FEED_PAGE_RECORDS ? feed->left : FEED_PAGE_RECORDS;
    int n = snprintf(part->target, sizeof part->target, "/v1/partitions/%u/feed?max=%llu", part->p,
                     (unsigned long long)max);
    if (part->at != 0)
        snprintf(part->target + n, sizeof part->target - (size_t)n, "&at=%llu",
                 (unsigned long long)part->at);
    else
        snprintf(part->target + n, sizeof part->target - (size_t)n, "&after=%llu&wait_ms=%d",
                 (unsigned long long)part->after,
                 !feed->follow || !part->at_end ? 0
                 : feed->share != NULL          ? FEED_WAIT_SHARED_MS
                                                : FEED_WAIT_MS);
    part->body[0] = 0;
    part_ask(part, FEED_READS, "GET");
}

static void part_cursor(struct feed_part *part, enum feed_does does)
{
    const struct share *share = part->feed->share;
    snprintf(part->target, sizeof part->target, "/v1/consumers/%s/%u", share->name, part->p);
    if (does == FEED_TAKES)
        snprintf(part->body, sizeof part->body, "{\"take\":true,\"generation\":%llu}",
                 (unsigned long long)share->generation);
    else
        snprintf(part->body, sizeof part->body,
                 "{\"offset\":%llu,\"was\":%llu,\"generation\":%llu}",
                 (unsigned long long)part->after, (unsigned long long)part->moved,
                 (unsigned long long)share->generation);
    part_ask(part, does, "PUT");
}

void feed_part_step(struct feed_part *part)
{
    struct feed *feed = part->feed;
    ASSERT(part->does == FEED_RESTS);
    if (part->taken && part->after != part->moved)
        part_cursor(part, FEED_MOVES);
    else if (feed->stopping || !part->ours || feed_part_done(part))
        feed_rested(feed);
    else if (feed->share != NULL && !part->taken)
        part_cursor(part, FEED_TAKES);
    else
        part_read(part);
}

static void feed_part_on_again(uv_timer_t *timer)
{
    struct feed_part *part = timer->data;
    part->does = FEED_RESTS;
    feed_part_step(part);
}

/* Nothing of it that could still be printed is; what was printed is kept. */
static void part_halt(struct feed_part *part)
{
    if (part->does == FEED_READS || part->does == FEED_TAKES)
        ask_end(&part->ask);
    if (part->does != FEED_WAITS)
        return;
    uv_timer_stop(&part->again);
    feed_part_on_again(&part->again);
}

void feed_part_let_go(struct feed_part *part)
{
    part->ours = false;
    part_halt(part);
}

/* ---- what it is answered ---- */

static bool print_page(struct feed_part *part)
{
    struct feed *feed = part->feed;
    const struct feed_page *page = feed->page;
    feed->out.n = 0;
    for (size_t i = 0; i < page->count && feed->left > 0; i++) {
        uint64_t offset;
        struct loquat_record record;
        if (feed_page_record(page, feed->json, i, &offset, &record) != 0) {
            feed_fail(feed, "the server sent what is no record", NULL);
            return false;
        }
        feed_print(&feed->out, feed->spare, feed->cmd->json, part->p, offset, &record);
        feed->left -= feed->left != UINT64_MAX;
    }
    if (feed->out.n > 0)
        fwrite(feed->out.p, 1, feed->out.n, stdout);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    feed->status = CMD_FAILED; /* cmd_finish says why */
    feed_stop(feed);
    return false;
}

static void on_page(struct feed_part *part)
{
    struct feed *feed = part->feed;
    if (feed_page_parse(feed->page, feed->json, buf_span(&part->text)) != 0) {
        feed_fail(feed, "the server sent what is no page of a feed", NULL);
        return;
    }
    bool waited = part->at_end && feed->page->count == 0;
    if (!print_page(part))
        return;
    part->at = 0;
    part->after = feed->page->next;
    part->at_end = part->after >= feed->page->head;
    if (waited)
        part->taken = false; /* the cursor may have been set meanwhile */
    if (feed->left == 0)
        feed_stop(feed);
}

static void on_taken(struct feed_part *part)
{
    struct json_obj obj;
    if (json_parse(part->feed->json, part->text.p, part->text.n, &obj) != 0) {
        feed_fail(part->feed, "the server sent what is no cursor", NULL);
        return;
    }
    uint64_t offset = answer_number(&obj, "offset");
    part->at_end &= offset == part->after;
    part->after = part->moved = offset;
    part->taken = true;
}

/* Another has it, or it was set to another place: what the share is says more. */
static void on_conflict(struct feed_part *part)
{
    part->taken = part->ours = false;
    share_join(part->feed);
}

static void part_fail(struct feed_part *part, enum feed_does did, const char *why)
{
    part->moved = part->after; /* that it was tried once is enough */
    feed_fail(part->feed, why,
              did == FEED_MOVES ? "what was printed last will come to a worker again" : NULL);
}

static void feed_part_on_end(struct ask *ask, int err, const char *why)
{
    struct feed_part *part = (struct feed_part *)((char *)ask - offsetof(struct feed_part, ask));
    struct feed *feed = part->feed;
    enum feed_does did = part->does;
    part->does = FEED_RESTS;
    if (feed_transient(feed, err)) {
        part->does = FEED_WAITS;
        uv_timer_start(&part->again, feed_part_on_again, feed_backoff(&part->bound), 0);
        return;
    }
    part->bound = FEED_AGAIN_MIN_MS / 2;
    if (err == LOQUAT_CONFLICT && did != FEED_READS)
        on_conflict(part);
    else if (err != 0 && err != LOQUAT_CLOSED) /* closed: let go, or stopped; the step says */
        part_fail(part, did, why);
    else if (err == 0 && did == FEED_READS)
        on_page(part);
    else if (err == 0 && did == FEED_TAKES)
        on_taken(part);
    else if (err == 0)
        part->moved = part->after;
    feed_part_step(part);
}

/* ---- all of them ---- */

/* One after the other: what is printed does not depend on who is faster. */
static void next_part(struct feed *feed)
{
    for (uint32_t p = 0; p < feed->count; p++) {
        struct feed_part *part = &feed->parts[p];
        if (part->ours || (feed->partition != FEED_ALL && feed->partition != p))
            continue;
        part->ours = true;
        feed_part_step(part);
        return;
    }
    feed_stop(feed);
}

static void close_all(struct feed *feed)
{
    if (feed->closed)
        return;
    feed->closed = true;
    for (uint32_t p = 0; p < feed->count; p++)
        uv_close((uv_handle_t *)&feed->parts[p].again, NULL);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&feed->signals[i], NULL);
    if (feed->share != NULL)
        share_close(feed);
}

void feed_rested(struct feed *feed)
{
    if (!feed->stopping && feed->share != NULL)
        share_rested(feed);
    if (!feed->stopping && feed->share == NULL && !feed->follow)
        next_part(feed);
    if (!feed->stopping)
        return;
    for (uint32_t p = 0; p < feed->count; p++)
        if (feed->parts[p].does != FEED_RESTS)
            return;
    if (feed->share == NULL || share_left(feed))
        close_all(feed);
}

void feed_stop(struct feed *feed)
{
    if (feed->stopping)
        return;
    feed->stopping = true;
    for (uint32_t p = 0; p < feed->count; p++)
        part_halt(&feed->parts[p]);
    if (feed->share != NULL)
        share_stop(feed);
    feed_rested(feed);
}

static void feed_on_signal(uv_signal_t *handle, int number)
{
    struct feed *feed = handle->data;
    (void)number;
    if (feed->stopping)
        _exit(CMD_FAILED); /* in earnest */
    feed_stop(feed);
}

/* ---- the beginning ---- */

static bool keep_text(struct loquat_text text, void *arg)
{
    buf_add(arg, text.p, text.n);
    return true;
}

static void add_parts(struct feed *feed, const struct json_val *vals)
{
    feed->parts = xcalloc(feed->count, sizeof *feed->parts);
    for (uint32_t p = 0; p < feed->count; p++) {
        struct feed_part *part = &feed->parts[p];
        struct json_obj obj;
        part->feed = feed;
        part->p = p;
        part->after = feed->after;
        part->at = feed->at;
        part->bound = FEED_AGAIN_MIN_MS / 2;
        if (json_open(feed->json, &vals[p], &obj) == 0)
            part->until = answer_number(&obj, "head");
    }
}

static bool take_parts(struct feed *feed, struct span text)
{
    struct json_obj obj;
    if (json_parse(feed->json, text.p, text.n, &obj) != 0)
        return false;
    const struct json_val *list = json_get(&obj, "partitions");
    int n = list != NULL ? json_items(feed->json, list, NULL, 0) : 0;
    if (n <= 0)
        return false;
    struct json_val *vals = xcalloc((size_t)n, sizeof *vals);
    feed->count = (uint32_t)json_items(feed->json, list, vals, (size_t)n);
    add_parts(feed, vals);
    free(vals);
    return true;
}

/* How many there are, and where each ends. */
static bool ask_parts(struct feed *feed)
{
    struct buf text = {0};
    char why[CMD_WHY_SIZE] = "";
    uint32_t bound = FEED_AGAIN_MIN_MS / 2;
    int err;
    while ((err = loquat_get(&feed->server, "/v1/partitions", NULL, keep_text, &text, why,
                             sizeof why)) != 0 &&
           feed_transient(feed, err)) {
        text.n = 0;
        uv_sleep((unsigned)feed_backoff(&bound));
    }
    if (err != 0)
        cmd_fail(feed->cmd, why, NULL);
    else if (!take_parts(feed, buf_span(&text)))
        cmd_fail(feed->cmd, "the server did not say what partitions there are", NULL);
    buf_close(&text);
    if (feed->count > 0 && feed->partition != FEED_ALL && feed->partition >= feed->count) {
        snprintf(why, sizeof why, "there are partitions from 0 to %u", feed->count - 1);
        cmd_fail(feed->cmd, why, NULL);
        return false;
    }
    return feed->count > 0;
}

static void begin(struct feed *feed)
{
    static const int SIGNALS[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&feed->loop, &feed->signals[i]);
        feed->signals[i].data = feed;
        uv_signal_start(&feed->signals[i], feed_on_signal, SIGNALS[i]);
    }
    for (uint32_t p = 0; p < feed->count; p++) {
        uv_timer_init(&feed->loop, &feed->parts[p].again);
        feed->parts[p].again.data = &feed->parts[p];
    }
    if (feed->share != NULL) {
        share_open(feed);
        return;
    }
    if (!feed->follow) {
        next_part(feed);
        return;
    }
    for (uint32_t p = 0; p < feed->count; p++) {
        feed->parts[p].ours = feed->partition == FEED_ALL || feed->partition == p;
        feed_part_step(&feed->parts[p]);
    }
}

int feed_run(struct feed *feed)
{
    char why[CMD_WHY_SIZE] = "";
    if (ask_place_open(&feed->place, &feed->server, why, sizeof why) != 0)
        return cmd_fail(feed->cmd, why, NULL);
    (void)file_limit_raise(); /* a connection for each partition */
    feed->status = CMD_FAILED;
    feed->json = json_new(FEED_PAGE_BYTES);
    feed->spare = json_new(FEED_PAGE_BYTES);
    feed->page = xcalloc(1, sizeof *feed->page);
    if (ask_parts(feed)) {
        feed->status = CMD_DONE;
        int err = uv_loop_init(&feed->loop);
        ASSERT(err == 0);
        begin(feed);
        uv_run(&feed->loop, UV_RUN_DEFAULT);
        err = uv_loop_close(&feed->loop);
        ASSERT(err == 0);
    }
    for (uint32_t p = 0; p < feed->count; p++)
        buf_close(&feed->parts[p].text);
    free(feed->parts);
    free(feed->page);
    buf_close(&feed->out);
    json_free(feed->json);
    json_free(feed->spare);
    ask_place_close(&feed->place);
    int status = cmd_finish(feed->cmd);
    return feed->status != CMD_DONE ? feed->status : status;
}
