#include "store/apply.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/err.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum {
    MEMBER = LOQUAT__ROLE__ROLE_MEMBER,
    ADMIN = LOQUAT__ROLE__ROLE_ADMIN,
    OWNER = LOQUAT__ROLE__ROLE_OWNER
};

static struct machine m;
static char conv[64];

static struct apply_result run(Loquat__Command command)
{
    return machine_do(&m, &command);
}

static int err_of(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err == 0, result.msg == NULL), "an error says why, and only an error");
    return result.err;
}

static uint64_t seq_of(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err, 0), "%s: %s", err_name(result.err), result.msg);
    return result.seq;
}

/* ann owns a group with bob and eve in it; the log stands at 1. */
static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob", "eve"};
    cr_assert(eq(u64, seq_of(command_open_group("ann", "open", conv, members, 2)), 1));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(apply_conv, .init = setup, .fini = teardown, .timeout = 60);

/* ---- open ---- */

/* Opening again finds the same conversation and changes nothing. */
Test(apply_conv, open_again_is_the_same)
{
    char id[64];
    struct apply_result result = run(command_open_group("ann", "open", id, NULL, 0));
    cr_assert(eq(int, result.err, 0));
    cr_assert(result.dup);
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->members, 3));
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->head, 1));
    cr_assert(not(run(command_open_direct("ann", "bob", id)).dup));
    cr_assert(run(command_open_direct("bob", "ann", id)).dup);
    cr_assert(eq(str, machine_conv(&m, "ann", id)->with, "bob"));
    cr_assert(eq(str, machine_conv(&m, "bob", id)->with, "ann"));
}

/* Who opens a second time is answered when the list shows it, as the first time; later nothing is
 * owed any more. */
Test(apply_conv, open_again_waits_for_the_list)
{
    char id[64];
    cr_assert(eq(u32, run(command_open_direct("ann", "bob", id)).outs, 1));
    cr_assert(eq(u32, run(command_open_direct("bob", "ann", id)).outs, 1));
    m.now_ms += 61000;
    cr_assert(eq(u32, run(command_open_direct("bob", "ann", id)).outs, 0));
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = "bob";
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids, 2));
    cr_assert(eq(u64, reply.head, 2));
}

/* An id that is not that of opener and cid, too many members, an unknown kind: refused. */
Test(apply_conv, open_is_checked)
{
    char id[64];
    Loquat__Command command = command_open_group("ann", "other", id, NULL, 0);
    command.conv = conv;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    char *members[] = {"bob", "eve"};
    command = command_open_group("ann", "other", id, members, 2);
    command.member_max = 2;
    cr_assert(eq(int, err_of(command), ERR_TOO_LARGE));
    command.member_max = 3;
    cr_assert(eq(int, err_of(command), 0));
    command.conv_kind = LOQUAT__CONV_KIND__CONV_USER;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
}

/* Everybody who is in it has it on the list; who left has not. */
Test(apply_conv, lists_of_users)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = "eve";
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids, 1));
    cr_assert(eq(str, reply.ids[0], conv));
    cr_assert(eq(u64, reply.head, 1));
    seq_of(command_leave("eve", conv, "bye"));
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids, 0));
    cr_assert(eq(u64, reply.head, 2));
    seq_of(command_member("ann", conv, "again", MEMBER_ADD, "eve", 0));
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids, 1));
}

/* The list in pages: every conversation once. */
Test(apply_conv, list_pages)
{
    for (int i = 0; i < 24; i++) {
        char id[64], cid[16];
        snprintf(cid, sizeof cid, "g%d", i);
        seq_of(command_open_group("zoe", cid, id, NULL, 0));
    }
    for (uint32_t max = 1; max <= 25; max += 6) {
        Loquat__Read read = LOQUAT__READ__INIT;
        Loquat__Reply reply;
        read.op = LOQUAT__READ_OP__READ_USER;
        read.user = "zoe";
        read.max = max;
        size_t count = 0;
        do {
            cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
            count += reply.n_ids;
            read.after = reply.after;
        } while (reply.after[0] != 0);
        cr_assert(eq(sz, count, 24));
    }
}

