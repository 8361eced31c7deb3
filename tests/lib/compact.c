#include "tests/lib/compact.h"

#include <stdio.h>

#include "compaction/keeper.h"
#include "replication/control.h"
#include "store/base/check.h"
#include "store/base/clock.h"

void compact_open(struct nodelink *link, const char *dir)
{
    *link = (struct nodelink){.fd = control_connect(dir)};
    if (link->fd < 0)
        perror(dir);
    ASSERT(link->fd >= 0);
    arena_init(&link->arena);
}

void compact_send(struct nodelink *link, const Loquat__Control *ask)
{
    nodelink_add(link, LINK_CONTROL, &ask->base);
    nodelink_flush(link);
}

Loquat__Report *compact_wait(struct nodelink *link)
{
    int type;
    struct span body;
    while (nodelink_next(link, &type, &body)) {
        ASSERT(type == LINK_REPORT);
        Loquat__Report *report =
            loquat__report__unpack(&link->arena.allocator, body.n, (const uint8_t *)body.p);
        ASSERT(report != NULL);
        if (report->done)
            return report;
    }
    return NULL;
}

Loquat__Control compact_ask(uint32_t op)
{
    Loquat__Control ask = LOQUAT__CONTROL__INIT;
    ask.op = op;
    return ask;
}

static Loquat__Report *unpack(struct span bytes, struct arena *arena)
{
    Loquat__Report *report =
        loquat__report__unpack(&arena->allocator, bytes.n, (const uint8_t *)bytes.p);
    ASSERT(report != NULL);
    return report;
}

Loquat__Report *compact_node(const char *dir, const Loquat__Control *ask, struct arena *arena)
{
    struct nodelink link;
    compact_open(&link, dir);
    compact_send(&link, ask);
    const Loquat__Report *report = compact_wait(&link);
    ASSERT(report != NULL);
    struct buf bytes = {0};
    loquat__report__pack(report,
                         (uint8_t *)buf_grow(&bytes, loquat__report__get_packed_size(report)));
    nodelink_close(&link);
    Loquat__Report *copy = unpack(buf_span(&bytes), arena);
    buf_close(&bytes);
    return copy;
}

struct kv *compact_data(const char *dir, bool read_only)
{
    char path[512];
    struct kv_options options = {.read_only = read_only};
    struct kv *kv = NULL;
    snprintf(path, sizeof path, "%s/data", dir);
    int err = kv_open(path, KV_DATA, &options, &kv);
    if (err != 0)
        fprintf(stderr, "%s: %s\n", path, kv_error());
    ASSERT(err == 0);
    return kv;
}

static int no_progress(void *arg, const char *phase, uint64_t at, uint64_t all)
{
    (void)arg;
    (void)phase;
    (void)at;
    (void)all;
    return 0;
}

Loquat__Report *compact_at_rest(const char *dir, uint32_t partitions, const Loquat__Control *ask,
                                struct arena *arena)
{
    static const struct keeper_ops ops = {.progress = no_progress};
    struct keeper keeper = {.kv = compact_data(dir, true),
                            .partitions = partitions,
                            .now_ms = clock_wall_ms(),
                            .ops = &ops};
    struct buf bytes = {0};
    keeper_do(&keeper, ask, &bytes);
    kv_close(keeper.kv);
    Loquat__Report *report = unpack(buf_span(&bytes), arena);
    buf_close(&bytes);
    return report;
}

const Loquat__Tally *compact_tally(const Loquat__Report *report, enum cause cause)
{
    ASSERT(report->n_tallies == CAUSE_COUNT && report->tallies[cause]->cause == (uint32_t)cause);
    return report->tallies[cause];
}

uint64_t compact_gone(const Loquat__Report *report)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < report->n_tallies; i++)
        sum += report->tallies[i]->gone;
    return sum;
}
