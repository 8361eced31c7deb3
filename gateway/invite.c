/* gateway/invite.c: invites by a link. A code is the conversation, the sequence of the invite's
 * record and its token, joined by dots: all that it takes to find it and to prove it. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum {
    INVITE_TOKEN_BYTES = 16,
    INVITE_TOKEN_SIZE = 2 * INVITE_TOKEN_BYTES,
    INVITE_CODE_MAX = CONV_ID_MAX + 1 + 20 + 1 + INVITE_TOKEN_SIZE,
    INVITE_S_DEFAULT = 7 * 86400,
    INVITE_S_MIN = 60,
    INVITE_S_MAX = 365 * 86400,
    INVITE_USES_MAX = 100000,
};

static void say_invite(struct buf *text, const char *conv, const Loquat__Invite *invite, bool all)
{
    char code[INVITE_CODE_MAX + 1];
    snprintf(code, sizeof code, "%s.%llu.%s", conv, (unsigned long long)invite->seq, invite->token);
    buf_add_str(text, "{\"s\":");
    json_put_u64(text, invite->seq);
    say_text_or_null(text, "code", code);
    say_number_or_null(text, "expires", invite->expires);
    say_number_or_null(text, "uses", invite->uses);
    if (all) {
        say_text_or_null(text, "by", invite->by);
        say_number_or_null(text, "created", invite->created);
        buf_add_str(text, ",\"used\":");
        json_put_u64(text, invite->used);
    }
    buf_add_byte(text, '}');
}

static bool ask_invites(struct call *call, bool all, upstream_done done)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_INVITES;
    read.partition = call->partition;
    read.user = call->conn->who->user;
    read.all = all;
    read.conv = call->conv;
    return call_read(call, &read, done);
}

/* ---- invite ---- */

static void on_given(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    uint64_t *seq = call->state;
    const Loquat__Invite *invite = NULL;
    for (size_t i = 0; i < reply->n_invites; i++)
        if (reply->invites[i]->seq == *seq)
            invite = reply->invites[i];
    free(seq);
    if (reply->err != 0 || invite == NULL) {
        call_fail(call, reply->err != 0 ? reply->err : ERR_NOT_FOUND,
                  "the invite works no more: ask for another one", 0);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL)
        say_invite(text, call->conv, invite, false);
    call_ok(call);
}

/* The first answer to this cid may have made it: its token is read, not remembered. Whoever made
 * it is told, though he may have left meanwhile, or be no admin any more. */
static void on_invited(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    if (!call_wanted(call)) {
        call_ok(call);
        return;
    }
    uint64_t *seq = xmalloc(sizeof *seq);
    *seq = reply->seq;
    call->state = seq;
    if (ask_invites(call, true, on_given))
        return;
    free(seq);
    call_fail(call, ERR_BUSY, NULL, 0);
}

int op_invite(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_INVITE);
    unsigned char bytes[INVITE_TOKEN_BYTES];
    char token[INVITE_TOKEN_SIZE + 1];
    command.expires_s = INVITE_S_DEFAULT;
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = field_whole(request, "expires_s", INVITE_S_MIN, INVITE_S_MAX, &command.expires_s);
    if (err == 0)
        err = field_whole(request, "uses", 1, INVITE_USES_MAX, &command.uses);
    if (err != 0)
        return err;
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
    command.token = token;
    call_write(request->call, &command, on_invited);
    return 0;
}

/* ---- uninvite, invites ---- */

int op_uninvite(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_UNINVITE);
    int err = write_take_cid(request, &command);
    if (err == 0)
        err = field_seq(request, "s", "must be the invite's sequence", &command.target);
    if (err == 0)
        call_write(request->call, &command, write_answered);
    return err;
}

static void on_invites(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail(call, reply->err,
                  reply->err == ERR_FORBIDDEN ? "only an owner or admin sees invites" : reply->msg,
                  reply->after_ms);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL) {
        buf_add_str(text, "{\"invites\":[");
        for (size_t i = 0; i < reply->n_invites; i++) {
            if (i > 0)
                buf_add_byte(text, ',');
            say_invite(text, call->conv, reply->invites[i], true);
        }
        buf_add_str(text, "]}");
    }
    call_ok(call);
}

int op_invites(struct request *request)
{
    bool all = (request->conn->who->scope & JWT_SCOPE_ADMIN) != 0;
    return ask_invites(request->call, all, on_invites) ? 0 : ERR_BUSY;
}

/* ---- join ---- */

static void on_joined(void *owner, const Loquat__Reply *reply)
{
    if (reply->err != 0)
        call_fail_reply(owner, reply);
    else
        read_conv_for(owner);
}

/* Taken apart from its end: a conversation's id may have dots in it. */
static bool take_code(struct request *request, struct span code, Loquat__Command *command)
{
    char *text = field_copy(request, code), *token = strrchr(text, '.'), *end = NULL;
    if (token == NULL)
        return false;
    *token++ = '\0';
    char *seq = strrchr(text, '.');
    if (seq == NULL || seq[1] < '1' || seq[1] > '9')
        return false;
    *seq++ = '\0';
    command->target = strtoull(seq, &end, 10);
    command->token = token;
    if (*end != '\0' || command->target > PROTO_WHOLE_MAX || strlen(token) != INVITE_TOKEN_SIZE ||
        !conv_name_valid(span_str(text)))
        return false;
    call_conv(request->call, span_str(text));
    return true;
}

int op_join(struct request *request)
{
    Loquat__Command command = write_command(request, LOQUAT__OP__OP_JOIN);
    const struct json_val *code = json_get(request->obj, "code");
    int err = write_take_cid(request, &command);
    if (err != 0)
        return err;
    if (code == NULL || code->type != JSON_STRING || !text_is_clean(code->str))
        return field_error(request, ERR_BAD_REQUEST, "code", "must be that of an invite");
    if (code->str.n > INVITE_CODE_MAX || !take_code(request, code->str, &command))
        return field_error(request, ERR_NOT_FOUND, "no such invite,", "or it works no more");
    command.member_max = command.admin ? 0 : request->conn->gate->settings->group_max;
    call_write(request->call, &command, on_joined);
    return 0;
}
