#include "replication/rlog.h"

#include <stdlib.h>
#include <xxhash.h>

#include "replication/rlog_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"

/* ---- records ---- */

/* Of everything in a record but the sum itself: type and term stand in the head. */
static uint64_t entry_sum(uint64_t index, uint64_t term, uint16_t type, struct span bytes)
{
    char head[10];
    put_le64(head, term);
    head[8] = (char)(type & 0xff);
    head[9] = (char)(type >> 8);
    return XXH3_64bits_withSeed(bytes.p, bytes.n, XXH3_64bits_withSeed(head, sizeof head, index));
}

/* Room for a record of that size, behind its head; *at: its position. */
static char *put_record(struct journal_batch *batch, enum rlog_type type, uint32_t partition,
                        size_t size, uint64_t *at)
{
    ASSERT(size <= UINT32_MAX && partition <= UINT16_MAX);
    char *p = journal_batch_grow(batch, RLOG_RECORD_HEAD + size, at);
    p[0] = (char)type;
    p[1] = 0;
    p[2] = (char)(partition & 0xff);
    p[3] = (char)(partition >> 8);
    put_le32(p + 4, (uint32_t)size);
    *at += RLOG_RECORD_HEAD;
    return p + RLOG_RECORD_HEAD;
}

static uint64_t put_entry(struct journal_batch *batch, enum rlog_type type, uint32_t partition,
                          uint64_t index, const struct rcore_entry *entry)
{
    uint64_t at = 0;
    char *p = put_record(batch, type, partition, RLOG_ENTRY_HEAD + entry->bytes.n, &at);
    put_le64(p, index);
    put_le64(p + 8, entry->term);
    put_le64(p + 16, entry_sum(index, entry->term, entry->type, entry->bytes));
    p[24] = (char)(entry->type & 0xff);
    p[25] = (char)(entry->type >> 8);
    if (entry->bytes.n > 0)
        memcpy(p + RLOG_ENTRY_HEAD, entry->bytes.p, entry->bytes.n);
    return at;
}

int rlog_entry_of(struct span record, uint64_t *index, struct rcore_entry *entry)
{
    const char *p = record.p;
    if (record.n < RLOG_ENTRY_HEAD)
        return ERR_CORRUPT;
    *index = get_le64(p);
    *entry =
        (struct rcore_entry){.term = get_le64(p + 8),
                             .type = (uint16_t)((uint8_t)p[24] | (uint8_t)p[25] << 8),
                             .bytes = span_of(p + RLOG_ENTRY_HEAD, record.n - RLOG_ENTRY_HEAD)};
    uint64_t sum = entry_sum(*index, entry->term, entry->type, entry->bytes);
    return sum == get_le64(p + 16) ? 0 : ERR_CORRUPT;
}

static void put_hard(const struct rlog *log, struct journal_batch *batch)
{
    uint64_t at;
    char *p = put_record(batch, RLOG_HARD, log->partition, RLOG_HARD_SIZE, &at);
    put_le64(p, log->term);
    put_le64(p + 8, log->voted_for);
    put_le64(p + 16, log->cuts);
}

static void make_snapshot(struct buf *record, const struct rlog_snapshot *snapshot, uint64_t upto)
{
    record->n = 0;
    char *p = buf_grow(record, RLOG_SNAPSHOT_HEAD);
    put_le64(p, snapshot->index);
    put_le64(p + 8, snapshot->term);
    put_le64(p + 16, snapshot->conf_index);
    put_le64(p + 24, upto);
    buf_add_span(record, snapshot->conf);
}

static void put_bytes(struct journal_batch *batch, enum rlog_type type, uint32_t partition,
                      const struct buf *record)
{
    uint64_t at;
    memcpy(put_record(batch, type, partition, record->n, &at), record->p, record->n);
}

int rlog_snapshot_of(struct span record, struct rlog_snapshot *snapshot, uint64_t *upto)
{
    const char *p = record.p;
    if (record.n < RLOG_SNAPSHOT_HEAD)
        return ERR_CORRUPT;
    *snapshot = (struct rlog_snapshot){
        .index = get_le64(p),
        .term = get_le64(p + 8),
        .conf_index = get_le64(p + 16),
        .conf = span_of(p + RLOG_SNAPSHOT_HEAD, record.n - RLOG_SNAPSHOT_HEAD)};
    *upto = get_le64(p + 24);
    return *upto <= snapshot->index && snapshot->index < UINT64_MAX - 1 ? 0 : ERR_CORRUPT;
}

/* ---- memory ---- */

static uint64_t cost(const struct rlog_entry *entry)
{
    return entry->size + RLOG_ENTRY_HEAD + RLOG_RECORD_HEAD;
}

static struct rlog_entry *slot(const struct rlog *log, uint64_t index)
{
    ASSERT(index >= log->first && index - log->first < log->count);
    return &log->entries[(log->at + (index - log->first)) % log->cap];
}

