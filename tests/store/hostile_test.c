/* Commands that no gateway of ours would send: fields too long, too many, of no meaning, and bytes
 * that are no command. They are refused or do nothing; the state machine stays whole. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/ids.h"
#include "tests/lib/dice.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { ENTRIES = 3000, TEXTS = 12 };

static struct machine m;
static char conv[64], direct[64];
static uint64_t seed = 1, state;

static uint64_t roll(uint64_t sides)
{
    return dice_roll(&state, sides);
}

static void setup(void)
{
    const char *given = getenv("LOQUAT_SEED");
    seed = state = given != NULL ? strtoull(given, NULL, 10) : 1;
    machine_open(&m);
    char *members[] = {"bob"};
    Loquat__Command command = command_open_group("ann", "open", conv, members, 1);
    machine_do(&m, &command);
    command = command_open_direct("ann", "bob", direct);
    machine_do(&m, &command);
}

static void teardown(void)
{
    machine_close(&m);
}

TestSuite(hostile, .init = setup, .fini = teardown, .timeout = 120);

static char *text(void)
{
    static char texts[TEXTS][200];
    static unsigned next;
    static const char *const known[] = {"ann", "bob", "", "c1", "c2", "zoe"};
    char *out = texts[next++ % TEXTS];
    if (roll(3) > 0) {
        snprintf(out, sizeof texts[0], "%s", known[roll(6)]);
        return out;
    }
    size_t n = 60 + roll(10);
    if (roll(4) == 0)
        n = roll(sizeof texts[0]);
    memset(out, (int)(1 + roll(255)), n);
    out[n < sizeof texts[0] ? n : sizeof texts[0] - 1] = 0;
    return out;
}

static uint64_t number(void)
{
    static const uint64_t some[] = {0, 1, 2, 3, 7, UINT32_MAX, INT64_MAX, UINT64_MAX};
    return roll(3) == 0 ? some[roll(8)] : roll(12);
}

static char token[] = "0123456789abcdef";

static size_t hostile(char *bytes)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    Loquat__UserEffect effect = LOQUAT__USER_EFFECT__INIT, *effects[] = {&effect};
    char *members[4], *mentions[2];
    uint64_t done[2] = {number(), number()};
    for (int i = 0; i < 4; i++)
        members[i] = text();
    mentions[0] = mentions[1] = text();
    command.op = (uint32_t)roll(LOQUAT__OP__OP_PRIVACY + 2);
    if (roll(6) == 0)
        command.op = LOQUAT__OP__OP_USER_EFFECT + (uint32_t)roll(5);
    command.user = text();
    command.admin = roll(2);
    command.conv = roll(3) == 0 ? text() : roll(2) ? conv : direct;
    command.cid = text();
    command.with = text();
    if (command.op == LOQUAT__OP__OP_OPEN && strlen(command.user) <= 64 &&
        strlen(command.with) <= 64 && strlen(command.cid) <= 64) {
        static char id[64];
        command.conv = id;
        command.conv_kind = (uint32_t)roll(4);
        if (command.conv_kind == LOQUAT__CONV_KIND__CONV_DIRECT)
            direct_id(span_str(command.user), span_str(command.with), id);
        else
            group_id(span_str(command.user), span_str(command.cid), id);
    }
    command.kind = (uint32_t)(roll(4) ? 1 : number());
    command.body = (ProtobufCBinaryData){roll(50), (uint8_t *)text()};
    command.ts = number();
    command.reply = number();
    command.thread = roll(3) ? 0 : number();
    command.target = number();
    command.ttl_s = roll(3) ? 0 : number();
    command.who = text();
    command.set = (uint32_t)number();
    command.role = (uint32_t)number();
    command.read = number();
    command.delivered = number();
    command.floor = roll(20) ? 0 : number();
    command.name = text();
    command.xkind = text();
    command.members = members;
    command.n_members = roll(5);
    command.mentions = mentions;
    command.n_mentions = roll(3);
    effect.user = text();
    effect.conv = text();
    effect.stamp = number();
    effect.gone = roll(2);
    command.effects = effects;
    command.n_effects = roll(2);
    command.done = done;
    command.n_done = roll(3);
    command.token = roll(3) ? token : text();
    command.expires_s = number();
    command.uses = number();
    command.stamp = number();
    command.on = roll(2);
    command.hidden = roll(2);
    return loquat__command__pack(&command, (uint8_t *)bytes);
}

/* Every sequence of the log is there, and the members are who they say. */
static void check_whole(void)
{
    Loquat__Reply reply;
    for (int i = 0; i < 2; i++) {
        Loquat__Read read = LOQUAT__READ__INIT;
        read.conv = i == 0 ? conv : direct;
        read.all = true;
        uint64_t at = 1;
        do {
            cr_assert(eq(int, machine_range(&m, &read, &reply), 0), "seed %lu", seed);
            for (size_t k = 0; k < reply.n_items; k++) {
                cr_assert(eq(u64, reply.items[k]->seq, at), "seed %lu", seed);
                at = (reply.items[k]->hole != 0 ? reply.items[k]->last : at) + 1;
            }
            read.from = reply.next;
        } while (reply.next != 0);
        cr_assert(eq(u64, at, reply.head + 1), "seed %lu", seed);
        arena_reset(&m.arena);
    }
}

