#include "gateway/say.h"

#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/jwt.h"
#include "store/base/record.h"

enum { RETRY_AFTER_MS = 500 };

static void name(struct buf *out, const char *text)
{
    buf_add_byte(out, ',');
    buf_add_byte(out, '"');
    buf_add_str(out, text);
    buf_add(out, "\":", 2);
}

static void number(struct buf *out, const char *key, uint64_t v)
{
    name(out, key);
    json_put_u64(out, v);
}

static void text(struct buf *out, const char *key, const char *v)
{
    name(out, key);
    json_put_string(out, span_str(v));
}

static void kind(struct buf *out, const Loquat__Record *record)
{
    name(out, "kind");
    if (record->kind == LOQUAT__KIND__KIND_X) {
        buf_add_str(out, "\"x-");
        buf_add_str(out, record->xkind);
        buf_add_byte(out, '"');
        return;
    }
    const char *known = kind_name(record->kind);
    json_put_string(out, span_str(known != NULL ? known : "unknown"));
}

static void mentions(struct buf *out, const Loquat__Record *record)
{
    if (record->mention_all) {
        text(out, "mentions", "all");
        return;
    }
    if (record->n_mentions == 0)
        return;
    name(out, "mentions");
    for (size_t i = 0; i < record->n_mentions; i++) {
        buf_add_byte(out, i == 0 ? '[' : ',');
        json_put_string(out, span_str(record->mentions[i]));
    }
    buf_add_byte(out, ']');
}

static void body(struct buf *out, const Loquat__Record *record, const Loquat__Item *item)
{
    bool edited = item->edited != 0 && item->body.len > 0;
    const ProtobufCBinaryData *bytes = edited ? &item->body : &record->body;
    name(out, "body");
    if (bytes->len > 0)
        buf_add(out, bytes->data, bytes->len);
    else
        buf_add_str(out, "{}");
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
    text(out, "why", hole_name(item->hole));
}

void say_members(struct buf *out, const struct say_place *place, const Loquat__Item *item,
                 const Loquat__Record *record)
{
    if (record == NULL) {
        hole(out, place, item);
        return;
    }
    buf_add_str(out, "\"c\":");
    json_put_string(out, place->conv);
    number(out, "s", item->seq);
    name(out, "mid");
    json_put_u64_string(out, record_mid(record, place->partition));
    number(out, "ts", record->ts);
    text(out, "from", record->from);
    kind(out, record);
    body(out, record, item);
    if (record->cid[0] != 0 && span_is(place->self, record->from))
        text(out, "cid", record->cid);
    number(out, "n", record_n(record, item->seq));
    if (record->reply != 0)
        number(out, "reply", record->reply);
    if (record->thread != 0 && kind_is_message(record->kind))
        number(out, "thread", record->thread);
    mentions(out, record);
    if (record->expires != 0)
        number(out, "expires", record->expires);
    if (record->target != 0)
        number(out, "target", record->target);
    if (item->edited != 0)
        number(out, "edited", item->edited);
    if (item->replies != 0)
        number(out, "replies", item->replies);
}

uint64_t say_last(const Loquat__Item *item)
{
    return item->last > item->seq ? item->last : item->seq;
}

int say_unpack(const Loquat__Item *item, ProtobufCAllocator *alloc, Loquat__Record **record)
{
    *record = NULL;
    if (item->hole != 0)
        return 0;
    return record_decode(span_of(item->record.data, item->record.len), alloc, record);
}

void say_live(struct buf *out, const struct say_place *place, const Loquat__Item *item,
              const Loquat__Record *record, bool stream)
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
    Loquat__Record *record = NULL;
    int err = say_unpack(item, place->alloc, &record);
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
        text(out, key, v);
        return;
    }
    name(out, key);
    buf_add_str(out, "null");
}

int say_conv(struct buf *out, const struct say_place *place, const Loquat__ConvInfo *info)
{
    bool direct = info->kind == LOQUAT__CONV_KIND__CONV_DIRECT;
    buf_add_str(out, "{\"c\":");
    json_put_string(out, place->conv);
    text(out, "kind", direct ? "direct" : "group");
    say_text_or_null(out, "name", info->name);
    say_text_or_null(out, "topic", info->topic);
    number(out, "members", info->members);
    say_text_or_null(out, "role", info->role != 0 ? role_name(info->role) : "");
    number(out, "head", info->head);
    number(out, "floor", info->floor);
    number(out, "n", info->n);
    number(out, "unread", info->unread);
    number(out, "read", info->read);
    number(out, "delivered", info->delivered);
    number(out, "since", info->since);
    number(out, "created", info->created);
    text(out, "history", info->history_joined ? "joined" : "all");
    if (direct)
        say_text_or_null(out, "with", info->with);
    say_number_or_null(out, "ttl", info->ttl_s);
    name(out, "last");
    int err = 0;
    if (info->last != NULL)
        err = say_element(out, place, info->last);
    else
        buf_add_str(out, "null");
    buf_add_byte(out, '}');
    return err;
}

void say_mark(struct buf *out, const char *conv, const char *user, uint64_t read,
              uint64_t delivered)
{
    buf_add_str(out, "{\"ev\":\"mark\",\"c\":");
    json_put_string(out, span_str(conv));
    text(out, "user", user);
    number(out, "read", read);
    number(out, "delivered", delivered);
    buf_add_byte(out, '}');
}

void say_member(struct buf *out, const Loquat__Member *member)
{
    buf_add_str(out, "{\"user\":");
    json_put_string(out, span_str(member->user));
    text(out, "role", role_name(member->role));
    number(out, "joined", member->joined);
    number(out, "read", member->read);
    number(out, "delivered", member->delivered);
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
    text(out, "msg", msg != NULL && msg[0] != 0 ? msg : default_message(err));
    name(out, "retry");
    buf_add_str(out, err_retry(err) ? "true" : "false");
    if (after_ms == 0 && err_retry(err))
        after_ms = RETRY_AFTER_MS;
    if (after_ms != 0)
        number(out, "after_ms", after_ms);
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
        name(out, "mid");
        json_put_u64_string(out, reply->mid);
        number(out, "ts", reply->ts);
        number(out, "n", reply->n);
    }
    name(out, "dup");
    buf_add_str(out, reply->dup ? "true}" : "false}");
}

void say_scope(struct buf *out, uint32_t scope)
{
    const char *words = scope & JWT_SCOPE_ADMIN  ? scope & JWT_SCOPE_JOBS ? "admin jobs" : "admin"
                        : scope & JWT_SCOPE_JOBS ? "jobs"
                                                 : "";
    json_put_string(out, span_str(words));
}
