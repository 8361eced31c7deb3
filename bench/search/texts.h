/* bench/search/texts.h: the messages of a chat archive in memory, and queries drawn from them.
 * Owner:  texts own everything; queries own their words.
 * Errors: none: see bench/lib/measure.h. */
#ifndef LOQUAT_BENCH_SEARCH_TEXTS_H
#define LOQUAT_BENCH_SEARCH_TEXTS_H

#include "store/base/arena.h"
#include "store/base/buf.h"
#include "store/base/map.h"

struct said {
    struct span text, from;
    uint64_t ts; /* of those without a time: of the one before */
    uint32_t conv;
};
struct room {
    struct span name;
    size_t first, count; /* of all */
    bool mine;           /* of the user who looks */
};
struct texts {
    struct said *all; /* those of a room stand together */
    struct room *rooms;
    size_t count, cap, room_count, room_cap;
    uint64_t bytes;
    struct arena arena;
    struct map words; /* in how many places each stands, by its lower case */
};
void texts_open(struct texts *texts);
void texts_close(struct texts *texts);
void texts_load(struct texts *texts, const char *path);
void texts_take_largest(struct texts *texts, size_t count); /* become `mine` */

enum asked {
    ASKED_RARE,   /* a word that stands in RARE_MAX places at most */
    ASKED_COMMON, /* one that every COMMON_PARTth message has */
    ASKED_TWO,    /* two words of a message */
    ASKED_PHRASE, /* two or three that follow each other */
    ASKED_PREFIX, /* the first three to five letters of a word */
    ASKED_CHARS,  /* two to four characters of Chinese, Japanese, Korean or Thai */
    ASKED_FROM,   /* a word, and who said it */
    ASKED_COUNT
};
extern const char *const ASKED_NAMES[ASKED_COUNT];
enum { RARE_MAX = 40, COMMON_PART = 100, WORDS_MAX = 3, ASKED_WORD_MAX = 64 };

struct query_drawn {
    enum asked kind;
    uint32_t conv; /* where the message is that it was drawn from: it is there */
    size_t count;
    char words[WORDS_MAX][ASKED_WORD_MAX], from[ASKED_WORD_MAX];
};
/* From messages of rooms that are mine. */
void texts_draw(const struct texts *texts, uint64_t *seed, enum asked kind,
                struct query_drawn *query);

#endif
