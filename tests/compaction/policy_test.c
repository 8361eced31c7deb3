#include "compaction/policy.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <time.h>

enum { DAY = 86400000 };

struct row {
    uint64_t ts;
    bool message;
};

/* The floor after a walk over rows with sequences 1, 2, 3 … */
static uint64_t floor_after(struct policy policy, uint64_t now_ms, uint64_t floor,
                            const struct row *rows, size_t count)
{
    struct policy_walk walk;
    uint64_t n = 0, n_head = 0;
    bool stays = false;
    for (size_t i = 0; i < count; i++)
        n_head += rows[i].message;
    policy_begin(&walk, &policy, now_ms, floor, n_head);
    for (size_t i = 0; i < count; i++) {
        n += rows[i].message;
        enum policy_fate fate = policy_take(&walk, i + 1, rows[i].ts, n, rows[i].message);
        cr_assert(eq(int, fate == POLICY_GOES, i + 1 < walk.floor));
        if (fate == POLICY_STAYS) /* then so does all that follows */
            stays = true;
        cr_assert(eq(int, stays, fate == POLICY_STAYS));
    }
    return walk.floor;
}

static const struct row five[] = {
    {1 * DAY, false}, {1 * DAY, true}, {2 * DAY, true}, {3 * DAY, false}, {4 * DAY, true}};

