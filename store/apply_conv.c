/* store/apply_conv.c: commands about conversations and who is in them. */
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/record.h"
#include "store/state.h"

enum {
    OPEN_SETTLES_MS = 60000,
    OUT_BYTES_TARGET = 32 << 10,
    SET_ADD = 1,
    SET_REMOVE = 2,
    SET_ROLE = 3
};

/* ---- effects on the lists of users ---- */

/* Sends `effects` (all of one partition) there, in commands of bounded size. */
static void send_effects(struct apply *apply, uint32_t partition, Loquat__UserEffect **effects,
                         size_t count)
{
    size_t at = 0;
    while (at < count) {
        size_t bytes = 0, n = 0;
        while (at + n < count && (n == 0 || bytes < OUT_BYTES_TARGET)) {
            bytes += loquat__user_effect__get_packed_size(effects[at + n]) + 4;
            n++;
        }
        Loquat__Command command = LOQUAT__COMMAND__INIT;
        command.op = LOQUAT__OP__OP_USER_EFFECT;
        command.effects = effects + at;
        command.n_effects = n;
        state_out(apply, partition, &command);
        at += n;
    }
}

static Loquat__UserEffect *effect_new(struct apply *apply, const struct conv *conv, char *user,
                                      bool gone, uint64_t stamp)
{
    Loquat__UserEffect *effect = arena_alloc(&apply->arena, sizeof *effect);
    loquat__user_effect__init(effect);
    effect->user = user;
    effect->conv = conv->header->id;
    effect->gone = gone;
    effect->stamp = stamp;
    effect->ts = apply->now_ms;
    return effect;
}

static void one_effect(struct apply *apply, const struct conv *conv, char *user, bool gone,
                       uint64_t stamp)
{
    Loquat__UserEffect *effect = effect_new(apply, conv, user, gone, stamp);
    uint32_t partition = partition_of(user_log_id(span_str(user)), apply->partitions);
    send_effects(apply, partition, &effect, 1);
}

static void many_effects(struct apply *apply, const struct conv *conv, char **users, size_t count,
                         uint64_t stamp)
{
    Loquat__UserEffect **effects = arena_alloc(&apply->arena, (count + 1) * sizeof(void *));
    for (uint32_t p = 0; p < apply->partitions; p++) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if (partition_of(user_log_id(span_str(users[i])), apply->partitions) == p)
                effects[n++] = effect_new(apply, conv, users[i], false, stamp);
        send_effects(apply, p, effects, n);
    }
}

/* ---- open ---- */

/* Makes the user a member, or an old one again. Returns false when already in. */
static int join(struct apply *apply, struct conv *conv, struct span user, uint32_t role,
                uint64_t seq, bool *joined)
{
    struct member *member = NULL;
    int err = state_member(apply, conv, user, &member);
    if (err == ERR_NOT_FOUND) {
        member = state_member_new(apply, conv, user);
        err = 0;
    }
    *joined = err == 0 && !state_member_active(member);
    if (err != 0 || !*joined)
        return err;
    Loquat__Member *row = member->row;
    row->role = role;
    row->joined = apply->now_ms;
    row->joined_seq = seq;
    row->left_seq = 0;
    /* What came before is not unread, and is not sent again. */
    row->read = seq > 0 ? seq : conv->head;
    row->read_n = conv->n;
    row->delivered = row->read;
    conv->header->members++;
    if (role == LOQUAT__ROLE__ROLE_OWNER)
        conv->header->owners++;
    state_member_save(apply, member);
    return 0;
}

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
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_META;
    record.from = command->user;
    record.cid = command->cid;
    record.body = (ProtobufCBinaryData){body.n, (uint8_t *)body.p};
    state_append(apply, conv, &record, apply->result);
    buf_close(&body);
}

