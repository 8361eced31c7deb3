/* gateway/consumer.c: named readers of feeds: made, asked about, moved, shared by workers. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/hook_rules.h"
#include "gateway/jobs.h"
#include "gateway/say.h"
#include "gateway/spread.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

static Loquat__Command command_of(const struct call *call, uint32_t op)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = op;
    command.user = call->conn->who->user;
    command.consumer = (char *)(uintptr_t)call->conv; /* the name takes the conversation's place */
    return command;
}

static int field_name(struct request *request, const char *name, const char *whose,
                      struct span *out)
{
    const struct json_val *val = json_get(request->obj, name);
    if (val == NULL || val->type != JSON_STRING || !user_valid(val->str))
        return field_error(request, ERR_BAD_REQUEST, whose,
                           "must be 1 to 64 of A-Z a-z 0-9 . _ @ -");
    *out = val->str;
    return 0;
}

/* The name, in call->conv from here on. */
static int take_name(struct request *request)
{
    struct span name = span_of("", 0);
    int err = field_name(request, "name", "a consumer's name", &name);
    if (err != 0)
        return err;
    memcpy(request->call->conv, name.p, name.n);
    request->call->conv[name.n] = '\0';
    request->call->partition = 0;
    return 0;
}

static Loquat__Read read_consumer(struct call *call)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONSUMERS;
    read.conv = call->conv;
    return read;
}

/* ---- said ---- */

static void say_texts(struct buf *text, const char *name, char *const *texts, size_t count)
{
    buf_addf(text, ",\"%s\":[", name);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_add_byte(text, ',');
        json_put_string(text, span_str(texts[i]));
    }
    buf_add_byte(text, ']');
}

/* Without the closing brace. */
static void say_consumer(struct buf *text, const Loquat__Consumer *consumer)
{
    uint64_t now = clock_wall_ms();
    buf_add_str(text, "{\"name\":");
    json_put_string(text, span_str(consumer->name));
    say_number_or_null(text, "created", consumer->created);
    say_text_or_null(text, "by", consumer->by);
    say_number_or_null(text, "generation", consumer->generation);
    buf_add_str(text, ",\"workers\":[");
    for (size_t i = 0, n = 0; i < consumer->n_workers; i++) {
        if (consumer->workers[i]->until <= now)
            continue;
        buf_add_str(text, n++ > 0 ? ",{\"name\":" : "{\"name\":");
        json_put_string(text, span_str(consumer->workers[i]->name));
        say_number_or_null(text, "until", consumer->workers[i]->until);
        buf_add_byte(text, '}');
    }
    buf_add_str(text, "],\"webhook\":");
    const Loquat__Webhook *webhook = consumer->webhook;
    if (webhook == NULL) {
        buf_add_str(text, "null");
        return;
    }
    buf_add_str(text, "{\"url\":");
    json_put_string(text, span_str(webhook->url));
    say_texts(text, "kinds", webhook->kinds, webhook->n_kinds);
    say_texts(text, "c", webhook->convs, webhook->n_convs);
    buf_add_byte(text, '}');
}

/* ---- all of them ---- */

static void on_consumers(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL) {
        buf_add_str(text, "{\"consumers\":[");
        for (size_t i = 0; i < reply->n_consumers; i++) {
            if (i > 0)
                buf_add_byte(text, ',');
            say_consumer(text, reply->consumers[i]);
            buf_add_byte(text, '}');
        }
        buf_add_byte(text, ']');
        say_text_or_null(text, "next", reply->after);
        buf_add_byte(text, '}');
    }
    call_ok(call);
}

int op_consumers(struct request *request)
{
    Loquat__Read read = read_consumer(request->call);
    struct span page = {0};
    int err = field_user(request, "page", false, &page);
    if (err != 0)
        return err;
    read.after = field_copy(request, page);
    return call_read(request->call, &read, on_consumers) ? 0 : ERR_BUSY;
}

/* ---- one: who it is, then where it is in each partition ---- */

static void say_cursors(struct spread *spread)
{
    struct call *call = spread->call;
    const struct buf *begun = spread->arg;
    struct buf *text = call_begin(call);
    uint64_t lag = 0, lag_ms = 0;
    if (text == NULL) {
        call_ok(call);
        return;
    }
    buf_add_span(text, buf_span(begun));
    buf_add_str(text, ",\"partitions\":[");
    for (uint32_t p = 0; p < spread->count; p++) {
        const struct spread_part *part = &spread->parts[p];
        buf_addf(text, "%s{\"p\":%u,\"offset\":%llu,\"head\":%llu,\"lag\":%llu,\"lag_ms\":%llu}",
                 p > 0 ? "," : "", p, (unsigned long long)part->offset,
                 (unsigned long long)part->head, (unsigned long long)part->lag,
                 (unsigned long long)part->lag_ms);
        lag += part->lag;
        lag_ms = part->lag_ms > lag_ms ? part->lag_ms : lag_ms;
    }
    buf_addf(text, "],\"lag\":%llu,\"lag_ms\":%llu}", (unsigned long long)lag,
             (unsigned long long)lag_ms);
    call_ok(call);
}

