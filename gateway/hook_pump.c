/* gateway/hook_pump.c: one partition for one webhook. Nothing moves on before it was taken: the
 * cursor is moved, under the generation in which the partition was taken, when the other side has
 * said yes. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/hook.h"
#include "gateway/jobs.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/record.h"

static struct metric posts_taken = {.name = "loquat_webhook_requests_total",
                                    .help = "Requests of webhooks, by what came of them",
                                    .labels = "outcome=\"taken\"",
                                    .type = METRIC_COUNTER};
static struct metric posts_refused = {.name = "loquat_webhook_requests_total",
                                      .help = "Requests of webhooks, by what came of them",
                                      .labels = "outcome=\"refused\"",
                                      .type = METRIC_COUNTER};
static struct metric posts_failed = {.name = "loquat_webhook_requests_total",
                                     .help = "Requests of webhooks, by what came of them",
                                     .labels = "outcome=\"failed\"",
                                     .type = METRIC_COUNTER};
static struct metric records_sent = {.name = "loquat_webhook_records_total",
                                     .help = "Records that were in requests of webhooks taken",
                                     .type = METRIC_COUNTER};
static struct metric resting = {.name = "loquat_webhook_resting",
                                .help = "Partitions of webhooks that wait after a failed request",
                                .type = METRIC_GAUGE};

void hook_metrics(void)
{
    metric_register(&posts_taken);
    metric_register(&posts_refused);
    metric_register(&posts_failed);
    metric_register(&records_sent);
    metric_register(&resting);
}

struct pump *pump_new(struct hook *hook, uint32_t partition)
{
    struct pump *pump = xcalloc(1, sizeof *pump);
    pump->hook = hook;
    pump->partition = partition;
    list_push(&hook->pumps, &pump->in_hook);
    return pump;
}

static void set_state(struct pump *pump, enum pump_state state)
{
    metric_add(&resting, (state == PUMP_RESTS) - (pump->state == PUMP_RESTS));
    pump->state = state;
}

static void pump_free(struct pump *pump)
{
    struct hook *hook = pump->hook;
    set_state(pump, PUMP_IDLE);
    list_remove(&pump->in_hook);
    buf_close(&pump->body);
    free(pump);
    hook_settle(hook);
}

void pump_end(struct pump *pump)
{
    pump->ended = true;
    if (pump->state == PUMP_POST_WAITS)
        list_remove(&pump->in_waiting);
    if (pump->state == PUMP_IDLE || pump->state == PUMP_RESTS || pump->state == PUMP_POST_WAITS)
        pump_free(pump);
}

static void rest(struct pump *pump, uint64_t ms)
{
    set_state(pump, PUMP_RESTS);
    uv_update_time(&pump->hook->hooks->loop); /* not a moment earlier than that */
    pump->rest_until_ms = hooks_now(pump->hook->hooks) + ms;
}

/* After an answer of the store. False: the pump has gone, or rests. */
static bool go_on(struct pump *pump, int err)
{
    set_state(pump, PUMP_IDLE);
    if (pump->ended) {
        pump_free(pump);
        return false;
    }
    if (err != 0)
        rest(pump, HOOK_REST_MIN_MS);
    return err == 0;
}

/* ---- the cursor ---- */

static void on_cursor(void *owner, const Loquat__Reply *reply)
{
    struct pump *pump = owner;
    int err = reply->err;
    /* Somebody has put it to another place, or has the partition: what is so now is asked. */
    if (err == ERR_CONFLICT || err == ERR_NOT_FOUND) {
        if (!pump->taken)
            hook_rejoin(pump->hook);
        pump->taken = false;
    }
    if (!go_on(pump, err))
        return;
    if (!pump->taken && reply->seq != pump->offset) { /* what is at hand is not what is next */
        pump->next = reply->seq;
        pump->body.n = 0;
    }
    pump->offset = reply->seq;
    pump->taken = true;
    pump->saved_ms = hooks_now(pump->hook->hooks);
    pump_step(pump);
}

