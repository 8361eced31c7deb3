#include "store/search/posting.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/arena.h"
#include "store/base/check.h"
#include "store/base/err.h"

/* ---- putting runs together ---- */

struct entry {
    uint64_t hash;
    const char *term;
    uint32_t n, count;
    uint32_t last; /* place it was added at last, + 1 */
    uint32_t at;   /* of its places, when they are sorted */
};
struct posting {
    uint32_t entry;
    uint16_t place;
};
struct posting_builder {
    struct arena terms;
    size_t term_bytes;
    struct entry *entries;
    size_t entry_count, entry_cap;
    uint32_t *slots; /* entry + 1; as many as a power of two */
    size_t slot_count;
    struct posting *postings; /* as they came */
    size_t count, cap;
};

enum { SLOTS_FIRST = 1024 };

struct posting_builder *posting_builder_new(void)
{
    struct posting_builder *builder = xcalloc(1, sizeof *builder);
    arena_init(&builder->terms);
    builder->slot_count = SLOTS_FIRST;
    builder->slots = xcalloc(builder->slot_count, sizeof *builder->slots);
    return builder;
}

void posting_builder_free(struct posting_builder *builder)
{
    if (builder == NULL)
        return;
    arena_close(&builder->terms);
    free(builder->entries);
    free(builder->slots);
    free(builder->postings);
    free(builder);
}

static void grow_slots(struct posting_builder *builder)
{
    free(builder->slots);
    builder->slot_count *= 2;
    builder->slots = xcalloc(builder->slot_count, sizeof *builder->slots);
    for (size_t i = 0; i < builder->entry_count; i++) {
        size_t slot = builder->entries[i].hash & (builder->slot_count - 1);
        while (builder->slots[slot] != 0)
            slot = (slot + 1) & (builder->slot_count - 1);
        builder->slots[slot] = (uint32_t)i + 1;
    }
}

static struct entry *entry_of(struct posting_builder *builder, struct span term)
{
    if (builder->entry_count * 2 >= builder->slot_count)
        grow_slots(builder);
    uint64_t hash = XXH3_64bits(term.p, term.n);
    size_t slot = hash & (builder->slot_count - 1);
    for (; builder->slots[slot] != 0; slot = (slot + 1) & (builder->slot_count - 1)) {
        struct entry *entry = &builder->entries[builder->slots[slot] - 1];
        if (entry->hash == hash && entry->n == term.n && memcmp(entry->term, term.p, term.n) == 0)
            return entry;
    }
    if (builder->entry_count == builder->entry_cap) {
        builder->entry_cap = builder->entry_cap == 0 ? 256 : builder->entry_cap * 2;
        builder->entries =
            xrealloc(builder->entries, builder->entry_cap * sizeof *builder->entries);
    }
    struct entry *entry = &builder->entries[builder->entry_count++];
    *entry = (struct entry){
        .hash = hash, .term = arena_copy(&builder->terms, term.p, term.n), .n = (uint32_t)term.n};
    builder->term_bytes += term.n + 17;
    builder->slots[slot] = (uint32_t)builder->entry_count;
    return entry;
}

void posting_add(struct posting_builder *builder, struct span term, uint16_t place)
{
    struct entry *entry = entry_of(builder, term);
    if (entry->last == place + 1u)
        return;
    entry->last = place + 1u;
    entry->count++;
    if (builder->count == builder->cap) {
        builder->cap = builder->cap == 0 ? 1024 : builder->cap * 2;
        builder->postings = xrealloc(builder->postings, builder->cap * sizeof *builder->postings);
    }
    builder->postings[builder->count++] =
        (struct posting){(uint32_t)(entry - builder->entries), place};
}

size_t posting_bytes(const struct posting_builder *builder)
{
    return builder->term_bytes + builder->entry_count * sizeof *builder->entries +
           builder->slot_count * sizeof *builder->slots +
           builder->count * (sizeof *builder->postings + sizeof(uint16_t));
}

static int by_term(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    return span_cmp(span_of(x->term, x->n), span_of(y->term, y->n));
}

