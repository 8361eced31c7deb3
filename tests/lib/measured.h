/* tests/lib/measured.h: what this process says of itself at GET /metrics. */
#ifndef LOQUAT_TESTS_MEASURED_H
#define LOQUAT_TESTS_MEASURED_H

#include <stdint.h>

/* The value of `series`: a name with its labels, as written; asserts that there is one. */
int64_t measured(const char *series);

#endif
