/* replication/applier.h: the apply thread. Jobs are done in the order given; answers come back on
 * the loop thread, in the same order. One RocksDB batch covers as many entries as wait.
 * Owner:  the caller owns jobs; a pushed job is the applier's until `done` is called with it.
 * Errors: an entry that can't be applied ends the process with a message: to go on would make this
 *         replica differ from the others. */
#ifndef LOQUAT_REPLICATION_APPLIER_H
#define LOQUAT_REPLICATION_APPLIER_H

#include <uv.h>

#include "store/apply.h"

enum {
    APPLIER_BATCH_BYTES_MAX = 1 << 20,
    APPLIER_BATCH_ENTRIES_MAX = 64,
    APPLIER_BATCH_COMMANDS_MAX = 128, /* their answers leave while the next ones are applied */
};

enum job_kind { JOB_ENTRY, JOB_NOTHING, JOB_READ, JOB_CALL };

struct job {
    enum job_kind kind;
    struct apply *apply;
    uint64_t index, term;
    struct span payload;           /* JOB_ENTRY: lent until done */
    struct applied applied;        /* JOB_ENTRY: the outcome */
    struct buf read, reply;        /* JOB_READ: packed Loquat__Read in, packed Loquat__Reply out */
    uint64_t now_ms;               /* JOB_READ */
    void (*call)(struct job *job); /* JOB_CALL: on the apply thread, between batches */
    void (*done)(struct job *job);
    void *owner;
    uint64_t tag; /* the caller's */
    struct job *next;
};

struct applier;
struct applier *applier_new(uv_loop_t *loop, struct kv *kv);
void applier_push(struct applier *applier, struct job *job);
void applier_kick(struct applier *applier); /* once per loop turn: hands over what was pushed */
size_t applier_waiting(const struct applier *applier); /* jobs whose `done` has not come */
bool applier_idle(const struct applier *applier);
void applier_stop(struct applier *applier, uv_close_cb on_closed, void *data); /* must be idle */
void applier_free(struct applier *applier);

/* Packs an answer; one that no message of a link can hold becomes ERR_TOO_LARGE. */
void answer_pack(Loquat__Reply *reply, uint64_t id, int err, struct buf *out);

#endif
