#include "store/client/feed.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/ids.h"
#include "store/client/answer.h"

bool feed_stopping(const struct feed *feed)
{
    return feed->state >= FEED_STOPS;
}

bool feed_transient(const struct feed *feed, int err)
{
    return feed->wants.follow && !feed->no_retry && !feed_stopping(feed) &&
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

void feed_fail(struct feed *feed, int err, const char *what, const char *why)
{
    if (feed->err == 0) {
        feed->err = err;
        snprintf(feed->why, sizeof feed->why, "%s%s%s", what, why[0] != 0 ? ": " : "", why);
    }
    feed_stop(feed);
}

static bool alone(const struct feed *feed)
{
    return feed->share == NULL;
}

/* ---- a partition ---- */

bool feed_part_done(const struct feed_part *part)
{
    return !part->feed->wants.follow && (part->at_end || part->after >= part->until) &&
           (alone(part->feed) || part->taken) && part->at == 0;
}

static void feed_part_on_end(struct ask *ask, int err, const char *why);

static void part_ask(struct feed_part *part, enum feed_does does, const char *method)
{
    part->does = does;
    part->text.n = 0;
    part->ask.place = &part->feed->reader.place;
    part->ask.method = method;
    part->ask.target = part->target;
    part->ask.body = part->body[0] != 0 ? part->body : NULL;
    part->ask.on_piece = feed_on_piece;
    part->ask.on_end = feed_part_on_end;
    part->ask.data = &part->text;
    part->ask.keeps = true;
    ask_begin(&part->ask, part->feed->reader.loop);
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
                 !feed->wants.follow || !part->at_end ? 0
                 : alone(feed)                        ? FEED_WAIT_MS
                                                      : FEED_WAIT_SHARED_MS);
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
    else if (feed_stopping(feed) || !part->ours || feed_part_done(part))
        feed_rested(feed);
    else if (!alone(feed) && !part->taken)
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

/* Nothing of it that could still be given is; what was taken is kept. */
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

/* What there is room for, and what lies behind it. */
static struct loquat_feed_page page_of(struct feed_part *part)
{
    struct feed *feed = part->feed;
    struct loquat_feed_page page = {.p = part->p,
                                    .records = feed->page.records,
                                    .count = feed->page.count,
                                    .next = feed->page.next,
                                    .head = feed->page.head};
    if (page.count > feed->left) {
        page.count = feed->left;
        page.next = page.records[page.count - 1].offset;
    }
    feed->left -= feed->left != UINT64_MAX ? page.count : 0;
    return page;
}

/* The next page is on its way while the caller has this one. */
static void give_alone(struct feed_part *part, const struct loquat_feed_page *page)
{
    struct feed *feed = part->feed;
    part->after = page->next;
    if (feed->left == 0)
        feed_stop(feed);
    feed_part_step(part);
    if (page->count > 0 && !feed->fn(page, feed->arg))
        feed_stop(feed);
}

/* Its cursor is moved before there is another page. */
static void give_shared(struct feed_part *part, const struct loquat_feed_page *page)
{
    struct feed *feed = part->feed;
    part->does = FEED_GIVES;
    bool took = page->count == 0 || feed->fn(page, feed->arg);
    part->does = FEED_RESTS;
    if (took)
        part->after = page->next;
    else
        feed_stop(feed);
    feed_part_step(part);
}

static void on_page(struct feed_part *part)
{
    struct feed *feed = part->feed;
    if (feed_page_parse(&feed->page, feed->json, buf_span(&part->text)) != 0) {
        feed_fail(feed, LOQUAT_INTERNAL, "the server sent what is no page of a feed", "");
        feed_part_step(part);
        return;
    }
    bool waited = part->at_end && feed->page.count == 0;
    struct loquat_feed_page page = page_of(part);
    part->at = 0;
    part->at_end = page.next >= page.head;
    if (waited)
        part->taken = false; /* the cursor may have been set meanwhile */
    if (alone(feed))
        give_alone(part, &page);
    else
        give_shared(part, &page);
}

static void on_taken(struct feed_part *part)
{
    struct json_obj obj;
    if (json_parse(part->feed->json, part->text.p, part->text.n, &obj) != 0) {
        feed_fail(part->feed, LOQUAT_INTERNAL, "the server sent what is no cursor", "");
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

static void part_fail(struct feed_part *part, enum feed_does did, int err, const char *why)
{
    part->moved = part->after; /* that it was tried once is enough */
    feed_fail(part->feed, err, why,
              did == FEED_MOVES ? "what was taken last will come to a worker again" : "");
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
        part_fail(part, did, err, why);
    else if (err == 0 && did == FEED_TAKES)
        on_taken(part);
    else if (err == 0 && did == FEED_MOVES)
        part->moved = part->after;
    if (err == 0 && did == FEED_READS)
        on_page(part);
    else
        feed_part_step(part);
}

/* ---- all of them ---- */

/* One after the other: what is given does not depend on who is faster. */
static void next_part(struct feed *feed)
{
    for (uint32_t p = 0; p < feed->count; p++) {
        struct feed_part *part = &feed->parts[p];
        if (part->ours || (feed->wants.only && !part->named))
            continue;
        part->ours = true;
        feed_part_step(part);
        return;
    }
    feed_stop(feed);
}

static void feed_over(struct feed *feed)
{
    for (uint32_t p = 0; p < feed->count; p++)
        buf_close(&feed->parts[p].text);
    free(feed->parts);
    free(feed->places);
    free(feed->share);
    buf_close(&feed->text);
    json_free(feed->json);
    reader_close(&feed->reader);
    feed->reader.on_end(feed->err, feed->why, feed->reader.end_arg);
    free(feed);
}

void feed_closed(struct feed *feed)
{
    if (--feed->closing == 0)
        feed_over(feed);
}

static void feed_on_closed(uv_handle_t *handle)
{
    feed_closed(handle->data);
}

static void feed_part_on_timer_closed(uv_handle_t *handle)
{
    struct feed_part *part = handle->data;
    feed_closed(part->feed);
}

static void feed_part_on_closed(struct ask *ask)
{
    struct feed_part *part = (struct feed_part *)((char *)ask - offsetof(struct feed_part, ask));
    feed_closed(part->feed);
}

static void close_all(struct feed *feed)
{
    if (feed->state == FEED_CLOSES)
        return;
    feed->state = FEED_CLOSES;
    for (uint32_t p = 0; p < feed->count; p++) {
        struct feed_part *part = &feed->parts[p];
        part->ask.on_closed = feed_part_on_closed;
        feed->closing += ask_close(&part->ask) ? 1 : 2;
        uv_close((uv_handle_t *)&part->again, feed_part_on_timer_closed);
    }
    if (!alone(feed))
        share_close(feed);
    feed->closing++;
    uv_close((uv_handle_t *)&feed->again, feed_on_closed);
}

void feed_rested(struct feed *feed)
{
    if (feed->state == FEED_GOES && !alone(feed))
        share_rested(feed);
    if (feed->state == FEED_GOES && alone(feed) && !feed->wants.follow)
        next_part(feed);
    if (feed->state != FEED_STOPS)
        return;
    for (uint32_t p = 0; p < feed->count; p++)
        if (feed->parts[p].does != FEED_RESTS)
            return;
    if (alone(feed) || share_left(feed))
        close_all(feed);
}

void feed_stop(struct feed *feed)
{
    if (feed_stopping(feed))
        return;
    bool begins = feed->state == FEED_BEGINS;
    feed->state = FEED_STOPS;
    uv_timer_stop(&feed->again);
    if (begins && feed->ask.busy) {
        ask_end(&feed->ask);
        return;
    }
    for (uint32_t p = 0; p < feed->count; p++)
        part_halt(&feed->parts[p]);
    if (!alone(feed))
        share_stop(feed);
    feed_rested(feed);
}

/* ---- the beginning ---- */

static void add_parts(struct feed *feed, const struct json_val *vals)
{
    feed->parts = xcalloc(feed->count, sizeof *feed->parts);
    for (uint32_t p = 0; p < feed->count; p++) {
        struct feed_part *part = &feed->parts[p];
        struct json_obj obj;
        part->feed = feed;
        part->p = p;
        part->at = feed->wants.at;
        part->bound = FEED_AGAIN_MIN_MS / 2;
        if (json_open(feed->json, &vals[p], &obj) == 0)
            part->until = answer_number(&obj, "head");
        uv_timer_init(feed->reader.loop, &part->again);
        part->again.data = part;
    }
}

static bool take_parts(struct feed *feed)
{
    struct json_obj obj;
    if (json_parse(feed->json, feed->text.p, feed->text.n, &obj) != 0)
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

/* False: one of the places is none. */
static bool take_places(struct feed *feed)
{
    char why[64];
    for (size_t i = 0; i < feed->wants.place_count; i++) {
        const struct loquat_place *place = &feed->places[i];
        if (place->p >= feed->count) {
            snprintf(why, sizeof why, "there are partitions from 0 to %u", feed->count - 1);
            feed_fail(feed, LOQUAT_NOT_FOUND, why, "");
            return false;
        }
        feed->parts[place->p].named = true;
        feed->parts[place->p].after = place->after;
    }
    return true;
}

static void begin(struct feed *feed)
{
    if (!take_parts(feed)) {
        feed_fail(feed, LOQUAT_INTERNAL, "the server did not say what partitions there are", "");
        return;
    }
    if (!take_places(feed))
        return;
    feed->state = FEED_GOES;
    if (!alone(feed)) {
        share_open(feed);
        return;
    }
    if (!feed->wants.follow) {
        next_part(feed);
        return;
    }
    for (uint32_t p = 0; p < feed->count; p++) {
        feed->parts[p].ours = !feed->wants.only || feed->parts[p].named;
        feed_part_step(&feed->parts[p]);
    }
}

static void ask_parts(struct feed *feed)
{
    feed->text.n = 0;
    ask_begin(&feed->ask, feed->reader.loop);
}

static void feed_on_again(uv_timer_t *timer)
{
    ask_parts(timer->data);
}

/* How many there are, and where each ends. */
static void feed_on_parts(struct ask *ask, int err, const char *why)
{
    struct feed *feed = (struct feed *)((char *)ask - offsetof(struct feed, ask));
    if (feed_transient(feed, err))
        uv_timer_start(&feed->again, feed_on_again, feed_backoff(&feed->bound), 0);
    else if (feed_stopping(feed))
        feed_rested(feed);
    else if (err != 0)
        feed_fail(feed, err, why, "");
    else
        begin(feed);
}

static void feed_reader_stop(struct loquat_reader *reader)
{
    feed_stop((struct feed *)reader);
}

static const char *misuse(const struct loquat_feed *wants)
{
    if (wants->consumer == NULL && wants->worker != NULL)
        return "a worker is one of a consumer's";
    if (wants->consumer != NULL &&
        (wants->place_count > 0 || wants->only || wants->at != 0 || wants->max != 0))
        return "a consumer's worker reads what it is given, from the consumer's cursors on";
    if (wants->consumer != NULL && !user_valid(span_str(wants->consumer)))
        return "a consumer's name has 1 to 64 of A-Z a-z 0-9 . _ @ -";
    if (wants->worker != NULL && !user_valid(span_str(wants->worker)))
        return "a worker's name has 1 to 64 of A-Z a-z 0-9 . _ @ -";
    return NULL;
}

struct loquat_reader *loquat_start_feed(const struct loquat_options *options,
                                        const struct loquat_feed *wants, loquat_feed_fn fn,
                                        loquat_end_fn end, void *arg, char *why, size_t why_size)
{
    const char *wrong = misuse(wants);
    struct feed *feed = xcalloc(1, sizeof *feed);
    if (wrong != NULL && why != NULL)
        snprintf(why, why_size, "%s", wrong);
    if (wrong != NULL || reader_open(&feed->reader, options, end, arg, why, why_size) != 0) {
        free(feed);
        return NULL;
    }
    feed->reader.stop = feed_reader_stop;
    feed->wants = *wants;
    feed->no_retry = options->no_retry;
    feed->fn = fn;
    feed->arg = arg;
    feed->left = wants->max != 0 ? wants->max : UINT64_MAX;
    feed->bound = FEED_AGAIN_MIN_MS / 2;
    feed->places = xcalloc(wants->place_count, sizeof *feed->places);
    if (wants->place_count > 0)
        memcpy(feed->places, wants->places, wants->place_count * sizeof *feed->places);
    if (wants->consumer != NULL)
        feed->share = share_new(wants->consumer, wants->worker);
    feed->json = json_new(FEED_PAGE_BYTES);
    uv_timer_init(feed->reader.loop, &feed->again);
    feed->again.data = feed;
    feed->ask = (struct ask){.place = &feed->reader.place,
                             .method = "GET",
                             .target = "/v1/partitions",
                             .on_piece = feed_on_piece,
                             .on_end = feed_on_parts,
                             .data = &feed->text};
    ask_parts(feed);
    return &feed->reader;
}

int loquat_read_feed(const struct loquat_options *options, const struct loquat_feed *feed,
                     loquat_feed_fn fn, void *arg, char *why, size_t why_size)
{
    struct reader_wait wait;
    int err = reader_wait_open(&wait, options, why, why_size);
    if (err != 0)
        return err;
    return reader_wait_end(&wait,
                           loquat_start_feed(&wait.options, feed, fn, NULL, arg, why, why_size));
}