/* ---- members ---- */

/* Who may change members: owner ≥ admin ≥ member, and nobody gives more than the own. */
Test(apply_conv, roles_are_ranks)
{
    cr_assert(
        eq(int, err_of(command_member("bob", conv, "1", MEMBER_ADD, "joe", 0)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_member("bob", conv, "1", MEMBER_ROLE, "bob", OWNER)),
                 ERR_FORBIDDEN));
    seq_of(command_member("ann", conv, "2", MEMBER_ROLE, "bob", ADMIN));
    seq_of(command_member("bob", conv, "3", MEMBER_ADD, "joe", 0));
    cr_assert(
        eq(int, err_of(command_member("bob", conv, "4", MEMBER_ADD, "moe", OWNER)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_member("bob", conv, "4", MEMBER_ROLE, "joe", OWNER)),
                 ERR_FORBIDDEN));
    cr_assert(
        eq(int, err_of(command_member("bob", conv, "4", MEMBER_REMOVE, "ann", 0)), ERR_FORBIDDEN));
    seq_of(command_member("bob", conv, "5", MEMBER_ROLE, "joe", ADMIN));
    cr_assert(eq(int, err_of(command_member("bob", conv, "6", MEMBER_ROLE, "joe", MEMBER)),
                 ERR_FORBIDDEN));
    cr_assert(
        eq(int, err_of(command_member("bob", conv, "6", MEMBER_REMOVE, "joe", 0)), ERR_FORBIDDEN));
    seq_of(command_member("bob", conv, "7", MEMBER_REMOVE, "eve", 0));
    seq_of(command_member("bob", conv, "8", MEMBER_ROLE, "bob", MEMBER));
    cr_assert(
        eq(int, err_of(command_member("bob", conv, "9", MEMBER_ADD, "eve", 0)), ERR_FORBIDDEN));
    seq_of(command_member("ann", conv, "10", MEMBER_REMOVE, "joe", 0));
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->members, 2));
    cr_assert(eq(ptr, (void *)machine_conv(&m, "joe", conv), NULL));
}

/* A group keeps an owner until the last one is alone. */
Test(apply_conv, last_owner_stays)
{
    cr_assert(eq(int, err_of(command_leave("ann", conv, "l")), ERR_CONFLICT));
    cr_assert(eq(int, err_of(command_member("ann", conv, "r", MEMBER_ROLE, "ann", MEMBER)),
                 ERR_CONFLICT));
    cr_assert(
        eq(int, err_of(command_member("ann", conv, "r", MEMBER_REMOVE, "ann", 0)), ERR_CONFLICT));
    seq_of(command_member("ann", conv, "o", MEMBER_ROLE, "bob", OWNER));
    uint64_t left = seq_of(command_leave("ann", conv, "l"));
    struct apply_result again = run(command_leave("ann", conv, "l"));
    cr_assert(again.err == 0 && again.dup && again.seq == left);
    cr_assert(eq(int, err_of(command_leave("ann", conv, "l2")), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_leave("bob", conv, "l")), ERR_CONFLICT));
    seq_of(command_leave("eve", conv, "l"));
    seq_of(command_leave("bob", conv, "l"));
}

