/* replication/shard_owed.c: effects that other partitions must get. The rows that say so are every
 * replica's; the one that leads delivers them, again after each election: at least once, and what
 * they do is the same the second time. */
#include <stdlib.h>

#include "replication/shard_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"

enum { DONE_BATCH_MAX = 256 };

void shard_owe(struct shard *shard, const struct apply_out *out, struct deferred *deferred)
{
    struct owed *owed = xcalloc(1, sizeof *owed);
    owed->source = shard;
    owed->term = rcore_term(shard->core);
    owed->number = out->number;
    owed->partition = out->partition;
    buf_add_span(&owed->command, out->command);
    owed->deferred = deferred;
    shard->unfinished++;
    shard->env->on_owed(shard->env->arg, owed);
}

/* ---- what is owed from before ---- */

static void call_load(struct job *job)
{
    struct shard *shard = job->owner;
    shard->found_err = apply_outs(shard->apply, &shard->found);
}

static void on_loaded(struct job *job)
{
    struct shard *shard = job->owner;
    bool leads = rcore_state(shard->core) == RCORE_LEADER;
    shard->loading = false;
    if (shard->found_err != 0)
        shard_damaged(shard,
                      "what is owed to other partitions can't be read; restore the "
                      "directory from a backup",
                      shard->found_err);
    if (leads && rcore_term(shard->core) == job->tag) {
        shard->owing = true;
        for (size_t i = 0; i < shard->found.out_count; i++)
            shard_owe(shard, &shard->found.outs[i], NULL);
    }
    applied_close(&shard->found);
    shard_settle(shard, clock_mono_ms());
}

void shard_owed_load(struct shard *shard)
{
    if (shard->loading)
        return;
    shard->loading = true;
    applied_init(&shard->found);
    shard_call(shard, &shard->load, call_load, on_loaded, shard);
    shard->load.tag = rcore_term(shard->core);
}

void shard_owed_close(struct shard *shard)
{
    if (shard->loading)
        applied_close(&shard->found);
    free(shard->done);
}

/* ---- delivered, or no more ours to deliver ---- */

static void owed_free(struct owed *owed, int err)
{
    struct shard *shard = owed->source;
    struct deferred *deferred = owed->deferred;
    if (deferred != NULL && err != 0)
        deferred->result =
            (struct apply_result){.err = err, .msg = "the leader changed before it was seen"};
    if (deferred != NULL && --deferred->remaining == 0) {
        shard->env->on_answer(shard->env->arg, &deferred->waiter, &deferred->result);
        free(deferred);
    }
    shard->unfinished--;
    buf_close(&owed->command);
    free(owed);
}

bool shard_owed_stale(const struct owed *owed)
{
    const struct shard *shard = owed->source;
    return !shard->owing || rcore_term(shard->core) != owed->term;
}

void shard_owed_forget(struct owed *owed)
{
    owed_free(owed, ERR_NOT_LEADER);
}

void shard_owed_done(struct owed *owed)
{
    struct shard *shard = owed->source;
    if (shard->done_count == shard->done_cap) {
        shard->done_cap = shard->done_cap == 0 ? 16 : shard->done_cap * 2;
        shard->done = xrealloc(shard->done, shard->done_cap * sizeof *shard->done);
    }
    shard->done[shard->done_count++] = owed->number;
    owed_free(owed, 0);
}

void shard_owed_drop(struct shard *shard)
{
    shard->owing = false;
    shard->done_count = 0;
}

void shard_owed_tell(struct shard *shard)
{
    while (shard->done_count > 0 && shard->serving) {
        size_t n = shard->done_count < DONE_BATCH_MAX ? shard->done_count : DONE_BATCH_MAX;
        Loquat__Command command = LOQUAT__COMMAND__INIT;
        command.op = LOQUAT__OP__OP_OUT_DONE;
        command.done = shard->done + (shard->done_count - n);
        command.n_done = n;
        struct buf bytes = {0};
        command_pack(&command, &bytes);
        int err = shard_write(shard, buf_span(&bytes), (struct waiter){.kind = WAITER_NONE});
        buf_close(&bytes);
        if (err != 0)
            return; /* later */
        shard->done_count -= n;
    }
}
