/* replication/presence.h: who is there, as far as somebody wants to know. A user is there as long
 * as a gateway follows the user's own log, which it does for every live session: so nothing is
 * kept of users whom nobody watches but when they were seen last, and nothing is told to anybody
 * else than the gateways that watch. Whether a watcher may know is the gateway's to say
 * (gateway/presence.h). Soft state of who leads the user's partition: after a change of leaders
 * gateways say again what they follow and watch; until they have had time for it nobody is said
 * to be gone.
 * Time:   who closes the last connection is gone after PRESENCE_CLOSED_MS; who was connected
 *         through a link that is lost, after PRESENCE_LOST_MS, if no other gateway has the user
 *         by then.
 * Limits: PRESENCE_WATCHES_MAX per link (what is above is not watched); PRESENCE_SEEN_MAX users
 *         of whom it is known when they were seen last (then they are forgotten, all at once).
 * Thread: the loop's. */
#ifndef LOQUAT_REPLICATION_PRESENCE_H
#define LOQUAT_REPLICATION_PRESENCE_H

#include "replication/feed.h"

enum {
    PRESENCE_CLOSED_MS = 3000,
    PRESENCE_LOST_MS = 30000,
    PRESENCE_LED_MS = 10000, /* for so long after it began to lead nobody is said to be gone */
    PRESENCE_WATCHES_MAX = 1000000,
    PRESENCE_SEEN_MAX = 65536,
};

struct presence_ops {
    uint32_t (*state)(void *arg, struct conv_id user); /* enum PresenceState, as of now */
    void (*say)(void *arg, struct feed_peer *peer, struct span message); /* a packed Presence */
};

struct presence {
    const struct presence_ops *ops;
    void *arg;
    uint32_t partitions;
    uint64_t *led_ms;    /* per partition: since when; monotonic */
    struct map watched;  /* id of the user's log → struct watched */
    struct map seen;     /* the same → ms, wall clock */
    struct list leaving; /* watched users who are told to be gone when their time comes */
};

void presence_init(struct presence *presence, uint32_t partitions, const struct presence_ops *ops,
                   void *arg);
void presence_close(struct presence *presence); /* no link watches any more */
void presence_led(struct presence *presence, uint32_t partition, uint64_t now_ms);
void presence_drop(struct presence *presence, uint32_t partition); /* it is led elsewhere */
/* Somebody begins or ceases to follow the user's log; `lost`: because a link was. */
void presence_changed(struct presence *presence, struct conv_id user, bool lost, uint64_t now_ms);
/* Who may know of it has changed: it is told again as it is, and gateways ask who may. */
void presence_again(struct presence *presence, struct conv_id user);
void presence_watch(struct presence *presence, struct feed_peer *peer, const Loquat__Watch *watch,
                    uint64_t now_ms);
void presence_peer_close(struct presence *presence, struct feed_peer *peer);
void presence_tick(struct presence *presence, uint64_t now_ms);

#endif
