/* bench/lib/verdict.h: what must hold, said line by line, and counted as tests/run reads it.
 * Thread: one. */
#ifndef LOQUAT_BENCH_VERDICT_H
#define LOQUAT_BENCH_VERDICT_H

#include <stdbool.h>

void verdict(bool fine, const char *format, ...) __attribute__((format(printf, 2, 3)));
int verdicts_end(void); /* prints `N passed, N failed`, last of all; the exit status */

#endif