/* All members of a new conversation, the opener first. */
static int join_all(struct apply *apply, struct conv *conv, const Loquat__Command *command,
                    char **users, size_t *count)
{
    bool direct = command->conv_kind == LOQUAT__CONV_KIND__CONV_DIRECT;
    uint32_t first = direct ? LOQUAT__ROLE__ROLE_MEMBER : LOQUAT__ROLE__ROLE_OWNER;
    bool joined = false;
    int err = join(apply, conv, span_str(command->user), first, 1, &joined);
    users[(*count)++] = command->user;
    if (direct && err == 0) {
        err = join(apply, conv, span_str(command->with), first, 1, &joined);
        if (joined)
            users[(*count)++] = command->with;
    }
    for (size_t i = 0; !direct && err == 0 && i < command->n_members; i++) {
        if (command->members[i][0] == 0 || strlen(command->members[i]) > USER_MAX)
            continue;
        err =
            join(apply, conv, span_str(command->members[i]), LOQUAT__ROLE__ROLE_MEMBER, 1, &joined);
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
        one_effect(apply, conv, command->user, false, member->row->joined_seq);
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
    if (err != ERR_NOT_FOUND)
        return err;

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
    }
    append_open(apply, conv, command);
    char **users = arena_alloc(&apply->arena, (command->n_members + 2) * sizeof *users);
    size_t count = 0;
    err = join_all(apply, conv, command, users, &count);
    if (err != 0)
        return err;
    state_conv_save(apply, conv);
    many_effects(apply, conv, users, count, 1);
    return 0;
}

/* ---- members ---- */

static void member_body(struct buf *body, const char *user, const char *set, uint32_t role)
{
    buf_add_str(body, "{\"user\":");
    json_put_string(body, span_str(user));
    buf_addf(body, ",\"set\":\"%s\"", set);
    if (role != LOQUAT__ROLE__ROLE_NONE)
        buf_addf(body, ",\"role\":\"%s\"", role_name(role));
    buf_add_str(body, "}");
}

static bool same_member(const Loquat__Record *record, const Loquat__Command *command)
{
    struct buf body = {0};
    if (command->op == LOQUAT__OP__OP_LEAVE)
        member_body(&body, command->user, "remove", LOQUAT__ROLE__ROLE_NONE);
    else
        member_body(&body, command->who,
                    command->set == SET_ADD      ? "add"
                    : command->set == SET_REMOVE ? "remove"
                                                 : "role",
                    command->set == SET_REMOVE ? LOQUAT__ROLE__ROLE_NONE : command->role);
    bool same = record->kind == LOQUAT__KIND__KIND_MEMBER &&
                span_eq(buf_span(&body), span_of(record->body.data, record->body.len));
    buf_close(&body);
    return same;
}

static uint64_t append_member(struct apply *apply, struct conv *conv,
                              const Loquat__Command *command, const char *user, const char *set,
                              uint32_t role)
{
    struct buf body = {0};
    member_body(&body, user, set, role);
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_MEMBER;
    record.from = command->user;
    record.cid = command->cid;
    record.body = (ProtobufCBinaryData){body.n, (uint8_t *)body.p};
    uint64_t seq = state_append(apply, conv, &record, apply->result);
    buf_close(&body);
    return seq;
}

static void take_out(struct apply *apply, struct conv *conv, struct member *member,
                     const Loquat__Command *command)
{
    Loquat__Member *row = member->row;
    uint64_t seq =
        append_member(apply, conv, command, row->user, "remove", LOQUAT__ROLE__ROLE_NONE);
    if (row->role == LOQUAT__ROLE__ROLE_OWNER)
        conv->header->owners--;
    conv->header->members--;
    row->role = LOQUAT__ROLE__ROLE_NONE;
    row->left_seq = seq;
    state_member_save(apply, member);
    state_conv_save(apply, conv);
    one_effect(apply, conv, row->user, true, seq);
}

static int member_add(struct apply *apply, struct conv *conv, struct member *target,
                      const Loquat__Command *command, uint32_t own)
{
    if (target != NULL && state_member_active(target))
        return 0; /* in already: nothing to record, seq 0 */
    uint32_t role = command->role != 0 ? command->role : LOQUAT__ROLE__ROLE_MEMBER;
    if (role > own)
        return state_refuse(apply, ERR_FORBIDDEN, "nobody gives a role above the own");
    if (command->member_max > 0 && conv->header->members >= command->member_max)
        return state_refuse(apply, ERR_TOO_LARGE, "the group is full");
    uint64_t seq = append_member(apply, conv, command, command->who, "add", command->role);
    bool joined = false;
    int err = join(apply, conv, span_str(command->who), role, seq, &joined);
    if (err != 0)
        return err;
    state_conv_save(apply, conv);
    one_effect(apply, conv, command->who, false, seq);
    return 0;
}

