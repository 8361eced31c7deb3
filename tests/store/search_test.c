/* Searching finds what looking at every message would find, whatever the index has got so far. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/search/build.h"
#include "store/search/match.h"
#include "store/search/search.h"
#include "tests/lib/dice.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { CONVS = 3, WORDS = 12, FOUND_MAX = 2000 };
static const char *const words[WORDS] = {"run",  "running", "日本語", "東京", "foo_bar", "hello",
                                         "ёлка", "#tag",    "👍",      "car",  "cars",    "the"};

static struct machine m;
static struct kv *idx;
static struct build *build;
static bool damaged; /* as the search before said of the index */
static char conv[CONVS][64], dir[SCRATCH_MAX + 32];
static struct content content;

static void open_index(void)
{
    bool fresh;
    snprintf(dir, sizeof dir, "%s/index", m.root);
    cr_assert(eq(int, index_open(dir, "test", &idx, &fresh), 0));
    build = build_new(m.kv, idx);
}

static void close_index(void)
{
    build_free(build);
    kv_close(idx);
}

static struct apply_result run(Loquat__Command command)
{
    return machine_do(&m, &command);
}

static void setup(void)
{
    machine_open(&m);
    open_index();
    content_open(&content, 0);
    for (int i = 0; i < CONVS; i++) {
        char cid[16];
        char *members[] = {"bob"};
        snprintf(cid, sizeof cid, "o%d", i);
        cr_assert(eq(int, run(command_open_group("ann", cid, conv[i], members, 1)).err, 0));
    }
}

static void teardown(void)
{
    content_close(&content);
    close_index();
    machine_close(&m);
}

TestSuite(search, .init = setup, .fini = teardown, .timeout = 120);

static void index_all(void)
{
    struct build_step step = {.more = true};
    while (step.more)
        cr_assert(eq(int, build_step(build, 0, NULL, &step), 0));
}

static Loquat__Reply search(const char *user, const char *q, uint64_t below, uint32_t max)
{
    return machine_search(&m, idx, user, q, conv, CONVS, below, max, &damaged);
}

struct one {
    int conv;
    uint64_t seq, mid;
};

static int conv_of(const char *name)
{
    int i = 0;
    while (i < CONVS && strcmp(conv[i], name) != 0)
        i++;
    return i;
}

/* All pages. */
static size_t find(const char *user, const char *q, uint32_t max, struct one *out)
{
    size_t n = 0;
    uint64_t below = 0;
    do {
        Loquat__Reply reply = search(user, q, below, max);
        for (size_t i = 0; i < reply.n_hits && n < FOUND_MAX; i++)
            out[n++] = (struct one){conv_of(reply.hits[i]->conv), reply.hits[i]->item->seq,
                                    reply.hits[i]->mid};
        cr_assert(eq(int, reply.partial, 0));
        below = reply.next;
    } while (below != 0);
    return n;
}

static int newest(const void *a, const void *b)
{
    const struct one *x = a, *y = b;
    return x->mid > y->mid ? -1 : x->mid < y->mid;
}

/* By looking at every message that the user can read. */
static size_t look(const char *user, const char *q, struct one *out)
{
    Loquat__Search what = LOQUAT__SEARCH__INIT;
    struct query query;
    size_t n = 0;
    what.q = (char *)(uintptr_t)q;
    query_open(&query, &what, span_str(user));
    query_prepare(&query, content.stemmer, "");
    for (int c = 0; c < CONVS; c++) {
        Loquat__Read read = LOQUAT__READ__INIT;
        read.user = (char *)(uintptr_t)user;
        read.conv = conv[c];
        read.folded = true;
        do {
            Loquat__Reply reply = LOQUAT__REPLY__INIT;
            arena_reset(&m.arena);
            int err = machine_range(&m, &read, &reply);
            if (err != 0)
                break;
            for (size_t i = 0; i < reply.n_items; i++) {
                const Loquat__Item *item = reply.items[i];
                struct record_view record;
                struct match_spans spans;
                if (item->hole != 0)
                    continue;
                cr_assert(
                    eq(int, record_view(span_of(item->record.data, item->record.len), &record), 0));
                struct span body =
                    item->body.len > 0 ? span_of(item->body.data, item->body.len) : record.body;
                text_split(&content.text, content_text(content.json, record.kind, body));
                if (match_record(&query, &record) &&
                    match_text(&query, &content.text, content.stemmer, "", &spans))
                    out[n++] = (struct one){c, item->seq, record_mid(record.ts, record.mid_off, 0)};
            }
            read.from = reply.next;
        } while (read.from != 0);
    }
    query_close(&query);
    if (n > 0)
        qsort(out, n, sizeof *out, newest);
    return n;
}

