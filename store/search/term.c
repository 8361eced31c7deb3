#include "store/search/term.h"

#include <strings.h>

/* No character is cut in two. */
static size_t cut(struct span text, size_t most)
{
    size_t n = text.n < most ? text.n : most;
    while (n > 0 && n < text.n && ((uint8_t)text.p[n] & 0xc0) == 0x80)
        n--;
    return n;
}

struct term term_of(enum term_kind kind, struct span text)
{
    bool word = kind == TERM_WORD || kind == TERM_STEM || kind == TERM_TAG;
    struct term term = {.p = {(char)kind}};
    size_t n = cut(text, word ? TERM_WORD_MAX : TERM_BYTES_MAX - 1);
    if (n > 0)
        memcpy(term.p + 1, text.p, n);
    term.n = (uint8_t)(1 + n);
    return term;
}

struct term term_stem(struct span stem)
{
    return term_of(TERM_STEM, stem);
}

struct term term_day(uint64_t ms)
{
    struct term term = {.n = 1 + TERM_DAY_SIZE, .p = {TERM_DAY}};
    uint64_t day = ms / DAY_MS < UINT32_MAX ? ms / DAY_MS : UINT32_MAX;
    for (int i = TERM_DAY_SIZE; i > 0; i--, day >>= 8)
        term.p[i] = (char)(uint8_t)day;
    return term;
}

struct term term_chars(const struct text *text, const struct atom *a, const struct atom *b)
{
    struct term term = term_of(TERM_CHARS, atom_fold(text, a));
    if (b != NULL) {
        memcpy(term.p + term.n, text->bytes.p + b->fold, b->fold_n);
        term.n = (uint8_t)(term.n + b->fold_n);
    }
    return term;
}

bool term_runs_on(const struct text *text, size_t i)
{
    return i + 1 < text->count && text->atoms[i + 1].joined && text->atoms[i + 1].kind == ATOM_CHAR;
}

bool term_has_link(struct span utf8)
{
    for (size_t i = 0; i + 3 < utf8.n; i++) {
        const char *at = memchr(utf8.p + i, ':', utf8.n - i);
        if (at == NULL)
            return false;
        i = (size_t)(at - utf8.p);
        if (i + 3 < utf8.n && at[1] == '/' && at[2] == '/' && i >= 4 &&
            (strncasecmp(at - 4, "http", 4) == 0 ||
             (i >= 5 && strncasecmp(at - 5, "https", 5) == 0)))
            return true;
    }
    return false;
}
