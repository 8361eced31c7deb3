/* store/apply_invite.c: invites by a link: made, taken back, used. Whoever knows the token of one
 * joins; it stands in the header alone, its record does not show it. */
#include <openssl/crypto.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/json.h"
#include "store/base/record.h"
#include "store/membership.h"

bool apply_invite_works(const Loquat__Invite *invite, uint64_t now_ms)
{
    return invite->expires > now_ms && (invite->uses == 0 || invite->used < invite->uses);
}

static size_t invite_at(const Loquat__ConvHeader *header, uint64_t seq)
{
    size_t i = 0;
    while (i < header->n_invites && header->invites[i]->seq != seq)
        i++;
    return i;
}

static void drop_at(Loquat__ConvHeader *header, size_t at)
{
    loquat__invite__free_unpacked(header->invites[at], NULL);
    header->n_invites--;
    memmove(header->invites + at, header->invites + at + 1,
            (header->n_invites - at) * sizeof *header->invites);
}

static void drop_ended(Loquat__ConvHeader *header, uint64_t now_ms)
{
    for (size_t i = header->n_invites; i > 0; i--)
        if (!apply_invite_works(header->invites[i - 1], now_ms))
            drop_at(header, i - 1);
}

/* Whether a user may give and take back invites of this group; else that is refused. */
static bool may_invite(struct apply *apply, const struct conv *conv, const struct member *member,
                       const Loquat__Command *command)
{
    if (conv->header->kind != LOQUAT__CONV_KIND__CONV_GROUP) {
        (void)state_refuse(apply, ERR_BAD_REQUEST, "a direct conversation has its two members");
        return false;
    }
    if (command->admin || (member != NULL && member->row->role >= LOQUAT__ROLE__ROLE_ADMIN))
        return true;
    (void)state_refuse(apply, ERR_FORBIDDEN, "only an owner or admin invites by a link");
    return false;
}

/* ---- invite ---- */

static void put_ends(struct buf *body, uint64_t expires, uint64_t uses)
{
    buf_add_str(body, "{\"expires\":");
    json_put_u64(body, expires);
    buf_add_str(body, ",\"uses\":");
    if (uses != 0)
        json_put_u64(body, uses);
    else
        buf_add_str(body, "null");
    buf_add_byte(body, '}');
}

/* By what was asked for; the token is another one each time. */
static bool same_invite(const Loquat__Record *record, const Loquat__Command *command)
{
    struct buf body = {0};
    put_ends(&body, record->ts + command->expires_s * 1000, command->uses);
    return state_same_body(record, LOQUAT__KIND__KIND_INVITE, &body);
}

static void add_invite(Loquat__ConvHeader *header, uint64_t seq, const Loquat__Command *command,
                       uint64_t now_ms)
{
    Loquat__Invite *invite = xmalloc(sizeof *invite);
    loquat__invite__init(invite);
    invite->seq = seq;
    invite->token = xstrdup(command->token);
    invite->by = xstrdup(command->user);
    invite->created = now_ms;
    invite->expires = now_ms + command->expires_s * 1000;
    invite->uses = command->uses;
    header->invites = xrealloc(header->invites, (header->n_invites + 1) * sizeof(void *));
    header->invites[header->n_invites++] = invite;
}

int apply_op_invite(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_invite, &conv, &member);
    if (err != 0 || conv == NULL || !may_invite(apply, conv, member, command))
        return err;
    if (strlen(command->token) < INVITE_TOKEN_MIN || strlen(command->token) > INVITE_TOKEN_MAX ||
        command->expires_s == 0 || command->expires_s > INVITE_MAX_S)
        return state_refuse(apply, ERR_BAD_REQUEST, "an invite has a token and an end");
    drop_ended(conv->header, apply->now_ms);
    if (conv->header->n_invites == INVITES_MAX)
        return state_refuse(apply, ERR_TOO_LARGE,
                            "the group has as many invites as can be: take one back first");
    struct buf body = {0};
    put_ends(&body, apply->now_ms + command->expires_s * 1000, command->uses);
    uint64_t seq = state_append_body(apply, conv, command, LOQUAT__KIND__KIND_INVITE, &body);
    add_invite(conv->header, seq, command, apply->now_ms);
    state_conv_save(apply, conv);
    return 0;
}

