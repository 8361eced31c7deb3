#include "store/kv.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"

enum {
    MEMTABLE_DATA = 32 << 20,
    MEMTABLE_SMALL = 16 << 20,
    MEMTABLES_TOTAL = 128 << 20,
    MEMTABLE_RAFT = 128 << 20,
    WAL_TOTAL = 384 << 20,
    BLOCK_CACHE = 256 << 20,
    BLOCK_SIZE = 16 << 10,
    DICT_BYTES = 16 << 10,
    DICT_TRAIN_BYTES = 1 << 20,
    OPEN_FILES_MAX = 512,
    /* The data DB is compacted when so many files wait, into a level that is not small beside them:
     * fewer files or a smaller level have the same rows written again more often, which costs more
     * than anything else here (docs/decisions/0009). */
    LEVEL0_FILES = 12,
    LEVEL0_SLOW = 36,
    LEVEL0_STOP = 48,
    LEVEL_BASE = 1 << 30,
    SYNC_STEP = 1 << 20, /* files are written back as they grow: who syncs the raft log would wait
                            for a whole one (ext4 orders them) */
    ZSTD_LEVEL = 1,
    ZSTD_WINDOW = -14, /* RocksDB's default */
};

static const char *const cf_names[KV_CF_COUNT] = {"default", "conv", "fold", "dedup",
                                                  "user",    "feed", "out",  "apl"};

struct kv {
    enum kv_kind kind;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *cf[KV_CF_COUNT];
    size_t cf_count;
    rocksdb_options_t *options[KV_CF_COUNT];
    rocksdb_cache_t *cache;
    rocksdb_block_based_table_options_t *table;
    rocksdb_compactionfilter_t *filter;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read, *read_flushed;
    struct kv_options config;
};

static _Thread_local char error_text[512];

const char *kv_error(void)
{
    return error_text;
}

const char *kv_cf_name(enum kv_cf cf)
{
    return cf == KV_LOG ? "log" : cf_names[cf];
}

/* Takes RocksDB's message over and makes one of ours of it. */
static int translate(char *message)
{
    if (message == NULL)
        return 0;
    snprintf(error_text, sizeof error_text, "%s", message);
    free(message);
    if (strstr(error_text, "No space left") != NULL)
        return ERR_NO_SPACE;
    if (strncmp(error_text, "Corruption", 10) == 0)
        return ERR_CORRUPT;
    if (strstr(error_text, "lock") != NULL && strncmp(error_text, "IO error", 8) == 0)
        return ERR_LOCKED;
    return ERR_IO;
}

static const char *filter_name(void *arg)
{
    (void)arg;
    return "loquat-log-filter-1";
}

static void filter_free(void *arg)
{
    (void)arg;
}

static pthread_once_t room_once = PTHREAD_ONCE_INIT;
static pthread_key_t room_key;

static void room_free(void *arg)
{
    buf_close(arg);
    free(arg);
}

static void room_init(void)
{
    int rv = pthread_key_create(&room_key, room_free);
    ASSERT(rv == 0);
}

/* Where the filter puts a new value; lives as long as the compaction thread. */
static struct buf *filter_room(void)
{
    pthread_once(&room_once, room_init);
    struct buf *room = pthread_getspecific(room_key);
    if (room == NULL) {
        room = xcalloc(1, sizeof *room);
        int rv = pthread_setspecific(room_key, room);
        ASSERT(rv == 0);
    }
    return room;
}

static unsigned char filter_run(void *arg, int level, const char *key, size_t key_size,
                                const char *old, size_t old_size, char **value, size_t *value_size,
                                unsigned char *changed)
{
    (void)level;
    struct kv *kv = arg;
    struct buf *room = filter_room();
    room->n = 0;
    int verdict = kv->config.filter(kv->config.filter_arg, span_of(key, key_size),
                                    span_of(old, old_size), room);
    *changed = verdict == KV_REPLACE;
    if (verdict == KV_REPLACE) {
        *value = room->p; /* copied by RocksDB before the next call */
        *value_size = room->n;
    }
    return verdict == KV_DROP;
}

/* ---- kv_append: RocksDB puts the pieces of a value together when it reads or compacts ---- */