static void expect_same(const char *user, const char *q, uint32_t max)
{
    static struct one found[FOUND_MAX], wanted[FOUND_MAX];
    size_t n = find(user, q, max, found), all = look(user, q, wanted);
    cr_assert(eq(sz, n, all), "%s looks for %s, %u a page", user, q, max);
    for (size_t i = 0; i < n; i++)
        cr_assert(found[i].conv == wanted[i].conv && found[i].seq == wanted[i].seq,
                  "%s looks for %s: hit %zu", user, q, i);
}

static void some_text(uint64_t *dice, char *body, size_t size)
{
    size_t n = (size_t)snprintf(body, size, "{\"text\":\"");
    for (uint64_t k = 1 + dice_roll(dice, 4); k > 0; k--)
        n += (size_t)snprintf(body + n, size - n, "%s ", words[dice_roll(dice, WORDS)]);
    snprintf(body + n, size - n, "\"}");
}

static void change(uint64_t *dice, int number)
{
    char cid[16], body[256];
    const char *c = conv[dice_roll(dice, CONVS)];
    const char *user = dice_roll(dice, 2) ? "ann" : "bob";
    uint64_t target = 1 + dice_roll(dice, 60);
    snprintf(cid, sizeof cid, "c%d", number);
    some_text(dice, body, sizeof body);
    m.now_ms += dice_roll(dice, 2000);
    Loquat__Command command = command_send(user, c, cid, body);
    switch (dice_roll(dice, 12)) {
    case 0:
        run(command_edit(user, c, cid, target, body));
        return;
    case 1:
        run(command_delete(user, c, cid, target));
        return;
    case 2: /* for himself */
        command = command_delete(user, c, cid, target);
        command.op = LOQUAT__OP__OP_HIDE;
        run(command);
        return;
    case 3:
        command.ttl_s = 1 + dice_roll(dice, 30);
        break;
    case 4:
        if (dice_roll(dice, 20) == 0)
            run(command_retain(c, dice_roll(dice, 20)));
        return;
    default:
        break;
    }
    run(command);
}

static void again(bool all)
{
    struct build_again what = {.all = all, .now_ms = m.now_ms};
    cr_assert(eq(int, build_again(build, 0, &what), 0));
}

/* Users, and words, prefixes, phrases, filters. */
Test(search, finds_what_is_there)
{
    static const char *const QUERIES[] = {"run",
                                          "car",
                                          "日本",
                                          "本語",
                                          "語",
                                          "foo_bar",
                                          "foo",
                                          "елка",
                                          "#tag",
                                          "tag",
                                          "👍",
                                          "ru*",
                                          "the -run",
                                          "\"run the\"",
                                          "from:ann car",
                                          "from:bob",
                                          "hello the",
                                          "東京 the",
                                          "after:2020-01-01 hello",
                                          "nothing",
                                          "-the"};
    uint64_t dice = 11;
    for (int i = 0; i < 900; i++) {
        change(&dice, i);
        if (dice_roll(&dice, 40) == 0)
            index_all();
        if (dice_roll(&dice, 150) == 0)
            again(dice_roll(&dice, 2) == 0);
        if (dice_roll(&dice, 200) == 0) {
            close_index();
            open_index();
        }
        if (dice_roll(&dice, 8) != 0)
            continue;
        const char *q = QUERIES[dice_roll(&dice, sizeof QUERIES / sizeof *QUERIES)];
        expect_same(dice_roll(&dice, 2) ? "ann" : "bob", q,
                    dice_roll(&dice, 3) ? 100 : 1 + (uint32_t)dice_roll(&dice, 5));
    }
    index_all();
    for (size_t i = 0; i < sizeof QUERIES / sizeof *QUERIES; i++)
        expect_same("ann", QUERIES[i], 7);
}

