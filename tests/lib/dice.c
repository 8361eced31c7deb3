#include "tests/lib/dice.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/clock.h"
#include "store/base/log.h"

enum { ROUNDS = 10 };

uint64_t dice_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t dice_roll(uint64_t *state, uint64_t sides)
{
    return dice_next(state) % sides;
}

long dice_rounds(const char *name, int argc, char **argv, long max, uint64_t *seed)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : ROUNDS;
    if (rounds < 1 || rounds > max) {
        fprintf(stderr, "usage: %s [ROUNDS], 1 to %ld\n", name, max);
        exit(2);
    }
    log_setup(name, LOG_ERROR, LOG_JSON);
    const char *given = getenv("LOQUAT_SEED");
    *seed = given != NULL ? strtoull(given, NULL, 10) : random_u64();
    printf("seed %llu\n", (unsigned long long)*seed);
    return rounds;
}