static char *append_pieces(const char *head, size_t head_size, const char *const *pieces,
                           const size_t *sizes, int count, unsigned char *success, size_t *size)
{
    *size = head_size;
    for (int i = 0; i < count; i++)
        *size += sizes[i];
    char *value = xmalloc(*size + 1), *p = value; /* RocksDB frees it */
    if (head_size > 0)
        memcpy(p, head, head_size);
    p += head_size;
    for (int i = 0; i < count; p += sizes[i], i++)
        memcpy(p, pieces[i], sizes[i]);
    *success = 1;
    return value;
}

static char *append_full(void *arg, const char *key, size_t key_size, const char *old,
                         size_t old_size, const char *const *pieces, const size_t *sizes, int count,
                         unsigned char *success, size_t *size)
{
    (void)arg, (void)key, (void)key_size;
    return append_pieces(old, old != NULL ? old_size : 0, pieces, sizes, count, success, size);
}

static char *append_partial(void *arg, const char *key, size_t key_size, const char *const *pieces,
                            const size_t *sizes, int count, unsigned char *success, size_t *size)
{
    (void)arg, (void)key, (void)key_size;
    return append_pieces(NULL, 0, pieces, sizes, count, success, size);
}

static const char *append_name(void *arg)
{
    (void)arg;
    return "loquat-append-1";
}

static void append_free(void *arg)
{
    (void)arg;
}

static rocksdb_options_t *with_string(rocksdb_options_t *base, const char *text)
{
    char *message = NULL;
    rocksdb_options_t *made = rocksdb_options_create();
    rocksdb_get_options_from_string(base, text, made, &message);
    if (message != NULL)
        fprintf(stderr, "loquat: rocksdb options: %s\n", message);
    ASSERT(message == NULL);
    rocksdb_options_destroy(base);
    return made;
}

static void set_table(struct kv *kv, rocksdb_options_t *options)
{
    rocksdb_options_set_block_based_table_factory(options, kv->table);
}

static rocksdb_options_t *raft_options(const struct kv *kv)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, kv->config.create);
    rocksdb_options_set_wal_recovery_mode(o, rocksdb_point_in_time_recovery);
    rocksdb_options_set_recycle_log_file_num(o, 0);
    rocksdb_options_set_write_buffer_size(o, MEMTABLE_RAFT);
    rocksdb_options_set_max_write_buffer_number(o, 3);
    rocksdb_options_set_max_total_wal_size(o, WAL_TOTAL);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_keep_log_file_num(o, 4);
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    rocksdb_options_set_compression(o, rocksdb_no_compression); /* it will soon be trimmed */
    rocksdb_options_set_bytes_per_sync(o, SYNC_STEP);
    return o; /* no insert hints: with DeleteRange they corrupt the memtable (RocksDB < 9.2) */
}

/* What differs between the families: how rows are found, and how much of them there is. */
static rocksdb_options_t *data_options(struct kv *kv, enum kv_cf cf)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, kv->config.create);
    rocksdb_options_set_create_missing_column_families(o, kv->config.create);
    rocksdb_options_set_atomic_flush(o, 1);
    uint64_t memtable = cf == KV_LOG ? MEMTABLE_DATA : MEMTABLE_SMALL;
    if (kv->config.memtable_bytes > 0)
        memtable = kv->config.memtable_bytes;
    rocksdb_options_set_write_buffer_size(o, memtable);
    rocksdb_options_set_max_write_buffer_number(o, 4);
    rocksdb_options_set_db_write_buffer_size(o, MEMTABLES_TOTAL);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_keep_log_file_num(o, 4);
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    rocksdb_options_set_bytes_per_sync(o, SYNC_STEP);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, LEVEL0_FILES);
    rocksdb_options_set_level0_slowdown_writes_trigger(o, LEVEL0_SLOW);
    rocksdb_options_set_level0_stop_writes_trigger(o, LEVEL0_STOP);
    rocksdb_options_set_max_bytes_for_level_base(o, LEVEL_BASE);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_bottommost_compression(o, rocksdb_zstd_compression);
    rocksdb_options_set_bottommost_compression_options(o, ZSTD_WINDOW, ZSTD_LEVEL, 0, DICT_BYTES,
                                                       1);
    rocksdb_options_set_bottommost_compression_options_zstd_max_train_bytes(o, DICT_TRAIN_BYTES, 1);
    set_table(kv, o);
    if (cf == KV_LOG && kv->config.filter != NULL) {
        kv->filter = rocksdb_compactionfilter_create(kv, filter_free, filter_run, filter_name);
        rocksdb_options_set_compaction_filter(o, kv->filter);
    }
    if (cf == KV_DEDUP)
        rocksdb_options_set_merge_operator(
            o, rocksdb_mergeoperator_create(NULL, append_free, append_full, append_partial, NULL,
                                            append_name));
    if (cf == KV_LOG || cf == KV_FOLD || cf == KV_FEED)
        return with_string(o, "memtable_insert_with_hint_prefix_extractor=capped:18");
    return o;
}

