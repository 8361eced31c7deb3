#include "replication/rlog.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum {
    RLOG_VERSION = 1,
    TAG_HARD = 0,
    TAG_SNAPSHOT = 1,
    TAG_ENTRY = 2,
    TAG_INSTALL = 3,
    TAG_CUTS = 4,
    HARD_SIZE = 17,
    CUTS_SIZE = 9,
    SNAPSHOT_HEAD_SIZE = 25,
    ENTRY_ROW_HEAD = 19,
    KEY_SIZE = 11,
};

struct rkey {
    char p[KEY_SIZE];
    size_t n;
};

static struct rkey rkey_tag(uint32_t partition, char tag)
{
    struct rkey key = {.n = 3};
    put_be16(key.p, (uint16_t)partition);
    key.p[2] = tag;
    return key;
}

static struct rkey rkey_entry(uint32_t partition, uint64_t index)
{
    struct rkey key = rkey_tag(partition, TAG_ENTRY);
    put_be64(key.p + 3, index);
    key.n = KEY_SIZE;
    return key;
}

static struct span rkey_span(const struct rkey *key)
{
    return (struct span){key->p, key->n};
}

/* ---- rows ---- */

/* Of everything in a row but the version: head is the row's, up to the sum. */
static uint64_t entry_sum(uint64_t index, const char *head, struct span bytes)
{
    uint64_t seed = XXH3_64bits_withSeed(head + 1, 10, index); /* term and type */
    return XXH3_64bits_withSeed(bytes.p, bytes.n, seed);
}

static void put_entry_row(struct kv_batch *batch, uint32_t partition, uint64_t index,
                          const struct rcore_entry *entry)
{
    char head[ENTRY_ROW_HEAD];
    head[0] = RLOG_VERSION;
    put_le64(head + 1, entry->term);
    head[9] = (char)(entry->type & 0xff);
    head[10] = (char)(entry->type >> 8);
    put_le64(head + 11, entry_sum(index, head, entry->bytes));
    struct rkey key = rkey_entry(partition, index);
    kv_put2(batch, KV_LOG, rkey_span(&key), span_of(head, sizeof head), entry->bytes);
}

static int read_entry_row(uint64_t index, struct span row, struct rcore_entry *entry)
{
    if (row.n < ENTRY_ROW_HEAD || row.p[0] != RLOG_VERSION)
        return ERR_CORRUPT;
    *entry = (struct rcore_entry){.term = get_le64(row.p + 1),
                                  .type = (uint16_t)((uint8_t)row.p[9] | (uint8_t)row.p[10] << 8),
                                  .bytes = span_of(row.p + ENTRY_ROW_HEAD, row.n - ENTRY_ROW_HEAD)};
    return get_le64(row.p + 11) == entry_sum(index, row.p, entry->bytes) ? 0 : ERR_CORRUPT;
}

static void put_hard_row(struct kv_batch *batch, uint32_t partition, uint64_t term, uint64_t vote)
{
    char value[HARD_SIZE] = {RLOG_VERSION};
    put_le64(value + 1, term);
    put_le64(value + 9, vote);
    struct rkey key = rkey_tag(partition, TAG_HARD);
    kv_put(batch, KV_LOG, rkey_span(&key), span_of(value, sizeof value));
}

static void put_snapshot_row(struct kv_batch *batch, struct rkey key,
                             const struct rlog_snapshot *snapshot)
{
    char head[SNAPSHOT_HEAD_SIZE] = {RLOG_VERSION};
    put_le64(head + 1, snapshot->index);
    put_le64(head + 9, snapshot->term);
    put_le64(head + 17, snapshot->conf_index);
    kv_put2(batch, KV_LOG, rkey_span(&key), span_of(head, sizeof head), snapshot->conf);
}

static int read_snapshot_row(struct span row, struct rlog_snapshot *snapshot)
{
    if (row.n < SNAPSHOT_HEAD_SIZE || row.p[0] != RLOG_VERSION)
        return ERR_CORRUPT;
    *snapshot = (struct rlog_snapshot){
        .index = get_le64(row.p + 1),
        .term = get_le64(row.p + 9),
        .conf_index = get_le64(row.p + 17),
        .conf = span_of(row.p + SNAPSHOT_HEAD_SIZE, row.n - SNAPSHOT_HEAD_SIZE)};
    return 0;
}

/* Entries that were synced go: a watermark that tells of them tells nothing from here on. */
static void put_cut(struct rlog *log, struct kv_batch *batch)
{
    char value[CUTS_SIZE] = {RLOG_VERSION};
    put_le64(value + 1, ++log->cuts);
    struct rkey key = rkey_tag(log->partition, TAG_CUTS);
    kv_put(batch, KV_LOG, rkey_span(&key), span_of(value, sizeof value));
}