static void drop_begun(void *begun)
{
    buf_close(begun);
    free(begun);
}

/* `secret` is said once: when it is made. */
static void ask_cursors(struct call *call, const Loquat__Consumer *consumer, const char *secret)
{
    struct spread *spread = spread_new(call, say_cursors);
    struct buf *begun = xcalloc(1, sizeof *begun);
    Loquat__Read read = LOQUAT__READ__INIT;
    say_consumer(begun, consumer);
    if (secret != NULL)
        say_text_or_null(begun, "secret", secret);
    spread->arg = begun;
    spread->drop = drop_begun;
    read.op = LOQUAT__READ_OP__READ_CURSOR;
    read.after = call->conv;
    spread_read(spread, &read);
}

static void on_consumer(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    char *secret = call->state;
    if (reply->err != 0 || reply->n_consumers != 1)
        call_fail(call, reply->err != 0 ? reply->err : ERR_CORRUPT, reply->msg, reply->after_ms);
    else
        ask_cursors(call, reply->consumers[0], secret);
    free(secret);
}

static bool ask_consumer(struct call *call)
{
    Loquat__Read read = read_consumer(call);
    return call_read(call, &read, on_consumer);
}

int op_consumer(struct request *request)
{
    int err = take_name(request);
    if (err == 0 && !ask_consumer(request->call))
        err = ERR_BUSY;
    return err;
}

/* ---- made ---- */

/* What is to be made, while its cursors are. */
struct making {
    Loquat__Webhook webhook;
    bool hooked, renews;               /* renews: the secret that is there is replaced */
    struct arena arena;                /* of what it points to */
    char secret[HOOK_SECRET_SIZE + 1]; /* made here: to be said; else empty */
};

static void drop_making(void *arg)
{
    struct making *making = arg;
    arena_close(&making->arena);
    free(making);
}

static void on_made(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err == 0 && reply->n == 0) { /* the secret of before stays */
        free(call->state);
        call->state = NULL;
    }
    if (reply->err == 0 && ask_consumer(call))
        return;
    free(call->state);
    if (reply->err != 0)
        call_fail_reply(call, reply);
    else
        call_fail(call, ERR_BUSY, NULL, 0);
}

/* Every partition knows it: now it is there. */
static void register_consumer(struct spread *spread)
{
    struct call *call = spread->call;
    struct making *making = spread->arg;
    Loquat__Command command = command_of(call, LOQUAT__OP__OP_CONSUMER);
    command.webhook = making->hooked ? &making->webhook : NULL;
    command.on = !making->renews;
    call->state = making->secret[0] != 0 ? xstrdup(making->secret) : NULL;
    call->partition = 0;
    int err = cluster_write(&call->conn->gate->cluster, 0, &command, on_made, call);
    if (err == 0)
        return;
    free(call->state);
    call_fail(call, err, NULL, 0);
}

static int take_from(struct request *request, bool hooked, uint32_t *step)
{
    const struct json_val *from = json_get(request->obj, "from");
    *step = hooked ? LOQUAT__CURSOR_STEP__CURSOR_BEGIN_NOW : LOQUAT__CURSOR_STEP__CURSOR_BEGIN;
    if (from == NULL || from->type == JSON_NULL)
        return 0;
    if (from->type == JSON_STRING && span_is(from->str, "start"))
        *step = LOQUAT__CURSOR_STEP__CURSOR_BEGIN;
    else if (from->type == JSON_STRING && span_is(from->str, "now"))
        *step = LOQUAT__CURSOR_STEP__CURSOR_BEGIN_NOW;
    else
        return field_error(request, ERR_BAD_REQUEST, "from", "is start or now");
    return 0;
}

/* A list of texts that `fits`. */
static int take_texts(struct request *request, const struct json_obj *obj, const char *name,
                      bool (*fits)(struct span text), struct arena *arena, char ***texts,
                      size_t *count)
{
    const struct json_val *val = json_get(obj, name);
    struct json_val *vals = arena_alloc(arena, HOOK_LIST_MAX * sizeof *vals);
    if (val == NULL || val->type == JSON_NULL)
        return 0;
    int n = json_items(request->conn->gate->json, val, vals, HOOK_LIST_MAX);
    if (n < 0 || n > HOOK_LIST_MAX)
        return field_error(request, ERR_BAD_REQUEST, name, "must be a list of 100 texts at most");
    *texts = arena_alloc(arena, ((size_t)n + 1) * sizeof **texts);
    for (int i = 0; i < n; i++) {
        if (vals[i].type != JSON_STRING || !fits(vals[i].str))
            return field_error(request, ERR_BAD_REQUEST, name, "has one that there is not");
        (*texts)[(*count)++] = arena_copy(arena, vals[i].str.p, vals[i].str.n);
    }
    return 0;
}

