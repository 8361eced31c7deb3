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
    struct journal *journal;
    struct journal_batch filling, flying;
    struct wal_events events;
    struct notices due, out;
    uint64_t release, releasing;
    bool flying_now;
    uint64_t done_ms;
    unsigned slow_ms;
};

struct wal *wal_new(uv_loop_t *loop, struct journal *journal, uint64_t at,
                    const struct wal_events *events)
{
    (void)loop;
    struct wal *wal = xcalloc(1, sizeof *wal);
    wal->journal = journal;
    wal->events = *events;
    wal->slow_ms = SLOW_MS;
    wal->filling.at = at;
    return wal;
}

struct journal_batch *wal_batch(struct wal *wal)
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

void wal_release(struct wal *wal, uint64_t segment)
{
    wal->release = segment;
}

static void turn_over(struct wal *wal)
{
    struct journal_batch batch = wal->flying;
    wal->flying = wal->filling;
    wal->filling = batch;
    journal_batch_begin(&wal->filling, journal_after(&wal->flying));
    if (journal_begins(wal->filling.at))
        wal->events.on_segment(wal->events.arg);
}

void wal_kick(struct wal *wal)
{
    if (wal->flying_now || (wal->due.count == 0 && journal_batch_empty(&wal->filling)))
        return;
    turn_over(wal);
    wal->out = wal->due;
    wal->due = (struct notices){0};
    wal->releasing = wal->release;
    wal->release = 0;
    wal->flying_now = true;
    wal->done_ms = sim_now_ms + 1 + sim_roll(sim_chance(sim_slow) ? wal->slow_ms : 6);
    if (sim_mutant("ack-before-fsync"))
        tell(wal);
}

void wal_write(struct wal *wal)
{
    while (!journal_batch_empty(&wal->filling)) {
        turn_over(wal);
        (void)journal_write(wal->journal, &wal->flying);
    }
}

int wal_read(struct wal *wal, uint64_t at, char *to, size_t n)
{
    if (journal_batch_read(&wal->filling, at, to, n) || journal_batch_read(&wal->flying, at, to, n))
        return 0;
    return journal_read(wal->journal, at, to, n);
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
    return !wal->flying_now && sim_journal_cuts(wal->journal, &wal->filling);
}

void sim_wal_work(struct wal *wal)
{
    if (!wal->flying_now || wal->done_ms > sim_now_ms)
        return;
    (void)journal_write(wal->journal, &wal->flying);
    wal->flying_now = false;
    if (wal->releasing != 0)
        journal_release(wal->journal, wal->releasing);
    wal->releasing = 0;
    tell(wal);
}

void sim_wal_crash(struct wal *wal)
{
    if (wal->flying_now && sim_chance(50))
        (void)journal_write(wal->journal, &wal->flying);
    journal_batch_close(&wal->filling);
    journal_batch_close(&wal->flying);
    free(wal->due.items);
    free(wal->out.items);
    free(wal);
}
