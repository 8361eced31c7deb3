/* tests/lib/dice.h: choices that a seed repeats (splitmix64: S. Vigna, public domain; G. Steele,
 * D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
 * Thread: that of the state. */
#ifndef LOQUAT_TESTS_DICE_H
#define LOQUAT_TESTS_DICE_H

#include <stdint.h>

uint64_t dice_next(uint64_t *state);
uint64_t dice_roll(uint64_t *state, uint64_t sides); /* 0 to sides - 1 */

/* The beginning of a program NAME [ROUNDS]: how many, 10 unless said. Wrong words end it with
 * status 2. Sets up the log, and *seed from LOQUAT_SEED or anyhow, which it prints. */
long dice_rounds(const char *name, int argc, char **argv, long max, uint64_t *seed);

#endif
