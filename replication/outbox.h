/* replication/outbox.h: one replica's messages to the others. A vote or a term that is forgotten
 * could be given twice: what is said after one was given leaves when that one is durable, in order.
 * Thread: the loop's. */
#ifndef LOQUAT_REPLICATION_OUTBOX_H
#define LOQUAT_REPLICATION_OUTBOX_H

#include "store/base/buf.h"

struct outbox {
    void (*send)(void *arg, uint64_t to, struct span message);
    void *arg;
    struct outbox_held *first, **end; /* what waits, oldest first */
    uint64_t given, durable;          /* terms and votes, counted */
};

void outbox_init(struct outbox *outbox, void (*send)(void *arg, uint64_t to, struct span message),
                 void *arg);
void outbox_close(struct outbox *outbox);
/* A term or vote was given; the number to release it with. */
uint64_t outbox_hold(struct outbox *outbox);
void outbox_release(struct outbox *outbox, uint64_t number); /* it is durable, and all before it */
void outbox_put(struct outbox *outbox, uint64_t to, struct span message); /* copied if it waits */

#endif
