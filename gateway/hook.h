/* gateway/hook.h: the inside of hook*.c: webhooks of the store, each with what this gateway has of
 * its partitions at present.
 * Thread: the one of struct hooks. */
#ifndef LOQUAT_GATEWAY_HOOK_H
#define LOQUAT_GATEWAY_HOOK_H

#include "gateway/cluster.h"
#include "gateway/hook_curl.h"
#include "gateway/hooks.h"
#include "gateway/settings.h"
#include "store/base/json.h"

enum {
    HOOKS_TICK_MS = 250,
    HOOKS_STOP_TICK_MS = 20,
    HOOKS_LOOK_MS = 2000,   /* from one look at who there is to the next */
    HOOK_JOIN_MS = 10000,   /* a worker is heard of so often */
    HOOK_TTL_MS = 30000,    /* and gone when it was not for so long */
    HOOK_POSTS_MAX = 64,    /* requests at once; others wait for their turn */
    HOOK_RECORDS_MAX = 500, /* of one request */
    HOOK_PAGE_BYTES = 64 << 10,
    HOOK_WAIT_MS = 20000,    /* for something to come */
    HOOK_SAVE_MS = 5000,     /* what was looked at and not sent is stored so often */
    HOOK_REST_MIN_MS = 1000, /* after a request that failed; twice as long each time */
    HOOK_REST_MAX_MS = 300000,
    HOOK_AFTER_MAX_S = 3600, /* an answer can ask for so much */
    HOOKS_STOP_MS = 3000,    /* what is under way at the end */
};

struct hook;

enum pump_state { PUMP_IDLE, PUMP_READS, PUMP_MOVES, PUMP_POST_WAITS, PUMP_POSTED, PUMP_RESTS };
enum hooks_stop { HOOKS_RUNNING, HOOKS_ENDING, HOOKS_LEAVING, HOOKS_CLOSING, HOOKS_ENDED };

/* One partition for one webhook: read, sent, moved, in this order, again and again. */
struct pump {
    struct hook *hook;
    uint32_t partition;
    enum pump_state state;
    bool taken, ended;  /* ended: it is not ours any more */
    uint64_t offset;    /* of the cursor */
    uint64_t next;      /* up to here all was sent or is not wanted */
    uint64_t page_next; /* and will be when `body` is */
    uint64_t saved_ms, rest_until_ms;
    unsigned failures;
    size_t records;         /* in `body` */
    char id[USER_MAX + 64]; /* of the request in work */
    struct buf body;
    struct hook_post post;
    struct list_link in_hook, in_waiting;
};

struct hook {
    struct hooks *hooks;
    struct list_link in_hooks;
    char name[USER_MAX + 1];
    Loquat__Webhook *webhook; /* own */
    uint64_t generation, join_ms;
    bool joining, there, gone, ending;
    struct list pumps;
};

struct hooks {
    uv_loop_t loop;
    uv_timer_t timer;
    uv_async_t async;
    struct cluster cluster;
    struct hook_curl curl;
    struct list hooks, waiting; /* waiting: pumps, for a request's turn */
    size_t posts;
    char worker[USER_MAX + 1]; /* what this gateway is called among those who share */
    char after[USER_MAX + 1];  /* of the look in work: the page */
    bool looking;
    enum hooks_stop stop;
    size_t leaving; /* webhooks that others are being told of */
    uint64_t look_ms, stop_ms;
    pthread_t thread;
};

static inline uint64_t hooks_now(const struct hooks *hooks) /* ms; of this turn of the loop */
{
    return uv_now(&hooks->loop);
}

static inline bool hooks_stopping(const struct hooks *hooks)
{
    return hooks->stop != HOOKS_RUNNING;
}

/* hook_pump.c */
struct pump *pump_new(struct hook *hook, uint32_t partition);
void pump_step(struct pump *pump);  /* what is next, if nothing is under way */
void pump_end(struct pump *pump);   /* not ours any more; frees itself when nothing is under way */
void pumps_stop(struct hook *hook); /* requests are broken off */
void pumps_turn(struct hooks *hooks); /* those that wait for their request's turn */

/* hooks.c: a pump has gone, or found that the shares have changed. */
void hook_settle(struct hook *hook);
void hook_rejoin(struct hook *hook);

void hook_metrics(void);

#endif