Test(hostile, commands_of_any_shape)
{
    static char bytes[8192];
    struct buf entry = {0};
    for (int i = 0; i < ENTRIES; i++) {
        entry_begin(&entry, ENTRY_VERSION, ++m.now_ms);
        size_t count = 1 + roll(4);
        for (size_t k = 0; k < count; k++) {
            size_t n = hostile(bytes);
            for (uint64_t flips = roll(4) == 0 ? 1 + roll(3) : 0; flips > 0 && n > 0; flips--)
                bytes[roll(n)] ^= (char)(1 << roll(8));
            if (roll(20) == 0)
                n = roll(n + 1);
            entry_add(&entry, span_of(bytes, n));
        }
        machine_replay(&m, buf_span(&entry));
        machine_write(&m);
        cr_assert(eq(sz, m.applied.result_count, count));
        if (roll(500) == 0)
            machine_crash(&m);
    }
    buf_close(&entry);
    check_whole();
    machine_restart(&m);
    check_whole();
    Loquat__Command open = command_open_group("last", "word", conv, NULL, 0);
    cr_assert(eq(int, machine_do(&m, &open).err, 0));
}

/* Questions of any shape. */
Test(hostile, questions_of_any_shape)
{
    for (int i = 0; i < ENTRIES; i++) {
        Loquat__Read read = LOQUAT__READ__INIT;
        Loquat__Reply reply = LOQUAT__REPLY__INIT;
        char *convs[3] = {text(), conv, direct};
        read.op = (uint32_t)roll(LOQUAT__READ_OP__READ_THREADS + 2);
        read.thread = roll(2) ? 0 : number();
        read.at = roll(2) ? 0 : number();
        read.settings = roll(2);
        read.user = text();
        read.conv = roll(3) == 0 ? text() : conv;
        read.all = roll(2);
        read.convs = convs;
        read.n_convs = roll(4);
        read.from = number();
        read.to = number();
        read.max = (uint32_t)number();
        read.bytes_max = (uint32_t)number();
        read.folded = roll(2);
        read.desc = roll(2);
        read.after = text();
        int err = read.op == LOQUAT__READ_OP__READ_RANGE ? machine_range(&m, &read, &reply)
                                                         : machine_read(&m, &read, &reply);
        cr_assert(err == 0 || err == ERR_BAD_REQUEST || err == ERR_NOT_FOUND ||
                      err == ERR_FORBIDDEN,
                  "%s", err_name(err));
        arena_reset(&m.arena);
    }
}
