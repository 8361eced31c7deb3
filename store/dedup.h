/* store/dedup.h: which (conversation, user, cid) have been written, for as long as the conversation
 * lives. Three places hold them, newest first: `filling` in memory, in the order they came in;
 * `sealing`, a full generation, of which some goes into each batch, so that none has to wait for
 * all of it; rows of KV_DEDUP. After a restart the first two are rebuilt from the log's tail. A
 * filter in front says for nearly all new cids that none of them has to be looked at. It is made
 * again after a start, and when it has become too small, by dedup_warm.
 * Rows:   one for DEDUP_ROW sequences of a conversation: what was sealed of them, appended (see
 *         docs/DATA.md). A cid that may be there is looked for in all of the conversation's rows,
 *         the newest first; but first where the one before was found, as who sends again what was
 *         sent sends it in the same order.
 * Hash:   64 bits of XXH3 over user and cid. Whoever finds a sequence compares the record itself,
 *         so a collision costs a second look (another salt), never a lost message.
 * Memory: of the filter 2 to 8 bytes for a message, at most 2^DEDUP_FILTER_LOG2_MAX a partition;
 *         with more messages than that has room for, rows are looked at more and more often.
 * Thread: the apply thread. */
#ifndef LOQUAT_STORE_DEDUP_H
#define LOQUAT_STORE_DEDUP_H

#include "store/base/ids.h"
#include "store/bloom.h"
#include "store/key.h"
#include "store/kv.h"

enum {
    DEDUP_GENERATION = 4096,
    DEDUP_ROW = 512,
    DEDUP_SALTS = 4,
    DEDUP_FILTER_LOG2_MIN = 16,
    DEDUP_FILTER_LOG2_MAX = 26,
};

struct dedup_entry {
    struct conv_id conv;
    uint64_t seq;
};
struct dedup_entries {
    struct dedup_entry *items;
    uint64_t *hashes;
    size_t count, cap;
};
struct dedup {
    struct kv *kv;
    uint32_t partition;
    struct dedup_entries filling, sealing;
    size_t generation; /* so many in `filling` are a generation; the first one differs, so that the
                          partitions of a node do not seal at the same time */
    size_t sealed;     /* of `sealing` which are in a batch */
    struct buf chunk, row;
    struct bloom filter; /* none: after a start */
    struct bloom next;   /* being filled, to become the filter; or none */
    struct key next_key; /* rows from here on are not in `next` yet */
    bool blind;          /* rows can't be read: there will be no other filter */
};

void dedup_init(struct dedup *dedup, struct kv *kv, uint32_t partition, uint32_t partitions);
void dedup_close(struct dedup *dedup);
uint64_t dedup_hash(struct span user, struct span cid, uint32_t salt);
void dedup_prefetch(const struct dedup *dedup, struct conv_id conv, uint64_t hash);
/* 0 and *seq, ERR_NOT_FOUND, or a kv error. *hint: a row of the conversation, 0 at first. */
int dedup_find(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t *hint,
               uint64_t *seq);
/* The same in memory only. */
bool dedup_find_recent(const struct dedup *dedup, struct conv_id conv, uint64_t hash,
                       uint64_t *seq);
void dedup_add(struct dedup *dedup, struct conv_id conv, uint64_t hash, uint64_t seq);
size_t dedup_recent(const struct dedup *dedup); /* in memory */
size_t dedup_filter_bytes(const struct dedup *dedup);

/* `filling` is full, and the one before it is on disk: dedup_turn makes it the one to be sealed. */
bool dedup_full(const struct dedup *dedup);
void dedup_turn(struct dedup *dedup);
/* Puts the next ones of `sealing`, about `max`, into the batch. True: that were the last ones
 * (false as well when there were none); when the batch has been written, dedup_forget. */
bool dedup_seal(struct dedup *dedup, struct kv_batch *batch, size_t max);
void dedup_forget(struct dedup *dedup);
/* Both generations at once. */
void dedup_seal_all(struct dedup *dedup, struct kv_batch *batch);

/* New cids are looked for in rows, because there is no filter yet, or one that says too often that
 * they may be there; and dedup_warm changes that. */
bool dedup_cold(const struct dedup *dedup);
/* Takes at most `rows` rows into the next filter. *done: there is nothing to do at present. Or a kv
 * error, once: then rows go on being asked. */
int dedup_warm(struct dedup *dedup, size_t rows, bool *done);

/* What a row holds, in no order. Fills `hashes` by seq % DEDUP_ROW, 0: none; ERR_CORRUPT. */
int dedup_row_read(struct span value, uint64_t hashes[DEDUP_ROW]);

#endif
