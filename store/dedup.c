#include "store/dedup.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum { CHUNK_HEAD = 4, HASH_SIZE = 8, FILTER_GROWTH_LOG2 = 1, RADIX_BITS = 8 };

void dedup_init(struct dedup *dedup, struct kv *kv, uint32_t partition, uint32_t partitions)
{
    *dedup = (struct dedup){.kv = kv, .partition = partition};
    dedup->generation = DEDUP_GENERATION * (size_t)(partition % partitions + 1) / partitions + 1;
    dedup->next_key = key_partition(partition);
    bloom_init(&dedup->next, DEDUP_FILTER_LOG2_MIN);
}

static void entries_close(struct dedup_entries *entries)
{
    free(entries->items);
    free(entries->hashes);
}

void dedup_close(struct dedup *dedup)
{
    bloom_close(&dedup->filter);
    bloom_close(&dedup->next);
    entries_close(&dedup->filling);
    entries_close(&dedup->sealing);
    buf_close(&dedup->chunk);
    buf_close(&dedup->row);
}

/* Never 0: that stands for none in a row. */
uint64_t dedup_hash(struct span user, struct span cid, uint32_t salt)
{
    char text[1 + USER_MAX + CID_MAX];
    ASSERT(user.n <= USER_MAX && cid.n <= CID_MAX);
    text[0] = (char)user.n;
    memcpy(text + 1, user.p, user.n);
    memcpy(text + 1 + user.n, cid.p, cid.n);
    uint64_t hash = XXH3_64bits_withSeed(text, 1 + user.n + cid.n, salt);
    return hash != 0 ? hash : 1;
}

/* Both are hashes already. */
static uint64_t filter_hash(struct conv_id conv, uint64_t hash)
{
    return hash ^ conv.lo;
}

/* ---- finding ---- */

static bool find_in(const struct dedup_entries *entries, struct conv_id conv, uint64_t hash,
                    uint64_t *seq)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (entries->hashes[i] == hash && conv_id_eq(entries->items[i].conv, conv)) {
            *seq = entries->items[i].seq;
            return true;
        }
    }
    return false;
}

bool dedup_find_recent(const struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t *seq)
{
    /* What is in memory is in `next`, too: a start, which asks for each record, need not walk. */
    if (dedup->next.words != NULL && !bloom_maybe(&dedup->next, filter_hash(conv, hash)))
        return false;
    return find_in(&dedup->filling, conv, hash, seq) || find_in(&dedup->sealing, conv, hash, seq);
}

/* The next chunk of a row's value: hashes of `count` sequences from `offset` of the row on. */
static bool next_chunk(struct span *value, size_t *offset, size_t *count, const char **hashes)
{
    if (value->n < CHUNK_HEAD)
        return false;
    *offset = get_be16(value->p);
    *count = get_be16(value->p + 2);
    *hashes = value->p + CHUNK_HEAD;
    size_t size = CHUNK_HEAD + *count * HASH_SIZE;
    if (*offset + *count > DEDUP_ROW || size > value->n)
        return false;
    *value = span_of(value->p + size, value->n - size);
    return true;
}

/* 0 and the place in the row, ERR_NOT_FOUND, ERR_CORRUPT. */
static int find_in_row(struct span value, uint64_t hash, uint64_t *place)
{
    while (value.n > 0) {
        size_t offset, count;
        const char *hashes;
        if (!next_chunk(&value, &offset, &count, &hashes))
            return ERR_CORRUPT;
        for (size_t i = 0; i < count; i++) {
            if (get_le64(hashes + i * HASH_SIZE) == hash) {
                *place = offset + i;
                return 0;
            }
        }
    }
    return ERR_NOT_FOUND;
}

int dedup_row_read(struct span value, uint64_t hashes[DEDUP_ROW])
{
    memset(hashes, 0, DEDUP_ROW * sizeof *hashes);
    while (value.n > 0) {
        size_t offset, count;
        const char *from;
        if (!next_chunk(&value, &offset, &count, &from))
            return ERR_CORRUPT;
        for (size_t i = 0; i < count; i++)
            if (get_le64(from + i * HASH_SIZE) != 0)
                hashes[offset + i] = get_le64(from + i * HASH_SIZE);
    }
    return 0;
}

