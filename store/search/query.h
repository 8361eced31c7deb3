/* store/search/query.h: what somebody looks for.
 * Text:   words, all of which must be there; "several words" in this order; -word: must not be
 *         there; pre*: a word that begins so. A word is found in its other forms as well, by their
 *         stem; what is in quotes, or has signs inside (foo_bar, example.com, c++, #tag, @ann), is
 *         found as it stands. from:USER, in:CONVERSATION (id, part of the name, whom it is with),
 *         before:, after: (a day, 2026-01-31), on: (that day), has:file|image|link,
 *         mentions:me|USER. What is none of these is looked for as words: no text is wrong.
 * Owner:  a query owns what it has. Thread: one query, one thread.
 * Limits: QUERY_PIECES_MAX words or phrases; more are left out. */
#ifndef LOQUAT_STORE_SEARCH_QUERY_H
#define LOQUAT_STORE_SEARCH_QUERY_H

#include "store/search/term.h"
#include "wire.pb-c.h"

enum { QUERY_PIECES_MAX = 32, QUERY_NAMES_MAX = 8, QUERY_TEXT_MAX = 4096 };

/* One word, or several that stand together. */
struct query_piece {
    struct text text;
    bool negative, prefix;
    bool phrase;     /* signs do not count */
    bool word;       /* a single word, found in its other forms as well */
    struct buf stem; /* of such a word, in the language that was prepared */
};
struct query {
    struct query_piece pieces[QUERY_PIECES_MAX];
    size_t piece_count;
    struct span from[QUERY_NAMES_MAX], in[QUERY_NAMES_MAX], mentions[QUERY_NAMES_MAX];
    size_t from_count, in_count, mention_count;
    uint64_t after, before; /* ms: [after, before); before 0: no end */
    bool has_file, has_image, has_link;
    uint32_t kind; /* 0: any message */
    struct span xkind;
};

/* `search` must live as long as the query. `me`: who asks. */
void query_open(struct query *query, const Loquat__Search *search, struct span me);
void query_close(struct query *query);
bool query_is_empty(const struct query *query); /* nothing is looked for, and found */
/* Finds the stems of words, for texts of this language. */
void query_prepare(struct query *query, struct stemmer *stemmer, const char *language);

/* What the index is asked for; all needs must be met by a message. */
enum need_kind { NEED_ANY, NEED_PREFIX, NEED_RANGE };
enum { NEED_TERMS_MAX = QUERY_NAMES_MAX + 1 };
struct need {
    enum need_kind kind;
    struct term terms[NEED_TERMS_MAX]; /* any of these; RANGE: first and last */
    size_t count;
};
enum { NEEDS_MAX = 64 };
/* Returns how many. Of a prepared query. */
size_t query_needs(const struct query *query, struct need needs[NEEDS_MAX]);

#endif
