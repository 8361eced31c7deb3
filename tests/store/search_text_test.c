/* What texts are made of, what the index makes of it, and what queries find in it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/search/match.h"
#include "store/search/posting.h"
#include "tests/lib/dice.h"

TestSuite(search_text, .timeout = 60);

/* "fold fold …", in this order; signs in angle brackets. */
static void expect_atoms(const char *utf8, const char *expected)
{
    struct text text = {0};
    struct buf said = {0};
    text_split(&text, span_str(utf8));
    for (size_t i = 0; i < text.count; i++) {
        const struct atom *atom = &text.atoms[i];
        buf_add_str(&said, i == 0 ? "" : atom->joined ? "+" : " ");
        buf_add_str(&said, atom->kind == ATOM_SIGN ? "<" : "");
        buf_add_span(&said, atom_fold(&text, atom));
        buf_add_str(&said, atom->kind == ATOM_SIGN ? ">" : "");
    }
    buf_add_byte(&said, 0);
    cr_expect(eq(str, said.p, (char *)(uintptr_t)expected), "of %s", utf8);
    buf_close(&said);
    text_close(&text);
}

Test(search_text, words_signs_and_characters)
{
    expect_atoms("Hello, World", "hello+<,> world");
    expect_atoms("foo_bar c++", "foo+<_>+bar c+<+>+<+>");
    expect_atoms("don't rock\xe2\x80\x99n' it's", "dont rockn+<'> its");
    expect_atoms("日本 go", "日+本 go");
    expect_atoms("ﬁne ＡＢＣ ①", "fine abc 1");
    expect_atoms("e\xcc\x81t\xc3\xa9 \xc3\x89T\xc3\x89", "ete ete");
    expect_atoms("ΚΑΛΗΜΕΡΑ καλημέρα", "καλημερα καλημερα");
    expect_atoms("Ёлка елка й", "елка елка й");
    expect_atoms(
        "\xd9\x83\xd9\x90\xd8\xaa\xd8\xa7\xd8\xa8 \xd9\x83\xd8\xaa\xd9\x80\xd8\xa7\xd8\xa8",
        "\xd9\x83\xd8\xaa\xd8\xa7\xd8\xa8 \xd9\x83\xd8\xaa\xd8\xa7\xd8\xa8");
    expect_atoms("👍🏽 ❤️ a\xe2\x80\x8b", "👍 ❤ a");
    expect_atoms("ｶﾞ カ\xe3\x82\x99", "ガ ガ");
    expect_atoms("학교에", "학+교+에");
    expect_atoms("𝐇𝐞𝐥𝐥𝐨 𝒲𝟙𝟚 \xf0\xaf\xa0\x80", "hello w12 丽"); /* beyond the basic plane */
    expect_atoms("", "");
    expect_atoms(" \n\t", "");
}

/* Places are those of JavaScript's strings. */
Test(search_text, places_are_utf16_units)
{
    struct text text = {0};
    text_split(&text, span_str("a😀é b\xcc\x81 日本\xf0\xaf\xa0\x80"));
    static const uint32_t EXPECTED[][2] = {{0, 1}, {1, 3},  {3, 4},  {5, 7},
                                           {8, 9}, {9, 10}, {10, 12}};
    cr_assert(eq(sz, text.count, 7));
    for (size_t i = 0; i < text.count; i++) {
        cr_expect(eq(u32, text.atoms[i].from, EXPECTED[i][0]), "atom %zu", i);
        cr_expect(eq(u32, text.atoms[i].to, EXPECTED[i][1]), "atom %zu", i);
    }
    text_close(&text);
}

/* ---- queries ---- */

static bool found(const char *q, const char *utf8, struct match_spans *spans)
{
    Loquat__Search search = LOQUAT__SEARCH__INIT;
    struct query query;
    struct text text = {0};
    struct stemmer *stemmer = stemmer_new(0);
    search.q = (char *)(uintptr_t)q;
    query_open(&query, &search, span_str("me"));
    query_prepare(&query, stemmer, "");
    text_split(&text, span_str(utf8));
    bool matches = match_text(&query, &text, stemmer, "", spans);
    text_close(&text);
    query_close(&query);
    stemmer_free(stemmer);
    return matches;
}

Test(search_text, what_finds_what)
{
    static const struct {
        const char *q, *text;
        bool found;
    } CASES[] = {
        {"run", "she was Running", true},
        {"\"run\"", "she was running", false},
        {"running", "a run", true},
        {"run", "runt", false},
        {"one two", "two and one", true},
        {"\"one two\"", "two one", false},
        {"\"one two\"", "one, two", true},
        {"one -two", "one two", false},
        {"one -two", "one three", true},
        {"-two", "one", true},
        {"hel*", "Hello", true},
        {"hel*", "shell", false},
        {"foo_bar", "foo_bar()", true},
        {"foo_bar", "foo bar", false},
        {"c++", "I like C++.", true},
        {"c++", "c+ +", false},
        {"#tag", "a #Tag", true},
        {"#tag", "a tag", false},
        {"@ann", "hi @ann", true},
        {"tag", "a #tag", true},
        {"example.com", "see https://example.com/a", true},
        {"(hello)", "hello", true},
        {"hello,world", "world hello", true},
        {"本語", "日本語です", true},
        {"本語", "本 語", false},
        {"語", "日本語", true},
        {"Привет", "ПРИВЕТ", true},
        {"книги", "много книг", true},
        {"cafe", "CAFÉ", true},
        {"café", "cafe", true},
        {"\"café\"", "cafe", false},
        {":)", "fine :)", true},
        {":)", "fine :(", false},
        {"👍", "ok 👍🏽", true},
        {"foo:bar", "foo:bar", true},
        {"from:", "from: here", true},
        {"before:never", "before:never", true},
        {"\"open end", "an open end", true},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct match_spans spans;
        cr_expect(eq(int, found(CASES[i].q, CASES[i].text, &spans), CASES[i].found), "%s in %s",
                  CASES[i].q, CASES[i].text);
    }
}

