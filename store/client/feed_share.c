/* store/client/feed_share.c: a worker of a consumer: it comes, says at intervals that it is there,
 * is told which partitions are its own, and leaves. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/ids.h"
#include "store/client/answer.h"
#include "store/client/feed.h"

static void share_on_end(struct ask *ask, int err, const char *why);

static void share_ask(struct feed *feed, enum share_does does, const char *method)
{
    struct share *share = feed->share;
    share->does = does;
    share->text.n = 0;
    share->ask.place = &feed->reader.place;
    share->ask.method = method;
    share->ask.target = share->target;
    share->ask.body = share->body[0] != 0 ? share->body : NULL;
    share->ask.on_piece = feed_on_piece;
    share->ask.on_end = share_on_end;
    share->ask.data = &share->text;
    share->ask.keeps = true;
    ask_begin(&share->ask, feed->reader.loop);
}

static void worker_target(struct share *share)
{
    snprintf(share->target, sizeof share->target, "/v1/consumers/%s/workers/%s", share->name,
             share->worker);
}

void share_join(struct feed *feed)
{
    struct share *share = feed->share;
    share->joins = share->does != SHARE_RESTS;
    if (share->joins || feed_stopping(feed))
        return;
    share->came = true;
    worker_target(share);
    snprintf(share->body, sizeof share->body, "{\"ttl_ms\":%d}", FEED_TTL_MS);
    share_ask(feed, SHARE_JOINS, "PUT");
}

static void share_look(struct feed *feed)
{
    struct share *share = feed->share;
    snprintf(share->target, sizeof share->target, "/v1/consumers/%s", share->name);
    share->body[0] = 0;
    share_ask(feed, SHARE_LOOKS, "GET");
}

static void share_on_beat(uv_timer_t *timer)
{
    share_join(timer->data);
}

/* ---- what is ours ---- */

static void take_given(struct feed *feed)
{
    for (uint32_t p = 0; p < feed->count && !feed_stopping(feed); p++) {
        struct feed_part *part = &feed->parts[p];
        if (!part->given || part->ours)
            continue;
        part->ours = true;
        part->taken = part->at_end = false;
        if (part->does == FEED_RESTS)
            feed_part_step(part);
    }
}

static void share_on_settled(uv_timer_t *timer)
{
    struct feed *feed = timer->data;
    feed->share->settling = false;
    take_given(feed);
    feed_rested(feed);
}

static bool mark_given(struct feed *feed, const struct json_val *list)
{
    struct json_val *vals = xcalloc(feed->count, sizeof *vals);
    int n = list != NULL ? json_items(feed->json, list, vals, feed->count) : -1;
    for (uint32_t p = 0; p < feed->count; p++)
        feed->parts[p].given = false;
    for (int i = 0; i < n; i++)
        if (i < (int)feed->count && vals[i].is_whole && vals[i].whole >= 0 &&
            vals[i].whole < (int64_t)feed->count)
            feed->parts[vals[i].whole].given = true;
    free(vals);
    return n >= 0;
}

/* Those that had a partition learn with their next beat that they have it no more; whoever takes it
 * before is given again what they have just been given. */
static void settle(struct feed *feed, bool alone)
{
    struct share *share = feed->share;
    share->settling = !alone;
    if (alone)
        uv_timer_stop(&share->settle);
    else
        uv_timer_start(&share->settle, share_on_settled, FEED_SETTLE_MS, 0);
}

static void on_joined(struct feed *feed)
{
    struct share *share = feed->share;
    struct json_obj obj;
    uint64_t generation = 0;
    bool fine = json_parse(feed->json, share->text.p, share->text.n, &obj) == 0;
    if (fine)
        generation = answer_number(&obj, "generation");
    if (generation == 0 || !mark_given(feed, json_get(&obj, "partitions"))) {
        feed_fail(feed, LOQUAT_INTERNAL, "the server did not say what is whose", "");
        return;
    }
    bool alone = answer_number(&obj, "workers") == 1;
    bool changed = generation != share->generation;
    share->generation = generation;
    if (changed)
        settle(feed, alone);
    uv_timer_start(&share->beat, share_on_beat, FEED_BEAT_MS, 0);
    for (uint32_t p = 0; p < feed->count; p++)
        if (feed->parts[p].ours && !feed->parts[p].given)
            feed_part_let_go(&feed->parts[p]);
    if (!share->settling)
        take_given(feed);
}

/* ---- whether all is done ---- */

void share_rested(struct feed *feed)
{
    struct share *share = feed->share;
    if (feed->wants.follow || share->does != SHARE_RESTS || share->settling ||
        share->generation == 0)
        return;
    for (uint32_t p = 0; p < feed->count; p++) {
        const struct feed_part *part = &feed->parts[p];
        if (part->does != FEED_RESTS || (part->given && !(part->ours && feed_part_done(part))))
            return;
    }
    share_look(feed);
}

/* Whether the cursor of one of its `partitions` is where it has to be. One of ours that was set
 * back is read again. */
static bool passed(struct feed *feed, const struct json_val *val)
{
    struct json_obj obj;
    if (val->type != JSON_OBJECT || json_open(feed->json, val, &obj) != 0)
        return false;
    uint64_t p = answer_number(&obj, "p"), offset = answer_number(&obj, "offset");
    if (p >= feed->count || offset >= feed->parts[p].until || answer_number(&obj, "lag") == 0)
        return p < feed->count;
    struct feed_part *part = &feed->parts[p];
    if (part->ours && part->does == FEED_RESTS && offset != part->moved)
        part->taken = false;
    return false;
}

