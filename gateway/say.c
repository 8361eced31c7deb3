#include "gateway/say.h"

#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/jwt.h"
#include "store/base/record.h"

enum { RETRY_AFTER_MS = 500 };

/* A member that is not the first, up to its value; `key` is a literal. */
#define NAME(out, key) buf_add(out, ",\"" key "\":", sizeof(",\"" key "\":") - 1)

static void name(struct buf *out, const char *text)
{
    buf_add_byte(out, ',');
    buf_add_byte(out, '"');
    buf_add_str(out, text);
    buf_add(out, "\":", 2);
}

#define NUMBER(out, key, v) (NAME(out, key), json_put_u64(out, v))
#define TEXT(out, key, v) (NAME(out, key), json_put_string(out, v))

static void kind(struct buf *out, const struct record_view *record)
{
    NAME(out, "kind");
    if (record->kind == LOQUAT__KIND__KIND_X) {
        buf_add_str(out, "\"x-");
        buf_add_span(out, record->xkind);
        buf_add_byte(out, '"');
        return;
    }
    const char *known = kind_name(record->kind);
    json_put_string(out, span_str(known != NULL ? known : "unknown"));
}

static void mentions(struct buf *out, const struct record_view *record)
{
    if (record->mention_all) {
        TEXT(out, "mentions", span_str("all"));
        return;
    }
    if (record->mentions.n == 0)
        return;
    NAME(out, "mentions");
    struct span rest = record->mentions, user;
    for (char before = '['; record_mention(&rest, &user); before = ',') {
        buf_add_byte(out, (uint8_t)before);
        json_put_string(out, user);
    }
    buf_add_byte(out, ']');
}

static void body(struct buf *out, const struct record_view *record, const Loquat__Item *item)
{
    struct span bytes = record->body;
    if (record->kind == LOQUAT__KIND__KIND_REACT) {
        NAME(out, "body");
        buf_add_str(out, "{\"emoji\":");
        json_put_string(out, record->emoji);
        buf_add_str(out, record->on ? ",\"on\":true}" : ",\"on\":false}");
        return;
    }
    if (record->kind == LOQUAT__KIND__KIND_PIN) {
        NAME(out, "body");
        buf_add_str(out, record->on ? "{\"on\":true}" : "{\"on\":false}");
        return;
    }
    if (item->edited != 0 && item->body.len > 0)
        bytes = span_of((const char *)item->body.data, item->body.len);
    NAME(out, "body");
    if (bytes.n > 0)
        buf_add_span(out, bytes);
    else
        buf_add_str(out, "{}");
}

static void reactions(struct buf *out, const Loquat__Item *item)
{
    NAME(out, "reactions");
    for (size_t i = 0; i < item->n_reactions; i++) {
        const Loquat__Reaction *reaction = item->reactions[i];
        buf_add_byte(out, i == 0 ? '{' : ',');
        json_put_string(out, span_str(reaction->emoji));
        buf_add_str(out, ":{\"n\":");
        json_put_u64(out, reaction->n);
        buf_add_str(out, reaction->me ? ",\"me\":true}" : ",\"me\":false}");
    }
    buf_add_byte(out, '}');
}

static void hole(struct buf *out, const struct say_place *place, const Loquat__Item *item)
{
    buf_add_str(out, "\"c\":");
    json_put_string(out, place->conv);
    buf_add_str(out, ",\"hole\":[");
    json_put_u64(out, item->seq);
    buf_add_byte(out, ',');
    json_put_u64(out, say_last(item));
    buf_add_byte(out, ']');
    TEXT(out, "why", span_str(hole_name(item->hole)));
}

void say_members(struct buf *out, const struct say_place *place, const Loquat__Item *item,
                 const struct record_view *record)
{
    if (record == NULL) {
        hole(out, place, item);
        return;
    }
    uint64_t ordinal = item->seq - record->gap;
    buf_add_str(out, "\"c\":");
    json_put_string(out, place->conv);
    NUMBER(out, "s", item->seq);
    NAME(out, "mid");
    json_put_u64_string(out, record_mid(record->ts, record->mid_off, place->partition));
    NUMBER(out, "ts", record->ts);
    TEXT(out, "from", record->from);
    kind(out, record);
    body(out, record, item);
    if (record->cid.n > 0 && span_eq(place->self, record->from))
        TEXT(out, "cid", record->cid);
    NUMBER(out, "n", ordinal);
    if (record->reply != 0)
        NUMBER(out, "reply", record->reply);
    bool threaded = kind_is_message(record->kind) || record->kind == LOQUAT__KIND__KIND_DELETE;
    if (record->thread != 0 && threaded)
        NUMBER(out, "thread", record->thread);
    mentions(out, record);
    if (record->expires != 0)
        NUMBER(out, "expires", record->expires);
    if (record->target != 0)
        NUMBER(out, "target", record->target);
    if (item->edited != 0)
        NUMBER(out, "edited", item->edited);
    if (item->replies != 0)
        NUMBER(out, "replies", item->replies);
    if (item->pinned != 0)
        NUMBER(out, "pinned", item->pinned);
    if (item->n_reactions > 0)
        reactions(out, item);
}