static struct apply_result say(const char *user, const char *c, const char *cid, const char *text)
{
    char body[256];
    snprintf(body, sizeof body, "{\"text\":\"%s\"}", text);
    struct apply_result result = run(command_send(user, c, cid, body));
    cr_assert(eq(int, result.err, 0));
    return result;
}

/* Who is no member finds nothing; who came later, with a history that begins then, nothing from
 * before. */
Test(search, only_who_may_read)
{
    say("ann", conv[0], "a", "secret");
    cr_assert(eq(sz, search("ann", "secret", 0, 10).n_hits, 1));
    cr_assert(eq(sz, search("eve", "secret", 0, 10).n_hits, 0));
    Loquat__Command meta = command_meta("ann", conv[0], "m");
    meta.fields = LOQUAT__META_FIELD__META_HISTORY;
    meta.history_joined = true;
    cr_assert(eq(int, run(meta).err, 0));
    cr_assert(eq(int, run(command_member("ann", conv[0], "j", MEMBER_ADD, "eve", 1)).err, 0));
    cr_assert(eq(sz, search("eve", "secret", 0, 10).n_hits, 0));
    say("ann", conv[0], "b", "secret again");
    cr_assert(eq(sz, search("eve", "secret", 0, 10).n_hits, 1));
    index_all();
    cr_assert(eq(sz, search("eve", "secret", 0, 10).n_hits, 1));
    cr_assert(eq(int, run(command_leave("eve", conv[0], "l")).err, 0));
    cr_assert(eq(sz, search("eve", "secret", 0, 10).n_hits, 0));
}

enum { MANY = 120, SOME = 5 };

/* Some of many, with others between them in the index: newest first, a page at a time, by none but
 * their members. */
Test(search, a_few_of_many_conversations)
{
    static char many[MANY][64];
    char *asked[SOME + 1], cid[16], *members[] = {"bob"};
    struct build_again what = {.all = true, .now_ms = m.now_ms};
    Loquat__Search sought = LOQUAT__SEARCH__INIT;
    Loquat__Read read = LOQUAT__READ__INIT;
    for (int i = 0; i < MANY; i++) {
        snprintf(cid, sizeof cid, "m%d", i);
        cr_assert(eq(int, run(command_open_group("ann", cid, many[i], members, 1)).err, 0));
        m.now_ms += 10;
        say("ann", many[i], "a", "hello");
    }
    index_all();
    say("ann", many[MANY / SOME], "b", "hello again"); /* the index does not have it */
    for (int i = 0; i < SOME; i++)
        asked[i] = many[i * MANY / SOME];
    asked[SOME] = asked[0]; /* twice: found once */
    sought.q = (char *)(uintptr_t) "hello";
    read.user = (char *)(uintptr_t) "bob";
    read.convs = asked;
    read.n_convs = SOME + 1;
    read.search = &sought;
    read.max = 1;
    static const int ORDER[] = {1, 4, 3, 2, 1, 0};
    size_t n = 0;
    for (int pages = 0; pages < 2 * SOME; pages++) {
        Loquat__Reply reply = LOQUAT__REPLY__INIT;
        arena_reset(&m.arena);
        cr_assert(
            eq(int, search_read(m.kv, idx, 0, &read, m.now_ms, &m.arena, &reply, &damaged), 0));
        for (size_t i = 0; i < reply.n_hits; i++, n++)
            cr_assert(eq(str, reply.hits[i]->conv, asked[ORDER[n]]), "hit %zu", n);
        cr_assert(reply.next == 0 || read.from == 0 || reply.next < read.from);
        read.from = reply.next;
        if (read.from == 0)
            break;
    }
    cr_assert(eq(sz, n, SOME + 1));
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.user = (char *)(uintptr_t) "eve";
    cr_assert(eq(int, search_read(m.kv, idx, 0, &read, m.now_ms, &m.arena, &reply, &damaged), 0));
    cr_assert(eq(sz, reply.n_hits, 0));
    index_all();
    cr_assert(eq(int, build_again(build, 0, &what), 0));
    cr_assert(eq(u64, what.looked_at, MANY + CONVS));
}

/* Rows of the index with this in the term. */
static size_t rows_with(const char *term)
{
    struct kv_iter iter;
    size_t n = 0;
    char end[] = {(char)0xff, (char)0xff};
    kv_iter_open(&iter, idx, NULL, KV_LOG, (struct span){0}, span_of(end, 2));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        n += memmem(key.p, key.n, term, strlen(term)) != NULL;
    }
    kv_iter_close(&iter);
    return n;
}

