#include "replication/effects.h"

#include <stdlib.h>

#include "replication/shard_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/wire.h"

void effects_init(struct effects *effects, struct shard *shards, uint32_t partitions)
{
    *effects = (struct effects){.shards = shards, .partitions = partitions};
    list_init(&effects->waiting);
    list_init(&effects->flying);
    map_init(&effects->away);
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
    map_close(&effects->away);
    buf_close(&effects->write);
}

static struct map_key flight_key(uint64_t flight)
{
    return (struct map_key){flight, 0};
}

static int ask_leader(struct effects *effects, struct owed *owed)
{
    uint64_t leader = effects->leader(effects->arg, owed->partition);
    if (leader == 0 || leader == effects->self)
        return ERR_NOT_LEADER;
    struct write_view write = {.id = effects->flights + 1,
                               .partition = owed->partition,
                               .command = buf_span(&owed->command)};
    effects->write.n = 0;
    write_pack(&write, &effects->write);
    if (!effects->send(effects->arg, leader, buf_span(&effects->write)))
        return ERR_NOT_LEADER;
    bool fresh;
    owed->via = leader;
    owed->flight = ++effects->flights;
    map_put(&effects->away, flight_key(owed->flight), &fresh)->p = owed;
    return 0;
}

void effects_put(struct effects *effects, struct owed *owed)
{
    struct waiter waiter = {.kind = WAITER_OUT, .owner = owed};
    int err = ERR_NOT_LEADER;
    if (owed->partition < effects->partitions) {
        struct shard *shard = &effects->shards[owed->partition];
        if (shard->serving || effects->self == 0)
            err = shard_write(shard, buf_span(&owed->command), waiter);
        else
            err = ask_leader(effects, owed);
    }
    list_push(err == 0 ? &effects->flying : &effects->waiting, &owed->link);
}

void effects_answer(struct effects *effects, struct owed *owed, const struct apply_result *result)
{
    list_remove(&owed->link);
    /* ERR_AGAIN: who leads there writes entries of an older version yet */
    if (result->err == ERR_NOT_LEADER || result->err == ERR_AGAIN)
        list_push(&effects->waiting, &owed->link);
    else
        shard_owed_done(owed);
}

static void landed(struct effects *effects, struct owed *owed, int err)
{
    map_remove(&effects->away, flight_key(owed->flight));
    owed->via = owed->flight = 0;
    effects_answer(effects, owed, &(struct apply_result){.err = err});
}

void effects_reply(struct effects *effects, uint64_t from, uint64_t flight, int err)
{
    union map_val *val = map_get(&effects->away, flight_key(flight));
    struct owed *owed = val != NULL ? val->p : NULL;
    if (owed != NULL && owed->via == from) /* else of a link before this one */
        landed(effects, owed, err);
}

void effects_lost(struct effects *effects, uint64_t node)
{
    struct list lost;
    list_init(&lost);
    for (struct list_link *link = list_first(&effects->flying), *next; link != NULL; link = next) {
        struct owed *owed = container_of(link, struct owed, link);
        next = list_next(&effects->flying, link);
        if (owed->via != node)
            continue;
        list_remove(link);
        list_push(&lost, link);
    }
    for (struct list_link *link = list_first(&lost), *next; link != NULL; link = next) {
        next = list_next(&lost, link);
        landed(effects, container_of(link, struct owed, link), ERR_NOT_LEADER);
    }
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