void rlog_push(struct rlog *log, const struct rcore_entry *from, uint64_t at)
{
    if (log->count == log->cap) {
        size_t cap = log->cap == 0 ? 64 : log->cap * 2;
        struct rlog_entry *grown = xmalloc(cap * sizeof *grown);
        for (size_t i = 0; i < log->count; i++)
            grown[i] = log->entries[(log->at + i) % log->cap];
        free(log->entries);
        log->entries = grown;
        log->cap = cap;
        log->at = 0;
    }
    struct rlog_entry *entry = &log->entries[(log->at + log->count++) % log->cap];
    *entry = (struct rlog_entry){
        .term = from->term, .at = at, .type = from->type, .size = (uint32_t)from->bytes.n};
    entry->bytes = xmalloc(from->bytes.n);
    if (from->bytes.n > 0)
        memcpy(entry->bytes, from->bytes.p, from->bytes.n);
    log->bytes += cost(entry);
}

void rlog_cut_back(struct rlog *log, uint64_t index)
{
    while (log->count > 0 && rlog_last(log) >= index) {
        struct rlog_entry *entry = slot(log, rlog_last(log));
        log->bytes -= cost(entry);
        free(entry->bytes);
        log->count--;
    }
}

void rlog_cut_front(struct rlog *log, uint64_t index)
{
    while (log->count > 0 && log->first <= index) {
        struct rlog_entry *entry = slot(log, log->first);
        log->bytes -= cost(entry);
        free(entry->bytes);
        log->at = (log->at + 1) % log->cap;
        log->count--;
        log->first++;
    }
}

uint64_t rlog_last(const struct rlog *log)
{
    return log->first + log->count - 1;
}

const struct rlog_entry *rlog_get(const struct rlog *log, uint64_t index)
{
    if (index < log->first || index - log->first >= log->count)
        return NULL;
    return slot(log, index);
}

uint64_t rlog_term_at(const struct rlog *log, uint64_t index)
{
    const struct rlog_entry *entry = rlog_get(log, index);
    if (entry != NULL)
        return entry->term;
    return index == log->snapshot_index ? log->snapshot_term : 0;
}

void rlog_drop_payload(struct rlog *log, uint64_t index)
{
    struct rlog_entry *entry = slot(log, index);
    if (entry->type == RCORE_CHANGE)
        return; /* small, and asked for again */
    free(entry->bytes);
    entry->bytes = NULL;
}

uint64_t rlog_bytes(const struct rlog *log, uint64_t after, uint64_t upto)
{
    uint64_t bytes = 0;
    for (uint64_t index = after + 1; index <= upto; index++) {
        const struct rlog_entry *entry = rlog_get(log, index);
        bytes += entry != NULL ? entry->size : 0;
    }
    return bytes;
}

uint32_t rlog_fitting(const struct rlog *log, uint64_t index, uint64_t bytes, uint32_t most)
{
    uint32_t count = 0;
    for (uint64_t sum = 0; count < most && count < index; count++) {
        const struct rlog_entry *entry = rlog_get(log, index - count);
        if (entry == NULL || (sum += cost(entry)) > bytes)
            break;
    }
    return count;
}

/* ---- writing ---- */

void rlog_put_state(const struct rlog *log, struct journal_batch *batch)
{
    put_hard(log, batch);
    if (log->snapshot.n > 0)
        put_bytes(batch, RLOG_SNAPSHOT, log->partition, &log->snapshot);
    if (log->install.n > 0)
        put_bytes(batch, RLOG_INSTALL, log->partition, &log->install);
}

void rlog_put_hard(struct rlog *log, struct journal_batch *batch, uint64_t term, uint64_t voted_for)
{
    log->term = term;
    log->voted_for = voted_for;
    put_hard(log, batch);
}

/* Entries that were synced go: a watermark that tells of them tells nothing from here on. */
static void put_cut(struct rlog *log, struct journal_batch *batch)
{
    log->cuts++;
    put_hard(log, batch);
}

void rlog_put_entries(struct rlog *log, struct journal_batch *batch, uint64_t index,
                      const struct rcore_entry *entries, size_t count)
{
    ASSERT(count > 0 && index >= log->first && index <= rlog_last(log) + 1);
    if (index <= rlog_last(log)) { /* a new leader's log replaces the tail */
        put_cut(log, batch);
        rlog_cut_back(log, index);
    }
    for (size_t i = 0; i < count; i++)
        rlog_push(log, &entries[i],
                  put_entry(batch, RLOG_ENTRY, log->partition, index + i, &entries[i]));
}

void rlog_bootstrap(struct rlog *log, struct journal_batch *batch, uint32_t partition,
                    const struct rcore_server *servers, size_t count)
{
    struct buf conf = {0};
    rlog_open(log, partition);
    rcore_encode_conf(servers, count, &conf);
    struct rcore_entry entry = {1, RCORE_CHANGE, buf_span(&conf)};
    rlog_put_hard(log, batch, 1, 0);
    rlog_put_entries(log, batch, 1, &entry, 1);
    buf_close(&conf);
}

void rlog_bootstrap_empty(struct rlog *log, struct journal_batch *batch, uint32_t partition)
{
    rlog_open(log, partition);
    rlog_put_hard(log, batch, 0, 0);
}

