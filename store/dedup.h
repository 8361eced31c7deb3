/* store/dedup.h: which (conversation, user, cid) have been written, for as long as the conversation
 * lives. The newest stand in an exact map in memory (rebuilt from the log's tail after a restart);
 * when DEDUP_RECENT_MAX are held they are sealed: written to KV_DEDUP in key order, where bloom
 * filters answer for the many cids that are new.
 * Key of a row: 64 bits of XXH3 over user and cid. Whoever finds a sequence compares the record
 * itself, so a collision costs a second look (another salt), never a lost message. */
#ifndef LOQUAT_STORE_DEDUP_H
#define LOQUAT_STORE_DEDUP_H

#include "store/base/ids.h"
#include "store/base/map.h"
#include "store/kv.h"

enum { DEDUP_RECENT_MAX = 4096, DEDUP_SALTS = 4 };

struct dedup_entry {
    struct conv_id conv;
    uint64_t hash, seq;
};
struct dedup {
    struct kv *kv;
    uint32_t partition;
    struct map recent; /* (conv, hash) → seq */
    struct dedup_entry *entries;
    size_t count, cap;
};

void dedup_init(struct dedup *dedup, struct kv *kv, uint32_t partition);
void dedup_close(struct dedup *dedup);
uint64_t dedup_hash(struct span user, struct span cid, uint32_t salt);
/* 0 and *seq, ERR_NOT_FOUND, or a kv error. `sealed`: rows on disk may matter too. */
int dedup_find(struct dedup *dedup, struct conv_id conv, uint64_t hash, bool sealed, uint64_t *seq);
void dedup_add(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t seq);
bool dedup_full(const struct dedup *dedup);
/* Rows into the batch; after it was written, dedup_forget. */
void dedup_seal(struct dedup *dedup, struct kv_batch *batch);
void dedup_forget(struct dedup *dedup);

#endif
