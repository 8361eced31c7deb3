#include "replication/shard.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/command.h"

enum {
    DONE_BATCH_MAX = 256,
    WARM_AGAIN_MS = 1000, /* what has been read may have become too small */
    COMMAND_COST = 64,    /* what a command that waits takes beside its bytes */
};

/* An answer that waits until its effects have reached other partitions. */
struct deferred {
    struct waiter waiter;
    struct apply_result result;
    size_t remaining;
};

/* ---- what consensus asks for ---- */

static void on_hard_durable(void *arg, uint64_t number, uint64_t unused)
{
    (void)unused;
    outbox_release(&((struct shard *)arg)->outbox, number);
}

static void on_hard_state(void *arg, uint64_t term, uint64_t voted_for)
{
    struct shard *shard = arg;
    rlog_put_hard(&shard->log, wal_batch(shard->env->wal), term, voted_for);
    wal_notify(shard->env->wal, on_hard_durable, shard, outbox_hold(&shard->outbox), 0);
}

static void on_message(void *arg, Loquat__Raft *message)
{
    struct shard *shard = arg;
    message->partition = shard->partition;
    shard->message.n = 0;
    size_t size = loquat__raft__get_packed_size(message);
    loquat__raft__pack(message, (uint8_t *)buf_grow(&shard->message, size));
    outbox_put(&shard->outbox, message->to, buf_span(&shard->message));
}

/* Of an entry that was applied here long ago the payload is on disk only. */
static struct rcore_entry on_entry(void *arg, uint64_t index)
{
    struct shard *shard = arg;
    const struct rlog_entry *entry = rlog_get(&shard->log, index);
    ASSERT(entry != NULL);
    if (entry->bytes != NULL)
        return (struct rcore_entry){entry->term, entry->type, span_of(entry->bytes, entry->size)};
    int err = rlog_read(&shard->log, shard->env->raft, index, &shard->payload);
    if (err != 0)
        log_fatal("the raft log can't be read back; restore the directory from a backup",
                  err_name(err));
    return (struct rcore_entry){entry->term, entry->type, buf_span(&shard->payload)};
}

static void on_durable(void *arg, uint64_t index, uint64_t term)
{
    struct shard *shard = arg;
    if (rlog_term_at(&shard->log, index) != term)
        return; /* replaced meanwhile: that write will be told of too */
    watermark_put(shard->env->mark, shard->partition, term, index);
    rcore_persisted(shard->core, index, clock_mono_us() / 1000);
}

static void on_entries(void *arg, uint64_t index, const struct rcore_entry *entries, size_t count)
{
    struct shard *shard = arg;
    rlog_put_entries(&shard->log, wal_batch(shard->env->wal), index, entries, count);
    wal_notify(shard->env->wal, on_durable, shard, index + count - 1, entries[count - 1].term);
}

static void on_state(void *arg, enum rcore_state state)
{
    struct shard *shard = arg;
    shard->serving = false;
    if (state == RCORE_LEADER)
        shard->term_start = UINT64_MAX; /* set in settle: the core is in a step now */
}

static void on_commit(void *arg, uint64_t commit)
{
    ((struct shard *)arg)->committed = commit;
}

static const struct rcore_ops core_ops = {
    .on_hard_state = on_hard_state,
    .on_entries = on_entries,
    .on_state = on_state,
    .on_commit = on_commit,
    .on_message = on_message,
    .entry = on_entry,
};

/* ---- proposals ---- */

static struct proposal *proposal_new(void)
{
    return xcalloc(1, sizeof(struct proposal));
}

static void proposal_free(struct proposal *proposal)
{
    buf_close(&proposal->entry);
    free(proposal->waiters);
    free(proposal);
}

static void close_open(struct shard *shard)
{
    if (shard->open == NULL)
        return;
    list_push(&shard->ready, &shard->open->link);
    shard->open = NULL;
}

static int busy(void)
{
    bound_hit(BOUND_SHARD_WAITING);
    return ERR_BUSY;
}

