#include "store/client/export_line.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"

void export_conv_begin(struct export_conv *conv, struct span name)
{
    conv->name = name;
    conv->count = 0;
    conv->holes = conv->other = 0;
}

void export_conv_close(struct export_conv *conv)
{
    free(conv->seqs);
    *conv = (struct export_conv){0};
}

static void seqs_add(struct export_conv *conv, uint64_t seq)
{
    if (conv->count == conv->cap) {
        conv->cap = conv->cap > 0 ? conv->cap * 2 : 1024;
        conv->seqs = xrealloc(conv->seqs, conv->cap * sizeof *conv->seqs);
    }
    conv->seqs[conv->count++] = seq;
}

/* Position of the line with this sequence; false when there is none. */
static bool seqs_find(const struct export_conv *conv, uint64_t seq, size_t *position)
{
    size_t low = 0, high = conv->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (conv->seqs[mid] < seq)
            low = mid + 1;
        else
            high = mid;
    }
    *position = low;
    return low < conv->count && conv->seqs[low] == seq;
}

static int add_hole(struct export_conv *conv, struct json *json, const struct json_val *hole)
{
    struct json_val ends[2];
    if (json_items(json, hole, ends, 2) != 2 || !ends[0].is_whole || !ends[1].is_whole ||
        ends[1].whole < ends[0].whole)
        return ERR_BAD_REQUEST;
    conv->holes += (uint64_t)(ends[1].whole - ends[0].whole) + 1;
    return 0;
}

static void add_raw(struct buf *out, const char *name, const struct json_val *val)
{
    buf_addf(out, ",\"%s\":", name);
    buf_add_span(out, val != NULL ? val->raw : span_str("null"));
}

static void add_from(struct buf *out, const struct json_obj *record, const struct json_obj *body)
{
    const struct json_val *nick = json_get(body, "nick");
    add_raw(out, "from", nick != NULL ? nick : json_get(record, "from"));
}

static void add_reply(struct buf *out, const struct export_conv *conv,
                      const struct json_obj *record)
{
    const struct json_val *reply = json_get(record, "reply");
    size_t position;
    if (reply != NULL && reply->is_whole && reply->whole > 0 &&
        seqs_find(conv, (uint64_t)reply->whole, &position))
        buf_addf(out, ",\"reply_to\":%zu", position);
    else
        buf_add_str(out, ",\"reply_to\":null");
}

/* Records that were not imported have their kind as type. */
static void add_type(struct buf *out, struct span kind, const struct json_obj *body)
{
    const struct json_val *type = json_get(body, "type"), *action = json_get(body, "action");
    if (span_is(kind, "text") || span_is(kind, "x-irc")) {
        if (action != NULL && action->type == JSON_BOOL && action->truth)
            buf_add_str(out, ",\"type\":\"action\"");
        else if (type != NULL && type->type == JSON_STRING)
            add_raw(out, "type", type);
        return;
    }
    buf_add_str(out, ",\"type\":");
    json_put_string(out, kind);
}

static void add_more(struct buf *out, const struct json_obj *body)
{
    const struct json_val *more = json_get(body, "more");
    if (more == NULL || more->type != JSON_OBJECT || more->raw.n <= 2)
        return;
    buf_add_byte(out, ',');
    buf_add(out, more->raw.p + 1, more->raw.n - 2);
}

static bool is_message(struct span kind)
{
    return span_is(kind, "text") || span_is(kind, "image") || span_is(kind, "file") ||
           (kind.n > 2 && memcmp(kind.p, "x-", 2) == 0);
}

int export_line(struct export_conv *conv, struct json *json, struct span text, struct buf *out)
{
    struct json_obj record, body = {.count = 0};
    if (json_parse(json, text.p, text.n, &record) != 0)
        return ERR_BAD_REQUEST;
    const struct json_val *hole = json_get(&record, "hole");
    if (hole != NULL)
        return add_hole(conv, json, hole);
    const struct json_val *seq = json_get(&record, "s"), *kind = json_get(&record, "kind");
    const struct json_val *content = json_get(&record, "body"), *ts = json_get(&record, "ts");
    if (seq == NULL || !seq->is_whole || seq->whole <= 0 || kind == NULL ||
        kind->type != JSON_STRING)
        return ERR_BAD_REQUEST;
    if (!is_message(kind->str)) {
        conv->other++;
        return 0;
    }
    if (conv->count > 0 && conv->seqs[conv->count - 1] >= (uint64_t)seq->whole)
        return ERR_BAD_REQUEST;
    if (content == NULL || json_open(json, content, &body) != 0)
        return ERR_BAD_REQUEST;
    if (json_get(&body, "ts") != NULL)
        ts = NULL;
    buf_add_str(out, "{\"conv\":");
    json_put_string(out, conv->name);
    add_raw(out, "ts", ts);
    add_from(out, &record, &body);
    const struct json_val *words = json_get(&body, "text");
    buf_add_str(out, ",\"text\":");
    buf_add_span(out, words != NULL ? words->raw : span_str("\"\""));
    add_reply(out, conv, &record);
    add_more(out, &body);
    add_type(out, kind->str, &body);
    buf_add_str(out, "}\n");
    seqs_add(conv, (uint64_t)seq->whole);
    return 1;
}
