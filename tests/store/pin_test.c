/* Pins and settings: who may, what they say, what becomes of them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/wire.h"
#include "store/state.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { ADMIN = LOQUAT__ROLE__ROLE_ADMIN };

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

TestSuite(pin, .init = setup, .fini = teardown, .timeout = 60);

static const char *pins_of(const char *user)
{
    static char text[1024];
    const Loquat__ConvInfo *info = machine_conv(&m, user, conv);
    text[0] = 0;
    for (size_t i = 0; i < info->n_pins; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%llu,",
                 (unsigned long long)info->pins[i]);
    return text;
}

/* When the message was pinned, by the page. */
static uint64_t pinned(uint64_t seq)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.user = "eve";
    read.conv = conv;
    read.folded = true;
    cr_assert(eq(int, machine_range(&m, &read, &reply), 0));
    for (size_t i = 0; i < reply.n_items; i++)
        if (reply.items[i]->seq == seq)
            return reply.items[i]->pinned;
    return 0;
}

static Loquat__Command pin(const char *user, const char *cid, uint64_t seq, bool on)
{
    return command_pin(user, conv, cid, seq, on);
}

Test(pin, on_and_off)
{
    uint64_t second = seq_of(command_send("bob", conv, "m", "y"));
    uint64_t record = seq_of(pin("ann", "1", second, true));
    cr_assert(eq(u64, record, second + 1));
    seq_of(pin("ann", "2", message, true));
    char want[64];
    snprintf(want, sizeof want, "%llu,%llu,", (unsigned long long)second,
             (unsigned long long)message);
    cr_assert(eq(str, (char *)pins_of("eve"), want));
    cr_assert(ne(u64, pinned(second), 0));
    cr_assert(eq(u64, seq_of(pin("ann", "3", second, true)), 0)); /* it is so already */
    cr_assert(run(pin("ann", "1", second, true)).dup);
    cr_assert(eq(int, err_of(pin("ann", "1", second, false)), ERR_CONFLICT));
    machine_crash(&m);
    cr_assert(eq(str, (char *)pins_of("eve"), want));
    seq_of(pin("ann", "4", second, false));
    cr_assert(eq(u64, seq_of(pin("ann", "5", second, false)), 0));
    cr_assert(eq(u64, pinned(second), 0));
    snprintf(want, sizeof want, "%llu,", (unsigned long long)message);
    cr_assert(eq(str, (char *)pins_of("eve"), want));
    cr_assert(eq(u64, machine_conv(&m, "eve", conv)->unread, 2)); /* no pin is a message */
}

Test(pin, who_may)
{
    cr_assert(eq(int, err_of(pin("bob", "1", message, true)), ERR_FORBIDDEN));
    cr_assert(eq(int, err_of(pin("zoe", "1", message, true)), ERR_NOT_FOUND));
    seq_of(command_member("ann", conv, "r", MEMBER_ROLE, "bob", ADMIN));
    uint64_t own = seq_of(pin("bob", "2", message, true));
    cr_assert(eq(int, err_of(pin("bob", "3", own, true)), ERR_NOT_FOUND)); /* no message */
    cr_assert(eq(int, err_of(pin("bob", "3", 99, true)), ERR_NOT_FOUND));
    char direct[64];
    seq_of(command_open_direct("ann", "bob", direct));
    uint64_t there = seq_of(command_send("ann", direct, "m", "x"));
    seq_of(command_pin("bob", direct, "1", there, true));
}

/* What was deleted is pinned no more; what lies below the floor neither. */
Test(pin, gone_with_the_message)
{
    uint64_t second = seq_of(command_send("bob", conv, "m", "y"));
    seq_of(pin("ann", "1", second, true));
    seq_of(pin("ann", "2", message, true));
    seq_of(command_delete("ann", conv, "d", second));
    char want[64];
    snprintf(want, sizeof want, "%llu,", (unsigned long long)message);
    cr_assert(eq(str, (char *)pins_of("eve"), want));
    cr_assert(eq(int, err_of(pin("ann", "3", second, true)), ERR_NOT_FOUND));
    seq_of(command_retain(conv, message + 1));
    cr_assert(eq(str, (char *)pins_of("eve"), ""));
}

/* One that has expired can be taken from the list. */
Test(pin, of_an_expired_message)
{
    Loquat__Command command = command_send("ann", conv, "t", "x");
    command.ttl_s = 10;
    uint64_t seq = seq_of(command);
    seq_of(pin("ann", "1", seq, true));
    m.now_ms += 20000;
    cr_assert(eq(int, err_of(pin("ann", "2", seq, true)), ERR_NOT_FOUND));
    cr_assert(ne(u64, seq_of(pin("ann", "3", seq, false)), 0));
    cr_assert(eq(str, (char *)pins_of("eve"), ""));
    cr_assert(eq(int, err_of(pin("ann", "4", seq, true)), ERR_NOT_FOUND));
}

Test(pin, as_many_as_can_be)
{
    char cid[16];
    for (int i = 0; i <= PINS_MAX; i++) {
        snprintf(cid, sizeof cid, "m%d", i);
        uint64_t seq = seq_of(command_send("ann", conv, cid, "x"));
        snprintf(cid, sizeof cid, "p%d", i);
        cr_assert(eq(int, err_of(pin("ann", cid, seq, true)), i < PINS_MAX ? 0 : ERR_TOO_LARGE));
    }
}

/* ---- settings ---- */

