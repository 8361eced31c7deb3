/* store/search/posting.h: where terms are, within one segment of a conversation.
 * Bytes:  numbers (varint) for places in rising order: the distance from the one before, doubled;
 *         or the place itself, doubled, plus 1, which begins a run. Runs are written one behind the
 *         other as they come, and need not be in order among themselves.
 * Thread: one builder, or set, one thread. */
#ifndef LOQUAT_STORE_SEARCH_POSTING_H
#define LOQUAT_STORE_SEARCH_POSTING_H

#include "store/search/term.h"

enum {
    SEGMENT_BITS = 16, /* sequences of one segment */
    SEGMENT_SIZE = 1 << SEGMENT_BITS,
};

/* Gathers terms until they are written. */
struct posting_builder;
struct posting_builder *posting_builder_new(void);
void posting_builder_free(struct posting_builder *builder);
/* The same term at the same place again is one. Places may come in any order. */
void posting_add(struct posting_builder *builder, struct span term, uint16_t place);
size_t posting_bytes(const struct posting_builder *builder); /* of memory it has in use */
/* Each term, in order, with its run; then the builder is empty. */
void posting_builder_clear(struct posting_builder *builder); /* what was added is forgotten */
void posting_take(struct posting_builder *builder,
                  void (*fn)(void *arg, struct span term, struct span run), void *arg);

/* A set of places. */
struct posting_set {
    uint16_t *places; /* rising, each once, when `bits` is NULL */
    size_t count, cap;
    uint64_t *bits; /* while runs are put together that overlap */
    struct buf row; /* for who reads rows into it */
};
void posting_set_close(struct posting_set *set);
/* Adds a row's runs. ERR_CORRUPT. */
int posting_set_add(struct posting_set *set, struct span row);
void posting_set_add_place(struct posting_set *set, uint16_t place);
/* As `places`, whatever was added. */
void posting_set_finish(struct posting_set *set);
void posting_set_clear(struct posting_set *set);
/* Leaves what is in both; both are finished. */
void posting_set_and(struct posting_set *set, const struct posting_set *other);

#endif
