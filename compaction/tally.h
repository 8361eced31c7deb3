/* compaction/tally.h: rows and bytes by cause. Bytes are those of keys and values, uncompressed;
 * what they take on disk is told by the database's files. */
#ifndef LOQUAT_COMPACTION_TALLY_H
#define LOQUAT_COMPACTION_TALLY_H

#include "compaction/policy.h"

struct tally {
    uint64_t rows, bytes;
    uint64_t gone; /* bytes that can go, or went */
};

static inline void tally_add(struct tally *tally, uint64_t bytes, uint64_t gone)
{
    tally->rows++;
    tally->bytes += bytes;
    tally->gone += gone;
}

static inline void tally_join(struct tally into[CAUSE_COUNT], const struct tally from[CAUSE_COUNT])
{
    for (int i = 0; i < CAUSE_COUNT; i++) {
        into[i].rows += from[i].rows;
        into[i].bytes += from[i].bytes;
        into[i].gone += from[i].gone;
    }
}

#endif
