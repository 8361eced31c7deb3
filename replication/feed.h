/* replication/feed.h: tails of logs to the gateways that follow them.
 * A subscription is a cursor. While its gateway has credit, records are sent as they are applied;
 * one that has none, or begins behind the head, is served by reads from its cursor. Nothing is
 * queued for anybody: what could not be sent is read again.
 * Thread: the loop's; reads run on the thread pool.
 * Limits: FEED_SUBS_MAX per peer (above it: a Tail with ERR_BUSY), FEED_READS_MAX reads at once per
 *         peer, pages of FEED_PAGE_BYTES. */
#ifndef LOQUAT_REPLICATION_FEED_H
#define LOQUAT_REPLICATION_FEED_H

#include <uv.h>

#include "store/apply.h"
#include "store/base/link.h"
#include "store/base/list.h"
#include "store/base/map.h"

enum { FEED_SUBS_MAX = 2000000, FEED_READS_MAX = 16, FEED_PAGE_BYTES = 256 << 10 };

struct feed {
    uv_loop_t *loop;
    struct kv *kv;
    uint32_t partitions;
    struct map topics; /* log id → struct topic */
    struct buf scratch;
    size_t reads; /* under way */
    /* Somebody begins or ceases to follow the log of a user, or is away or back; `lost`: with the
     * link. Not of what feed_drop ends. */
    void (*on_user)(void *arg, struct conv_id user, bool lost);
    void *arg;
};

/* The feed's side of a gateway link. `ref`/`unref` keep the owner while a read is under way. */
struct feed_peer {
    struct link *link; /* NULL once closed */
    uint32_t version;  /* of the wire, that it speaks */
    int64_t credit;
    struct map subs;      /* log id → struct sub */
    struct list starting; /* subs that want their first read, which does not wait for credit */
    struct list behind;   /* subs that want a page, when there is credit */
    struct list watching; /* users: presence.h */
    size_t watches;
    size_t reads;
    void (*ref)(struct feed_peer *peer);
    void (*unref)(struct feed_peer *peer);
};

void feed_init(struct feed *feed, uv_loop_t *loop, struct kv *kv, uint32_t partitions);
void feed_close(struct feed *feed);
void feed_peer_init(struct feed_peer *peer, struct link *link);
void feed_peer_close(struct feed *feed, struct feed_peer *peer);

void feed_sub(struct feed *feed, struct feed_peer *peer, const Loquat__Sub *sub);
/* Ends all of its subscriptions of a partition, without a word. */
void feed_drop(struct feed *feed, struct feed_peer *peer, uint32_t partition);
void feed_refuse(struct feed *feed, struct feed_peer *peer, const Loquat__Sub *wanted, int err);
void feed_unsub(struct feed *feed, struct feed_peer *peer, const Loquat__Unsub *unsub);
/* Whether the user is there, by who follows the log: enum PresenceState. */
uint32_t feed_presence(const struct feed *feed, struct conv_id user);
void feed_credit(struct feed *feed, struct feed_peer *peer, uint64_t bytes);
/* To all who follow the conversation and have credit: dropped first under load. */
void feed_typing(struct feed *feed, const Loquat__Typing *typing);
void feed_publish(struct feed *feed, const struct applied *applied);

#endif
