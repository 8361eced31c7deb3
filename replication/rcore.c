#include "replication/rcore.h"

#include <raft.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/buf.h"
#include "store/base/check.h"

#if RAFT_VERSION_NUMBER < 2200 || RAFT_VERSION_NUMBER >= 2300
#error "libraft 0.22.x is needed: older ones lose committed entries, newer ones are not known here"
#endif

enum { INSTALL_TIMEOUT_MS = 10 * 60 * 1000, CATCH_UP_ROUND_MS = 30 * 1000, CAPACITY = 0xffff };

struct rcore {
    struct raft raft;
    const struct rcore_ops *ops;
    void *arg;
    uint64_t snapshot_index, snapshot_term;
};

static void set_conf(struct raft_configuration *out, struct span bytes)
{
    struct raft_buffer buffer = {(void *)(uintptr_t)bytes.p, bytes.n};
    int rv = raft_configuration_decode(&buffer, out);
    ASSERT(rv == 0);
}

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
    if (entries != stack)
        free(entries);
    raft_free(update->entries.batch[0].batch); /* one batch for all of them: freed once */
}

static int step(struct rcore *core, struct raft_event *event, uint64_t now_ms)
{
    struct raft_update update = {0};
    event->time = now_ms;
    event->capacity = CAPACITY;
    int rv = raft_step(&core->raft, event, &update);
    if (rv != 0)
        return rv;
    if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR))
        core->ops->on_hard_state(core->arg, raft_current_term(&core->raft),
                                 raft_voted_for(&core->raft));
    if (update.flags & RAFT_UPDATE_ENTRIES)
        give_entries(core, &update);
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

/* The core wants its entries in memory from raft_malloc, in one batch. */
static struct raft_entry *raft_entries(const struct rcore_entry *entries, size_t count)
{
    if (count == 0)
        return NULL;
    size_t size = 8;
    for (size_t i = 0; i < count; i++)
        size += (entries[i].bytes.n + 7) & ~(size_t)7;
    char *batch = raft_malloc(size), *at = batch;
    struct raft_entry *made = xcalloc(count, sizeof *made);
    for (size_t i = 0; i < count; i++) {
        size_t n = entries[i].bytes.n;
        if (n > 0)
            memcpy(at, entries[i].bytes.p, n);
        made[i] = (struct raft_entry){.term = entries[i].term,
                                      .type = (enum raft_entry_type)entries[i].type,
                                      .buf = {at, n},
                                      .batch = batch};
        at += (n + 7) & ~(size_t)7;
    }
    return made;
}

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
        set_conf(&metadata.configuration, start->conf);
        event.start.metadata = &metadata;
    }
    struct raft_entry *entries = raft_entries(start->entries, start->entry_count);
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
    free(core);
}

/* ---- events ---- */

int rcore_submit(struct rcore *core, struct span bytes, uint64_t now_ms)
{
    if (core->raft.state != RAFT_LEADER || raft_transferee(&core->raft) != 0)
        return RCORE_REFUSED;
    struct rcore_entry entry = {raft_current_term(&core->raft), RCORE_COMMAND, bytes};
    struct raft_entry *entries = raft_entries(&entry, 1);
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

uint64_t rcore_next_ms(const struct rcore *core)
{
    return raft_timeout(&core->raft);
}

void rcore_configured(struct rcore *core, uint64_t index, struct span conf, uint64_t now_ms)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    event.configuration.index = index;
    set_conf(&event.configuration.conf, conf);
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
    set_conf(&event.snapshot.metadata.configuration, conf);
    event.snapshot.trailing = trailing;
    must_step(core, &event, now_ms);
}

/* One event's worth: no guard needed for these entries any more. */
static void receive_part(struct rcore *core, const struct rcore_append *append,
                         const struct rcore_entry *entries, size_t count, uint64_t prev_index,
                         uint64_t prev_term, uint64_t now_ms)
{
    char address[24];
    snprintf(address, sizeof address, "%llu", (unsigned long long)append->from);
    struct raft_message message = {.type = RAFT_APPEND_ENTRIES, .server_id = append->from};
    message.server_address = address;
    struct raft_append_entries *args = &message.append_entries;
    args->version = append->version;
    args->term = append->term;
    args->prev_log_index = prev_index;
    args->prev_log_term = prev_term;
    args->leader_commit = append->commit;
    args->entries = raft_entries(entries, count);
    args->n_entries = (unsigned)count;
    struct raft_entry *made = args->entries;
    struct raft_event event = {.type = RAFT_RECEIVE};
    event.receive.message = &message;
    must_step(core, &event, now_ms);
    free(made);
}

void rcore_receive_append(struct rcore *core, const struct rcore_append *append, uint64_t now_ms)
{
    const struct rcore_entry *entries = append->entries;
    size_t count = append->entry_count;
    uint64_t prev_index = append->prev_index, prev_term = append->prev_term;
    /* Guard 1: entries below the own snapshot are in it; begin at the snapshot instead. */
    if (append->term >= raft_current_term(&core->raft) && prev_index < core->snapshot_index) {
        uint64_t covered = core->snapshot_index - prev_index;
        size_t drop = covered < count ? (size_t)covered : count;
        entries += drop;
        count -= drop;
        prev_index = core->snapshot_index;
        prev_term = core->snapshot_term;
    }
    /* Guard 2: a change of the configuration comes first in its event. */
    do {
        size_t part = count > 0 ? 1 : 0;
        while (part < count && entries[part].type != RCORE_CHANGE)
            part++;
        receive_part(core, append, entries, part, prev_index, prev_term, now_ms);
        if (part > 0) {
            prev_index += part;
            prev_term = entries[part - 1].term;
        }
        entries += part;
        count -= part;
    } while (count > 0);
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

void rcore_encode_conf(const struct rcore_server *servers, size_t count, struct buf *out)
{
    struct raft_configuration conf;
    raft_configuration_init(&conf);
    for (size_t i = 0; i < count; i++) {
        int rv = raft_configuration_add(&conf, servers[i].id, servers[i].address,
                                        servers[i].voter ? RAFT_VOTER : RAFT_STANDBY);
        ASSERT(rv == 0);
    }
    struct raft_buffer buffer;
    int rv = raft_configuration_encode(&conf, &buffer);
    ASSERT(rv == 0);
    buf_add(out, buffer.base, buffer.len);
    raft_free(buffer.base);
    raft_configuration_close(&conf);
}
