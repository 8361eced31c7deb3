#include "tests/lib/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/dedup.h"
#include "store/search/search.h"
#include "store/timeline.h"

enum { MEMTABLE = 1 << 20, TERM = 1 };

static void open_life(struct machine *m)
{
    struct kv_options options = {.create = true, .memtable_bytes = MEMTABLE};
    int err = kv_open(m->dir, KV_DATA, &options, &m->kv);
    if (err != 0)
        fprintf(stderr, "machine: %s: %s\n", m->dir, kv_error());
    ASSERT(err == 0);
    kv_batch_init(&m->batch, m->kv);
    err = apply_open(m->kv, 0, 1, &m->apply);
    ASSERT(err == 0);
}

static void close_life(struct machine *m)
{
    apply_close(m->apply);
    kv_batch_close(&m->batch);
    kv_close(m->kv);
}

void machine_open(struct machine *m)
{
    *m = (struct machine){.now_ms = 1700000000000};
    scratch_make(m->root);
    snprintf(m->dir, sizeof m->dir, "%s/0", m->root);
    arena_init(&m->arena);
    applied_init(&m->applied);
    open_life(m);
}

/* What came of an entry lives until its batch is written. */
static void keep_applied(struct machine *m)
{
    if (m->unwritten_count == m->unwritten_cap) {
        m->unwritten_cap = m->unwritten_cap == 0 ? 16 : m->unwritten_cap * 2;
        m->unwritten = xrealloc(m->unwritten, m->unwritten_cap * sizeof *m->unwritten);
    }
    m->unwritten[m->unwritten_count++] = m->applied;
    applied_init(&m->applied);
}

static void drop_applied(struct machine *m)
{
    while (m->unwritten_count > 0)
        applied_close(&m->unwritten[--m->unwritten_count]);
}

void machine_close(struct machine *m)
{
    close_life(m);
    applied_close(&m->applied);
    drop_applied(m);
    free(m->unwritten);
    arena_close(&m->arena);
    for (size_t i = 0; i < m->count; i++)
        buf_close(&m->entries[i]);
    free(m->entries);
    scratch_remove(m->root);
}

void machine_write(struct machine *m)
{
    int err = kv_write(&m->batch);
    ASSERT(err == 0);
    apply_written(m->apply);
    drop_applied(m);
}

static void apply_one(struct machine *m, uint64_t index)
{
    keep_applied(m);
    int err = apply_entry(m->apply, index, TERM, buf_span(&m->entries[index - 1]), &m->batch,
                          &m->applied);
    ASSERT(err == 0);
    if (m->applied.must_write)
        machine_write(m);
}

static struct buf *new_entry(struct machine *m)
{
    if (m->count == m->cap) {
        m->cap = m->cap == 0 ? 64 : m->cap * 2;
        m->entries = xrealloc(m->entries, m->cap * sizeof *m->entries);
    }
    m->entries[m->count] = (struct buf){0};
    return &m->entries[m->count++];
}

void machine_replay(struct machine *m, struct span entry)
{
    buf_add_span(new_entry(m), entry);
    apply_one(m, m->count);
}

static void add_command(struct buf *entry, const Loquat__Command *command)
{
    struct buf bytes = {0};
    size_t size = loquat__command__get_packed_size(command);
    loquat__command__pack(command, (uint8_t *)buf_grow(&bytes, size));
    entry_add(entry, buf_span(&bytes));
    buf_close(&bytes);
}

/* One entry with what is owed, and one that says so. */
static void deliver(struct machine *m)
{
    if (m->applied.out_count == 0)
        return;
    struct applied first = m->applied;
    applied_init(&m->applied);
    struct buf *entry = new_entry(m);
    entry_begin(entry, ENTRY_VERSION, m->now_ms);
    Loquat__Command done = LOQUAT__COMMAND__INIT;
    done.op = LOQUAT__OP__OP_OUT_DONE;
    done.done = xcalloc(first.out_count, sizeof *done.done);
    for (size_t i = 0; i < first.out_count; i++) {
        entry_add(entry, first.outs[i].command);
        done.done[done.n_done++] = first.outs[i].number;
    }
    apply_one(m, m->count);
    entry = new_entry(m);
    entry_begin(entry, ENTRY_VERSION, m->now_ms);
    add_command(entry, &done);
    apply_one(m, m->count);
    machine_write(m);
    free(done.done);
    applied_close(&m->applied);
    m->applied = first;
}

void machine_entry(struct machine *m, Loquat__Command *const *commands, size_t count)
{
    m->now_ms++;
    struct buf *entry = new_entry(m);
    entry_begin(entry, ENTRY_VERSION, m->now_ms);
    for (size_t i = 0; i < count; i++)
        add_command(entry, commands[i]);
    apply_one(m, m->count);
    machine_write(m);
    ASSERT(m->applied.result_count == count);
    deliver(m);
}

