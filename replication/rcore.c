#include "replication/rcore.h"

#include <stdio.h>
#include <stdlib.h>

#include "replication/rcore_conf.h"
#include "replication/rcore_message.h"
#include "store/base/arena.h"
#include "store/base/buf.h"
#include "store/base/check.h"
#include "store/base/err.h"

#if RAFT_VERSION_NUMBER < 2200 || RAFT_VERSION_NUMBER >= 2300
#error "libraft 0.22.x is needed: older ones lose committed entries, newer ones are not known here"
#endif

enum {
    INSTALL_TIMEOUT_MS = 10 * 1000,
    CATCH_UP_ROUND_MS = 30 * 1000,
    CAPACITY = 0xffff,
    HURRY_MS = RCORE_ELECTION_MS, /* for so long */
    HURRY_TIMES = 5,              /* so much shorter */
};

struct rcore {
    struct raft raft;
    const struct rcore_ops *ops;
    void *arg;
    uint64_t snapshot_index, snapshot_term;
    uint64_t hurry_until_ms;      /* the leader was lost just now */
    uint64_t own_term, own_index; /* the last in which it led and made entries; its first one */
    struct arena arena;           /* of a message that leaves */
};

/* ---- what the core asks for ---- */

static void give_entries(struct rcore *core, const struct raft_update *update)
{
    struct rcore_entry stack[16], *entries = stack;
    unsigned n = update->entries.n;
    ASSERT(n > 0);
    if (n > sizeof stack / sizeof stack[0])
        entries = xmalloc(n * sizeof *entries);
    for (unsigned i = 0; i < n; i++) {
        const struct raft_entry *entry = &update->entries.batch[i];
        entries[i] = (struct rcore_entry){entry->term, (uint16_t)entry->type,
                                          span_of(entry->buf.base, entry->buf.len)};
    }
    core->ops->on_entries(core->arg, update->entries.index, entries, n);
    if (core->raft.state == RAFT_LEADER && core->own_term != raft_current_term(&core->raft)) {
        core->own_term = raft_current_term(&core->raft);
        core->own_index = update->entries.index;
    }
    if (entries != stack)
        free(entries);
    raft_free(update->entries.batch[0].batch); /* one batch for all of them: freed once */
}

/* Behind `out->index`, at most `count`: as many as fit a message, and one at least. */
static void add_entries(struct rcore *core, size_t count, Loquat__Raft *out)
{
    Loquat__RaftEntry *made = arena_alloc(&core->arena, count * sizeof *made);
    out->entries = arena_alloc(&core->arena, count * sizeof *out->entries);
    size_t bytes = 0;
    for (size_t i = 0; i < count && bytes < RCORE_APPEND_BYTES; i++) {
        struct rcore_entry entry = core->ops->entry(core->arg, out->index + 1 + i);
        bytes += entry.bytes.n;
        out->n_entries++;
        made[i] = (Loquat__RaftEntry)LOQUAT__RAFT_ENTRY__INIT;
        made[i].term = entry.term;
        made[i].type = entry.type;
        made[i].data.len = entry.bytes.n;
        made[i].data.data = arena_copy(&core->arena, entry.bytes.p, entry.bytes.n);
        out->entries[i] = &made[i];
    }
}

/* All entries of it, as several messages where they are large. */
static void give_append(struct rcore *core, const struct raft_append_entries *append,
                        Loquat__Raft *out)
{
    size_t left = append->n_entries;
    do {
        out->n_entries = 0;
        add_entries(core, left, out);
        size_t n = out->n_entries;
        Loquat__Raft message = *out; /* the receiver may change it */
        core->ops->on_message(core->arg, &message);
        if (n > 0)
            out->index_term = out->entries[n - 1]->term;
        out->index += n;
        left -= n;
        arena_reset(&core->arena);
    } while (left > 0);
}

static void give_messages(struct rcore *core, const struct raft_update *update)
{
    for (unsigned i = 0; i < update->messages.n; i++) {
        const struct raft_message *message = &update->messages.batch[i];
        Loquat__Raft out;
        rcore_message_out(message, &out);
        out.from = core->raft.id;
        /* Guard 3: the answer to a vote that is tried in an older term names the own term. Without
         * it, who has the longer log never learns of the term, and the other one never wins. */
        if (message->type == RAFT_REQUEST_VOTE_RESULT && out.pre_vote && !out.granted &&
            out.term < raft_current_term(&core->raft))
            out.term = raft_current_term(&core->raft);
        if (message->type == RAFT_APPEND_ENTRIES)
            give_append(core, &message->append_entries, &out);
        else
            core->ops->on_message(core->arg, &out);
    }
}

