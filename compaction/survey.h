/* compaction/survey.h: walks the conversations of a partition and says of every row of their logs
 * and folds why it is there, and what of it can go.
 * Thread: any; one view of the database per call.
 * Owner:  what callbacks are given dies with them. */
#ifndef LOQUAT_COMPACTION_SURVEY_H
#define LOQUAT_COMPACTION_SURVEY_H

#include "compaction/tally.h"
#include "compaction/trim.h"
#include "store/kv.h"

enum { SURVEY_TICK_ROWS = 2048 };

struct survey_conv {
    const char *name;
    struct conv_id id;
    uint32_t partition;
    uint64_t head, n, floor, new_floor;
    bool rows_below;  /* rows beside the log lie below the new floor */
    uint64_t damaged; /* records that could not be read: they stay, and what follows them too */
    struct tally tallies[CAUSE_COUNT];
};

struct survey {
    struct kv *kv;
    uint32_t partition;
    const struct conv_id *only; /* one conversation; NULL: all */
    struct policy policy;
    uint64_t now_ms;
    /* Each returns 0 or an error that ends the survey with it. on_item may be NULL. */
    int (*on_conv)(void *arg, const struct survey_conv *conv); /* its rows were seen */
    int (*on_item)(void *arg, const struct trim_item *item);   /* TRIM_EDIT, TRIM_FOLD */
    int (*on_rows)(void *arg, uint64_t rows); /* so many more; each SURVEY_TICK_ROWS */
    void *arg;
};

/* 0, ERR_CORRUPT (kv_error says which file), a kv error, or that of a callback. */
int survey_run(const struct survey *survey);

#endif
