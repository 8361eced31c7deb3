#include "store/search/query.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "store/base/check.h"

/* ---- pieces ---- */

/* Keeps atoms [from, until) of `text`. */
static void take_piece(struct query *query, const struct text *text, size_t from, size_t until,
                       struct query_piece piece)
{
    if (from >= until || query->piece_count == QUERY_PIECES_MAX)
        return;
    size_t n = until - from;
    piece.text.atoms = xmalloc(n * sizeof *piece.text.atoms);
    piece.text.count = piece.text.cap = n;
    memcpy(piece.text.atoms, text->atoms + from, n * sizeof *piece.text.atoms);
    buf_add_span(&piece.text.bytes, buf_span(&text->bytes));
    piece.text.atoms[0].joined = false;
    piece.word = !piece.phrase && !piece.prefix && n == 1 && text->atoms[from].kind == ATOM_WORD;
    query->pieces[query->piece_count++] = piece;
}

static char sign_of(const struct text *text, size_t i)
{
    const struct atom *atom = &text->atoms[i];
    char sign = 0;
    if (atom->kind == ATOM_SIGN && atom->norm_n == 1)
        sign = text->bytes.p[atom->norm];
    return sign;
}

static bool is_all_signs(const struct text *text, size_t from, size_t until)
{
    while (from < until && text->atoms[from].kind == ATOM_SIGN)
        from++;
    return from == until;
}

static bool in_set(char c, const char *set)
{
    return c != 0 && strchr(set, c) != NULL;
}

/* What stands together: without the signs around it that only belong to the sentence. */
static void take_group(struct query *query, const struct text *text, size_t from, size_t until,
                       bool negative)
{
    struct query_piece piece = {.negative = negative};
    if (is_all_signs(text, from, until)) {
        take_piece(query, text, from, until, piece);
        return;
    }
    while (text->atoms[from].kind == ATOM_SIGN && !in_set(sign_of(text, from), "#@"))
        from++;
    if (sign_of(text, until - 1) == '*' && text->atoms[until - 2].kind == ATOM_WORD)
        piece.prefix = true;
    while (text->atoms[until - 1].kind == ATOM_SIGN &&
           (piece.prefix || !in_set(sign_of(text, until - 1), "+#")))
        until--;
    take_piece(query, text, from, until, piece);
}

static void take_words(struct query *query, struct span token, bool negative)
{
    struct text text = {0};
    text_split(&text, token);
    size_t from = 0;
    if (is_all_signs(&text, 0, text.count)) {
        take_piece(query, &text, 0, text.count, (struct query_piece){.negative = negative});
        text_close(&text);
        return;
    }
    for (size_t i = 0; i <= text.count; i++) {
        bool parts = i < text.count && in_set(sign_of(&text, i), ",;!?()[]{}<>|\"");
        bool ends = i == text.count || parts || (i > from && !text.atoms[i].joined);
        if (ends && i > from)
            take_group(query, &text, from, i, negative);
        if (ends)
            from = parts ? i + 1 : i;
    }
    text_close(&text);
}

static void take_phrase(struct query *query, struct span words, bool negative)
{
    struct text text = {0};
    text_split(&text, words);
    struct query_piece piece = {.negative = negative, .phrase = true};
    if (is_all_signs(&text, 0, text.count)) {
        piece.phrase = false;
        take_piece(query, &text, 0, text.count, piece);
    } else {
        size_t n = 0;
        for (size_t i = 0; i < text.count; i++)
            if (text.atoms[i].kind != ATOM_SIGN)
                text.atoms[n++] = text.atoms[i];
        take_piece(query, &text, 0, n, piece);
    }
    text_close(&text);
}

/* ---- what has a name ---- */

static bool take_day(struct span value, uint64_t *ms)
{
    struct tm tm = {0};
    char room[16] = "";
    if (value.n >= sizeof room)
        return false;
    memcpy(room, value.p, value.n);
    bool digits = value.n >= 11;
    for (size_t i = 0; i < value.n; i++)
        digits &= isdigit((unsigned char)room[i]) != 0;
    if (digits) {
        *ms = strtoull(room, NULL, 10);
        return true;
    }
    const char *end = strptime(room, "%Y-%m-%d", &tm);
    if (value.n != 10 || end == NULL || *end != 0 || tm.tm_year < 70)
        return false;
    *ms = (uint64_t)timegm(&tm) * 1000;
    return true;
}

static bool add_name(struct span *names, size_t *count, struct span name)
{
    if (*count < QUERY_NAMES_MAX)
        names[(*count)++] = name;
    return true;
}