/* What was deleted or edited away is found no more at once, and is not even in the index once that
 * was made again. */
Test(search, what_has_gone_leaves_the_index)
{
    uint64_t seq = say("ann", conv[0], "a", "topsecret plan").seq;
    uint64_t other = say("ann", conv[0], "b", "wrongword here").seq;
    say("ann", conv[0], "c", "plan");
    index_all();
    cr_assert(eq(sz, rows_with("topsecret"), 1));
    cr_assert(eq(int, run(command_delete("ann", conv[0], "d", seq)).err, 0));
    cr_assert(
        eq(int, run(command_edit("ann", conv[0], "e", other, "{\"text\":\"right\"}")).err, 0));
    cr_assert(eq(sz, search("ann", "topsecret", 0, 10).n_hits, 0));
    cr_assert(eq(sz, search("ann", "wrongword", 0, 10).n_hits, 0));
    cr_assert(eq(sz, search("ann", "right", 0, 10).n_hits, 1));
    index_all();
    again(false);
    cr_assert(eq(sz, rows_with("topsecret"), 0));
    cr_assert(eq(sz, rows_with("wrongword"), 0));
    cr_assert(eq(sz, rows_with("plan"), 1));
    cr_assert(eq(sz, search("ann", "right", 0, 10).n_hits, 1));
    cr_assert(eq(sz, search("ann", "plan", 0, 10).n_hits, 1));
}

static struct apply_result set_lang(int c, const char *cid, const char *lang)
{
    Loquat__Command meta = command_meta("ann", conv[c], cid);
    meta.fields = LOQUAT__META_FIELD__META_LANG;
    meta.lang = (char *)(uintptr_t)lang;
    return run(meta);
}

static struct apply_result set_search_off(int c, const char *cid, bool off)
{
    Loquat__Command meta = command_meta("ann", conv[c], cid);
    meta.fields = LOQUAT__META_FIELD__META_SEARCH;
    meta.search_off = off;
    return run(meta);
}

static size_t hits(const char *q)
{
    Loquat__Reply reply = search("ann", q, 0, 10);
    cr_assert(eq(int, reply.partial, 0));
    return reply.n_hits;
}

/* Each conversation is searched by the stems of its language, whether its messages are in the index
 * or not, and so are those that were there before. */
Test(search, words_have_the_stems_of_the_language_of_their_conversation)
{
    say("ann", conv[0], "a", "alte Häuser");
    say("ann", conv[1], "b", "two Häuser");
    say("ann", conv[1], "c", "ein Haus");
    index_all();
    cr_assert(eq(sz, hits("haus"), 1));
    cr_assert(set_lang(0, "d", "de").seq != 0);
    cr_assert(eq(u64, set_lang(0, "e", "de").seq, 0)); /* it is so already */
    say("ann", conv[0], "f", "neue Häuser");
    index_all();
    cr_assert(eq(sz, hits("haus"), 3));
    cr_assert(eq(sz, hits("häusern"), 2)); /* in English it is no form of it */
    say("ann", conv[0], "g", "letzte Häuser");
    cr_assert(eq(sz, hits("haus"), 4)); /* not in the index yet */
    cr_assert(set_lang(0, "h", "").seq != 0);
    say("ann", conv[0], "i", "he was running");
    index_all();
    cr_assert(eq(sz, hits("haus"), 1));
    cr_assert(eq(sz, hits("häuser"), 4));
    cr_assert(eq(sz, hits("run"), 1));
    cr_assert(set_lang(2, "j", "de").seq != 0);
    say("ann", conv[2], "k", "Häuser");
    cr_assert(search("ann", "haus", 0, 10).partial);      /* it is of the language before, yet */
    cr_assert(not(search("eve", "haus", 0, 10).partial)); /* nothing of it is hers to know */
    index_all();
    cr_assert(eq(sz, hits("haus"), 2));
    again(true);
    cr_assert(eq(sz, hits("haus"), 2));
    cr_assert(eq(int, set_lang(0, "l", "Deutsch").err, ERR_BAD_REQUEST));
    cr_assert(eq(int, set_lang(0, "m", "d").err, ERR_BAD_REQUEST));
}

