/* Mentions that were not read: counted exactly, whatever becomes of the messages. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/mention.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

static struct machine m;
static char conv[64];

static struct apply_result run(Loquat__Command command)
{
    return machine_do(&m, &command);
}

static uint64_t seq_of(Loquat__Command command)
{
    struct apply_result result = run(command);
    cr_assert(eq(int, result.err, 0), "%s: %s", err_name(result.err), result.msg);
    return result.seq;
}

/* A message of `user` that names `named`, or all when that is NULL. */
static Loquat__Command message_to(const char *user, const char *cid, const char *named)
{
    static char *list[1];
    Loquat__Command command = command_send(user, conv, cid, "x");
    list[0] = (char *)(uintptr_t)named;
    command.mention_all = named == NULL;
    command.n_mentions = named != NULL;
    command.mentions = list;
    return command;
}

static uint64_t mentions(const char *user)
{
    return machine_conv(&m, user, conv)->mentions;
}

static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob", "bobo", "eve"};
    seq_of(command_open_group("ann", "open", conv, members, 3));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(mention, .init = setup, .fini = teardown, .timeout = 120);

Test(mention, counted_until_read)
{
    uint64_t first = seq_of(message_to("ann", "1", "bob"));
    uint64_t all = seq_of(message_to("ann", "2", NULL));
    seq_of(message_to("ann", "3", "bobo"));
    cr_assert(eq(u64, mentions("bob"), 2));
    cr_assert(eq(u64, mentions("bobo"), 2));
    cr_assert(eq(u64, mentions("eve"), 1));
    cr_assert(eq(u64, mentions("ann"), 0));
    machine_crash(&m);
    cr_assert(eq(u64, mentions("bob"), 2));
    run(command_mark("bob", conv, first, first));
    cr_assert(eq(u64, mentions("bob"), 1));
    run(command_mark("bob", conv, all, all));
    cr_assert(eq(u64, mentions("bob"), 0));
    seq_of(message_to("bob", "4", NULL)); /* one's own never counts */
    cr_assert(eq(u64, mentions("bob"), 0));
    cr_assert(eq(u64, mentions("bobo"), 3));
}

Test(mention, not_of_what_is_gone)
{
    uint64_t first = seq_of(message_to("ann", "1", "bob"));
    uint64_t second = seq_of(message_to("ann", "2", NULL));
    Loquat__Command command = message_to("ann", "3", "bob");
    command.ttl_s = 10;
    seq_of(command);
    cr_assert(eq(u64, mentions("bob"), 3));
    seq_of(command_delete("ann", conv, "d1", first));
    cr_assert(eq(u64, mentions("bob"), 2));
    seq_of(command_delete("ann", conv, "d2", second));
    cr_assert(eq(u64, mentions("bob"), 1));
    m.now_ms += 20000;
    cr_assert(eq(u64, mentions("bob"), 0));
    cr_assert(eq(u64, mentions("eve"), 0));
}

/* A newcomer owes nothing to what came before, nor to what the floor has passed. */
Test(mention, joins_and_floors)
{
    seq_of(message_to("ann", "1", "joe"));
    seq_of(message_to("ann", "2", NULL));
    seq_of(command_member("ann", conv, "j", MEMBER_ADD, "joe", 0));
    cr_assert(eq(u64, mentions("joe"), 0));
    seq_of(message_to("ann", "3", "joe"));
    uint64_t last = seq_of(message_to("ann", "4", NULL));
    cr_assert(eq(u64, mentions("joe"), 2));
    seq_of(command_retain(conv, last));
    cr_assert(eq(u64, mentions("joe"), 1));
    cr_assert(eq(u64, mentions("eve"), 1));
}

/* In a large group not everybody may call everybody. */
Test(mention, all_by_role)
{
    char user[16], cid[16] = "first";
    for (int i = 0; i < MENTION_ALL_MEMBERS_MAX; i++) {
        cr_assert(eq(
            int, run(message_to("eve", cid, NULL)).err,
            machine_conv(&m, "ann", conv)->members > MENTION_ALL_MEMBERS_MAX ? ERR_FORBIDDEN : 0));
        snprintf(user, sizeof user, "u%d", i);
        snprintf(cid, sizeof cid, "c%d", i);
        seq_of(command_member("ann", conv, cid, MEMBER_ADD, user, 0));
    }
    cr_assert(eq(int, run(message_to("eve", "last", NULL)).err, ERR_FORBIDDEN));
    seq_of(message_to("eve", "last", "bob"));
    seq_of(message_to("ann", "last", NULL));
}

/* As many as are counted stand for more. */
Test(mention, of_many)
{
    char cid[16];
    for (int i = 0; i < MENTIONS_COUNTED_MAX + 5; i++) {
        snprintf(cid, sizeof cid, "%d", i);
        seq_of(message_to("ann", cid, i % 2 == 0 ? "bob" : NULL));
    }
    cr_assert(eq(u64, mentions("bob"), MENTIONS_COUNTED_MAX));
    cr_assert(eq(u64, mentions("eve"), MENTIONS_COUNTED_MAX / 2 + 2));
}
