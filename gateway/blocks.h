/* gateway/blocks.h: whom the user of a session has blocked: their typing, presence and marks are
 * not shown to this session. Read when it syncs, then kept up to date by the user's own log.
 * Owner:  the session; most have none.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_BLOCKS_H
#define LOQUAT_GATEWAY_BLOCKS_H

#include "gateway/session.h"

void blocks_set(struct session *session, const Loquat__UserSettings *settings);
void blocks_change(struct session *session, struct span user, bool on);
void blocks_forget(struct session *session);
bool blocks_has(const struct session *session, const char *user);

#endif
