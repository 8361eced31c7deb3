/* store/client/live.c: cursors of the conversations a session follows. A gap, a lag and a cursor
 * that the sync did not carry are one thing: the log is read from the cursor on until its end, and
 * live records that come meanwhile are let go, for the log holds them too. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/ids.h"
#include "store/client/session.h"

enum { FILL_RECORDS = 200, SYNC_HEAD_ROOM = 256 };

static struct map_key key_of(struct span c)
{
    struct conv_id id = conv_id_of(c);
    return (struct map_key){id.hi, id.lo};
}

static struct live_conv *live_find(const struct loquat *chat, struct span c)
{
    union map_val *val = map_get(&chat->live.convs, key_of(c));
    return val != NULL ? val->p : NULL;
}

static struct live_conv *live_get(struct loquat *chat, struct span c)
{
    bool fresh;
    if (c.n == 0 || c.n >= sizeof((struct live_conv *)0)->c)
        return NULL;
    union map_val *val = map_put(&chat->live.convs, key_of(c), &fresh);
    if (fresh) {
        struct live_conv *conv = xcalloc(1, sizeof *conv);
        memcpy(conv->c, c.p, c.n);
        conv->chat = chat;
        val->p = conv;
    }
    return val->p;
}

void live_init(struct loquat *chat)
{
    map_init(&chat->live.convs);
}

void live_close(struct loquat *chat)
{
    for (struct map_slot *slot = NULL; (slot = map_each(&chat->live.convs, slot)) != NULL;)
        free(slot->val.p);
    map_close(&chat->live.convs);
    buf_close(&chat->live.page);
}

void loquat_set_cursor(struct loquat *chat, const char *c, uint64_t s)
{
    struct live_conv *conv = live_get(chat, span_str(c));
    if (conv == NULL)
        return;
    conv->cursor = conv->seen = s;
    conv->known = true;
}

uint64_t loquat_cursor(const struct loquat *chat, const char *c)
{
    const struct live_conv *conv = live_find(chat, span_str(c));
    return conv != NULL ? conv->cursor : 0;
}

/* ---- sync ---- */

static void add_cursors(struct loquat *chat, struct buf *text)
{
    bool first = true;
    for (struct map_slot *slot = NULL; (slot = map_each(&chat->live.convs, slot)) != NULL;) {
        struct live_conv *conv = slot->val.p;
        conv->told = conv->known && text->n + SYNC_HEAD_ROOM < chat->session.frame_max;
        conv->lagged = false;
        if (!conv->told)
            continue;
        if (!first)
            buf_add_byte(text, ',');
        first = false;
        json_put_string(text, span_str(conv->c));
        buf_add_byte(text, ':');
        json_put_u64(text, conv->cursor);
    }
}

void live_send_sync(struct loquat *chat)
{
    struct buf *text = &chat->scratch;
    text->n = 0;
    buf_addf(text, "{\"id\":%d,\"op\":\"sync\"", SESSION_ID_SYNC);
    if (chat->live.page.n > 0) {
        buf_add_str(text, ",\"page\":");
        buf_add_span(text, buf_span(&chat->live.page));
    } else {
        buf_add_str(text, ",\"cur\":{");
        add_cursors(chat, text);
        buf_add_byte(text, '}');
    }
    buf_add_byte(text, '}');
    session_send_now(chat, buf_span(text));
}

/* Conv of a sync or of a `joined`: begin where the server begins, or catch up. */
static void meet(struct loquat *chat, const struct json_obj *obj)
{
    const struct json_val *c = json_get(obj, "c"), *head = json_get(obj, "head");
    if (c == NULL || head == NULL || !head->is_whole || head->whole < 0)
        return;
    struct live_conv *conv = live_get(chat, c->str);
    if (conv == NULL)
        return;
    uint64_t seq = (uint64_t)head->whole;
    if (!conv->known) {
        conv->known = true;
        conv->cursor = conv->seen = seq;
    } else if (!conv->told && seq > conv->seen) {
        conv->seen = seq; /* live_turn fills */
    }
}

bool live_on_sync(struct loquat *chat, const struct json_val *ok)
{
    enum { CONVS_MAX = 4096 };
    struct json_obj outer, inner;
    chat->live.page.n = 0;
    if (json_open(chat->json, ok, &outer) != 0)
        return true;
    const struct json_val *convs = json_get(&outer, "convs"), *next = json_get(&outer, "next");
    struct json_val *vals = xcalloc(CONVS_MAX, sizeof *vals);
    int count = convs != NULL ? json_items(chat->json, convs, vals, CONVS_MAX) : 0;
    for (int i = 0; i < count && i < CONVS_MAX; i++)
        if (json_open(chat->json, &vals[i], &inner) == 0)
            meet(chat, &inner);
    free(vals);
    if (next == NULL || next->type == JSON_NULL)
        return true;
    buf_add_span(&chat->live.page, next->raw);
    live_send_sync(chat);
    return false;
}

