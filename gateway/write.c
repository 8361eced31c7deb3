/* gateway/write.c: operations that change something. What they ask is checked for its form here;
 * whether it may be is decided where it is applied (store/apply*.c). */
#include <stdio.h>
#include <string.h>

#include "gateway/emoji.h"
#include "gateway/marks.h"
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"

void write_answered(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL)
        say_written(text, reply);
    call_ok(call);
}

Loquat__Command write_command(struct request *request, uint32_t op)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = op;
    command.user = (char *)(uintptr_t)request->who->user;
    command.admin = (request->who->scope & JWT_SCOPE_ADMIN) != 0;
    command.conv = request->call->conv;
    return command;
}

int write_take_cid(struct request *request, Loquat__Command *command)
{
    struct span cid = {0};
    int err = field_cid(request, &cid);
    if (err == 0)
        command->cid = field_copy(request, cid);
    return err;
}

/* ---- bodies ---- */

static int check_text(struct request *request, const struct json_obj *body)
{
    const struct json_val *text = json_get(body, "text"), *format = json_get(body, "format");
    if (text == NULL || text->type != JSON_STRING)
        return field_error(request, ERR_BAD_REQUEST, "body.text", "must be a text");
    if (text->str.n > PROTO_TEXT_MAX)
        return field_error(request, ERR_TOO_LARGE, "body.text", "may have 32768 bytes at most");
    if (format != NULL && format->type != JSON_NULL && !span_is(format->str, "plain") &&
        !span_is(format->str, "markdown"))
        return field_error(request, ERR_BAD_REQUEST, "body.format", "is plain or markdown");
    return 0;
}

static int take_body(struct request *request, uint32_t kind, Loquat__Command *command)
{
    const struct json_val *body = json_get(request->obj, "body");
    struct json_obj obj;
    if (body == NULL || body->type != JSON_OBJECT ||
        json_open(request->conn->gate->json, body, &obj) != 0)
        return field_error(request, ERR_BAD_REQUEST, "body", "must be an object of the kind");
    int err = 0;
    if (kind == LOQUAT__KIND__KIND_TEXT)
        err = check_text(request, &obj);
    command->body.data = (uint8_t *)(uintptr_t)body->raw.p;
    command->body.len = body->raw.n;
    return err;
}

/* ---- send ---- */

static int take_kind(struct request *request, Loquat__Command *command)
{
    const struct json_val *val = json_get(request->obj, "kind");
    struct span xkind = {0};
    if (val == NULL || val->type != JSON_STRING)
        return field_error(request, ERR_BAD_REQUEST, "kind", "must be text or x-…");
    uint32_t kind = kind_of(val->str, &xkind);
    if (kind == LOQUAT__KIND__KIND_IMAGE || kind == LOQUAT__KIND__KIND_FILE)
        return field_error(request, ERR_BAD_REQUEST, "kind",
                           "names a file, and this server takes no uploads yet");
    if (kind != LOQUAT__KIND__KIND_TEXT && kind != LOQUAT__KIND__KIND_X)
        return field_error(request, ERR_BAD_REQUEST, "kind", "must be text or x-…");
    command->kind = kind;
    if (xkind.n > 0)
        command->xkind = field_copy(request, xkind);
    return 0;
}

static int take_mentions(struct request *request, Loquat__Command *command)
{
    const struct json_val *val = json_get(request->obj, "mentions");
    if (val == NULL || val->type == JSON_NULL)
        return 0;
    if (val->type == JSON_STRING && span_is(val->str, "all")) {
        command->mention_all = true;
        return 0;
    }
    return field_users(request, "mentions", val, PROTO_MENTIONS_MAX, &command->mentions,
                       &command->n_mentions);
}

/* Records of others with their own time: imports, by scope admin. */
static int take_import(struct request *request, Loquat__Command *command)
{
    struct span from = {0};
    uint64_t ts = 0;
    int err = field_user(request, "from", false, &from);
    if (err == 0)
        err = field_whole(request, "ts", 1, PROTO_WHOLE_MAX, &ts);
    if (err != 0)
        return err;
    if (from.n == 0 && ts == 0)
        return 0;
    if (!command->admin)
        return field_error(request, ERR_FORBIDDEN, "from and ts", "are for scope admin");
    if (from.n > 0)
        command->user = field_copy(request, from);
    command->ts = ts;
    return 0;
}