uint64_t say_last(const Loquat__Item *item)
{
    return item->last > item->seq ? item->last : item->seq;
}

int say_view(const Loquat__Item *item, struct record_view *room, const struct record_view **record)
{
    *record = NULL;
    if (item->hole != 0)
        return 0;
    *record = room;
    return record_view(span_of((const char *)item->record.data, item->record.len), room);
}

void say_live(struct buf *out, const struct say_place *place, const Loquat__Item *item,
              const struct record_view *record, bool stream)
{
    if (stream)
        buf_addf(out, "id: %llu\ndata: {", (unsigned long long)say_last(item));
    else
        buf_add_str(out, out->n == 0 ? "{\"ev\":\"rec\"," : "\n{\"ev\":\"rec\",");
    say_members(out, place, item, record);
    buf_add_str(out, stream ? "}\n\n" : "}");
}

int say_element(struct buf *out, const struct say_place *place, const Loquat__Item *item)
{
    struct record_view room;
    const struct record_view *record;
    int err = say_view(item, &room, &record);
    if (err != 0)
        return err;
    buf_add_byte(out, '{');
    say_members(out, place, item, record);
    buf_add_byte(out, '}');
    return 0;
}

void say_number_or_null(struct buf *out, const char *key, uint64_t v)
{
    name(out, key);
    if (v != 0)
        json_put_u64(out, v);
    else
        buf_add_str(out, "null");
}

void say_text_or_null(struct buf *out, const char *key, const char *v)
{
    if (v[0] != 0) {
        name(out, key);
        json_put_string(out, span_str(v));
        return;
    }
    name(out, key);
    buf_add_str(out, "null");
}

static void add_prefs(struct buf *out, const struct say_prefs *prefs)
{
    say_number_or_null(out, "muted_until", prefs->muted_until);
    NAME(out, "pinned");
    buf_add_str(out, prefs->pinned ? "true" : "false");
    if (prefs->hidden) {
        NAME(out, "hidden");
        buf_add_str(out, "true");
    }
    if (prefs->draft.n > 0)
        TEXT(out, "draft", prefs->draft);
}

int say_conv(struct buf *out, const struct say_place *place, const Loquat__ConvInfo *info,
             const struct say_prefs *prefs)
{
    static const struct say_prefs nothing;
    bool direct = info->kind == LOQUAT__CONV_KIND__CONV_DIRECT;
    buf_add_str(out, "{\"c\":");
    json_put_string(out, place->conv);
    TEXT(out, "kind", span_str(direct ? "direct" : "group"));
    say_text_or_null(out, "name", info->name);
    say_text_or_null(out, "topic", info->topic);
    NUMBER(out, "members", info->members);
    say_text_or_null(out, "role", info->role != 0 ? role_name(info->role) : "");
    NUMBER(out, "head", info->head);
    NUMBER(out, "floor", info->floor);
    NUMBER(out, "n", info->n);
    NUMBER(out, "unread", info->unread);
    NUMBER(out, "mentions", info->mentions);
    NUMBER(out, "read", info->read);
    NUMBER(out, "delivered", info->delivered);
    NUMBER(out, "since", info->since);
    NUMBER(out, "created", info->created);
    TEXT(out, "history", span_str(info->history_joined ? "joined" : "all"));
    if (direct)
        say_text_or_null(out, "with", info->with);
    say_number_or_null(out, "ttl", info->ttl_s);
    if (info->announce) {
        NAME(out, "announce");
        buf_add_str(out, "true");
    }
    if (info->lang[0] != 0)
        TEXT(out, "lang", span_str(info->lang));
    if (info->search_off) {
        NAME(out, "searchable");
        buf_add_str(out, "false");
    }
    NAME(out, "pins");
    buf_add_byte(out, '[');
    for (size_t i = 0; i < info->n_pins; i++) {
        if (i > 0)
            buf_add_byte(out, ',');
        json_put_u64(out, info->pins[i]);
    }
    buf_add_byte(out, ']');
    add_prefs(out, prefs != NULL ? prefs : &nothing);
    NAME(out, "last");
    int err = 0;
    if (info->last != NULL)
        err = say_element(out, place, info->last);
    else
        buf_add_str(out, "null");
    buf_add_byte(out, '}');
    return err;
}

