/* store/client/feed.h: the feeds of partitions, given out as they come: of all of them, or of those
 * that a consumer's workers have shared out to this one (feed_share.c).
 * Order:  of a partition, that in which its records were committed; each is given once. A worker
 *         moves the consumer's cursor once its caller has taken what lies before it, so whatever
 *         happens to a worker, the next one is given all that it had not taken.
 * Thread: the loop's. Each partition has a connection of its own.
 * Memory: a page of each partition at most. */
#ifndef LOQUAT_CLIENT_FEED_H
#define LOQUAT_CLIENT_FEED_H

#include "store/base/ids.h"
#include "store/client/feed_page.h"
#include "store/client/reader.h"

enum {
    FEED_WAIT_MS = 30000,        /* of a long poll */
    FEED_WAIT_SHARED_MS = 10000, /* … after which a worker looks whether its cursor was set */
    FEED_AGAIN_MIN_MS = 500,
    FEED_AGAIN_MAX_MS = 15000,
    FEED_TTL_MS = 10000, /* of a worker that isn't heard of any more */
    FEED_BEAT_MS = FEED_TTL_MS / 3,
    FEED_SETTLE_MS = FEED_BEAT_MS + 700,
    FEED_TARGET_SIZE = 448,
    FEED_BODY_SIZE = 128,
};

enum feed_does { FEED_RESTS, FEED_GIVES, FEED_WAITS, FEED_READS, FEED_TAKES, FEED_MOVES };

struct feed;
struct feed_part {
    struct feed *feed;
    uint32_t p;
    enum feed_does does;
    bool named;        /* it has a place of its own */
    bool ours;         /* to be read */
    bool at_end;       /* the last page went up to the end */
    uint64_t after;    /* what lies up to here was taken */
    uint64_t until;    /* the last record at the start */
    uint64_t at;       /* where to begin, ms; 0: `after` says it */
    bool given, taken; /* of a share: it is ours; its cursor is known and held */
    uint64_t moved;    /* … where that is */
    uint32_t bound;    /* of the wait before another attempt */
    uv_timer_t again;
    struct ask ask;
    struct buf text;
    char target[FEED_TARGET_SIZE], body[FEED_BODY_SIZE];
};

enum share_does { SHARE_RESTS, SHARE_JOINS, SHARE_LOOKS, SHARE_LEAVES };

struct share {                                             /* of a consumer's partitions */
    char name[3 * USER_MAX + 1], worker[3 * USER_MAX + 1]; /* as parts of a path */
    enum share_does does;
    bool opened;   /* there are timers */
    bool came;     /* it has to leave */
    bool joins;    /* once it has time */
    bool settling; /* those who had a partition before are given time to let it go */
    uint64_t generation;
    uint32_t bound;
    uv_timer_t beat, settle;
    struct ask ask;
    struct buf text;
    char target[FEED_TARGET_SIZE], body[FEED_BODY_SIZE];
};

enum feed_state { FEED_BEGINS, FEED_GOES, FEED_STOPS, FEED_CLOSES };

struct feed {
    struct loquat_reader reader; /* first */
    struct loquat_feed wants;    /* without its texts */
    struct loquat_place *places;
    loquat_feed_fn fn;
    void *arg;
    enum feed_state state;
    bool no_retry;
    uint64_t left;       /* records to be given at most */
    struct share *share; /* NULL: of no consumer */
    struct feed_part *parts;
    uint32_t count;
    struct ask ask; /* which partitions there are */
    uv_timer_t again;
    uint32_t bound;
    struct buf text;
    uint32_t closing; /* handles and connections that are */
    int err;
    char why[ASK_WHY_SIZE];
    struct json *json;
    struct feed_page page;
};

/* ---- between feed.c and feed_share.c ---- */

void feed_fail(struct feed *feed, int err, const char *what, const char *why); /* and stops */
void feed_stop(struct feed *feed);
void feed_rested(struct feed *feed); /* something came to rest: what is next */
bool feed_stopping(const struct feed *feed);
bool feed_transient(const struct feed *feed, int err);
uint64_t feed_backoff(uint32_t *bound);                 /* ms to wait */
bool feed_on_piece(struct ask *ask, struct span piece); /* ask->data: struct buf */
bool feed_part_done(const struct feed_part *part);
void feed_part_step(struct feed_part *part); /* of one that rests */
void feed_part_let_go(struct feed_part *part);

/* worker NULL: a name is made. */
struct share *share_new(const char *consumer, const char *worker);
void share_open(struct feed *feed);
void share_join(struct feed *feed);
void share_stop(struct feed *feed);
void share_rested(struct feed *feed); /* a partition did: whether all is done by all workers */
bool share_left(struct feed *feed);   /* false: it is leaving; feed_rested comes */
void share_close(struct feed *feed);  /* counts in feed->closing what it closes */
void feed_closed(struct feed *feed);  /* one that was counted in `closing` */

#endif
