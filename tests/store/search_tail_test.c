/* What the index has not got yet is found all the same, as far as one search looks; and nothing of
 * it shows for who may not read it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/err.h"
#include "store/search/build.h"
#include "store/search/search.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { CONVS = 3, BATCH = 200, MANY = KV_EACH_MAX + 60 };

static struct machine m;
static struct kv *idx;
static struct build *build;
static bool damaged;
static char conv[CONVS][64];
static unsigned cids;

static struct apply_result run(Loquat__Command command)
{
    struct apply_result result = machine_do(&m, &command);
    cr_assert(eq(int, result.err, 0));
    return result;
}

static void setup(void)
{
    char dir[SCRATCH_MAX + 32], cid[16], *members[] = {"bob"};
    bool fresh;
    cids = 0;
    machine_open(&m);
    snprintf(dir, sizeof dir, "%s/index", m.root);
    cr_assert(eq(int, index_open(dir, "test", &idx, &fresh), 0));
    build = build_new(m.kv, idx);
    for (int i = 0; i < CONVS; i++) {
        snprintf(cid, sizeof cid, "o%d", i);
        run(command_open_group("ann", cid, conv[i], members, 1));
    }
}

static void teardown(void)
{
    build_free(build);
    kv_close(idx);
    machine_close(&m);
}

TestSuite(search_tail, .init = setup, .fini = teardown, .timeout = 120);

static void index_all(void)
{
    struct build_step step = {.more = true};
    while (step.more)
        cr_assert(eq(int, build_step(build, 0, NULL, &step), 0));
}

/* As entries of BATCH messages. */
static void say(const char *c, const char *text, size_t count)
{
    static Loquat__Command commands[BATCH];
    static char made[BATCH][16];
    Loquat__Command *list[BATCH];
    char body[128];
    snprintf(body, sizeof body, "{\"text\":\"%s\"}", text);
    while (count > 0) {
        size_t n = count < BATCH ? count : BATCH;
        for (size_t i = 0; i < n; i++) {
            snprintf(made[i], sizeof made[i], "c%u", cids++);
            commands[i] = command_send("ann", c, made[i], body);
            list[i] = &commands[i];
        }
        machine_entry(&m, list, n);
        count -= n;
    }
}

static Loquat__Reply ask(const char *user, const char *q, char *c)
{
    Loquat__Search what = LOQUAT__SEARCH__INIT;
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    what.q = (char *)(uintptr_t)q;
    read.user = (char *)(uintptr_t)user;
    read.convs = &c;
    read.n_convs = 1;
    read.search = &what;
    read.max = 10;
    arena_reset(&m.arena);
    cr_assert(eq(int, search_read(m.kv, idx, 0, &read, m.now_ms, &m.arena, &reply, &damaged), 0));
    return reply;
}

static Loquat__Reply search(const char *q)
{
    return machine_search(&m, idx, "ann", q, conv, CONVS, 0, 10, &damaged);
}

/* More than a search looks at is said to who is a member; who is none is answered as if there were
 * no such conversation. */
Test(search_tail, nothing_shows_for_a_stranger)
{
    say(conv[0], "hello", SEARCH_TAIL_MAX + BATCH);
    Loquat__Reply member = ask("ann", "hello", conv[0]);
    cr_assert(member.partial);
    cr_assert(eq(sz, member.n_hits, 10));
    Loquat__Reply stranger = ask("eve", "hello", conv[0]), none = ask("eve", "hello", "c_none");
    cr_assert(not(stranger.partial));
    cr_assert(not(none.partial));
    cr_assert(eq(u64, stranger.behind, none.behind));
    cr_assert(eq(u64, stranger.next, 0));
    cr_assert(eq(sz, stranger.n_hits, 0));
}

/* What is not looked for, or left out, does not keep a search from what is. */
Test(search_tail, other_conversations_do_not_count)
{
    Loquat__Command name = command_meta("ann", conv[1], "n"),
                    off = command_meta("ann", conv[2], "s");
    name.fields = LOQUAT__META_FIELD__META_NAME;
    name.name = (char *)(uintptr_t) "team";
    run(name);
    off.fields = LOQUAT__META_FIELD__META_SEARCH;
    off.search_off = true;
    run(off);
    say(conv[1], "hello", 1);
    say(conv[2], "hello", SEARCH_TAIL_MAX + 1);
    cr_assert(eq(sz, search("hello").n_hits, 1));
    say(conv[0], "hello", SEARCH_TAIL_MAX + 1);
    cr_assert(eq(sz, search("hello in:team").n_hits, 1));
    cr_assert(not(search("hello in:team").partial));
}

