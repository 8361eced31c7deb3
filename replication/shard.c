#include "replication/shard.h"

#include <stdio.h>
#include <stdlib.h>

#include "replication/rsnap.h"
#include "replication/shard_inside.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/command.h"

_Static_assert(SHARD_TRAILING > 0, "no snapshot is named at index 1: see rcore.h");

enum {
    WARM_AGAIN_MS = 1000, /* what has been read may have become too small */
    DETAIL_MAX = 4352,
    COMMAND_COST = 64, /* what a command that waits takes beside its bytes */
};

void shard_damaged(const struct shard *shard, const char *what, int err)
{
    char where[DETAIL_MAX];
    snprintf(where, sizeof where, "%s, partition %u: %s", shard->env->dir, shard->partition,
             err_name(err));
    log_fatal(what, where);
}

void shard_damaged_log(const struct shard *shard, int err)
{
    shard_damaged(shard, "the raft log can't be read back; restore the directory from a backup",
                  err);
}

/* ---- what consensus asks for ---- */

void shard_say(struct shard *shard, uint64_t to, enum link_type type,
               const ProtobufCMessage *message)
{
    shard->message.n = 0;
    size_t size = protobuf_c_message_get_packed_size(message);
    protobuf_c_message_pack(message, (uint8_t *)buf_grow(&shard->message, size));
    if (type == LINK_RAFT)
        outbox_put(&shard->outbox, to, buf_span(&shard->message));
    else
        shard->env->on_message(shard->env->arg, to, type, buf_span(&shard->message));
}

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
    const struct shard_env *env = shard->env;
    message->partition = shard->partition;
    if (env->reaches != NULL && !env->reaches(env->arg, message->to))
        return;
    if (message->kind == LOQUAT__RAFT_KIND__RAFT_SNAPSHOT)
        rsnap_send(shard, message);
    else
        shard_say(shard, message->to, LINK_RAFT, &message->base);
}

/* Of an entry that was applied here long ago the payload is on disk only. */
static struct rcore_entry on_entry(void *arg, uint64_t index)
{
    struct shard *shard = arg;
    const struct rlog_entry *entry = rlog_get(&shard->log, index);
    ASSERT(entry != NULL);
    if (entry->bytes != NULL)
        return (struct rcore_entry){entry->term, entry->type, span_of(entry->bytes, entry->size)};
    int err = rlog_read(&shard->log, shard->env->wal, index, &shard->payload);
    if (err != 0)
        shard_damaged_log(shard, err);
    return (struct rcore_entry){entry->term, entry->type, buf_span(&shard->payload)};
}

static void on_durable(void *arg, uint64_t index, uint64_t term)
{
    struct shard *shard = arg;
    if (rsnap_installing(shard) || rlog_term_at(&shard->log, index) != term)
        return; /* replaced meanwhile: that write will be told of too */
    struct watermark_row row = {term, index, shard->cuts_durable};
    watermark_put(shard->env->mark, shard->partition, row);
    shard->stirred = true;
    rcore_persisted(shard->core, index, clock_mono_ms());
}

static void on_cut_durable(void *arg, uint64_t cuts, uint64_t unused)
{
    (void)unused;
    ((struct shard *)arg)->cuts_durable = cuts;
}

static void on_entries(void *arg, uint64_t index, const struct rcore_entry *entries, size_t count)
{
    struct shard *shard = arg;
    uint64_t cuts = shard->log.cuts;
    ASSERT(!rsnap_installing(shard));
    rlog_put_entries(&shard->log, wal_batch(shard->env->wal), index, entries, count);
    if (shard->log.cuts != cuts)
        wal_notify(shard->env->wal, on_cut_durable, shard, shard->log.cuts, 0);
    wal_notify(shard->env->wal, on_durable, shard, index + count - 1, entries[count - 1].term);
}

static void on_state(void *arg, enum rcore_state state)
{
    struct shard *shard = arg;
    shard->serving = false;
    shard->stirred = true;
    shard->due_ms = 0;
    if (state == RCORE_LEADER)
        shard->term_start = UINT64_MAX; /* set in settle: the core is in a step now */
}

static void on_commit(void *arg, uint64_t commit)
{
    ((struct shard *)arg)->committed = commit;
}

static void on_install(void *arg, uint64_t index, uint64_t term, uint64_t conf_index,
                       struct span conf)
{
    rsnap_install(arg, &(struct rlog_snapshot){index, term, conf_index, conf});
}

