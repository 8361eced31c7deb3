#include "compaction/policy.h"

#include "store/base/check.h"

static const char *const names[CAUSE_COUNT] = {"live",   "floor", "expired", "edits",
                                               "erased", "stubs", "feed"};

const char *cause_name(enum cause cause)
{
    ASSERT(cause < CAUSE_COUNT);
    return names[cause];
}

void policy_begin(struct policy_walk *walk, const struct policy *policy, uint64_t now_ms,
                  uint64_t floor, uint64_t n_head)
{
    *walk = (struct policy_walk){.floor = floor};
    if (policy->max_age_ms > 0 && policy->max_age_ms <= now_ms) {
        walk->by_age = true;
        walk->young_ts = now_ms - policy->max_age_ms + 1;
    }
    if (policy->max_count > 0 && n_head > policy->max_count) {
        walk->by_count = true;
        walk->gone_n = n_head - policy->max_count;
    }
}

enum policy_fate policy_take(struct policy_walk *walk, uint64_t seq, uint64_t ts, uint64_t n,
                             bool message)
{
    if (seq < walk->floor)
        return POLICY_GOES;
    bool old = ts < walk->young_ts;
    if (!old && message)
        walk->by_age = false;
    if (n > walk->gone_n)
        walk->by_count = false;
    if (walk->by_count || (walk->by_age && old)) {
        walk->floor = seq + 1;
        return POLICY_GOES;
    }
    return walk->by_age ? POLICY_WAITS : POLICY_STAYS;
}

void policy_stop(struct policy_walk *walk)
{
    walk->by_age = walk->by_count = false;
}

enum cause policy_cause(const struct policy_record *record, uint64_t floor, uint64_t now_ms)
{
    if (record->seq < floor)
        return CAUSE_FLOOR;
    if (record->stripped)
        return CAUSE_STUB;
    if (record->erased)
        return CAUSE_ERASED;
    if (record->expires != 0 && record->expires <= now_ms)
        return CAUSE_EXPIRED;
    if (record->edit && (record->target < floor || record->newest_edit > record->seq))
        return CAUSE_EDIT;
    return CAUSE_LIVE;
}
