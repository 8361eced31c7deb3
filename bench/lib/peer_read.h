/* bench/lib/peer_read.h: reading back all that a peer_load has written, on its first connection (of
 * Redis its only one): entries a second. In pages of PEER_PAGE from Redis; from NATS by a consumer
 * that is pushed to and acknowledges nothing, which is the fastest that it has.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_PEER_READ_H
#define LOQUAT_BENCH_PEER_READ_H

#include "bench/lib/peer.h"

enum { PEER_PAGE = 1000 };

double peer_read_xrange(struct peer_load *load);
double peer_read_xread(struct peer_load *load);
double peer_read_nats(struct peer_load *load);

#endif
