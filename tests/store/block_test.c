/* Blocks and privacy: what a blocked user can't do, whichever came first. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/state.h"
#include "store/timeline.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

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
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(block, .init = setup, .fini = teardown, .timeout = 60);

static Loquat__Command block(const char *user, const char *who, bool on)
{
    Loquat__Command command = command_leave(user, "", "");
    command.op = LOQUAT__OP__OP_BLOCK;
    command.who = (char *)(uintptr_t)who;
    command.on = on;
    return command;
}

static Loquat__UserSettings *settings(const char *user)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_SETTINGS;
    read.user = (char *)(uintptr_t)user;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    return reply.settings;
}

/* The newest record of the user's own log: its kind, and what it says in `body`. */
static uint32_t newest(const char *user, char *body, size_t size)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    Loquat__Record *record = NULL;
    read.conv = (char *)(uintptr_t)user;
    cr_assert(eq(int, timeline_read_user(m.kv, 0, &read, &m.arena, &reply), 0));
    const Loquat__Item *item = reply.items[reply.n_items - 1];
    cr_assert(eq(int,
                 record_decode(span_of((const char *)item->record.data, item->record.len),
                               &m.arena.allocator, &record),
                 0));
    snprintf(body, size, "%.*s", (int)record->body.len, (const char *)record->body.data);
    return record->kind;
}

Test(block, writes_are_refused)
{
    char body[128];
    seq_of(command_open_direct("ann", "bob", conv));
    uint64_t message = seq_of(command_send("bob", conv, "1", "x"));
    cr_assert(lt(u64, 0, seq_of(block("ann", "bob", true))));
    cr_assert(eq(u32, newest("ann", body, sizeof body), LOQUAT__KIND__KIND_BLOCK));
    cr_assert(eq(str, body, "{\"user\":\"bob\",\"on\":true}"));
    cr_assert(eq(int, err_of(command_send("bob", conv, "2", "x")), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_edit("bob", conv, "3", message, "y")), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_react("bob", conv, "4", message, "+", true)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(command_pin("bob", conv, "5", message, true)), ERR_FORBIDDEN));
    cr_assert(run(command_send("bob", conv, "1", "x")).dup); /* the first answer stands */
    seq_of(command_send("ann", conv, "1", "x"));             /* one way only */
    seq_of(command_delete("bob", conv, "6", message));       /* to take back is allowed */
    machine_crash(&m);
    cr_assert(eq(int, err_of(command_send("bob", conv, "2", "x")), ERR_FORBIDDEN));
    seq_of(block("bob", "ann", true));
    cr_assert(eq(int, err_of(command_send("ann", conv, "2", "x")), ERR_FORBIDDEN));
    seq_of(block("ann", "bob", false));
    seq_of(command_send("bob", conv, "2", "x"));
    cr_assert(eq(int, err_of(command_send("ann", conv, "2", "x")), ERR_FORBIDDEN));
}

Test(block, before_anything_was_said)
{
    seq_of(block("ann", "bob", true));
    cr_assert(eq(int, err_of(command_open_direct("bob", "ann", conv)), ERR_FORBIDDEN));
    seq_of(command_open_direct("ann", "bob", conv)); /* who blocks may */
    cr_assert(eq(int, err_of(command_send("bob", conv, "1", "x")), ERR_FORBIDDEN));
    seq_of(command_open_direct("bob", "ann", conv)); /* it is there: no more is told */
    seq_of(block("ann", "bob", false));
    seq_of(command_send("bob", conv, "1", "x"));
}

Test(block, groups_are_as_they_were)
{
    char *members[] = {"bob"};
    seq_of(command_open_group("ann", "open", conv, members, 1));
    seq_of(block("ann", "bob", true));
    seq_of(command_send("bob", conv, "1", "x"));
    cr_assert(eq(u64, machine_conv(&m, "ann", conv)->unread, 1));
}

/* Late and twice it comes out the same. */
Test(block, effects_in_any_order)
{
    seq_of(command_open_direct("ann", "bob", conv));
    Loquat__Command late = command_leave("ann", conv, "");
    late.op = LOQUAT__OP__OP_BLOCKING;
    late.on = true;
    late.stamp = 7;
    seq_of(late);
    cr_assert(eq(int, err_of(command_send("bob", conv, "1", "x")), ERR_FORBIDDEN));
    Loquat__Command off = late;
    off.on = false;
    off.stamp = 8;
    seq_of(off);
    seq_of(late);
    seq_of(command_send("bob", conv, "1", "x"));
}

Test(block, twice_itself_and_bounds)
{
    char name[16];
    cr_assert(eq(int, err_of(block("ann", "ann", true)), ERR_BAD_REQUEST));
    cr_assert(eq(u64, seq_of(block("ann", "bob", false)), 0));
    for (int i = 0; i < BLOCKS_MAX; i++) {
        snprintf(name, sizeof name, "u%d", i);
        seq_of(block("ann", name, true));
    }
    cr_assert(eq(u64, seq_of(block("ann", "u5", true)), 0)); /* it is so already */
    cr_assert(eq(int, err_of(block("ann", "more", true)), ERR_TOO_LARGE));
    seq_of(block("ann", "u5", false));
    seq_of(block("ann", "more", true));
    const Loquat__UserSettings *now = settings("ann");
    cr_assert(eq(sz, now->n_blocks, BLOCKS_MAX));
    cr_assert(eq(str, now->blocks[5]->user, "u6"));
    cr_assert(eq(str, now->blocks[BLOCKS_MAX - 1]->user, "more"));
}

Test(block, privacy)
{
    char body[128];
    Loquat__Command command = command_leave("ann", "", "");
    command.op = LOQUAT__OP__OP_PRIVACY;
    command.hidden = true;
    cr_assert(lt(u64, 0, seq_of(command)));
    cr_assert(eq(u32, newest("ann", body, sizeof body), LOQUAT__KIND__KIND_PRIVACY));
    cr_assert(eq(str, body, "{\"presence\":\"hidden\"}"));
    cr_assert(eq(u64, seq_of(command), 0));
    machine_crash(&m);
    cr_assert(settings("ann")->presence_hidden);
    command.hidden = false;
    seq_of(command);
    cr_assert(not(settings("ann")->presence_hidden));
}