/* Nothing of a conversation that is not to be searched is found or in the index; all of it once it
 * is again, also what was written and changed meanwhile. */
Test(search, a_conversation_can_be_left_out)
{
    uint64_t seq = say("ann", conv[0], "a", "topsecret plan").seq;
    say("ann", conv[1], "b", "plan");
    index_all();
    cr_assert(eq(sz, hits("plan"), 2));
    cr_assert(set_search_off(0, "c", true).seq != 0);
    cr_assert(eq(sz, hits("plan"), 1));
    say("ann", conv[0], "d", "topsecret plan too");
    index_all();
    cr_assert(eq(sz, rows_with("topsecret"), 0));
    cr_assert(eq(sz, hits("plan"), 1));
    say("ann", conv[0], "e", "plan three");
    cr_assert(eq(int, run(command_edit("ann", conv[0], "f", seq, "{\"text\":\"edited\"}")).err, 0));
    index_all();
    again(true);
    cr_assert(eq(sz, rows_with("edited"), 0));
    cr_assert(set_search_off(0, "g", false).seq != 0);
    cr_assert(search("ann", "plan", 0, 10).partial); /* it says that it has not all of it yet */
    index_all();
    cr_assert(eq(sz, hits("plan"), 3));
    cr_assert(eq(sz, hits("edited"), 1));
    cr_assert(eq(sz, hits("topsecret"), 1));
}

/* A step that a crash cut off between two batches is done again, whole. */
Test(search, a_change_that_was_cut_off_is_made_again)
{
    struct index_conv row;
    struct kv_batch batch;
    say("ann", conv[0], "a", "alte Häuser");
    index_all();
    cr_assert(set_lang(0, "b", "de").seq != 0);
    struct conv_id id = conv_id_of(span_str(conv[0]));
    cr_assert(eq(int, index_conv(idx, 0, id, &row), 0));
    kv_batch_init(&batch, idx);
    row.changing = true;
    memcpy(row.lang, "de", 3);
    index_put_conv(&batch, 0, id, &row);
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    cr_assert(search("ann", "haus", 0, 10).partial);
    index_all();
    cr_assert(eq(sz, hits("haus"), 1));
}

/* A crash takes what the data DB had not flushed, while the index may be further: it is applied
 * again, and found. */
Test(search, a_crash_changes_nothing)
{
    uint64_t dice = 3;
    for (int i = 0; i < 200; i++)
        change(&dice, i);
    index_all();
    close_index();
    machine_crash(&m);
    open_index();
    expect_same("ann", "the", 9);
    for (int i = 200; i < 300; i++)
        change(&dice, i);
    expect_same("bob", "the", 9);
    index_all();
    expect_same("bob", "car", 9);
}

/* Who searches does without a damaged index, and says so. */
Test(search, a_damaged_index_is_done_without)
{
    struct kv_batch batch;
    say("ann", conv[0], "a", "hello");
    index_all();
    cr_assert(eq(sz, hits("hello"), 1));
    cr_assert(eq(int, damaged, 0));
    struct index_key key = index_row_key(0, conv_id_of(span_str(conv[0])));
    kv_batch_init(&batch, idx);
    kv_put(&batch, KV_LOG, index_key_span(&key), (struct span){0});
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    cr_assert(eq(sz, hits("hello"), 1));
    cr_assert(damaged);
}

/* An index of other logs, of another version, or damaged is not believed. */
Test(search, an_index_of_others_is_made_anew)
{
    bool fresh = false;
    say("ann", conv[0], "a", "hello");
    index_all();
    close_index();
    cr_assert(eq(int, index_open(dir, "test", &idx, &fresh), 0));
    cr_assert(eq(int, fresh, 0));
    cr_assert(eq(int, index_condemn(idx), 0));
    kv_close(idx);
    cr_assert(eq(int, index_open(dir, "test", &idx, &fresh), 0));
    cr_assert(fresh);
    kv_close(idx);
    cr_assert(eq(int, index_open(dir, "another", &idx, &fresh), 0));
    cr_assert(fresh);
    cr_assert(eq(sz, rows_with("hello"), 0));
    build = build_new(m.kv, idx);
    index_all();
    cr_assert(eq(sz, rows_with("hello"), 1));
}
