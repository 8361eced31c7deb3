#include "store/dedup.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/key.h"

void dedup_init(struct dedup *dedup, struct kv *kv, uint32_t partition)
{
    *dedup = (struct dedup){.kv = kv, .partition = partition};
    map_init(&dedup->recent);
}

void dedup_close(struct dedup *dedup)
{
    map_close(&dedup->recent);
    free(dedup->entries);
}

uint64_t dedup_hash(struct span user, struct span cid, uint32_t salt)
{
    char text[1 + USER_MAX + CID_MAX];
    ASSERT(user.n <= USER_MAX && cid.n <= CID_MAX);
    text[0] = (char)user.n;
    memcpy(text + 1, user.p, user.n);
    memcpy(text + 1 + user.n, cid.p, cid.n);
    return XXH3_64bits_withSeed(text, 1 + user.n + cid.n, salt);
}

static struct map_key recent_key(struct conv_id conv, uint64_t hash)
{
    return (struct map_key){conv.hi ^ (conv.lo << 1 | conv.lo >> 63), hash};
}

int dedup_find(struct dedup *dedup, struct conv_id conv, uint64_t hash, bool sealed, uint64_t *seq)
{
    union map_val *val = map_get(&dedup->recent, recent_key(conv, hash));
    if (val != NULL) {
        *seq = val->u;
        return 0;
    }
    if (!sealed)
        return ERR_NOT_FOUND;
    struct key key = key_seq(dedup->partition, conv, hash);
    struct buf value = {0};
    int err = kv_get(dedup->kv, KV_DEDUP, key_span(&key), &value);
    if (err == 0 && get_varint(value.p, value.n, seq) == 0)
        err = ERR_CORRUPT;
    buf_close(&value);
    return err;
}

void dedup_add(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t seq)
{
    bool fresh;
    map_put(&dedup->recent, recent_key(conv, hash), &fresh)->u = seq;
    if (dedup->count == dedup->cap) {
        dedup->cap = dedup->cap == 0 ? 256 : dedup->cap * 2;
        dedup->entries = xrealloc(dedup->entries, dedup->cap * sizeof *dedup->entries);
    }
    dedup->entries[dedup->count++] = (struct dedup_entry){conv, hash, seq};
}

bool dedup_full(const struct dedup *dedup)
{
    return dedup->count >= DEDUP_RECENT_MAX;
}

static int compare(const void *a, const void *b)
{
    const struct dedup_entry *x = a, *y = b;
    if (x->conv.hi != y->conv.hi)
        return x->conv.hi < y->conv.hi ? -1 : 1;
    if (x->conv.lo != y->conv.lo)
        return x->conv.lo < y->conv.lo ? -1 : 1;
    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

void dedup_seal(struct dedup *dedup, struct kv_batch *batch)
{
    if (dedup->count > 1)
        qsort(dedup->entries, dedup->count, sizeof *dedup->entries, compare);
    for (size_t i = 0; i < dedup->count; i++) {
        const struct dedup_entry *entry = &dedup->entries[i];
        struct key key = key_seq(dedup->partition, entry->conv, entry->hash);
        char value[VARINT_MAX];
        size_t n = put_varint(value, entry->seq);
        kv_put(batch, KV_DEDUP, key_span(&key), span_of(value, n));
    }
}

void dedup_forget(struct dedup *dedup)
{
    map_clear(&dedup->recent);
    dedup->count = 0;
}
