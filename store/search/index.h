/* store/search/index.h: the index of a node: a database of its own, of rows that say where terms
 * are. All of it is made from the logs (build.h): it is in no snapshot and no backup, and one that
 * is lost, damaged or of another version is made anew.
 * Keys:   [p]                            how far the feed of the partition has been taken
 *         [p][conv 16][segment 4][0]     there is something in the segment that has gone
 *         [p][conv 16][segment 4][term]  where the term is (posting.h)
 *         [ff fe][p][conv 16]            how far the conversation has been: struct index_conv;
 *                                        side by side for who looks into many
 *         [ff ff][0]                     version, and whose logs these are
 * Pairs of characters stand in one row for each first one: each second one (a byte of 0: of the
 * last), then its places, rising: the distance from the one before, doubled, plus 1 if it is the
 * last (varint).
 * Thread: any reads; one writes. What a crash takes is the newest that was written, whole batches.
 * Errors: of kv. */
#ifndef LOQUAT_STORE_SEARCH_INDEX_H
#define LOQUAT_STORE_SEARCH_INDEX_H

#include "store/base/ids.h"
#include "store/kv.h"
#include "store/search/posting.h"

enum {
    INDEX_VERSION = 2,
    INDEX_SEGMENT_SIZE = 22, /* of a key, up to the term */
    INDEX_KEY_MAX = INDEX_SEGMENT_SIZE + TERM_BYTES_MAX,
};

/* Opens the index of the logs named `id`; what is there of others, or damaged, is removed first,
 * and *fresh says that there is nothing in it. */
int index_open(const char *dir, const char *id, struct kv **index, bool *fresh);

/* The next index_open makes it anew. */
int index_condemn(struct kv *index);

struct index_key {
    char p[INDEX_KEY_MAX];
    size_t n;
};
struct index_key index_row_key(uint32_t partition, struct conv_id conv);
struct index_key index_key(uint32_t partition, struct conv_id conv, uint32_t segment,
                           struct span term);
static inline struct span index_key_span(const struct index_key *key)
{
    return (struct span){key->p, key->n};
}

/* 0 where nothing is yet. */
int index_fed(struct kv *index, uint32_t partition, uint64_t *offset);
/* On disk: the numbers, then INDEX_CONV_ bits, as varints; the language. */
struct index_conv {
    uint64_t through; /* sequence up to which it has been taken */
    uint64_t floor;   /* that of the conversation when it was last looked at */
    uint64_t mid;     /* no message that is here has a higher one */
    bool off;         /* nothing of it is here */
    bool changing;    /* off, or the language, are becoming what they are: terms are missing */
    char lang[LANG_MAX + 1];
};
int index_conv(struct kv *index, uint32_t partition, struct conv_id conv, struct index_conv *row);
int index_convs(struct kv *index, uint32_t partition, const struct conv_id *convs, size_t count,
                struct index_conv *rows);
/* The first conversation from *conv on that has a row; ERR_NOT_FOUND: there is none. */
int index_next_conv(struct kv *index, uint32_t partition, struct conv_id *conv);
void index_put_fed(struct kv_batch *batch, uint32_t partition, uint64_t offset);
void index_put_conv(struct kv_batch *batch, uint32_t partition, struct conv_id conv,
                    const struct index_conv *row);
/* What has gone is so from the disk, too. Returns once it is. */
void index_compact(struct kv *index, uint32_t partition);
/* All of a segment goes; UINT32_MAX: of the conversation. */
void index_drop(struct kv_batch *batch, uint32_t partition, struct conv_id conv, uint32_t segment);

/* Adds the runs of a segment's terms, which come in order. */
struct index_writer {
    struct kv_batch *batch;
    uint32_t partition, segment;
    struct conv_id conv;
    char first[4]; /* of the pairs that are being gathered */
    size_t first_n;
    struct buf pairs;
};
void index_put(struct index_writer *writer, struct span term, struct span run);
void index_put_end(struct index_writer *writer); /* of the segment */

/* Adds the places of a term to `set`; of all terms that begin with it; of all of [from, until]. */
int index_find(struct kv *index, uint32_t partition, struct conv_id conv, uint32_t segment,
               struct span term, struct posting_set *set);
int index_find_prefix(struct kv *index, uint32_t partition, struct conv_id conv, uint32_t segment,
                      struct span prefix, struct posting_set *set);
int index_find_range(struct kv *index, uint32_t partition, struct conv_id conv, uint32_t segment,
                     struct span from, struct span until, struct posting_set *set);

#endif