/* In the row where the one before was found, or the next. */
static int find_near(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t *hint,
                     uint64_t *seq)
{
    int err = ERR_NOT_FOUND;
    uint64_t place = 0;
    for (uint64_t row = *hint; err == ERR_NOT_FOUND && row <= *hint + DEDUP_ROW; row += DEDUP_ROW) {
        struct key key = key_seq(dedup->partition, conv, row);
        err = kv_get(dedup->kv, KV_DEDUP, key_span(&key), &dedup->row);
        if (err == 0)
            err = find_in_row(buf_span(&dedup->row), hash, &place);
        *seq = row + place;
    }
    if (err == 0)
        *hint = *seq - *seq % DEDUP_ROW;
    return err;
}

static int find_sealed(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t *hint,
                       uint64_t *seq)
{
    struct key from = key_seq(dedup->partition, conv, 0);
    struct key until = key_seq(dedup->partition, conv, UINT64_MAX);
    struct kv_iter iter;
    kv_iter_open(&iter, dedup->kv, NULL, KV_DEDUP, key_span(&from), key_span(&until));
    int err = ERR_NOT_FOUND;
    uint64_t place = 0;
    kv_iter_last(&iter);
    while (err == ERR_NOT_FOUND && kv_iter_valid(&iter)) {
        err = find_in_row(kv_iter_value(&iter), hash, &place);
        if (err == ERR_NOT_FOUND)
            kv_iter_prev(&iter);
    }
    if (err == 0) {
        struct span key = kv_iter_key(&iter);
        *hint = get_be64(key.p + KEY_CONV_SIZE);
        *seq = *hint + place;
    } else if (err == ERR_NOT_FOUND && kv_iter_error(&iter) != 0) {
        err = kv_iter_error(&iter);
    }
    kv_iter_close(&iter);
    return err;
}

int dedup_find(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t *hint,
               uint64_t *seq)
{
    if (dedup->filter.words != NULL && !bloom_maybe(&dedup->filter, filter_hash(conv, hash)))
        return ERR_NOT_FOUND;
    if (dedup_find_recent(dedup, conv, hash, seq))
        return 0;
    int err = find_near(dedup, conv, hash, hint, seq);
    return err == ERR_NOT_FOUND ? find_sealed(dedup, conv, hash, hint, seq) : err;
}

void dedup_prefetch(const struct dedup *dedup, struct conv_id conv, uint64_t hash)
{
    bloom_prefetch(&dedup->filter, filter_hash(conv, hash));
}

/* ---- adding ---- */

static void entries_add(struct dedup_entries *entries, struct dedup_entry entry, uint64_t hash)
{
    if (entries->count == entries->cap) {
        entries->cap = entries->cap == 0 ? 256 : entries->cap * 2;
        entries->items = xrealloc(entries->items, entries->cap * sizeof *entries->items);
        entries->hashes = xrealloc(entries->hashes, entries->cap * sizeof *entries->hashes);
    }
    entries->items[entries->count] = entry;
    entries->hashes[entries->count++] = hash;
}

void dedup_add(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t seq)
{
    entries_add(&dedup->filling, (struct dedup_entry){conv, seq}, hash);
    if (dedup->filter.words != NULL)
        bloom_add(&dedup->filter, filter_hash(conv, hash));
    if (dedup->next.words != NULL)
        bloom_add(&dedup->next, filter_hash(conv, hash));
}

size_t dedup_recent(const struct dedup *dedup)
{
    return dedup->filling.count + dedup->sealing.count;
}

static size_t filter_bytes(const struct bloom *filter)
{
    return filter->words != NULL ? (size_t)1 << filter->log2_bytes : 0;
}

size_t dedup_filter_bytes(const struct dedup *dedup)
{
    return filter_bytes(&dedup->filter) + filter_bytes(&dedup->next);
}

