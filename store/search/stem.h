/* store/search/stem.h: the stems of words (Snowball's algorithms, libstemmer).
 * Language: ISO 639-1 code of a conversation; where it is not of the word's script, or empty, the
 *           script says it: Latin English, Cyrillic Russian, Greek and Arabic their own.
 * Thread:   one stemmer, one thread. A stem lives until the next. */
#ifndef LOQUAT_STORE_SEARCH_STEM_H
#define LOQUAT_STORE_SEARCH_STEM_H

#include "store/search/text.h"

struct stemmer;
/* Remembers so many words (64 bytes each) and their stems: for who goes through many texts. */
struct stemmer *stemmer_new(size_t kept);
void stemmer_free(struct stemmer *stemmer);
bool stem_knows(const char *language); /* by code */
/* `norm` itself where the script has no stems, or the word has a digit in it. */
struct span stem_of(struct stemmer *stemmer, const char *language, uint8_t script,
                    struct span norm);

#endif
