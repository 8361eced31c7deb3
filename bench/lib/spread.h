/* bench/lib/spread.h: bench/conns over several gateways beside one node: connections that one
 * process may not hold. User i is at gateway i % N, so that people of ten rooms and halls sit at
 * different ones, and all that is said goes through the node to several. A process of clients for
 * each gateway; the first process opens the rooms and reads the clock of all.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_SPREAD_H
#define LOQUAT_BENCH_SPREAD_H

#include "bench/lib/measure.h"

void spread_run(const struct bench_options *options); /* prints the result */

#endif