static void give_snapshot(struct rcore *core, struct raft_update *update)
{
    struct raft_snapshot_metadata *metadata = &update->snapshot.metadata;
    struct raft_buffer conf;
    int rv = raft_configuration_encode(&metadata->configuration, &conf);
    ASSERT(rv == 0);
    core->ops->on_install(core->arg, metadata->index, metadata->term, metadata->configuration_index,
                          span_of(conf.base, conf.len));
    raft_free(conf.base);
    raft_configuration_close(&metadata->configuration);
    raft_free(update->snapshot.chunk.base);
}

/* An election that is due later is due then; what is heard of a leader puts it off as ever. */
static void due_by(struct rcore *core, uint64_t due_ms, unsigned usual_ms)
{
    if (due_ms >= usual_ms && due_ms < core->raft.election_timer_start + usual_ms)
        core->raft.election_timer_start = due_ms - usual_ms;
}

/* From 500 to 1000 ms make 40 to 140. */
static uint64_t hurried(uint64_t now_ms, unsigned usual_ms)
{
    ASSERT(usual_ms >= RCORE_ELECTION_MS);
    return now_ms + RCORE_HURRY_MIN_MS + (usual_ms - RCORE_ELECTION_MS) / HURRY_TIMES;
}

static int step(struct rcore *core, struct raft_event *event, uint64_t now_ms)
{
    struct raft_update update = {0};
    event->time = now_ms;
    event->capacity = CAPACITY;
    int rv = raft_step(&core->raft, event, &update);
    if (rv != 0)
        return rv;
    if (now_ms < core->hurry_until_ms && core->raft.state == RAFT_CANDIDATE &&
        (update.flags & RAFT_UPDATE_TIMEOUT)) {
        unsigned usual_ms = core->raft.candidate_state.randomized_election_timeout;
        due_by(core, hurried(now_ms, usual_ms), usual_ms);
    }
    if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR))
        core->ops->on_hard_state(core->arg, raft_current_term(&core->raft),
                                 raft_voted_for(&core->raft));
    if (update.flags & RAFT_UPDATE_ENTRIES)
        give_entries(core, &update);
    if (update.flags & RAFT_UPDATE_SNAPSHOT)
        give_snapshot(core, &update);
    if (update.flags & RAFT_UPDATE_MESSAGES)
        give_messages(core, &update);
    if (update.flags & RAFT_UPDATE_STATE)
        core->ops->on_state(core->arg, rcore_state(core));
    if (update.flags & RAFT_UPDATE_COMMIT_INDEX)
        core->ops->on_commit(core->arg, raft_commit_index(&core->raft));
    return 0;
}

static void must_step(struct rcore *core, struct raft_event *event, uint64_t now_ms)
{
    int rv = step(core, event, now_ms);
    if (rv != 0)
        check_failed(__FILE__, __LINE__, raft_errmsg(&core->raft));
}

/* ---- start ---- */

/* The library's own allocations end the process when there is no memory: see check.h. */
static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    return xmalloc(size);
}

static void *heap_calloc(void *data, size_t count, size_t size)
{
    (void)data;
    return xcalloc(count, size);
}

static void *heap_realloc(void *data, void *ptr, size_t size)
{
    (void)data;
    return xrealloc(ptr, size);
}

static void heap_free(void *data, void *ptr)
{
    (void)data;
    free(ptr);
}

static void *heap_aligned(void *data, size_t alignment, size_t size)
{
    (void)data;
    void *ptr = aligned_alloc(alignment, size);
    if (ptr == NULL)
        check_no_memory(size);
    return ptr;
}

static void heap_aligned_free(void *data, size_t alignment, void *ptr)
{
    (void)alignment;
    heap_free(data, ptr);
}

__attribute__((constructor)) static void heap_begin(void)
{
    static struct raft_heap heap = {.malloc = heap_malloc,
                                    .free = heap_free,
                                    .calloc = heap_calloc,
                                    .realloc = heap_realloc,
                                    .aligned_alloc = heap_aligned,
                                    .aligned_free = heap_aligned_free};
    raft_heap_set(&heap);
}

