#include "replication/rlog_old.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "replication/rlog.h"
#include "replication/roster.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/kv.h"

enum {
    ROW_VERSION = 1,
    ROSTER_PREFIX = 0xffff,
    TAG_HARD = 0,
    TAG_SNAPSHOT = 1,
    TAG_ENTRY = 2,
    TAG_INSTALL = 3,
    TAG_CUTS = 4,
    HARD_SIZE = 17,
    CUTS_SIZE = 9,
    SNAPSHOT_HEAD = 25,
    ENTRY_HEAD = 19,
    ENTRY_KEY = 11,
    ROSTER_KEY = 10,
    FRAME_TARGET = 4 << 20,
};

struct conversion {
    const char *path;
    uint32_t partitions;
    struct rlog log; /* of the partition that is being read */
    struct journal *journal;
    struct journal_batch batch;
    struct rlog_snapshot snapshot; /* read, and not put yet: where entries begin is told by them */
    struct buf conf;
    bool begun, trimmed;
};

static int flush(struct conversion *conv)
{
    if (journal_batch_empty(&conv->batch))
        return 0;
    int err = journal_write(conv->journal, &conv->batch);
    journal_batch_begin(&conv->batch, journal_after(&conv->batch));
    return err;
}

static int put_snapshot(struct conversion *conv, uint64_t first)
{
    struct rlog *log = &conv->log;
    if (!conv->trimmed)
        return 0;
    conv->trimmed = false;
    if (first == 0 || first > conv->snapshot.index + 1 || log->count > 0)
        return ERR_CORRUPT;
    log->first = first;
    rlog_set_conf(log, conv->snapshot.conf_index, buf_span(&conv->conf));
    rlog_trim(log, &conv->batch, conv->snapshot.index, conv->snapshot.term, first - 1);
    return 0;
}

/* ---- rows ---- */

static int take_snapshot(struct conversion *conv, struct span row, bool installing)
{
    if (row.n <= SNAPSHOT_HEAD)
        return ERR_CORRUPT;
    conv->conf.n = 0;
    buf_add(&conv->conf, row.p + SNAPSHOT_HEAD, row.n - SNAPSHOT_HEAD);
    struct rlog_snapshot snapshot = {get_le64(row.p + 1), get_le64(row.p + 9), get_le64(row.p + 17),
                                     buf_span(&conv->conf)};
    if (installing) {
        rlog_put_install(&conv->log, &conv->batch, &snapshot);
    } else {
        conv->snapshot = snapshot;
        conv->trimmed = true;
    }
    return 0;
}

static int take_entry(struct conversion *conv, struct span key, struct span row)
{
    struct rlog *log = &conv->log;
    if (key.n != ENTRY_KEY || row.n < ENTRY_HEAD)
        return ERR_CORRUPT;
    uint64_t index = get_be64(key.p + 3), seed = XXH3_64bits_withSeed(row.p + 1, 10, index);
    struct rcore_entry entry = {get_le64(row.p + 1),
                                (uint16_t)((uint8_t)row.p[9] | (uint8_t)row.p[10] << 8),
                                span_of(row.p + ENTRY_HEAD, row.n - ENTRY_HEAD)};
    if (XXH3_64bits_withSeed(entry.bytes.p, entry.bytes.n, seed) != get_le64(row.p + 11))
        return ERR_CORRUPT;
    int err = put_snapshot(conv, index);
    if (err != 0 || index != rlog_last(log) + 1)
        return ERR_CORRUPT;
    rlog_put_entries(log, &conv->batch, index, &entry, 1);
    if (log->entries[(log->at + log->count - 1) % log->cap].bytes != NULL)
        rlog_drop_payload(log, index);
    return 0;
}

static int take_row(struct conversion *conv, struct span key, struct span row)
{
    struct rlog *log = &conv->log;
    if (row.n == 0 || row.p[0] != ROW_VERSION)
        return ERR_CORRUPT;
    switch (key.p[2]) {
    case TAG_HARD:
        if (row.n != HARD_SIZE)
            return ERR_CORRUPT;
        rlog_put_hard(log, &conv->batch, get_le64(row.p + 1), get_le64(row.p + 9));
        return 0;
    case TAG_SNAPSHOT:
        return take_snapshot(conv, row, false);
    case TAG_ENTRY:
        return take_entry(conv, key, row);
    case TAG_INSTALL:
    case TAG_CUTS:
        if (put_snapshot(conv, conv->snapshot.index + 1) != 0 ||
            (key.p[2] == TAG_CUTS && row.n != CUTS_SIZE))
            return ERR_CORRUPT;
        if (key.p[2] == TAG_INSTALL)
            return take_snapshot(conv, row, true);
        log->cuts = get_le64(row.p + 1);
        rlog_put_hard(log, &conv->batch, log->term, log->voted_for);
        return 0;
    default:
        return ERR_CORRUPT;
    }
}

static int take_roster(const struct conversion *conv, struct span key, struct span row)
{
    if (key.n != ROSTER_KEY || row.n < 2 || row.p[0] != ROW_VERSION)
        return ERR_CORRUPT;
    uint64_t id = get_be64(key.p + 2);
    if (id == 0)
        return roster_put_drained(conv->path, row.p[1] != 0);
    return row.n == 1 + ROSTER_ID_SIZE
               ? roster_meet(conv->path, id, span_of(row.p + 1, ROSTER_ID_SIZE))
               : ERR_CORRUPT;
}

