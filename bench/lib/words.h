/* bench/lib/words.h: what the messages of a bench say: pieces of real chat, the English lines of
 * the sample of the tests one behind the other. Words come as often as people use them, which is
 * what the search index, compression and caches live on.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_WORDS_H
#define LOQUAT_BENCH_WORDS_H

#include <stdint.h>

enum { BARE_TEXT = 200 };

/* BARE_TEXT bytes of printable ASCII without quotation marks and backslashes, by number: from the
 * beginning of a word on, one of some forty thousand. */
void bench_text(uint64_t number, char text[BARE_TEXT]);

#endif
