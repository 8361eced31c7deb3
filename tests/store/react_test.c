/* Reactions: one of a user and emoji on a message; counted, and known again as one's own. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/state.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

static struct machine m;
static char conv[64];
static uint64_t message;

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

/* The reactions on the message as `user` sees them: "emoji n me," of each. */
static const char *seen_by(const char *user)
{
    static char text[512];
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = (char *)(uintptr_t)user;
    read.conv = conv;
    read.folded = true;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    text[0] = 0;
    for (size_t i = 0; i < reply.n_items; i++)
        for (size_t k = 0; k < reply.items[i]->n_reactions; k++) {
            const Loquat__Reaction *reaction = reply.items[i]->reactions[k];
            size_t n = strlen(text);
            snprintf(text + n, sizeof text - n, "%s %llu%s,", reaction->emoji,
                     (unsigned long long)reaction->n, reaction->me ? " me" : "");
        }
    return text;
}

static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob", "eve"};
    seq_of(command_open_group("ann", "open", conv, members, 2));
    message = seq_of(command_send("ann", conv, "m", "x"));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(react, .init = setup, .fini = teardown, .timeout = 60);

Test(react, counted_and_taken_back)
{
    uint64_t first = seq_of(command_react("bob", conv, "1", message, "+", true));
    cr_assert(eq(u64, first, message + 1));
    seq_of(command_react("eve", conv, "1", message, "+", true));
    seq_of(command_react("bob", conv, "2", message, "*", true));
    cr_assert(eq(str, (char *)seen_by("bob"), "+ 2 me,* 1 me,"));
    cr_assert(eq(str, (char *)seen_by("eve"), "+ 2 me,* 1,"));
    cr_assert(eq(str, (char *)seen_by("ann"), "+ 2,* 1,"));
    seq_of(command_react("bob", conv, "3", message, "+", false));
    cr_assert(eq(str, (char *)seen_by("bob"), "+ 1,* 1 me,"));
    machine_crash(&m);
    cr_assert(eq(str, (char *)seen_by("bob"), "+ 1,* 1 me,"));
    seq_of(command_react("eve", conv, "4", message, "+", false));
    cr_assert(eq(str, (char *)seen_by("eve"), "* 1,"));
    cr_assert(eq(u64, machine_conv(&m, "eve", conv)->unread, 1)); /* none of them is a message */
}

/* What is so already needs no record; the same cid again gives the first answer. */
Test(react, nothing_to_do)
{
    cr_assert(eq(u64, seq_of(command_react("bob", conv, "1", message, "+", false)), 0));
    uint64_t seq = seq_of(command_react("bob", conv, "2", message, "+", true));
    cr_assert(eq(u64, seq_of(command_react("bob", conv, "3", message, "+", true)), 0));
    struct apply_result again = run(command_react("bob", conv, "2", message, "+", true));
    cr_assert(again.dup, "%d %s %llu", again.err, again.msg, (unsigned long long)again.seq);
    cr_assert(eq(u64, again.seq, seq));
    cr_assert(eq(int, err_of(command_react("bob", conv, "2", message, "+", false)), ERR_CONFLICT));
    cr_assert(eq(int, err_of(command_react("bob", conv, "2", message, "*", true)), ERR_CONFLICT));
    cr_assert(eq(str, (char *)seen_by("bob"), "+ 1 me,"));
}

Test(react, refused)
{
    uint64_t own = seq_of(command_react("bob", conv, "1", message, "+", true));
    cr_assert(eq(int, err_of(command_react("zoe", conv, "1", message, "+", true)), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_react("bob", conv, "2", own, "+", true)), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_react("bob", conv, "2", 99, "+", true)), ERR_NOT_FOUND));
    cr_assert(eq(int, err_of(command_react("bob", conv, "2", message, "", true)), ERR_BAD_REQUEST));
    char emoji[16];
    for (int i = 1; i < REACTIONS_OF_USER_MAX; i++) {
        snprintf(emoji, sizeof emoji, "b%d", i);
        seq_of(command_react("bob", conv, emoji, message, emoji, true));
    }
    cr_assert(eq(int, err_of(command_react("bob", conv, "3", message, "-", true)), ERR_TOO_LARGE));
    seq_of(command_react("bob", conv, "4", message, "+", false));
    seq_of(command_react("bob", conv, "5", message, "-", true));
    seq_of(command_delete("ann", conv, "d", message));
    cr_assert(eq(int, err_of(command_react("eve", conv, "3", message, "-", true)), ERR_NOT_FOUND));
    cr_assert(eq(str, (char *)seen_by("bob"), ""));
}

/* Several in one entry see each other. */
Test(react, in_one_entry)
{
    Loquat__Command commands[] = {command_react("bob", conv, "1", message, "+", true),
                                  command_react("eve", conv, "1", message, "+", true),
                                  command_react("bob", conv, "2", message, "+", false),
                                  command_react("bob", conv, "3", message, "*", true)};
    Loquat__Command *each[] = {&commands[0], &commands[1], &commands[2], &commands[3]};
    machine_entry(&m, each, 4);
    for (size_t i = 0; i < 4; i++)
        cr_assert(eq(int, m.applied.results[i].err, 0));
    cr_assert(eq(str, (char *)seen_by("bob"), "+ 1,* 1 me,"));
}
