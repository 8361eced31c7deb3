/* Random commands by seed against a model that is obviously right: conversations are arrays, every
 * question is answered by counting. The seed of a failure is printed; LOQUAT_SEED replays one,
 * LOQUAT_SEEDS says how many are tried. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "tests/lib/dice.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { CONVS = 3, USERS = 5, STEPS = 250, RECORDS_MAX = STEPS + 2, SEEDS = 25 };
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
    uint64_t target, thread, replies, edits; /* target: of an edit */
};
struct model {
    char id[64];
    bool opened, history_joined, was[USERS];
    struct rec recs[RECORDS_MAX]; /* by sequence */
    uint64_t head, floor;
    uint32_t role[USERS];
    uint64_t joined[USERS], read[USERS];
};
struct want {
    int err;
    uint64_t seq;
    bool dup;
};

static struct machine m;
static struct model convs[CONVS];
static uint64_t seed, state;
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
                              uint64_t thread)
{
    char what[64];
    struct want want = {ERR_NOT_FOUND, 0, false};
    snprintf(what, sizeof what, "send %s %lu", body, thread);
    if (c->role[user] == 0 || answered(c, user, cid, what, &want))
        return want;
    struct rec *root = thread != 0 ? &c->recs[thread] : NULL;
    if (root != NULL && (!is_message(c, thread) || root->erased || root->thread != 0))
        return (struct want){ERR_BAD_REQUEST, 0, false};
    struct rec *rec = append(c, user, cid, what);
    rec->message = true;
    rec->thread = thread;
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
    for (uint64_t s = 1; s <= c->head; s++)
        if (s == target || c->recs[s].target == target)
            c->recs[s].erased = true;
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
    return (struct want){0, c->floor, false};
}

/* ---- one step ---- */

static struct want pick(struct model *c, Loquat__Command *command, char cid[16], char body[16])
{
    int user = (int)roll(USERS), who = (int)roll(USERS);
    uint64_t target = roll(c->head + 2);
    const char *name = names[user];
    snprintf(cid, 16, "c%lu", roll(4) == 0 ? roll(20) : 20 + roll(10000)); /* some used again */
    snprintf(body, 16, "b%lu", roll(3) == 0 ? 0 : roll(1000));
    uint64_t thread = roll(6) == 0 ? target : 0;
    switch (roll(16)) {
    case 0:
    case 1:
        *command = command_edit(name, c->id, cid, target, body);
        return model_edit(c, user, cid, target, body);
    case 2:
        *command = command_delete(name, c->id, cid, target);
        return model_delete(c, user, cid, target);
    case 3:
    case 4: {
        uint32_t set = 1 + (uint32_t)roll(3), role = (uint32_t)roll(4);
        *command = command_member(name, c->id, cid, set, names[who], role);
        return model_member(c, user, cid, set, who, role);
    }
    case 5:
        *command = command_leave(name, c->id, cid);
        return model_leave(c, user, cid);
    case 6:
    case 7:
        *command = command_mark(name, c->id, target, 0);
        return model_mark(c, user, target);
    case 8:
        target = roll(4) == 0 ? target : target / 3;
        *command = command_retain(c->id, target);
        return model_retain(c, target);
    default:
        *command = command_send(name, c->id, cid, body);
        command->thread = thread;
        return model_send(c, user, cid, body, thread);
    }
}

static void open_conv(struct model *c, int number)
{
    char cid[16], *members[2];
    snprintf(cid, sizeof cid, "open%d", number);
    int owner = (int)roll(USERS), other = (int)roll(USERS);
    members[0] = members[1] = (char *)(uintptr_t)names[other];
    Loquat__Command command = command_open_group(names[owner], cid, c->id, members, 2);
    command.history_joined = c->history_joined = roll(2);
    struct apply_result result = machine_do(&m, &command);
    cr_assert(result.err == 0 && result.seq == 1);
    c->opened = true;
    append(c, owner, cid, "open");
    c->role[other] = MEMBER;
    c->role[owner] = OWNER;
    c->was[owner] = c->was[other] = true;
    c->joined[owner] = c->joined[other] = c->read[owner] = c->read[other] = 1;
}

