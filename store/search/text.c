#include "store/search/text.h"

#include <pthread.h>
#include <stdlib.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uscript.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

#include "store/base/check.h"

enum class {
    CLASS_SPACE,
    CLASS_SIGN,
    CLASS_WORD,
    CLASS_MARK,
    CLASS_CHAR,
    CLASS_EMOJI,
    CLASS_NONE,
    CLASS_BREAK
};

/* Of each character of the basic plane: what it is, and what NFKC with case folding makes of it
 * when that is one such character; else it is asked for with what belongs to it. */
struct trait {
    uint16_t norm; /* 0: not one */
    uint8_t class, script;
    bool starts; /* never combines with what comes before it */
    bool strips; /* its fold differs from its norm, or may */
};
static struct trait *traits; /* 65,536 */
static const UNormalizer2 *folding, *decomposing;
static pthread_once_t once = PTHREAD_ONCE_INIT;

enum { PLANE = 0x10000, UNIT_MAX = 32, MAPPED_MAX = 128 };
enum {
    APOSTROPHE = 0x27,
    APOSTROPHE_RAISED = 0x2019,
    JOINER = 0x200d,
    TATWEEL = 0x640,
    NO_WIDTH = 0x200b
};
enum { YO = 0x451, YO_LARGE = 0x401, DIAERESIS = 0x308 };

static bool is_char_script(UScriptCode script)
{
    switch (script) {
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_HANGUL:
    case USCRIPT_BOPOMOFO:
    case USCRIPT_THAI:
    case USCRIPT_LAO:
    case USCRIPT_KHMER:
    case USCRIPT_MYANMAR:
    case USCRIPT_TIBETAN:
    case USCRIPT_YI:
        return true;
    default:
        return false;
    }
}

static uint8_t script_of(UChar32 c)
{
    UErrorCode err = U_ZERO_ERROR;
    switch (uscript_getScript(c, &err)) {
    case USCRIPT_LATIN:
        return SCRIPT_LATIN;
    case USCRIPT_CYRILLIC:
        return SCRIPT_CYRILLIC;
    case USCRIPT_GREEK:
        return SCRIPT_GREEK;
    case USCRIPT_ARABIC:
        return SCRIPT_ARABIC;
    case USCRIPT_HEBREW:
        return SCRIPT_HEBREW;
    default:
        return SCRIPT_OTHER;
    }
}

static uint8_t class_of(UChar32 c)
{
    UErrorCode err = U_ZERO_ERROR;
    int8_t type = u_charType(c);
    if (c == NO_WIDTH)
        return CLASS_BREAK;
    /* Ideographic and syllabic characters, and the mark of a long vowel of Kana. */
    if (is_char_script(uscript_getScript(c, &err)) || c == 0x30fc || c == 0xff70)
        return type == U_NON_SPACING_MARK || u_isalnum(c) || type == U_COMBINING_SPACING_MARK ||
                       u_hasBinaryProperty(c, UCHAR_ALPHABETIC)
                   ? CLASS_CHAR
                   : CLASS_SIGN;
    if (type == U_NON_SPACING_MARK || type == U_COMBINING_SPACING_MARK || type == U_ENCLOSING_MARK)
        return CLASS_MARK;
    if (u_hasBinaryProperty(c, UCHAR_ALPHABETIC) || type == U_DECIMAL_DIGIT_NUMBER ||
        type == U_OTHER_NUMBER || type == U_LETTER_NUMBER)
        return CLASS_WORD;
    if (c > 0x2000 && (u_hasBinaryProperty(c, UCHAR_EXTENDED_PICTOGRAPHIC) ||
                       u_hasBinaryProperty(c, UCHAR_REGIONAL_INDICATOR)))
        return u_hasBinaryProperty(c, UCHAR_EMOJI_MODIFIER) ? CLASS_NONE : CLASS_EMOJI;
    if (u_hasBinaryProperty(c, UCHAR_EMOJI_MODIFIER))
        return CLASS_NONE; /* of a skin: found with any */
    if (u_isUWhiteSpace(c) || u_iscntrl(c))
        return CLASS_SPACE;
    return type == U_FORMAT_CHAR || type == U_UNASSIGNED ? CLASS_NONE : CLASS_SIGN;
}