/* Each bound by itself, both, and none. */
Test(policy, floors_by_age_and_count)
{
    static const struct {
        struct policy policy;
        uint64_t now_ms, floor, expected;
    } cases[] = {
        {{0, 0}, 100ull * DAY, 0, 0},          /* no bound: kept for ever */
        {{0, 0}, 100ull * DAY, 3, 3},          /* and a floor stays */
        {{2 * DAY, 0}, 4ull * DAY, 0, 4},      /* exactly 2 days old is too old */
        {{2 * DAY, 0}, 4ull * DAY - 1, 0, 3},  /* a millisecond less is not */
        {{1 * DAY, 0}, 100ull * DAY, 0, 6},    /* all: the floor is behind the head */
        {{100ull * DAY, 0}, 4ull * DAY, 0, 0}, /* older than time itself */
        {{0, 1}, 4ull * DAY, 0, 5},            /* the newest message alone */
        {{0, 2}, 4ull * DAY, 0, 3},            /* from the first message that is kept */
        {{0, 3}, 4ull * DAY, 0, 0},            /* all fit: nothing goes, not even the meta */
        {{0, 1000}, 4ull * DAY, 0, 0},
        {{2 * DAY, 1}, 4ull * DAY, 0, 5}, /* the stricter of both */
        {{3 * DAY, 2}, 4ull * DAY, 0, 3},
        {{3 * DAY, 0}, 4ull * DAY, 4, 4}, /* a floor never falls */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert(eq(u64, floor_after(cases[i].policy, cases[i].now_ms, cases[i].floor, five, 5),
                     cases[i].expected),
                  "case %zu", i);
}

/* An old record behind a young one stays: floors cut prefixes, and times of imports are any. */
Test(policy, age_stops_at_the_first_young_record)
{
    static const struct row rows[] = {{1, true}, {9 * DAY, true}, {1, true}, {1, true}};
    cr_assert(eq(u64, floor_after((struct policy){DAY, 0}, 10ull * DAY - 1, 0, rows, 4), 2));
}

/* What an import puts before old messages is young, and no reason to keep them. */
Test(policy, age_is_that_of_messages)
{
    static const struct row rows[] = {{9 * DAY, false}, {1, true},        {9 * DAY, false},
                                      {2, true},        {9 * DAY, false}, {9 * DAY, true}};
    cr_assert(eq(u64, floor_after((struct policy){DAY, 0}, 9ull * DAY, 0, rows, 6), 5));
    cr_assert(eq(u64, floor_after((struct policy){DAY, 0}, 9ull * DAY, 0, rows, 1), 0));
}

/* Behind a record that can't be judged nothing goes. */
Test(policy, stop_keeps_what_follows)
{
    struct policy_walk walk;
    policy_begin(&walk, &(struct policy){DAY, 1}, 100ull * DAY, 1, 50);
    cr_assert(eq(int, policy_take(&walk, 1, 1, 1, true), POLICY_GOES));
    policy_stop(&walk);
    cr_assert(eq(int, policy_take(&walk, 3, 1, 3, true), POLICY_STAYS));
    cr_assert(eq(u64, walk.floor, 2));
}

static enum cause cause_of(struct policy_record record, uint64_t floor)
{
    return policy_cause(&record, floor, 1000);
}

/* Why a record is there; the first reason in the order of the enum's comment wins. */
Test(policy, causes)
{
    cr_assert(eq(int, cause_of((struct policy_record){.seq = 5}, 5), CAUSE_LIVE));
    cr_assert(eq(int, cause_of((struct policy_record){.seq = 4}, 5), CAUSE_FLOOR));
    cr_assert(
        eq(int, cause_of((struct policy_record){.seq = 5, .expires = 1000}, 5), CAUSE_EXPIRED));
    cr_assert(eq(int, cause_of((struct policy_record){.seq = 5, .expires = 1001}, 5), CAUSE_LIVE));
    cr_assert(eq(int, cause_of((struct policy_record){.seq = 5, .expires = 1, .erased = true}, 5),
                 CAUSE_ERASED));
    cr_assert(eq(int, cause_of((struct policy_record){.seq = 5, .expires = 1, .stripped = true}, 5),
                 CAUSE_STUB));
    struct policy_record edit = {.seq = 9, .edit = true, .target = 7, .newest_edit = 9};
    cr_assert(eq(int, cause_of(edit, 5), CAUSE_LIVE)); /* the newest edit is wanted */
    cr_assert(eq(int, cause_of(edit, 8), CAUSE_EDIT)); /* not when its message went */
    edit.newest_edit = 10;
    cr_assert(eq(int, cause_of(edit, 5), CAUSE_EDIT));
    edit.newest_edit = 0; /* a fold that is not there proves nothing */
    cr_assert(eq(int, cause_of(edit, 5), CAUSE_LIVE));
}

/* What the walk should give, said otherwise: behind the last old record before the first young
 * message, or before the last max_count messages; never below the old floor. */
static uint64_t model(struct policy policy, uint64_t now_ms, uint64_t floor, const struct row *rows,
                      size_t count)
{
    uint64_t best = floor;
    for (size_t i = floor > 0 ? (size_t)floor - 1 : 0;
         policy.max_age_ms > 0 && policy.max_age_ms <= now_ms && i < count; i++) {
        bool old = rows[i].ts + policy.max_age_ms <= now_ms;
        if (!old && rows[i].message)
            break;
        if (old && i + 2 > best)
            best = i + 2;
    }
    size_t left = 0, at = count;
    while (policy.max_count > 0 && at > 0 && left < policy.max_count)
        left += rows[--at].message;
    for (size_t i = 0; policy.max_count > 0 && left == policy.max_count && i < at; i++)
        if (rows[i].message && at + 1 > best)
            best = at + 1; /* something is too much: all before the kept ones goes */
    return best;
}

/* Random conversations and bounds against the model. */
Test(policy, agrees_with_the_model)
{
    unsigned seed = (unsigned)time(NULL);
    const char *given = getenv("LOQUAT_SEED");
    if (given != NULL)
        seed = (unsigned)strtoul(given, NULL, 10);
    srand(seed);
    for (int round = 0; round < 20000; round++) {
        struct row rows[24];
        size_t count = (size_t)rand() % 24;
        for (size_t i = 0; i < count; i++)
            rows[i] = (struct row){(uint64_t)rand() % 100, rand() % 4 != 0};
        struct policy policy = {rand() % 3 == 0 ? 0 : (uint64_t)rand() % 120,
                                rand() % 3 == 0 ? 0 : (uint64_t)rand() % 12};
        uint64_t now_ms = 50 + (uint64_t)rand() % 80;
        uint64_t floor = rand() % 2 == 0 ? 0 : (uint64_t)rand() % (count + 2);
        cr_assert(eq(u64, floor_after(policy, now_ms, floor, rows, count),
                     model(policy, now_ms, floor, rows, count)),
                  "LOQUAT_SEED=%u round %d: %zu rows, age %lu, count %lu, now %lu, floor %lu", seed,
                  round, count, policy.max_age_ms, policy.max_count, now_ms, floor);
    }
}