struct rcore *rcore_new(const struct rcore_start *start, const struct rcore_ops *ops, void *arg)
{
    struct rcore *core = xcalloc(1, sizeof *core);
    core->ops = ops;
    core->arg = arg;
    arena_init(&core->arena);
    core->snapshot_index = start->snapshot_index;
    core->snapshot_term = start->snapshot_term;
    int rv = raft_init(&core->raft, NULL, NULL, start->id, start->address);
    ASSERT(rv == 0);
    core->raft.tracer = NULL; /* else every trace is formatted */
    raft_seed(&core->raft, start->seed);
    raft_set_election_timeout(&core->raft, RCORE_ELECTION_MS);
    raft_set_heartbeat_timeout(&core->raft, RCORE_HEARTBEAT_MS);
    raft_set_pre_vote(&core->raft, true);
    raft_set_max_inflight_entries(&core->raft, RCORE_INFLIGHT_ENTRIES_MAX);
    raft_set_install_snapshot_timeout(&core->raft, INSTALL_TIMEOUT_MS);
    raft_set_max_catch_up_round_duration(&core->raft, CATCH_UP_ROUND_MS);

    struct raft_snapshot_metadata metadata = {0};
    struct raft_event event = {.type = RAFT_START};
    event.start.term = start->term;
    event.start.voted_for = start->voted_for;
    if (start->snapshot_index > 0) {
        metadata.index = start->snapshot_index;
        metadata.term = start->snapshot_term;
        metadata.configuration_index = start->conf_index;
        rcore_conf_decode(&metadata.configuration, start->conf);
        event.start.metadata = &metadata;
    }
    struct raft_entry *entries = rcore_entries_in(start->entries, start->entry_count);
    event.start.start_index = start->first_index;
    event.start.entries = entries;
    event.start.n_entries = (unsigned)start->entry_count;
    void *batch = entries != NULL ? entries[0].batch : NULL;
    must_step(core, &event, start->now_ms);
    raft_free(batch);
    free(entries);
    return core;
}

void rcore_free(struct rcore *core)
{
    if (core == NULL)
        return;
    raft_close(&core->raft, NULL);
    arena_close(&core->arena);
    free(core);
}

/* ---- events ---- */

static int submit(struct rcore *core, enum rcore_type type, struct span bytes, uint64_t now_ms)
{
    if (core->raft.state != RAFT_LEADER || rcore_transferring(core))
        return RCORE_REFUSED;
    struct rcore_entry entry = {raft_current_term(&core->raft), (uint16_t)type, bytes};
    struct raft_entry *entries = rcore_entries_in(&entry, 1);
    struct raft_event event = {.type = RAFT_SUBMIT};
    event.submit.entries = entries;
    event.submit.n = 1;
    void *batch = entries[0].batch;
    int rv = step(core, &event, now_ms);
    free(entries);
    if (rv != 0) {
        raft_free(batch);
        return RCORE_REFUSED;
    }
    return 0;
}

int rcore_submit(struct rcore *core, struct span bytes, uint64_t now_ms)
{
    return submit(core, RCORE_COMMAND, bytes, now_ms);
}

void rcore_persisted(struct rcore *core, uint64_t index, uint64_t now_ms)
{
    if (index <= core->raft.last_stored)
        return; /* a completion that was overtaken */
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    event.persisted_entries.index = index;
    must_step(core, &event, now_ms);
}

void rcore_timeout(struct rcore *core, uint64_t now_ms)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    must_step(core, &event, now_ms);
}

void rcore_leader_lost(struct rcore *core, bool eager, uint64_t now_ms)
{
    if (core->raft.state != RAFT_FOLLOWER || now_ms < core->hurry_until_ms)
        return;
    unsigned usual_ms = core->raft.follower_state.randomized_election_timeout;
    if (eager)
        core->hurry_until_ms = now_ms + HURRY_MS;
    due_by(core, eager ? hurried(now_ms, usual_ms) : now_ms, usual_ms);
}

uint64_t rcore_next_ms(const struct rcore *core)
{
    uint64_t due = raft_timeout(&core->raft);
    if (core->raft.state == RAFT_LEADER)
        due += RCORE_BEAT_MS - 1 - (due + RCORE_BEAT_MS - 1) % RCORE_BEAT_MS;
    return due;
}

void rcore_configured(struct rcore *core, uint64_t index, struct span conf, uint64_t now_ms)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    event.configuration.index = index;
    rcore_conf_decode(&event.configuration.conf, conf);
    must_step(core, &event, now_ms);
}

void rcore_snapshot(struct rcore *core, uint64_t index, uint64_t term, uint64_t conf_index,
                    struct span conf, uint32_t trailing, uint64_t now_ms)
{
    core->snapshot_index = index;
    core->snapshot_term = term;
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    event.snapshot.metadata.index = index;
    event.snapshot.metadata.term = term;
    event.snapshot.metadata.configuration_index = conf_index;
    rcore_conf_decode(&event.snapshot.metadata.configuration, conf);
    event.snapshot.trailing = trailing;
    must_step(core, &event, now_ms);
}

