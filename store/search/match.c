#include "store/search/match.h"

#include <stdlib.h>

/* ---- all but the text ---- */

static bool has_name(const struct span *names, size_t count, struct span name)
{
    for (size_t i = 0; i < count; i++)
        if (span_eq(names[i], name))
            return true;
    return count == 0;
}

static bool has_mention(const struct query *query, const struct record_view *record)
{
    struct span rest = record->mentions, user;
    bool has = query->mention_count == 0 || record->mention_all;
    while (!has && record_mention(&rest, &user))
        has = has_name(query->mentions, query->mention_count, user);
    return has;
}

bool match_record(const struct query *query, const struct record_view *record)
{
    if (!has_name(query->from, query->from_count, record->from))
        return false;
    if (record->ts < query->after || (query->before != 0 && record->ts >= query->before))
        return false;
    if (query->kind != 0 && (record->kind != query->kind || !span_eq(record->xkind, query->xkind)))
        return false;
    if (query->has_file && record->kind != LOQUAT__KIND__KIND_FILE)
        return false;
    if (query->has_image && record->kind != LOQUAT__KIND__KIND_IMAGE)
        return false;
    return has_mention(query, record);
}

/* ---- the text ---- */

struct matcher {
    const struct text *text;
    struct stemmer *stemmer;
    const char *language;
};

static bool begins(struct span text, struct span with)
{
    return text.n >= with.n && memcmp(text.p, with.p, with.n) == 0;
}

/* The stem of a word begins as the word does, but where a language has them change in front. */
static bool may_have(const struct atom *atom, struct span norm, struct span stem)
{
    return norm.n > 0 && stem.n > 0 && (norm.p[0] == stem.p[0] || atom->script == SCRIPT_ARABIC);
}

static bool has_stem(const struct matcher *m, const struct query_piece *piece,
                     const struct atom *atom)
{
    struct span norm = atom_norm(m->text, atom), stem = buf_span(&piece->stem);
    if (atom->script != piece->text.atoms[0].script || !may_have(atom, norm, stem))
        return false;
    return span_eq(stem_of(m->stemmer, m->language, atom->script, norm), stem);
}

static bool is_ascii(struct span text)
{
    for (size_t i = 0; i < text.n; i++)
        if ((uint8_t)text.p[i] >= 0x80)
            return false;
    return true;
}

/* It is one of those that apostrophes part, or, with `prefix`, begins one. */
static bool is_part(const struct matcher *m, const struct atom *atom, struct span fold, bool prefix)
{
    struct span part;
    for (size_t at = 0; text_part(m->text, atom, &at, &part);)
        if (prefix ? begins(part, fold) : span_eq(part, fold))
            return true;
    return false;
}

/* What is looked for as it stands has its accents, if it has any. */
static bool same(const struct matcher *m, const struct text *text, const struct atom *wanted,
                 const struct atom *atom)
{
    struct span norm = atom_norm(text, wanted);
    if (!span_eq(atom_fold(text, wanted), norm) && !is_ascii(norm))
        return span_eq(norm, atom_norm(m->text, atom));
    return span_eq(atom_fold(text, wanted), atom_fold(m->text, atom));
}

static bool fits(const struct matcher *m, const struct query_piece *piece, size_t i,
                 const struct atom *atom)
{
    const struct atom *wanted = &piece->text.atoms[i];
    if (wanted->kind != atom->kind)
        return false;
    struct span fold = atom_fold(&piece->text, wanted);
    if (piece->prefix && i + 1 == piece->text.count)
        return begins(atom_fold(m->text, atom), fold) || is_part(m, atom, fold, true);
    if (piece->word)
        return span_eq(fold, atom_fold(m->text, atom)) || is_part(m, atom, fold, false) ||
               has_stem(m, piece, atom);
    return same(m, &piece->text, wanted, atom);
}

/* The piece begins at atom `at`; *last: the one it ends with. */
static bool stands_at(const struct matcher *m, const struct query_piece *piece, size_t at,
                      size_t *last)
{
    size_t j = at;
    for (size_t i = 0; i < piece->text.count; i++, j++) {
        while (i > 0 && piece->phrase && j < m->text->count && m->text->atoms[j].kind == ATOM_SIGN)
            j++;
        if (j >= m->text->count || !fits(m, piece, i, &m->text->atoms[j]))
            return false;
        if (i > 0 && !piece->phrase && !m->text->atoms[j].joined)
            return false;
        *last = j;
    }
    return true;
}

static void add_span(struct match_spans *spans, uint32_t from, uint32_t to)
{
    if (spans->count + 2 <= MATCH_NUMBERS_MAX) {
        spans->at[spans->count++] = from;
        spans->at[spans->count++] = to;
    }
}

static bool stands(const struct matcher *m, const struct query_piece *piece,
                   struct match_spans *spans)
{
    bool found = false;
    for (size_t at = 0; at < m->text->count; at++) {
        size_t last = at;
        if (!stands_at(m, piece, at, &last))
            continue;
        if (piece->negative)
            return true;
        add_span(spans, m->text->atoms[at].from, m->text->atoms[last].to);
        found = true;
    }
    return found;
}

static int by_from(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return x[0] < y[0] ? -1 : x[0] > y[0];
}

/* Those that touch become one. */
static void join(struct match_spans *spans)
{
    size_t n = 0;
    if (spans->count > 0)
        qsort(spans->at, spans->count / 2, 2 * sizeof spans->at[0], by_from);
    for (size_t i = 0; i < spans->count; i += 2) {
        if (n > 0 && spans->at[i] <= spans->at[n - 1]) {
            if (spans->at[i + 1] > spans->at[n - 1])
                spans->at[n - 1] = spans->at[i + 1];
            continue;
        }
        spans->at[n] = spans->at[i];
        spans->at[n + 1] = spans->at[i + 1];
        n += 2;
    }
    spans->count = n;
}

bool match_text(const struct query *query, const struct text *text, struct stemmer *stemmer,
                const char *language, struct match_spans *spans)
{
    struct matcher m = {text, stemmer, language};
    spans->count = 0;
    for (size_t i = 0; i < query->piece_count; i++)
        if (stands(&m, &query->pieces[i], spans) == query->pieces[i].negative)
            return false;
    join(spans);
    return true;
}

bool match_name(struct text *room, struct span name, struct span words)
{
    struct query_piece piece = {.phrase = true, .prefix = true};
    struct matcher m = {.text = room};
    struct match_spans spans = {.count = 0};
    text_split(&piece.text, words);
    text_split(room, name);
    bool found = piece.text.count > 0 && stands(&m, &piece, &spans);
    text_close(&piece.text);
    return found;
}
