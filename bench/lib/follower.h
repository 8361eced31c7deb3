/* bench/lib/follower.h: clients that do what docs/PROTOCOL.md asks of one (9. Catching up): each
 * holds a cursor for every conversation of its user, syncs with them, fetches with `range` what a
 * `lag` tells it to and resumes, asks again what was `unavailable`, and comes back when it is cut
 * off. Conversations that come and go (`joined`, `left`, the list of `sync`) are followed.
 * Counts: every record must be the one after the last; `missed` and `twice` say where it was not.
 *         A conversation that is new begins after its head of that moment.
 * Owner:  `each` and what stands in it is followers_open's until followers_close.
 * Thread: one. Errors: none: see measure.h; what the server does wrong is counted. */
#ifndef LOQUAT_BENCH_FOLLOWER_H
#define LOQUAT_BENCH_FOLLOWER_H

#include "bench/lib/sock.h"
#include "store/base/ids.h"

enum {
    FOLLOWER_ASKS = 1 << 20,     /* ids from here on are those of follower_ask's caller */
    FOLLOWER_LOGS_MAX = 10000,   /* conversations of one */
    FOLLOWERS_OPENING_MAX = 256, /* on their way at once */
};

struct followed {
    char id[MADE_ID_SIZE + 1];
    uint64_t seen;  /* everything up to here has come */
    double again_s; /* when `range` is to be asked (again); 0: not */
    bool gone;      /* the user is out of it */
    bool listed;    /* by the last sync */
    void *data;     /* the caller's; NULL at first */
};
struct follower {
    struct sock sock; /* first: what has ended is told by it */
    struct followers *all;
    size_t number;
    struct followed *logs;
    size_t count, cap;
    bool wanted; /* it comes (back) when it is due */
    bool begun, live;
    bool again;           /* some of its logs have an again_s */
    double due_s, sync_s; /* when to connect; when to ask for sync again, 0: not */
    double live_s;        /* since when it is live */
};
struct followers {
    /* the caller's, set before followers_open: */
    struct gateway *gateway;
    uv_loop_t *loop;
    void (*user)(size_t number, char *name, size_t size);
    int receive_bytes;  /* see net.h */
    size_t page;        /* most records of one range */
    size_t opening_max; /* on their way at once; 0: FOLLOWERS_OPENING_MAX */
    unsigned sources;   /* addresses they connect from: see crowd.h; 0: any */
    bool stay_away;     /* who is cut off does not come back by itself; may change */
    void *data;
    /* A record or hole that moved the cursor to log->seen; `live`: it came by itself. */
    void (*on_record)(struct follower *follower, struct followed *log, struct span item, bool live);
    void (*on_answer)(struct follower *follower, uint64_t id, struct span line); /* ids of asks */
    void (*on_live)(struct follower *follower, struct span line);  /* of sync; may be NULL */
    void (*on_event)(struct follower *follower, struct span line); /* no record; may be NULL */

    struct follower *each;
    size_t count;
    uv_timer_t tick;
    size_t opening;
    uint64_t live, received, missed, twice;
    uint64_t lags, ranges, refused; /* lag events; pages fetched; what was to be asked again */
    uint64_t ended, failed;         /* connections that ended while live; before */
    char why[128];                  /* of the last of these */
};
void followers_open(struct followers *followers, size_t count);
void followers_close(struct followers *followers);
/* Fails when they are not all live in that time. */
void followers_all_live(struct followers *followers, uint64_t count, double secs);

/* It holds everything up to `seen`; before it is live, or of a conversation it was told of. */
struct followed *follower_follow(struct follower *follower, const char *id, uint64_t seen);
struct followed *follower_log(struct follower *follower, const char *id); /* NULL: none */
void follower_come(struct follower *follower, double after_s);
void follower_go(struct follower *follower, bool by_reset); /* until it is to come again */
/* A request whose id is at least FOLLOWER_ASKS; only while it is live. */
void follower_ask(struct follower *follower, struct span text);

/* The number after `name` in a line; 0 when it is not there. */
uint64_t line_number(struct span line, const char *name);
/* What comes after `text` in a line, or NULL. */
const char *line_after(struct span line, const char *text);
/* The sequences of a record or hole that begins behind its `{"c":"`; false: it is neither. */
bool line_item(struct span item, uint64_t *first, uint64_t *last);

#endif
