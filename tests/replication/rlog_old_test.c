#include "replication/rlog_old.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/rlog.h"
#include "replication/roster.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/kv.h"
#include "tests/lib/scratch.h"

enum { PARTITIONS = 3, HARD = 0, SNAPSHOT = 1, ENTRY = 2, INSTALL = 3, CUTS = 4, BIG = 200000 };

#define ID "0123456789abcdef0123456789abcdef"
#define OTHER_ID "1123456789abcdef0123456789abcdef"
#define ALONE "loquat data directory\nformat 2\npartitions 3\nid " ID "\n"
#define AMONG_OTHERS                                                                               \
    "loquat data directory\nformat 3\npartitions 3\nid " ID "\ncluster " OTHER_ID "\nnode 2\n"

static char root[SCRATCH_MAX], path[SCRATCH_MAX + 16], why[512];
static struct datadir dir;
static struct kv *raft;
static struct kv_batch batch;
static struct rlog logs[PARTITIONS];
static struct journal *journal;

/* ---- directories of before ---- */

static void open_raft(bool create)
{
    char sub[SCRATCH_MAX + 32];
    struct kv_options options = {.create = create};
    snprintf(sub, sizeof sub, "%s/raft", path);
    cr_assert(zero(int, kv_open(sub, KV_RAFT, &options, &raft)), "%s", kv_error());
    kv_batch_init(&batch, raft);
}

static void close_raft(void)
{
    cr_assert(zero(int, kv_write(&batch)));
    kv_batch_close(&batch);
    kv_close(raft);
    raft = NULL;
}

static void make(const char *format)
{
    char sub[SCRATCH_MAX + 32];
    cr_assert(zero(int, mkdir(path, 0700)));
    scratch_write(path, "FORMAT", format);
    snprintf(sub, sizeof sub, "%s/data", path);
    cr_assert(zero(int, mkdir(sub, 0700)));
    open_raft(true);
}

static struct span row_key(uint16_t partition, char tag, uint64_t index)
{
    static char key[11];
    put_be16(key, partition);
    key[2] = tag;
    put_be64(key + 3, index);
    return span_of(key, tag == ENTRY ? 11 : 3);
}

static struct span roster_key(uint64_t id)
{
    static char key[10];
    put_be16(key, 0xffff);
    put_be64(key + 2, id);
    return span_of(key, sizeof key);
}

static void row(struct span key, const uint64_t *numbers, size_t count, struct span rest)
{
    struct buf value = {0};
    buf_add_byte(&value, 1);
    for (size_t i = 0; i < count; i++)
        put_le64(buf_grow(&value, 8), numbers[i]);
    buf_add_span(&value, rest);
    kv_put(&batch, KV_LOG, key, buf_span(&value));
    buf_close(&value);
}

static void put_numbers(uint16_t partition, char tag, uint64_t a, uint64_t b)
{
    row(row_key(partition, tag, 0), (uint64_t[]){a, b}, tag == CUTS ? 1 : 2, (struct span){0});
}

static void put_snapshot(uint16_t partition, char tag, struct rlog_snapshot at)
{
    row(row_key(partition, tag, 0), (uint64_t[]){at.index, at.term, at.conf_index}, 3, at.conf);
}

static void put_entry(uint16_t partition, uint64_t index, uint64_t term, uint16_t type,
                      struct span bytes)
{
    struct buf value = {0};
    char head[10];
    put_le64(head, term);
    head[8] = (char)type;
    head[9] = (char)(type >> 8);
    buf_add_byte(&value, 1);
    buf_add(&value, head, sizeof head);
    uint64_t sum =
        XXH3_64bits_withSeed(bytes.p, bytes.n, XXH3_64bits_withSeed(head, sizeof head, index));
    put_le64(buf_grow(&value, 8), sum);
    buf_add_span(&value, bytes);
    kv_put(&batch, KV_LOG, row_key(partition, ENTRY, index), buf_span(&value));
    buf_close(&value);
}

static void put_texts(uint16_t partition, uint64_t from, uint64_t upto, uint64_t term)
{
    for (uint64_t i = from; i <= upto; i++) {
        char text[24];
        snprintf(text, sizeof text, "entry %lu", i);
        put_entry(partition, i, term, RCORE_COMMAND, span_str(text));
    }
}