/* ---- to disk ---- */

bool dedup_full(const struct dedup *dedup)
{
    return dedup->filling.count >= dedup->generation && dedup->sealing.count == 0;
}

struct sorted {
    struct dedup_entry entry;
    uint64_t hash;
};

static int compare(const struct sorted *a, const struct sorted *b)
{
    const struct dedup_entry *x = &a->entry, *y = &b->entry;
    int order = conv_id_cmp(x->conv, y->conv);
    if (order != 0)
        return order;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* One pass of a radix sort, by so many bits of the conversation's hash. */
static void sort_by(struct sorted *to, const struct sorted *from, size_t count, unsigned shift)
{
    size_t place[1 << RADIX_BITS] = {0}, sum = 0;
    for (size_t i = 0; i < count; i++)
        place[from[i].entry.conv.hi >> shift & ((1 << RADIX_BITS) - 1)]++;
    for (size_t i = 0; i < 1 << RADIX_BITS; i++) {
        size_t n = place[i];
        place[i] = sum;
        sum += n;
    }
    for (size_t i = 0; i < count; i++)
        to[place[from[i].entry.conv.hi >> shift & ((1 << RADIX_BITS) - 1)]++] = from[i];
}

/* By the upper half of a hash it is nearly done: those of one conversation came in order. */
static void finish(struct sorted *sorted, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct sorted one = sorted[i];
        size_t at = i;
        for (; at > 0 && compare(&sorted[at - 1], &one) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = one;
    }
}

static void sort(struct dedup_entries *entries)
{
    size_t count = entries->count;
    struct sorted *sorted = xmalloc((2 * count + 1) * sizeof *sorted), *other = sorted + count;
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct sorted){entries->items[i], entries->hashes[i]};
    for (unsigned shift = 32; shift < 64; shift += 2 * RADIX_BITS) {
        sort_by(other, sorted, count, shift);
        sort_by(sorted, other, count, shift + RADIX_BITS);
    }
    finish(sorted, count);
    for (size_t i = 0; i < count; i++) {
        entries->items[i] = sorted[i].entry;
        entries->hashes[i] = sorted[i].hash;
    }
    free(sorted);
}

void dedup_turn(struct dedup *dedup)
{
    ASSERT(dedup->sealing.count == 0);
    struct dedup_entries emptied = dedup->sealing;
    dedup->sealing = dedup->filling;
    dedup->filling = emptied;
    dedup->generation = DEDUP_GENERATION;
    dedup->sealed = 0;
    sort(&dedup->sealing);
}

static uint64_t row_of(const struct dedup_entry *entry)
{
    return entry->seq - entry->seq % DEDUP_ROW;
}

/* Appends to its row what follows in `sealing` for it. */
static void seal_row(struct dedup *dedup, struct kv_batch *batch)
{
    const struct dedup_entries *all = &dedup->sealing;
    struct buf *chunk = &dedup->chunk;
    const struct dedup_entry *first = &all->items[dedup->sealed];
    uint64_t row = row_of(first), next = first->seq;
    chunk->n = 0;
    put_be16(buf_grow(chunk, CHUNK_HEAD), (uint16_t)(first->seq - row));
    while (dedup->sealed < all->count) {
        const struct dedup_entry *entry = &all->items[dedup->sealed];
        if (!conv_id_eq(entry->conv, first->conv) || row_of(entry) != row)
            break;
        for (; next < entry->seq; next++) /* records between them that have no cid */
            put_le64(buf_grow(chunk, HASH_SIZE), 0);
        if (next == entry->seq) { /* a damaged feed row may have told of it twice */
            put_le64(buf_grow(chunk, HASH_SIZE), all->hashes[dedup->sealed]);
            next++;
        }
        dedup->sealed++;
    }
    put_be16(chunk->p + 2, (uint16_t)((chunk->n - CHUNK_HEAD) / HASH_SIZE));
    struct key key = key_seq(dedup->partition, first->conv, row);
    kv_append(batch, KV_DEDUP, key_span(&key), buf_span(chunk));
}