int shard_write(struct shard *shard, struct span command, struct waiter waiter)
{
    if (!shard->serving)
        return ERR_NOT_LEADER;
    if (command.n > COMMAND_BYTES_MAX)
        return ERR_TOO_LARGE;
    if (shard->waiting_bytes + command.n + COMMAND_COST > SHARD_WAITING_MAX)
        return busy();
    struct proposal *open = shard->open;
    if (open != NULL && (open->entry.n + command.n > ENTRY_BYTES_TARGET ||
                         open->waiter_count == ENTRY_COMMANDS_MAX)) {
        close_open(shard);
        open = NULL;
    }
    if (open == NULL) {
        open = shard->open = proposal_new();
        entry_begin(&open->entry, clock_wall_ms());
    }
    entry_add(&open->entry, command);
    if (open->waiter_count == open->waiter_cap) {
        open->waiter_cap = open->waiter_cap == 0 ? 16 : open->waiter_cap * 2;
        open->waiters = xrealloc(open->waiters, open->waiter_cap * sizeof *open->waiters);
    }
    open->waiters[open->waiter_count++] = waiter;
    open->bytes += command.n + COMMAND_COST;
    shard->waiting_bytes += command.n + COMMAND_COST;
    shard->unfinished++;
    return 0;
}

static void answer_all(struct shard *shard, struct proposal *proposal, int err)
{
    struct apply_result result = {.err = err, .msg = "the partition has no leader here just now"};
    for (size_t i = 0; i < proposal->waiter_count; i++) {
        shard->unfinished--;
        shard->env->on_answer(shard->env->arg, &proposal->waiters[i], &result);
    }
}

static void submit_ready(struct shard *shard, uint64_t now_ms)
{
    struct list_link *link;
    while (shard->inflight_count < SHARD_INFLIGHT_MAX &&
           (link = list_first(&shard->ready)) != NULL) {
        struct proposal *proposal = container_of(link, struct proposal, link);
        uint64_t index = rcore_last_index(shard->core) + 1;
        if (rcore_submit(shard->core, buf_span(&proposal->entry), now_ms) != 0)
            return; /* tried again next turn, or answered when leadership is lost */
        list_remove(link);
        shard->waiting_bytes -= proposal->bytes;
        proposal->index = index;
        buf_close(&proposal->entry);
        list_push(&shard->inflight, &proposal->link);
        shard->inflight_count++;
    }
}

/* ---- applying ---- */

static void give_owed(struct shard *shard, const struct apply_out *out, struct deferred *deferred)
{
    struct owed *owed = xcalloc(1, sizeof *owed);
    owed->source = shard;
    owed->number = out->number;
    owed->partition = out->partition;
    buf_add_span(&owed->command, out->command);
    owed->deferred = deferred;
    shard->unfinished++;
    shard->env->on_owed(shard->env->arg, owed);
}

/* The answers of one entry: at once, or when the effects of a command have arrived. */
static void answer(struct shard *shard, struct proposal *proposal, const struct applied *applied)
{
    struct deferred **deferred = NULL;
    if (applied->out_count > 0)
        deferred = xcalloc(applied->result_count, sizeof(struct deferred *));
    if (proposal != NULL) {
        ASSERT(proposal->waiter_count == applied->result_count);
        for (size_t i = 0; i < proposal->waiter_count; i++) {
            const struct apply_result *result = &applied->results[i];
            shard->unfinished--;
            if (result->outs == 0) {
                shard->env->on_answer(shard->env->arg, &proposal->waiters[i], result);
                continue;
            }
            ASSERT(deferred != NULL); /* outs are counted where they are listed */
            struct deferred *waits = xcalloc(1, sizeof *waits);
            *waits = (struct deferred){proposal->waiters[i], *result, result->outs};
            deferred[i] = waits;
        }
    }
    for (size_t i = 0; deferred != NULL && i < applied->out_count; i++)
        give_owed(shard, &applied->outs[i], deferred[applied->outs[i].result]);
    free(deferred);
}