const struct rcore_ops shard_core_ops = {
    .on_hard_state = on_hard_state,
    .on_entries = on_entries,
    .on_state = on_state,
    .on_commit = on_commit,
    .on_message = on_message,
    .entry = on_entry,
    .on_install = on_install,
};

/* ---- proposals ---- */

static struct proposal *proposal_new(void)
{
    return xcalloc(1, sizeof(struct proposal));
}

void shard_proposal_free(struct proposal *proposal)
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
        entry_begin(&open->entry, shard->env->entry_version, clock_wall_ms());
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

/* The answers of one entry: at once, or when the effects of a command have arrived. */
static void answer(struct shard *shard, struct proposal *proposal, const struct applied *applied)
{
    struct deferred **deferred = NULL;
    if (applied->out_count > 0 && shard->owing)
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
        shard_owe(shard, &applied->outs[i], deferred[applied->outs[i].result]);
    free(deferred);
}

/* What is sent to a follower that is a little behind need not be read back. */
static void drop_payloads(struct shard *shard, uint64_t applied)
{
    struct rlog *log = &shard->log;
    const struct rlog_entry *entry = rlog_get(log, applied);
    if (entry == NULL)
        return;
    if (shard->held_from < log->first) {
        shard->held_from = log->first;
        shard->held = rlog_bytes(log, log->first - 1, applied - 1);
    }
    shard->held += entry->size;
    for (; shard->held > shard->env->held_bytes; shard->held_from++) {
        shard->held -= rlog_get(log, shard->held_from)->size;
        rlog_drop_payload(log, shard->held_from);
    }
}

static void on_entry_applied(struct job *job)
{
    struct shard *shard = job->owner;
    shard->applied = job->index;
    shard->stirred = true;
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
        shard_proposal_free(proposal);
    drop_payloads(shard, job->index);
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
    while (shard->pushed < upto && !rsnap_installing(shard)) {
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
        shard_proposal_free(proposal);
    }
}

static void drop_all(struct shard *shard)
{
    close_open(shard);
    shard->inflight_count = shard->waiting_bytes = 0;
    drop_list(shard, &shard->ready);
    drop_list(shard, &shard->inflight);
}

void shard_settle(struct shard *shard, uint64_t now_ms)
{
    apply_committed(shard, now_ms);
    bool leads = rcore_state(shard->core) == RCORE_LEADER;
    if (leads && shard->term_start == UINT64_MAX)
        shard->term_start = rcore_last_index(shard->core);
    if (leads && !shard->serving && shard->applied >= shard->term_start) {
        if (!shard->owing)
            shard_owed_load(shard);
        shard->serving = shard->owing;
        if (shard->serving)
            shard->env->on_state(shard->env->arg, shard);
    }
    if (leads)
        return;
    shard_owed_drop(shard);
    if (shard->open != NULL || !list_empty(&shard->ready) || !list_empty(&shard->inflight))
        drop_all(shard);
}

void shard_stands_at(struct shard *shard, uint64_t index)
{
    shard->pushed = shard->applied = shard->applied_at_start = shard->flushed = index;
    if (shard->committed < index)
        shard->committed = index;
}

void shard_call(struct shard *shard, struct job *job, void (*call)(struct job *),
                void (*done)(struct job *), void *owner)
{
    *job = (struct job){.kind = JOB_CALL, .call = call, .done = done, .owner = owner};
    applier_push(shard->env->applier, job);
}

/* ---- warming: after a start, and as the partition grows ---- */

static void call_warm(struct job *job)
{
    struct shard *shard = job->owner;
    shard->sizes_next = apply_sizes(shard->apply);
    job->tag = apply_warm(shard->apply) ? 0 : WARM_AGAIN_MS;
}

static void on_warm(struct job *job)
{
    struct shard *shard = job->owner;
    shard->warming = false;
    shard->sizes = shard->sizes_next;
    shard->warm_ms = clock_mono_ms() + job->tag;
}

static void warm_some(struct shard *shard, uint64_t now_ms)
{
    if (shard->warming || now_ms < shard->warm_ms)
        return;
    shard->warming = true;
    shard_call(shard, &shard->warm, call_warm, on_warm, shard);
}

/* ---- the loop's calls ---- */

int shard_receive(struct shard *shard, const Loquat__Raft *message, uint64_t now_ms)
{
    if (message->kind == LOQUAT__RAFT_KIND__RAFT_SNAPSHOT)
        return ERR_CORRUPT; /* comes with what it is about */
    if (rsnap_leaving(shard))
        return 0;
    int err = rcore_receive(shard->core, message, now_ms);
    if (message->from == rcore_leader(shard->core))
        shard->heard_ms = now_ms;
    shard_settle(shard, now_ms);
    return err;
}

