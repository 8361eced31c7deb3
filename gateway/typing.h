/* gateway/typing.h: that somebody is writing something: soft state, passed on from gateway to
 * gateway by the node that leads the conversation's partition, and kept nowhere. Dropped first
 * under load. Of one user and conversation one goes out in TYPING_EVERY_MS, over all connections
 * of a loop.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_TYPING_H
#define LOQUAT_GATEWAY_TYPING_H

#include "gateway/gate.h"

enum { TYPING_EVERY_MS = 3000, TYPING_TTL_MS = 5000 };

/* To the other members who are connected to this loop. */
void typing_take(struct gate *gate, const Loquat__Typing *typing);

#endif
