/* store/search/match.h: whether a message is one that is looked for, and where in its text.
 * Thread: one matcher, one thread. */
#ifndef LOQUAT_STORE_SEARCH_MATCH_H
#define LOQUAT_STORE_SEARCH_MATCH_H

#include "store/search/query.h"

enum { MATCH_SPANS_MAX = 64, MATCH_NUMBERS_MAX = 2 * MATCH_SPANS_MAX };

struct match_spans {
    uint32_t at[MATCH_NUMBERS_MAX]; /* from, to, from, to, … in UTF-16 units; rising */
    size_t count;                   /* of numbers */
};

/* Author, time, mentions, kind: all but the text. */
bool match_record(const struct query *query, const struct record_view *record);
/* The query is prepared for the language. */
bool match_text(const struct query *query, const struct text *text, struct stemmer *stemmer,
                const char *language, struct match_spans *spans);
/* The name has these words in it, the last one begins so. */
bool match_name(struct text *room, struct span name, struct span words);

#endif
