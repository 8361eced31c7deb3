/* replication/rcore_conf.h: configurations as the core has them and as bytes. For rcore*.c alone;
 * others can encode them: rcore.h. */
#ifndef LOQUAT_REPLICATION_RCORE_CONF_H
#define LOQUAT_REPLICATION_RCORE_CONF_H

#include <raft.h>

#include "store/base/span.h"

bool rcore_conf_valid(struct span bytes);
bool rcore_conf_votes(const struct raft_configuration *conf, raft_id id);
/* Of valid bytes. The caller closes it, or gives it to the core. */
void rcore_conf_decode(struct raft_configuration *out, struct span bytes);

#endif