/* One that was bootstrapped, one that has been trimmed and cut, and one that becomes another. */
static void put_all(void)
{
    put_numbers(0, HARD, 1, 0);
    put_entry(0, 1, 1, RCORE_CHANGE, span_str("servers"));
    put_numbers(1, HARD, 9, 2);
    put_snapshot(1, SNAPSHOT, (struct rlog_snapshot){12, 4, 3, span_str("conf of 12")});
    put_texts(1, 10, 12, 4);
    put_texts(1, 13, 20, 7);
    put_entry(1, 21, 9, RCORE_BARRIER, span_str(""));
    put_numbers(1, CUTS, 5, 0);
    put_numbers(2, HARD, 3, 3);
    put_snapshot(2, SNAPSHOT, (struct rlog_snapshot){30, 2, 30, span_str("conf of 30")});
    put_snapshot(2, INSTALL, (struct rlog_snapshot){70, 3, 60, span_str("conf of 70")});
    put_numbers(2, CUTS, 2, 0);
}

static void put_roster(void)
{
    row(roster_key(0), NULL, 0, span_of("\1", 1));
    row(roster_key(2), NULL, 0, span_str(ID));
    row(roster_key(77), NULL, 0, span_str(OTHER_ID));
}

static void setup(void)
{
    log_setup("test", LOG_ERROR, LOG_TEXT);
    scratch_make(root);
    snprintf(path, sizeof path, "%s/node", root);
    dir.lock_fd = -1;
}

static void teardown(void)
{
    datadir_close(&dir);
    journal_close(journal);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        rlog_close(&logs[p]);
    scratch_remove(root);
}

TestSuite(rlog_old, .init = setup, .fini = teardown, .timeout = 120);

/* ---- what becomes of them ---- */

static int convert(void)
{
    datadir_close(&dir);
    why[0] = '\0';
    cr_assert(zero(int, datadir_open(&dir, path, 0, false, why, sizeof why)), "%s", why);
    return rlog_old_convert(&dir, path, why, sizeof why);
}

static int take_frame(void *arg, uint64_t at, struct span records)
{
    return rlog_take(arg, PARTITIONS, at, records);
}

/* As the next start finds it. */
static void load(void)
{
    journal_close(journal);
    journal = NULL;
    cr_assert(eq(u32, dir.format, DATADIR_FORMAT));
    datadir_close(&dir);
    cr_assert(zero(int, datadir_open(&dir, path, 0, false, why, sizeof why)), "%s", why);
    cr_assert(eq(u32, dir.format, DATADIR_FORMAT));
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        rlog_close(&logs[p]);
        rlog_open(&logs[p], p);
    }
    int err = journal_open(dir.journal, take_frame, logs, why, sizeof why, &journal);
    cr_assert(zero(int, err), "%s", why);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        cr_assert(zero(int, rlog_finish(&logs[p])), "partition %u", p);
}

static bool holds(uint32_t p, uint64_t index, uint64_t term, uint16_t type, const char *text)
{
    const struct rlog_entry *entry = rlog_get(&logs[p], index);
    return entry != NULL && entry->term == term && entry->type == type &&
           span_is(span_of(entry->bytes, entry->size), text);
}