int op_send(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_SEND);
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = take_kind(request, &command);
    if (err == 0)
        err = take_body(request, command.kind, &command);
    if (err == 0)
        err = field_whole(request, "reply", 1, PROTO_WHOLE_MAX, &command.reply);
    if (err == 0)
        err = field_whole(request, "thread", 1, PROTO_WHOLE_MAX, &command.thread);
    if (err == 0)
        err = field_whole(request, "ttl", 1, PROTO_TTL_MAX_S, &command.ttl_s);
    if (err == 0)
        err = take_mentions(request, &command);
    if (err == 0)
        err = take_import(request, &command);
    if (err == 0)
        call_write(request->call, &command, write_answered);
    return err;
}

/* ---- edit, delete ---- */

static int take_target(struct request *request, Loquat__Command *command)
{
    return field_seq(request, "s", "must be the message's sequence", &command->target);
}

int op_edit(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_EDIT);
    const struct json_val *body = json_get(request->obj, "body");
    struct json_obj obj;
    /* What the target is shows where it is applied: a text needs a text body, any other kind takes
     * what has a `text` as well. */
    const struct json_val *text = NULL;
    if (body != NULL && json_open(request->conn->gate->json, body, &obj) == 0)
        text = json_get(&obj, "text");
    command.kind =
        text != NULL && text->type == JSON_STRING ? LOQUAT__KIND__KIND_TEXT : LOQUAT__KIND__KIND_X;
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = take_target(request, &command);
    if (err == 0)
        err = take_body(request, command.kind, &command);
    if (err == 0)
        call_write(request->call, &command, write_answered);
    return err;
}

int op_delete(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_DELETE);
    const struct json_val *who = json_get(request->obj, "for");
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = take_target(request, &command);
    if (err != 0)
        return err;
    if (who == NULL || who->type != JSON_STRING ||
        (!span_is(who->str, "me") && !span_is(who->str, "all")))
        return field_error(request, ERR_BAD_REQUEST, "for", "is all or me");
    if (span_is(who->str, "me"))
        command.op = LOQUAT__OP__OP_HIDE;
    call_write(request->call, &command, write_answered);
    return 0;
}

/* ---- react, pin ---- */

int op_react(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_REACT);
    const struct json_val *emoji = json_get(request->obj, "emoji");
    bool on = true;
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = take_target(request, &command);
    if (err == 0)
        err = field_switch(request, "on", &on);
    if (err != 0)
        return err;
    if (emoji == NULL || emoji->type != JSON_STRING || !emoji_valid(emoji->str))
        return field_error(request, ERR_BAD_REQUEST, "emoji", "is one emoji, or :name:");
    command.emoji = field_copy(request, emoji->str);
    command.on = on;
    call_write(request->call, &command, write_answered);
    return 0;
}

int op_pin(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_PIN);
    bool on = true;
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = take_target(request, &command);
    if (err == 0)
        err = field_switch(request, "on", &on);
    command.on = on;
    if (err == 0)
        call_write(request->call, &command, write_answered);
    return err;
}

/* ---- meta ---- */

/* A text that is given, null to take it away. */
static int take_setting(struct request *request, Loquat__Command *command, const char *name,
                        uint32_t field, size_t max, char **out)
{
    struct span text = {0};
    if (json_get(request->obj, name) == NULL)
        return 0;
    command->fields |= field;
    int err = field_text(request, name, max, &text);
    if (err == 0)
        *out = field_copy(request, text);
    return err;
}

static int take_lang(struct request *request, Loquat__Command *command)
{
    int err = take_setting(request, command, "lang", LOQUAT__META_FIELD__META_LANG, LANG_MAX,
                           &command->lang);
    if (err == 0 && !lang_valid(span_str(command->lang)))
        err = field_error(request, ERR_BAD_REQUEST, "lang",
                          "is a code of two or three letters, as en or de");
    return err;
}

/* *on: whether it is on; `field`, if it is given. */
static int take_switch(struct request *request, Loquat__Command *command, const char *name,
                       uint32_t field, bool *on)
{
    if (json_get(request->obj, name) == NULL)
        return 0;
    command->fields |= field;
    return field_switch(request, name, on);
}

static int take_history(struct request *request, Loquat__Command *command)
{
    const struct json_val *history = json_get(request->obj, "history");
    if (history == NULL)
        return 0;
    command->fields |= LOQUAT__META_FIELD__META_HISTORY;
    command->history_joined = history->type == JSON_STRING && span_is(history->str, "joined");
    if (!command->history_joined && (history->type != JSON_STRING || !span_is(history->str, "all")))
        return field_error(request, ERR_BAD_REQUEST, "history", "is all or joined");
    return 0;
}

