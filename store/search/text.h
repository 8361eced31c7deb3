/* store/search/text.h: what of a text can be searched for: its atoms, in order.
 * Atoms:  a word (letters and digits, with their marks), one character of a script that is written
 *         without spaces or looked into anywhere (Han, Kana, Hangul, Thai, …), an emoji, or a sign
 *         (any other character that shows). Spaces are between atoms.
 * Forms:  norm is NFKC with case folded (ICU); fold is that without what people leave out: accents
 *         of Latin and Greek, points of Arabic and Hebrew, the dots of ё, an apostrophe in a word.
 * Places: counted in UTF-16 code units of the text, as strings of JavaScript and Java are.
 * Owner:  a text keeps its memory for the next; atoms die with text_split of another.
 * Thread: one text, one thread. What is not UTF-8 ends the text. */
#ifndef LOQUAT_STORE_SEARCH_TEXT_H
#define LOQUAT_STORE_SEARCH_TEXT_H

#include "store/base/buf.h"

enum atom_kind { ATOM_WORD, ATOM_CHAR, ATOM_EMOJI, ATOM_SIGN };
enum script {
    SCRIPT_OTHER,
    SCRIPT_LATIN,
    SCRIPT_CYRILLIC,
    SCRIPT_GREEK,
    SCRIPT_ARABIC,
    SCRIPT_HEBREW
};

struct atom {
    uint32_t from, to;       /* UTF-16 */
    uint32_t fold, norm;     /* where they begin in text->bytes */
    uint32_t apart;          /* the fold with its apostrophes, where it has any */
    uint16_t fold_n, norm_n; /* ATOM_BYTES_MAX at most: what is longer is cut */
    uint16_t apart_n;
    uint8_t kind, script;
    bool joined; /* nothing lies between this one and the one before */
};

enum { ATOM_BYTES_MAX = 128, TEXT_ATOMS_MAX = 1 << 16 };

struct text {
    struct atom *atoms;
    size_t count, cap;
    struct buf bytes;
};

void text_close(struct text *text);
void text_split(struct text *text, struct span utf8);
static inline struct span atom_fold(const struct text *text, const struct atom *atom)
{
    return (struct span){text->bytes.p + atom->fold, atom->fold_n};
}
static inline struct span atom_norm(const struct text *text, const struct atom *atom)
{
    return (struct span){text->bytes.p + atom->norm, atom->norm_n};
}
/* The next word of one with apostrophes, in its fold: `l` and `eau` of l'eau; false: no more. *at
 * is 0 at first. */
bool text_part(const struct text *text, const struct atom *atom, size_t *at, struct span *part);

#endif
