/* store/client/call.c: requests as JSON. */
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/client/session.h"

static bool over(const struct loquat *chat)
{
    return chat->session.state >= SESSION_ENDING;
}

int loquat_request(struct loquat *chat, const char *fields, size_t size, loquat_answer_fn fn,
                   void *arg)
{
    enum { ENVELOPE = 32 }; /* braces and id */
    if (over(chat))
        return LOQUAT_CLOSED;
    if (size + ENVELOPE > chat->session.frame_max)
        return LOQUAT_TOO_LARGE;
    int err = requests_add(&chat->requests, span_of(fields, size), false, fn, arg);
    chat->room_wanted |= err == LOQUAT_BUSY;
    return err;
}

int loquat_post(struct loquat *chat, const char *fields, size_t size)
{
    if (over(chat))
        return LOQUAT_CLOSED;
    if (chat->session.state != SESSION_READY)
        return LOQUAT_UNAVAILABLE;
    chat->scratch.n = 0;
    buf_add_byte(&chat->scratch, '{');
    buf_add(&chat->scratch, fields, size);
    buf_add_byte(&chat->scratch, '}');
    session_send_now(chat, buf_span(&chat->scratch));
    return 0;
}

/* 48 bits of time and 80 of chance in base 32: sorts by time, like a ULID. */
static void add_cid(struct buf *out, const char *cid)
{
    static const char DIGITS[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    buf_add_str(out, ",\"cid\":");
    if (cid != NULL) {
        json_put_string(out, span_str(cid));
        return;
    }
    char text[26];
    uint64_t ms = clock_wall_ms();
    for (int i = 9; i >= 0; i--, ms >>= 5)
        text[i] = DIGITS[ms & 31];
    for (int half = 0; half < 2; half++) {
        uint64_t bits = random_u64();
        for (int i = 0; i < 8; i++, bits >>= 5)
            text[10 + 8 * half + i] = DIGITS[bits & 31];
    }
    json_put_string(out, span_of(text, sizeof text));
}

static void add_text(struct buf *out, const char *name, const char *value)
{
    buf_addf(out, ",\"%s\":", name);
    json_put_string(out, span_str(value));
}

static void add_number(struct buf *out, const char *name, uint64_t value)
{
    if (value > 0)
        buf_addf(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

static int submit(struct loquat *chat, struct buf *fields, loquat_answer_fn fn, void *arg)
{
    int err = loquat_request(chat, fields->p, fields->n, fn, arg);
    buf_close(fields);
    return err;
}

int loquat_send(struct loquat *chat, const struct loquat_message *message, loquat_answer_fn fn,
                void *arg)
{
    struct buf out = {0};
    buf_add_str(&out, "\"op\":\"send\"");
    add_text(&out, "c", message->c);
    add_cid(&out, message->cid);
    add_text(&out, "kind", message->kind != NULL ? message->kind : "text");
    buf_add_str(&out, ",\"body\":");
    if (message->body != NULL) {
        buf_add_str(&out, message->body);
    } else {
        buf_add_str(&out, "{\"text\":");
        json_put_string(&out, span_str(message->text != NULL ? message->text : ""));
        buf_add_byte(&out, '}');
    }
    add_number(&out, "reply", message->reply);
    add_number(&out, "thread", message->thread);
    add_number(&out, "ttl", message->ttl_s);
    return submit(chat, &out, fn, arg);
}

int loquat_open_direct(struct loquat *chat, const char *with, loquat_answer_fn fn, void *arg)
{
    struct buf out = {0};
    buf_add_str(&out, "\"op\":\"open\",\"kind\":\"direct\"");
    add_text(&out, "with", with);
    add_cid(&out, NULL);
    return submit(chat, &out, fn, arg);
}

int loquat_open_group(struct loquat *chat, const char *name, const char *const *members,
                      size_t count, const char *cid, loquat_answer_fn fn, void *arg)
{
    struct buf out = {0};
    buf_add_str(&out, "\"op\":\"open\",\"kind\":\"group\"");
    add_text(&out, "name", name);
    add_cid(&out, cid);
    buf_add_str(&out, ",\"members\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_add_byte(&out, ',');
        json_put_string(&out, span_str(members[i]));
    }
    buf_add_byte(&out, ']');
    return submit(chat, &out, fn, arg);
}

int loquat_mark_read(struct loquat *chat, const char *c, uint64_t s, loquat_answer_fn fn, void *arg)
{
    struct buf out = {0};
    buf_add_str(&out, "\"op\":\"mark\"");
    add_text(&out, "c", c);
    add_number(&out, "read", s);
    return submit(chat, &out, fn, arg);
}

int loquat_range(struct loquat *chat, const struct loquat_range *range, loquat_answer_fn fn,
                 void *arg)
{
    struct buf out = {0};
    buf_add_str(&out, "\"op\":\"range\"");
    add_text(&out, "c", range->c);
    add_number(&out, "from", range->from);
    add_number(&out, "to", range->to);
    add_number(&out, "max", range->max);
    add_text(&out, "view", range->folded ? "folded" : "log");
    add_text(&out, "order", range->desc ? "desc" : "asc");
    return submit(chat, &out, fn, arg);
}

size_t loquat_in_flight(const struct loquat *chat)
{
    return chat->requests.used;
}
