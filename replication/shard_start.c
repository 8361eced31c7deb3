/* replication/shard_start.c: how a shard begins, from what log and database say; begins anew, when
 * its partition is kept elsewhere; and ends. */
#include <stdio.h>
#include <stdlib.h>

#include "replication/rsnap.h"
#include "replication/shard_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

static int check_log(struct shard *shard)
{
    uint64_t applied = apply_index(shard->apply);
    if (applied > rlog_last(&shard->log) || applied < shard->log.snapshot_index) {
        log_error("the raft log and the database of the node do not fit together",
                  {"partition", log_int(shard->partition)}, {"applied", log_int((int64_t)applied)},
                  {"log_first", log_int((int64_t)shard->log.first)},
                  {"log_last", log_int((int64_t)rlog_last(&shard->log))});
        return ERR_CORRUPT;
    }
    return 0;
}

int shard_check_watermark(const struct rlog *log, const struct watermark *mark)
{
    struct watermark_row row;
    uint64_t last = rlog_last(log), last_term = rlog_term_at(log, last);
    int err = watermark_get(mark, log->partition, &row);
    if (err == ERR_NOT_FOUND || (err == 0 && row.cuts < log->cuts))
        return 0;
    if (err != 0) {
        log_warn("the watermark of the raft log is damaged: what a damaged log lost is not seen",
                 {"partition", log_int(log->partition)}, {"err", log_str(err_name(err))});
        return 0;
    }
    if (row.cuts == log->cuts && last_term >= row.term && last >= row.index)
        return 0;
    log_error(
        "the raft log has lost entries that were synced; restore the directory from a backup, "
        "or remove its WATERMARK to go on without them",
        {"partition", log_int(log->partition)}, {"ends_at", log_int((int64_t)last)},
        {"synced", log_int((int64_t)row.index)});
    return ERR_CORRUPT;
}

/* After a power cut it may stand behind what the log was opened with, which is in its files now. */
static void raise_watermark(const struct shard *shard)
{
    uint64_t last = rlog_last(&shard->log);
    struct watermark_row row = {rlog_term_at(&shard->log, last), last, shard->log.cuts};
    if (last > 0)
        watermark_put(shard->env->mark, shard->partition, row);
}

static void send_raft(void *arg, uint64_t to, struct span message)
{
    struct shard *shard = arg;
    shard->env->on_message(shard->env->arg, to, LINK_RAFT, message);
}

static void start_core(struct shard *shard, uint64_t now_ms)
{
    const struct rlog *log = &shard->log;
    struct rcore_entry *entries = xcalloc(log->count, sizeof *entries);
    for (size_t i = 0; i < log->count; i++) {
        const struct rlog_entry *entry = rlog_get(log, log->first + i);
        entries[i] =
            (struct rcore_entry){entry->term, entry->type, span_of(entry->bytes, entry->size)};
    }
    char address[24];
    snprintf(address, sizeof address, "%llu", (unsigned long long)shard->env->id);
    struct rcore_start start = {
        .id = shard->env->id,
        .address = address,
        .seed = (uint32_t)random_u64(),
        .term = log->term,
        .voted_for = log->voted_for,
        .snapshot_index = log->snapshot_index,
        .snapshot_term = log->snapshot_term,
        .conf_index = log->conf_index,
        .conf = buf_span(&log->conf),
        .first_index = log->first,
        .entries = entries,
        .entry_count = log->count,
        .now_ms = now_ms,
    };
    shard->core = rcore_new(&start, &shard_core_ops, shard);
    free(entries);
}

int shard_start(struct shard *shard, struct rlog *log, uint32_t partitions,
                const struct shard_env *env)
{
    *shard = (struct shard){.partition = log->partition, .env = env, .log = *log};
    *log = (struct rlog){0};
    list_init(&shard->ready);
    list_init(&shard->inflight);
    list_init(&shard->sends);
    outbox_init(&shard->outbox, send_raft, shard);
    int err = rsnap_finish(shard);
    if (err == 0)
        err = shard_check_watermark(&shard->log, env->mark);
    if (err == 0)
        err = apply_open(env->data, shard->partition, partitions, &shard->apply);
    if (err == 0)
        err = check_log(shard);
    if (err != 0)
        return err;
    log = &shard->log;
    shard->pushed = log->snapshot_index;
    shard->cuts_durable = log->cuts;
    shard->applied = shard->applied_at_start = apply_index(shard->apply);
    uint64_t now_ms = clock_mono_ms();
    start_core(shard, now_ms);
    raise_watermark(shard);
    for (uint64_t i = log->first; i <= shard->applied && i <= rlog_last(log); i++)
        rlog_drop_payload(log, i);
    shard->held_from = shard->applied + 1;
    shard_settle(shard, now_ms);
    return 0;
}

void shard_leave(struct shard *shard, uint64_t term, uint64_t conf_index)
{
    const struct rcore *core = shard->core;
    if (!shard_holds(shard) || rcore_state(core) == RCORE_LEADER || term < rcore_term(core) ||
        conf_index < rcore_conf_index(core))
        return; /* or it was said before this node was taken in again */
    if (rsnap_installing(shard) || !list_empty(&shard->sends) || shard->loading)
        return;
    rsnap_leave(shard, term);
}

void shard_begin_anew(struct shard *shard)
{
    uint64_t now_ms = clock_mono_ms();
    rcore_free(shard->core);
    shard->committed = shard->heard_ms = shard->trimmed_at = shard->unflushed_bytes = 0;
    shard->held = 0;
    shard->held_from = 1;
    shard_stands_at(shard, 0);
    start_core(shard, now_ms);
    shard_settle(shard, now_ms);
}

static void free_proposals(struct list *list)
{
    for (struct list_link *link = list_first(list), *next; link != NULL; link = next) {
        next = list_next(list, link);
        shard_proposal_free(container_of(link, struct proposal, link));
    }
}

void shard_close(struct shard *shard)
{
    rcore_free(shard->core);
    rsnap_out_close(shard);
    rsnap_in_close(shard);
    if (shard->open != NULL)
        shard_proposal_free(shard->open);
    free_proposals(&shard->ready);
    free_proposals(&shard->inflight);
    outbox_close(&shard->outbox);
    rlog_close(&shard->log);
    buf_close(&shard->message);
    buf_close(&shard->payload);
    apply_close(shard->apply);
    shard_owed_close(shard);
}