void rcore_installed(struct rcore *core, uint64_t index, uint64_t term, uint64_t conf_index,
                     struct span conf, uint64_t now_ms)
{
    core->snapshot_index = index;
    core->snapshot_term = term;
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    struct raft_snapshot_metadata *metadata = &event.persisted_snapshot.metadata;
    metadata->index = index;
    metadata->term = term;
    metadata->configuration_index = conf_index;
    rcore_conf_decode(&metadata->configuration, conf);
    event.persisted_snapshot.last = true;
    must_step(core, &event, now_ms);
}

/* ---- what peers say ---- */

static int receive(struct rcore *core, struct raft_message *message, uint64_t now_ms)
{
    char address[24];
    snprintf(address, sizeof address, "%llu", (unsigned long long)message->server_id);
    message->server_address = address;
    struct raft_event event = {.type = RAFT_RECEIVE};
    event.receive.message = message;
    return step(core, &event, now_ms) == 0 ? 0 : ERR_CONFLICT;
}

/* One event's worth: no guard needed for these entries any more. */
static int receive_part(struct rcore *core, struct raft_message message,
                        const struct rcore_entry *entries, size_t count, uint64_t now_ms)
{
    struct raft_append_entries *append = &message.append_entries;
    uint64_t upto = append->prev_log_index + count;
    append->leader_commit = append->leader_commit < upto ? append->leader_commit : upto;
    struct raft_entry *made = rcore_entries_in(entries, count);
    append->entries = made;
    append->n_entries = (unsigned)count;
    int err = receive(core, &message, now_ms); /* the library has freed the batch, or will */
    free(made);
    return err;
}

static int receive_append(struct rcore *core, struct raft_message *message,
                          const struct rcore_entry *entries, size_t count, uint64_t now_ms)
{
    struct raft_append_entries *append = &message->append_entries;
    /* Guard 1: entries below the own snapshot are in it; begin at the snapshot instead. */
    if (append->term >= raft_current_term(&core->raft) &&
        append->prev_log_index < core->snapshot_index && !rcore_installing(core)) {
        uint64_t covered = core->snapshot_index - append->prev_log_index;
        size_t drop = covered < count ? (size_t)covered : count;
        entries += drop;
        count -= drop;
        append->prev_log_index = core->snapshot_index;
        append->prev_log_term = core->snapshot_term;
    }
    /* Guard 2: a change of the configuration comes first in its event. */
    int err;
    do {
        size_t part = count > 0 ? 1 : 0;
        while (part < count && entries[part].type != RCORE_CHANGE)
            part++;
        err = receive_part(core, *message, entries, part, now_ms);
        if (part > 0) {
            append->prev_log_index += part;
            append->prev_log_term = entries[part - 1].term;
        }
        entries += part;
        count -= part;
    } while (err == 0 && count > 0);
    return err;
}

/* Guard 6: the library would note who leads as well where it keeps what a leader knows. */
static bool leads_as_well(const struct rcore *core, const Loquat__Raft *in)
{
    return core->raft.state == RAFT_LEADER && in->term == core->raft.current_term &&
           (in->kind == LOQUAT__RAFT_KIND__RAFT_APPEND ||
            in->kind == LOQUAT__RAFT_KIND__RAFT_SNAPSHOT);
}

int rcore_receive(struct rcore *core, const Loquat__Raft *in, uint64_t now_ms)
{
    struct raft_message message;
    int err = rcore_message_in(in, &message);
    if (err != 0 || leads_as_well(core, in))
        return err != 0 ? err : ERR_CONFLICT;
    struct span conf = span_of((const char *)in->conf.data, in->conf.len);
    if (message.type == RAFT_INSTALL_SNAPSHOT) {
        if (!rcore_conf_valid(conf))
            return ERR_CORRUPT;
        rcore_conf_decode(&message.install_snapshot.conf, conf);
        message.install_snapshot.data.base = raft_malloc(1); /* it comes beside the message */
        message.install_snapshot.data.len = 1;
    }
    if (message.type != RAFT_APPEND_ENTRIES)
        return receive(core, &message, now_ms);
    struct rcore_entry *entries = xcalloc(in->n_entries + 1, sizeof *entries);
    for (size_t i = 0; i < in->n_entries && err == 0; i++) {
        const Loquat__RaftEntry *entry = in->entries[i];
        struct span bytes = span_of((const char *)entry->data.data, entry->data.len);
        entries[i] = (struct rcore_entry){entry->term, (uint16_t)entry->type, bytes};
        if (entry->type == RCORE_CHANGE && !rcore_conf_valid(bytes))
            err = ERR_CORRUPT;
    }
    if (err == 0)
        err = receive_append(core, &message, entries, in->n_entries, now_ms);
    free(entries);
    return err;
}

