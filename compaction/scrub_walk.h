/* compaction/scrub_walk.h: the inside of scrub*.c. */
#ifndef LOQUAT_COMPACTION_SCRUB_WALK_H
#define LOQUAT_COMPACTION_SCRUB_WALK_H

#include "compaction/outcome.h"
#include "store/key.h"

struct scrub {
    const struct keeper *keeper;
    struct outcome *outcome;
    struct kv_view view;
    struct arena arena; /* of the row in work */
    struct buf value;
    uint64_t at, all;
    uint32_t partition;
    uint64_t applied; /* of the partition */
};

/* The conversation in work. */
struct scrub_conv {
    struct conv_id id;
    const Loquat__ConvHeader *header;
    uint64_t floor, head, n;    /* floor ≥ 1; head and n of the last record */
    uint64_t ordinal_at_header; /* n of the record that the header calls its head */
    bool header_seen;
};

enum { SCRUB_TICK_ROWS = 1024 };
int scrub_tick(struct scrub *scrub); /* once per row; 0 or that of progress */

/* "%s …" of what is wrong with the row. */
void scrub_damage(struct scrub *scrub, enum kv_cf cf, const char *conv, uint64_t seq,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));
/* An iterator that ended: notes a damaged file. */
void scrub_ended(struct scrub *scrub, enum kv_cf cf, const char *conv, const struct kv_iter *iter);
/* A row of the view into scrub->value: 0, ERR_NOT_FOUND, or an error that was noted. */
int scrub_get(struct scrub *scrub, enum kv_cf cf, struct key key);
/* The record, in the arena; ERR_NOT_FOUND, ERR_CORRUPT. */
int scrub_record(struct scrub *scrub, struct conv_id id, uint64_t seq, Loquat__Record **record);

/* Checks one record against the one before it in its log. */
struct scrub_chain {
    uint64_t seq, n, mid;
    bool begun;
};
/* False: damaged, and noted; the chain begins anew behind it. */
bool scrub_link(struct scrub *scrub, struct scrub_chain *chain, enum kv_cf cf, const char *conv,
                uint64_t seq, struct span value);

int scrub_members(struct scrub *scrub, const struct scrub_conv *conv);
int scrub_beside(struct scrub *scrub, const struct scrub_conv *conv); /* reactions, mentions */
int scrub_folds(struct scrub *scrub, const struct scrub_conv *conv);
int scrub_dedup(struct scrub *scrub, const struct scrub_conv *conv);
int scrub_users(struct scrub *scrub);
int scrub_feed(struct scrub *scrub);

#endif