static int member_role(struct apply *apply, struct conv *conv, struct member *target,
                       const Loquat__Command *command, uint32_t own)
{
    Loquat__Member *row = target->row;
    uint32_t role = command->role;
    if (role == LOQUAT__ROLE__ROLE_NONE || role > LOQUAT__ROLE__ROLE_OWNER)
        return state_refuse(apply, ERR_BAD_REQUEST, "role is owner, admin or member");
    if (role == row->role)
        return 0;
    if (role > own)
        return state_refuse(apply, ERR_FORBIDDEN, "nobody gives a role above the own");
    if (row->role == LOQUAT__ROLE__ROLE_OWNER && conv->header->owners == 1)
        return state_refuse(apply, ERR_CONFLICT, "a group needs an owner: make another one first");
    append_member(apply, conv, command, row->user, "role", role);
    if (row->role == LOQUAT__ROLE__ROLE_OWNER)
        conv->header->owners--;
    if (role == LOQUAT__ROLE__ROLE_OWNER)
        conv->header->owners++;
    row->role = role;
    state_member_save(apply, target);
    state_conv_save(apply, conv);
    return 0;
}

int apply_op_member(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *actor = NULL, *target = NULL;
    int err = apply_begin(apply, command, same_member, &conv, &actor);
    if (err != 0 || conv == NULL)
        return err;
    if (conv->header->kind != LOQUAT__CONV_KIND__CONV_GROUP)
        return state_refuse(apply, ERR_BAD_REQUEST, "a direct conversation has its two members");
    if (command->who[0] == 0)
        return state_refuse(apply, ERR_BAD_REQUEST, "user is missing");
    uint32_t own = command->admin ? LOQUAT__ROLE__ROLE_OWNER : actor->row->role;
    if (own < LOQUAT__ROLE__ROLE_ADMIN)
        return state_refuse(apply, ERR_FORBIDDEN, "only an owner or admin changes members");
    err = state_member(apply, conv, span_str(command->who), &target);
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    if (err == ERR_NOT_FOUND)
        target = NULL;
    if (command->set == SET_ADD)
        return member_add(apply, conv, target, command, own);
    if (target == NULL || !state_member_active(target))
        return state_refuse(apply, ERR_NOT_FOUND, "no such member");
    if (target->row->role >= own && own < LOQUAT__ROLE__ROLE_OWNER && target != actor)
        return state_refuse(apply, ERR_FORBIDDEN, "only an owner changes owners and admins");
    if (command->set == SET_ROLE)
        return member_role(apply, conv, target, command, own);
    if (command->set != SET_REMOVE)
        return state_refuse(apply, ERR_BAD_REQUEST, "set is add, remove or role");
    if (target->row->role == LOQUAT__ROLE__ROLE_OWNER && conv->header->owners == 1)
        return state_refuse(apply, ERR_CONFLICT, "a group needs an owner: make another one first");
    take_out(apply, conv, target, command);
    return 0;
}

int apply_op_leave(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    int err = state_conv(apply, span_str(command->conv), &conv);
    struct member *member = NULL;
    if (err == 0)
        err = state_member(apply, conv, span_str(command->user), &member);
    if (err == ERR_NOT_FOUND || err == ERR_CONFLICT)
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    if (err != 0)
        return err;
    /* Asked before membership: a retry after the first answer is from somebody who has left. */
    bool found = false;
    err = apply_first_answer(apply, conv, command, same_member, &found);
    if (err != 0 || found)
        return err;
    if (!state_member_active(member))
        return state_refuse(apply, ERR_NOT_FOUND, "no such conversation");
    if (conv->header->kind != LOQUAT__CONV_KIND__CONV_GROUP)
        return state_refuse(apply, ERR_BAD_REQUEST, "a direct conversation can't be left");
    if (member->row->role == LOQUAT__ROLE__ROLE_OWNER && conv->header->owners == 1 &&
        conv->header->members > 1)
        return state_refuse(apply, ERR_CONFLICT, "hand the group over to another owner first");
    take_out(apply, conv, member, command);
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