int rcore_transfer(struct rcore *core, uint64_t id, uint64_t now_ms)
{
    if (core->raft.state != RAFT_LEADER || rcore_transferring(core))
        return RCORE_REFUSED;
    struct raft_event event = {.type = RAFT_TRANSFER};
    event.transfer.server_id = id;
    return step(core, &event, now_ms) == 0 ? 0 : RCORE_REFUSED;
}

uint64_t rcore_match(const struct rcore *core, uint64_t id)
{
    raft_index index = 0;
    return raft_match_index(&core->raft, id, &index) == 0 ? index : 0;
}

/* A majority has an entry of this leader's term. Before that the one before may have made a change
 * that hardly anybody knows: with it, and with another one from here, two majorities could be found
 * that have no server in common. The source is Diego Ongaro, raft-dev, 10 July 2015, "bug in
 * single-server membership changes". A leader of this library all of whose entries are committed
 * makes none by itself: it is made here, and the change is for later. */
static bool led_for_sure(struct rcore *core, uint64_t now_ms)
{
    static const char nothing[8];
    if (core->own_term != raft_current_term(&core->raft))
        (void)submit(core, RCORE_BARRIER, span_of(nothing, sizeof nothing), now_ms);
    return core->own_term == raft_current_term(&core->raft) &&
           core->own_index <= raft_commit_index(&core->raft);
}

static bool change_is_safe(const struct rcore *core, const struct raft_configuration *conf)
{
    const struct raft_configuration *before = &core->raft.configuration;
    uint64_t known_from = core->raft.configuration_committed_index;
    uint64_t last = rcore_last_index(core);
    unsigned voters = 0, knowing = 0;
    for (unsigned i = 0; i < conf->n; i++) {
        raft_id id = conf->servers[i].id;
        if (conf->servers[i].role != RAFT_VOTER)
            continue;
        uint64_t match = id == core->raft.id ? last : rcore_match(core, id);
        voters++;
        if (rcore_conf_votes(before, id))
            knowing += match >= known_from;
        else if (match + RCORE_BEHIND_MAX < last)
            return false;
    }
    return knowing > voters / 2;
}

int rcore_change(struct rcore *core, struct span conf, uint64_t now_ms)
{
    if (rcore_uncommitted_conf_index(core) != 0 || rcore_state(core) != RCORE_LEADER ||
        !led_for_sure(core, now_ms))
        return RCORE_REFUSED;
    struct raft_configuration next;
    rcore_conf_decode(&next, conf);
    bool safe = change_is_safe(core, &next);
    raft_configuration_close(&next);
    if (!safe)
        return RCORE_REFUSED;
    return submit(core, RCORE_CHANGE, conf, now_ms);
}

bool rcore_transferring(const struct rcore *core)
{
    return raft_transferee(&core->raft) != 0;
}

bool rcore_installing(const struct rcore *core)
{
    return core->raft.snapshot.installing;
}

size_t rcore_servers(const struct rcore *core, struct rcore_server *out, size_t max)
{
    const struct raft_configuration *conf = &core->raft.configuration;
    for (size_t i = 0; i < conf->n && i < max; i++)
        out[i] = (struct rcore_server){.id = conf->servers[i].id,
                                       .address = conf->servers[i].address,
                                       .voter = conf->servers[i].role == RAFT_VOTER};
    return conf->n;
}

uint64_t rcore_leader(const struct rcore *core)
{
    raft_id id = 0;
    const char *address = NULL;
    raft_leader((struct raft *)(uintptr_t)&core->raft, &id, &address);
    return id;
}

enum rcore_state rcore_state(const struct rcore *core)
{
    return (enum rcore_state)core->raft.state;
}

uint64_t rcore_term(const struct rcore *core)
{
    return raft_current_term(&core->raft);
}

uint64_t rcore_commit_index(const struct rcore *core)
{
    return raft_commit_index(&core->raft);
}

uint64_t rcore_last_index(const struct rcore *core)
{
    return raft_last_index((struct raft *)(uintptr_t)&core->raft);
}

uint64_t rcore_last_stored(const struct rcore *core)
{
    return core->raft.last_stored;
}

uint64_t rcore_uncommitted_conf_index(const struct rcore *core)
{
    return core->raft.configuration_uncommitted_index;
}

uint64_t rcore_conf_index(const struct rcore *core)
{
    uint64_t newest = rcore_uncommitted_conf_index(core);
    return newest != 0 ? newest : core->raft.configuration_committed_index;
}
