/* Random commands by seed against a model that is obviously right (model_lib.h). The seed of a
 * failure is printed; LOQUAT_SEED replays one, LOQUAT_SEEDS says how many are tried. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"
#include "tests/store/model_lib.h"

static struct machine m;

/* ---- one step ---- */

/* Nobody, all, or some of the users: a bit of each. */
static unsigned name_some(Loquat__Command *command)
{
    static char *lists[64][USERS];
    static size_t next;
    uint64_t dice = roll(4);
    command->mention_all = dice == 0;
    if (dice != 1)
        return dice == 0 ? ALL : 0;
    unsigned named = 0;
    command->mentions = lists[next++ % 64];
    for (unsigned u = 0; u < USERS; u++)
        if (roll(2) == 0) {
            command->mentions[command->n_mentions++] = (char *)(uintptr_t)names[u];
            named |= 1u << u;
        }
    return named;
}

static struct want pick(struct model *c, Loquat__Command *command, char cid[16], char body[16])
{
    int user = (int)roll(USERS), who = (int)roll(USERS);
    /* Of some of them again and again. */
    uint64_t target = roll(2) == 0 ? roll(c->head + 2) : 2 + roll(6);
    const char *name = names[user];
    snprintf(cid, 16, "c%lu", roll(4) == 0 ? roll(20) : 20 + roll(10000)); /* some used again */
    snprintf(body, 16, "b%lu", roll(3) == 0 ? 0 : roll(1000));
    uint64_t thread = roll(6) == 0 ? target : 0;
    unsigned emoji = (unsigned)roll(EMOJIS);
    bool on = roll(3) > 0, joined = roll(4) == 0;
    switch (roll(24)) {
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
    case 9:
    case 10:
        *command = command_react(name, c->id, cid, target, emojis[emoji], on);
        return model_react(c, user, cid, target, emoji, on);
    case 11:
    case 12:
    case 13:
        *command = command_react(name, c->id, cid, target, emojis[0], on);
        return model_react(c, user, cid, target, 0, on);
    case 14:
    case 15:
        *command = command_pin(name, c->id, cid, target, on);
        return model_pin(c, user, cid, target, on);
    case 16:
        *command = command_meta(name, c->id, cid);
        command->fields = LOQUAT__META_FIELD__META_HISTORY | LOQUAT__META_FIELD__META_ANNOUNCE;
        command->history_joined = joined;
        command->announce = !on;
        return model_meta(c, user, cid, joined, !on);
    default:
        *command = command_send(name, c->id, cid, body);
        command->thread = thread;
        return model_send(c, user, cid, body, thread, name_some(command));
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

static void check_reactions(const struct rec *rec, int user, const Loquat__Item *item)
{
    cr_assert(eq(int, item->pinned != 0, rec->pinned), "seed %lu: %lu", seed, item->seq);
    cr_assert(eq(sz, item->n_reactions, rec->orders), "seed %lu: %lu", seed, item->seq);
    for (size_t i = 0; i < item->n_reactions; i++) {
        const Loquat__Reaction *reaction = item->reactions[i];
        unsigned has = rec->has[rec->order[i]], count = 0;
        for (unsigned u = 0; u < USERS; u++)
            count += has >> u & 1;
        cr_assert(eq(str, reaction->emoji, (char *)(uintptr_t)emojis[rec->order[i]]));
        cr_assert(eq(u64, reaction->n, count), "seed %lu: %lu", seed, item->seq);
        cr_assert(eq(int, reaction->me, has >> user & 1), "seed %lu: %lu", seed, item->seq);
    }
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
        check_reactions(rec, user, item);
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

static void check_pins(const struct model *c, int user, const Loquat__ConvInfo *info)
{
    size_t seen = 0;
    for (size_t i = 0; i < c->pin_count; i++)
        if (!c->history_joined || c->pins[i] >= c->joined[user]) {
            cr_assert(lt(sz, seen, info->n_pins), "seed %lu", seed);
            cr_assert(eq(u64, info->pins[seen++], c->pins[i]), "seed %lu", seed);
        }
    cr_assert(eq(sz, seen, info->n_pins), "seed %lu", seed);
}

static void check_user(const struct model *c, int user)
{
    const Loquat__ConvInfo *info = machine_conv(&m, names[user], c->id);
    cr_assert(eq(int, info != NULL, c->role[user] != 0), "seed %lu", seed);
    if (info != NULL) {
        uint64_t unread = 0, mentions = 0;
        for (uint64_t s = c->read[user] + 1; s <= c->head; s++) {
            bool counts = s >= c->floor && c->recs[s].message && !c->recs[s].erased;
            unread += counts;
            mentions += counts && (c->recs[s].named >> user & 1);
        }
        cr_assert(eq(u64, info->mentions, mentions), "seed %lu: %s in %s", seed, names[user],
                  c->id);
        cr_assert(eq(int, info->announce, c->announce));
        check_pins(c, user, info);
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
