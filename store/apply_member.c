/* store/apply_member.c: commands about who is in a conversation, and in which role. */
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/record.h"
#include "store/membership.h"

enum { SET_ADD = 1, SET_REMOVE = 2, SET_ROLE = 3 };

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
    return state_same_body(record, LOQUAT__KIND__KIND_MEMBER, &body);
}

static uint64_t append_member(struct apply *apply, struct conv *conv,
                              const Loquat__Command *command, const char *user, const char *set,
                              uint32_t role)
{
    struct buf body = {0};
    member_body(&body, user, set, role);
    return state_append_body(apply, conv, command, LOQUAT__KIND__KIND_MEMBER, &body);
}

static void take_out(struct apply *apply, struct conv *conv, struct member *member,
                     const Loquat__Command *command)
{
    const char *user = member->row->user;
    uint64_t seq = append_member(apply, conv, command, user, "remove", LOQUAT__ROLE__ROLE_NONE);
    membership_end(apply, conv, member, seq, strcmp(command->user, user) != 0);
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
    int err = membership_join(apply, conv, span_str(command->who), role, seq, &joined);
    if (err != 0)
        return err;
    state_conv_save(apply, conv);
    membership_tell(apply, conv, command->who, false, seq);
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
    uint64_t seq = append_member(apply, conv, command, row->user, "role", role);
    if (row->role == LOQUAT__ROLE__ROLE_OWNER)
        conv->header->owners--;
    if (role == LOQUAT__ROLE__ROLE_OWNER)
        conv->header->owners++;
    membership_set_role(apply, row, seq, role);
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
