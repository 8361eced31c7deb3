/* compaction/policy.h: what may go, and why. Pure: answers depend on the arguments alone.
 * A floor rises over a prefix of a conversation only: up to the first message that is young enough,
 * or the first of the newest `max_count`. Records that are no messages go with the messages around
 * them: those of an import are younger than what they stand before. */
#ifndef LOQUAT_COMPACTION_POLICY_H
#define LOQUAT_COMPACTION_POLICY_H

#include <stdbool.h>
#include <stdint.h>

enum cause {
    CAUSE_LIVE,
    CAUSE_FLOOR,   /* below the floor: goes whole */
    CAUSE_EXPIRED, /* its time has passed: the content goes */
    CAUSE_EDIT,    /* an edit that a later one replaced, or whose target went: the content goes */
    CAUSE_ERASED,  /* deleted for all: what is left keeps the sequence */
    CAUSE_STUB,    /* left of what went before: keeps sequence, ordinal and cid */
    CAUSE_FEED,    /* an entry of a feed: all its records are below the floor */
    CAUSE_COUNT
};
const char *cause_name(enum cause cause);

struct policy {
    uint64_t max_age_ms; /* 0: no bound */
    uint64_t max_count;  /* newest messages to keep per conversation; 0: no bound */
};

/* One conversation's records, walked upwards from the old floor. */
struct policy_walk {
    uint64_t floor;    /* as far as it has risen */
    uint64_t young_ts; /* records of this time and later stay */
    uint64_t gone_n;   /* ordinals up to this one go */
    bool by_age, by_count;
};
/* `n_head`: ordinal of the newest record. */
void policy_begin(struct policy_walk *walk, const struct policy *policy, uint64_t now_ms,
                  uint64_t floor, uint64_t n_head);
enum policy_fate {
    POLICY_STAYS,
    POLICY_GOES,  /* with all before it */
    POLICY_WAITS, /* goes when a later one does */
};
/* `seq` rises from call to call; `n` is its ordinal. */
enum policy_fate policy_take(struct policy_walk *walk, uint64_t seq, uint64_t ts, uint64_t n,
                             bool message);
/* A record that can't be judged: the floor stays below it. */
void policy_stop(struct policy_walk *walk);

struct policy_record {
    uint64_t seq, expires, target;
    uint64_t newest_edit; /* of an edit's target; 0: not known any more */
    bool erased, stripped, edit;
};
enum cause policy_cause(const struct policy_record *record, uint64_t floor, uint64_t now_ms);

#endif