static bool is_kind(struct span text)
{
    struct span xkind = {0};
    return kind_of(text, &xkind) != 0;
}

/* Without one that is named a new one is made, should there be none yet. */
static int take_secret(struct request *request, const struct json_obj *obj, struct making *making)
{
    const struct json_val *val = json_get(obj, "secret");
    unsigned char key[HOOK_KEY_MAX];
    size_t n = 0;
    making->renews = val != NULL && val->type != JSON_NULL;
    if (!making->renews || (val->type == JSON_BOOL && val->truth))
        n = hook_secret_make(key, making->secret);
    else if (val->type != JSON_STRING || !hook_secret_read(val->str, key, &n))
        return field_error(request, ERR_BAD_REQUEST, "secret",
                           "is true for a new one, or whsec_ and 24 to 64 bytes in base64");
    making->webhook.key.data = (uint8_t *)arena_copy(&making->arena, (char *)key, n);
    making->webhook.key.len = n;
    OPENSSL_cleanse(key, sizeof key);
    return 0;
}

static int take_webhook(struct request *request, struct making *making)
{
    const struct json_val *val = json_get(request->obj, "webhook"), *url;
    struct json_obj obj;
    if (val == NULL || val->type == JSON_NULL)
        return 0;
    if (val->type != JSON_OBJECT || json_open(request->conn->gate->json, val, &obj) != 0)
        return field_error(request, ERR_BAD_REQUEST, "webhook", "must be an object");
    url = json_get(&obj, "url");
    if (url == NULL || url->type != JSON_STRING)
        return field_error(request, ERR_BAD_REQUEST, "webhook.url", "must be a text");
    int err = hook_url_check(&request->conn->gate->settings->hook_rules, url->str, request->why,
                             sizeof request->why);
    if (err != 0)
        return err;
    Loquat__Webhook *webhook = &making->webhook;
    making->hooked = true;
    webhook->url = arena_copy(&making->arena, url->str.p, url->str.n);
    err = take_texts(request, &obj, "kinds", is_kind, &making->arena, &webhook->kinds,
                     &webhook->n_kinds);
    if (err == 0)
        err = take_texts(request, &obj, "c", conv_name_valid, &making->arena, &webhook->convs,
                         &webhook->n_convs);
    return err == 0 ? take_secret(request, &obj, making) : err;
}

int op_consumer_put(struct request *request)
{
    struct making *making = xcalloc(1, sizeof *making);
    arena_init(&making->arena);
    loquat__webhook__init(&making->webhook);
    Loquat__Command command;
    int err = take_name(request);
    command = command_of(request->call, LOQUAT__OP__OP_CURSOR);
    if (err == 0)
        err = take_webhook(request, making);
    if (err == 0)
        err = take_from(request, making->hooked, &command.step);
    if (err != 0) {
        drop_making(making);
        return err;
    }
    struct spread *spread = spread_new(request->call, register_consumer);
    spread->arg = making;
    spread->drop = drop_making;
    spread_write(spread, &command);
    return 0;
}

/* ---- ended; said again until every partition has forgotten it ---- */

static void say_dropped(struct spread *spread)
{
    struct buf *text = call_begin(spread->call);
    if (text != NULL)
        buf_add_str(text, "{}");
    call_ok(spread->call);
}

int op_consumer_drop(struct request *request)
{
    int err = take_name(request);
    if (err != 0)
        return err;
    struct spread *spread = spread_new(request->call, say_dropped);
    Loquat__Command command = command_of(request->call, LOQUAT__OP__OP_CONSUMER_DROP);
    spread_write(spread, &command);
    return 0;
}

/* ---- moved ---- */

static void say_cursor(struct call *call, const Loquat__Reply *reply)
{
    struct buf *text = call_begin(call);
    if (text != NULL)
        buf_addf(text, "{\"offset\":%llu,\"generation\":%llu}", (unsigned long long)reply->seq,
                 (unsigned long long)reply->n);
    call_ok(call);
}

static void on_moved(void *owner, const Loquat__Reply *reply)
{
    if (reply->err != 0)
        call_fail_reply(owner, reply);
    else
        say_cursor(owner, reply);
}

static void on_time(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    Loquat__Command command = command_of(call, LOQUAT__OP__OP_CURSOR);
    command.step = LOQUAT__CURSOR_STEP__CURSOR_SET;
    command.offset = reply->next;
    call_write(call, &command, on_moved);
}

