/* replication/effects.h: what commands of one partition do in another one, on its way there: to the
 * shard that leads it, here or on another node, tried again until it was taken; see shard_owed.c
 * for who owes it.
 * Thread: the loop's. */
#ifndef LOQUAT_REPLICATION_EFFECTS_H
#define LOQUAT_REPLICATION_EFFECTS_H

#include "replication/shard.h"
#include "store/base/map.h"

struct effects {
    struct shard *shards;
    uint32_t partitions;
    struct list waiting, flying; /* could not be handed over yet; being applied */
    struct map away;             /* number of the flight → owed: of those, at other nodes */
    uint64_t flights;
    uint64_t self; /* the node; 0: there are no others, and the next three are not used */
    uint64_t (*leader)(void *arg, uint32_t partition); /* the node that leads it; 0: not known */
    /* Asks `to`, with a packed Write; false: not now. effects_reply comes, or effects_lost. */
    bool (*send)(void *arg, uint64_t to, struct span write);
    void *arg;
    struct buf write; /* being packed */
};

void effects_init(struct effects *effects, struct shard *shards, uint32_t partitions);
void effects_close(struct effects *effects);                  /* those that are left are freed */
void effects_put(struct effects *effects, struct owed *owed); /* becomes theirs */
void effects_answer(struct effects *effects, struct owed *owed, const struct apply_result *result);
void effects_reply(struct effects *effects, uint64_t from, uint64_t flight, int err);
void effects_lost(struct effects *effects, uint64_t node); /* it answers nothing any more */
void effects_retry(struct effects *effects);

#endif