static void is_all_there(void)
{
    struct rlog_snapshot install;
    load();
    cr_assert(logs[0].term == 1 && logs[0].voted_for == 0 && logs[0].cuts == 0);
    cr_assert(logs[0].first == 1 && rlog_last(&logs[0]) == 1);
    cr_assert(holds(0, 1, 1, RCORE_CHANGE, "servers"));
    cr_assert(logs[1].term == 9 && logs[1].voted_for == 2 && logs[1].cuts == 5);
    cr_assert(logs[1].first == 10 && rlog_last(&logs[1]) == 21);
    cr_assert(logs[1].snapshot_index == 12 && logs[1].snapshot_term == 4);
    cr_assert(logs[1].conf_index == 3 && span_is(buf_span(&logs[1].conf), "conf of 12"));
    cr_assert(holds(1, 10, 4, RCORE_COMMAND, "entry 10"));
    cr_assert(holds(1, 20, 7, RCORE_COMMAND, "entry 20"));
    cr_assert(holds(1, 21, 9, RCORE_BARRIER, ""));
    cr_assert(eq(int, rlog_get_install(&logs[1], &install), ERR_NOT_FOUND));
    cr_assert(logs[2].term == 3 && logs[2].voted_for == 3 && logs[2].cuts == 2);
    cr_assert(logs[2].first == 31 && rlog_last(&logs[2]) == 30);
    cr_assert(logs[2].snapshot_index == 30 && logs[2].snapshot_term == 2);
    cr_assert(span_is(buf_span(&logs[2].conf), "conf of 30"));
    cr_assert(zero(int, rlog_get_install(&logs[2], &install)));
    cr_assert(install.index == 70 && install.term == 3 && install.conf_index == 60);
    cr_assert(span_is(install.conf, "conf of 70"));
}

static void roster_is_there(void)
{
    bool drained = false;
    cr_assert(zero(int, roster_get_drained(path, &drained)));
    cr_assert(drained);
    cr_assert(zero(int, roster_meet(path, 2, span_str(ID))));
    cr_assert(eq(int, roster_meet(path, 2, span_str(OTHER_ID)), ERR_CONFLICT));
    cr_assert(eq(int, roster_meet(path, 77, span_str(ID)), ERR_CONFLICT));
}

/* Everything that the rows said, the journal says, and ROSTER; the rows are gone. */
Test(rlog_old, of_a_node_among_others)
{
    make(AMONG_OTHERS);
    put_all();
    put_roster();
    close_raft();
    cr_assert(zero(int, convert()), "%s", why);
    cr_assert(not(scratch_has(path, "raft")));
    is_all_there();
    roster_is_there();
    cr_assert(not(datadir_alone(&dir)));
    cr_assert(eq(u64, dir.node, 2));
    cr_assert(eq(str, dir.cluster, OTHER_ID));
    cr_assert(zero(int, rlog_old_convert(&dir, path, why, sizeof why)), "nothing is left to do");
    is_all_there();
}

/* Of format 2, whose FORMAT named no cluster. */
Test(rlog_old, of_a_node_that_is_alone)
{
    bool drained = true;
    make(ALONE);
    put_all();
    close_raft();
    cr_assert(zero(int, convert()), "%s", why);
    is_all_there();
    cr_assert(datadir_alone(&dir));
    cr_assert(eq(u64, dir.node, 1));
    cr_assert(zero(int, roster_get_drained(path, &drained)));
    cr_assert(not(drained));
}

/* Logs of several segments; and they go on. */
Test(rlog_old, large)
{
    enum { COUNT = 500 };
    struct buf bytes = {0};
    make(AMONG_OTHERS);
    put_all();
    memset(buf_grow(&bytes, BIG), 'x', BIG);
    for (uint64_t i = 2; i <= COUNT; i++) {
        put_le64(bytes.p, i);
        put_entry(0, i, 1, RCORE_COMMAND, buf_span(&bytes));
        if (i % 100 == 0)
            cr_assert(zero(int, kv_write(&batch)));
    }
    close_raft();
    cr_assert(zero(int, convert()), "%s", why);
    load();
    cr_assert(eq(u64, rlog_last(&logs[0]), COUNT));
    cr_assert(lt(u64, 2ull * JOURNAL_SEGMENT, journal_bytes(journal)));
    for (uint64_t i = 2; i <= COUNT; i++) {
        const struct rlog_entry *entry = rlog_get(&logs[0], i);
        put_le64(bytes.p, i);
        cr_assert(span_eq(span_of(entry->bytes, entry->size), buf_span(&bytes)));
    }
    cr_assert(holds(1, 20, 7, RCORE_COMMAND, "entry 20"));
    struct journal_batch more = {0};
    cr_assert(zero(int, journal_begin(journal, &more.at)));
    for (uint32_t p = 0; p < PARTITIONS; p++)
        rlog_put_state(&logs[p], &more);
    rlog_put_hard(&logs[1], &more, 11, 3);
    cr_assert(zero(int, journal_write(journal, &more)));
    journal_batch_close(&more);
    load();
    cr_assert(eq(u64, logs[1].term, 11));
    cr_assert(eq(u64, rlog_last(&logs[0]), COUNT));
    buf_close(&bytes);
}