Test(search_text, places_of_what_was_found)
{
    struct match_spans spans;
    cr_assert(found("run \"a b\" 本", "runs 日本 a, b running", &spans));
    static const uint32_t EXPECTED[] = {0, 4, 6, 7, 8, 12, 13, 20};
    cr_assert(eq(sz, spans.count, 8));
    for (size_t i = 0; i < 8; i++)
        cr_expect(eq(u32, spans.at[i], EXPECTED[i]), "number %zu", i);
}

Test(search_text, filters)
{
    Loquat__Search search = LOQUAT__SEARCH__INIT;
    struct query query;
    search.q = (char *)(uintptr_t) "from:ann from:me in:\"two words\" on:2026-01-31 has:link "
                                   "mentions:me before:2026-02-30x after:1 word";
    query_open(&query, &search, span_str("bob"));
    cr_expect(eq(sz, query.from_count, 2));
    cr_expect(eq(int, span_is(query.from[1], "bob"), 1));
    cr_expect(span_is(query.in[0], "two words"));
    cr_expect(eq(u64, query.after, 1769817600000ull));
    cr_expect(eq(u64, query.before, 1769817600000ull + DAY_MS));
    cr_expect(query.has_link && !query.has_file);
    cr_expect(span_is(query.mentions[0], "bob"));
    cr_expect(eq(sz, query.piece_count, 3), "what is no filter is words");
    query_close(&query);
}

/* ---- postings ---- */

static struct posting_set rows[3];

static void take_run(void *arg, struct span term, struct span run)
{
    (void)arg;
    cr_assert(eq(int, posting_set_add(&rows[term.p[0] - 'a'], run), 0));
}

/* Whatever comes in whatever order, and however it is written, each place is there once. */
Test(search_text, postings_come_back)
{
    uint64_t dice = 5;
    for (int round = 0; round < 50; round++) {
        static bool there[3][SEGMENT_SIZE];
        struct posting_builder *builder = posting_builder_new();
        memset(there, 0, sizeof there);
        for (size_t n = dice_roll(&dice, 3000); n > 0; n--) {
            char term = (char)('a' + dice_roll(&dice, 3));
            uint16_t place = (uint16_t)dice_roll(&dice, round % 2 ? SEGMENT_SIZE : 500);
            posting_add(builder, span_of(&term, 1), place);
            there[term - 'a'][place] = true;
            if (dice_roll(&dice, 300) == 0)
                posting_take(builder, take_run, NULL);
        }
        posting_take(builder, take_run, NULL);
        for (int t = 0; t < 3; t++) {
            size_t n = 0;
            posting_set_finish(&rows[t]);
            for (uint32_t place = 0; place < SEGMENT_SIZE; place++)
                if (there[t][place])
                    cr_assert(n < rows[t].count && rows[t].places[n++] == place);
            cr_assert(eq(sz, n, rows[t].count));
        }
        posting_set_and(&rows[0], &rows[1]);
        for (size_t i = 0; i < rows[0].count; i++)
            cr_assert(there[0][rows[0].places[i]] && there[1][rows[0].places[i]]);
        for (int t = 0; t < 3; t++)
            posting_set_clear(&rows[t]);
        posting_builder_free(builder);
    }
    for (int t = 0; t < 3; t++)
        posting_set_close(&rows[t]);
}

Test(search_text, damaged_postings_are_refused)
{
    struct posting_set set = {0};
    cr_expect(ne(int, posting_set_add(&set, span_of("\xff", 1)), 0), "ends early");
    cr_expect(ne(int, posting_set_add(&set, span_of("\x81\x80\x08", 3)), 0), "beyond the segment");
    posting_set_close(&set);
}

/* A stemmer that keeps some says the same as one that keeps none, in any order of languages. */
Test(search_text, stems_that_are_kept)
{
    static const char *const LANGUAGES[] = {"en", "de", "", "xx", "fr"};
    static const char *const ENDS[] = {"ing",  "ed",    "s",
                                       "heit", "ement", "ingsandevenlongerthanthat"};
    struct stemmer *keeps = stemmer_new(64), *none = stemmer_new(0);
    size_t others = 0;
    for (size_t i = 0; i < 40000; i++) {
        char word[64];
        size_t of = i % 7 == 0 ? i % 3000 : i % 50; /* some again and again */
        int n = snprintf(word, sizeof word, "%c%c%ct%s", 'a' + (int)(of % 26),
                         'a' + (int)(of / 26 % 26), 'a' + (int)(of / 676),
                         ENDS[of % (sizeof ENDS / sizeof *ENDS)]);
        const char *language = LANGUAGES[i % (sizeof LANGUAGES / sizeof *LANGUAGES)];
        struct span norm = span_of(word, (size_t)n);
        struct span a = stem_of(keeps, language, SCRIPT_LATIN, norm);
        struct span b = stem_of(none, language, SCRIPT_LATIN, norm);
        cr_assert(span_eq(a, b), "%s of %s: %.*s, %.*s", language, word, (int)a.n, a.p, (int)b.n,
                  b.p);
        others += !span_eq(a, norm);
    }
    cr_assert(lt(sz, 10000, others));
    stemmer_free(keeps);
    stemmer_free(none);
}