/* Several commands in one entry, as a busy leader would. */
static void step(void)
{
    enum { MOST = 5 };
    Loquat__Command commands[MOST], *all[MOST];
    struct want wants[MOST];
    struct model *of[MOST];
    char cids[MOST][16], bodies[MOST][16];
    size_t count = 1 + roll(roll(3) == 0 ? MOST : 1);
    for (size_t i = 0; i < count; i++) {
        of[i] = &convs[roll(CONVS)];
        wants[i] = pick(of[i], &commands[i], cids[i], bodies[i]);
        all[i] = &commands[i];
        if (wants[i].err == 0 && wants[i].seq > 0 && !wants[i].dup) { /* n: before later ones */
            count = of[i]->head + 1 < RECORDS_MAX ? count : i + 1;
        }
    }
    machine_entry(&m, all, count);
    for (size_t i = 0; i < count; i++) {
        const struct apply_result *got = &m.applied.results[i];
        cr_assert(got->err == wants[i].err && got->seq == wants[i].seq && got->dup == wants[i].dup,
                  "seed %lu: op %u by %s: err %s, seq %lu, dup %d instead of %s, %lu, %d", seed,
                  commands[i].op, commands[i].user, err_name(got->err), got->seq, got->dup,
                  err_name(wants[i].err), wants[i].seq, wants[i].dup);
        if (got->err == 0 && got->seq > 0 && commands[i].op != LOQUAT__OP__OP_RETAIN)
            cr_assert(eq(u64, got->n, messages(of[i], got->seq)), "seed %lu", seed);
    }
}

/* ---- everything that can be asked ---- */

static uint32_t hole_at(const struct model *c, int user, uint64_t s)
{
    if (s < c->floor)
        return LOQUAT__HOLE__HOLE_TRIMMED;
    if (c->history_joined && s < c->joined[user])
        return LOQUAT__HOLE__HOLE_HIDDEN;
    return c->recs[s].erased ? LOQUAT__HOLE__HOLE_ERASED : 0;
}

static void check_item(const struct model *c, int user, const Loquat__Item *item, bool folded)
{
    for (uint64_t s = item->seq; item->hole != 0 && s <= item->last; s++)
        cr_assert(eq(u32, item->hole, hole_at(c, user, s)), "seed %lu: %lu", seed, s);
    if (item->hole != 0)
        return;
    const struct rec *rec = &c->recs[item->seq];
    cr_assert(eq(u32, hole_at(c, user, item->seq), 0), "seed %lu: %lu", seed, item->seq);
    Loquat__Record *record = NULL;
    int err =
        record_decode(span_of(item->record.data, item->record.len), &m.arena.allocator, &record);
    cr_assert(eq(int, err, 0));
    cr_assert(eq(str, record->from, (char *)(uintptr_t)names[rec->from]));
    cr_assert(eq(u64, record_n(record, item->seq), messages(c, item->seq)), "seed %lu", seed);
    if (rec->body[0] != 0)
        cr_assert(span_is(span_of(record->body.data, record->body.len), rec->body));
    if (folded) {
        struct span shown = rec->edits > 0 ? span_of(item->body.data, item->body.len)
                                           : span_of(record->body.data, record->body.len);
        cr_assert(span_is(shown, rec->shown), "seed %lu", seed);
        cr_assert(eq(u64, item->replies, rec->replies), "seed %lu", seed);
        cr_assert(eq(int, item->edited != 0, rec->edits > 0));
    }
}

static void check_history(const struct model *c, int user, bool folded, bool desc)
{
    bool seen[RECORDS_MAX] = {0};
    Loquat__Read read = LOQUAT__READ__INIT;
    read.user = (char *)(uintptr_t)names[user];
    read.conv = (char *)(uintptr_t)c->id;
    read.folded = folded;
    read.desc = desc;
    for (int pages = 0; pages <= RECORDS_MAX; pages++) {
        Loquat__Reply reply;
        read.max = 1 + (uint32_t)roll(30);
        int err = machine_range(&m, &read, &reply);
        cr_assert(eq(int, err, c->role[user] != 0 ? 0 : ERR_NOT_FOUND), "seed %lu", seed);
        if (err != 0)
            return;
        cr_assert(eq(u64, reply.head, c->head));
        cr_assert(eq(u64, reply.floor, c->floor));
        for (size_t i = 0; i < reply.n_items; i++) {
            const Loquat__Item *item = reply.items[i];
            check_item(c, user, item, folded);
            for (uint64_t s = item->seq; s <= (item->hole ? item->last : item->seq); s++) {
                cr_assert(not(seen[s]), "seed %lu: %lu twice", seed, s);
                seen[s] = true;
            }
        }
        read.from = reply.next;
        if (reply.next == 0)
            break;
    }
    for (uint64_t s = 1; s <= c->head; s++) {
        uint32_t hole = hole_at(c, user, s);
        bool low = hole == LOQUAT__HOLE__HOLE_TRIMMED || hole == LOQUAT__HOLE__HOLE_HIDDEN;
        cr_assert(eq(int, seen[s], !folded || low || c->recs[s].message), "seed %lu: %lu of %lu",
                  seed, s, c->head);
    }
}

