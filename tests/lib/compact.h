/* tests/lib/compact.h: asks what loquat-compact asks, of a running node and of a directory at rest.
 * Reports live in the arena. What must not fail is asserted. */
#ifndef LOQUAT_TESTS_COMPACT_H
#define LOQUAT_TESTS_COMPACT_H

#include "compaction/policy.h"
#include "store/base/arena.h"
#include "store/kv.h"
#include "tests/lib/nodelink.h"

/* A link to the node's control socket; greets nobody. */
void compact_open(struct nodelink *link, const char *dir);
void compact_send(struct nodelink *link, const Loquat__Control *ask);
Loquat__Report *
compact_wait(struct nodelink *link); /* the last report; NULL: the node has closed */

Loquat__Control compact_ask(uint32_t op); /* with nothing set */
/* All in one. */
Loquat__Report *compact_node(const char *dir, const Loquat__Control *ask, struct arena *arena);
/* DIR/data, opened for reading only. */
Loquat__Report *compact_at_rest(const char *dir, uint32_t partitions, const Loquat__Control *ask,
                                struct arena *arena);
struct kv *compact_data(const char *dir, bool read_only); /* DIR/data */

const Loquat__Tally *compact_tally(const Loquat__Report *report, enum cause cause);
uint64_t compact_gone(const Loquat__Report *report); /* bytes, of all causes */

#endif