uint64_t say_newest(const Loquat__ConvInfo *info, const struct record_view *last)
{
    if (info->newest != 0)
        return info->newest;
    return last != NULL ? last->ts : info->created; /* of a node before version 4 */
}

void say_mark(struct buf *out, const char *conv, const char *user, uint64_t read,
              uint64_t delivered)
{
    buf_add_str(out, "{\"ev\":\"mark\",\"c\":");
    json_put_string(out, span_str(conv));
    TEXT(out, "user", span_str(user));
    NUMBER(out, "read", read);
    NUMBER(out, "delivered", delivered);
    buf_add_byte(out, '}');
}

void say_thread_mark(struct buf *out, const char *conv, const char *user, uint64_t thread,
                     uint64_t read)
{
    buf_add_str(out, "{\"ev\":\"mark\",\"c\":");
    json_put_string(out, span_str(conv));
    TEXT(out, "user", span_str(user));
    NUMBER(out, "thread", thread);
    NUMBER(out, "read", read);
    buf_add_byte(out, '}');
}

void say_seen(struct buf *out, const char *conv, uint64_t seq, uint64_t n)
{
    buf_add_str(out, "{\"ev\":\"seen\",\"c\":");
    json_put_string(out, span_str(conv));
    NUMBER(out, "s", seq);
    NUMBER(out, "n", n);
    buf_add_byte(out, '}');
}

void say_typing(struct buf *out, const char *conv, const char *user, uint32_t ttl_ms)
{
    buf_add_str(out, "{\"ev\":\"typing\",\"c\":");
    json_put_string(out, span_str(conv));
    TEXT(out, "user", span_str(user));
    NUMBER(out, "ttl_ms", ttl_ms);
    buf_add_byte(out, '}');
}

void say_presence(struct buf *out, const char *user, uint32_t state, uint64_t seen_ms)
{
    buf_add_str(out, "{\"ev\":\"presence\",\"user\":");
    json_put_string(out, span_str(user));
    TEXT(out, "state",
         span_str(state == LOQUAT__PRESENCE_STATE__PRESENCE_ONLINE ? "online"
                  : state == LOQUAT__PRESENCE_STATE__PRESENCE_AWAY ? "away"
                                                                   : "offline"));
    say_number_or_null(out, "last_seen", seen_ms);
    buf_add_byte(out, '}');
}

void say_member(struct buf *out, const Loquat__Member *member, bool marks)
{
    buf_add_str(out, "{\"user\":");
    json_put_string(out, span_str(member->user));
    TEXT(out, "role", span_str(role_name(member->role)));
    NUMBER(out, "joined", member->joined);
    if (marks) {
        NUMBER(out, "read", member->read);
        NUMBER(out, "delivered", member->delivered);
    }
    buf_add_byte(out, '}');
}

static const char *default_message(int err)
{
    switch (err) {
    case ERR_NOT_FOUND:
        return "there is no such thing here";
    case ERR_BUSY:
        return "too much is under way; try again";
    case ERR_CLOSED:
        return "the store is not reached just now";
    case ERR_NO_SPACE:
        return "the disk is full; reading goes on";
    case ERR_CORRUPT:
        return "a record is damaged on disk";
    default:
        return "something went wrong in the server";
    }
}

void say_error(struct buf *out, int err, const char *msg, uint64_t after_ms)
{
    buf_add_str(out, "{\"code\":\"");
    buf_add_str(out, err_wire(err));
    buf_add_byte(out, '"');
    TEXT(out, "msg", span_str(msg != NULL && msg[0] != 0 ? msg : default_message(err)));
    NAME(out, "retry");
    buf_add_str(out, err_retry(err) ? "true" : "false");
    if (after_ms == 0 && err_retry(err))
        after_ms = RETRY_AFTER_MS;
    if (after_ms != 0)
        NUMBER(out, "after_ms", after_ms);
    buf_add_byte(out, '}');
}

void say_written(struct buf *out, const Loquat__Reply *reply)
{
    buf_add_str(out, "{\"s\":");
    if (reply->seq != 0)
        json_put_u64(out, reply->seq);
    else
        buf_add_str(out, "null"); /* there was nothing to change */
    if (reply->mid != 0) {
        NAME(out, "mid");
        json_put_u64_string(out, reply->mid);
        NUMBER(out, "ts", reply->ts);
        NUMBER(out, "n", reply->n);
    }
    NAME(out, "dup");
    buf_add_str(out, reply->dup ? "true}" : "false}");
}

void say_scope(struct buf *out, uint32_t scope)
{
    const char *words = scope & JWT_SCOPE_ADMIN  ? scope & JWT_SCOPE_JOBS ? "admin jobs" : "admin"
                        : scope & JWT_SCOPE_JOBS ? "jobs"
                                                 : "";
    json_put_string(out, span_str(words));
}