void live_on_joined(struct loquat *chat, const struct json_obj *obj)
{
    meet(chat, obj);
}

/* ---- records ---- */

static void give(struct loquat *chat, struct live_conv *conv, const struct loquat_record *record)
{
    conv->cursor = record->last;
    if (conv->seen < conv->cursor)
        conv->seen = conv->cursor;
    if (chat->options.events.on_record != NULL)
        chat->options.events.on_record(chat, record);
}

void live_on_record(struct loquat *chat, const struct json_obj *obj, struct span text)
{
    struct loquat_record record;
    if (!record_parse(chat->json, obj, text, (struct loquat_text){0}, &record))
        return;
    struct live_conv *conv = live_get(chat, span_of(record.c.p, record.c.n));
    if (conv == NULL)
        return;
    if (!conv->known) { /* of a conversation that began since the sync */
        conv->known = true;
        conv->cursor = record.s - 1;
    }
    if (!conv->fills && record.s == conv->cursor + 1)
        give(chat, conv, &record);
    else if (record.last > conv->seen)
        conv->seen = record.last; /* a gap: live_turn fills */
}

void live_on_lag(struct loquat *chat, const struct json_obj *obj)
{
    const struct json_val *c = json_get(obj, "c"), *head = json_get(obj, "head");
    struct live_conv *conv = c != NULL ? live_get(chat, c->str) : NULL;
    if (conv == NULL)
        return;
    conv->lagged = true;
    if (head != NULL && head->is_whole && head->whole > (int64_t)conv->seen)
        conv->seen = (uint64_t)head->whole;
}

/* ---- filling ---- */

static void resume(struct loquat *chat, struct live_conv *conv)
{
    struct buf text = {0};
    conv->lagged = false;
    buf_add_str(&text, "{\"op\":\"resume\",\"c\":");
    json_put_string(&text, span_str(conv->c));
    buf_addf(&text, ",\"cur\":%llu}", (unsigned long long)conv->cursor);
    session_send_now(chat, buf_span(&text));
    buf_close(&text);
}

static void give_page(struct loquat *chat, struct live_conv *conv, const struct json_val *records)
{
    struct json_val *vals = xcalloc(FILL_RECORDS, sizeof *vals);
    struct json_obj obj;
    struct loquat_record record;
    int count = json_items(chat->json, records, vals, FILL_RECORDS);
    for (int i = 0; i < count && i < FILL_RECORDS; i++) {
        if (json_open(chat->json, &vals[i], &obj) != 0 ||
            !record_parse(chat->json, &obj, vals[i].raw,
                          (struct loquat_text){conv->c, strlen(conv->c)}, &record))
            continue;
        if (record.last > conv->cursor)
            give(chat, conv, &record);
    }
    free(vals);
}

static void live_on_fill(struct loquat *chat, const struct loquat_answer *answer, void *arg)
{
    struct live_conv *conv = arg;
    struct json_obj obj;
    struct json_val ok = {.type = JSON_OBJECT, .raw = span_of(answer->json.p, answer->json.n)};
    conv->fills = false;
    if (answer->err != 0 || json_open(chat->json, &ok, &obj) != 0) {
        if (!answer->retry)
            conv->seen = conv->cursor; /* left, or gone: nothing to catch up with */
        return;
    }
    const struct json_val *records = json_get(&obj, "records"), *next = json_get(&obj, "next");
    uint64_t before = conv->cursor;
    if (records != NULL)
        give_page(chat, conv, records);
    bool end = next == NULL || next->type == JSON_NULL || conv->cursor == before;
    if (end && conv->seen > conv->cursor && conv->cursor == before)
        conv->seen = conv->cursor; /* the log holds no more than that */
    if (end && conv->lagged && conv->seen <= conv->cursor)
        resume(chat, conv);
    else if (!end && conv->seen <= conv->cursor)
        conv->seen = conv->cursor + 1; /* the rest of the pages */
}

void live_turn(struct loquat *chat)
{
    for (struct map_slot *slot = NULL; (slot = map_each(&chat->live.convs, slot)) != NULL;) {
        struct live_conv *conv = slot->val.p;
        if (conv->fills || !conv->known || (conv->seen <= conv->cursor && !conv->lagged))
            continue;
        struct buf *text = &chat->scratch;
        text->n = 0;
        buf_add_str(text, "\"op\":\"range\",\"c\":");
        json_put_string(text, span_str(conv->c));
        buf_addf(text, ",\"from\":%llu,\"max\":%d,\"view\":\"log\"",
                 (unsigned long long)conv->cursor + 1, FILL_RECORDS);
        if (requests_add(&chat->requests, buf_span(text), true, live_on_fill, conv) != 0)
            return; /* full: the next turn */
        conv->fills = true;
    }
}