static void on_entry_applied(struct job *job)
{
    struct shard *shard = job->owner;
    shard->applied = job->index;
    struct proposal *proposal = NULL;
    struct list_link *link = list_first(&shard->inflight);
    if (link != NULL && container_of(link, struct proposal, link)->index == job->index) {
        proposal = container_of(link, struct proposal, link);
        list_remove(link);
        shard->inflight_count--;
    }
    if (job->kind == JOB_ENTRY) {
        shard->env->on_applied(shard->env->arg, shard, &job->applied);
        answer(shard, proposal, &job->applied);
    }
    if (proposal != NULL)
        proposal_free(proposal);
    if (job->index >= shard->log.first)
        rlog_drop_payload(&shard->log, job->index);
    applied_close(&job->applied);
    free(job);
}

static void push_entry(struct shard *shard, uint64_t index, const struct rlog_entry *entry)
{
    struct job *job = xcalloc(1, sizeof *job);
    applied_init(&job->applied);
    job->kind = entry->type == RCORE_COMMAND ? JOB_ENTRY : JOB_NOTHING;
    job->apply = shard->apply;
    job->index = index;
    job->term = entry->term;
    job->payload = span_of(entry->bytes, entry->size);
    job->done = on_entry_applied;
    job->owner = shard;
    applier_push(shard->env->applier, job);
}

/* Hands committed entries that are in the own durable log to the applier. */
static void apply_committed(struct shard *shard, uint64_t now_ms)
{
    uint64_t stored = rcore_last_stored(shard->core);
    uint64_t upto = shard->committed < stored ? shard->committed : stored;
    while (shard->pushed < upto) {
        uint64_t index = shard->pushed + 1;
        const struct rlog_entry *entry = rlog_get(&shard->log, index);
        ASSERT(entry != NULL);
        shard->pushed = index;
        if (entry->type == RCORE_CHANGE) {
            struct span conf = span_of(entry->bytes, entry->size);
            rlog_set_conf(&shard->log, index, conf);
            rcore_configured(shard->core, index, conf, now_ms);
        }
        if (index > shard->applied_at_start)
            push_entry(shard, index, entry);
    }
}

static void drop_list(struct shard *shard, struct list *list)
{
    struct list dropped; /* answering may put new ones into the list */
    list_init(&dropped);
    struct list_link *link;
    while ((link = list_pop(list)) != NULL)
        list_push(&dropped, link);
    while ((link = list_pop(&dropped)) != NULL) {
        struct proposal *proposal = container_of(link, struct proposal, link);
        answer_all(shard, proposal, ERR_NOT_LEADER);
        proposal_free(proposal);
    }
}

static void drop_all(struct shard *shard)
{
    close_open(shard);
    shard->inflight_count = shard->waiting_bytes = 0;
    drop_list(shard, &shard->ready);
    drop_list(shard, &shard->inflight);
}

/* After any event: applies what may be, and begins or ceases to serve. */
static void settle(struct shard *shard, uint64_t now_ms)
{
    apply_committed(shard, now_ms);
    bool leads = rcore_state(shard->core) == RCORE_LEADER;
    if (leads && shard->term_start == UINT64_MAX)
        shard->term_start = rcore_last_index(shard->core);
    if (leads && !shard->serving && shard->applied >= shard->term_start) {
        shard->serving = true;
        shard->env->on_state(shard->env->arg, shard);
    }
    if (!leads &&
        (shard->open != NULL || !list_empty(&shard->ready) || !list_empty(&shard->inflight)))
        drop_all(shard);
}

/* ---- effects delivered ---- */

void shard_owed_done(struct shard *shard, struct owed *owed)
{
    if (shard->done_count == shard->done_cap) {
        shard->done_cap = shard->done_cap == 0 ? 16 : shard->done_cap * 2;
        shard->done = xrealloc(shard->done, shard->done_cap * sizeof *shard->done);
    }
    shard->done[shard->done_count++] = owed->number;
    struct deferred *deferred = owed->deferred;
    if (deferred != NULL && --deferred->remaining == 0) {
        shard->env->on_answer(shard->env->arg, &deferred->waiter, &deferred->result);
        free(deferred);
    }
    shard->unfinished--;
    buf_close(&owed->command);
    free(owed);
}