struct apply_result machine_do(struct machine *m, const Loquat__Command *command)
{
    Loquat__Command *one = (Loquat__Command *)(uintptr_t)command;
    machine_entry(m, &one, 1);
    return m->applied.results[0];
}

void machine_flush(struct machine *m)
{
    char scratch[SCRATCH_MAX + 16];
    snprintf(scratch, sizeof scratch, "%s/flush.tmp", m->root);
    int err = kv_flush(m->kv, scratch);
    ASSERT(err == 0);
}

void machine_seal(struct machine *m)
{
    apply_seal(m->apply, &m->batch);
    machine_write(m);
}

static void catch_up(struct machine *m)
{
    for (uint64_t index = apply_index(m->apply) + 1; index <= m->count; index++)
        apply_one(m, index);
    machine_write(m);
}

void machine_crash(struct machine *m)
{
    char next[SCRATCH_MAX + 16];
    snprintf(next, sizeof next, "%s/%u", m->root, ++m->lives);
    scratch_copy(m->dir, next);
    close_life(m);
    scratch_remove(m->dir);
    snprintf(m->dir, sizeof m->dir, "%s", next);
    open_life(m);
    catch_up(m);
}

void machine_restart(struct machine *m)
{
    close_life(m);
    open_life(m);
    ASSERT(apply_index(m->apply) == m->count);
}

int machine_range(struct machine *m, Loquat__Read *read, Loquat__Reply *reply)
{
    loquat__reply__init(reply);
    read->op = LOQUAT__READ_OP__READ_RANGE;
    return timeline_read(m->kv, 0, read, m->now_ms, &m->arena, reply);
}

int machine_read(struct machine *m, Loquat__Read *read, Loquat__Reply *reply)
{
    loquat__reply__init(reply);
    return apply_read(m->apply, read, m->now_ms, &m->arena, reply);
}

Loquat__ConvInfo *machine_conv(struct machine *m, const char *user, const char *conv)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply;
    char *convs[1] = {(char *)(uintptr_t)conv};
    read.op = LOQUAT__READ_OP__READ_CONVS;
    read.user = (char *)(uintptr_t)user;
    read.convs = convs;
    read.n_convs = 1;
    int err = machine_read(m, &read, &reply);
    ASSERT(err == 0 && reply.n_convs == 1);
    return reply.convs[0]->err == 0 ? reply.convs[0] : NULL;
}

uint64_t machine_digest(struct machine *m)
{
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset(state);
    for (int cf = 0; cf < KV_CF_COUNT; cf++) {
        struct kv_iter iter;
        kv_iter_open(&iter, m->kv, NULL, (enum kv_cf)cf, (struct span){0}, (struct span){0});
        for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
            struct span row[2] = {kv_iter_key(&iter), kv_iter_value(&iter)};
            uint64_t hashes[DEDUP_ROW];
            if (cf == KV_DEDUP) { /* in which pieces it was sealed is each replica's own affair */
                int err = dedup_row_read(row[1], hashes);
                ASSERT(err == 0);
                row[1] = span_of((const char *)hashes, sizeof hashes);
            }
            for (int i = 0; i < 2; i++) {
                XXH3_64bits_update(state, &row[i].n, sizeof row[i].n);
                XXH3_64bits_update(state, row[i].p, row[i].n);
            }
        }
        ASSERT(kv_iter_error(&iter) == 0);
        kv_iter_close(&iter);
        XXH3_64bits_update(state, "family", 6);
    }
    uint64_t digest = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return digest;
}

Loquat__Reply machine_search(struct machine *m, struct kv *index, const char *user, const char *q,
                             char (*convs)[64], size_t count, uint64_t below, uint32_t max,
                             bool *damaged)
{
    char *names[MACHINE_SEARCH_MAX];
    Loquat__Search what = LOQUAT__SEARCH__INIT;
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    ASSERT(count <= MACHINE_SEARCH_MAX);
    for (size_t i = 0; i < count; i++)
        names[i] = convs[i];
    what.q = (char *)(uintptr_t)q;
    read.op = LOQUAT__READ_OP__READ_SEARCH;
    read.user = (char *)(uintptr_t)user;
    read.convs = names;
    read.n_convs = count;
    read.search = &what;
    read.from = below;
    read.max = max;
    arena_reset(&m->arena);
    int err = search_read(m->kv, index, 0, &read, m->now_ms, &m->arena, &reply, damaged);
    ASSERT(err == 0);
    return reply;
}
