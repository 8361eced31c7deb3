#include "store/client/print.h"

#include <stdio.h>
#include <time.h>

#include "store/client/answer.h"

static const char INDENT[] = "    ";

void print_count(struct buf *out, uint64_t number)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            buf_add_byte(out, ',');
        buf_add_byte(out, (uint8_t)digits[i]);
    }
}

void print_time(struct buf *out, uint64_t ms)
{
    char text[32];
    struct tm tm;
    time_t seconds = (time_t)(ms / 1000);
    if (ms / 1000 > INT32_MAX * 8ull || localtime_r(&seconds, &tm) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(text, sizeof text, "?");
    buf_add_str(out, text);
}

void print_safe(struct buf *out, struct span text, const char *indent)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        bool c1 = c == 0xc2 && i + 1 < text.n && (unsigned char)text.p[i + 1] < 0xa0;
        if (c == '\n') {
            buf_add_byte(out, '\n');
            buf_add_str(out, indent);
        } else if (c1) { /* U+0080–U+009F: some terminals obey them */
            buf_addf(out, "\\x%02x", (unsigned char)text.p[++i]);
        } else if ((c < 0x20 && c != '\t') || c == 0x7f) {
            buf_addf(out, "\\x%02x", c);
        } else {
            buf_add_byte(out, c);
        }
    }
}

static bool truth(const struct json_obj *obj, const char *name)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->type == JSON_BOOL && val->truth;
}

static bool is(struct loquat_text text, const char *word)
{
    return span_is(span_of(text.p, text.n), word);
}

/* "12", or nothing when the record has no such number. */
static void add_number(struct buf *out, const char *before, const struct json_obj *obj,
                       const char *name)
{
    const struct json_val *val = json_get(obj, name);
    if (val == NULL || !val->is_whole)
        return;
    buf_addf(out, "%s%lld", before, (long long)val->whole);
}

static void add_hole(struct buf *out, const struct loquat_record *record)
{
    if (record->s == record->last)
        buf_addf(out, "%7llu  -- ", (unsigned long long)record->s);
    else
        buf_addf(out, "%7llu  -- to %llu ", (unsigned long long)record->s,
                 (unsigned long long)record->last);
    print_safe(out, span_of(record->why.p, record->why.n), "");
    buf_add_str(out, " --\n");
}

static void add_content(struct buf *out, const struct loquat_record *record,
                        const struct json_obj *whole, const struct json_obj *body)
{
    struct span nick = answer_string(body, "nick"), text = answer_string(body, "text");
    struct span type = answer_string(body, "type");
    struct span from = nick.p != NULL ? nick : span_of(record->from.p, record->from.n);
    bool message = is(record->kind, "text");
    bool aside = !message || truth(body, "action");
    buf_add_str(out, aside ? "* " : "<");
    print_safe(out, from, "");
    buf_add_str(out, aside ? " " : "> ");
    if (!message) {
        print_safe(out, type.p != NULL ? type : span_of(record->kind.p, record->kind.n), "");
        add_number(out, " #", whole, "target");
        buf_add_byte(out, ' ');
    }
    add_number(out, "(to #", whole, "reply");
    if (json_get(whole, "reply") != NULL)
        buf_add_str(out, ") ");
    if (text.p != NULL)
        print_safe(out, text, INDENT);
    else
        print_safe(out, span_of(record->body.p, record->body.n), INDENT);
    if (json_get(whole, "edited") != NULL)
        buf_add_str(out, " (edited)");
}

void print_record(struct buf *out, struct json *json, const struct loquat_record *record)
{
    struct json_obj whole, body = {.count = 0};
    if (record->hole) {
        add_hole(out, record);
        return;
    }
    if (json_parse(json, record->json.p, record->json.n, &whole) != 0)
        return;
    const struct json_val *content = json_get(&whole, "body");
    if (content != NULL && json_open(json, content, &body) != 0)
        body.count = 0;
    buf_addf(out, "%7llu  ", (unsigned long long)record->s);
    print_time(out, record->ts);
    buf_add_str(out, "  ");
    add_content(out, record, &whole, &body);
    buf_add_byte(out, '\n');
}

void print_feed(struct buf *out, struct json *json, bool as_json, uint32_t partition,
                const struct loquat_feed_record *record)
{
    if (as_json) {
        buf_addf(out, "{\"p\":%u,\"offset\":%llu,\"record\":", partition,
                 (unsigned long long)record->offset);
        buf_add(out, record->record.json.p, record->record.json.n);
        buf_add_str(out, "}\n");
        return;
    }
    buf_addf(out, "%3u %12llu  ", partition, (unsigned long long)record->offset);
    print_safe(out, span_of(record->record.c.p, record->record.c.n), "");
    print_record(out, json, &record->record);
}