static void on_looked(struct feed *feed)
{
    struct share *share = feed->share;
    struct json_val *vals = xcalloc(feed->count, sizeof *vals);
    struct json_obj obj;
    bool all = false;
    if (json_parse(feed->json, share->text.p, share->text.n, &obj) == 0 &&
        json_get(&obj, "partitions") != NULL) {
        int n = json_items(feed->json, json_get(&obj, "partitions"), vals, feed->count);
        all = n == (int)feed->count;
        for (int i = 0; i < n && i < (int)feed->count; i++)
            all &= passed(feed, &vals[i]);
    }
    free(vals);
    if (all) {
        feed_stop(feed);
        return;
    }
    for (uint32_t p = 0; p < feed->count; p++)
        if (feed->parts[p].ours && !feed->parts[p].taken && feed->parts[p].does == FEED_RESTS)
            feed_part_step(&feed->parts[p]);
}

/* ---- answers ---- */

static void on_failed(struct feed *feed, enum share_does did, int err, const char *why)
{
    struct share *share = feed->share;
    if (feed_transient(feed, err)) {
        uv_timer_start(&share->beat, share_on_beat, feed_backoff(&share->bound), 0);
        return;
    }
    if (did == SHARE_LEAVES) {
        feed_fail(feed, err, "could not leave; after 10 s the others go on", why);
        return;
    }
    feed_fail(feed, err, why, "");
}

static void share_on_end(struct ask *ask, int err, const char *why)
{
    struct share *share = (struct share *)((char *)ask - offsetof(struct share, ask));
    struct feed *feed = share->beat.data;
    enum share_does did = share->does;
    share->does = SHARE_RESTS;
    if (did == SHARE_LEAVES)
        share->came = false;
    if (err != 0 && err != LOQUAT_CLOSED)
        on_failed(feed, did, err, why);
    else if (err == 0)
        share->bound = FEED_AGAIN_MIN_MS / 2;
    if (err == 0 && !feed_stopping(feed) && did == SHARE_JOINS)
        on_joined(feed);
    if (err == 0 && !feed_stopping(feed) && did == SHARE_LOOKS)
        on_looked(feed);
    if (share->joins)
        share_join(feed);
    if (did != SHARE_LOOKS || feed_stopping(feed))
        feed_rested(feed);
}

/* ---- from the beginning to the end ---- */

/* A name that no other worker has; what names may not hold becomes a dash. */
static void default_worker(char *out, size_t size)
{
    enum { HOST_MAX = 32 };
    if (gethostname(out, HOST_MAX) != 0)
        out[0] = 0;
    out[HOST_MAX - 1] = 0;
    for (char *at = out; *at != 0; at++)
        if (!user_valid(span_of(at, 1)))
            *at = '-';
    size_t n = strlen(out);
    snprintf(out + n, size - n, "%s%ld-%06x", n > 0 ? "-" : "w-", (long)getpid(),
             (unsigned)(random_u64() & 0xffffff));
}

struct share *share_new(const char *consumer, const char *worker)
{
    char made[USER_MAX + 1];
    struct share *share = xcalloc(1, sizeof *share);
    default_worker(made, sizeof made);
    loquat_path_escape(consumer, share->name, sizeof share->name);
    loquat_path_escape(worker != NULL ? worker : made, share->worker, sizeof share->worker);
    return share;
}

void share_open(struct feed *feed)
{
    struct share *share = feed->share;
    uv_timer_init(feed->reader.loop, &share->beat);
    uv_timer_init(feed->reader.loop, &share->settle);
    share->opened = true;
    share->beat.data = share->settle.data = feed;
    share->bound = FEED_AGAIN_MIN_MS / 2;
    share_join(feed);
}

void share_stop(struct feed *feed)
{
    struct share *share = feed->share;
    if (!share->opened)
        return;
    uv_timer_stop(&share->beat);
    uv_timer_stop(&share->settle);
    if (share->does == SHARE_JOINS || share->does == SHARE_LOOKS)
        ask_end(&share->ask);
}

bool share_left(struct feed *feed)
{
    struct share *share = feed->share;
    if (share->does != SHARE_RESTS)
        return false;
    if (!share->came)
        return true;
    worker_target(share);
    share->body[0] = 0;
    share_ask(feed, SHARE_LEAVES, "DELETE");
    return false;
}

static void share_on_timer_closed(uv_handle_t *handle)
{
    feed_closed(handle->data);
}

static void share_on_closed(struct ask *ask)
{
    struct share *share = (struct share *)((char *)ask - offsetof(struct share, ask));
    feed_closed(share->beat.data);
}

void share_close(struct feed *feed)
{
    struct share *share = feed->share;
    buf_close(&share->text);
    if (!share->opened)
        return;
    share->ask.on_closed = share_on_closed;
    feed->closing += ask_close(&share->ask) ? 2 : 3;
    uv_close((uv_handle_t *)&share->beat, share_on_timer_closed);
    uv_close((uv_handle_t *)&share->settle, share_on_timer_closed);
}
