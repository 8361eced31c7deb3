/* Unread messages and mentions, of conversations and of threads, against a scan of the folded view
 * after thousands of random commands by seed: what is counted by ordinals is what would be seen.
 * LOQUAT_SEED replays a failure, LOQUAT_SEEDS says how many are tried. */
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

enum { USERS = 4, STEPS = 400, SEEDS = 12, CHECK_EVERY = 20 };

static const char *const names[USERS] = {"ann", "bob", "cid", "dan"};
static struct machine m;
static char conv[64];
static uint64_t seed, state, serial;

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&state, sides);
}

/* ---- commands, most of them of members about what is there ---- */

static Loquat__Command bare(const char *user, uint32_t op)
{
    Loquat__Command command = command_leave(user, conv, "");
    command.op = op;
    return command;
}

static Loquat__Command random_send(const char *user, const char *cid, uint64_t some)
{
    static char *named[1];
    Loquat__Command command = command_send(user, conv, cid, "x");
    command.ttl_s = roll(4) == 0 ? 1 + roll(60) : 0;
    command.thread = roll(3) == 0 ? some : 0;
    command.mention_all = roll(8) == 0;
    if (roll(4) == 0) {
        named[0] = (char *)(uintptr_t)names[roll(USERS)];
        command.mentions = named;
        command.n_mentions = 1;
        command.mention_all = false;
    }
    return command;
}

static Loquat__Command random_member(const char *cid)
{
    const char *who = names[1 + roll(USERS - 1)]; /* the owner stays */
    return command_member("ann", conv, cid, roll(2) == 0 ? MEMBER_REMOVE : MEMBER_ADD, who, 0);
}

static void step(uint64_t head)
{
    char cid[24];
    const char *user = names[roll(USERS)];
    uint64_t some = 1 + roll(head + 1), recent = head > 8 ? head - roll(8) : some;
    snprintf(cid, sizeof cid, "c%lu", ++serial);
    Loquat__Command command;
    switch (roll(20)) {
    case 0:
        command = command_edit(user, conv, cid, recent, "y");
        break;
    case 1:
    case 2:
        command = command_delete(roll(2) ? user : "ann", conv, cid, roll(2) ? some : recent);
        break;
    case 3:
    case 4:
        command = bare(user, LOQUAT__OP__OP_HIDE);
        command.target = roll(3) == 0 ? some : recent;
        break;
    case 5:
        command = random_member(cid);
        break;
    case 6:
        command = command_mark(user, conv, some, 0);
        break;
    case 7:
        command = bare(user, LOQUAT__OP__OP_THREAD_MARK);
        command.thread = some;
        command.read = 1 + roll(head + 1);
        break;
    case 8:
        command = command_meta("ann", conv, cid);
        command.fields = LOQUAT__META_FIELD__META_HISTORY;
        command.history_joined = roll(2);
        break;
    case 9:
        command = bare(user, LOQUAT__OP__OP_BLOCK);
        command.who = (char *)(uintptr_t)names[roll(USERS)];
        command.on = roll(2);
        break;
    case 10:
        command = command_react(user, conv, cid, recent, "+", roll(3) > 0);
        break;
    case 11:
        command = command_retain(conv, roll(8) == 0 ? some : 0);
        break;
    default:
        command =
            random_send(names[roll(8) == 0 ? roll(USERS) : roll(2)], cid, some); /* most read */
    }
    machine_do(&m, &command);
    m.now_ms += roll(3000);
    if (roll(100) == 0)
        machine_crash(&m);
}

/* ---- what would be seen ---- */

struct seen {
    uint64_t unread, mentions;
};

static bool names_user(const Loquat__Record *record, const char *user)
{
    bool named = record->mention_all;
    for (size_t i = 0; i < record->n_mentions; i++)
        named = named || strcmp(record->mentions[i], user) == 0;
    return named;
}

/* Messages behind `after` in the folded view of the conversation, or of a thread. */
static struct seen scan(const char *user, uint64_t thread, uint64_t after)
{
    struct seen seen = {0};
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    read.folded = true;
    read.thread = thread;
    read.max = 7;
    Loquat__Reply reply;
    do {
        loquat__reply__init(&reply);
        cr_assert(eq(int, machine_range(&m, &read, &reply), 0), "seed %lu", seed);
        for (size_t i = 0; i < reply.n_items; i++) {
            const Loquat__Item *item = reply.items[i];
            Loquat__Record *record = NULL;
            if (item->hole != 0 || item->seq <= after)
                continue;
            cr_assert(eq(int,
                         record_decode(span_of((const char *)item->record.data, item->record.len),
                                       &m.arena.allocator, &record),
                         0));
            cr_assert(ne(str, record->from, (char *)(uintptr_t)user), "seed %lu: an own one", seed);
            seen.unread++;
            seen.mentions += names_user(record, user);
        }
        read.from = reply.next;
    } while (reply.next != 0);
    return seen;
}

static void check_threads(const char *user, uint64_t joined)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_THREADS;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0), "seed %lu", seed);
    uint64_t before = UINT64_MAX;
    for (size_t i = 0; i < reply.n_threads; i++) {
        const Loquat__Thread *thread = reply.threads[i];
        uint64_t after = thread->read > joined ? thread->read : joined;
        struct seen want = scan(user, thread->root, after);
        cr_assert(eq(u64, thread->unread, want.unread), "seed %lu, %s, thread %lu", seed, user,
                  thread->root);
        cr_assert(lt(u64, thread->last, before), "newest first");
        before = thread->last;
    }
}

/* Since when the user is in; 0: he is not. */
static uint64_t joined_at(const char *user)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_MEMBERS;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    uint64_t last = 0;
    for (uint64_t at = machine_conv(&m, "ann", conv)->head; at > 0; at--) {
        read.user = "ann";
        read.at = at;
        loquat__reply__init(&reply);
        cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
        bool in = false;
        for (size_t i = 0; i < reply.n_members; i++)
            in = in || strcmp(reply.members[i]->user, user) == 0;
        if (!in)
            return last;
        last = at;
    }
    return 1;
}

static void check_user(const char *user)
{
    const Loquat__ConvInfo *info = machine_conv(&m, user, conv);
    if (info != NULL && info->err == 0) {
        struct seen want = scan(user, 0, info->read);
        cr_assert(eq(u64, info->unread, want.unread), "seed %lu, %s", seed, user);
        cr_assert(eq(u64, info->mentions, want.mentions), "seed %lu, %s", seed, user);
        check_threads(user, joined_at(user));
    }
    arena_reset(&m.arena);
}

static void run(void)
{
    char *members[] = {"bob", "cid"};
    state = seed;
    serial = 0;
    machine_open(&m);
    Loquat__Command open = command_open_group("ann", "open", conv, members, 2);
    machine_do(&m, &open);
    for (int i = 0; i < STEPS; i++) {
        step(machine_conv(&m, "ann", conv)->head);
        for (int u = 0; i % CHECK_EVERY == 0 && u < USERS; u++)
            check_user(names[u]);
    }
    machine_restart(&m);
    for (int u = 0; u < USERS; u++)
        check_user(names[u]);
    machine_close(&m);
}

Test(unread, is_what_would_be_seen, .timeout = 300)
{
    const char *one = getenv("LOQUAT_SEED"), *many = getenv("LOQUAT_SEEDS");
    uint64_t first = one != NULL ? strtoull(one, NULL, 10) : 1;
    uint64_t count = one != NULL ? 1 : many != NULL ? strtoull(many, NULL, 10) : SEEDS;
    for (seed = first; seed < first + count; seed++)
        run();
}