int op_meta(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_META);
    bool announce = false, searchable = true;
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = take_setting(request, &command, "name", LOQUAT__META_FIELD__META_NAME, PROTO_NAME_MAX,
                           &command.name);
    if (err == 0)
        err = take_setting(request, &command, "topic", LOQUAT__META_FIELD__META_TOPIC,
                           PROTO_TOPIC_MAX, &command.topic);
    if (err == 0)
        err = take_history(request, &command);
    if (err == 0)
        err = field_whole(request, "ttl", 0, PROTO_TTL_MAX_S, &command.ttl_s);
    if (err == 0)
        err = take_switch(request, &command, "announce", LOQUAT__META_FIELD__META_ANNOUNCE,
                          &announce);
    if (err == 0)
        err = take_lang(request, &command);
    if (err == 0)
        err = take_switch(request, &command, "searchable", LOQUAT__META_FIELD__META_SEARCH,
                          &searchable);
    if (err != 0)
        return err;
    command.announce = announce;
    command.search_off = !searchable;
    if (json_get(request->obj, "ttl") != NULL)
        command.fields |= LOQUAT__META_FIELD__META_TTL;
    if (command.fields == 0)
        return field_error(request, ERR_BAD_REQUEST,
                           "name, topic, ttl, history, announce, lang or searchable",
                           "must be given");
    call_write(request->call, &command, write_answered);
    return 0;
}

/* ---- members ---- */

static int take_role(struct request *request, Loquat__Command *command)
{
    const struct json_val *role = json_get(request->obj, "role");
    if (role == NULL || role->type == JSON_NULL)
        return 0;
    command->role = role->type == JSON_STRING ? role_of(role->str) : 0;
    if (command->role == 0)
        return field_error(request, ERR_BAD_REQUEST, "role", "is owner, admin or member");
    return 0;
}

int op_member(struct request *request)
{
    static const char *const SETS[] = {"", "add", "remove", "role"};
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_MEMBER);
    const struct json_val *set = json_get(request->obj, "set");
    struct span user = {0};
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = field_user(request, "user", true, &user);
    if (err == 0)
        err = take_role(request, &command);
    if (err != 0)
        return err;
    for (uint32_t i = 1; i < 4; i++)
        if (set != NULL && span_is(set->str, SETS[i]))
            command.set = i;
    if (command.set == 0)
        return field_error(request, ERR_BAD_REQUEST, "set", "is add, remove or role");
    if (command.set == 3 && command.role == 0)
        return field_error(request, ERR_BAD_REQUEST, "role", "is owner, admin or member");
    command.who = field_copy(request, user);
    command.member_max = command.admin ? 0 : request->conn->gate->settings->group_max;
    call_write(request->call, &command, write_answered);
    return 0;
}

int op_leave(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_LEAVE);
    int err = write_take_cid(request, &command);
    if (err == 0)
        call_write(request->call, &command, write_answered);
    return err;
}

/* ---- mark ---- */

void write_done(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL)
        buf_add_str(text, "{}");
    call_ok(call);
}

/* How far the user has read a thread. */
static int mark_thread(struct request *request, Loquat__Command *command)
{
    command->op = LOQUAT__OP__OP_THREAD_MARK;
    if (json_get(request->obj, "delivered") != NULL || json_get(request->obj, "read") == NULL)
        return field_error(request, ERR_BAD_REQUEST, "read", "alone goes with thread");
    call_write(request->call, command, write_done);
    return 0;
}

int op_mark(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_MARK);
    int err = field_whole(request, "read", 0, PROTO_WHOLE_MAX, &command.read);
    if (err == 0)
        err = field_whole(request, "delivered", 0, PROTO_WHOLE_MAX, &command.delivered);
    if (err == 0)
        err = field_whole(request, "thread", 1, PROTO_WHOLE_MAX, &command.thread);
    if (err != 0)
        return err;
    if (command.thread != 0)
        return mark_thread(request, &command);
    if (json_get(request->obj, "read") == NULL && json_get(request->obj, "delivered") == NULL)
        return field_error(request, ERR_BAD_REQUEST, "read or delivered", "must be a sequence");
    if (request->call->has_id || request->call->http) {
        call_write(request->call, &command, write_done);
        return 0;
    }
    marks_add(request->conn->session, request->c, command.read, command.delivered);
    call_ok(request->call);
    return 0;
}

/* ---- prefs ---- */

static int take_draft(struct request *request, Loquat__Command *command)
{
    const struct json_val *draft = json_get(request->obj, "draft");
    if (draft == NULL)
        return 0;
    command->fields |= LOQUAT__PREF_FIELD__PREF_DRAFT;
    if (draft->type == JSON_NULL)
        return 0;
    if (draft->type != JSON_STRING || memchr(draft->str.p, 0, draft->str.n) != NULL)
        return field_error(request, ERR_BAD_REQUEST, "draft", "must be a text, or null");
    if (draft->str.n > DRAFT_MAX)
        return field_error(request, ERR_TOO_LARGE, "draft", "may have 4096 bytes at most");
    command->draft = field_copy(request, draft->str);
    return 0;
}

