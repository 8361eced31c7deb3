#include "replication/outbox.h"

#include <stdlib.h>

#include "store/base/check.h"

struct held {
    struct list_link link;
    uint64_t to, after; /* leaves when so many terms and votes are durable */
    struct buf message;
};

void outbox_init(struct outbox *outbox, void (*send)(void *arg, uint64_t to, struct span message),
                 void *arg)
{
    *outbox = (struct outbox){.send = send, .arg = arg};
    list_init(&outbox->held);
}

static void held_free(struct held *held)
{
    buf_close(&held->message);
    free(held);
}

void outbox_close(struct outbox *outbox)
{
    struct list_link *link;
    while ((link = list_pop(&outbox->held)) != NULL)
        held_free(container_of(link, struct held, link));
}

uint64_t outbox_hold(struct outbox *outbox)
{
    return ++outbox->given;
}

void outbox_release(struct outbox *outbox, uint64_t number)
{
    struct list_link *link;
    ASSERT(number > outbox->durable && number <= outbox->given);
    outbox->durable = number;
    while ((link = list_first(&outbox->held)) != NULL) {
        struct held *held = container_of(link, struct held, link);
        if (held->after > number)
            return;
        list_remove(link);
        outbox->send(outbox->arg, held->to, buf_span(&held->message));
        held_free(held);
    }
}

void outbox_put(struct outbox *outbox, uint64_t to, struct span message)
{
    if (outbox->given == outbox->durable) {
        outbox->send(outbox->arg, to, message);
        return;
    }
    struct held *held = xcalloc(1, sizeof *held);
    held->to = to;
    held->after = outbox->given;
    buf_add_span(&held->message, message);
    list_push(&outbox->held, &held->link);
}
