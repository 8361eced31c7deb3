/* bench/search/made.h: the index of a server that is stopped, made anew by a process of one core:
 * with the threads that RocksDB has, and nothing beside it.
 * Errors: none: see bench/lib/measure.h. */
#ifndef LOQUAT_BENCH_SEARCH_MADE_H
#define LOQUAT_BENCH_SEARCH_MADE_H

#include "bench/lib/server.h"

struct made {
    double seconds;           /* until all is written; files not yet compacted */
    double cpu_s;             /* of all its threads */
    double compact_s;         /* one row for each term, then */
    uint64_t messages, bytes; /* of the index on disk, compacted */
};
struct made made_anew(const struct gateway *gateway);

#endif