/* What has a fold of its own: marks go where people leave them out. */
static bool may_strip(UChar32 c, uint8_t script)
{
    UErrorCode err = U_ZERO_ERROR;
    UChar room[MAPPED_MAX];
    if (script == SCRIPT_CYRILLIC)
        return c == YO || c == YO_LARGE;
    if (c == TATWEEL)
        return true;
    return script != SCRIPT_OTHER && c > 0x7f &&
           unorm2_getDecomposition(decomposing, c, room, MAPPED_MAX, &err) >= 0;
}

static struct trait trait_of(UChar32 c)
{
    struct trait trait = {.class = class_of(c), .script = script_of(c)};
    UChar room[MAPPED_MAX], one[2];
    UErrorCode err = U_ZERO_ERROR;
    int32_t n = 0, length;
    U16_APPEND_UNSAFE(one, n, c);
    length = unorm2_normalize(folding, one, n, room, MAPPED_MAX, &err);
    if (U_SUCCESS(err) && length == 1 && !U16_IS_SURROGATE(room[0]))
        trait.norm = room[0];
    trait.starts = unorm2_hasBoundaryBefore(folding, c);
    trait.strips = may_strip(c, trait.script);
    return trait;
}

static void begin(void)
{
    UErrorCode err = U_ZERO_ERROR;
    folding = unorm2_getNFKCCasefoldInstance(&err);
    decomposing = unorm2_getNFDInstance(&err);
    ASSERT(U_SUCCESS(err)); /* ICU carries its own data */
    traits = xcalloc(PLANE, sizeof *traits);
    for (UChar32 c = 0; c < PLANE; c++)
        if (!U16_IS_SURROGATE(c))
            traits[c] = trait_of(c);
}

static struct trait trait(UChar32 c)
{
    return c < PLANE ? traits[c] : trait_of(c);
}

void text_close(struct text *text)
{
    free(text->atoms);
    buf_close(&text->bytes);
    *text = (struct text){0};
}

/* ---- putting atoms together ---- */

struct splitter {
    struct text *text;
    const char *p;
    int32_t at, n;
    uint32_t place;    /* of `at`, in UTF-16 */
    struct atom *word; /* being put together; NULL: none */
    bool strips, gap;
};

static struct atom *push(struct splitter *s, uint8_t kind, uint8_t script)
{
    struct text *text = s->text;
    if (text->count == text->cap) {
        text->cap = text->cap == 0 ? 64 : text->cap * 2;
        text->atoms = xrealloc(text->atoms, text->cap * sizeof *text->atoms);
    }
    struct atom *atom = &text->atoms[text->count++];
    *atom = (struct atom){.from = s->place,
                          .norm = (uint32_t)text->bytes.n,
                          .kind = kind,
                          .script = script,
                          .joined = !s->gap && text->count > 1};
    s->gap = false;
    return atom;
}

static void add_character(struct splitter *s, struct atom *atom, UChar32 c)
{
    char room[4];
    int32_t n = 0;
    U8_APPEND_UNSAFE(room, n, c);
    if (atom->norm_n + n > ATOM_BYTES_MAX)
        return;
    buf_add(&s->text->bytes, room, (size_t)n);
    atom->norm_n = (uint16_t)(atom->norm_n + n);
}

static bool is_left_out(UChar32 c, bool cyrillic)
{
    if (c == TATWEEL)
        return true;
    return cyrillic ? c == DIAERESIS : u_charType(c) == U_NON_SPACING_MARK;
}

/* The fold of what has marks: taken apart, without them. */
static void strip(struct splitter *s, struct atom *atom)
{
    UChar wide[ATOM_BYTES_MAX], apart[4 * ATOM_BYTES_MAX];
    UErrorCode err = U_ZERO_ERROR;
    struct span norm = atom_norm(s->text, atom);
    int32_t at = 0, n = 0, size = (int32_t)norm.n;
    while (at < size) {
        UChar32 c;
        U8_NEXT(norm.p, at, size, c);
        if (c >= 0)
            U16_APPEND_UNSAFE(wide, n, c);
    }
    int32_t length = unorm2_normalize(decomposing, wide, n, apart, 4 * ATOM_BYTES_MAX, &err);
    ASSERT(U_SUCCESS(err)); /* at most four units for one (Unicode Standard Annex 15, table 8) */
    struct atom fold = {.norm = (uint32_t)s->text->bytes.n};
    bool cyrillic = atom->script == SCRIPT_CYRILLIC;
    for (at = 0; at < length;) {
        UChar32 c;
        U16_NEXT(apart, at, length, c);
        if (!is_left_out(c, cyrillic))
            add_character(s, &fold, c);
    }
    if (fold.norm_n == 0)
        return;
    atom->fold = fold.norm;
    atom->fold_n = fold.norm_n;
}