Test(pin, settings)
{
    Loquat__Command command = command_meta("ann", conv, "1");
    command.fields = LOQUAT__META_FIELD__META_NAME | LOQUAT__META_FIELD__META_TOPIC |
                     LOQUAT__META_FIELD__META_TTL | LOQUAT__META_FIELD__META_HISTORY;
    command.name = "new \"name\"";
    command.topic = "";
    command.ttl_s = 60;
    command.history_joined = true;
    uint64_t seq = seq_of(command);
    cr_assert(eq(u64, seq, message + 1));
    const Loquat__ConvInfo *info = machine_conv(&m, "bob", conv);
    cr_assert(eq(str, info->name, "new \"name\""));
    cr_assert(eq(u64, info->ttl_s, 60));
    cr_assert(info->history_joined);
    cr_assert(run(command).dup);
    command.name = "another";
    cr_assert(eq(int, err_of(command), ERR_CONFLICT));
    command.name = "new \"name\"";
    command.cid = "2";
    cr_assert(eq(u64, seq_of(command), 0)); /* it is so already */
    machine_crash(&m);
    cr_assert(eq(str, machine_conv(&m, "bob", conv)->name, "new \"name\""));
    uint64_t sent = seq_of(command_send("bob", conv, "ttl", "x"));
    m.now_ms += 61000;
    cr_assert(eq(u64, pinned(sent), 0)); /* reads the page: it is a hole now */
}

Test(pin, settings_refused)
{
    Loquat__Command command = command_meta("bob", conv, "1");
    command.fields = LOQUAT__META_FIELD__META_TOPIC;
    command.topic = "x";
    cr_assert(eq(int, err_of(command), ERR_FORBIDDEN));
    command.user = "zoe";
    cr_assert(eq(int, err_of(command), ERR_NOT_FOUND));
    command.user = "ann";
    command.fields = 0;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    command.fields = 1u << 20;
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    command.fields = LOQUAT__META_FIELD__META_NAME;
    command.name = "";
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
    char direct[64];
    seq_of(command_open_direct("ann", "bob", direct));
    command = command_meta("bob", direct, "1");
    command.fields = LOQUAT__META_FIELD__META_TTL;
    command.ttl_s = 5;
    seq_of(command);
    command.cid = "2";
    command.fields = LOQUAT__META_FIELD__META_TOPIC;
    command.topic = "x";
    cr_assert(eq(int, err_of(command), ERR_BAD_REQUEST));
}

/* Only owners and admins write; reactions are everybody's. */
Test(pin, announcements)
{
    Loquat__Command command = command_meta("ann", conv, "1");
    command.fields = LOQUAT__META_FIELD__META_ANNOUNCE;
    command.announce = true;
    seq_of(command);
    cr_assert(machine_conv(&m, "bob", conv)->announce);
    cr_assert(eq(int, err_of(command_send("bob", conv, "1", "x")), ERR_FORBIDDEN));
    seq_of(command_react("bob", conv, "2", message, "+", true));
    seq_of(command_send("ann", conv, "2", "x"));
    seq_of(command_member("ann", conv, "r", MEMBER_ROLE, "bob", ADMIN));
    seq_of(command_send("bob", conv, "1", "x"));
    command.cid = "3";
    command.announce = false;
    seq_of(command);
    seq_of(command_send("eve", conv, "1", "x"));
}

/* ---- what an older program would not know ---- */

static struct apply_result run_old(const Loquat__Command *command, unsigned version)
{
    struct buf entry = {0}, bytes = {0};
    entry_begin(&entry, version, m.now_ms);
    command_pack(command, &bytes);
    entry_add(&entry, buf_span(&bytes));
    machine_replay(&m, buf_span(&entry));
    struct apply_result result = m.applied.results[0];
    machine_write(&m);
    buf_close(&entry);
    buf_close(&bytes);
    return result;
}

Test(pin, not_in_entries_of_before)
{
    Loquat__Command commands[] = {command_react("bob", conv, "1", message, "+", true),
                                  command_pin("ann", conv, "1", message, true),
                                  command_meta("ann", conv, "2")};
    commands[2].fields = LOQUAT__META_FIELD__META_TOPIC;
    commands[2].topic = "x";
    for (size_t i = 0; i < 3; i++) {
        cr_assert(eq(int, run_old(&commands[i], ENTRY_VERSION_OLDEST).err, ERR_AGAIN));
        cr_assert(eq(u64, machine_conv(&m, "bob", conv)->head, message));
        cr_assert(eq(int, err_of(commands[i]), 0));
        seq_of(command_send("ann", conv, i == 0 ? "a" : i == 1 ? "b" : "c", "x"));
        message = machine_conv(&m, "bob", conv)->head;
    }
}

/* An older program does not know these settings, and refuses all of such a command. */
Test(pin, what_is_searched_is_not_in_entries_of_before)
{
    Loquat__Command command = command_meta("ann", conv, "1");
    command.fields = LOQUAT__META_FIELD__META_TOPIC | LOQUAT__META_FIELD__META_LANG;
    command.topic = "x";
    command.lang = "de";
    cr_assert(eq(int, run_old(&command, ENTRY_VERSION_JOBS).err, ERR_AGAIN));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->head, message));
    seq_of(command);
    const Loquat__ConvInfo *info = machine_conv(&m, "bob", conv);
    cr_assert(eq(str, info->lang, "de"));
    cr_assert(eq(int, info->search_off, 0));
    char direct[64];
    seq_of(command_open_direct("ann", "bob", direct));
    command = command_meta("bob", direct, "2");
    command.fields = LOQUAT__META_FIELD__META_SEARCH;
    command.search_off = true;
    cr_assert(eq(int, run_old(&command, ENTRY_VERSION_JOBS).err, ERR_AGAIN));
    seq_of(command);
    cr_assert(machine_conv(&m, "ann", direct)->search_off);
}