void rlog_bootstrap(struct kv_batch *batch, uint32_t partition, const struct rcore_server *servers,
                    size_t count)
{
    struct buf conf = {0};
    rcore_encode_conf(servers, count, &conf);
    struct rcore_entry entry = {1, RCORE_CHANGE, buf_span(&conf)};
    put_entry_row(batch, partition, 1, &entry);
    put_hard_row(batch, partition, 1, 0);
    buf_close(&conf);
}

void rlog_bootstrap_empty(struct kv_batch *batch, uint32_t partition)
{
    put_hard_row(batch, partition, 0, 0);
}

/* ---- memory ---- */

static void drop_entries(struct rlog *log)
{
    for (size_t i = 0; i < log->count; i++)
        free(log->entries[(log->at + i) % log->cap].bytes);
    log->at = log->count = 0;
}

static struct rlog_entry *slot(const struct rlog *log, uint64_t index)
{
    ASSERT(index >= log->first && index - log->first < log->count);
    return &log->entries[(log->at + (index - log->first)) % log->cap];
}

static void push(struct rlog *log, uint64_t term, uint16_t type, struct span bytes)
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
    *entry = (struct rlog_entry){.term = term, .type = type, .size = bytes.n};
    entry->bytes = xmalloc(bytes.n);
    if (bytes.n > 0)
        memcpy(entry->bytes, bytes.p, bytes.n);
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
        if (entry == NULL || (sum += entry->size + ENTRY_ROW_HEAD) > bytes)
            break;
    }
    return count;
}

/* ---- writing ---- */

void rlog_put_hard(struct rlog *log, struct kv_batch *batch, uint64_t term, uint64_t voted_for)
{
    log->term = term;
    log->voted_for = voted_for;
    put_hard_row(batch, log->partition, term, voted_for);
}

void rlog_put_entries(struct rlog *log, struct kv_batch *batch, uint64_t index,
                      const struct rcore_entry *entries, size_t count)
{
    ASSERT(index >= log->first && index <= rlog_last(log) + 1);
    if (index <= rlog_last(log)) { /* a new leader's log replaces the tail */
        struct rkey from = rkey_entry(log->partition, index);
        struct rkey until = rkey_entry(log->partition, rlog_last(log) + 1);
        kv_delete_range(batch, KV_LOG, rkey_span(&from), rkey_span(&until));
        put_cut(log, batch);
        while (log->count > 0 && rlog_last(log) >= index) {
            free(slot(log, rlog_last(log))->bytes);
            log->count--;
        }
    }
    for (size_t i = 0; i < count; i++) {
        push(log, entries[i].term, entries[i].type, entries[i].bytes);
        put_entry_row(batch, log->partition, index + i, &entries[i]);
    }
}

void rlog_set_conf(struct rlog *log, uint64_t index, struct span conf)
{
    struct buf copy = {0};
    buf_add_span(&copy, conf);
    buf_close(&log->conf);
    log->conf = copy;
    log->conf_index = index;
}

void rlog_trim(struct rlog *log, struct kv_batch *batch, uint64_t index, uint64_t term,
               uint64_t upto)
{
    ASSERT(index >= log->snapshot_index && upto <= index && log->conf.n > 0);
    log->snapshot_index = index;
    log->snapshot_term = term;
    struct rlog_snapshot snapshot = {index, term, log->conf_index, buf_span(&log->conf)};
    put_snapshot_row(batch, rkey_tag(log->partition, TAG_SNAPSHOT), &snapshot);
    if (upto < log->first)
        return;
    struct rkey from = rkey_entry(log->partition, 0);
    struct rkey until = rkey_entry(log->partition, upto + 1);
    kv_delete_range(batch, KV_LOG, rkey_span(&from), rkey_span(&until));
    while (log->count > 0 && log->first <= upto) {
        free(slot(log, log->first)->bytes);
        log->at = (log->at + 1) % log->cap;
        log->count--;
        log->first++;
    }
}

/* ---- becoming another one ---- */

void rlog_put_install(struct kv_batch *batch, uint32_t partition,
                      const struct rlog_snapshot *snapshot)
{
    put_snapshot_row(batch, rkey_tag(partition, TAG_INSTALL), snapshot);
}

int rlog_get_install(struct kv *kv, uint32_t partition, struct rlog_snapshot *snapshot,
                     struct buf *conf)
{
    struct rkey key = rkey_tag(partition, TAG_INSTALL);
    int err = kv_get(kv, KV_LOG, rkey_span(&key), conf);
    if (err == 0)
        err = read_snapshot_row(buf_span(conf), snapshot);
    return err;
}

