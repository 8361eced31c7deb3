/* gateway/marks.h: read and delivered marks without an answer, gathered to the highest and written
 * once a second.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_MARKS_H
#define LOQUAT_GATEWAY_MARKS_H

#include "gateway/session.h"

void marks_add(struct session *session, struct span conv, uint64_t read, uint64_t delivered);
void marks_write(struct session *session); /* all that wait, now */

#endif