static void drop_done(struct shard *shard)
{
    while (shard->done_count > 0) {
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

/* ---- warming: after a start, and as the partition grows ---- */

static void call_warm(struct job *job)
{
    struct shard *shard = job->owner;
    bool done = false;
    int err = 0;
    shard->sizes_next = apply_sizes(shard->apply);
    if (!shard->warm_failed)
        err = apply_warm(shard->apply, &done);
    job->tag = done || shard->warm_failed ? WARM_AGAIN_MS : 0;
    if (err == 0)
        return;
    log_warn("the table of cids can't be read; writes go on, slower: run `loquat-compact verify`",
             {"partition", log_int(shard->partition)}, {"err", log_str(err_name(err))});
    job->tag = UINT64_MAX;
}

static void on_warm(struct job *job)
{
    struct shard *shard = job->owner;
    shard->warming = false;
    shard->sizes = shard->sizes_next;
    shard->warm_failed = shard->warm_failed || job->tag == UINT64_MAX;
    shard->warm_ms = clock_mono_us() / 1000 + (shard->warm_failed ? WARM_AGAIN_MS : job->tag);
}

static void warm_some(struct shard *shard, uint64_t now_ms)
{
    if (shard->warming || now_ms < shard->warm_ms)
        return;
    shard->warming = true;
    shard->warm = (struct job){.kind = JOB_CALL, .call = call_warm, .done = on_warm};
    shard->warm.owner = shard;
    applier_push(shard->env->applier, &shard->warm);
}

/* ---- the loop's calls ---- */

int shard_receive(struct shard *shard, const Loquat__Raft *message, uint64_t now_ms)
{
    int err = rcore_receive(shard->core, message, now_ms);
    settle(shard, now_ms);
    return err;
}

void shard_turn(struct shard *shard, uint64_t now_ms)
{
    if (shard->done_count > 0 && shard->serving)
        drop_done(shard);
    if (shard->inflight_count < SHARD_INFLIGHT_MAX)
        close_open(shard);
    submit_ready(shard, now_ms);
    settle(shard, now_ms);
}

void shard_tick(struct shard *shard, uint64_t now_ms)
{
    if (now_ms >= rcore_next_ms(shard->core))
        rcore_timeout(shard->core, now_ms);
    settle(shard, now_ms);
    warm_some(shard, now_ms);
}

void shard_trim(struct shard *shard, struct kv *data, uint64_t now_ms)
{
    uint64_t index = 0, term = 0;
    int err = apply_flushed_index(data, shard->partition, &index, &term);
    if (err != 0) {
        log_warn("the flushed index could not be read; the raft log is kept",
                 {"partition", log_int(shard->partition)}, {"err", log_str(err_name(err))});
        return;
    }
    shard->unflushed_bytes = rlog_bytes(&shard->log, index, shard->applied);
    shard->flushed = index;
    if (index <= shard->log.snapshot_index + SHARD_TRAILING || index > shard->applied ||
        rlog_term_at(&shard->log, index) == 0 || shard->log.conf.n == 0)
        return;
    uint64_t upto = index - SHARD_TRAILING;
    term = rlog_term_at(&shard->log, index);
    struct buf conf = {0};
    buf_add_span(&conf, buf_span(&shard->log.conf));
    rlog_trim(&shard->log, wal_batch(shard->env->wal), index, term, upto);
    rcore_snapshot(shard->core, index, term, shard->log.conf_index, buf_span(&conf), SHARD_TRAILING,
                   now_ms);
    buf_close(&conf);
}

bool shard_idle(const struct shard *shard)
{
    return shard->unfinished == 0 && shard->done_count == 0 && shard->applied == shard->pushed;
}

/* ---- start and end ---- */

/* Effects owed from before: their rows are still there. */
static int load_owed(struct shard *shard)
{
    struct applied applied;
    applied_init(&applied);
    int err = apply_outs(shard->apply, &applied);
    for (size_t i = 0; err == 0 && i < applied.out_count; i++)
        give_owed(shard, &applied.outs[i], NULL);
    applied_close(&applied);
    return err;
}

static int check_log(struct shard *shard)
{
    uint64_t applied = apply_index(shard->apply);
    if (applied > rlog_last(&shard->log) || applied < shard->log.snapshot_index) {
        log_error("the two databases of the node do not fit together",
                  {"partition", log_int(shard->partition)}, {"applied", log_int((int64_t)applied)},
                  {"log_first", log_int((int64_t)shard->log.first)},
                  {"log_last", log_int((int64_t)rlog_last(&shard->log))});
        return ERR_CORRUPT;
    }
    return 0;
}

/* The log must reach as far as was synced once. One that ends in a later term may be shorter: there
 * a leader replaced the tail. */
static int check_watermark(const struct shard *shard)
{
    uint64_t term = 0, index = 0, last = rlog_last(&shard->log);
    uint64_t last_term = rlog_term_at(&shard->log, last);
    int err = watermark_get(shard->env->mark, shard->partition, &term, &index);
    if (err == ERR_NOT_FOUND)
        return 0;
    if (err != 0) {
        log_warn("the watermark of the raft log is damaged: what a damaged log lost is not seen",
                 {"partition", log_int(shard->partition)}, {"err", log_str(err_name(err))});
        return 0;
    }
    if (last_term > term || (last_term == term && last >= index))
        return 0;
    log_error(
        "the raft log has lost entries that were synced; restore the directory from a backup, "
        "or remove its WATERMARK to go on without them",
        {"partition", log_int(shard->partition)}, {"ends_at", log_int((int64_t)last)},
        {"synced", log_int((int64_t)index)});
    return ERR_CORRUPT;
}

int shard_start(struct shard *shard, uint32_t partition, uint32_t partitions, struct kv *raft,
                struct kv *data, const struct shard_env *env)
{
    *shard = (struct shard){.partition = partition, .env = env};
    list_init(&shard->ready);
    list_init(&shard->inflight);
    outbox_init(&shard->outbox, env->on_message, env->arg);
    int err = rlog_load(&shard->log, raft, partition);
    if (err == 0)
        err = check_watermark(shard);
    if (err == 0)
        err = apply_open(data, partition, partitions, &shard->apply);
    if (err == 0)
        err = check_log(shard);
    if (err == 0)
        err = load_owed(shard);
    if (err != 0)
        return err;
    struct rlog *log = &shard->log;
    struct rcore_entry *entries = xcalloc(log->count, sizeof *entries);
    for (size_t i = 0; i < log->count; i++) {
        const struct rlog_entry *entry = rlog_get(log, log->first + i);
        entries[i] =
            (struct rcore_entry){entry->term, entry->type, span_of(entry->bytes, entry->size)};
    }
    uint64_t now_ms = clock_mono_us() / 1000;
    char address[24];
    snprintf(address, sizeof address, "%llu", (unsigned long long)env->id);
    struct rcore_start start = {
        .id = env->id,
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
    shard->pushed = log->snapshot_index;
    shard->applied = shard->applied_at_start = apply_index(shard->apply);
    shard->core = rcore_new(&start, &core_ops, shard);
    free(entries);
    for (uint64_t i = log->first; i <= shard->applied && i <= rlog_last(log); i++)
        rlog_drop_payload(log, i);
    settle(shard, now_ms);
    return 0;
}

static void free_proposals(struct list *list)
{
    for (struct list_link *link = list_first(list), *next; link != NULL; link = next) {
        next = list_next(list, link);
        proposal_free(container_of(link, struct proposal, link));
    }
}

void shard_close(struct shard *shard)
{
    rcore_free(shard->core);
    close_open(shard);
    free_proposals(&shard->ready);
    free_proposals(&shard->inflight);
    outbox_close(&shard->outbox);
    rlog_close(&shard->log);
    buf_close(&shard->message);
    buf_close(&shard->payload);
    apply_close(shard->apply);
    free(shard->done);
}