int op_cursor(struct request *request)
{
    struct call *call = request->call;
    Loquat__Read read = LOQUAT__READ__INIT;
    bool take = false;
    uint64_t offset = UINT64_MAX, was = UINT64_MAX, generation = UINT64_MAX;
    int err = take_name(request);
    if (err == 0)
        err = jobs_partition(request);
    if (err == 0)
        err = field_whole(request, "offset", 0, PROTO_WHOLE_MAX, &offset);
    if (err == 0)
        err = field_whole(request, "at", 1, PROTO_WHOLE_MAX, &read.at);
    if (err == 0)
        err = field_whole(request, "was", 0, PROTO_WHOLE_MAX, &was);
    if (err == 0)
        err = field_whole(request, "generation", 1, PROTO_WHOLE_MAX, &generation);
    if (err == 0 && json_get(request->obj, "take") != NULL)
        err = field_switch(request, "take", &take);
    if (err != 0)
        return err;
    if ((offset != UINT64_MAX) + (read.at != 0) + take != 1 ||
        (generation == UINT64_MAX ? take || was != UINT64_MAX : read.at != 0))
        return field_error(
            request, ERR_BAD_REQUEST, "a cursor",
            "is put at an offset, or by time; a worker of a generation takes or moves it");
    if (read.at != 0) {
        read.op = LOQUAT__READ_OP__READ_FEED;
        read.partition = call->partition;
        return call_read(call, &read, on_time) ? 0 : ERR_BUSY;
    }
    Loquat__Command command = command_of(call, LOQUAT__OP__OP_CURSOR);
    command.step = take                       ? LOQUAT__CURSOR_STEP__CURSOR_TAKE
                   : generation != UINT64_MAX ? LOQUAT__CURSOR_STEP__CURSOR_MOVE
                                              : LOQUAT__CURSOR_STEP__CURSOR_SET;
    command.offset = take ? 0 : offset;
    command.generation = generation != UINT64_MAX ? generation : 0;
    command.on = was != UINT64_MAX;
    command.was = command.on ? was : 0;
    call_write(call, &command, on_moved);
    return 0;
}

/* ---- shared ---- */

/* What is whose: worker by worker, in the order of their names. */
static void say_share(struct buf *text, const Loquat__Consumer *consumer, const char *worker,
                      uint32_t partitions)
{
    size_t at = 0, n = consumer->n_workers;
    while (at < n && strcmp(consumer->workers[at]->name, worker) != 0)
        at++;
    buf_addf(text, "{\"generation\":%llu,\"workers\":%zu,\"partitions\":[",
             (unsigned long long)consumer->generation, n);
    for (size_t p = at; at < n && p < partitions; p += n)
        buf_addf(text, "%s%zu", p > at ? "," : "", p);
    buf_add_str(text, "]}");
}

static void on_share(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    char *worker = call->state;
    if (reply->err != 0 || reply->n_consumers != 1) {
        call_fail(call, reply->err != 0 ? reply->err : ERR_CORRUPT, reply->msg, reply->after_ms);
    } else {
        struct buf *text = call_begin(call);
        if (text != NULL)
            say_share(text, reply->consumers[0], worker, call->conn->gate->cluster.partitions);
        call_ok(call);
    }
    free(worker);
}

static void on_worker(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    Loquat__Read read = read_consumer(call);
    if (reply->err == 0 && call_read(call, &read, on_share))
        return;
    free(call->state);
    if (reply->err != 0)
        call_fail_reply(call, reply);
    else
        call_fail(call, ERR_BUSY, NULL, 0);
}

static int put_worker(struct request *request, uint64_t ttl_ms)
{
    struct call *call = request->call;
    struct span worker = span_of("", 0);
    int err = take_name(request);
    if (err == 0)
        err = field_name(request, "worker", "a worker's name", &worker);
    if (err != 0)
        return err;
    Loquat__Command command = command_of(call, LOQUAT__OP__OP_WORKER);
    command.worker = field_copy(request, worker);
    command.ttl_ms = ttl_ms;
    call->state = xstrdup(command.worker);
    err = cluster_write(&call->conn->gate->cluster, 0, &command, on_worker, call);
    if (err != 0)
        free(call->state);
    return err;
}

int op_worker(struct request *request)
{
    uint64_t ttl_ms = JOBS_WORKER_TTL_MS;
    int err =
        field_whole(request, "ttl_ms", JOBS_WORKER_TTL_MIN_MS, JOBS_WORKER_TTL_MAX_MS, &ttl_ms);
    return err == 0 ? put_worker(request, ttl_ms) : err;
}

int op_worker_drop(struct request *request)
{
    return put_worker(request, 0);
}
