/* replication/rlog_take.c: a raft log, out of what the journal tells. Entries come in the order of
 * their indexes, but for those that were moved: they come when they come, perhaps more than once,
 * and what they were moved from may be there still or not. They are kept apart until the end. */
#include <stdlib.h>

#include "replication/rlog_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"

struct moved {
    uint64_t index, at, term;
    uint16_t type;
    struct buf bytes;
};

struct rlog_found {
    bool told;     /* HARD has come */
    uint64_t gone; /* entries up to it were trimmed */
    struct moved *moved;
    size_t count, cap;
};

void rlog_open(struct rlog *log, uint32_t partition)
{
    *log = (struct rlog){.partition = partition, .first = 1};
    log->found = xcalloc(1, sizeof *log->found);
}

void rlog_found_close(struct rlog *log)
{
    struct rlog_found *found = log->found;
    if (found == NULL)
        return;
    for (size_t i = 0; i < found->count; i++)
        buf_close(&found->moved[i].bytes);
    free(found->moved);
    free(found);
    log->found = NULL;
}

/* ---- records ---- */

static int take_hard(struct rlog *log, struct span record)
{
    if (record.n != RLOG_HARD_SIZE)
        return ERR_CORRUPT;
    log->term = get_le64(record.p);
    log->voted_for = get_le64(record.p + 8);
    log->cuts = get_le64(record.p + 16);
    log->found->told = true;
    return 0;
}

static void drop_moved(struct rlog_found *found, uint64_t from, uint64_t upto)
{
    size_t kept = 0;
    for (size_t i = 0; i < found->count; i++) {
        if (found->moved[i].index < from || found->moved[i].index > upto)
            found->moved[kept++] = found->moved[i];
        else
            buf_close(&found->moved[i].bytes);
    }
    found->count = kept;
}

static void set_gone(struct rlog *log, uint64_t upto)
{
    log->found->gone = upto;
    drop_moved(log->found, 0, upto);
    rlog_cut_front(log, upto);
    if (log->count == 0 && log->first <= upto)
        log->first = upto + 1;
}

static void set_snapshot(struct rlog *log, const struct rlog_snapshot *snapshot)
{
    log->snapshot_index = snapshot->index;
    log->snapshot_term = snapshot->term;
    rlog_set_conf(log, snapshot->conf_index, snapshot->conf);
}

static int take_snapshot(struct rlog *log, enum rlog_type type, struct span record)
{
    struct rlog_snapshot snapshot;
    uint64_t upto;
    int err = rlog_snapshot_of(record, &snapshot, &upto);
    if (err != 0)
        return err;
    struct buf *kept = type == RLOG_INSTALL ? &log->install : &log->snapshot;
    kept->n = 0;
    buf_add_span(kept, record);
    if (type == RLOG_INSTALL)
        return 0;
    if (type == RLOG_INSTALLED) {
        rlog_cut_back(log, 0);
        drop_moved(log->found, 0, UINT64_MAX);
        log->first = upto + 1;
        log->install.n = 0;
    }
    set_snapshot(log, &snapshot);
    set_gone(log, upto);
    return 0;
}

static int take_entry(struct rlog *log, struct span record, uint64_t at)
{
    struct rcore_entry entry;
    uint64_t index;
    int err = rlog_entry_of(record, &index, &entry);
    if (err != 0 || index == 0 || index >= UINT64_MAX - 1)
        return ERR_CORRUPT;
    if (log->count > 0 && index > rlog_last(log) + 1)
        return ERR_CORRUPT;
    if (log->count == 0 || index <= rlog_last(log)) {
        rlog_cut_back(log, index);
        drop_moved(log->found, index, UINT64_MAX);
    }
    if (log->count == 0)
        log->first = index;
    rlog_push(log, &entry, at);
    return 0;
}

static int take_moved(struct rlog *log, struct span record, uint64_t at)
{
    struct rlog_found *found = log->found;
    struct rcore_entry entry;
    uint64_t index;
    int err = rlog_entry_of(record, &index, &entry);
    if (err != 0)
        return err;
    const struct rlog_entry *here = rlog_get(log, index);
    if (here != NULL && here->term != entry.term)
        return ERR_CORRUPT;
    if (found->count == found->cap) {
        found->cap = found->cap == 0 ? 64 : found->cap * 2;
        found->moved = xrealloc(found->moved, found->cap * sizeof *found->moved);
    }
    struct moved *moved = &found->moved[found->count];
    *moved = (struct moved){index, at, entry.term, entry.type, {0}};
    found->count++;
    buf_add_span(&moved->bytes, entry.bytes);
    return 0;
}

