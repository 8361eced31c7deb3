/* gateway/follow.h: what a session does with the logs that it follows (the states: session.h).
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_FOLLOW_H
#define LOQUAT_GATEWAY_FOLLOW_H

#include "gateway/session.h"
#include "store/base/record.h"

/* Makes room for so many more, and no more than these: most sessions stay as they are. */
void follow_reserve(struct session *session, uint32_t more);
/* Follows from `cursor` on. ERR_TOO_LARGE: too many. Followed already: stays as it is. */
int follow_add(struct session *session, struct span name, bool user_log, uint64_t cursor);
/* A conversation from `cursor` on, of which this user may read what is from `since` on. */
int follow_begin(struct session *session, struct span conv, uint64_t cursor, uint64_t since);
struct follow *follow_find(const struct session *session, const struct topic *topic); /* or NULL */
void follow_remove(struct session *session, struct follow *follow);
/* The client holds everything up to `cursor`. */
void follow_resume(struct session *session, struct follow *follow, uint64_t cursor);
/* After the topic started or moved, or the cursor did: what the follow is now. */
void follow_settle(struct session *session, struct follow *follow);
void follow_fall_behind(struct session *session, struct follow *follow);
void follow_lag(struct session *session, struct follow *follow); /* too far: the client reads */
/* A record of the user's own log. */
void follow_user_record(struct session *session, uint64_t seq, const struct record_view *record);
/* Begins the next catching-up read, if one is due and the client reads what it gets. */
void follow_catch_up(struct session *session);
/* A membership came to the user or went: from the user's own log, or from the conversation's. */
void follow_joined(struct session *session, struct span conv);
void follow_left(struct session *session, struct span conv);
void follow_metrics(void); /* registers; once */

#endif
