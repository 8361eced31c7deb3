/* tests/store/model_lib.h: a state machine that is obviously right: conversations are arrays, and
 * every question is answered by counting. For model_test.c. */
#ifndef LOQUAT_TESTS_STORE_MODEL_LIB_H
#define LOQUAT_TESTS_STORE_MODEL_LIB_H

#include <stdio.h>
#include <string.h>

#include "store/base/err.h"
#include "tests/lib/dice.h"
#include "tests/lib/nodelink.h"

enum {
    CONVS = 3,
    USERS = 5,
    EMOJIS = 3,
    ALL = (1 << USERS) - 1,
    STEPS = 250,
    RECORDS_MAX = STEPS + 2,
    SEEDS = 25
};
enum {
    MEMBER = LOQUAT__ROLE__ROLE_MEMBER,
    ADMIN = LOQUAT__ROLE__ROLE_ADMIN,
    OWNER = LOQUAT__ROLE__ROLE_OWNER
};

struct rec {
    int from;
    bool message, erased;
    char cid[16], what[64]; /* what: everything that a retry must repeat */
    char body[16], shown[16];
    uint64_t target, thread, replies, edits;     /* target: of an edit */
    unsigned has[EMOJIS], order[EMOJIS], orders; /* a bit of each user; in which they came up */
    unsigned named;                              /* a bit of each user */
    bool pinned;
};
struct model {
    char id[64];
    bool opened, history_joined, announce, was[USERS];
    struct rec recs[RECORDS_MAX]; /* by sequence */
    uint64_t head, floor;
    uint64_t pins[STEPS];
    size_t pin_count;
    uint32_t role[USERS];
    uint64_t joined[USERS], read[USERS];
};
struct want {
    int err;
    uint64_t seq;
    bool dup;
};

static struct model convs[CONVS];
static uint64_t seed, state;
static const char *const emojis[EMOJIS] = {"+", "-", "*"};
static const char *const names[USERS] = {"ann", "bob", "cid", "dan", "eve"};

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&state, sides);
}

/* ---- the model ---- */

static uint64_t messages(const struct model *c, uint64_t until)
{
    uint64_t n = 0;
    for (uint64_t s = 1; s <= until; s++)
        n += c->recs[s].message;
    return n;
}

static unsigned count_role(const struct model *c, uint32_t least)
{
    unsigned n = 0;
    for (int u = 0; u < USERS; u++)
        n += c->role[u] >= least;
    return n;
}

static struct rec *append(struct model *c, int user, const char *cid, const char *what)
{
    struct rec *rec = &c->recs[++c->head];
    *rec = (struct rec){.from = user};
    snprintf(rec->cid, sizeof rec->cid, "%s", cid);
    snprintf(rec->what, sizeof rec->what, "%s", what);
    return rec;
}

/* True when (user, cid) was used: `want` says how that is answered. */
static bool answered(const struct model *c, int user, const char *cid, const char *what,
                     struct want *want)
{
    for (uint64_t s = 1; s <= c->head; s++) {
        const struct rec *rec = &c->recs[s];
        if (rec->from != user || strcmp(rec->cid, cid) != 0)
            continue;
        bool same = rec->erased || strcmp(rec->what, what) == 0;
        *want = same ? (struct want){0, s, true} : (struct want){ERR_CONFLICT, 0, false};
        return true;
    }
    return false;
}

static bool is_message(const struct model *c, uint64_t s)
{
    return s > 0 && s >= c->floor && s <= c->head && c->recs[s].message;
}

