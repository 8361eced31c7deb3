#include "store/membership.h"

#include "store/base/check.h"
#include "store/base/err.h"

enum { OUT_BYTES_TARGET = 32 << 10 };

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

void membership_tell(struct apply *apply, const struct conv *conv, char *user, bool gone,
                     uint64_t stamp)
{
    Loquat__UserEffect *effect = effect_new(apply, conv, user, gone, stamp);
    uint32_t partition = partition_of(user_log_id(span_str(user)), apply->partitions);
    send_effects(apply, partition, &effect, 1);
}

void membership_tell_all(struct apply *apply, const struct conv *conv, char **users, size_t count,
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

/* ---- roles, and since when ---- */

static void add_role(Loquat__Member *row, uint64_t seq, uint32_t role)
{
    if (row->n_roles == MEMBER_ROLES_MAX) { /* the oldest is forgotten */
        loquat__role_since__free_unpacked(row->roles[0], NULL);
        row->n_roles--;
        memmove(row->roles, row->roles + 1, row->n_roles * sizeof *row->roles);
    }
    row->roles = xrealloc(row->roles, (row->n_roles + 1) * sizeof *row->roles);
    Loquat__RoleSince *since = xmalloc(sizeof *since);
    loquat__role_since__init(since);
    since->seq = seq;
    since->role = role;
    row->roles[row->n_roles++] = since;
}

void membership_set_role(struct apply *apply, Loquat__Member *row, uint64_t seq, uint32_t role)
{
    bool first = row->n_roles == 0 && (row->joined_seq != 0 || row->left_seq != 0);
    if (apply->entry_version >= ENTRY_VERSION_SOCIAL) {
        if (first) /* of before there was such a list */
            add_role(row, row->role != LOQUAT__ROLE__ROLE_NONE ? row->joined_seq : row->left_seq,
                     row->role);
        add_role(row, seq, role);
    }
    row->role = role;
}

uint32_t membership_role_at(const Loquat__Member *row, uint64_t seq)
{
    if (row->n_roles == 0)
        return row->joined_seq <= seq ? row->role : LOQUAT__ROLE__ROLE_NONE;
    uint32_t role = LOQUAT__ROLE__ROLE_NONE;
    for (size_t i = 0; i < row->n_roles && row->roles[i]->seq <= seq; i++)
        role = row->roles[i]->role;
    return role;
}

uint64_t membership_joined_at(const Loquat__Member *row, uint64_t seq)
{
    if (row->joined_seq <= seq)
        return row->joined_seq;
    uint64_t joined = 0;
    bool in = false;
    for (size_t i = 0; i < row->n_roles && row->roles[i]->seq <= seq; i++) {
        if (!in)
            joined = row->roles[i]->seq;
        in = row->roles[i]->role != LOQUAT__ROLE__ROLE_NONE;
    }
    return joined;
}

/* ---- in and out ---- */

/* Makes the user a member, or an old one again. Returns false when already in. */
int membership_join(struct apply *apply, struct conv *conv, struct span user, uint32_t role,
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
    membership_set_role(apply, row, seq, role);
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

void membership_end(struct apply *apply, struct conv *conv, struct member *member, uint64_t seq,
                    bool removed)
{
    Loquat__Member *row = member->row;
    if (row->role == LOQUAT__ROLE__ROLE_OWNER)
        conv->header->owners--;
    conv->header->members--;
    membership_set_role(apply, row, seq, LOQUAT__ROLE__ROLE_NONE);
    row->left_seq = seq;
    row->removed = removed && apply->entry_version >= ENTRY_VERSION_SOCIAL;
    state_member_save(apply, member);
    state_conv_save(apply, conv);
    membership_tell(apply, conv, row->user, true, seq);
}
