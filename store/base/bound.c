#include "store/base/bound.h"

#include "store/base/metrics.h"

static const enum bound_side SIDES[BOUND_COUNT] = {
#define X(s, n, l) [BOUND_##n] = BOUND_OF_##s,
    BOUNDS(X)
#undef X
};

static struct metric hits[BOUND_COUNT] = {
#define X(s, n, l)                                                                                 \
    [BOUND_##n] = {.name = "loquat_bound_hits_total",                                              \
                   .help = "How often a bound held back, refused or ended something",              \
                   .labels = "bound=\"" l "\"",                                                    \
                   .type = METRIC_COUNTER},
    BOUNDS(X)
#undef X
};

void bounds_register(enum bound_side side)
{
    for (int i = 0; i < BOUND_COUNT; i++)
        if (SIDES[i] == side)
            metric_register(&hits[i]);
}

void bound_hit(enum bound bound)
{
    metric_add(&hits[bound], 1);
}
