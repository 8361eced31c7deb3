#include "replication/cluster_plan.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { SETS_MAX = 256 };

static struct plan_set sets[SETS_MAX], before[SETS_MAX];

static struct plan_set nodes_to(uint64_t last)
{
    struct plan_set nodes = {0};
    for (uint64_t id = 1; id <= last; id++)
        plan_put(&nodes, id);
    return nodes;
}

static void all_hold(size_t count, const struct plan_set *nodes)
{
    for (size_t p = 0; p < count; p++)
        sets[p] = *nodes;
}

static size_t moved(size_t count)
{
    size_t n = 0;
    for (size_t p = 0; p < count; p++)
        for (size_t i = 0; i < sets[p].count; i++)
            n += !plan_has(&before[p], sets[p].ids[i]);
    return n;
}

/* Plans; holds against what a plan has to be; gives back how many replicas come to a node. */
static size_t plan(size_t count, const struct plan_set *nodes, size_t replicas)
{
    memcpy(before, sets, sizeof sets);
    plan_spread(sets, count, nodes, replicas);
    size_t held[PLAN_NODES_MAX] = {0}, least = count, most = 0, n = moved(count);
    for (size_t p = 0; p < count; p++) {
        cr_assert(eq(sz, sets[p].count, replicas < nodes->count ? replicas : nodes->count));
        for (size_t i = 0; i < sets[p].count; i++)
            cr_assert(plan_has(nodes, sets[p].ids[i]));
    }
    for (size_t i = 0; i < nodes->count; i++) {
        for (size_t p = 0; p < count; p++)
            held[i] += plan_has(&sets[p], nodes->ids[i]);
        least = held[i] < least ? held[i] : least;
        most = held[i] > most ? held[i] : most;
    }
    cr_assert(le(sz, most, least + 1));
    memcpy(before, sets, sizeof sets);
    plan_spread(sets, count, nodes, replicas);
    cr_assert(eq(sz, moved(count), 0), "what is so stays so");
    return n;
}

/* What is right is left alone. */
Test(cluster_plan, nothing_to_do)
{
    struct plan_set nodes = nodes_to(3);
    all_hold(16, &nodes);
    cr_assert(eq(sz, plan(16, &nodes, 3), 0));
}

/* A fourth node takes its share of three, and no more than that moves. */
Test(cluster_plan, one_more)
{
    struct plan_set three = nodes_to(3), four = nodes_to(4);
    all_hold(16, &three);
    cr_assert(eq(sz, plan(16, &four, 3), 12));
    struct plan_set five = nodes_to(5);
    cr_assert(eq(sz, plan(16, &five, 3), 9));
}

/* Whoever goes is replaced where there is somebody, and only there. */
Test(cluster_plan, one_less)
{
    struct plan_set four = nodes_to(4), rest = four;
    all_hold(256, &four);
    plan(256, &four, 3);
    plan_drop(&rest, 2);
    plan(256, &rest, 3);
    plan_drop(&rest, 4);
    cr_assert(eq(sz, plan(256, &rest, 3), 0));
    cr_assert(eq(sz, plan(256, &four, 3), 256 + 128));
}

/* More replicas, and fewer. */
Test(cluster_plan, other_numbers)
{
    struct plan_set seven = nodes_to(7);
    all_hold(100, &seven);
    plan(100, &seven, 3);
    cr_assert(eq(sz, plan(100, &seven, 5), 200));
    cr_assert(le(sz, plan(100, &seven, 1), 7));
    cr_assert(eq(sz, plan(1, &seven, 3), 2));
    sets[0].count = 0;
    cr_assert(eq(sz, plan(1, &seven, 3), 3));
}
