/* replication/rsnap.h: the state of a partition, for a replica that is too far behind.
 *
 * The leader's core asks for it. Its rows are read at one moment, at which the state machine stands
 * at `index`, and go as chunks, each one when the one before was answered; what is not answered is
 * sent again. The receiver collects them beside its data DB, while all goes on as before, and from
 * time to time marks how far it is: if it starts again it asks for what comes behind the mark, from
 * the same moment, which the sender keeps while it is answered. The last chunk holds what the cores
 * have to say to each other. When the receiver's core agrees:
 *   1. "being installed" is written to the log, and synced;
 *   2. the rows collected take the place of the partition's (store/kv_stage.h), and the state
 *      machine begins anew from them;
 *   3. the log is emptied, begins behind `index`, and the note goes: one synced frame.
 * A crash before 1 leaves everything as it was; one after it is made good by the next start.
 *
 * A replica whose partition is kept elsewhere becomes nothing in the same way: by a snapshot at
 * index 0, without a row and without a configuration. It then votes for nobody, as a server that
 * has just been made, until it is taken in again. While that is done its core gets no messages and
 * no timeouts.
 *
 * Thread: the loop's; reading and collecting are jobs of the apply thread.
 * Errors: of a stream: it begins anew. Of an installation: the process ends, and tries again when
 *         it starts. */
#ifndef LOQUAT_REPLICATION_RSNAP_H
#define LOQUAT_REPLICATION_RSNAP_H

#include "replication/shard.h"

enum {
    SNAPSHOT_AGAIN_MS = 1000,    /* a chunk that was not answered is sent again */
    SNAPSHOT_GIVE_UP_MS = 60000, /* nothing was answered, or came, for so long: the other is gone */
};

/* rsnap_out.c. The core wants this message and a snapshot sent; lent. */
void rsnap_send(struct shard *shard, const Loquat__Raft *message);
void rsnap_reply(struct shard *shard, const Loquat__ChunkReply *reply, uint64_t now_ms);
uint64_t rsnap_held(const struct shard *shard); /* the log must keep what is behind this index */
void rsnap_tick(struct shard *shard, uint64_t now_ms);
bool rsnap_out_idle(const struct shard *shard); /* no job of it is under way */
void rsnap_out_close(struct shard *shard);

/* rsnap_in.c */
void rsnap_chunk(struct shard *shard, const Loquat__Chunk *chunk);
void rsnap_in_tick(struct shard *shard, uint64_t now_ms);
void rsnap_install(struct shard *shard, const struct rlog_snapshot *snapshot); /* the core agrees */
bool rsnap_installing(const struct shard *shard);
/* What there is of the partition goes, since who leads in `term` said so. */
void rsnap_leave(struct shard *shard, uint64_t term);
bool rsnap_leaving(const struct shard *shard);
bool rsnap_in_idle(const struct shard *shard);
int rsnap_finish(struct shard *shard); /* at start, before the rest: what was cut short */
void rsnap_in_close(struct shard *shard);

#endif