void shard_lost(struct shard *shard, uint64_t node, uint64_t now_ms)
{
    if (rcore_leader(shard->core) == node)
        rcore_leader_lost(shard->core, !shard_behind(shard), now_ms);
    shard->due_ms = 0;
}

int shard_change(struct shard *shard, struct span conf, uint64_t now_ms)
{
    int err = rcore_change(shard->core, conf, now_ms) == 0 ? 0 : ERR_NOT_LEADER;
    shard_settle(shard, now_ms);
    return err;
}

void shard_chunk(struct shard *shard, const Loquat__Chunk *chunk, uint64_t now_ms)
{
    rsnap_chunk(shard, chunk);
    shard_settle(shard, now_ms);
}

void shard_chunk_reply(struct shard *shard, const Loquat__ChunkReply *reply, uint64_t now_ms)
{
    rsnap_reply(shard, reply, now_ms);
}

/* Nothing has happened, and nothing waits. */
static bool still(const struct shard *shard)
{
    return !shard->stirred && shard->open == NULL && list_empty(&shard->ready) &&
           shard->done_count == 0;
}

void shard_turn(struct shard *shard, uint64_t now_ms)
{
    if (still(shard))
        return;
    shard->stirred = false;
    shard_owed_tell(shard);
    if (shard->inflight_count < shard->env->eager) /* else more comes into it, until it is full */
        close_open(shard);
    submit_ready(shard, now_ms);
    shard_settle(shard, now_ms);
}

void shard_tick(struct shard *shard, uint64_t now_ms)
{
    if (still(shard) && now_ms < shard->due_ms)
        return;
    if (now_ms >= rcore_next_ms(shard->core) && !rsnap_leaving(shard))
        rcore_timeout(shard->core, now_ms);
    rsnap_tick(shard, now_ms);
    rsnap_in_tick(shard, now_ms);
    shard_settle(shard, now_ms);
    warm_some(shard, now_ms);
    uint64_t next = rcore_next_ms(shard->core), warm = shard->warming ? next : shard->warm_ms;
    shard->due_ms = list_empty(&shard->sends) ? (warm < next ? warm : next) : 0;
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
    shard->trimmed_at = shard->applied;
    uint32_t trailing = shard->env->trailing;
    /* Its configuration must be known: of what was applied before the start not all has been looked
     * at yet, or a newer one has taken its place. */
    bool conf_known = index <= shard->pushed && index >= shard->log.conf_index;
    if (index <= shard->log.snapshot_index + trailing || !conf_known ||
        rlog_term_at(&shard->log, index) == 0 || shard->log.conf.n == 0 || rsnap_installing(shard))
        return;
    uint32_t fitting =
        rlog_fitting(&shard->log, index, shard->env->trailing_bytes, SHARD_TRAILING_MAX);
    if (fitting > trailing)
        trailing = fitting;
    uint64_t upto = index - trailing, held = rsnap_held(shard);
    if (upto > held) /* who gets a snapshot goes on with the log behind it */
        upto = held;
    term = rlog_term_at(&shard->log, index);
    struct buf conf = {0};
    buf_add_span(&conf, buf_span(&shard->log.conf));
    rlog_trim(&shard->log, wal_batch(shard->env->wal), index, term, upto);
    rcore_snapshot(shard->core, index, term, shard->log.conf_index, buf_span(&conf),
                   (uint32_t)(index - upto), now_ms);
    buf_close(&conf);
}

bool shard_led_elsewhere(const struct shard *shard)
{
    struct rcore_server server;
    uint64_t leader = rcore_leader(shard->core);
    if (leader != 0)
        return leader != shard->env->id;
    return rcore_servers(shard->core, &server, 1) == 0;
}

bool shard_behind(const struct shard *shard)
{
    return shard->committed > shard->applied + SHARD_NEARLY;
}

bool shard_holds(const struct shard *shard)
{
    return shard->applied > 0 || rlog_last(&shard->log) > 0;
}

bool shard_fresh(const struct shard *shard, uint64_t now_ms)
{
    return shard->serving || (shard->heard_ms != 0 && now_ms < shard->heard_ms + SHARD_HEARD_MS &&
                              !shard_behind(shard));
}

bool shard_idle(const struct shard *shard)
{
    /* Fewer are pushed than applied, after a start, until it is known again what is committed. */
    return shard->unfinished == 0 && shard->done_count == 0 && shard->pushed <= shard->applied &&
           rsnap_out_idle(shard) && rsnap_in_idle(shard);
}
