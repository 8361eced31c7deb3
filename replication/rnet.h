/* replication/rnet.h: links between the nodes of a cluster: one for each pair, for all partitions.
 * Of two nodes the one with the lower number calls. What is said in a turn of the loop leaves as
 * one block (store/base/link.h). Nothing is kept for a node that is away, or that does not take
 * what it is sent: consensus says everything again. Who comes is let in when it belongs to this
 * cluster, is on the roster, and comes with the directory that it was met with before (roster.h);
 * otherwise it is told why not, and so is the log.
 * Thread: the loop's; rnet_new from where the loop is not running yet, too.
 * Limits: RNET_PENDING_MAX bytes wait for one node; what comes on top is dropped. A link on which
 *         nothing came for RNET_SILENT_MS is given up, and a new one made: after an interruption
 * TCP alone may take much longer. */
#ifndef LOQUAT_REPLICATION_RNET_H
#define LOQUAT_REPLICATION_RNET_H

#include <uv.h>

#include "replication/roster.h"
#include "store/base/link.h"

/* Of a node, why it should not lead: its disk has no room; it has yet to apply much; somebody wants
 * it so. */
enum rnet_flag { RNET_FULL = 1, RNET_BEHIND = 2, RNET_DRAINED = 4 };
enum { RNET_PENDING_MAX = 16 << 20, RNET_ALIVE_MS = 500, RNET_SILENT_MS = 2500 };

struct rnet_env {
    uv_loop_t *loop;
    const struct roster *roster; /* with this node; others may come: rnet_know */
    uint64_t id;
    const char *cluster, *incarnation;
    uint32_t partitions;
    struct span secret;
    const char *dir; /* of this node */
    void (*on_message)(void *arg, uint64_t from, int type, struct span body);
    void (*on_link)(void *arg, uint64_t node, bool up);
    void *arg;
};

struct rnet;
struct rnet *rnet_new(const struct rnet_env *env);
void rnet_secure(struct rnet *net, struct tls *tls); /* before it starts: it calls by TLS */
void rnet_start(struct rnet *net);                   /* begins to call */
/* Somebody called, who has proved to be a node. */
void rnet_adopt(struct rnet *net, struct line line);
/* A node that is not on the roster: called, or let in, from now on. */
void rnet_know(struct rnet *net, uint64_t id, const char *name);
bool rnet_reaches(const struct rnet *net, uint64_t node);        /* what is sent now may arrive */
uint64_t rnet_reached_ms(const struct rnet *net, uint64_t node); /* for how long; 0: not */
void rnet_tell(struct rnet *net, unsigned flags);                /* to all, within RNET_ALIVE_MS */
unsigned rnet_told(const struct rnet *net, uint64_t node);
/* Version of the protocol that is spoken with a node; 0: it is not reached. And the oldest of all
 * these and of this node's own. */
uint32_t rnet_version(const struct rnet *net, uint64_t node);
uint32_t rnet_version_lowest(const struct rnet *net);
void rnet_require(struct rnet *net, uint32_t version); /* of whoever is let in from now on */
void rnet_send(struct rnet *net, uint64_t to, int type, struct span body);
size_t rnet_others(const struct rnet *net);                 /* how many there are */
uint64_t rnet_other(const struct rnet *net, size_t number); /* their ids */
size_t rnet_links(const struct rnet *net, size_t *pending); /* that are up, and bytes that wait */
void rnet_close(struct rnet *net);                          /* for good; in the next turns */
bool rnet_idle(const struct rnet *net);                     /* it has closed, and may be freed */
void rnet_free(struct rnet *net);

#endif