static void begin_at(struct query *query, uint64_t ms)
{
    query->after = ms > query->after ? ms : query->after;
}

static void end_at(struct query *query, uint64_t ms)
{
    query->before = query->before == 0 || ms < query->before ? ms : query->before;
}

static bool take_has(struct query *query, struct span what)
{
    query->has_file |= span_is(what, TERM_HAS_FILE);
    query->has_image |= span_is(what, TERM_HAS_IMAGE);
    query->has_link |= span_is(what, TERM_HAS_LINK);
    return span_is(what, TERM_HAS_FILE) || span_is(what, TERM_HAS_IMAGE) ||
           span_is(what, TERM_HAS_LINK);
}

/* False: it is not one, and is looked for as words. */
static bool take_filter(struct query *query, struct span name, struct span value, struct span me)
{
    uint64_t ms;
    if (value.n == 0)
        return false;
    if (span_is(name, "from"))
        return add_name(query->from, &query->from_count, span_is(value, "me") ? me : value);
    if (span_is(name, "in"))
        return add_name(query->in, &query->in_count, value);
    if (span_is(name, "mentions"))
        return add_name(query->mentions, &query->mention_count, span_is(value, "me") ? me : value);
    if (span_is(name, "has"))
        return take_has(query, value);
    if (!take_day(value, &ms))
        return false;
    if (span_is(name, "after"))
        begin_at(query, ms);
    else if (span_is(name, "before"))
        end_at(query, ms);
    else if (span_is(name, "on"))
        begin_at(query, ms), end_at(query, ms + DAY_MS);
    else
        return false;
    return true;
}

/* ---- the text ---- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t until_space(struct span q, size_t at)
{
    while (at < q.n && !is_space(q.p[at]))
        at++;
    return at;
}

/* "…" from its first quote on; without a second one it goes on to the end. */
static struct span quoted(struct span q, size_t at, size_t *behind)
{
    const char *end = memchr(q.p + at + 1, '"', q.n - at - 1);
    size_t stop = end != NULL ? (size_t)(end - q.p) : q.n;
    *behind = end != NULL ? stop + 1 : stop;
    return span_of(q.p + at + 1, stop - at - 1);
}

static void take_text(struct query *query, struct span q, struct span me)
{
    size_t at = 0;
    while (at < q.n) {
        if (is_space(q.p[at])) {
            at++;
            continue;
        }
        bool negative = q.p[at] == '-' && at + 1 < q.n && !is_space(q.p[at + 1]) &&
                        q.p[at + 1] != '-' && q.p[at + 1] != '>';
        size_t from = at + negative, end = until_space(q, from);
        const char *colon = memchr(q.p + from, ':', end - from);
        size_t value = colon != NULL ? (size_t)(colon - q.p) + 1 : end;
        if (q.p[from] == '"') {
            take_phrase(query, quoted(q, from, &at), negative);
            continue;
        }
        struct span given = span_of(q.p + value, end - value);
        if (value < end && q.p[value] == '"')
            given = quoted(q, value, &end);
        if (negative || colon == NULL ||
            !take_filter(query, span_of(q.p + from, value - 1 - from), given, me))
            take_words(query, span_of(q.p + from, end - from), negative);
        at = end;
    }
}

void query_open(struct query *query, const Loquat__Search *search, struct span me)
{
    *query = (struct query){0};
    struct span q = span_str(search->q);
    if (q.n > QUERY_TEXT_MAX)
        q.n = QUERY_TEXT_MAX;
    take_text(query, q, me);
    if (search->from_user[0] != 0)
        add_name(query->from, &query->from_count, span_str(search->from_user));
    if (search->has[0] != 0)
        take_has(query, span_str(search->has));
    if (search->after != 0)
        begin_at(query, search->after);
    if (search->before != 0)
        end_at(query, search->before);
    query->kind = search->kind;
    query->xkind = span_str(search->xkind);
}

void query_close(struct query *query)
{
    for (size_t i = 0; i < query->piece_count; i++) {
        text_close(&query->pieces[i].text);
        buf_close(&query->pieces[i].stem);
    }
}

void query_prepare(struct query *query, struct stemmer *stemmer, const char *language)
{
    for (size_t i = 0; i < query->piece_count; i++) {
        struct query_piece *piece = &query->pieces[i];
        if (!piece->word)
            continue;
        const struct atom *atom = &piece->text.atoms[0];
        piece->stem.n = 0;
        buf_add_span(&piece->stem,
                     stem_of(stemmer, language, atom->script, atom_norm(&piece->text, atom)));
    }
}