/* Adding who is in, and giving the role that one has, records nothing. */
Test(apply_conv, member_no_ops)
{
    cr_assert(eq(u64, seq_of(command_member("ann", conv, "1", MEMBER_ADD, "bob", 0)), 0));
    cr_assert(eq(u64, seq_of(command_member("ann", conv, "2", MEMBER_ROLE, "bob", MEMBER)), 0));
    cr_assert(
        eq(int, err_of(command_member("ann", conv, "3", MEMBER_REMOVE, "zoe", 0)), ERR_NOT_FOUND));
    cr_assert(
        eq(int, err_of(command_member("ann", conv, "3", MEMBER_ROLE, "bob", 9)), ERR_BAD_REQUEST));
    cr_assert(eq(int, err_of(command_member("ann", conv, "3", 9, "bob", 0)), ERR_BAD_REQUEST));
    cr_assert(
        eq(int, err_of(command_member("ann", conv, "3", MEMBER_ADD, "", 0)), ERR_BAD_REQUEST));
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->head, 1));
    Loquat__Command full = command_member("ann", conv, "4", MEMBER_ADD, "joe", 0);
    full.member_max = 3;
    cr_assert(eq(int, err_of(full), ERR_TOO_LARGE));
}

/* A direct conversation has its two members for good. */
Test(apply_conv, direct_stays)
{
    char id[64];
    seq_of(command_open_direct("ann", "bob", id));
    cr_assert(eq(int, err_of(command_leave("ann", id, "l")), ERR_BAD_REQUEST));
    cr_assert(
        eq(int, err_of(command_member("ann", id, "m", MEMBER_ADD, "eve", 0)), ERR_BAD_REQUEST));
}

/* Members in pages: all who are in, each once, those who left not. */
Test(apply_conv, member_pages)
{
    for (int i = 0; i < 20; i++) {
        char cid[16], who[16];
        snprintf(cid, sizeof cid, "a%d", i);
        snprintf(who, sizeof who, "user%d", i);
        seq_of(command_member("ann", conv, cid, MEMBER_ADD, who, 0));
    }
    seq_of(command_leave("user7", conv, "l"));
    for (uint32_t max = 1; max < 30; max += 7) {
        Loquat__Read read = LOQUAT__READ__INIT;
        Loquat__Reply reply;
        read.op = LOQUAT__READ_OP__READ_MEMBERS;
        read.user = "ann";
        read.conv = conv;
        read.max = max;
        size_t count = 0;
        char before[65] = "";
        do {
            cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
            for (size_t i = 0; i < reply.n_members; i++) {
                cr_assert(lt(int, strcmp(before, reply.members[i]->user), 0));
                snprintf(before, sizeof before, "%s", reply.members[i]->user);
                cr_assert(ne(str, before, "user7"));
                count++;
            }
            read.after = reply.after;
        } while (reply.after[0] != 0);
        cr_assert(eq(sz, count, 22));
    }
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply;
    read.op = LOQUAT__READ_OP__READ_MEMBERS;
    read.user = "zoe";
    read.conv = conv;
    cr_assert(eq(int, machine_read(&m, &read, &reply), ERR_NOT_FOUND));
}

/* Who has read so far, by pages; rows that are looked at in vain end one, too. */
Test(apply_conv, members_who_have_read)
{
    enum { MANY = 4100 };
    static char names[MANY][8];
    char id[64], *members[MANY];
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "u%04d", i);
        members[i] = names[i];
    }
    seq_of(command_open_group("ann", "many", id, members, MANY));
    uint64_t seq = seq_of(command_send("ann", id, "m", "x"));
    run(command_mark("u0003", id, seq, seq));
    run(command_mark("u4099", id, seq, seq));
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_MEMBERS;
    read.user = "ann";
    read.conv = id;
    read.from = seq;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_members, 2));
    cr_assert(eq(str, reply.members[1]->user, "u0003"));
    cr_assert(eq(str, reply.after, "u3998"));
    read.after = reply.after;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_members, 1));
    cr_assert(eq(str, reply.members[0]->user, "u4099"));
    cr_assert(eq(str, reply.after, ""));
}

/* A page that is full is the last one when only those follow who have left. */
Test(apply_conv, members_who_left_make_no_page)
{
    seq_of(command_member("ann", conv, "1", MEMBER_ADD, "zoe", 0));
    seq_of(command_leave("zoe", conv, "1"));
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_MEMBERS;
    read.user = "ann";
    read.conv = conv;
    read.max = 3;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_members, 3));
    cr_assert(eq(str, reply.after, ""));
}
