#include "store/search/stem.h"

#include <libstemmer.h>
#include <stdlib.h>

#include "store/base/check.h"

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

struct stemmer {
    struct sb_stemmer *of[LANGUAGES]; /* made when they are asked for */
};

struct stemmer *stemmer_new(void)
{
    return xcalloc(1, sizeof(struct stemmer));
}

void stemmer_free(struct stemmer *stemmer)
{
    for (size_t i = 0; stemmer != NULL && i < LANGUAGES; i++)
        if (stemmer->of[i] != NULL)
            sb_stemmer_delete(stemmer->of[i]);
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

struct span stem_of(struct stemmer *stemmer, const char *language, uint8_t script, struct span norm)
{
    size_t i = by_code(language);
    if (i == LANGUAGES || languages[i].script != script)
        i = by_script(script);
    if (i == LANGUAGES || norm.n < WORD_SHORTEST || has_digit(norm))
        return norm;
    if (stemmer->of[i] == NULL)
        stemmer->of[i] = sb_stemmer_new(languages[i].name, "UTF_8");
    ASSERT(stemmer->of[i] != NULL); /* the library has all of these */
    const sb_symbol *stem = sb_stemmer_stem(stemmer->of[i], (const sb_symbol *)norm.p, (int)norm.n);
    ASSERT(stem != NULL); /* out of memory */
    return span_of((const char *)stem, (size_t)sb_stemmer_length(stemmer->of[i]));
}
