/* Invites by a link: who gives them, whom they let in, when they end. And who was a member when. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/wire.h"
#include "store/membership.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { ADMIN = LOQUAT__ROLE__ROLE_ADMIN };
static const char TOKEN[] = "0123456789abcdef0123456789abcdef";

static struct machine m;
static char conv[64];

static struct apply_result run(Loquat__Command command)
{
    return machine_do(&m, &command);
}

static int err_of(Loquat__Command command)
{
    return run(command).err;
}

static uint64_t seq_of(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err, 0), "%s: %s", err_name(result.err), result.msg);
    return result.seq;
}

static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob", "eve"};
    seq_of(command_open_group("ann", "open", conv, members, 2));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(invite, .init = setup, .fini = teardown, .timeout = 60);

static Loquat__Command invite(const char *user, const char *cid, uint64_t secs, uint64_t uses)
{
    Loquat__Command command = command_leave(user, conv, cid);
    command.op = LOQUAT__OP__OP_INVITE;
    command.token = (char *)(uintptr_t)TOKEN;
    command.expires_s = secs;
    command.uses = uses;
    return command;
}

static Loquat__Command uninvite(const char *user, const char *cid, uint64_t seq)
{
    Loquat__Command command = command_leave(user, conv, cid);
    command.op = LOQUAT__OP__OP_UNINVITE;
    command.target = seq;
    return command;
}

static Loquat__Command join_by(const char *user, const char *cid, uint64_t seq)
{
    Loquat__Command command = command_leave(user, conv, cid);
    command.op = LOQUAT__OP__OP_JOIN;
    command.token = (char *)(uintptr_t)TOKEN;
    command.target = seq;
    command.member_max = 6;
    return command;
}

/* The invites that `user` is shown, as "seq:used," */
static const char *shown(const char *user)
{
    static char text[256];
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_INVITES;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    int err = machine_read(&m, &read, &reply);
    if (err != 0)
        return err_name(err);
    text[0] = 0;
    for (size_t i = 0; i < reply.n_invites; i++) {
        cr_assert(eq(str, reply.invites[i]->token, (char *)TOKEN));
        snprintf(text + strlen(text), sizeof text - strlen(text), "%lu:%lu,", reply.invites[i]->seq,
                 reply.invites[i]->used);
    }
    return text;
}

Test(invite, lets_in)
{
    uint64_t seq = seq_of(invite("ann", "i", 60, 0));
    uint64_t record = seq_of(join_by("joe", "j", seq));
    cr_assert(eq(u64, record, seq + 1));
    const Loquat__ConvInfo *info = machine_conv(&m, "joe", conv);
    cr_assert(eq(u32, info->role, LOQUAT__ROLE__ROLE_MEMBER));
    cr_assert(eq(u64, info->members, 4));
    cr_assert(run(join_by("joe", "j", seq)).dup);
    cr_assert(eq(u64, seq_of(join_by("joe", "again", seq)), 0)); /* in already */
    cr_assert(eq(u64, seq_of(join_by("eve", "j", seq)), 0));
    machine_crash(&m);
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->members, 4));
    char want[32];
    snprintf(want, sizeof want, "%lu:1,", seq);
    cr_assert(eq(str, (char *)shown("ann"), want));
    Loquat__Read read = LOQUAT__READ__INIT; /* it is in his list */
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = "joe";
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids, 1));
}