static struct want model_send(struct model *c, int user, const char *cid, const char *body,
                              uint64_t thread, unsigned named)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "send %s %lu %u", body, thread, named);
    if (c->role[user] == 0 || answered(c, user, cid, what, &want))
        return want;
    if (c->announce && c->role[user] < ADMIN)
        return (struct want){ERR_FORBIDDEN, 0, false};
    struct rec *root = thread != 0 ? &c->recs[thread] : NULL;
    if (root != NULL && (!is_message(c, thread) || root->erased || root->thread != 0))
        return (struct want){ERR_BAD_REQUEST, 0, false};
    struct rec *rec = append(c, user, cid, what);
    rec->message = true;
    rec->thread = thread;
    rec->named = named & ~(1u << user); /* one's own do not count */
    snprintf(rec->body, sizeof rec->body, "%s", body);
    snprintf(rec->shown, sizeof rec->shown, "%s", body);
    if (root != NULL)
        root->replies++;
    c->read[user] = c->head;
    return (struct want){0, c->head, false};
}

static struct want model_edit(struct model *c, int user, const char *cid, uint64_t target,
                              const char *body)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "edit %s %lu", body, target);
    if (c->role[user] == 0 || answered(c, user, cid, what, &want))
        return want;
    if (!is_message(c, target) || c->recs[target].erased)
        return want;
    if (c->recs[target].from != user)
        return (struct want){ERR_FORBIDDEN, 0, false};
    struct rec *rec = append(c, user, cid, what);
    rec->target = target;
    snprintf(rec->body, sizeof rec->body, "%s", body);
    snprintf(c->recs[target].shown, sizeof rec->shown, "%s", body);
    c->recs[target].edits++;
    return (struct want){0, c->head, false};
}

static void unpin(struct model *c, uint64_t seq);

static struct want model_delete(struct model *c, int user, const char *cid, uint64_t target)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "delete %lu", target);
    if (c->role[user] == 0 || answered(c, user, cid, what, &want) || !is_message(c, target))
        return want;
    if (c->recs[target].from != user && c->role[user] < ADMIN)
        return (struct want){ERR_FORBIDDEN, 0, false};
    if (c->recs[target].erased)
        return (struct want){0, 0, false};
    append(c, user, cid, what);
    if (c->recs[target].thread >= c->floor && c->recs[target].thread != 0)
        c->recs[c->recs[target].thread].replies--;
    for (uint64_t s = 1; s <= c->head; s++)
        if (s == target || c->recs[s].target == target)
            c->recs[s].erased = true;
    unpin(c, target);
    return (struct want){0, c->head, false};
}

static void unpin(struct model *c, uint64_t seq)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->pin_count; i++)
        if (c->pins[i] != seq)
            c->pins[kept++] = c->pins[i];
    c->pin_count = kept;
    c->recs[seq].pinned = false;
}

static void model_order(struct rec *rec, unsigned emoji, bool on)
{
    if (on) {
        rec->order[rec->orders++] = emoji;
        return;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < rec->orders; i++)
        if (rec->order[i] != emoji)
            rec->order[kept++] = rec->order[i];
    rec->orders = kept;
}

static struct want model_react(struct model *c, int user, const char *cid, uint64_t target,
                               unsigned emoji, bool on)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "react %u %d %lu", emoji, on, target);
    if (c->role[user] == 0 || answered(c, user, cid, what, &want))
        return want;
    if (!is_message(c, target) || c->recs[target].erased)
        return want;
    struct rec *rec = &c->recs[target];
    unsigned before = rec->has[emoji], bit = 1u << user;
    if (((before & bit) != 0) == on)
        return (struct want){0, 0, false};
    rec->has[emoji] = before ^ bit;
    if (before == 0 || rec->has[emoji] == 0)
        model_order(rec, emoji, on);
    append(c, user, cid, what);
    return (struct want){0, c->head, false};
}

static struct want model_pin(struct model *c, int user, const char *cid, uint64_t target, bool on)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "pin %d %lu", on, target);
    if (c->role[user] == 0 || answered(c, user, cid, what, &want))
        return want;
    if (c->role[user] < ADMIN)
        return (struct want){ERR_FORBIDDEN, 0, false};
    bool there = is_message(c, target) && !c->recs[target].erased;
    if (on && !there)
        return want;
    if (!there || c->recs[target].pinned == on)
        return (struct want){0, 0, false};
    append(c, user, cid, what);
    if (on)
        c->pins[c->pin_count++] = target;
    else
        unpin(c, target);
    c->recs[target].pinned = on;
    return (struct want){0, c->head, false};
}

