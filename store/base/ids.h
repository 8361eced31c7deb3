/* store/base/ids.h: names of things and where they live.
 * conv_id: XXH3-128 of a conversation's id (or of "u\0" + user for a user's log).
 * Direct conversations: "d-" + 26 base32 digits of SHA-256 over both users, in order, each with its
 * length: whoever asks first, the id is the same, and nobody can make another pair's.
 * Groups: "g-" + the same over opener and cid: opening again with the same cid finds it. */
#ifndef LOQUAT_BASE_IDS_H
#define LOQUAT_BASE_IDS_H

#include "store/base/span.h"

enum {
    CONV_ID_MAX = 64, /* bytes of a conversation's id */
    CID_MAX = 64,
    EMOJI_MAX = 32,   /* bytes of one reaction */
    DRAFT_MAX = 4096, /* bytes of a draft */
    USER_MAX = 64,
    DEVICE_MAX = 64,
    LANG_MAX = 3, /* of a language's code */
    PARTITIONS_MAX = 1024,
    PARTITIONS_DEFAULT = 16,
};

struct conv_id {
    uint64_t hi, lo;
};

struct conv_id conv_id_of(struct span conv);
struct conv_id user_log_id(struct span user);
static inline int conv_id_cmp(struct conv_id a, struct conv_id b)
{
    if (a.hi != b.hi)
        return a.hi < b.hi ? -1 : 1;
    return a.lo < b.lo ? -1 : a.lo > b.lo;
}
static inline bool conv_id_eq(struct conv_id a, struct conv_id b)
{
    return a.hi == b.hi && a.lo == b.lo;
}
uint32_t partition_of(struct conv_id id, uint32_t partitions);

enum { MADE_ID_SIZE = 28 };
void direct_id(struct span user, struct span with, char out[MADE_ID_SIZE + 1]);
void group_id(struct span user, struct span cid, char out[MADE_ID_SIZE + 1]);
bool user_valid(struct span user); /* 1–64 of A-Z a-z 0-9 . _ @ -; so are names of consumers */
bool lang_valid(struct span lang); /* empty, or 2–3 of a-z: a code of ISO 639 */
bool conv_name_valid(struct span conv); /* 1–64 bytes of printable ASCII without space, '/', '"' */

/* mid: 41 bits of ms since 2020-01-01, 10 bits partition, 12 bits counter. */
#define MID_EPOCH_MS 1577836800000ull
static inline uint64_t mid_make(uint64_t ms, uint32_t partition, uint32_t counter)
{
    return ((ms - MID_EPOCH_MS) << 22) | ((uint64_t)partition << 12) | counter;
}
static inline uint64_t mid_ms(uint64_t mid)
{
    return (mid >> 22) + MID_EPOCH_MS;
}

#endif