static int take_record(struct rlog *log, enum rlog_type type, struct span record, uint64_t at)
{
    switch (type) {
    case RLOG_HARD:
        return take_hard(log, record);
    case RLOG_SNAPSHOT:
    case RLOG_INSTALL:
    case RLOG_INSTALLED:
        return take_snapshot(log, type, record);
    case RLOG_ENTRY:
        return take_entry(log, record, at);
    case RLOG_MOVED:
        return take_moved(log, record, at);
    }
    return ERR_CORRUPT;
}

int rlog_take(struct rlog *logs, uint32_t partitions, uint64_t at, struct span records)
{
    for (size_t next = 0; next < records.n;) {
        const char *p = records.p + next;
        if (records.n - next < RLOG_RECORD_HEAD)
            return ERR_CORRUPT;
        uint32_t partition = (uint8_t)p[2] | (uint32_t)(uint8_t)p[3] << 8, size = get_le32(p + 4);
        next += RLOG_RECORD_HEAD;
        if (size > records.n - next || partition >= partitions)
            return ERR_CORRUPT;
        struct rlog *log = &logs[partition];
        ASSERT(log->found != NULL);
        int err = take_record(log, (enum rlog_type)(uint8_t)p[0], span_of(records.p + next, size),
                              at + next);
        if (err != 0)
            return err;
        next += size;
    }
    return 0;
}

/* ---- the end ---- */

/* Of the same index in the order that they were written in. */
static int by_index(const void *a, const void *b)
{
    const struct moved *x = a, *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static bool is_last_of_its_index(const struct rlog_found *found, size_t i)
{
    return i + 1 == found->count || found->moved[i + 1].index != found->moved[i].index;
}

/* Of those that are in the log: the place. What was in front of it, sorted: into `front`. */
static int take_places(struct rlog *log, struct rlog *front)
{
    const struct rlog_found *found = log->found;
    for (size_t i = 0; i < found->count; i++) {
        const struct moved *moved = &found->moved[i];
        struct rcore_entry entry = {moved->term, moved->type, buf_span(&moved->bytes)};
        if (!is_last_of_its_index(found, i))
            continue;
        if (rlog_get(log, moved->index) != NULL)
            log->entries[(log->at + (moved->index - log->first)) % log->cap].at = moved->at;
        else if (moved->index == rlog_last(front) + 1)
            rlog_push(front, &entry, moved->at);
        else
            return ERR_CORRUPT;
    }
    return 0;
}

/* The log with those that were moved put in front, where they were not there any more. */
static int join(struct rlog *log)
{
    struct rlog whole = {.first = log->found->gone + 1};
    qsort(log->found->moved, log->found->count, sizeof *log->found->moved, by_index);
    int err = take_places(log, &whole);
    if (err == 0 && whole.count > 0 && log->count > 0 && rlog_last(&whole) + 1 != log->first)
        err = ERR_CORRUPT;
    if (err != 0 || whole.count == 0) {
        rlog_close(&whole);
        return err;
    }
    for (size_t i = 0; i < log->count; i++) {
        const struct rlog_entry *from = rlog_get(log, log->first + i);
        struct rcore_entry entry = {from->term, from->type, span_of(from->bytes, from->size)};
        rlog_push(&whole, &entry, from->at);
    }
    rlog_cut_back(log, 0);
    free(log->entries);
    log->entries = whole.entries;
    log->first = whole.first;
    log->at = whole.at;
    log->count = whole.count;
    log->cap = whole.cap;
    log->bytes = whole.bytes;
    return 0;
}

int rlog_finish(struct rlog *log)
{
    struct rlog_found *found = log->found;
    uint64_t gone = found->gone;
    int err = found->told ? 0 : ERR_NOT_FOUND;
    if (err == 0 && found->count > 0)
        err = join(log);
    rlog_found_close(log);
    /* Entries between what was trimmed and the log are missing, or the newest are. */
    if (err == 0 && (log->first != gone + 1 || rlog_last(log) < log->snapshot_index))
        err = ERR_CORRUPT;
    if (err != 0)
        rlog_close(log);
    return err;
}