/* ---- uninvite ---- */

static bool same_uninvite(const Loquat__Record *record, const Loquat__Command *command)
{
    return record->kind == LOQUAT__KIND__KIND_UNINVITE && record->target == command->target;
}

int apply_op_uninvite(struct apply *apply, const Loquat__Command *command)
{
    struct conv *conv = NULL;
    struct member *member = NULL;
    int err = apply_begin(apply, command, same_uninvite, &conv, &member);
    if (err != 0 || conv == NULL || !may_invite(apply, conv, member, command))
        return err;
    size_t at = invite_at(conv->header, command->target);
    if (at == conv->header->n_invites)
        return state_refuse(apply, ERR_NOT_FOUND, "no such invite");
    drop_at(conv->header, at);
    Loquat__Record record = LOQUAT__RECORD__INIT;
    record.kind = LOQUAT__KIND__KIND_UNINVITE;
    record.from = command->user;
    record.cid = command->cid;
    record.target = command->target;
    state_append(apply, conv, &record, apply->result);
    state_conv_save(apply, conv);
    return 0;
}

/* ---- join ---- */

static void join_body(struct buf *body, const Loquat__Command *command)
{
    buf_add_str(body, "{\"user\":");
    json_put_string(body, span_str(command->user));
    buf_add_str(body, ",\"set\":\"add\",\"invite\":");
    json_put_u64(body, command->target);
    buf_add_byte(body, '}');
}

static bool same_join(const Loquat__Record *record, const Loquat__Command *command)
{
    struct buf body = {0};
    join_body(&body, command);
    return state_same_body(record, LOQUAT__KIND__KIND_MEMBER, &body);
}

/* In constant time: what is asked for is whether it was guessed. */
static bool token_is(const Loquat__Invite *invite, const char *token)
{
    size_t n = strlen(invite->token);
    return strlen(token) == n && CRYPTO_memcmp(invite->token, token, n) == 0;
}

static int join(struct apply *apply, struct conv *conv, Loquat__Invite *invite,
                const Loquat__Command *command)
{
    struct buf body = {0};
    join_body(&body, command);
    uint64_t seq = state_append_body(apply, conv, command, LOQUAT__KIND__KIND_MEMBER, &body);
    bool joined = false;
    int err = membership_join(apply, conv, span_str(command->user), LOQUAT__ROLE__ROLE_MEMBER, seq,
                              &joined);
    if (err != 0)
        return err;
    invite->used++;
    state_conv_save(apply, conv);
    membership_tell(apply, conv, command->user, false, seq);
    return 0;
}

/* Every answer to who is no member is the same, unless the token is right. */
int apply_op_join(struct apply *apply, const Loquat__Command *command)
{
    static const char NO[] = "no such invite, or it works no more";
    struct conv *conv = NULL;
    int err = state_conv_named(apply, apply->conv_id, span_str(command->conv), &conv);
    if (err == ERR_NOT_FOUND || err == ERR_CONFLICT)
        return state_refuse(apply, ERR_NOT_FOUND, NO);
    struct member *member = NULL;
    if (err == 0)
        err = state_member(apply, conv, span_str(command->user), &member);
    if (err == ERR_NOT_FOUND)
        member = NULL;
    else if (err != 0)
        return err;
    bool found = false;
    err = member != NULL ? apply_first_answer(apply, conv, command, same_join, &found) : 0;
    if (err != 0 || found)
        return err;
    if (member != NULL && state_member_active(member))
        return 0; /* in already: seq 0 */
    Loquat__ConvHeader *header = conv->header;
    size_t at = invite_at(header, command->target);
    if (at == header->n_invites || !token_is(header->invites[at], command->token) ||
        !apply_invite_works(header->invites[at], apply->now_ms))
        return state_refuse(apply, ERR_NOT_FOUND, NO);
    if (member != NULL && member->row->removed)
        return state_refuse(apply, ERR_FORBIDDEN,
                            "you were taken out of this group: somebody has to add you");
    if (command->member_max > 0 && header->members >= command->member_max)
        return state_refuse(apply, ERR_TOO_LARGE, "the group is full");
    return join(apply, conv, header->invites[at], command);
}