/* The fold without apostrophes. */
static void drop(struct splitter *s, struct atom *atom)
{
    uint32_t at = (uint32_t)s->text->bytes.n;
    buf_reserve(&s->text->bytes, atom->fold_n);
    atom->apart = atom->fold;
    atom->apart_n = atom->fold_n;
    struct span apart = atom_fold(s->text, atom);
    for (size_t i = 0; i < apart.n; i++)
        if (apart.p[i] != APOSTROPHE)
            buf_add_byte(&s->text->bytes, (uint8_t)apart.p[i]);
    atom->fold = at;
    atom->fold_n = (uint16_t)(s->text->bytes.n - at);
}

static void end_word(struct splitter *s)
{
    struct atom *word = s->word;
    if (word == NULL)
        return;
    s->word = NULL;
    word->to = s->place;
    word->fold = word->norm;
    word->fold_n = word->norm_n;
    if (s->strips)
        strip(s, word);
    s->strips = false;
    struct span fold = atom_fold(s->text, word);
    if (memchr(fold.p, APOSTROPHE, fold.n) != NULL)
        drop(s, word);
}

bool text_part(const struct text *text, const struct atom *atom, size_t *at, struct span *part)
{
    const char *begin = text->bytes.p + atom->apart;
    while (*at < atom->apart_n) {
        const char *end = memchr(begin + *at, APOSTROPHE, atom->apart_n - *at);
        size_t stop = end != NULL ? (size_t)(end - begin) : atom->apart_n;
        *part = span_of(begin + *at, stop - *at);
        *at = stop + 1;
        if (part->n > 0)
            return true;
    }
    return false;
}

static struct atom *open_word(struct splitter *s, uint8_t script)
{
    if (s->word == NULL)
        s->word = push(s, ATOM_WORD, script);
    else if (s->word->script == SCRIPT_OTHER)
        s->word->script = script;
    return s->word;
}

/* One normalized character, of which `from` is where its unit begins. */
static void take(struct splitter *s, UChar32 c, const struct trait *trait, uint32_t units)
{
    switch (trait->class) {
    case CLASS_WORD:
        add_character(s, open_word(s, trait->script), c);
        s->strips |= trait->strips;
        return;
    case CLASS_MARK:
        if (s->word != NULL)
            add_character(s, s->word, c);
        s->strips |= s->word != NULL && s->word->script != SCRIPT_OTHER;
        return;
    case CLASS_CHAR:
    case CLASS_EMOJI:
    case CLASS_SIGN: {
        end_word(s);
        uint8_t kind = trait->class == CLASS_CHAR    ? ATOM_CHAR
                       : trait->class == CLASS_EMOJI ? ATOM_EMOJI
                                                     : ATOM_SIGN;
        struct atom *atom = push(s, kind, SCRIPT_OTHER);
        add_character(s, atom, c);
        atom->fold = atom->norm;
        atom->fold_n = atom->norm_n;
        atom->to = s->place + units;
        return;
    }
    case CLASS_SPACE:
        end_word(s);
        s->gap = true;
        return;
    case CLASS_BREAK:
        end_word(s);
        return;
    default:
        return;
    }
}

/* A character and those that may combine with it, all at once. */
static void take_unit(struct splitter *s, const UChar *unit, int32_t n)
{
    UChar room[MAPPED_MAX * 4];
    UErrorCode err = U_ZERO_ERROR;
    int32_t length = unorm2_normalize(folding, unit, n, room, MAPPED_MAX * 4, &err), at = 0;
    ASSERT(U_SUCCESS(err)); /* 18 characters for one at most */
    uint32_t place = s->place;
    while (at < length) {
        UChar32 c;
        U16_NEXT(room, at, length, c);
        struct trait of = trait(c);
        take(s, c, &of, (uint32_t)n);
    }
    s->place = place + (uint32_t)n;
}

