/* gateway/fanout.h: the logs that sessions of this loop follow, and who follows them.
 * A topic is one subscription at the node, whatever the number of its sessions. What a Tail brings
 * is made into a frame once, and the same bytes go to every session that is caught up; a session
 * that is not has a cursor, and reads (session.h).
 * Owner:  a topic lives as long as somebody follows it.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_FANOUT_H
#define LOQUAT_GATEWAY_FANOUT_H

#include "store/base/ids.h"
#include "store/base/list.h"
#include "store/base/map.h"
#include "wire.pb-c.h"

enum { FANOUT_FRAME_BYTES = 128 << 10 }; /* records gathered in one frame */
#define TOPIC_NOT_STARTED UINT64_MAX
#define FOLLOW_FROM_HEAD UINT64_MAX

struct gate;
struct session;

struct topic_entry {
    struct session *session;
    uint32_t follow; /* index in session->follows */
    uint32_t tag;    /* of the user: limits_slot */
};

struct topic {
    struct conv_id id;
    uint64_t head;   /* everything up to here has come, or TOPIC_NOT_STARTED */
    uint64_t begins; /* of a user log: nothing up to here will come */
    uint32_t partition;
    bool user_log;
    bool away;   /* of a user log: as the node was told of who follows it */
    bool failed; /* the node has ended it; begun again when somebody wants to go on */
    uint32_t count, cap;
    struct topic_entry *entries;
    struct list_link in_unmarked;
    char name[]; /* of the conversation, or the user */
};

struct fanout {
    struct gate *gate;
    struct map topics;
    struct list unmarked;   /* topics of which marks may have been missed: marks_again */
    uint32_t marks_reading; /* of these, reads under way */
};

void fanout_init(struct fanout *fanout, struct gate *gate);
void fanout_close(struct fanout *fanout);
/* Found, or begun after `cursor` (or FOLLOW_FROM_HEAD); the caller adds itself at once. */
struct topic *fanout_topic(struct fanout *fanout, struct span name, bool user_log, uint64_t cursor);
struct topic *fanout_find(const struct fanout *fanout, struct span name);
struct topic *fanout_find_user(const struct fanout *fanout, struct span user);
/* How far a user's log was told to this loop's sessions; 0 when none of them follows it. */
uint64_t fanout_user_head(const struct fanout *fanout, struct span user);
/* One that has failed, from `cursor` on or FOLLOW_FROM_HEAD. */
void fanout_again(struct fanout *fanout, struct topic *topic, uint64_t cursor);
uint32_t fanout_add(struct topic *topic, struct session *session, uint32_t follow); /* slot */
/* Takes the entry out (the last one moves into its place); the topic may be gone after. */
void fanout_remove(struct fanout *fanout, struct topic *topic, uint32_t slot);
/* These partitions are served by another node, or by one that was away: every log of them goes on
 * from where it was. */
void fanout_go_on(struct fanout *fanout, const bool *partitions);
void fanout_on_tail(struct fanout *fanout, const Loquat__Tail *tail);
void fanout_on_mark(struct fanout *fanout, const Loquat__MarkEvent *mark);
/* One message to all WebSocket sessions of a topic for which `wanted` is true; marks are in it. */
void fanout_tell_marks(struct topic *topic, struct span text,
                       bool (*wanted)(const struct session *session, const void *arg),
                       const void *arg);
/* The same, but for those of `user`, and dropped where much waits already. */
void fanout_tell_passing(struct topic *topic, struct span text, const char *user);
/* A session of the user went away or is back: the node is told when that makes a difference. */
void fanout_settle_away(struct fanout *fanout, struct span user);
void fanout_metrics(void); /* registers; once */

#endif
