/* older DIR: the directory of a node that is alone, at rest, becomes one of format 2, as releases
 * of then left it: raft logs in a RocksDB, no journal. For tests of what makes a journal of it. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/datadir.h"
#include "replication/rlog_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/log.h"
#include "store/kv.h"

/* See replication/rlog_old.h. */
enum { TAG_HARD = 0, TAG_SNAPSHOT = 1, TAG_ENTRY = 2, TAG_CUTS = 4, KEY_ROOM = 11, HEAD_ROOM = 25 };

static struct datadir dir;
static struct rlog *logs;
static struct kv_batch rows;

static int take(void *arg, uint64_t at, struct span records)
{
    (void)arg;
    return rlog_take(logs, dir.partitions, at, records);
}

/* `head`: the first `n` bytes of the row, the version in front. */
static void put(uint32_t partition, char tag, uint64_t index, char *head, size_t n,
                struct span rest)
{
    char key[KEY_ROOM];
    put_be16(key, (uint16_t)partition);
    key[2] = tag;
    put_be64(key + 3, index);
    head[0] = 1;
    kv_put2(&rows, KV_LOG, span_of(key, tag == TAG_ENTRY ? KEY_ROOM : 3), span_of(head, n), rest);
}

static void put_log(const struct rlog *log)
{
    const struct span none = {0};
    struct rlog_snapshot snapshot;
    char head[HEAD_ROOM];
    uint64_t upto;
    put_le64(head + 1, log->term);
    put_le64(head + 9, log->voted_for);
    put(log->partition, TAG_HARD, 0, head, 17, none);
    put_le64(head + 1, log->cuts);
    put(log->partition, TAG_CUTS, 0, head, 9, none);
    if (log->snapshot.n > 0 && rlog_snapshot_of(buf_span(&log->snapshot), &snapshot, &upto) == 0) {
        put_le64(head + 1, snapshot.index);
        put_le64(head + 9, snapshot.term);
        put_le64(head + 17, snapshot.conf_index);
        put(log->partition, TAG_SNAPSHOT, 0, head, 25, snapshot.conf);
    }
    for (uint64_t index = log->first; index <= rlog_last(log); index++) {
        const struct rlog_entry *entry = rlog_get(log, index);
        put_le64(head + 1, entry->term);
        head[9] = (char)(entry->type & 0xff);
        head[10] = (char)(entry->type >> 8);
        uint64_t seed = XXH3_64bits_withSeed(head + 1, 10, index);
        put_le64(head + 11, XXH3_64bits_withSeed(entry->bytes, entry->size, seed));
        put(log->partition, TAG_ENTRY, index, head, 19, span_of(entry->bytes, entry->size));
    }
}

static void write_format(const char *path)
{
    char file[DATADIR_PATH_MAX];
    struct buf text = {0};
    snprintf(file, sizeof file, "%s/FORMAT", path);
    buf_addf(&text, "loquat data directory\nformat 2\npartitions %u\nid %s\n", dir.partitions,
             dir.id);
    int err = file_replace(file, buf_span(&text));
    ASSERT(err == 0);
    buf_close(&text);
}

int main(int argc, char **argv)
{
    char why[1024] = "";
    struct journal *journal = NULL;
    struct kv *kv = NULL;
    log_setup("older", LOG_ERROR, LOG_TEXT);
    if (argc != 2 || datadir_open(&dir, argv[1], 0, false, why, sizeof why) != 0)
        log_fatal("not a directory of a node", why);
    logs = xcalloc(dir.partitions, sizeof *logs);
    for (uint32_t p = 0; p < dir.partitions; p++)
        rlog_open(&logs[p], p);
    if (journal_open(dir.journal, take, NULL, why, sizeof why, &journal) != 0)
        log_fatal("its journal can't be read", why);
    if (kv_open(dir.raft, KV_RAFT, &(struct kv_options){.create = true}, &kv) != 0)
        log_fatal("the old logs can't be made", kv_error());
    kv_batch_init(&rows, kv);
    for (uint32_t p = 0; p < dir.partitions; p++) {
        int err = rlog_finish(&logs[p]);
        ASSERT(err == 0);
        put_log(&logs[p]);
        rlog_close(&logs[p]);
    }
    int err = kv_write(&rows);
    ASSERT(err == 0);
    kv_batch_close(&rows);
    kv_close(kv);
    journal_close(journal);
    free(logs);
    write_format(argv[1]);
    file_remove_directory(dir.journal);
    datadir_close(&dir);
    return 0;
}
