/* gateway/marks.h: read and delivered marks. Those of the client without an answer are gathered to
 * the highest and written once a second. Those of others that could not be told, because the client
 * did not take what it was sent, are read again when it does; and those of all conversations that
 * are followed when the node was away, since a mark is not in a log that a cursor points into.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_MARKS_H
#define LOQUAT_GATEWAY_MARKS_H

#include "gateway/session.h"

void marks_add(struct session *session, struct span conv, uint64_t read, uint64_t delivered);
void marks_write(struct session *session); /* all that wait, now */
void marks_lose(struct session *session, struct follow *follow);
void marks_find(struct session *session); /* begins to read lost ones again, if there are any */
void marks_again(struct gate *gate);      /* goes on reading what may have been missed so */

#endif