bool dedup_seal(struct dedup *dedup, struct kv_batch *batch, size_t max)
{
    size_t left = dedup->sealing.count - dedup->sealed;
    size_t until = dedup->sealed + (left < max ? left : max);
    while (dedup->sealed < until)
        seal_row(dedup, batch);
    return left > 0 && dedup->sealed == dedup->sealing.count;
}

void dedup_forget(struct dedup *dedup)
{
    if (dedup->sealed == dedup->sealing.count)
        dedup->sealed = dedup->sealing.count = 0;
}

void dedup_seal_all(struct dedup *dedup, struct kv_batch *batch)
{
    (void)dedup_seal(dedup, batch, SIZE_MAX);
    dedup_forget(dedup);
    dedup_turn(dedup);
    (void)dedup_seal(dedup, batch, SIZE_MAX);
}

/* ---- the filter ---- */

static void add_recent(struct bloom *bloom, const struct dedup_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        bloom_add(bloom, filter_hash(entries->items[i].conv, entries->hashes[i]));
}

static void grow_filter(struct dedup *dedup)
{
    unsigned log2 = dedup->filter.log2_bytes + FILTER_GROWTH_LOG2;
    bloom_init(&dedup->next, log2 < DEDUP_FILTER_LOG2_MAX ? log2 : DEDUP_FILTER_LOG2_MAX);
    add_recent(&dedup->next, &dedup->filling);
    add_recent(&dedup->next, &dedup->sealing);
    dedup->next_key = key_partition(dedup->partition);
}

static int take_row(struct dedup *dedup, struct span key, struct span value)
{
    if (key.n != KEY_SEQ_SIZE)
        return ERR_CORRUPT;
    struct conv_id conv = key_conv_id(key);
    uint64_t hashes[DEDUP_ROW];
    int err = dedup_row_read(value, hashes);
    for (size_t i = 0; err == 0 && i < DEDUP_ROW; i++)
        if (hashes[i] != 0)
            bloom_add(&dedup->next, filter_hash(conv, hashes[i]));
    return err;
}

bool dedup_cold(const struct dedup *dedup)
{
    if (dedup->blind || dedup->filter.log2_bytes == DEDUP_FILTER_LOG2_MAX)
        return false;
    return dedup->filter.words == NULL || bloom_crowded(&dedup->filter);
}

int dedup_warm(struct dedup *dedup, size_t rows, bool *done)
{
    struct bloom *next = &dedup->next;
    if (next->words == NULL && !dedup->blind && bloom_full(&dedup->filter) &&
        dedup->filter.log2_bytes < DEDUP_FILTER_LOG2_MAX)
        grow_filter(dedup);
    *done = next->words == NULL;
    if (*done)
        return 0;
    struct key until =
        key_seq(dedup->partition, (struct conv_id){UINT64_MAX, UINT64_MAX}, UINT64_MAX);
    struct kv_iter iter;
    kv_iter_open_scan(&iter, dedup->kv, NULL, KV_DEDUP, key_span(&dedup->next_key),
                      key_span(&until));
    int err = 0;
    kv_iter_first(&iter);
    for (size_t n = 0; kv_iter_valid(&iter) && n < rows && err == 0; n++) {
        err = take_row(dedup, kv_iter_key(&iter), kv_iter_value(&iter));
        kv_iter_next(&iter);
    }
    if (err == 0 && kv_iter_valid(&iter)) {
        struct span key = kv_iter_key(&iter);
        if (key.n == KEY_SEQ_SIZE)
            dedup->next_key =
                key_seq(dedup->partition, key_conv_id(key), get_be64(key.p + KEY_CONV_SIZE));
        else
            err = ERR_CORRUPT;
    } else if (err == 0 && (err = kv_iter_error(&iter)) == 0) {
        bloom_close(&dedup->filter);
        dedup->filter = *next;
        *next = (struct bloom){0};
    }
    if (err != 0) {
        bloom_close(next);
        dedup->blind = true;
    }
    kv_iter_close(&iter);
    return err;
}