static int by_place(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void put_run(struct buf *run, uint16_t *places, size_t count)
{
    bool rising = true;
    for (size_t i = 1; i < count && rising; i++)
        rising = places[i] > places[i - 1];
    if (!rising)
        qsort(places, count, sizeof *places, by_place);
    run->n = 0;
    buf_add_varint(run, (uint64_t)places[0] << 1 | 1);
    for (size_t i = 1; i < count; i++)
        if (places[i] != places[i - 1])
            buf_add_varint(run, (uint64_t)(places[i] - places[i - 1]) << 1);
}

void posting_builder_clear(struct posting_builder *builder)
{
    arena_reset(&builder->terms);
    if (builder->slot_count > SLOTS_FIRST && builder->entry_count * 16 < builder->slot_count) {
        builder->slot_count = SLOTS_FIRST; /* clearing many for few would be most of the work */
        builder->slots = xrealloc(builder->slots, SLOTS_FIRST * sizeof *builder->slots);
    }
    memset(builder->slots, 0, builder->slot_count * sizeof *builder->slots);
    builder->entry_count = builder->count = builder->term_bytes = 0;
}

void posting_take(struct posting_builder *builder,
                  void (*fn)(void *arg, struct span term, struct span run), void *arg)
{
    size_t n = builder->entry_count;
    uint16_t *places = xmalloc((builder->count + 1) * sizeof *places);
    struct entry **order = xmalloc((n + 1) * sizeof(void *));
    struct buf run = {0};
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        builder->entries[i].at = at;
        at += builder->entries[i].count;
        order[i] = &builder->entries[i];
    }
    for (size_t i = 0; i < builder->count; i++)
        places[builder->entries[builder->postings[i].entry].at++] = builder->postings[i].place;
    if (n > 0)
        qsort(order, n, sizeof(void *), by_term);
    for (size_t i = 0; i < n; i++) {
        put_run(&run, places + order[i]->at - order[i]->count, order[i]->count);
        fn(arg, span_of(order[i]->term, order[i]->n), buf_span(&run));
    }
    buf_close(&run);
    free(order);
    free(places);
    posting_builder_clear(builder);
}

/* ---- sets ---- */

enum { BITS_WORDS = SEGMENT_SIZE / 64 };

void posting_set_close(struct posting_set *set)
{
    free(set->places);
    free(set->bits);
    buf_close(&set->row);
    *set = (struct posting_set){0};
}

void posting_set_clear(struct posting_set *set)
{
    set->count = 0;
    free(set->bits);
    set->bits = NULL;
}

static void push(struct posting_set *set, uint16_t place)
{
    if (set->count == set->cap) {
        set->cap = set->cap == 0 ? 64 : set->cap * 2;
        set->places = xrealloc(set->places, set->cap * sizeof *set->places);
    }
    set->places[set->count++] = place;
}

void posting_set_add_place(struct posting_set *set, uint16_t place)
{
    if (set->bits == NULL && (set->count == 0 || set->places[set->count - 1] < place)) {
        push(set, place);
        return;
    }
    if (set->bits == NULL) {
        set->bits = xcalloc(BITS_WORDS, sizeof *set->bits);
        for (size_t i = 0; i < set->count; i++)
            set->bits[set->places[i] / 64] |= 1ull << set->places[i] % 64;
    }
    set->bits[place / 64] |= 1ull << place % 64;
}

int posting_set_add(struct posting_set *set, struct span row)
{
    uint64_t place = 0;
    while (row.n > 0) {
        uint64_t number;
        size_t size = get_varint(row.p, row.n, &number);
        if (size == 0)
            return ERR_CORRUPT;
        place = number & 1 ? number >> 1 : place + (number >> 1);
        if (place >= SEGMENT_SIZE)
            return ERR_CORRUPT;
        posting_set_add_place(set, (uint16_t)place);
        row = span_of(row.p + size, row.n - size);
    }
    return 0;
}

void posting_set_finish(struct posting_set *set)
{
    if (set->bits == NULL)
        return;
    set->count = 0;
    for (uint32_t i = 0; i < BITS_WORDS; i++)
        for (uint64_t word = set->bits[i]; word != 0; word &= word - 1)
            push(set, (uint16_t)(i * 64 + (uint32_t)__builtin_ctzll(word)));
    free(set->bits);
    set->bits = NULL;
}

void posting_set_and(struct posting_set *set, const struct posting_set *other)
{
    size_t n = 0, j = 0;
    for (size_t i = 0; i < set->count; i++) {
        while (j < other->count && other->places[j] < set->places[i])
            j++;
        if (j < other->count && other->places[j] == set->places[i])
            set->places[n++] = set->places[i];
    }
    set->count = n;
}
