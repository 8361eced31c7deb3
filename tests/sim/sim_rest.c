/* tests/sim/sim_rest.c: time, chance, planted bugs and watermarks of a simulation. */
#include <stdlib.h>
#include <string.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "tests/lib/dice.h"
#include "tests/sim/world.h"

#define EPOCH_MS 1750000000000u

uint64_t sim_now_ms, sim_seed;
unsigned sim_slow;
static const char *mutant;

uint64_t sim_roll(uint64_t sides)
{
    return dice_roll(&sim_seed, sides);
}

bool sim_chance(unsigned percent)
{
    return sim_roll(100) < percent;
}

bool sim_mutant(const char *name)
{
    return mutant != NULL && strcmp(mutant, name) == 0;
}

void sim_set_mutant(const char *name)
{
    mutant = name;
}

uint64_t clock_wall_ms(void)
{
    return EPOCH_MS + sim_now_ms;
}

uint64_t clock_mono_us(void)
{
    return sim_now_ms * 1000;
}

uint64_t random_u64(void)
{
    return dice_next(&sim_seed);
}

void random_bytes(void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((char *)out)[i] = (char)dice_next(&sim_seed);
}

/* ---- watermarks ---- */

struct sim_mark {
    struct watermark mark;
    struct watermark_row row, synced;
};

struct watermark *sim_mark_new(void)
{
    struct sim_mark *made = xcalloc(1, sizeof *made);
    return &made->mark;
}

void sim_mark_free(struct watermark *mark)
{
    free(mark);
}

int watermark_get(const struct watermark *mark, uint32_t partition, struct watermark_row *row)
{
    const struct sim_mark *sim = (const struct sim_mark *)mark;
    ASSERT(partition == 0);
    *row = sim->row;
    return row->index == 0 || sim_mutant("watermark-ignored") ? ERR_NOT_FOUND : 0;
}

void watermark_put(struct watermark *mark, uint32_t partition, struct watermark_row row)
{
    struct sim_mark *sim = (struct sim_mark *)mark;
    ASSERT(partition == 0);
    sim->row = row;
    if (sim_chance(20))
        sim->synced = row;
}

void sim_mark_power_cut(struct watermark *mark)
{
    struct sim_mark *sim = (struct sim_mark *)mark;
    sim->row = sim->synced;
}
