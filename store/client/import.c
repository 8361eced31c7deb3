#include "store/client/import.h"

#include <stdarg.h>
#include <stdio.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum { LATER_MIN_MS = 100, OPEN_SIZE_MAX = 60000 };

/* The whole import ends here. */
__attribute__((format(printf, 2, 3))) static void import_stop(struct import *import,
                                                              const char *format, ...)
{
    if (import->stopped)
        return;
    import->stopped = true;
    va_list args;
    va_start(args, format);
    vsnprintf(import->why, sizeof import->why, format, args);
    va_end(args);
    loquat_stop(import->chat);
}

/* One conversation is given up; the others go on. */
static void give_up(struct import *import, struct import_conv *conv, size_t position,
                    const struct loquat_answer *answer)
{
    if (conv->state == IMPORT_OVER)
        return;
    conv->state = IMPORT_OVER;
    import->totals.failed++;
    if (import->complaints++ >= IMPORT_COMPLAINTS_MAX)
        return;
    progress_end(&import->progress);
    fprintf(stderr, "loquat-log import: %.*s, line %zu: %s: %s; the conversation is given up\n",
            (int)conv->name.n, conv->bytes.p, position, answer->code, answer->message);
}

/* ---- answers ---- */

static uint64_t later_us(const struct loquat_answer *answer)
{
    uint64_t ms = answer->after_ms > LATER_MIN_MS ? answer->after_ms : LATER_MIN_MS;
    return clock_mono_us() + ms * 1000;
}

static void import_on_line(struct loquat *chat, const struct loquat_answer *answer, void *arg)
{
    struct import_slot *slot = arg;
    struct import *import = loquat_data(chat);
    if (answer->err == 0 && answer->s > 0) {
        *(answer->dup ? &import->totals.dup : &import->totals.fresh) += 1;
        import_conv_acked(slot, answer->s);
    } else if (answer->retry) {
        import_conv_later(slot, later_us(answer));
    } else {
        slot->conv->in_flight--;
        if (answer->err != LOQUAT_CLOSED)
            give_up(import, slot->conv, (size_t)(slot - slot->conv->lines), answer);
    }
}

static void import_on_member(struct loquat *chat, const struct loquat_answer *answer, void *arg)
{
    struct import_conv *conv = arg;
    struct import *import = loquat_data(chat);
    conv->in_flight--;
    import->totals.members_failed += answer->err != 0; /* being there already is one, too */
}

static void opened(struct import *import, struct import_conv *conv,
                   const struct loquat_answer *answer)
{
    struct json_obj obj;
    const struct json_val *c = NULL, *members = NULL;
    if (json_parse(import->json, answer->json.p, answer->json.n, &obj) == 0) {
        c = json_get(&obj, "c");
        members = json_get(&obj, "members");
    }
    if (c == NULL || c->type != JSON_STRING) {
        import_stop(import, "the server does not say which conversation it opened");
        return;
    }
    uint64_t count = members != NULL && members->is_whole ? (uint64_t)members->whole : UINT64_MAX;
    import_conv_opened(conv, c->str, count, import->self);
}

static void import_on_open(struct loquat *chat, const struct loquat_answer *answer, void *arg)
{
    struct import_conv *conv = arg;
    struct import *import = loquat_data(chat);
    if (answer->err == 0) {
        opened(import, conv, answer);
    } else if (answer->retry) {
        conv->state = IMPORT_LOADED;
        conv->wait_until_us = later_us(answer);
    } else if (answer->err != LOQUAT_CLOSED) {
        give_up(import, conv, 0, answer);
    }
}

/* ---- reading ahead ---- */

static void list_add(struct import *import, struct import_conv *conv)
{
    if (import->last != NULL)
        import->last->next = conv;
    else
        import->first = conv;
    import->last = conv;
    import->convs_open++;
}

static void loaded(struct import *import)
{
    struct import_conv *conv = import->loading;
    import->loading = NULL;
    conv->state = IMPORT_LOADED;
    import->bytes += import_conv_size(conv);
    import->totals.convs++;
    list_add(import, conv);
}