void rlog_set_conf(struct rlog *log, uint64_t index, struct span conf)
{
    struct buf copy = {0};
    buf_add_span(&copy, conf);
    buf_close(&log->conf);
    log->conf = copy;
    log->conf_index = index;
}

void rlog_trim(struct rlog *log, struct journal_batch *batch, uint64_t index, uint64_t term,
               uint64_t upto)
{
    ASSERT(index >= log->snapshot_index && upto <= index && log->conf.n > 0);
    log->snapshot_index = index;
    log->snapshot_term = term;
    rlog_cut_front(log, upto);
    struct rlog_snapshot snapshot = {index, term, log->conf_index, buf_span(&log->conf)};
    make_snapshot(&log->snapshot, &snapshot, log->first - 1);
    put_bytes(batch, RLOG_SNAPSHOT, log->partition, &log->snapshot);
}

/* ---- becoming another one ---- */

void rlog_put_install(struct rlog *log, struct journal_batch *batch,
                      const struct rlog_snapshot *snapshot)
{
    make_snapshot(&log->install, snapshot, snapshot->index);
    put_bytes(batch, RLOG_INSTALL, log->partition, &log->install);
}

int rlog_get_install(const struct rlog *log, struct rlog_snapshot *snapshot)
{
    uint64_t upto;
    if (log->install.n == 0)
        return ERR_NOT_FOUND;
    return rlog_snapshot_of(buf_span(&log->install), snapshot, &upto);
}

void rlog_install(struct rlog *log, struct journal_batch *batch,
                  const struct rlog_snapshot *snapshot)
{
    struct buf record = {0}; /* what is given may be lent by log->install */
    make_snapshot(&record, snapshot, snapshot->index);
    put_cut(log, batch);
    put_bytes(batch, RLOG_INSTALLED, log->partition, &record);
    rlog_cut_back(log, 0);
    log->snapshot_index = snapshot->index;
    log->snapshot_term = snapshot->term;
    log->first = snapshot->index + 1;
    rlog_set_conf(log, snapshot->conf_index, snapshot->conf);
    buf_close(&log->snapshot);
    log->snapshot = record;
    log->install.n = 0;
}

/* ---- reading ---- */

int rlog_read(const struct rlog *log, struct wal *wal, uint64_t index, struct buf *payload)
{
    const struct rlog_entry *entry = rlog_get(log, index);
    struct rcore_entry found;
    uint64_t number = 0;
    if (entry == NULL)
        return ERR_NOT_FOUND;
    payload->n = 0;
    size_t size = RLOG_ENTRY_HEAD + entry->size;
    int err = wal_read(wal, entry->at, buf_grow(payload, size), size);
    if (err == 0)
        err = rlog_entry_of(buf_span(payload), &number, &found);
    if (err == 0 && (number != index || found.term != entry->term))
        err = ERR_CORRUPT;
    if (err == 0)
        buf_cut(payload, RLOG_ENTRY_HEAD);
    return err;
}

/* ---- where it stands ---- */

uint64_t rlog_oldest(const struct rlog *log)
{
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < log->count; i++) {
        uint64_t segment = journal_segment(log->entries[(log->at + i) % log->cap].at);
        oldest = segment < oldest ? segment : oldest;
    }
    return oldest;
}

size_t rlog_places(const struct rlog *log, uint64_t below, uint64_t most, struct rlog_place *places,
                   size_t max)
{
    uint64_t bytes = 0;
    size_t count = 0;
    for (size_t i = 0; i < log->count && bytes < most && count < max; i++) {
        const struct rlog_entry *entry = slot(log, log->first + i);
        if (journal_segment(entry->at) >= below)
            continue;
        bytes += cost(entry);
        if (entry->bytes == NULL)
            places[count++] = (struct rlog_place){entry->at, RLOG_ENTRY_HEAD + entry->size};
    }
    return count;
}

int rlog_move(struct rlog *log, struct wal *wal, uint64_t below, uint64_t most, uint64_t *moved)
{
    struct buf payload = {0};
    int err = 0;
    *moved = 0;
    for (size_t i = 0; i < log->count && *moved < most && err == 0; i++) {
        struct rlog_entry *entry = slot(log, log->first + i);
        if (journal_segment(entry->at) >= below)
            continue;
        struct rcore_entry copy = {entry->term, entry->type, span_of(entry->bytes, entry->size)};
        if (entry->bytes == NULL) {
            err = rlog_read(log, wal, log->first + i, &payload);
            copy.bytes = buf_span(&payload);
        }
        if (err == 0) {
            entry->at =
                put_entry(wal_batch(wal), RLOG_MOVED, log->partition, log->first + i, &copy);
            *moved += cost(entry);
        }
    }
    buf_close(&payload);
    return err;
}

void rlog_close(struct rlog *log)
{
    rlog_cut_back(log, 0);
    rlog_found_close(log);
    free(log->entries);
    buf_close(&log->conf);
    buf_close(&log->snapshot);
    buf_close(&log->install);
    *log = (struct rlog){0};
}