/* ---- cut short ---- */

/* What an attempt left is made anew: the program of before may have run since. */
Test(rlog_old, begun_before)
{
    char sub[SCRATCH_MAX + 32], file[SCRATCH_MAX + 64];
    make(AMONG_OTHERS);
    put_all();
    put_roster();
    close_raft();
    snprintf(sub, sizeof sub, "%s/journal", path);
    cr_assert(zero(int, mkdir(sub, 0700)));
    scratch_write(sub, "0000000000000001.log", "half a segment");
    scratch_write(sub, "0000000000000007.log", "");
    scratch_write(sub, "new", "");
    cr_assert(zero(int, roster_meet(path, 2, span_str(OTHER_ID))));
    cr_assert(zero(int, roster_put_drained(path, false)));
    cr_assert(zero(int, convert()), "%s", why);
    is_all_there();
    roster_is_there();
    snprintf(file, sizeof file, "%s/0000000000000007.log", sub);
    cr_assert(ne(int, access(file, F_OK), 0));
}

/* Once FORMAT is raised the journal counts, whatever is there of the rows: they only have to go. */
Test(rlog_old, rows_left_behind)
{
    make(AMONG_OTHERS);
    put_all();
    close_raft();
    cr_assert(zero(int, convert()), "%s", why);
    open_raft(true);
    put_numbers(1, HARD, 99, 1);
    close_raft();
    cr_assert(scratch_has(path, "raft"));
    cr_assert(zero(int, convert()), "%s", why);
    cr_assert(not(scratch_has(path, "raft")));
    is_all_there();
}

/* ---- damage ---- */

static uint64_t sum_of_rows(void)
{
    struct kv_iter iter;
    uint64_t sum = 0;
    open_raft(false);
    kv_iter_open_scan(&iter, raft, NULL, KV_LOG, (struct span){0}, (struct span){0});
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        sum = XXH3_64bits_withSeed(key.p, key.n, sum);
        sum = XXH3_64bits_withSeed(value.p, value.n, sum);
    }
    kv_iter_close(&iter);
    close_raft();
    return sum;
}

/* With the rows as they are: nothing is made, and nothing is touched. */
static void refused(const char *what)
{
    uint64_t sum = sum_of_rows();
    unsigned entries = scratch_entries(path);
    cr_assert(eq(int, convert(), ERR_CORRUPT), "%s", what);
    cr_assert(ne(ptr, strstr(why, "raft"), NULL), "%s: %s", what, why);
    cr_assert(ne(ptr, strstr(why, "backup"), NULL), "%s: %s", what, why);
    cr_assert(not(scratch_has(path, "journal")), "%s", what);
    cr_assert(not(scratch_has(path, "ROSTER")), "%s", what);
    cr_assert(le(u32, scratch_entries(path), entries + 1), "%s", what); /* LOCK */
    datadir_close(&dir);
    cr_assert(zero(int, datadir_open(&dir, path, 0, false, why, sizeof why)), "%s", why);
    cr_assert(eq(u32, dir.format, 3), "%s", what);
    cr_assert(eq(u64, sum_of_rows(), sum), "%s", what);
}

static void refused_with(struct span key, struct span value, const char *what)
{
    struct buf before = {0};
    char kept[16];
    memcpy(kept, key.p, key.n);
    key.p = kept;
    open_raft(false);
    bool was = kv_get(raft, KV_LOG, key, &before) == 0;
    if (value.p != NULL)
        kv_put(&batch, KV_LOG, key, value);
    else
        kv_delete(&batch, KV_LOG, key);
    close_raft();
    refused(what);
    open_raft(false);
    if (was)
        kv_put(&batch, KV_LOG, key, buf_span(&before));
    else
        kv_delete(&batch, KV_LOG, key);
    close_raft();
    buf_close(&before);
}