Test(invite, who_gives_them)
{
    cr_assert(eq(int, err_of(invite("bob", "i", 60, 0)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(invite("zoe", "i", 60, 0)), ERR_NOT_FOUND));
    seq_of(command_member("ann", conv, "r", MEMBER_ROLE, "bob", ADMIN));
    uint64_t seq = seq_of(invite("bob", "i2", 60, 0));
    cr_assert(run(invite("bob", "i2", 60, 0)).dup);
    cr_assert(eq(int, err_of(invite("bob", "i2", 61, 0)), ERR_CONFLICT));
    cr_assert(eq(str, (char *)shown("eve"), (char *)err_name(ERR_FORBIDDEN)));
    cr_assert(eq(str, (char *)shown("zoe"), (char *)err_name(ERR_NOT_FOUND)));
    cr_assert(eq(int, err_of(uninvite("eve", "u", seq)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(uninvite("ann", "u", seq + 5)), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(invite("ann", "i3", 0, 0)), ERR_BAD_REQUEST));
    cr_assert(eq(int, err_of(invite("ann", "i3", UINT64_MAX, 0)), ERR_BAD_REQUEST));
    char direct[64];
    seq_of(command_open_direct("ann", "bob", direct));
    Loquat__Command command = invite("ann", "i4", 60, 0);
    command.conv = direct;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
}

/* Whatever is wrong, a stranger gets the same answer. */
Test(invite, no_other_way_in)
{
    uint64_t seq = seq_of(invite("ann", "i", 60, 2));
    Loquat__Command command = join_by("joe", "j", seq);
    command.token = "0123456789abcdef0123456789abcdee";
    cr_assert(eq(int, err_of(command), ERR_NOT_FOUND));
    command.token = "";
    cr_assert(eq(int, err_of(command), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(join_by("joe", "j", seq + 1)), ERR_NOT_FOUND));
    command = join_by("joe", "j", seq);
    command.conv = "g-nothing";
    cr_assert(eq(int, err_of(command), ERR_NOT_FOUND));
    seq_of(join_by("u1", "j", seq));
    seq_of(join_by("u2", "j", seq));
    cr_assert(eq(int, err_of(join_by("u3", "j", seq)), ERR_NOT_FOUND)); /* used up */
    uint64_t second = seq_of(invite("ann", "i2", 60, 0));
    seq_of(uninvite("ann", "u", second));
    cr_assert(eq(int, err_of(join_by("u3", "j", second)), ERR_NOT_FOUND));
    uint64_t third = seq_of(invite("ann", "i3", 60, 0));
    seq_of(join_by("u3", "j", third));
    cr_assert(eq(int, err_of(join_by("u4", "j", third)), ERR_TOO_LARGE)); /* the group is full */
    m.now_ms += 61000;
    command = join_by("u4", "j", third);
    command.member_max = 0;
    cr_assert(eq(int, err_of(command), ERR_NOT_FOUND)); /* it has ended */
    cr_assert(eq(str, (char *)shown("ann"), ""));
}

/* Who was taken out stays out until somebody adds him; who left by himself may come back. */
Test(invite, not_for_who_was_removed)
{
    uint64_t seq = seq_of(invite("ann", "i", 60, 0));
    seq_of(command_member("ann", conv, "r", MEMBER_REMOVE, "bob", 0));
    seq_of(command_leave("eve", conv, "l"));
    cr_assert(eq(int, err_of(join_by("bob", "j", seq)), ERR_FORBIDDEN));
    machine_crash(&m);
    cr_assert(eq(int, err_of(join_by("bob", "j", seq)), ERR_FORBIDDEN));
    cr_assert(lt(u64, 0, seq_of(join_by("eve", "j", seq))));
    seq_of(command_member("ann", conv, "a", MEMBER_ADD, "bob", 0));
    seq_of(command_leave("bob", conv, "l"));
    cr_assert(lt(u64, 0, seq_of(join_by("bob", "j2", seq))));
}

Test(invite, bounded)
{
    char cid[16];
    for (int i = 0; i < INVITES_MAX; i++) {
        snprintf(cid, sizeof cid, "i%d", i);
        seq_of(invite("ann", cid, 60, 0));
    }
    cr_assert(eq(int, err_of(invite("ann", "more", 60, 0)), ERR_TOO_LARGE));
    m.now_ms += 61000; /* those that have ended make room */
    seq_of(invite("ann", "more", 60, 0));
}

/* ---- roles, and since when ---- */

/* Who was in it right after the record `at`. */
static Loquat__Reply read_members_at(uint64_t at)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_MEMBERS;
    read.user = "ann";
    read.conv = conv;
    read.at = at;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    return reply;
}

/* As "user:role,". */
static const char *members_at(uint64_t at)
{
    static char text[256];
    Loquat__Reply reply = read_members_at(at);
    text[0] = 0;
    for (size_t i = 0; i < reply.n_members; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s:%u,", reply.members[i]->user,
                 reply.members[i]->role);
    return text;
}

Test(invite, members_of_then)
{
    uint64_t role = seq_of(command_member("ann", conv, "1", MEMBER_ROLE, "bob", ADMIN));
    uint64_t gone = seq_of(command_member("ann", conv, "2", MEMBER_REMOVE, "eve", 0));
    uint64_t back = seq_of(command_member("ann", conv, "3", MEMBER_ADD, "eve", 0));
    machine_crash(&m);
    cr_assert(eq(str, (char *)members_at(1), "ann:3,bob:1,eve:1,"));
    cr_assert(eq(str, (char *)members_at(role), "ann:3,bob:2,eve:1,"));
    cr_assert(eq(str, (char *)members_at(gone), "ann:3,bob:2,"));
    cr_assert(eq(str, (char *)members_at(back), "ann:3,bob:2,eve:1,"));
    cr_assert(eq(str, (char *)members_at(0), "ann:3,bob:2,eve:1,"));
}

static uint64_t joined_at(const char *user, uint64_t at)
{
    Loquat__Reply reply = read_members_at(at);
    for (size_t i = 0; i < reply.n_members; i++)
        if (strcmp(reply.members[i]->user, user) == 0)
            return reply.members[i]->joined;
    return 0;
}

/* Who left and came back had come before: each time has its own. */
Test(invite, joined_of_then)
{
    uint64_t opened = joined_at("eve", 0), times[3], seqs[3];
    for (int i = 0; i < 3; i++) {
        seq_of(command_member("ann", conv, (char[]){'g', (char)('0' + i), 0}, MEMBER_REMOVE, "eve",
                              0));
        m.now_ms += 1000;
        seqs[i] = seq_of(
            command_member("ann", conv, (char[]){'b', (char)('0' + i), 0}, MEMBER_ADD, "eve", 0));
        times[i] = joined_at("eve", 0);
    }
    uint64_t role = seq_of(command_member("ann", conv, "r", MEMBER_ROLE, "eve", ADMIN));
    machine_crash(&m);
    cr_assert(eq(u64, joined_at("eve", 1), opened));
    cr_assert(lt(u64, opened, times[0]));
    for (int i = 0; i < 3; i++)
        cr_assert(eq(u64, joined_at("eve", seqs[i]), times[i]));
    cr_assert(eq(u64, joined_at("eve", role), times[2]));
    cr_assert(eq(u64, joined_at("eve", seqs[1] - 1), 0)); /* out */
    cr_assert(eq(u64, joined_at("bob", seqs[1]), opened));
}

/* Many changes: the oldest are forgotten, the newest stand. */
Test(invite, roles_are_bounded)
{
    char cid[16];
    uint64_t last = 0;
    for (int i = 0; i < 2 * MEMBER_ROLES_MAX; i++) {
        snprintf(cid, sizeof cid, "r%d", i);
        last = seq_of(command_member("ann", conv, cid, MEMBER_ROLE, "bob", i % 2 ? 1 : ADMIN));
    }
    cr_assert(eq(str, (char *)members_at(last), "ann:3,bob:1,eve:1,"));
    cr_assert(eq(str, (char *)members_at(last - 1), "ann:3,bob:2,eve:1,"));
    cr_assert(eq(str, (char *)members_at(2), "ann:3,eve:1,"));
}

/* In entries of an older version there is none of it. */
Test(invite, not_before_its_version)
{
    struct buf entry = {0}, bytes = {0};
    Loquat__Command command = invite("ann", "i", 60, 0);
    entry_begin(&entry, ENTRY_VERSION_CHAT, ++m.now_ms);
    command_pack(&command, &bytes);
    entry_add(&entry, buf_span(&bytes));
    command = command_member("ann", conv, "r", MEMBER_REMOVE, "bob", 0);
    bytes.n = 0;
    command_pack(&command, &bytes);
    entry_add(&entry, buf_span(&bytes));
    machine_replay(&m, buf_span(&entry));
    machine_write(&m);
    cr_assert(eq(int, m.applied.results[0].err, ERR_AGAIN));
    cr_assert(eq(int, m.applied.results[1].err, 0));
    buf_close(&entry);
    buf_close(&bytes);
    uint64_t seq = seq_of(invite("ann", "i", 60, 0));
    cr_assert(lt(u64, 0, seq_of(join_by("bob", "j", seq)))); /* it was not noted who took him out */
}
