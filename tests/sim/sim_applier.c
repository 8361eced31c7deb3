/* tests/sim/sim_applier.c: replication/applier.h: jobs in groups, each done after some time. */
#include <stdlib.h>

#include "store/base/check.h"
#include "tests/sim/world.h"

struct applier {
    struct kv *kv;
    struct kv_batch batch;
    struct job *first, **end;
    uint64_t due_ms;
};

struct applier *applier_new(uv_loop_t *loop, struct kv *kv)
{
    (void)loop;
    struct applier *applier = xcalloc(1, sizeof *applier);
    applier->kv = kv;
    applier->end = &applier->first;
    kv_batch_init(&applier->batch, kv);
    return applier;
}

void applier_push(struct applier *applier, struct job *job)
{
    if (applier->first == NULL)
        applier->due_ms = sim_now_ms + sim_roll(5);
    job->next = NULL;
    *applier->end = job;
    applier->end = &job->next;
}

uint64_t sim_applier_due(const struct applier *applier)
{
    return applier->first != NULL ? applier->due_ms : UINT64_MAX;
}

static struct job *pop(struct applier *applier)
{
    struct job *job = applier->first;
    applier->first = job->next;
    if (applier->first == NULL)
        applier->end = &applier->first;
    return job;
}

/* A planted bug: every replica looks at its own clock. */
static struct span entry_of(const struct job *job)
{
    static struct buf copy;
    if (!sim_mutant("own-clock"))
        return job->payload;
    copy.n = 0;
    buf_add_span(&copy, job->payload);
    put_le64(copy.p + 1, get_le64(copy.p + 1) + sim_now_ms);
    return buf_span(&copy);
}

/* Entries from the front, as many as one batch takes. */
static size_t apply_some(struct applier *applier)
{
    size_t most = 1 + sim_roll(6), n = 0;
    bool full = false;
    for (struct job *job = applier->first;
         job != NULL && n < most && !full && (job->kind == JOB_ENTRY || job->kind == JOB_NOTHING);
         job = job->next, n++) {
        int err = 0;
        if (job->kind == JOB_NOTHING)
            apply_nothing(job->apply, job->index, job->term, &applier->batch);
        else
            err = apply_entry(job->apply, job->index, job->term, entry_of(job), &applier->batch,
                              &job->applied);
        ASSERT(err == 0);
        full = job->applied.must_write;
    }
    int err = kv_write(&applier->batch);
    ASSERT(err == 0);
    return n;
}

void sim_applier_work(struct applier *applier)
{
    if (applier->first == NULL || applier->due_ms > sim_now_ms)
        return;
    struct job *job = applier->first;
    if (job->kind == JOB_CALL) {
        pop(applier);
        job->call(job);
        if (sim_kv_torn(applier->kv))
            return; /* nobody is told */
        job->done(job);
    } else {
        size_t n = apply_some(applier);
        apply_written(job->apply);
        for (; n > 0; n--) {
            job = pop(applier);
            job->done(job);
        }
    }
    applier->due_ms = sim_now_ms + sim_roll(sim_chance(sim_slow) ? 60 : 4);
}

void sim_applier_crash(struct applier *applier)
{
    while (applier->first != NULL) {
        struct job *job = pop(applier);
        if (job->kind == JOB_CALL)
            continue; /* the shard's own */
        applied_close(&job->applied);
        free(job);
    }
    kv_batch_close(&applier->batch);
    free(applier);
}