static void ask_cursor(struct pump *pump, uint32_t step)
{
    struct hook *hook = pump->hook;
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_CURSOR;
    command.user = hook->hooks->worker;
    command.consumer = hook->name;
    command.step = step;
    command.generation = hook->generation;
    command.offset = step == LOQUAT__CURSOR_STEP__CURSOR_MOVE ? pump->next : 0;
    command.on = step == LOQUAT__CURSOR_STEP__CURSOR_MOVE;
    command.was = command.on ? pump->offset : 0;
    if (cluster_write(&hook->hooks->cluster, pump->partition, &command, on_cursor, pump) == 0)
        set_state(pump, PUMP_MOVES);
    else
        rest(pump, HOOK_REST_MIN_MS);
}

/* ---- a request ---- */

/* Of who and where, without what may be secret in a URL. */
static void say_failed(const struct pump *pump, long status, const char *why)
{
    log_warn("a webhook was not taken; it is tried again", {"consumer", log_str(pump->hook->name)},
             {"partition", log_int(pump->partition)}, {"status", log_int(status)},
             {"why", log_str(why)}, {"failures", log_int(pump->failures)},
             {"in_ms", log_int((int64_t)(pump->rest_until_ms - hooks_now(pump->hook->hooks)))});
}

static uint64_t rest_ms(const struct pump *pump, uint64_t after_s)
{
    unsigned twice = pump->failures < 10 ? pump->failures - 1 : 9;
    uint64_t ms = (uint64_t)HOOK_REST_MIN_MS << twice;
    if (ms > HOOK_REST_MAX_MS)
        ms = HOOK_REST_MAX_MS;
    ms += random_u64() % (ms / 4 + 1);
    if (after_s > HOOK_AFTER_MAX_S)
        after_s = HOOK_AFTER_MAX_S;
    return after_s * 1000 > ms ? after_s * 1000 : ms;
}

static void on_posted(struct hook_post *post, long status, uint64_t after_s, const char *why)
{
    struct pump *pump = container_of(post, struct pump, post);
    struct hooks *hooks = pump->hook->hooks;
    bool taken = status >= 200 && status <= 299;
    hooks->posts--;
    metric_add(taken ? &posts_taken : status != 0 ? &posts_refused : &posts_failed, 1);
    if (!taken) {
        pump->failures++;
        pump->taken = false; /* before it is sent again it is asked where the cursor is */
        rest(pump, rest_ms(pump, after_s));
        say_failed(pump, status, status != 0 ? "its answer" : why);
        if (pump->ended)
            pump_free(pump);
        pumps_turn(hooks);
        return;
    }
    if (pump->failures > 0)
        log_info("a webhook is taken again", {"consumer", log_str(pump->hook->name)},
                 {"partition", log_int(pump->partition)}, {"failures", log_int(pump->failures)});
    metric_add(&records_sent, (int64_t)pump->records);
    pump->failures = 0;
    pump->body.n = 0;
    pump->next = pump->page_next;
    ask_cursor(pump, LOQUAT__CURSOR_STEP__CURSOR_MOVE); /* also when it has ended: it was taken */
    if (pump->ended && pump->state == PUMP_RESTS)
        pump_free(pump);
    pumps_turn(hooks);
}

static void post(struct pump *pump)
{
    struct hook *hook = pump->hook;
    const Loquat__Webhook *webhook = hook->webhook;
    pump->post.done = on_posted;
    int err = hook_post_start(&pump->post, &hook->hooks->curl, webhook->url, buf_span(&pump->body),
                              span_of((const char *)webhook->key.data, webhook->key.len), pump->id);
    if (err != 0) {
        rest(pump, HOOK_REST_MIN_MS);
        return;
    }
    hook->hooks->posts++;
    set_state(pump, PUMP_POSTED);
}

static void post_in_turn(struct pump *pump)
{
    struct hooks *hooks = pump->hook->hooks;
    list_push(&hooks->waiting, &pump->in_waiting);
    set_state(pump, PUMP_POST_WAITS);
    pumps_turn(hooks);
}

void pumps_turn(struct hooks *hooks)
{
    struct list_link *link;
    while (!hooks_stopping(hooks) && hooks->posts < HOOK_POSTS_MAX &&
           (link = list_pop(&hooks->waiting)) != NULL)
        post(container_of(link, struct pump, in_waiting));
}

