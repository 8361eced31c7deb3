#include "store/search/stem.h"

#include <libstemmer.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/ids.h"

static const struct language {
    const char *code, *name;
    uint8_t script;
} languages[] = {
    {"en", "english", SCRIPT_LATIN},    {"ru", "russian", SCRIPT_CYRILLIC},
    {"el", "greek", SCRIPT_GREEK},      {"ar", "arabic", SCRIPT_ARABIC},
    {"ca", "catalan", SCRIPT_LATIN},    {"da", "danish", SCRIPT_LATIN},
    {"de", "german", SCRIPT_LATIN},     {"es", "spanish", SCRIPT_LATIN},
    {"eu", "basque", SCRIPT_LATIN},     {"fi", "finnish", SCRIPT_LATIN},
    {"fr", "french", SCRIPT_LATIN},     {"ga", "irish", SCRIPT_LATIN},
    {"hu", "hungarian", SCRIPT_LATIN},  {"id", "indonesian", SCRIPT_LATIN},
    {"it", "italian", SCRIPT_LATIN},    {"lt", "lithuanian", SCRIPT_LATIN},
    {"nl", "dutch", SCRIPT_LATIN},      {"no", "norwegian", SCRIPT_LATIN},
    {"pt", "portuguese", SCRIPT_LATIN}, {"ro", "romanian", SCRIPT_LATIN},
    {"sr", "serbian", SCRIPT_CYRILLIC}, {"sv", "swedish", SCRIPT_LATIN},
    {"tr", "turkish", SCRIPT_LATIN},
};
enum { LANGUAGES = sizeof languages / sizeof languages[0], WORD_SHORTEST = 3 };

/* A word, which people say again and again, and its stem. */
enum { KEPT_BYTES_MAX = 28 };
struct kept {
    uint64_t hash;
    uint8_t language, norm_n, stem_n; /* norm_n 0: none */
    char norm[KEPT_BYTES_MAX], stem[KEPT_BYTES_MAX];
};

struct stemmer {
    struct sb_stemmer *of[LANGUAGES]; /* made when they are asked for */
    char code[LANG_MAX + 1];          /* that was asked for last */
    size_t language;                  /* which one that is */
    struct kept *kept;                /* by hash */
    size_t kept_count;
};

struct stemmer *stemmer_new(size_t kept)
{
    struct stemmer *stemmer = xcalloc(1, sizeof *stemmer);
    stemmer->language = LANGUAGES;
    stemmer->kept = kept > 0 ? xcalloc(kept, sizeof *stemmer->kept) : NULL;
    stemmer->kept_count = kept;
    return stemmer;
}

void stemmer_free(struct stemmer *stemmer)
{
    for (size_t i = 0; stemmer != NULL && i < LANGUAGES; i++)
        if (stemmer->of[i] != NULL)
            sb_stemmer_delete(stemmer->of[i]);
    if (stemmer != NULL)
        free(stemmer->kept);
    free(stemmer);
}

static size_t by_code(const char *code)
{
    size_t i = 0;
    while (i < LANGUAGES && strcmp(languages[i].code, code) != 0)
        i++;
    return i;
}

bool stem_knows(const char *language)
{
    return by_code(language) < LANGUAGES;
}

static size_t by_script(uint8_t script)
{
    size_t i = 0;
    while (i < LANGUAGES && languages[i].script != script)
        i++;
    return i;
}

static bool has_digit(struct span word)
{
    for (size_t i = 0; i < word.n; i++)
        if (word.p[i] >= '0' && word.p[i] <= '9')
            return true;
    return false;
}

static struct span stem(struct stemmer *stemmer, size_t i, struct span norm)
{
    if (stemmer->of[i] == NULL)
        stemmer->of[i] = sb_stemmer_new(languages[i].name, "UTF_8");
    ASSERT(stemmer->of[i] != NULL); /* the library has all of these */
    const sb_symbol *stem = sb_stemmer_stem(stemmer->of[i], (const sb_symbol *)norm.p, (int)norm.n);
    ASSERT(stem != NULL); /* out of memory */
    return span_of((const char *)stem, (size_t)sb_stemmer_length(stemmer->of[i]));
}

static struct span kept_stem(struct stemmer *stemmer, size_t i, struct span norm)
{
    if (stemmer->kept_count == 0 || norm.n > KEPT_BYTES_MAX)
        return stem(stemmer, i, norm);
    uint64_t hash = XXH3_64bits(norm.p, norm.n);
    struct kept *kept = &stemmer->kept[hash % stemmer->kept_count];
    if (kept->hash == hash && kept->language == i && kept->norm_n == norm.n &&
        memcmp(kept->norm, norm.p, norm.n) == 0)
        return span_of(kept->stem, kept->stem_n);
    struct span made = stem(stemmer, i, norm);
    if (made.n > KEPT_BYTES_MAX)
        return made;
    *kept = (struct kept){
        .hash = hash, .language = (uint8_t)i, .norm_n = (uint8_t)norm.n, .stem_n = (uint8_t)made.n};
    memcpy(kept->norm, norm.p, norm.n);
    memcpy(kept->stem, made.p, made.n);
    return span_of(kept->stem, kept->stem_n);
}

struct span stem_of(struct stemmer *stemmer, const char *language, uint8_t script, struct span norm)
{
    if (strcmp(stemmer->code, language) != 0) {
        ASSERT(strlen(language) <= LANG_MAX);
        snprintf(stemmer->code, sizeof stemmer->code, "%s", language);
        stemmer->language = by_code(language);
    }
    size_t i = stemmer->language;
    if (i == LANGUAGES || languages[i].script != script)
        i = by_script(script);
    if (i == LANGUAGES || norm.n < WORD_SHORTEST || has_digit(norm))
        return norm;
    return kept_stem(stemmer, i, norm);
}
