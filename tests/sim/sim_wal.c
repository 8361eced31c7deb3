/* tests/sim/sim_wal.c: replication/wal.h: one write at a time, that takes some milliseconds. */
#include <stdlib.h>

#include "store/base/check.h"
#include "tests/sim/world.h"

enum { SLOW_MS = 120 };

struct notice {
    wal_durable done;
    void *arg;
    uint64_t a, b;
};
struct notices {
    struct notice *items;
    size_t count, cap;
};
struct wal {
    struct kv_batch filling, flying;
    struct notices due, out;
    bool flying_now;
    uint64_t done_ms;
    unsigned slow_ms;
};

struct wal *wal_new(uv_loop_t *loop, struct kv *kv, void (*after)(void *arg), void *arg)
{
    (void)loop, (void)after, (void)arg;
    struct wal *wal = xcalloc(1, sizeof *wal);
    wal->slow_ms = SLOW_MS;
    kv_batch_init(&wal->filling, kv);
    kv_batch_init(&wal->flying, kv);
    return wal;
}

struct kv_batch *wal_batch(struct wal *wal)
{
    return &wal->filling;
}

void wal_notify(struct wal *wal, wal_durable done, void *arg, uint64_t a, uint64_t b)
{
    struct notices *due = &wal->due;
    if (due->count == due->cap) {
        due->cap = due->cap == 0 ? 16 : due->cap * 2;
        due->items = xrealloc(due->items, due->cap * sizeof *due->items);
    }
    due->items[due->count++] = (struct notice){done, arg, a, b};
}

static void tell(struct wal *wal)
{
    struct notices told = wal->out;
    wal->out = (struct notices){0};
    for (size_t i = 0; i < told.count; i++)
        told.items[i].done(told.items[i].arg, told.items[i].a, told.items[i].b);
    free(told.items);
}

void wal_kick(struct wal *wal)
{
    if (wal->flying_now || (wal->due.count == 0 && kv_batch_empty(&wal->filling)))
        return;
    struct kv_batch batch = wal->flying;
    wal->flying = wal->filling;
    wal->filling = batch;
    wal->out = wal->due;
    wal->due = (struct notices){0};
    wal->flying_now = true;
    wal->done_ms = sim_now_ms + 1 + sim_roll(sim_chance(sim_slow) ? wal->slow_ms : 6);
    if (sim_mutant("ack-before-fsync"))
        tell(wal);
}

uint64_t sim_wal_due(const struct wal *wal)
{
    return wal->flying_now ? wal->done_ms : UINT64_MAX;
}

void sim_wal_slow(struct wal *wal, unsigned ms)
{
    wal->slow_ms = ms;
}

bool sim_wal_cuts(const struct wal *wal)
{
    return !wal->flying_now && sim_kv_cuts(&wal->filling);
}

void sim_wal_work(struct wal *wal)
{
    if (!wal->flying_now || wal->done_ms > sim_now_ms)
        return;
    int err = kv_write(&wal->flying);
    ASSERT(err == 0);
    wal->flying_now = false;
    tell(wal);
}

void sim_wal_crash(struct wal *wal)
{
    if (wal->flying_now && sim_mutant("torn-write"))
        sim_kv_tear(&wal->flying);
    else if (wal->flying_now && sim_chance(50))
        (void)kv_write(&wal->flying);
    kv_batch_close(&wal->filling);
    kv_batch_close(&wal->flying);
    free(wal->due.items);
    free(wal->out.items);
    free(wal);
}