static void made(void)
{
    make(AMONG_OTHERS);
    put_all();
    put_roster();
    close_raft();
}

/* A row that is missing leaves a gap. */
Test(rlog_old, missing_rows)
{
    struct span none = {0};
    made();
    refused_with(row_key(0, HARD, 0), none, "term and vote");
    refused_with(row_key(0, ENTRY, 1), span_of("", 0), "an empty row");
    refused_with(row_key(1, SNAPSHOT, 0), none, "the snapshot");
    refused_with(row_key(1, ENTRY, 15), none, "an entry");
    open_raft(false);
    for (uint64_t i = 12; i <= 21; i++)
        kv_delete(&batch, KV_LOG, row_key(1, ENTRY, i));
    close_raft();
    refused("those up to the snapshot");
    open_raft(false);
    put_texts(1, 14, 21, 7);
    kv_delete(&batch, KV_LOG, row_key(1, ENTRY, 10));
    kv_delete(&batch, KV_LOG, row_key(1, ENTRY, 11));
    close_raft();
    refused("those behind the snapshot");
    open_raft(false);
    put_texts(1, 12, 13, 7);
    kv_delete(&batch, KV_LOG, row_key(0, HARD, 0));
    kv_delete(&batch, KV_LOG, row_key(0, ENTRY, 1));
    close_raft();
    refused("a whole partition");
    open_raft(false);
    put_numbers(0, HARD, 1, 0);
    close_raft();
    cr_assert(zero(int, convert()), "an empty log is one: %s", why);
}

/* No bit of an entry flips unseen. */
Test(rlog_old, flipped_bits)
{
    struct buf value = {0};
    made();
    open_raft(false);
    cr_assert(zero(int, kv_get(raft, KV_LOG, row_key(1, ENTRY, 12), &value)));
    close_raft();
    for (size_t i = 0; i < value.n; i++) {
        char what[32];
        snprintf(what, sizeof what, "byte %zu", i);
        value.p[i] ^= (char)(1 << i % 8);
        refused_with(row_key(1, ENTRY, 12), buf_span(&value), what);
        value.p[i] ^= (char)(1 << i % 8);
    }
    buf_close(&value);
}

/* Rows that nobody wrote so. */
Test(rlog_old, impossible_rows)
{
    static const char zeros[64] = {1};
    made();
    refused_with(row_key(1, HARD, 0), span_of(zeros, 16), "a short HARD");
    refused_with(row_key(1, HARD, 0), span_of(zeros, 18), "a long HARD");
    refused_with(row_key(1, HARD, 0), span_of(zeros + 1, 17), "a HARD of another version");
    refused_with(row_key(1, SNAPSHOT, 0), span_of(zeros, 24), "a short SNAPSHOT");
    refused_with(row_key(1, SNAPSHOT, 0), span_of(zeros, 25), "a SNAPSHOT without servers");
    refused_with(row_key(2, INSTALL, 0), span_of(zeros, 25), "an INSTALL without servers");
    refused_with(row_key(1, CUTS, 0), span_of(zeros, 8), "short CUTS");
    refused_with(row_key(1, CUTS, 0), span_of(zeros, 17), "long CUTS");
    refused_with(row_key(1, ENTRY, 12), span_of(zeros, 18), "a short entry");
    refused_with(row_key(1, 5, 0), span_of(zeros, 9), "another tag");
    refused_with(row_key(PARTITIONS, HARD, 0), span_of(zeros, 17), "another partition");
    refused_with(row_key(0xfffe, HARD, 0), span_of(zeros, 17), "the last partition");
    refused_with(span_of("\0", 2), span_of(zeros, 17), "a short key");
    refused_with(span_of("\0\1\2\0\0\0", 6), span_of(zeros, 19), "a short key of an entry");
    refused_with(roster_key(5), span_of(zeros, 32), "a short ROSTER");
    refused_with(roster_key(5), span_of(zeros, 34), "a long ROSTER");
    refused_with(roster_key(0), span_of(zeros, 1), "an empty DRAINED");
    open_raft(false);
    put_entry(1, 0, 4, RCORE_COMMAND, span_str("x"));
    close_raft();
    refused("entry 0");
}
