/* replication/shard_inside.h: the inside of a shard, shared by shard*.c and rsnap.c only. */
#ifndef LOQUAT_REPLICATION_SHARD_INSIDE_H
#define LOQUAT_REPLICATION_SHARD_INSIDE_H

#include "replication/shard.h"
#include "store/base/check.h"

/* An answer that waits until its effects have reached other partitions. */
struct deferred {
    struct waiter waiter;
    struct apply_result result;
    size_t remaining;
};

/* shard.c */
extern const struct rcore_ops shard_core_ops;
void shard_settle(struct shard *shard, uint64_t now_ms); /* after any event */
void shard_say(struct shard *shard, uint64_t to, enum link_type type,
               const ProtobufCMessage *message);
/* Ends the process: its directory can't be read. */
NORETURN void shard_damaged(const struct shard *shard, const char *what, int err);
void shard_proposal_free(struct proposal *proposal);
/* On the apply thread, after all entries pushed so far: `call`, then `done` on the loop. */
void shard_call(struct shard *shard, struct job *job, void (*call)(struct job *),
                void (*done)(struct job *), void *owner);
/* The state machine and the log stand at `index` now, and nowhere else. */
void shard_stands_at(struct shard *shard, uint64_t index);

/* shard_start.c: of the partition there is nothing here any more, neither rows nor a log. */
void shard_begin_anew(struct shard *shard);

/* shard_owed.c: effects in other partitions. */
void shard_owe(struct shard *shard, const struct apply_out *out, struct deferred *deferred);
/* What is owed from before: read, then counted as owed (`shard->owing`) if it still leads then. */
void shard_owed_load(struct shard *shard);
void shard_owed_drop(struct shard *shard); /* it leads no more */
void shard_owed_tell(struct shard *shard); /* those delivered are taken off the list */
void shard_owed_close(struct shard *shard);

#endif
