#include "store/kv_stage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/file.h"
#include "store/kv_inside.h"

enum {
    TOMBSTONE_NAME = -1, /* beside the numbers of files */
    LIST_NAME = -2,
    MARK_NAME = -3,
    PARENT_NAME = -4,
    LIST_VERSION = 1,
    COUNTS_SIZE = 4 * KV_CF_COUNT,
    LIST_SUMMED = 1 + COUNTS_SIZE,
    LIST_SIZE = LIST_SUMMED + 8,
    MARK_VERSION = 1,
    MARK_MAX = 64 << 10, /* keys are far smaller */
};

struct kv_stage {
    struct kv *kv;
    char dir[STAGE_PATH_MAX];
    rocksdb_envoptions_t *env;
    rocksdb_sstfilewriter_t *writer; /* NULL: no file is open */
    enum kv_cf cf;
    uint32_t count[KV_CF_COUNT]; /* of files, with the open one */
    size_t file_bytes;           /* in the open one */
    size_t unmarked;
    struct buf last; /* key of the open family */
    bool any;        /* the family has one */
};

static int failed(void) /* errno says why */
{
    return kv_translate(
        strdup(errno == ENOSPC ? "IO error: No space left on device" : strerror(errno)));
}

static void name(char *path, const char *dir, enum kv_cf cf, int number)
{
    int n;
    if (number == LIST_NAME)
        n = snprintf(path, STAGE_PATH_MAX, "%s/LIST", dir);
    else if (number == MARK_NAME)
        n = snprintf(path, STAGE_PATH_MAX, "%s/MARK", dir);
    else if (number == PARENT_NAME)
        n = snprintf(path, STAGE_PATH_MAX, "%s/..", dir);
    else if (number == TOMBSTONE_NAME)
        n = snprintf(path, STAGE_PATH_MAX, "%s/gone.sst", dir);
    else
        n = snprintf(path, STAGE_PATH_MAX, "%s/%s-%d.sst", dir, kv_cf_name(cf), number);
    ASSERT(n > 0 && n < STAGE_PATH_MAX); /* kv_stage_open looks at its length */
}

void kv_stage_remove(const char *dir)
{
    file_remove_directory(dir);
}

static struct kv_stage *stage_new(struct kv *kv, const char *dir)
{
    ASSERT(kv->kind == KV_DATA && strlen(dir) + 64 < STAGE_PATH_MAX);
    struct kv_stage *stage = xcalloc(1, sizeof *stage);
    stage->kv = kv;
    snprintf(stage->dir, sizeof stage->dir, "%s", dir);
    stage->env = rocksdb_envoptions_create();
    return stage;
}

int kv_stage_open(struct kv *kv, const char *dir, struct kv_stage **out)
{
    char parent[STAGE_PATH_MAX];
    name(parent, dir, KV_LOG, PARENT_NAME);
    file_empty_directory(dir);
    if ((mkdir(dir, 0700) != 0 && errno != EEXIST) || file_sync_directory(parent) != 0)
        return failed();
    *out = stage_new(kv, dir);
    return 0;
}

static int end_file(struct kv_stage *stage)
{
    if (stage->writer == NULL)
        return 0;
    char *message = NULL;
    rocksdb_sstfilewriter_finish(stage->writer, &message); /* and syncs it */
    rocksdb_sstfilewriter_destroy(stage->writer);
    stage->writer = NULL;
    return kv_translate(message);
}

/* So that what says how many there are can be written. */
static int end_synced(struct kv_stage *stage)
{
    int err = end_file(stage);
    return err == 0 && file_sync_directory(stage->dir) != 0 ? failed() : err;
}

static int begin_file(struct kv_stage *stage)
{
    char path[STAGE_PATH_MAX], *message = NULL;
    name(path, stage->dir, stage->cf, (int)stage->count[stage->cf]++);
    stage->writer = rocksdb_sstfilewriter_create(stage->env, stage->kv->options[stage->cf]);
    rocksdb_sstfilewriter_open(stage->writer, path, &message);
    stage->file_bytes = 0;
    return kv_translate(message);
}