static struct want model_meta(struct model *c, int user, const char *cid, bool joined,
                              bool announce)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "meta %d %d", joined, announce);
    if (c->role[user] == 0 || answered(c, user, cid, what, &want))
        return want;
    if (c->role[user] < ADMIN)
        return (struct want){ERR_FORBIDDEN, 0, false};
    if (c->history_joined == joined && c->announce == announce)
        return (struct want){0, 0, false};
    c->history_joined = joined;
    c->announce = announce;
    append(c, user, cid, what);
    return (struct want){0, c->head, false};
}

static void take_out(struct model *c, int actor, const char *cid, const char *what, int who)
{
    append(c, actor, cid, what);
    c->role[who] = 0;
}

static struct want model_member(struct model *c, int user, const char *cid, uint32_t set, int who,
                                uint32_t role)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    /* A leave and a removal by oneself are the same record. */
    if (set == MEMBER_REMOVE)
        snprintf(what, sizeof what, "remove %d", who);
    else
        snprintf(what, sizeof what, "set %u %d %u", set, who, role);
    uint32_t own = c->role[user];
    if (own == 0 || answered(c, user, cid, what, &want))
        return want;
    if (own < ADMIN)
        return (struct want){ERR_FORBIDDEN, 0, false};
    uint32_t has = c->role[who];
    if (set == MEMBER_ADD) {
        if (has != 0)
            return (struct want){0, 0, false};
        if (role > own)
            return (struct want){ERR_FORBIDDEN, 0, false};
        append(c, user, cid, what);
        c->role[who] = role != 0 ? role : MEMBER;
        c->joined[who] = c->read[who] = c->head;
        c->was[who] = true;
        return (struct want){0, c->head, false};
    }
    if (has == 0)
        return want;
    if (own < OWNER && has >= own && who != user)
        return (struct want){ERR_FORBIDDEN, 0, false};
    bool last = has == OWNER && count_role(c, OWNER) == 1;
    if (set == MEMBER_REMOVE) {
        if (last)
            return (struct want){ERR_CONFLICT, 0, false};
        take_out(c, user, cid, what, who);
        return (struct want){0, c->head, false};
    }
    if (role == has)
        return (struct want){0, 0, false};
    if (role == 0)
        return (struct want){ERR_BAD_REQUEST, 0, false};
    if (role > own)
        return (struct want){ERR_FORBIDDEN, 0, false};
    if (last)
        return (struct want){ERR_CONFLICT, 0, false};
    append(c, user, cid, what);
    c->role[who] = role;
    return (struct want){0, c->head, false};
}

static struct want model_leave(struct model *c, int user, const char *cid)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "remove %d", user);
    if (!c->was[user] || answered(c, user, cid, what, &want) || c->role[user] == 0)
        return want;
    if (c->role[user] == OWNER && count_role(c, OWNER) == 1 && count_role(c, MEMBER) > 1)
        return (struct want){ERR_CONFLICT, 0, false};
    take_out(c, user, cid, what, user);
    return (struct want){0, c->head, false};
}

static struct want model_mark(struct model *c, int user, uint64_t read)
{
    if (c->role[user] == 0)
        return (struct want){ERR_NOT_FOUND, 0, false};
    read = read < c->head ? read : c->head;
    if (read > c->read[user])
        c->read[user] = read;
    return (struct want){0, 0, false};
}

static struct want model_retain(struct model *c, uint64_t floor)
{
    floor = floor < c->head + 1 ? floor : c->head + 1;
    if (floor > c->floor)
        c->floor = floor;
    for (size_t i = c->pin_count; i > 0; i--)
        if (c->pins[i - 1] < c->floor)
            unpin(c, c->pins[i - 1]);
    return (struct want){0, c->floor, false};
}

#endif