/* A line's position in its conversation is its id: it can't be counted from two places. */
static bool begins_once(struct import *import)
{
    struct span name = import_conv_name(import->loading);
    bool fresh;
    map_put(&import->begun, import_key(name), &fresh);
    if (!fresh)
        import_stop(import,
                    "%s: line %llu: the lines of %.*s are not together: sort the file by "
                    "conversation, with the lines of each in the order they have",
                    import->path, (unsigned long long)import->line_number, (int)name.n, name.p);
    return fresh;
}

/* Adds the line to the conversation that is being loaded, or begins the next one with it. */
static bool take_line(struct import *import, struct span line)
{
    const char *why = "";
    int err = 0;
    bool begins = import->loading == NULL;
    if (begins)
        import->loading = import_conv_new(import);
    err = import_conv_add(import->loading, import->json, line, import->keep, &why);
    if (err == ERR_CONFLICT) {
        loaded(import);
        begins = true;
        import->loading = import_conv_new(import);
        err = import_conv_add(import->loading, import->json, line, import->keep, &why);
    }
    if (err != 0)
        import_stop(import, "%s: line %llu: %s", import->path,
                    (unsigned long long)import->line_number, why);
    return err == 0 && (!begins || begins_once(import));
}

static bool wants_more(const struct import *import)
{
    return !import->ended && !import->stopped && import->convs_open < IMPORT_CONVS_MAX &&
           (import->bytes < IMPORT_BYTES_MAX || import->first == NULL);
}

static void load(struct import *import)
{
    for (int i = 0; i < IMPORT_LOAD_LINES && wants_more(import); i++) {
        struct span line;
        int got = source_line(import->source, &line);
        if (got < 0) {
            import_stop(import, "%s: %s", import->path, source_why(import->source));
        } else if (got == 0) {
            import->ended = true;
            if (import->loading != NULL)
                loaded(import);
        } else {
            import->line_number++;
            import->totals.lines += take_line(import, line);
        }
    }
}

/* ---- sending ---- */

/* False when the window is full. */
static bool submit(struct import *import, loquat_answer_fn fn, void *arg)
{
    int err = loquat_request(import->chat, import->request.p, import->request.n, fn, arg);
    if (err != 0 && err != LOQUAT_BUSY)
        import_stop(import, "a request could not be made: %s", loquat_err_name(err));
    return err == 0;
}

/* False when the window is full. */
static bool send_some(struct import *import, struct import_conv *conv, uint64_t now_us)
{
    struct import_slot *slot;
    struct buf *request = &import->request;
    request->n = 0;
    if (conv->state == IMPORT_LOADED && now_us >= conv->wait_until_us) {
        import_conv_open(conv, OPEN_SIZE_MAX, request);
        if (submit(import, import_on_open, conv))
            return true;
        conv->state = IMPORT_LOADED;
        return false;
    }
    for (int i = 0; i < IMPORT_BURST && import_conv_next(conv, now_us, request, &slot) == 1; i++) {
        bool sent = slot != NULL ? submit(import, import_on_line, slot)
                                 : submit(import, import_on_member, conv);
        if (!sent)
            return false;
        import_conv_sent(conv, slot);
        request->n = 0;
    }
    return true;
}

static bool finished(const struct import_conv *conv)
{
    return conv->state == IMPORT_OVER ? conv->in_flight == 0 : import_conv_complete(conv);
}

/* Frees what is complete; the first goes to the end, so that all get their turn. */
static void send_round(struct import *import)
{
    uint64_t now_us = clock_mono_us();
    struct import_conv *list = import->first;
    import->first = import->last = NULL;
    import->convs_open = 0;
    bool room = true;
    struct import_conv *unserved = NULL, **unserved_end = &unserved;
    while (list != NULL) {
        struct import_conv *conv = list;
        list = conv->next;
        conv->next = NULL;
        if (finished(conv)) {
            import->totals.disorder += conv->state == IMPORT_OPEN ? import_conv_disorder(conv) : 0;
            import->bytes -= import_conv_size(conv);
            import_conv_free(conv);
            continue;
        }
        room = room && send_some(import, conv, now_us);
        if (room) {
            list_add(import, conv);
        } else {
            *unserved_end = conv;
            unserved_end = &conv->next;
            import->convs_open++;
        }
    }
    if (unserved == NULL)
        return;
    *unserved_end = import->first; /* those that got nothing come first next time */
    if (import->first == NULL)
        import->last = container_of(unserved_end, struct import_conv, next);
    import->first = unserved;
}