int kv_stage_put(struct kv_stage *stage, enum kv_cf cf, struct span key, struct span value)
{
    int err = 0;
    if (cf != stage->cf) {
        if (cf < stage->cf || cf >= KV_CF_COUNT)
            return ERR_CORRUPT;
        err = end_file(stage);
        stage->cf = cf;
        stage->any = false;
    }
    if (stage->any && span_cmp(key, buf_span(&stage->last)) <= 0)
        return ERR_CORRUPT;
    if (err == 0 && stage->file_bytes > STAGE_FILE_BYTES)
        err = end_file(stage);
    if (err == 0 && stage->writer == NULL)
        err = begin_file(stage);
    if (err != 0)
        return err;
    char *message = NULL;
    rocksdb_sstfilewriter_put(stage->writer, key.p, key.n, value.p, value.n, &message);
    stage->file_bytes += key.n + value.n;
    stage->unmarked += key.n + value.n;
    stage->any = true;
    stage->last.n = 0;
    buf_add_span(&stage->last, key);
    return kv_translate(message);
}

size_t kv_stage_unmarked(const struct kv_stage *stage)
{
    return stage->unmarked;
}

enum kv_cf kv_stage_last(const struct kv_stage *stage, struct span *key)
{
    *key = buf_span(&stage->last);
    return stage->cf;
}

static void put_counts(char *to, const uint32_t *count)
{
    for (size_t cf = 0; cf < KV_CF_COUNT; cf++)
        put_le32(to + 4 * cf, count[cf]);
}

static void get_counts(const char *from, uint32_t *count)
{
    for (size_t cf = 0; cf < KV_CF_COUNT; cf++)
        count[cf] = get_le32(from + 4 * cf);
}

/* ---- marks ---- */

static void put_sized(struct buf *out, struct span bytes)
{
    put_le32(buf_grow(out, 4), (uint32_t)bytes.n);
    buf_add_span(out, bytes);
}

static bool get_sized(struct span *rest, struct span *bytes)
{
    if (rest->n < 4 || get_le32(rest->p) > rest->n - 4)
        return false;
    *bytes = span_of(rest->p + 4, get_le32(rest->p));
    *rest = span_of(bytes->p + bytes->n, rest->n - 4 - bytes->n);
    return true;
}

int kv_stage_mark(struct kv_stage *stage, struct span note)
{
    ASSERT(note.n <= STAGE_NOTE_MAX && stage->last.n + STAGE_NOTE_MAX + 256 < MARK_MAX);
    char path[STAGE_PATH_MAX];
    struct buf mark = {0};
    int err = end_synced(stage);
    if (err != 0)
        return err;
    buf_add_byte(&mark, MARK_VERSION);
    put_counts(buf_grow(&mark, COUNTS_SIZE), stage->count);
    buf_add_byte(&mark, (char)stage->cf);
    put_sized(&mark, buf_span(&stage->last));
    put_sized(&mark, note);
    uint64_t sum = XXH3_64bits(mark.p, mark.n);
    put_le64(buf_grow(&mark, 8), sum);
    name(path, stage->dir, KV_LOG, MARK_NAME);
    err = file_replace(path, buf_span(&mark));
    buf_close(&mark);
    if (err != 0)
        return failed();
    stage->unmarked = 0;
    return 0;
}

static bool read_mark(struct span mark, struct kv_stage *stage, struct buf *note)
{
    enum { HEAD = 1 + COUNTS_SIZE + 1 };
    struct span last, noted;
    if (mark.n < HEAD + 8 || mark.p[0] != MARK_VERSION ||
        get_le64(mark.p + mark.n - 8) != XXH3_64bits(mark.p, mark.n - 8))
        return false;
    struct span rest = span_of(mark.p + HEAD, mark.n - HEAD - 8);
    if (!get_sized(&rest, &last) || !get_sized(&rest, &noted))
        return false;
    get_counts(mark.p + 1, stage->count);
    stage->cf = (enum kv_cf)(uint8_t)mark.p[HEAD - 1];
    buf_add_span(&stage->last, last);
    stage->any = last.n > 0;
    buf_add_span(note, noted);
    return stage->cf < KV_CF_COUNT;
}

/* Files behind the mark are written over, or not listed. */
int kv_stage_resume(struct kv *kv, const char *dir, struct kv_stage **out, struct buf *note)
{
    char path[STAGE_PATH_MAX];
    struct buf mark = {0};
    struct kv_stage *stage = stage_new(kv, dir);
    name(path, dir, KV_LOG, MARK_NAME);
    bool fine =
        file_read(path, MARK_MAX, &mark, NULL) == 0 && read_mark(buf_span(&mark), stage, note);
    buf_close(&mark);
    if (!fine) {
        kv_stage_close(stage);
        return ERR_NOT_FOUND;
    }
    name(path, dir, KV_LOG, LIST_NAME);
    (void)unlink(path); /* of one that was finished, and not taken over: it is finished again */
    *out = stage;
    return 0;
}

