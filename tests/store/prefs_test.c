/* What a user sets of a conversation: in the list, and in the own log, for the other devices. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/timeline.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

static struct machine m;
static char conv[64], other[64];

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

static void setup(void)
{
    machine_open(&m);
    char *members[] = {"bob"};
    seq_of(command_open_group("ann", "open", conv, members, 1));
    seq_of(command_open_group("ann", "other", other, members, 1));
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(prefs, .init = setup, .fini = teardown, .timeout = 60);

static Loquat__Command prefs(const char *user, const char *of, uint32_t fields)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_PREFS;
    command.user = (char *)(uintptr_t)user;
    command.conv = (char *)(uintptr_t)of;
    command.fields = fields;
    return command;
}

static Loquat__Command draft(const char *user, const char *of, const char *text)
{
    Loquat__Command command = prefs(user, of, LOQUAT__PREF_FIELD__PREF_DRAFT);
    command.draft = (char *)(uintptr_t)text;
    return command;
}

/* Of the list of `user`; NULL: nothing is set of it. `all`: how many are listed. */
static const Loquat__UserConv *row_of(const char *user, const char *of, size_t *all)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = (char *)(uintptr_t)user;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    *all = reply.n_ids;
    for (size_t i = 0; i < reply.n_rows; i++)
        if (strcmp(reply.rows[i]->conv, of) == 0)
            return reply.rows[i];
    return NULL;
}

/* Body of the newest record of the user's log. */
static const char *newest(const char *user)
{
    static char text[256];
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.conv = (char *)(uintptr_t)user;
    cr_assert(eq(int, timeline_read_user(m.kv, 0, &read, &m.arena, &reply), 0));
    const Loquat__Item *item = reply.items[reply.n_items - 1];
    Loquat__Record *record = NULL;
    cr_assert(eq(int,
                 record_decode(span_of((char *)item->record.data, item->record.len),
                               &m.arena.allocator, &record),
                 0));
    snprintf(text, sizeof text, "%u %.*s", record->kind, (int)record->body.len,
             (char *)record->body.data);
    return text;
}

Test(prefs, set_and_taken_back)
{
    size_t all = 0;
    char want[256];
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("bob", conv, &all)));
    Loquat__Command command =
        prefs("bob", conv, LOQUAT__PREF_FIELD__PREF_MUTED | LOQUAT__PREF_FIELD__PREF_PINNED);
    command.muted_until = 5000;
    command.pinned = true;
    uint64_t seq = seq_of(command);
    cr_assert(ne(u64, seq, 0));
    snprintf(want, sizeof want, "51 {\"c\":\"%s\",\"muted_until\":5000,\"pinned\":true}", conv);
    cr_assert(eq(str, (char *)newest("bob"), want));
    cr_assert(eq(u64, seq_of(command), 0)); /* it is so already */
    machine_crash(&m);
    const Loquat__UserConv *row = row_of("bob", conv, &all);
    cr_assert(row != NULL && row->muted_until == 5000 && row->pinned != 0);
    cr_assert(eq(sz, all, 2));
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("bob", other, &all)));
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("ann", conv, &all))); /* nobody else's */
    command.muted_until = 0;
    command.pinned = false;
    cr_assert(eq(u64, seq_of(command), seq + 1));
    snprintf(want, sizeof want, "51 {\"c\":\"%s\",\"muted_until\":null,\"pinned\":false}", conv);
    cr_assert(eq(str, (char *)newest("bob"), want));
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("bob", conv, &all)));
}

Test(prefs, drafts)
{
    size_t all = 0;
    char want[256];
    seq_of(draft("bob", conv, "say \"it\"\nnow"));
    snprintf(want, sizeof want, "51 {\"c\":\"%s\",\"draft\":\"say \\\"it\\\"\\nnow\"}", conv);
    cr_assert(eq(str, (char *)newest("bob"), want));
    cr_assert(eq(str, row_of("bob", conv, &all)->draft, "say \"it\"\nnow"));
    cr_assert(eq(u64, seq_of(draft("bob", conv, "say \"it\"\nnow")), 0));
    seq_of(draft("bob", conv, ""));
    snprintf(want, sizeof want, "51 {\"c\":\"%s\",\"draft\":null}", conv);
    cr_assert(eq(str, (char *)newest("bob"), want));
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("bob", conv, &all)));
    char *large = arena_alloc(&m.arena, DRAFT_MAX + 2);
    memset(large, 'x', DRAFT_MAX + 1);
    large[DRAFT_MAX + 1] = 0;
    cr_assert(eq(int, run(draft("bob", conv, large)).err, ERR_BAD_REQUEST));
    large[DRAFT_MAX] = 0;
    seq_of(draft("bob", conv, large));
}

/* Hidden again hides also what came since. */
Test(prefs, hidden)
{
    size_t all = 0;
    Loquat__Command command = prefs("bob", conv, LOQUAT__PREF_FIELD__PREF_HIDDEN);
    cr_assert(eq(u64, seq_of(command), 0));
    command.hidden = true;
    seq_of(command);
    uint64_t first = row_of("bob", conv, &all)->hidden;
    cr_assert(ne(u64, first, 0));
    m.now_ms += 1000;
    seq_of(command);
    cr_assert(ge(u64, row_of("bob", conv, &all)->hidden, first + 1000));
    command.hidden = false;
    seq_of(command);
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("bob", conv, &all)));
}

Test(prefs, refused)
{
    cr_assert(eq(int, run(draft("zoe", conv, "x")).err, ERR_NOT_FOUND));
    cr_assert(eq(int, run(draft("bob", "g-nothing", "x")).err, ERR_NOT_FOUND));
    cr_assert(eq(int, run(prefs("bob", conv, 0)).err, ERR_BAD_REQUEST));
    cr_assert(eq(int, run(prefs("bob", conv, 1u << 9)).err, ERR_BAD_REQUEST));
    seq_of(command_leave("bob", conv, "leave"));
    cr_assert(eq(int, run(draft("bob", conv, "x")).err, ERR_NOT_FOUND));
}

/* Who leaves takes nothing along, and who comes back begins anew. */
Test(prefs, end_with_the_membership)
{
    size_t all = 0;
    seq_of(draft("bob", conv, "x"));
    seq_of(command_leave("bob", conv, "leave"));
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("bob", conv, &all)));
    cr_assert(eq(sz, all, 1));
    seq_of(command_member("ann", conv, "back", MEMBER_ADD, "bob", 0));
    cr_assert(zero(ptr, (void *)(uintptr_t)row_of("bob", conv, &all)));
    cr_assert(eq(sz, all, 2));
    seq_of(draft("bob", conv, "y"));
    cr_assert(eq(str, row_of("bob", conv, &all)->draft, "y"));
}

/* One conversation of the list. */
Test(prefs, of_one)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    seq_of(draft("bob", conv, "x"));
    seq_of(draft("bob", other, "y"));
    read.op = LOQUAT__READ_OP__READ_USER;
    read.user = "bob";
    read.conv = other;
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids, 1));
    cr_assert(eq(sz, reply.n_rows, 1));
    cr_assert(eq(str, reply.rows[0]->draft, "y"));
    read.conv = "g-nothing";
    cr_assert(eq(int, machine_read(&m, &read, &reply), 0));
    cr_assert(eq(sz, reply.n_ids + reply.n_rows, 0));
}