/* The limit is come to within the oldest entry. */
Test(search_tail, what_is_left_of_the_last_entry_is_said_to_be_missing)
{
    say(conv[0], "needle", BATCH);
    index_all();
    say(conv[0], "needle", BATCH);
    say(conv[0], "hello", SEARCH_TAIL_MAX - BATCH);
    cr_assert(not(search("needle").partial));
    say(conv[0], "hello", 1);
    cr_assert(search("needle").partial);
    index_all();
    cr_assert(not(search("needle").partial));
}

/* A language that was set, and nothing since: the index does not know it yet. */
Test(search_tail, a_language_alone_is_enough_to_say_that_something_is_missing)
{
    say(conv[0], "hello", 1);
    index_all();
    Loquat__Command meta = command_meta("ann", conv[0], "l");
    meta.fields = LOQUAT__META_FIELD__META_LANG;
    meta.lang = (char *)(uintptr_t) "de";
    run(meta);
    cr_assert(search("hello").partial);
    cr_assert(not(machine_search(&m, idx, "eve", "hello", conv, CONVS, 0, 10, &damaged).partial));
    index_all();
    cr_assert(not(search("hello").partial));
}

/* The newest first, each once, though more come between the pages. */
Test(search_tail, pages_of_more_conversations_than_are_read_at_once)
{
    static char many[MANY][64];
    static char *names[MANY];
    char cid[16];
    Loquat__Search what = LOQUAT__SEARCH__INIT;
    Loquat__Read read = LOQUAT__READ__INIT;
    uint64_t last = UINT64_MAX;
    size_t n = 0;
    for (int i = 0; i < MANY; i++) {
        snprintf(cid, sizeof cid, "m%d", i);
        run(command_open_group("ann", cid, many[i], NULL, 0));
        m.now_ms += 3;
        say(many[i], "hello", 1);
        names[i] = many[i];
    }
    index_all();
    what.q = (char *)(uintptr_t) "hello";
    read.user = (char *)(uintptr_t) "ann";
    read.convs = names;
    read.n_convs = MANY;
    read.search = &what;
    read.max = 7;
    do {
        Loquat__Reply reply = LOQUAT__REPLY__INIT;
        arena_reset(&m.arena);
        cr_assert(
            eq(int, search_read(m.kv, idx, 0, &read, m.now_ms, &m.arena, &reply, &damaged), 0));
        for (size_t i = 0; i < reply.n_hits; i++, n++) {
            cr_assert(lt(u64, reply.hits[i]->mid, last));
            last = reply.hits[i]->mid;
        }
        cr_assert(reply.next == 0 || read.from == 0 || reply.next < read.from);
        read.from = reply.next;
        m.now_ms += 3;
        say(many[n % MANY], "hello", 1);
        if (n % 2 == 0)
            index_all();
    } while (read.from != 0);
    cr_assert(eq(sz, n, MANY));
}

/* The row of a conversation says of no message less than it has: not after it was left out, and not
 * of what was written meanwhile. */
Test(search_tail, the_newest_message_of_a_conversation_is_known)
{
    struct index_conv row;
    struct conv_id id = conv_id_of(span_str(conv[0]));
    for (int round = 0; round < 3; round++) {
        Loquat__Command off = command_meta("ann", conv[0],
                                           round == 0   ? "a"
                                           : round == 1 ? "b"
                                                        : "c");
        m.now_ms += 10;
        off.fields = LOQUAT__META_FIELD__META_SEARCH;
        off.search_off = round == 0;
        if (round < 2)
            run(off);
        say(conv[0], "hello", 3);
        index_all();
        struct build_again again = {.all = true, .now_ms = m.now_ms};
        cr_assert(eq(int, build_again(build, 0, &again), 0));
        if (round == 0)
            continue;
        Loquat__Reply reply = search("hello");
        cr_assert(eq(sz, reply.n_hits, round == 1 ? 6 : 9));
        cr_assert(eq(int, index_conv(idx, 0, id, &row), 0));
        cr_assert(eq(u64, row.mid, reply.hits[0]->mid));
    }
}