/* ---- what the index is asked for ---- */

struct needs {
    struct need *all;
    size_t count;
    struct need spare; /* what is more than NEEDS_MAX is left to the text */
};

static struct need *add_need(struct needs *needs, enum need_kind kind)
{
    struct need *need = needs->count < NEEDS_MAX ? &needs->all[needs->count++] : &needs->spare;
    need->kind = kind;
    need->count = 0;
    return need;
}

static void add_term(struct need *need, struct term term)
{
    for (size_t i = 0; i < need->count; i++)
        if (span_eq(term_span(&need->terms[i]), term_span(&term)))
            return;
    if (need->count < NEED_TERMS_MAX)
        need->terms[need->count++] = term;
}

static void need_word(struct needs *needs, const struct query_piece *piece, size_t i)
{
    const struct text *text = &piece->text;
    struct span fold = atom_fold(text, &text->atoms[i]);
    bool prefix = piece->prefix && i + 1 == text->count;
    struct need *need = add_need(needs, prefix ? NEED_PREFIX : NEED_ANY);
    add_term(need, term_of(TERM_WORD, fold));
    if (piece->word) {
        add_term(need, term_of(TERM_WORD, buf_span(&piece->stem)));
        add_term(need, term_stem(buf_span(&piece->stem)));
    }
    char sign = sign_of(text, 0);
    if (i != 1 || prefix || (sign != '#' && sign != '@'))
        return;
    char room[1 + ATOM_BYTES_MAX] = {sign};
    memcpy(room + 1, fold.p, fold.n);
    need->terms[0] = term_of(TERM_TAG, span_of(room, 1 + fold.n)); /* fewer have that */
}

static void need_chars(struct needs *needs, const struct text *text, size_t i)
{
    bool alone = i == 0 || !text->atoms[i].joined || text->atoms[i - 1].kind != ATOM_CHAR;
    if (term_runs_on(text, i))
        add_term(add_need(needs, NEED_ANY), term_chars(text, &text->atoms[i], &text->atoms[i + 1]));
    else if (alone)
        add_term(add_need(needs, NEED_PREFIX), term_chars(text, &text->atoms[i], NULL));
}

static void need_piece(struct needs *needs, const struct query_piece *piece)
{
    const struct text *text = &piece->text;
    for (size_t i = 0; i < text->count && !piece->negative; i++) {
        if (text->atoms[i].kind == ATOM_WORD)
            need_word(needs, piece, i);
        else if (text->atoms[i].kind == ATOM_CHAR)
            need_chars(needs, text, i);
        else if (text->atoms[i].kind == ATOM_EMOJI)
            add_term(add_need(needs, NEED_ANY),
                     term_of(TERM_EMOJI, atom_fold(text, &text->atoms[i])));
    }
}

static void need_names(struct needs *needs, enum term_kind kind, const struct span *names,
                       size_t count, bool or_all)
{
    if (count == 0)
        return;
    struct need *need = add_need(needs, NEED_ANY);
    if (or_all)
        add_term(need, term_of(kind, span_str(TERM_ALL)));
    for (size_t i = 0; i < count; i++)
        add_term(need, term_of(kind, names[i]));
}

static void need_has(struct needs *needs, bool wanted, const char *what)
{
    if (wanted)
        add_term(add_need(needs, NEED_ANY), term_of(TERM_HAS, span_str(what)));
}

bool query_is_empty(const struct query *query)
{
    return query->piece_count == 0 && query->from_count == 0 && query->in_count == 0 &&
           query->mention_count == 0 && query->after == 0 && query->before == 0 &&
           query->kind == 0 && !query->has_file && !query->has_image && !query->has_link;
}

size_t query_needs(const struct query *query, struct need all[NEEDS_MAX])
{
    struct needs needs = {.all = all};
    need_names(&needs, TERM_FROM, query->from, query->from_count, false);
    need_names(&needs, TERM_MENTION, query->mentions, query->mention_count, true);
    need_has(&needs, query->has_file, TERM_HAS_FILE);
    need_has(&needs, query->has_image, TERM_HAS_IMAGE);
    need_has(&needs, query->has_link, TERM_HAS_LINK);
    for (size_t i = 0; i < query->piece_count; i++)
        need_piece(&needs, &query->pieces[i]);
    if (query->after != 0 || query->before != 0) {
        struct need *need = add_need(&needs, NEED_RANGE);
        need->terms[need->count++] = term_day(query->after);
        need->terms[need->count++] = term_day(query->before != 0 ? query->before - 1 : INT64_MAX);
    }
    return needs.count;
}
