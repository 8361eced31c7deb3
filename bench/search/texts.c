#include "bench/search/texts.h"

#include <jansson.h>
#include <stdlib.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include "bench/lib/archive.h"
#include "store/base/ids.h"

enum { TRIES_MAX = 1000000, WORD_MIN = 3, RUNS_MAX = 256 };

const char *const ASKED_NAMES[ASKED_COUNT] = {"rare",   "common", "two", "phrase",
                                              "prefix", "chars",  "from"};

/* ---- words ---- */

enum side { SIDE_NONE, SIDE_WORD, SIDE_CHAR };

static enum side side_of(UChar32 c)
{
    UErrorCode err = U_ZERO_ERROR;
    if (c < 0x80)
        return u_isalnum(c) ? SIDE_WORD : SIDE_NONE;
    switch (uscript_getScript(c, &err)) {
    case USCRIPT_LATIN:
    case USCRIPT_CYRILLIC:
    case USCRIPT_GREEK:
        return u_isalpha(c) ? SIDE_WORD : SIDE_NONE;
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_HANGUL:
    case USCRIPT_THAI:
        return u_isalpha(c) ? SIDE_CHAR : SIDE_NONE;
    default:
        return SIDE_NONE;
    }
}

/* Runs of one kind in a text, and whether more than a space lies before each. */
struct run {
    struct span text;
    size_t characters;
    bool apart;
};
static size_t runs_of(struct span text, enum side wanted, struct run runs[RUNS_MAX])
{
    size_t count = 0;
    int32_t at = 0, from = 0, behind = 0, n = (int32_t)text.n;
    size_t characters = 0;
    while (at <= n && count < RUNS_MAX) {
        int32_t begin = at;
        UChar32 c = 0;
        if (at < n)
            U8_NEXT(text.p, at, n, c);
        if (begin < n && c > 0 && side_of(c) == wanted) {
            from = characters == 0 ? begin : from;
            characters++;
            continue;
        }
        if (characters > 0) {
            bool space = count > 0 && from - behind == 1 && text.p[behind] == ' ';
            runs[count++] =
                (struct run){span_of(text.p + from, (size_t)(begin - from)), characters, !space};
            behind = begin;
        }
        characters = 0;
        if (begin >= n)
            break;
    }
    return count;
}

static struct map_key word_key(struct span word)
{
    char lower[ASKED_WORD_MAX];
    size_t n = word.n < sizeof lower ? word.n : sizeof lower;
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(word.p[i] >= 'A' && word.p[i] <= 'Z' ? word.p[i] | 0x20 : word.p[i]);
    struct conv_id id = conv_id_of(span_of(lower, n));
    return (struct map_key){id.hi, id.lo};
}

static uint64_t places_of(const struct texts *texts, struct span word)
{
    const union map_val *val = map_get(&texts->words, word_key(word));
    return val != NULL ? val->u : 0;
}

/* ---- loading ---- */

void texts_open(struct texts *texts)
{
    *texts = (struct texts){0};
    arena_init(&texts->arena);
    map_init(&texts->words);
}

void texts_close(struct texts *texts)
{
    free(texts->all);
    free(texts->rooms);
    map_close(&texts->words);
    arena_close(&texts->arena);
}

static struct span keep(struct texts *texts, json_t *string)
{
    size_t n = json_string_length(string);
    return span_of(arena_copy(&texts->arena, n > 0 ? json_string_value(string) : "", n), n);
}

static void enter_room(struct texts *texts, struct span name)
{
    if (texts->room_count > 0 && span_eq(texts->rooms[texts->room_count - 1].name, name))
        return;
    if (texts->room_count == texts->room_cap) {
        texts->room_cap = texts->room_cap == 0 ? 1024 : 2 * texts->room_cap;
        texts->rooms = xrealloc(texts->rooms, texts->room_cap * sizeof *texts->rooms);
    }
    name = span_of(arena_copy(&texts->arena, name.p, name.n), name.n);
    texts->rooms[texts->room_count++] = (struct room){.name = name, .first = texts->count};
}

static void take(void *arg, const json_t *line)
{
    struct texts *texts = arg;
    struct run runs[RUNS_MAX];
    json_t *name = json_object_get(line, "conv"), *ts = json_object_get(line, "ts");
    enter_room(texts, span_of(json_string_value(name), json_string_length(name)));
    if (texts->count == texts->cap) {
        texts->cap = texts->cap == 0 ? 1 << 16 : 2 * texts->cap;
        texts->all = xrealloc(texts->all, texts->cap * sizeof *texts->all);
    }
    struct said *said = &texts->all[texts->count];
    *said = (struct said){.text = keep(texts, json_object_get(line, "text")),
                          .from = keep(texts, json_object_get(line, "from")),
                          .conv = (uint32_t)(texts->room_count - 1)};
    said->ts = json_is_integer(ts) ? (uint64_t)json_integer_value(ts)
               : texts->count > 0  ? said[-1].ts
                                   : 0;
    texts->rooms[said->conv].count++;
    texts->count++;
    texts->bytes += said->text.n;
    size_t n = runs_of(said->text, SIDE_WORD, runs);
    for (size_t i = 0; i < n; i++) {
        bool fresh;
        map_put(&texts->words, word_key(runs[i].text), &fresh)->u++;
    }
}

