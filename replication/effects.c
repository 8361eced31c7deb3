#include "replication/effects.h"

#include <stdlib.h>

#include "replication/shard_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"

void effects_init(struct effects *effects, struct shard *shards, uint32_t partitions)
{
    *effects = (struct effects){.shards = shards, .partitions = partitions};
    list_init(&effects->waiting);
    list_init(&effects->flying);
}

static void free_all(struct list *list)
{
    for (struct list_link *link = list_first(list), *next; link != NULL; link = next) {
        struct owed *owed = container_of(link, struct owed, link);
        next = list_next(list, link);
        if (owed->deferred != NULL && --owed->deferred->remaining == 0)
            free(owed->deferred);
        buf_close(&owed->command);
        free(owed);
    }
    list_init(list);
}

void effects_close(struct effects *effects)
{
    free_all(&effects->waiting);
    free_all(&effects->flying);
}

void effects_put(struct effects *effects, struct owed *owed)
{
    struct waiter waiter = {.kind = WAITER_OUT, .owner = owed};
    int err = ERR_NOT_LEADER;
    if (owed->partition < effects->partitions)
        err = shard_write(&effects->shards[owed->partition], buf_span(&owed->command), waiter);
    list_push(err == 0 ? &effects->flying : &effects->waiting, &owed->link);
}

void effects_answer(struct effects *effects, struct owed *owed, const struct apply_result *result)
{
    list_remove(&owed->link);
    if (result->err == ERR_NOT_LEADER)
        list_push(&effects->waiting, &owed->link);
    else
        shard_owed_done(owed);
}

void effects_retry(struct effects *effects)
{
    struct list again;
    list_init(&again);
    struct list_link *link;
    while ((link = list_pop(&effects->waiting)) != NULL)
        list_push(&again, link);
    while ((link = list_pop(&again)) != NULL) {
        struct owed *owed = container_of(link, struct owed, link);
        if (shard_owed_stale(owed))
            shard_owed_forget(owed);
        else
            effects_put(effects, owed);
    }
}
