#include "store/client/import_line.h"

#include "store/base/err.h"
#include "store/client/nick.h"

static int bad(const char **why, const char *text)
{
    *why = text;
    return ERR_BAD_REQUEST;
}

/* A string or null; *raw keeps p NULL for null. */
static bool text_or_null(const struct json_val *val, struct span *raw)
{
    *raw = (struct span){0};
    if (val == NULL || val->type == JSON_NULL)
        return true;
    *raw = val->raw;
    return val->type == JSON_STRING;
}

/* A whole number from 0 or null (-1). */
static bool number_or_null(const struct json_val *val, int64_t *out)
{
    *out = -1;
    if (val == NULL || val->type == JSON_NULL)
        return true;
    *out = val->whole;
    return val->type == JSON_NUMBER && val->is_whole && val->whole >= 0;
}

static bool known(struct span name)
{
    static const char *const NAMES[] = {"conv", "ts", "from", "text", "reply_to", "type"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (span_is(name, NAMES[i]))
            return true;
    return false;
}

static void add_more(const struct json_obj *obj, struct buf *more)
{
    for (size_t i = 0; i < obj->count; i++) {
        if (known(obj->fields[i].name))
            continue;
        buf_add_byte(more, ',');
        json_put_string(more, obj->fields[i].name);
        buf_add_byte(more, ':');
        buf_add_span(more, obj->fields[i].val.raw);
    }
}

int import_line_parse(struct json *json, struct span line, uint64_t position,
                      struct import_line *out, struct buf *more, const char **why)
{
    struct json_obj obj;
    *out = (struct import_line){.ts = -1, .reply_to = -1};
    if (line.n > IMPORT_LINE_MAX)
        return bad(why, "the line is longer than 60 KiB");
    if (json_parse(json, line.p, line.n, &obj) != 0)
        return bad(why, json_error(json));
    const struct json_val *conv = json_get(&obj, "conv"), *text = json_get(&obj, "text");
    if (conv == NULL || conv->type != JSON_STRING || conv->str.n == 0)
        return bad(why, "\"conv\" must be a text that is not empty");
    if (text == NULL || text->type != JSON_STRING)
        return bad(why, "\"text\" must be a text");
    const struct json_val *from = json_get(&obj, "from"), *type = json_get(&obj, "type");
    if (!text_or_null(from, &out->from))
        return bad(why, "\"from\" must be a text or null");
    if (!text_or_null(type, &out->type))
        return bad(why, "\"type\" must be a text");
    if (!number_or_null(json_get(&obj, "ts"), &out->ts))
        return bad(why, "\"ts\" must be milliseconds since 1970 or null");
    if (!number_or_null(json_get(&obj, "reply_to"), &out->reply_to) ||
        (out->reply_to >= 0 && (uint64_t)out->reply_to >= position))
        return bad(why, "\"reply_to\" must be the position of an earlier line or null");
    out->conv = conv->str;
    out->text = text->raw;
    if (out->type.p != NULL)
        out->type_name = type->str;
    struct span nick = {0};
    if (out->from.p != NULL)
        nick = from->str.n > 0 ? from->str : span_str("");
    nick_user(nick, out->user);
    out->nick_differs = out->from.p == NULL || !span_is(nick, out->user);
    if (more != NULL)
        add_more(&obj, more);
    return 0;
}

void import_line_encode(const struct import_line *line, uint64_t position, struct span more,
                        struct buf *out)
{
    bool action = span_is(line->type_name, "action");
    bool plain = line->type.p == NULL || action || span_is(line->type_name, "post");
    buf_addf(out, "\"cid\":\"%llu\",\"from\":\"%s\"", (unsigned long long)position, line->user);
    if (line->ts >= 0)
        buf_addf(out, ",\"ts\":%lld", (long long)line->ts);
    buf_add_str(out, plain ? ",\"kind\":\"text\",\"body\":{" : ",\"kind\":\"x-irc\",\"body\":{");
    if (line->type.p != NULL && !action) {
        buf_add_str(out, "\"type\":");
        buf_add_span(out, line->type);
        buf_add_byte(out, ',');
    }
    buf_add_str(out, "\"text\":");
    buf_add_span(out, line->text);
    if (action)
        buf_add_str(out, ",\"action\":true");
    if (line->nick_differs) {
        buf_add_str(out, ",\"nick\":");
        buf_add_span(out, line->from.p != NULL ? line->from : span_str("null"));
    }
    if (line->ts < 0)
        buf_add_str(out, ",\"ts\":null");
    if (more.n > 0) {
        buf_add_str(out, ",\"more\":{");
        buf_add(out, more.p + 1, more.n - 1); /* without the first comma */
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, '}');
}
