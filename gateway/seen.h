/* gateway/seen.h: how many have read the newest message of a group whose marks are not told one by
 * one: at most one event a second for each conversation, the last one always.
 * Owner:  a conversation is kept here for SEEN_EVERY_MS after it was told.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_SEEN_H
#define LOQUAT_GATEWAY_SEEN_H

#include "gateway/gate.h"

enum { SEEN_EVERY_MS = 1000 };

void seen_begin(struct gate *gate);
void seen_end(struct gate *gate);
void seen_take(struct gate *gate, const Loquat__MarkEvent *mark);
void seen_sweep(struct gate *gate); /* now and then: those whose time has come */

#endif