static void check_user(const struct model *c, int user)
{
    const Loquat__ConvInfo *info = machine_conv(&m, names[user], c->id);
    cr_assert(eq(int, info != NULL, c->role[user] != 0), "seed %lu", seed);
    if (info != NULL) {
        uint64_t unread = 0;
        for (uint64_t s = c->read[user] + 1; s <= c->head; s++)
            unread += s >= c->floor && c->recs[s].message && !c->recs[s].erased;
        cr_assert(eq(u64, info->unread, unread), "seed %lu: %s in %s", seed, names[user], c->id);
        cr_assert(eq(u64, info->read, c->read[user]), "seed %lu", seed);
        cr_assert(eq(u64, info->head, c->head));
        cr_assert(eq(u64, info->n, messages(c, c->head)));
        cr_assert(eq(u32, info->role, c->role[user]));
        cr_assert(eq(u64, info->members, count_role(c, MEMBER)));
    }
    for (int kind = 0; kind < 4; kind++)
        check_history(c, user, kind & 1, kind & 2);
}

static void check_list(int user)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = (char *)(uintptr_t)names[user];
    int err = machine_read(&m, &read, &reply);
    cr_assert(eq(int, err, 0));
    size_t in = 0;
    for (int i = 0; i < CONVS; i++) {
        bool listed = false;
        for (size_t j = 0; j < reply.n_ids; j++)
            listed = listed || strcmp(reply.ids[j], convs[i].id) == 0;
        cr_assert(eq(int, listed, convs[i].role[user] != 0), "seed %lu", seed);
        in += listed;
    }
    cr_assert(eq(sz, reply.n_ids, in), "seed %lu", seed);
}

static void check_all(void)
{
    for (int user = 0; user < USERS; user++) {
        for (int i = 0; i < CONVS; i++)
            check_user(&convs[i], user);
        check_list(user);
        arena_reset(&m.arena);
    }
}

/* Another replica, which got the same entries in other batches and never crashed, or did. */
static void check_replica(void)
{
    struct machine first = m;
    machine_seal(&first);
    uint64_t digest = machine_digest(&first);
    machine_open(&m);
    for (size_t i = 0; i < first.count; i++) {
        machine_replay(&m, buf_span(&first.entries[i]));
        if (roll(8) == 0)
            machine_write(&m);
        if (roll(200) == 0) {
            machine_write(&m);
            machine_restart(&m);
        }
    }
    machine_write(&m);
    machine_seal(&m);
    cr_assert(eq(u64, machine_digest(&m), digest), "seed %lu: replicas differ", seed);
    machine_close(&m);
    m = first;
}

static void run_seed(void)
{
    state = seed;
    memset(convs, 0, sizeof convs);
    machine_open(&m);
    for (int i = 0; i < CONVS; i++) {
        convs[i].floor = 0;
        open_conv(&convs[i], i);
        convs[i].floor = 1;
    }
    for (int i = 0; i < STEPS; i++) {
        bool room = true;
        for (int j = 0; j < CONVS; j++)
            room = room && convs[j].head + 6 < RECORDS_MAX;
        if (!room)
            break;
        step();
        switch (roll(120)) {
        case 0:
            machine_flush(&m);
            break;
        case 1:
            machine_crash(&m);
            break;
        case 2:
            machine_restart(&m);
            break;
        case 3:
            machine_seal(&m);
            break;
        case 4:
        case 5:
            check_all();
            break;
        default:
            break;
        }
    }
    check_all();
    machine_crash(&m);
    check_all();
    check_replica();
    machine_close(&m);
}

TestSuite(model, .timeout = 240);

Test(model, random_commands_by_seed)
{
    const char *one = getenv("LOQUAT_SEED"), *many = getenv("LOQUAT_SEEDS");
    if (one != NULL) {
        seed = strtoull(one, NULL, 10);
        run_seed();
        return;
    }
    uint64_t count = many != NULL ? strtoull(many, NULL, 10) : SEEDS;
    for (seed = 1; seed <= count; seed++)
        run_seed();
}
