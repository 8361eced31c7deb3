/* store/search/term.h: what the index has of a message: its terms, and how each is written.
 * Bytes:  a kind (enum term_kind), then the term. A message is found by
 *   TERM_WORD    the fold of a word, those that its apostrophes part, and TERM_STEM its stem where
 *                that is another
 *   TERM_CHARS   two neighbouring characters of the scripts that are looked into anywhere, and the
 *                last one of each run: so every run of them is found, of one as well
 *   TERM_EMOJI   an emoji      TERM_TAG   a word with the # or @ before it
 *   TERM_FROM    its author    TERM_HAS   h_file, h_image, h_link
 *   TERM_MENTION whom it mentions, "*": all      TERM_DAY  its day since 1970, big-endian
 * A term says that a message may be one that is looked for; its text says whether it is.
 * Thread: any. */
#ifndef LOQUAT_STORE_SEARCH_TERM_H
#define LOQUAT_STORE_SEARCH_TERM_H

#include "store/base/record.h"
#include "store/search/stem.h"

enum term_kind {
    TERM_CHARS = 'c',
    TERM_DAY = 'd',
    TERM_EMOJI = 'e',
    TERM_FROM = 'f',
    TERM_HAS = 'h',
    TERM_MENTION = 'm',
    TERM_STEM = 's',
    TERM_TAG = 't',
    TERM_WORD = 'w',
};
enum { TERM_BYTES_MAX = 65, TERM_WORD_MAX = 40, TERM_DAY_SIZE = 4, DAY_MS = 86400000 };
#define TERM_HAS_FILE "file"
#define TERM_HAS_IMAGE "image"
#define TERM_HAS_LINK "link"
#define TERM_ALL "*"

struct term {
    uint8_t n;
    char p[TERM_BYTES_MAX];
};
static inline struct span term_span(const struct term *term)
{
    return (struct span){term->p, term->n};
}
struct term term_of(enum term_kind kind, struct span text); /* cut where it is too long */
struct term term_stem(struct span stem);                    /* as TERM_STEM */
struct term term_day(uint64_t ms);
/* Of two neighbouring characters; `b` NULL: of the last one. */
struct term term_chars(const struct text *text, const struct atom *a, const struct atom *b);
bool term_runs_on(const struct text *text, size_t i); /* atom i + 1 is of the same run */

/* Whether the text has the address of a page in it. */
bool term_has_link(struct span utf8);

#endif