/* True when the field is there; null is false. */
static int take_pref(struct request *request, Loquat__Command *command, const char *name,
                     uint32_t field, bool *out)
{
    const struct json_val *val = json_get(request->obj, name);
    if (val == NULL)
        return 0;
    if (val->type != JSON_BOOL && val->type != JSON_NULL)
        return field_error(request, ERR_BAD_REQUEST, name, "is true or false");
    command->fields |= field;
    *out = val->type == JSON_BOOL && val->truth;
    return 0;
}

int op_prefs(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_PREFS);
    bool pinned = false, hidden = false;
    int err = field_whole(request, "muted_until", 0, PROTO_WHOLE_MAX, &command.muted_until);
    if (err == 0)
        err = take_pref(request, &command, "pinned", LOQUAT__PREF_FIELD__PREF_PINNED, &pinned);
    if (err == 0)
        err = take_pref(request, &command, "hidden", LOQUAT__PREF_FIELD__PREF_HIDDEN, &hidden);
    if (err == 0)
        err = take_draft(request, &command);
    if (err != 0)
        return err;
    command.pinned = pinned;
    command.hidden = hidden;
    if (json_get(request->obj, "muted_until") != NULL)
        command.fields |= LOQUAT__PREF_FIELD__PREF_MUTED;
    if (command.fields == 0)
        return field_error(request, ERR_BAD_REQUEST, "muted_until, pinned, hidden or draft",
                           "must be given");
    call_user(request->call);
    call_write(request->call, &command, write_done);
    return 0;
}

/* ---- open ---- */

static void on_opened(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0)
        call_fail_reply(call, reply);
    else
        read_conv_for(call);
}

static int open_direct(struct request *request, Loquat__Command *command)
{
    char id[MADE_ID_SIZE + 1];
    struct span with = {0};
    int err = field_user(request, "with", true, &with);
    if (err != 0)
        return err;
    command->conv_kind = LOQUAT__CONV_KIND__CONV_DIRECT;
    command->with = field_copy(request, with);
    direct_id(span_str(request->who->user), with, id);
    call_conv(request->call, span_str(id));
    return 0;
}

static int open_group(struct request *request, Loquat__Command *command)
{
    char id[MADE_ID_SIZE + 1];
    struct span name = {0}, topic = {0}, history = {0};
    const struct json_val *members = json_get(request->obj, "members");
    int err = write_take_cid(request, command);
    if (err == 0)
        err = field_text(request, "name", PROTO_NAME_MAX, &name);
    if (err == 0 && name.n == 0)
        return field_error(request, ERR_BAD_REQUEST, "name", "must be a text");
    if (err == 0)
        err = field_text(request, "topic", PROTO_TOPIC_MAX, &topic);
    if (err == 0)
        err = field_text(request, "history", PROTO_NAME_MAX, &history);
    if (err == 0)
        err = field_whole(request, "ttl", 1, PROTO_TTL_MAX_S, &command->ttl_s);
    if (err == 0 && members != NULL && members->type != JSON_NULL)
        err = field_users(request, "members", members, PROTO_MEMBERS_MAX, &command->members,
                          &command->n_members);
    if (err != 0)
        return err;
    if (history.n > 0 && !span_is(history, "all") && !span_is(history, "joined"))
        return field_error(request, ERR_BAD_REQUEST, "history", "is all or joined");
    command->conv_kind = LOQUAT__CONV_KIND__CONV_GROUP;
    command->history_joined = span_is(history, "joined");
    command->name = field_copy(request, name);
    command->topic = field_copy(request, topic);
    command->member_max = command->admin ? 0 : request->conn->gate->settings->group_max;
    group_id(span_str(request->who->user), span_str(command->cid), id);
    call_conv(request->call, span_str(id));
    return 0;
}

int op_open(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_OPEN);
    const struct json_val *kind = json_get(request->obj, "kind");
    int err;
    if (kind != NULL && span_is(kind->str, "direct"))
        err = open_direct(request, &command);
    else if (kind != NULL && span_is(kind->str, "group"))
        err = open_group(request, &command);
    else
        return field_error(request, ERR_BAD_REQUEST, "kind", "is direct or group");
    if (err == 0)
        call_write(request->call, &command, on_opened);
    return err;
}
