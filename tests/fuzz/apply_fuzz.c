/* Commands and reads that no gateway would send: the state machine refuses or carries out each,
 * says why, and never ends. A command is in the log of every replica: one that ended it would end
 * it there again at each start.
 * Input: steps of a few bytes each; what is missing reads as 0. Every input has users and
 * conversations of its own, in one database. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* A database grows with every input; looking for leaks after each would take all the time. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

enum { USERS = 6, CONVS = 8, STEPS_MAX = 64, RUNS_PER_LIFE = 2000, NAME_SIZE = 80 };

struct input {
    const uint8_t *p;
    size_t n;
};

static struct machine m;
static uint32_t runs;
static char users[USERS][NAME_SIZE], convs[CONVS][NAME_SIZE];

static uint8_t byte(struct input *in)
{
    if (in->n == 0)
        return 0;
    in->n--;
    return *in->p++;
}

static uint64_t number(struct input *in)
{
    static const uint64_t EDGES[] = {0,          UINT64_MAX,    INT64_MAX, (uint64_t)1 << 63,
                                     UINT32_MAX, 1700000000000, 60,        1000000};
    uint8_t b = byte(in);
    return b >= 0xf8 ? EDGES[b - 0xf8] : b % 12;
}

static char *user(struct input *in)
{
    return users[byte(in) % USERS];
}

static char *conv(struct input *in)
{
    return convs[byte(in) % CONVS];
}

static char *text(struct input *in)
{
    static const char *const TEXTS[] = {"",    "c1", "c2", "c3", "poll", "{}", "{\"text\":\"x\"}",
                                        "\xff"};
    return (char *)(uintptr_t)TEXTS[byte(in) % (sizeof TEXTS / sizeof *TEXTS)];
}

/* Names of this run: three users, conversations that they may open, and names that never fit. */
static void name_all(void)
{
    char cid[4];
    for (int i = 0; i < 3; i++) {
        snprintf(users[i], NAME_SIZE, "u%d-%u", i, runs);
        snprintf(cid, sizeof cid, "c%d", i + 1);
        group_id(span_str(users[0]), span_str(cid), convs[i]);
    }
    users[3][0] = convs[5][0] = 0;
    memset(users[4], 'u', USER_MAX);
    memset(users[5], 'u', USER_MAX + 1);
    direct_id(span_str(users[0]), span_str(users[1]), convs[3]);
    direct_id(span_str(users[1]), span_str(users[2]), convs[4]);
    memset(convs[6], 'c', CONV_ID_MAX);
    memset(convs[7], 'c', CONV_ID_MAX + 1);
}

static void check_result(const struct apply_result *result)
{
    ASSERT(result->err <= 0 && (result->err == 0) == (result->msg == NULL));
    ASSERT(strcmp(err_name(result->err), "ERR_INTERNAL") != 0);
}

/* Any bytes as a command; in an entry of its own. */
static void do_raw(struct input *in)
{
    struct buf entry = {0};
    size_t n = byte(in) % 64;
    n = n < in->n ? n : in->n;
    entry_begin(&entry, ENTRY_VERSION, ++m.now_ms);
    entry_add(&entry, span_of(in->p, n));
    in->p += n;
    in->n -= n;
    machine_replay(&m, buf_span(&entry));
    machine_write(&m);
    check_result(&m.applied.results[0]);
    buf_close(&entry);
}

static void do_command(struct input *in)
{
    static const uint32_t OPS[] = {
        LOQUAT__OP__OP_OPEN,   LOQUAT__OP__OP_SEND,   LOQUAT__OP__OP_EDIT,
        LOQUAT__OP__OP_DELETE, LOQUAT__OP__OP_MEMBER, LOQUAT__OP__OP_LEAVE,
        LOQUAT__OP__OP_MARK,   LOQUAT__OP__OP_RETAIN, LOQUAT__OP__OP_OUT_DONE};
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    char *names[2];
    uint8_t flags = byte(in);
    command.op = OPS[byte(in) % (sizeof OPS / sizeof *OPS)];
    command.user = user(in);
    command.conv = conv(in);
    command.cid = text(in);
    command.admin = flags & 1;
    command.mention_all = flags & 2;
    command.history_joined = flags & 4;
    command.conv_kind = flags & 8 ? LOQUAT__CONV_KIND__CONV_DIRECT : LOQUAT__CONV_KIND__CONV_GROUP;
    command.kind = (uint32_t)(flags & 16 ? number(in) : LOQUAT__KIND__KIND_TEXT);
    command.body.data = (uint8_t *)text(in);
    command.body.len = strlen((char *)command.body.data);
    command.with = command.who = user(in);
    command.target = command.reply = command.read = command.floor = number(in);
    command.thread = command.delivered = command.ttl_s = number(in);
    command.set = (uint32_t)number(in);
    command.role = (uint32_t)number(in);
    command.ts = flags & 32 ? number(in) : 0;
    command.member_max = flags & 64 ? number(in) : 0;
    command.name = command.topic = command.xkind = text(in);
    names[0] = user(in);
    names[1] = user(in);
    command.members = command.mentions = names;
    command.n_members = flags & 128 ? 2 : 1;
    command.n_mentions = flags & 128 ? 1 : 0;
    command.done = &command.target;
    command.n_done = 1;
    struct apply_result result = machine_do(&m, &command);
    check_result(&result);
    if (result.err == 0 && command.op == LOQUAT__OP__OP_SEND)
        ASSERT(result.seq > 0 && result.n > 0 && result.n <= result.seq);
}

static void check_page(const Loquat__Read *read, const Loquat__Reply *reply)
{
    uint64_t at = 0;
    for (size_t i = 0; i < reply->n_items; i++) {
        const Loquat__Item *item = reply->items[i];
        uint64_t first = item->seq;
        ASSERT(first > 0 && (i == 0 || (read->desc ? first < at : first > at)));
        at = first;
        if (item->hole == 0)
            ASSERT(record_check(span_of(item->record.data, item->record.len)) == 0);
        else
            ASSERT(hole_name(item->hole) != hole_name(0));
    }
}

static void do_read(struct input *in)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply;
    char *names[2];
    uint8_t flags = byte(in);
    read.op = byte(in) % 7;
    read.user = user(in);
    read.conv = conv(in);
    names[0] = conv(in);
    names[1] = conv(in);
    read.convs = names;
    read.n_convs = 2;
    read.all = flags & 1;
    read.desc = flags & 2;
    read.folded = flags & 4;
    read.from = number(in);
    read.to = number(in);
    read.max = (uint32_t)number(in);
    read.bytes_max = (uint32_t)number(in);
    read.after = flags & 8 ? user(in) : (char *)(uintptr_t) "";
    if (read.op == LOQUAT__READ_OP__READ_RANGE) {
        if (machine_range(&m, &read, &reply) == 0)
            check_page(&read, &reply);
    } else {
        int err = machine_read(&m, &read, &reply);
        ASSERT(err <= 0 && err != ERR_CORRUPT);
    }
    arena_reset(&m.arena);
}

static void at_exit(void)
{
    scratch_remove(m.root); /* RocksDB itself can't be closed any more */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    if (runs++ % RUNS_PER_LIFE == 0) {
        if (runs > 1)
            machine_close(&m);
        else
            ASSERT(atexit(at_exit) == 0);
        machine_open(&m);
    }
    name_all();
    for (int step = 0; step < STEPS_MAX && in.n > 0; step++) {
        uint8_t what = byte(&in);
        if (what >= 0xf0)
            do_raw(&in);
        else if (what >= 0xc0)
            do_read(&in);
        else
            do_command(&in);
    }
    return 0;
}
