#include "replication/outbox.h"

#include <stdlib.h>

#include "store/base/check.h"

struct outbox_held {
    struct outbox_held *next;
    uint64_t to, after; /* leaves when so many terms and votes are durable */
    struct buf message;
};

void outbox_init(struct outbox *outbox, void (*send)(void *arg, uint64_t to, struct span message),
                 void *arg)
{
    *outbox = (struct outbox){.send = send, .arg = arg};
    outbox->end = &outbox->first;
}

static void drop_first(struct outbox *outbox)
{
    struct outbox_held *held = outbox->first;
    outbox->first = held->next;
    if (outbox->first == NULL)
        outbox->end = &outbox->first;
    buf_close(&held->message);
    free(held);
}

void outbox_close(struct outbox *outbox)
{
    while (outbox->first != NULL)
        drop_first(outbox);
}

uint64_t outbox_hold(struct outbox *outbox)
{
    return ++outbox->given;
}

void outbox_release(struct outbox *outbox, uint64_t number)
{
    ASSERT(number > outbox->durable && number <= outbox->given);
    outbox->durable = number;
    while (outbox->first != NULL && outbox->first->after <= number) {
        outbox->send(outbox->arg, outbox->first->to, buf_span(&outbox->first->message));
        drop_first(outbox);
    }
}

void outbox_put(struct outbox *outbox, uint64_t to, struct span message)
{
    if (outbox->given == outbox->durable) {
        outbox->send(outbox->arg, to, message);
        return;
    }
    struct outbox_held *held = xcalloc(1, sizeof *held);
    held->to = to;
    held->after = outbox->given;
    buf_add_span(&held->message, message);
    *outbox->end = held;
    outbox->end = &held->next;
}