/* ---- the list ---- */

static int write_list(const struct kv_stage *stage)
{
    char path[STAGE_PATH_MAX], list[LIST_SIZE] = {LIST_VERSION};
    put_counts(list + 1, stage->count);
    put_le64(list + LIST_SUMMED, XXH3_64bits(list, LIST_SUMMED));
    name(path, stage->dir, KV_LOG, LIST_NAME);
    return file_replace(path, span_of(list, LIST_SIZE)) == 0 ? 0 : failed();
}

static int read_list(const char *dir, uint32_t *count)
{
    char path[STAGE_PATH_MAX];
    struct buf list = {0};
    name(path, dir, KV_LOG, LIST_NAME);
    int err = file_read(path, LIST_SIZE, &list, NULL);
    if (err == 0 && (list.n != LIST_SIZE || list.p[0] != LIST_VERSION ||
                     get_le64(list.p + LIST_SUMMED) != XXH3_64bits(list.p, LIST_SUMMED)))
        err = ERR_TOO_LARGE;
    if (err == 0)
        get_counts(list.p + 1, count);
    buf_close(&list);
    return err == 0 ? 0 : kv_translate(strdup("Corruption: no list of the staged files"));
}

int kv_stage_finish(struct kv_stage *stage)
{
    int err = end_synced(stage);
    return err == 0 ? write_list(stage) : err;
}

void kv_stage_close(struct kv_stage *stage)
{
    if (stage == NULL)
        return;
    if (stage->writer != NULL)
        rocksdb_sstfilewriter_destroy(stage->writer);
    rocksdb_envoptions_destroy(stage->env);
    buf_close(&stage->last);
    free(stage);
}

/* ---- taking over ---- */

/* The file is copied: linked, it would be written to (RocksDB 7.8 puts a number of its own into it)
 * and could not be taken a second time. */
static int ingest(struct kv *kv, enum kv_cf cf, const char *path)
{
    char *message = NULL;
    rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingest_external_file_cf(kv->db, kv->cf[cf], &path, 1, options, &message);
    rocksdb_ingestexternalfileoptions_destroy(options);
    return kv_translate(message);
}

/* What is there from before goes with a file that says so: a range that is deleted through a
 * memtable with insert hints would corrupt it. */
static int ingest_tombstone(struct kv *kv, enum kv_cf cf, const char *dir, struct span from,
                            struct span until)
{
    char path[STAGE_PATH_MAX], *message = NULL;
    name(path, dir, cf, TOMBSTONE_NAME);
    (void)unlink(path);
    rocksdb_envoptions_t *env = rocksdb_envoptions_create();
    rocksdb_sstfilewriter_t *writer = rocksdb_sstfilewriter_create(env, kv->options[cf]);
    rocksdb_sstfilewriter_open(writer, path, &message);
    if (message == NULL)
        rocksdb_sstfilewriter_delete_range(writer, from.p, from.n, until.p, until.n, &message);
    if (message == NULL)
        rocksdb_sstfilewriter_finish(writer, &message);
    rocksdb_sstfilewriter_destroy(writer);
    rocksdb_envoptions_destroy(env);
    int err = kv_translate(message);
    return err == 0 ? ingest(kv, cf, path) : err;
}

int kv_stage_install(struct kv *kv, const char *dir, struct span from, struct span until)
{
    ASSERT(kv->kind == KV_DATA);
    uint32_t count[KV_CF_COUNT] = {0};
    int err = read_list(dir, count);
    for (enum kv_cf cf = 0; cf < KV_CF_COUNT && err == 0; cf++) {
        char path[STAGE_PATH_MAX];
        err = ingest_tombstone(kv, cf, dir, from, until);
        for (uint32_t number = 0; number < count[cf] && err == 0; number++) {
            name(path, dir, cf, (int)number);
            err = access(path, F_OK) == 0
                      ? ingest(kv, cf, path)
                      : kv_translate(strdup("Corruption: a staged file is missing"));
        }
    }
    return err;
}
