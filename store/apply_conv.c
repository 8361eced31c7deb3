/* store/apply_conv.c: commands about conversations as such: opening, retention. */
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/record.h"
#include "store/membership.h"

enum { OPEN_SETTLES_MS = 60000 };

/* ---- open ---- */

static void append_open(struct apply *apply, struct conv *conv, const Loquat__Command *command)
{
    struct buf body = {0};
    buf_add_str(&body, command->conv_kind == LOQUAT__CONV_KIND__CONV_DIRECT
                           ? "{\"kind\":\"direct\""
                           : "{\"kind\":\"group\"");
    if (command->name[0] != 0) {
        buf_add_str(&body, ",\"name\":");
        json_put_string(&body, span_str(command->name));
    }
    if (command->topic[0] != 0) {
        buf_add_str(&body, ",\"topic\":");
        json_put_string(&body, span_str(command->topic));
    }
    buf_add_str(&body, "}");
    state_append_body(apply, conv, command, LOQUAT__KIND__KIND_META, &body);
}

/* All members of a new conversation, the opener first. */
static int join_all(struct apply *apply, struct conv *conv, const Loquat__Command *command,
                    char **users, size_t *count)
{
    bool direct = command->conv_kind == LOQUAT__CONV_KIND__CONV_DIRECT;
    uint32_t first = direct ? LOQUAT__ROLE__ROLE_MEMBER : LOQUAT__ROLE__ROLE_OWNER;
    bool joined = false;
    int err = membership_join(apply, conv, span_str(command->user), first, 1, &joined);
    users[(*count)++] = command->user;
    if (direct && err == 0) {
        err = membership_join(apply, conv, span_str(command->with), first, 1, &joined);
        if (joined)
            users[(*count)++] = command->with;
    }
    for (size_t i = 0; !direct && err == 0 && i < command->n_members; i++) {
        if (command->members[i][0] == 0 || strlen(command->members[i]) > USER_MAX)
            continue;
        err = membership_join(apply, conv, span_str(command->members[i]), LOQUAT__ROLE__ROLE_MEMBER,
                              1, &joined);
        if (joined)
            users[(*count)++] = command->members[i];
    }
    return err;
}

/* Opened before: only who is in it learns that, others get what a stranger gets. */
static int open_again(struct apply *apply, struct conv *conv, const Loquat__Command *command)
{
    bool direct = command->conv_kind == LOQUAT__CONV_KIND__CONV_DIRECT;
    Loquat__ConvHeader *header = conv->header;
    bool fits = header->kind == command->conv_kind;
    if (direct)
        fits = fits && ((strcmp(header->user_a, command->user) == 0 &&
                         strcmp(header->user_b, command->with) == 0) ||
                        (strcmp(header->user_b, command->user) == 0 &&
                         strcmp(header->user_a, command->with) == 0));
    if (!fits)
        return state_refuse(apply, ERR_CONFLICT, "the id of this conversation is taken");
    apply->result->dup = true;
    apply->result->seq = 1;
    /* The list of who asks may not have it yet, when the first opening was a moment ago: this
     * answer waits until it has. */
    struct member *member = NULL;
    int err = state_member(apply, conv, span_str(command->user), &member);
    if (err == 0 && state_member_active(member) &&
        apply->now_ms < conv->header->created + OPEN_SETTLES_MS)
        membership_tell(apply, conv, command->user, false, member->row->joined_seq);
    return err == ERR_NOT_FOUND ? 0 : err;
}

int apply_op_open(struct apply *apply, const Loquat__Command *command)
{
    bool direct = command->conv_kind == LOQUAT__CONV_KIND__CONV_DIRECT;
    if (!direct && command->conv_kind != LOQUAT__CONV_KIND__CONV_GROUP)
        return state_refuse(apply, ERR_BAD_REQUEST, "kind is direct or group");
    char id[MADE_ID_SIZE + 1];
    if (direct)
        direct_id(span_str(command->user), span_str(command->with), id);
    else
        group_id(span_str(command->user), span_str(command->cid), id);
    if (strcmp(id, command->conv) != 0)
        return state_refuse(apply, ERR_BAD_REQUEST, "the id is not that of this conversation");
    if (!direct && command->member_max > 0 && command->n_members + 1 > command->member_max)
        return state_refuse(apply, ERR_TOO_LARGE, "too many members for one group");

    struct conv *conv = NULL;
    int err = state_conv(apply, span_str(id), &conv);
    if (err == 0)
        return open_again(apply, conv, command);
    if (err == ERR_CONFLICT)
        return state_refuse(apply, ERR_CONFLICT, "the id of this conversation is taken");
    uint32_t blocked = 0;
    if (err == ERR_NOT_FOUND)
        err = direct ? apply_load_blocked(apply, command->user, command->with, &blocked) : 0;
    if (err != 0)
        return err;
    if ((blocked & BLOCKED_BY_B) != 0 && !command->admin)
        return state_refuse(apply, ERR_FORBIDDEN, "you can't write to this user");

    conv = state_conv_new(apply, span_str(id), command->conv_kind);
    Loquat__ConvHeader *header = conv->header;
    state_text_set(&header->name, command->name);
    state_text_set(&header->topic, command->topic);
    header->history_joined = command->history_joined;
    header->ttl_s = command->ttl_s;
    header->created = apply->now_ms;
    if (direct) {
        state_text_set(&header->user_a, command->user);
        state_text_set(&header->user_b, command->with);
        header->blocked = blocked;
    }
    append_open(apply, conv, command);
    char **users = arena_alloc(&apply->arena, (command->n_members + 2) * sizeof *users);
    size_t count = 0;
    err = join_all(apply, conv, command, users, &count);
    if (err != 0)
        return err;
    state_conv_save(apply, conv);
    membership_tell_all(apply, conv, users, count, 1);
    return 0;
}

/* ---- retention: what lies below the floor is gone for every reader at once ---- */

static void drop_pins(Loquat__ConvHeader *header)
{
    size_t kept = 0;
    for (size_t i = 0; i < header->n_pins; i++)
        if (header->pins[i] >= header->floor)
            header->pins[kept++] = header->pins[i];
    header->n_pins = kept;
}

int apply_op_retain(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    int err = state_conv(apply, span_str(command->conv), &conv);
    if (err == ERR_NOT_FOUND || err == ERR_CONFLICT)
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    if (err != 0)
        return err;
    if (!command->admin)
        return state_refuse(apply, ERR_FORBIDDEN, "retention is an operator's");
    uint64_t floor = command->floor <= conv->head + 1 ? command->floor : conv->head + 1;
    if (floor > conv->header->floor) {
        Loquat__Record *last = NULL; /* the last one that goes: unread counts from its ordinal */
        err = floor > 1 ? state_record(apply, conv, floor - 1, &apply->arena, &last) : 0;
        if (err != 0 && err != ERR_NOT_FOUND)
            return err;
        if (last != NULL)
            conv->header->expired = record_n(last, floor - 1);
        conv->header->floor = floor;
        drop_pins(conv->header);
        state_conv_save(apply, conv);
    }
    apply->result->seq = conv->header->floor > 0 ? conv->header->floor : 1;
    return 0;
}