void pumps_stop(struct hook *hook)
{
    for (struct list_link *link = list_first(&hook->pumps), *next; link != NULL; link = next) {
        struct pump *pump = container_of(link, struct pump, in_hook);
        next = list_next(&hook->pumps, link);
        if (pump->state != PUMP_POSTED)
            continue;
        hook_post_stop(&pump->post);
        hook->hooks->posts--;
        pump_free(pump);
    }
}

/* ---- a page ---- */

static bool among(char *const *texts, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(texts[i], text) == 0)
            return true;
    return count == 0;
}

static bool kind_among(const Loquat__Webhook *webhook, const Loquat__Item *item)
{
    struct record_view record;
    char name[64];
    if (webhook->n_kinds == 0)
        return true;
    if (item->hole != 0 ||
        record_view(span_of((const char *)item->record.data, item->record.len), &record) != 0)
        return false;
    if (record.kind == LOQUAT__KIND__KIND_X)
        snprintf(name, sizeof name, "x-%.*s", (int)record.xkind.n, record.xkind.p);
    else
        snprintf(name, sizeof name, "%s",
                 kind_name(record.kind) != NULL ? kind_name(record.kind) : "");
    return among(webhook->kinds, webhook->n_kinds, name);
}

/* How many records are wanted of the page; they are in the body then. */
static int fill(struct pump *pump, const Loquat__Reply *reply)
{
    const Loquat__Webhook *webhook = pump->hook->webhook;
    int err = 0;
    pump->body.n = 0;
    pump->records = 0;
    buf_add_str(&pump->body, "{\"consumer\":");
    json_put_string(&pump->body, span_str(pump->hook->name));
    buf_addf(&pump->body, ",\"p\":%u,\"records\":[", pump->partition);
    for (size_t i = 0; i < reply->n_feed && err == 0; i++) {
        const Loquat__FeedItem *item = reply->feed[i];
        if (item->item == NULL)
            return ERR_CORRUPT;
        if (!among(webhook->convs, webhook->n_convs, item->conv) ||
            !kind_among(webhook, item->item))
            continue;
        if (pump->records++ > 0)
            buf_add_byte(&pump->body, ',');
        err = jobs_say_record(&pump->body, pump->partition, item);
    }
    buf_add_str(&pump->body, "]}");
    pump->page_next = reply->next;
    snprintf(pump->id, sizeof pump->id, "%s-%u-%llu", pump->hook->name, pump->partition,
             (unsigned long long)reply->next);
    return err;
}

static void on_page(void *owner, const Loquat__Reply *reply)
{
    struct pump *pump = owner;
    if (!go_on(pump, reply->err))
        return;
    int err = fill(pump, reply);
    if (err != 0) {
        rest(pump, HOOK_REST_MAX_MS);
        say_failed(pump, 0, "a record is damaged on disk");
    } else if (pump->records > 0) {
        post_in_turn(pump);
    } else {
        pump->next = reply->next;
        pump->body.n = 0;
        pump_step(pump);
    }
}

static void ask_page(struct pump *pump)
{
    struct hooks *hooks = pump->hook->hooks;
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED;
    read.partition = pump->partition;
    read.from = pump->next;
    read.max = HOOK_RECORDS_MAX;
    read.bytes_max = HOOK_PAGE_BYTES;
    read.wait_ms = HOOK_WAIT_MS;
    if (cluster_read(&hooks->cluster, &read, on_page, pump) == 0)
        set_state(pump, PUMP_READS);
    else
        rest(pump, HOOK_REST_MIN_MS);
}

void pump_step(struct pump *pump)
{
    struct hooks *hooks = pump->hook->hooks;
    if (pump->state == PUMP_RESTS && hooks_now(hooks) >= pump->rest_until_ms)
        set_state(pump, PUMP_IDLE);
    if (pump->state != PUMP_IDLE || hooks_stopping(hooks))
        return;
    if (!pump->taken) {
        ask_cursor(pump, LOQUAT__CURSOR_STEP__CURSOR_TAKE);
    } else if (pump->body.n > 0) {
        post_in_turn(pump);
    } else if (pump->next > pump->offset && hooks_now(hooks) >= pump->saved_ms + HOOK_SAVE_MS) {
        ask_cursor(pump, LOQUAT__CURSOR_STEP__CURSOR_MOVE);
    } else {
        ask_page(pump);
    }
}
