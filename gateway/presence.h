/* gateway/presence.h: who is there, for the sessions of this loop that want to know. A user whom
 * some of them watch is watched once at the node that leads the user's partition
 * (replication/presence.h says what being there means). Before a session is told anything of a
 * user, now and at every change, the user's conversations are asked for: only who shares one with
 * the user is told, and that he is there only who may: not whom the user has blocked, and nobody
 * when he hides it. So nothing has to be taken back when somebody leaves, and who may not know
 * can't tell a user from nobody.
 * Owner:  a watch lives as long as a session has it.
 * Limits: PRESENCE_SESSION_MAX users for each session (too_large).
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_PRESENCE_H
#define LOQUAT_GATEWAY_PRESENCE_H

#include "gateway/session.h"

enum { PRESENCE_SESSION_MAX = 1000 };

void presence_begin(struct gate *gate);
void presence_end(struct gate *gate);
void presence_sweep(struct gate *gate); /* now and then: reads that failed are made again */
/* A session that watches the user has blocked him, or does no more. */
void presence_recheck(struct gate *gate, struct span user);
/* From the node. */
void presence_take(struct gate *gate, const Loquat__Presence *presence);
/* Other nodes lead these partitions: they are told what is watched there. */
void presence_go_on(struct gate *gate, const bool *partitions);
/* The session ends: it watches nobody any more. */
void presence_forget(struct session *session);

#endif