/* Flushing and compacting can wait, up to the limits above; who waits for an answer can't. */
static void lower_background(void)
{
    rocksdb_env_t *env = rocksdb_create_default_env(); /* one for the process */
    rocksdb_env_lower_thread_pool_cpu_priority(env);
    rocksdb_env_lower_high_priority_thread_pool_cpu_priority(env);
    rocksdb_env_destroy(env);
}

static void make_options(struct kv *kv)
{
    lower_background();
    kv->cache = rocksdb_cache_create_lru(BLOCK_CACHE);
    kv->table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(kv->table, kv->cache);
    rocksdb_block_based_options_set_block_size(kv->table, BLOCK_SIZE);
    rocksdb_block_based_options_set_filter_policy(kv->table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_format_version(kv->table, 5);
    kv->cf_count = kv->kind == KV_RAFT ? 1 : KV_CF_COUNT;
    for (size_t i = 0; i < kv->cf_count; i++)
        kv->options[i] = kv->kind == KV_RAFT ? raft_options(kv) : data_options(kv, (enum kv_cf)i);
    kv->write = rocksdb_writeoptions_create();
    if (kv->kind == KV_RAFT)
        rocksdb_writeoptions_set_sync(kv->write, 1);
    else
        rocksdb_writeoptions_disable_WAL(kv->write, 1);
    kv->read = rocksdb_readoptions_create();
    kv->read_flushed = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(kv->read_flushed, 2); /* kPersistedTier */
}

static void free_parts(struct kv *kv)
{
    for (size_t i = 0; i < kv->cf_count; i++)
        rocksdb_options_destroy(kv->options[i]);
    rocksdb_block_based_options_destroy(kv->table);
    rocksdb_cache_destroy(kv->cache);
    rocksdb_writeoptions_destroy(kv->write);
    rocksdb_readoptions_destroy(kv->read);
    rocksdb_readoptions_destroy(kv->read_flushed);
    if (kv->filter != NULL)
        rocksdb_compactionfilter_destroy(kv->filter);
    free(kv);
}

int kv_open(const char *dir, enum kv_kind kind, const struct kv_options *options, struct kv **out)
{
    struct kv *kv = xcalloc(1, sizeof *kv);
    kv->kind = kind;
    kv->config = *options;
    make_options(kv);
    const rocksdb_options_t *cf_options[KV_CF_COUNT];
    for (size_t i = 0; i < kv->cf_count; i++)
        cf_options[i] = kv->options[i];
    char *message = NULL;
    int count = (int)kv->cf_count;
    if (options->read_only)
        kv->db = rocksdb_open_for_read_only_column_families(kv->options[0], dir, count, cf_names,
                                                            cf_options, kv->cf, 0, &message);
    else
        kv->db = rocksdb_open_column_families(kv->options[0], dir, count, cf_names, cf_options,
                                              kv->cf, &message);
    if (message != NULL) {
        free_parts(kv);
        return translate(message);
    }
    *out = kv;
    return 0;
}

void kv_close(struct kv *kv)
{
    if (kv == NULL)
        return;
    for (size_t i = 0; i < kv->cf_count; i++)
        rocksdb_column_family_handle_destroy(kv->cf[i]); /* before the close, or it aborts */
    rocksdb_close(kv->db);
    free_parts(kv);
}

void kv_batch_init(struct kv_batch *batch, struct kv *kv)
{
    batch->kv = kv;
    batch->rocks = rocksdb_writebatch_create();
}

void kv_batch_close(struct kv_batch *batch)
{
    rocksdb_writebatch_destroy(batch->rocks);
    batch->rocks = NULL;
}

void kv_batch_clear(struct kv_batch *batch)
{
    rocksdb_writebatch_clear(batch->rocks);
}

size_t kv_batch_bytes(const struct kv_batch *batch)
{
    size_t size = 0;
    rocksdb_writebatch_data(batch->rocks, &size);
    return size;
}

bool kv_batch_empty(const struct kv_batch *batch)
{
    return rocksdb_writebatch_count(batch->rocks) == 0;
}

void kv_put(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span value)
{
    ASSERT(cf < batch->kv->cf_count);
    rocksdb_writebatch_put_cf(batch->rocks, batch->kv->cf[cf], key.p, key.n, value.p, value.n);
}

void kv_put2(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span head,
             struct span rest)
{
    ASSERT(cf < batch->kv->cf_count);
    const char *keys[1] = {key.p}, *values[2] = {head.p, rest.p};
    size_t key_sizes[1] = {key.n}, value_sizes[2] = {head.n, rest.n};
    rocksdb_writebatch_putv_cf(batch->rocks, batch->kv->cf[cf], 1, keys, key_sizes, 2, values,
                               value_sizes);
}

void kv_append(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span value)
{
    ASSERT(cf == KV_DEDUP);
    rocksdb_writebatch_merge_cf(batch->rocks, batch->kv->cf[cf], key.p, key.n, value.p, value.n);
}

void kv_delete(struct kv_batch *batch, enum kv_cf cf, struct span key)
{
    ASSERT(cf < batch->kv->cf_count);
    rocksdb_writebatch_delete_cf(batch->rocks, batch->kv->cf[cf], key.p, key.n);
}

void kv_delete_range(struct kv_batch *batch, enum kv_cf cf, struct span from, struct span until)
{
    ASSERT(batch->kv->kind == KV_RAFT && cf < batch->kv->cf_count);
    rocksdb_writebatch_delete_range_cf(batch->rocks, batch->kv->cf[cf], from.p, from.n, until.p,
                                       until.n);
}

int kv_write(struct kv_batch *batch)
{
    char *message = NULL;
    rocksdb_write(batch->kv->db, batch->kv->write, batch->rocks, &message);
    rocksdb_writebatch_clear(batch->rocks);
    return translate(message);
}

static int get(struct kv *kv, const rocksdb_readoptions_t *read, enum kv_cf cf, struct span key,
               struct buf *value)
{
    ASSERT(cf < kv->cf_count);
    char *message = NULL;
    value->n = 0;
    rocksdb_pinnableslice_t *pin =
        rocksdb_get_pinned_cf(kv->db, read, kv->cf[cf], key.p, key.n, &message);
    if (message != NULL)
        return translate(message);
    if (pin == NULL)
        return ERR_NOT_FOUND;
    size_t n = 0;
    const char *p = rocksdb_pinnableslice_value(pin, &n);
    buf_add(value, p, n);
    rocksdb_pinnableslice_destroy(pin);
    return 0;
}

int kv_get(struct kv *kv, enum kv_cf cf, struct span key, struct buf *value)
{
    return get(kv, kv->read, cf, key, value);
}

int kv_get_flushed(struct kv *kv, enum kv_cf cf, struct span key, struct buf *value)
{
    ASSERT(kv->kind == KV_DATA);
    return get(kv, kv->read_flushed, cf, key, value);
}

void kv_view_open(struct kv_view *view, struct kv *kv)
{
    view->kv = kv;
    view->snapshot = rocksdb_create_snapshot(kv->db);
}

void kv_view_close(struct kv_view *view)
{
    rocksdb_release_snapshot(view->kv->db, view->snapshot);
}

int kv_view_get(const struct kv_view *view, enum kv_cf cf, struct span key, struct buf *value)
{
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(read, view->snapshot);
    int err = get(view->kv, read, cf, key, value);
    rocksdb_readoptions_destroy(read);
    return err;
}

static void iter_open(struct kv_iter *iter, struct kv *kv, const struct kv_view *view,
                      enum kv_cf cf, struct span from, struct span until, bool scan)
{
    ASSERT(cf < kv->cf_count);
    *iter = (struct kv_iter){0};
    buf_add_span(&iter->lower, from);
    buf_add_span(&iter->upper, until);
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    if (view != NULL)
        rocksdb_readoptions_set_snapshot(read, view->snapshot);
    if (from.n > 0)
        rocksdb_readoptions_set_iterate_lower_bound(read, iter->lower.p, iter->lower.n);
    if (until.n > 0)
        rocksdb_readoptions_set_iterate_upper_bound(read, iter->upper.p, iter->upper.n);
    rocksdb_readoptions_set_fill_cache(read, !scan);
    iter->options = read;
    iter->rocks = rocksdb_create_iterator_cf(kv->db, read, kv->cf[cf]);
}

void kv_iter_open(struct kv_iter *iter, struct kv *kv, const struct kv_view *view, enum kv_cf cf,
                  struct span from, struct span until)
{
    iter_open(iter, kv, view, cf, from, until, false);
}

void kv_iter_open_scan(struct kv_iter *iter, struct kv *kv, const struct kv_view *view,
                       enum kv_cf cf, struct span from, struct span until)
{
    iter_open(iter, kv, view, cf, from, until, true);
}

void kv_iter_close(struct kv_iter *iter)
{
    rocksdb_iter_destroy(iter->rocks);
    rocksdb_readoptions_destroy(iter->options);
    buf_close(&iter->lower);
    buf_close(&iter->upper);
}

void kv_iter_first(struct kv_iter *iter)
{
    rocksdb_iter_seek_to_first(iter->rocks);
}

void kv_iter_last(struct kv_iter *iter)
{
    rocksdb_iter_seek_to_last(iter->rocks);
}

void kv_iter_seek(struct kv_iter *iter, struct span key)
{
    rocksdb_iter_seek(iter->rocks, key.p, key.n);
}

void kv_iter_seek_back(struct kv_iter *iter, struct span key)
{
    rocksdb_iter_seek_for_prev(iter->rocks, key.p, key.n);
}

void kv_iter_next(struct kv_iter *iter)
{
    rocksdb_iter_next(iter->rocks);
}

void kv_iter_prev(struct kv_iter *iter)
{
    rocksdb_iter_prev(iter->rocks);
}

bool kv_iter_valid(const struct kv_iter *iter)
{
    return rocksdb_iter_valid(iter->rocks);
}

struct span kv_iter_key(const struct kv_iter *iter)
{
    struct span span = {0};
    span.p = rocksdb_iter_key(iter->rocks, &span.n);
    return span;
}

struct span kv_iter_value(const struct kv_iter *iter)
{
    struct span span = {0};
    span.p = rocksdb_iter_value(iter->rocks, &span.n);
    return span;
}

int kv_iter_error(const struct kv_iter *iter)
{
    char *message = NULL;
    rocksdb_iter_get_error(iter->rocks, &message);
    return translate(message);
}

/* Removes a database that was made beside the real one; whether there was one does not matter. */
static void discard(const char *path)
{
    char *message = NULL;
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_destroy_db(options, path, &message);
    rocksdb_options_destroy(options);
    free(message);
}

int kv_flush(struct kv *kv, const char *scratch)
{
    /* Under atomic_flush the C API's flush takes one family without the others; a checkpoint
     * flushes all of them at one point, so one is made and thrown away. */
    char *message = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(kv->db, &message);
    if (message != NULL)
        return translate(message);
    discard(scratch); /* of a flush that a crash cut short */
    rocksdb_checkpoint_create(checkpoint, scratch, 0, &message);
    rocksdb_checkpoint_object_destroy(checkpoint);
    int err = translate(message);
    discard(scratch);
    return err;
}

void kv_compact(struct kv *kv, enum kv_cf cf, struct span from, struct span until)
{
    rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_bottommost_level_compaction(options, 2); /* force */
    rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0); /* others go on */
    rocksdb_compact_range_cf_opt(kv->db, kv->cf[cf], options, from.p, from.n, until.p, until.n);
    rocksdb_compactoptions_destroy(options);
}

uint64_t kv_property(struct kv *kv, enum kv_cf cf, const char *name)
{
    char *text = rocksdb_property_value_cf(kv->db, kv->cf[cf], name); /* some are text only */
    uint64_t value = text != NULL ? strtoull(text, NULL, 10) : 0;
    rocksdb_free(text);
    return value;
}

uint64_t kv_memory(struct kv *kv)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < kv->cf_count; i++)
        sum += kv_property(kv, (enum kv_cf)i, "rocksdb.cur-size-all-mem-tables");
    return sum;
}

uint64_t kv_size(struct kv *kv, enum kv_cf cf, struct span from, struct span until)
{
    char *message = NULL;
    uint64_t size = 0;
    rocksdb_approximate_sizes_cf(kv->db, kv->cf[cf], 1, &from.p, &from.n, &until.p, &until.n, &size,
                                 &message);
    free(message);
    return size;
}