/* Keeps the loop turning while there is something to read ahead. */
static void import_on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void import_pump(struct import *import)
{
    if (!import->ready || import->stopped)
        return;
    load(import);
    send_round(import);
    if (import->ended && import->first == NULL && import->loading == NULL)
        loquat_stop(import->chat);
    if (wants_more(import))
        uv_idle_start(&import->idle, import_on_idle);
    else
        uv_idle_stop(&import->idle);
}

/* ---- the session ---- */

static void import_on_ready(struct loquat *chat, const char *user)
{
    struct import *import = loquat_data(chat);
    snprintf(import->self, sizeof import->self, "%s", user);
    import->ready = true;
}

static void import_on_down(struct loquat *chat, int err, const char *why, uint32_t retry_ms)
{
    struct import *import = loquat_data(chat);
    if (!import->ready) {
        import_stop(import, "%s: %s", loquat_err_name(err), why);
        return;
    }
    progress_end(&import->progress);
    fprintf(stderr, "loquat-log import: %s; trying again in %u ms\n", why, retry_ms);
}

static void import_on_end(struct loquat *chat, int err, const char *why)
{
    struct import *import = loquat_data(chat);
    bool all = import->ended && import->first == NULL && import->loading == NULL;
    if (!import->stopped && !all)
        snprintf(import->why, sizeof import->why, "%s: %s", loquat_err_name(err), why);
    import->stopped |= !all;
    uv_close((uv_handle_t *)&import->check, NULL);
    uv_close((uv_handle_t *)&import->idle, NULL);
    uv_close((uv_handle_t *)&import->timer, NULL);
}

static void import_on_turn(uv_check_t *check)
{
    import_pump(check->data);
}

static double share_done(const struct import *import, uint64_t done)
{
    uint64_t size = source_size(import->source);
    if (size == 0 || import->totals.lines == 0)
        return -1;
    return (double)source_at(import->source) / (double)size * (double)done /
           (double)import->totals.lines;
}

static void import_on_timer(uv_timer_t *timer)
{
    struct import *import = timer->data;
    uint64_t done = import->totals.fresh + import->totals.dup;
    progress_show(&import->progress, done, "lines", share_done(import, done));
}

static void begin_loop(struct import *import, uv_loop_t *loop)
{
    uv_check_init(loop, &import->check);
    uv_idle_init(loop, &import->idle);
    uv_timer_init(loop, &import->timer);
    import->check.data = import->idle.data = import->timer.data = import;
    uv_check_start(&import->check, import_on_turn);
    uv_timer_start(&import->timer, import_on_timer, PROGRESS_TICK_MS, PROGRESS_TICK_MS);
}

static void forget(struct import *import)
{
    while (import->first != NULL) {
        struct import_conv *conv = import->first;
        import->first = conv->next;
        import_conv_free(conv);
    }
    if (import->loading != NULL)
        import_conv_free(import->loading);
    buf_close(&import->request);
    map_close(&import->begun);
    json_free(import->json);
}

int import_run(struct import *import, const struct loquat_options *options)
{
    uv_loop_t loop;
    int err = uv_loop_init(&loop);
    if (err != 0) {
        snprintf(import->why, sizeof import->why, "%s", uv_strerror(err));
        return LOQUAT_UNAVAILABLE;
    }
    struct loquat_options session = {.url = options->url,
                                     .ca = options->ca,
                                     .token = options->token,
                                     .device = "loquat-log",
                                     .loop = &loop,
                                     .window = IMPORT_WINDOW,
                                     .data = import,
                                     .events = {.on_ready = import_on_ready,
                                                .on_down = import_on_down,
                                                .on_end = import_on_end}};
    import->chat = loquat_new(&session, import->why, sizeof import->why);
    if (import->chat != NULL) {
        import->json = json_new(SOURCE_LINE_MAX);
        map_init(&import->begun);
        progress_begin(&import->progress);
        begin_loop(import, &loop);
        loquat_start(import->chat);
        uv_run(&loop, UV_RUN_DEFAULT);
        progress_end(&import->progress);
        loquat_free(import->chat);
        forget(import);
    }
    err = uv_loop_close(&loop);
    ASSERT(err == 0);
    return import->why[0] == 0 ? 0 : LOQUAT_UNAVAILABLE;
}
