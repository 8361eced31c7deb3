/* store/base/dial.h: gets a loop its link to a node over TCP: resolves the name, connects, proves
 * that this program belongs to the cluster and has the node prove the same
 * (store/base/handshake.h). What fails is tried again, each time later, up to DIAL_WAIT_MAX_MS, and
 * at a random time in the second half of the wait, so that not all come at once to a node that has
 * come back.
 * Thread: the loop's; dial_init from where the loop is not running yet, too.
 * Limits: one try at a time, DIAL_TRY_MS each, TLS and all. */
#ifndef LOQUAT_BASE_DIAL_H
#define LOQUAT_BASE_DIAL_H

#include <uv.h>

#include "store/base/address.h"
#include "store/base/handshake.h"

enum { DIAL_WAIT_MIN_MS = 50, DIAL_WAIT_MAX_MS = 2000, DIAL_TRY_MS = HANDSHAKE_MS_MAX };

struct dial_target { /* read-only while loops run */
    struct span secret;
    struct tls *tls; /* of links; NULL: plain */
    struct address address;
    enum handshake_role role;                           /* of who dials */
    char name[ADDRESS_HOST_MAX + ADDRESS_PORT_MAX + 3]; /* for people */
};

enum dial_state {
    DIAL_RESTING, /* not started, or a link was handed over */
    DIAL_WAITING,
    DIAL_RESOLVING,
    DIAL_CONNECTING,
    DIAL_PROVING,
    DIAL_LETTING_GO, /* libuv of the descriptor */
    DIAL_STOPPED,
};

struct dial {
    const struct dial_target *target; /* NULL: never used */
    uv_loop_t *loop;
    uv_timer_t timer; /* of the wait, or of the try */
    uv_getaddrinfo_t resolve;
    uv_poll_t poll;
    struct line line;
    int err; /* why the try has failed; 0: it has not */
    enum dial_state state;
    bool stopping, timer_closed, resolving;
    unsigned tries; /* since a link was of use */
    struct handshake handshake;
    void (*on_link)(void *arg, struct line line); /* owns it */
    void (*on_stopped)(void *arg);
    void *arg;
};

void dial_init(struct dial *dial, uv_loop_t *loop, const struct dial_target *target,
               void (*on_link)(void *arg, struct line line), void (*on_stopped)(void *arg),
               void *arg);
void dial_start(struct dial *dial);  /* after dial_init, and after each link that was lost */
void dial_worked(struct dial *dial); /* the link is of use: waits are short again */
void dial_stop(struct dial *dial);   /* for good; on_stopped comes once, later */
static inline bool dial_stopped(const struct dial *dial)
{
    return dial->target == NULL || dial->state == DIAL_STOPPED;
}

#endif
