/* gateway/upstream.h: a loop's link to a node that holds logs: requests by number, tails, and
 * the credit that bounds how many bytes of tails are on their way. When the link has ended another
 * may be opened.
 * Thread: the loop's.
 * Limits: UPSTREAM_CALLS_MAX requests unanswered, UPSTREAM_PENDING_MAX bytes that the node has not
 *         taken yet (above: ERR_BUSY); UPSTREAM_CREDIT bytes of tails; UPSTREAM_PAGES_MAX bytes of
 *         pages (above: they wait here for their turn).
 * Rule:   a request that returns 0 calls back exactly once, later; one that fails never does. */
#ifndef LOQUAT_GATEWAY_UPSTREAM_H
#define LOQUAT_GATEWAY_UPSTREAM_H

#include "store/base/arena.h"
#include "store/base/link.h"
#include "store/base/metrics.h"
#include "wire.pb-c.h"

enum {
    UPSTREAM_CALLS_MAX = 1 << 18,
    UPSTREAM_PENDING_MAX = 64 << 20,
    UPSTREAM_PAGES_MAX = 32 << 20, /* bytes that the pages being read may have together */
    UPSTREAM_PAGE_BYTES = 1 << 20, /* of a page that names no bound: the node's */
    UPSTREAM_CREDIT = 8 << 20,
    UPSTREAM_CREDIT_STEP = 1 << 20, /* given back when so much was taken */
};

/* `reply` lives until the return. When the link has ended it holds ERR_CLOSED. */
typedef void (*upstream_done)(void *owner, const Loquat__Reply *reply);

enum upstream_kind { UPSTREAM_WRITE, UPSTREAM_READ, UPSTREAM_PAGE, UPSTREAM_KINDS };

struct upstream_slot {
    upstream_done done; /* NULL: free */
    void *owner;
    uint64_t asked_us;
    uint8_t kind;       /* enum upstream_kind */
    uint32_t turn;      /* part of the number: a slot's old number is never taken for its new one */
    uint32_t next;      /* free, or waiting */
    uint32_t page;      /* bytes that its answer may have, counted in `pages` */
    uint32_t wait_page; /* the same, not yet counted */
    struct buf wait;    /* the request, while it waits for its turn */
};

struct upstream_ops {
    void (*on_tail)(void *arg, const Loquat__Tail *tail);
    void (*on_mark)(void *arg, const Loquat__MarkEvent *mark);
    void (*on_typing)(void *arg, const Loquat__Typing *typing);
    void (*on_presence)(void *arg, const Loquat__Presence *presence);
    void (*on_leads)(void *arg, const Loquat__Leads *leads);
    void (*on_ready)(void *arg); /* greeted: partitions and node are known */
    void (*on_closed)(void *arg);
};

struct upstream {
    struct link link;
    const struct upstream_ops *ops;
    void *arg;
    bool open, ready;
    uint32_t version;    /* that is spoken with the node */
    uint32_t partitions; /* of the node */
    char node[64];       /* what its store is called */
    struct upstream_slot *slots;
    uint32_t slot_count, slot_cap, first_free, calls;
    uint32_t first_waiting, last_waiting;
    uint64_t pages; /* bytes that may come of pages asked for */
    uint64_t credit_owed;
    struct metric_share took[UPSTREAM_KINDS]; /* from the request to its answer */
    struct arena arena;
    struct buf command, write; /* being packed */
    uint64_t block_us;         /* when the block of answers at hand came; 0: none */
};

void upstream_init(struct upstream *up, const struct upstream_ops *ops, void *arg);
/* A link through `line`, which becomes the link's. ERR_IO: on_closed follows as well. */
int upstream_open(struct upstream *up, uv_loop_t *loop, struct line line);
void upstream_close(struct upstream *up); /* on_closed follows, when a link is open */
void upstream_free(struct upstream *up);  /* after on_closed */

int upstream_write(struct upstream *up, uint32_t partition, const Loquat__Command *command,
                   upstream_done done, void *owner);
int upstream_read(struct upstream *up, Loquat__Read *read, upstream_done done, void *owner);
/* The same, packed before: a command; a Read without its number, of this kind, the answer to which
 * may have so many bytes. */
int upstream_write_packed(struct upstream *up, uint32_t partition, struct span command,
                          upstream_done done, void *owner);
int upstream_read_packed(struct upstream *up, enum upstream_kind kind, uint32_t page,
                         struct span read, upstream_done done, void *owner);
enum upstream_kind upstream_kind_of(const Loquat__Read *read);
uint32_t upstream_page_of(const Loquat__Read *read);
/* These two: to a node that is of an older version, nothing. */
void upstream_typing(struct upstream *up, const Loquat__Typing *typing);
void upstream_watch(struct upstream *up, const Loquat__Watch *watch);
void upstream_sub(struct upstream *up, const Loquat__Sub *sub);
void upstream_unsub(struct upstream *up, const Loquat__Unsub *unsub);

#endif