static bool is_apostrophe(const struct splitter *s, UChar32 c, int32_t behind)
{
    UChar32 next;
    if ((c != APOSTROPHE && c != APOSTROPHE_RAISED) || s->word == NULL || behind >= s->n)
        return false;
    U8_NEXT(s->p, behind, s->n, next);
    return next > 0 && trait(next).class == CLASS_WORD;
}

/* From s->at on, whose character is `first`. */
static void take_combined(struct splitter *s, UChar32 first, int32_t behind)
{
    UChar unit[UNIT_MAX];
    int32_t n = 0;
    U16_APPEND_UNSAFE(unit, n, first);
    while (behind < s->n && n < UNIT_MAX - 2) {
        int32_t at = behind;
        UChar32 c;
        U8_NEXT(s->p, at, s->n, c);
        if (c < 0 || trait(c).starts || c == NO_WIDTH)
            break;
        U16_APPEND_UNSAFE(unit, n, c);
        behind = at;
    }
    take_unit(s, unit, n);
    s->at = behind;
}

static void take_next(struct splitter *s)
{
    int32_t behind = s->at;
    UChar32 c;
    U8_NEXT(s->p, behind, s->n, c);
    if (c < 0) {
        s->n = s->at; /* not UTF-8: who stores texts has looked at them */
        return;
    }
    struct trait of = trait(c);
    if (of.class == CLASS_BREAK) { /* normalized, it would be gone */
        take(s, c, &of, 1);
        s->place++;
        s->at = behind;
        return;
    }
    if (is_apostrophe(s, c, behind)) {
        add_character(s, s->word, APOSTROPHE);
        s->place++;
        s->at = behind;
        return;
    }
    bool alone = behind >= s->n || (uint8_t)s->p[behind] < 0x80;
    if (!alone) {
        int32_t at = behind;
        UChar32 next;
        U8_NEXT(s->p, at, s->n, next);
        alone = next < 0 || trait(next).starts || next == NO_WIDTH;
    }
    if (!alone || of.norm == 0) {
        take_combined(s, c, behind);
        return;
    }
    if (of.norm != c) {
        UChar32 norm = of.norm;
        bool strips = of.strips;
        of = traits[norm];
        of.strips |= strips;
        take(s, norm, &of, (uint32_t)U16_LENGTH(c));
    } else {
        take(s, c, &of, 1);
    }
    s->place += (uint32_t)U16_LENGTH(c);
    s->at = behind;
}

/* ASCII letters and digits, which most texts are made of. */
static bool take_ascii(struct splitter *s)
{
    struct buf *bytes = &s->text->bytes;
    int32_t at = s->at;
    while (at < s->n) {
        uint8_t c = (uint8_t)s->p[at];
        bool upper = c >= 'A' && c <= 'Z';
        if (!upper && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
            break;
        struct atom *word = open_word(s, c > '9' ? SCRIPT_LATIN : SCRIPT_OTHER);
        if (word->norm_n < ATOM_BYTES_MAX) {
            buf_add_byte(bytes, upper ? c | 0x20 : c);
            word->norm_n++;
        }
        at++;
        s->place++;
    }
    /* What follows may combine with the last one. */
    if (at > s->at && at < s->n && (uint8_t)s->p[at] >= 0x80) {
        at--;
        s->place--;
        if (s->word->norm_n > 0 && s->word->norm_n < ATOM_BYTES_MAX) {
            s->word->norm_n--;
            bytes->n--;
        }
        if (s->word->norm_n == 0 && s->word->from == s->place) {
            s->gap = !s->word->joined;
            s->text->count--;
            s->word = NULL;
        }
    }
    bool took = at > s->at;
    s->at = at;
    return took;
}

void text_split(struct text *text, struct span utf8)
{
    pthread_once(&once, begin);
    text->count = 0;
    text->bytes.n = 0;
    buf_reserve(&text->bytes, utf8.n + 16);
    struct splitter s = {
        .text = text, .p = utf8.p, .n = utf8.n > INT32_MAX ? INT32_MAX : (int32_t)utf8.n};
    while (s.at < s.n && text->count < TEXT_ATOMS_MAX) {
        bool took = take_ascii(&s);
        if (s.at < s.n && (!took || (uint8_t)s.p[s.at] >= 0x80))
            take_next(&s);
    }
    end_word(&s);
}