void texts_load(struct texts *texts, const char *path)
{
    archive_each(path, take, texts);
}

static int largest_first(const void *a, const void *b)
{
    const struct room *x = *(struct room *const *)a, *y = *(struct room *const *)b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

void texts_take_largest(struct texts *texts, size_t count)
{
    struct room **order = xcalloc(texts->room_count, sizeof *order);
    for (size_t i = 0; i < texts->room_count; i++)
        order[i] = &texts->rooms[i];
    qsort(order, texts->room_count, sizeof(struct room *), largest_first);
    for (size_t i = 0; i < count && i < texts->room_count; i++)
        order[i]->mine = true;
    free(order);
}

/* ---- drawing ---- */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t draw(uint64_t *seed, uint64_t below)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

static void set(char to[ASKED_WORD_MAX], struct span word)
{
    memcpy(to, word.p, word.n);
    to[word.n] = '\0';
}

static bool is_word(const struct run *run)
{
    return run->characters >= WORD_MIN && run->text.n < ASKED_WORD_MAX;
}

/* Names that need no quotes in anybody's query. */
static bool is_plain(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!u_isalnum((uint8_t)name.p[i]) || (uint8_t)name.p[i] >= 0x80)
            return false;
    return name.n >= WORD_MIN && name.n < ASKED_WORD_MAX;
}

static bool draw_chars(uint64_t *seed, struct span text, struct query_drawn *query)
{
    struct run runs[RUNS_MAX];
    size_t n = runs_of(text, SIDE_CHAR, runs), size = 2 + draw(seed, 3);
    const struct run *run = n > 0 ? &runs[draw(seed, n)] : NULL;
    if (run == NULL || run->characters < size)
        return false;
    int32_t from = 0, to;
    U8_FWD_N(run->text.p, from, (int32_t)run->text.n,
             (int32_t)draw(seed, run->characters - size + 1));
    to = from;
    U8_FWD_N(run->text.p, to, (int32_t)run->text.n, (int32_t)size);
    set(query->words[0], span_of(run->text.p + from, (size_t)(to - from)));
    query->count = 1;
    return true;
}

static bool draw_several(uint64_t *seed, const struct run *runs, size_t n, bool phrase,
                         struct query_drawn *query)
{
    size_t count = phrase ? 2 + draw(seed, 2) : 2;
    if (n < count)
        return false;
    size_t at = draw(seed, n - count + 1), other = phrase ? 1 : 1 + draw(seed, n - at - 1);
    for (size_t i = 0; i < count; i++) {
        const struct run *run = &runs[at + i * other];
        if (!is_word(run) || (phrase && i > 0 && run->apart))
            return false;
        set(query->words[i], run->text);
    }
    query->count = count;
    return true;
}

static void cut(uint64_t *seed, char word[ASKED_WORD_MAX])
{
    int32_t at = 0, n = (int32_t)strlen(word);
    U8_FWD_N(word, at, n, (int32_t)(3 + draw(seed, 3)));
    word[at] = '\0';
}

static bool draw_from(const struct texts *texts, uint64_t *seed, const struct said *said,
                      struct query_drawn *query)
{
    struct run runs[RUNS_MAX];
    if (query->kind == ASKED_CHARS)
        return draw_chars(seed, said->text, query);
    size_t n = runs_of(said->text, SIDE_WORD, runs);
    if (query->kind == ASKED_TWO || query->kind == ASKED_PHRASE)
        return draw_several(seed, runs, n, query->kind == ASKED_PHRASE, query);
    const struct run *run = n > 0 ? &runs[draw(seed, n)] : NULL;
    if (run == NULL || !is_word(run))
        return false;
    uint64_t places = places_of(texts, run->text);
    set(query->words[0], run->text);
    query->count = 1;
    if (query->kind == ASKED_PREFIX)
        cut(seed, query->words[0]);
    if (query->kind == ASKED_FROM && is_plain(said->from))
        set(query->from, said->from);
    return query->kind == ASKED_RARE     ? places <= RARE_MAX
           : query->kind == ASKED_COMMON ? places >= texts->count / COMMON_PART
           : query->kind == ASKED_FROM   ? query->from[0] != '\0'
                                         : true;
}

void texts_draw(const struct texts *texts, uint64_t *seed, enum asked kind,
                struct query_drawn *query)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        const struct said *said = &texts->all[draw(seed, texts->count)];
        *query = (struct query_drawn){.kind = kind, .conv = said->conv};
        if (texts->rooms[said->conv].mine && draw_from(texts, seed, said, query))
            return;
    }
    bench_fail("search: no query of the kind %s in these texts", ASKED_NAMES[kind]);
}