void rlog_install(struct rlog *log, struct kv_batch *batch, const struct rlog_snapshot *snapshot)
{
    struct rkey from = rkey_entry(log->partition, 0);
    struct rkey until = rkey_tag(log->partition, TAG_ENTRY + 1);
    struct rkey install = rkey_tag(log->partition, TAG_INSTALL);
    kv_delete_range(batch, KV_LOG, rkey_span(&from), rkey_span(&until));
    kv_delete(batch, KV_LOG, rkey_span(&install));
    put_snapshot_row(batch, rkey_tag(log->partition, TAG_SNAPSHOT), snapshot);
    put_cut(log, batch);
    drop_entries(log);
    log->snapshot_index = snapshot->index;
    log->snapshot_term = snapshot->term;
    log->first = snapshot->index + 1;
    rlog_set_conf(log, snapshot->conf_index, snapshot->conf);
}

/* ---- reading ---- */

int rlog_read(const struct rlog *log, struct kv *kv, uint64_t index, struct buf *payload)
{
    const struct rlog_entry *entry = rlog_get(log, index);
    struct rkey key = rkey_entry(log->partition, index);
    int err = entry != NULL ? kv_get(kv, KV_LOG, rkey_span(&key), payload) : ERR_NOT_FOUND;
    if (err != 0)
        return err;
    struct rcore_entry found;
    err = read_entry_row(index, buf_span(payload), &found);
    if (err != 0 || found.term != entry->term)
        return ERR_CORRUPT;
    buf_cut(payload, ENTRY_ROW_HEAD);
    return 0;
}

/* ---- start ---- */

static int load_snapshot(struct rlog *log, struct kv *kv, struct buf *value)
{
    struct rlog_snapshot snapshot;
    struct rkey key = rkey_tag(log->partition, TAG_SNAPSHOT);
    int err = kv_get(kv, KV_LOG, rkey_span(&key), value);
    if (err == ERR_NOT_FOUND)
        return 0;
    if (err == 0)
        err = read_snapshot_row(buf_span(value), &snapshot);
    if (err != 0)
        return err;
    log->snapshot_index = snapshot.index;
    log->snapshot_term = snapshot.term;
    rlog_set_conf(log, snapshot.conf_index, snapshot.conf);
    return 0;
}

static int load_cuts(struct rlog *log, struct kv *kv, struct buf *value)
{
    struct rkey key = rkey_tag(log->partition, TAG_CUTS);
    int err = kv_get(kv, KV_LOG, rkey_span(&key), value);
    if (err == ERR_NOT_FOUND)
        return 0;
    if (err == 0 && (value->n != CUTS_SIZE || value->p[0] != RLOG_VERSION))
        err = ERR_CORRUPT;
    if (err == 0)
        log->cuts = get_le64(value->p + 1);
    return err;
}

static int load_meta(struct rlog *log, struct kv *kv)
{
    struct buf value = {0};
    struct rkey key = rkey_tag(log->partition, TAG_HARD);
    int err = kv_get(kv, KV_LOG, rkey_span(&key), &value);
    if (err == 0 && (value.n != HARD_SIZE || value.p[0] != RLOG_VERSION))
        err = ERR_CORRUPT;
    if (err == 0) {
        log->term = get_le64(value.p + 1);
        log->voted_for = get_le64(value.p + 9);
        err = load_snapshot(log, kv, &value);
    }
    if (err == 0)
        err = load_cuts(log, kv, &value);
    buf_close(&value);
    return err;
}

static int load_entry(struct rlog *log, uint64_t index, struct span row)
{
    struct rcore_entry entry;
    int err = read_entry_row(index, row, &entry);
    if (err != 0)
        return err;
    if (log->count == 0)
        log->first = index;
    if (index != log->first + log->count)
        return ERR_CORRUPT;
    push(log, entry.term, entry.type, entry.bytes);
    return 0;
}

int rlog_load(struct rlog *log, struct kv *kv, uint32_t partition)
{
    *log = (struct rlog){.partition = partition, .first = 1};
    int err = load_meta(log, kv);
    log->first = log->snapshot_index + 1;
    struct rkey from = rkey_entry(partition, 0), until = rkey_tag(partition, TAG_ENTRY + 1);
    struct kv_iter iter;
    kv_iter_open(&iter, kv, NULL, KV_LOG, rkey_span(&from), rkey_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        err = key.n == KEY_SIZE ? load_entry(log, get_be64(key.p + 3), kv_iter_value(&iter))
                                : ERR_CORRUPT;
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    /* Entries between the snapshot and the log are missing, or the newest are. */
    if (err == 0 && (log->first > log->snapshot_index + 1 || rlog_last(log) < log->snapshot_index))
        err = ERR_CORRUPT;
    if (err != 0)
        rlog_close(log);
    return err;
}

void rlog_close(struct rlog *log)
{
    drop_entries(log);
    free(log->entries);
    buf_close(&log->conf);
    *log = (struct rlog){0};
}
