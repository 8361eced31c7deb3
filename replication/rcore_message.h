/* replication/rcore_message.h: the core's messages to and from the form they travel in. For rcore.c
 * alone.
 * Errors: ERR_CORRUPT: no message that a core could have sent; what comes from outside is looked at
 *         here, since the library, as it is packaged, looks at nothing. */
#ifndef LOQUAT_REPLICATION_RCORE_MESSAGE_H
#define LOQUAT_REPLICATION_RCORE_MESSAGE_H

#include <raft.h>

#include "replication/rcore.h"

enum { RCORE_APPEND_ENTRIES_MAX = 4096 }; /* of one message */

/* All but the entries, and of a snapshot the configuration, which `out` gets from the caller. */
void rcore_message_out(const struct raft_message *message, Loquat__Raft *out);
/* Entries as the core wants them: from raft_malloc, in one batch. The array is to be freed. */
struct raft_entry *rcore_entries_in(const struct rcore_entry *entries, size_t count);
/* All but the entries and the configuration. *message points into `in`. */
int rcore_message_in(const Loquat__Raft *in, struct raft_message *message);

#endif
