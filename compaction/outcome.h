/* compaction/outcome.h: what a job has found so far, and how it becomes a Report. */
#ifndef LOQUAT_COMPACTION_OUTCOME_H
#define LOQUAT_COMPACTION_OUTCOME_H

#include "compaction/keeper.h"
#include "compaction/survey.h"
#include "store/base/arena.h"

enum { OUTCOME_DAMAGES_MAX = 100 }; /* listed; all are counted */

struct outcome {
    struct arena arena;
    Loquat__Report report;
    struct tally tallies[CAUSE_COUNT];
    Loquat__ConvReport *top[KEEPER_TOP_MAX]; /* the largest first */
    size_t top_max;
    Loquat__Damage *damages[OUTCOME_DAMAGES_MAX];
    char *notes[KEEPER_NOTES_MAX];
};

void outcome_init(struct outcome *outcome, uint32_t top);
void outcome_close(struct outcome *outcome);
void outcome_conv(struct outcome *outcome, const struct survey_conv *conv, bool by_gone);
void outcome_families(struct outcome *outcome, struct kv *kv);
void outcome_damage(struct outcome *outcome, enum kv_cf cf, uint32_t partition, const char *conv,
                    uint64_t seq, const char *what);
void outcome_note(struct outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Sets `done`, err and msg, and packs. */
void outcome_pack(struct outcome *outcome, int err, const char *msg, struct buf *out);

uint64_t outcome_disk_bytes(struct kv *kv); /* of the files of all families */

#endif
