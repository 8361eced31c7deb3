/* replication/effects.h: what commands of one partition do in another one, on its way there: to the
 * shard that leads it, tried again until it was taken; see shard_owed.c for who owes it.
 * Thread: the loop's. */
#ifndef LOQUAT_REPLICATION_EFFECTS_H
#define LOQUAT_REPLICATION_EFFECTS_H

#include "replication/shard.h"

struct effects {
    struct shard *shards;
    uint32_t partitions;
    struct list waiting, flying; /* could not be handed over yet; being applied */
};

void effects_init(struct effects *effects, struct shard *shards, uint32_t partitions);
void effects_close(struct effects *effects);                  /* those that are left are freed */
void effects_put(struct effects *effects, struct owed *owed); /* becomes theirs */
void effects_answer(struct effects *effects, struct owed *owed, const struct apply_result *result);
void effects_retry(struct effects *effects);

#endif