static int end_log(struct conversion *conv)
{
    int err = conv->begun ? put_snapshot(conv, conv->snapshot.index + 1) : 0;
    rlog_close(&conv->log);
    conv->begun = false;
    return err;
}

static int take_all(struct conversion *conv, struct kv *raft)
{
    struct kv_iter iter;
    int err = 0;
    kv_iter_open_scan(&iter, raft, NULL, KV_LOG, (struct span){0}, (struct span){0});
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), row = kv_iter_value(&iter);
        uint32_t partition = key.n >= 3 ? get_be16(key.p) : UINT32_MAX;
        if (partition == ROSTER_PREFIX) {
            err = take_roster(conv, key, row);
            continue;
        }
        if (partition >= conv->partitions) {
            err = ERR_CORRUPT;
            continue;
        }
        if (conv->begun && conv->log.partition != partition)
            err = end_log(conv);
        if (err == 0 && !conv->begun)
            rlog_open(&conv->log, partition);
        conv->begun = true;
        if (err == 0)
            err = take_row(conv, key, row);
        if (err == 0 && conv->batch.n > FRAME_TARGET)
            err = flush(conv);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    if (err == 0)
        err = end_log(conv);
    rlog_close(&conv->log);
    return err == 0 ? flush(conv) : err;
}

/* What it leaves is in the way of nobody, but takes room. */
static void remove_attempt(const struct datadir *dir, const char *path)
{
    file_remove_directory(dir->journal);
    roster_forget(path);
}

static int take_nothing(void *arg, uint64_t at, struct span records)
{
    (void)arg, (void)at, (void)records;
    return ERR_CORRUPT; /* it was just made */
}

static int write_journal(const struct datadir *dir, const char *path, struct kv *raft, char *why,
                         size_t size)
{
    struct conversion conv = {.path = path, .partitions = dir->partitions};
    uint64_t at = 0;
    remove_attempt(dir, path);
    if (mkdir(dir->journal, 0700) != 0) {
        snprintf(why, size, "%s: %s", dir->journal, strerror(errno));
        return ERR_IO;
    }
    int err = journal_open(dir->journal, take_nothing, NULL, why, size, &conv.journal);
    if (err != 0)
        return err;
    err = journal_begin(conv.journal, &at);
    journal_batch_begin(&conv.batch, at);
    if (err == 0)
        err = take_all(&conv, raft);
    if (err == 0)
        err = file_sync_directory(path);
    if (err != 0)
        snprintf(why, size, "%s could not be made out of %s: %s", dir->journal, dir->raft,
                 err == ERR_CORRUPT ? "that is damaged; restore the directory from a backup"
                                    : strerror(errno));
    journal_close(conv.journal);
    journal_batch_close(&conv.batch);
    buf_close(&conv.conf);
    return err;
}

/* As the next start reads it: before the only other copy goes. */
static int check_journal(const struct datadir *dir, char *why, size_t size)
{
    struct rlog *logs = xcalloc(dir->partitions, sizeof *logs);
    struct journal *journal = NULL;
    int err = rlog_load(dir->journal, logs, dir->partitions, why, size, &journal);
    for (uint32_t p = 0; p < dir->partitions && err == 0; p++) {
        if (rlog_finish(&logs[p]) == 0)
            continue;
        err = ERR_CORRUPT;
        snprintf(why, size,
                 "%s is damaged: the log of partition %u has a gap; restore the directory from a "
                 "backup",
                 dir->raft, p);
    }
    for (uint32_t p = 0; p < dir->partitions; p++)
        rlog_close(&logs[p]);
    free(logs);
    journal_close(journal);
    return err;
}

int rlog_old_convert(struct datadir *dir, const char *path, char *why, size_t size)
{
    char trash[DATADIR_PATH_MAX + 8];
    struct kv_options options = {.read_only = true};
    struct kv *raft = NULL;
    snprintf(trash, sizeof trash, "%s/trash", dir->raft);
    if (dir->format < DATADIR_FORMAT) {
        int err = kv_open(dir->raft, KV_RAFT, &options, &raft);
        if (err != 0) {
            snprintf(why, size, "%s can't be opened: %s%s", dir->raft, kv_error(),
                     kv_damaged(err) ? "; restore the directory from a backup" : "");
            return err;
        }
        err = write_journal(dir, path, raft, why, size);
        kv_close(raft);
        if (err == 0)
            err = check_journal(dir, why, size);
        if (err != 0)
            remove_attempt(dir, path);
        if (err == 0)
            err = datadir_raise(dir, DATADIR_FORMAT, path, why, size);
        if (err != 0)
            return err;
        log_info("the raft logs of the directory are a journal now: programs of before refuse it "
                 "from here on",
                 {"dir", log_str(path)}, {"format", log_int(DATADIR_FORMAT)},
                 {"before", log_int(dir->format)});
        dir->format = DATADIR_FORMAT;
    }
    file_remove_directory(trash);
    file_remove_directory(dir->raft);
    return 0;
}
