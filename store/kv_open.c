/* store/kv_open.c: how databases are set up, opened and closed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/key.h"
#include "store/kv_inside.h"

enum {
    MEMTABLE_DATA = 32 << 20,
    MEMTABLE_SMALL = 16 << 20,
    STAGGER_STEPS = 4, /* kv_options.stagger: memtables smaller by so many */
    STAGGER_PART = 8,  /* of these parts */
    MEMTABLES_TOTAL = 256 << 20,
    MEMTABLE_RAFT = 128 << 20,
    MEMTABLE_INDEX = 16 << 20,
    WAL_TOTAL = 384 << 20,
    BLOCK_CACHE = 64 << 20, /* the page cache is behind it */
    BLOCK_SIZE = 16 << 10,
    OPEN_FILES_MAX = 512,
    /* The data DB is compacted when so many files wait, into a level that is not small beside them:
     * fewer files or a smaller level have the same rows written again more often, which costs more
     * than anything else here (docs/decisions/0009). */
    LEVEL0_FILES = 40,
    LEVEL0_FILES_SMALL = 8, /* of families that are small, and looked into by key */
    LEVEL0_SLOW = 96,
    LEVEL0_STOP = 128,
    LEVEL_BASE = 1 << 30,
    SYNC_STEP = 1 << 20, /* files are written back as they grow: who syncs the raft log would wait
                            for a whole one (ext4 orders them) */
    PACE_BYTES = 160 << 20, /* a second, of each database; more than it ever takes for long */
    PACE_STEP_US = 4000,
    ZSTD_LEVEL = 1,
    ZSTD_LEVEL_INDEX = 3,
    FILTER_BITS = 10,      /* for each row */
    FILTER_BITS_INDEX = 7, /* as good as a Bloom filter of so many */
    RESTART_INDEX = 32,
    ZSTD_WINDOW = -14, /* RocksDB's default */
};

static const char *const cf_names[KV_CF_COUNT] = {"default", "conv", "fold", "dedup",
                                                  "user",    "feed", "out",  "apl"};

static _Thread_local char error_text[512];

const char *kv_error(void)
{
    return error_text;
}

const char *kv_cf_name(enum kv_cf cf)
{
    return cf == KV_LOG ? "log" : cf_names[cf];
}

int kv_translate(char *message)
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
    return "loquat-filter-1";
}

static void nothing_to_free(void *arg)
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
    const struct kv_filtered *filtered = arg;
    const struct kv_options *config = &filtered->kv->config;
    struct buf *room = filter_room();
    room->n = 0;
    int verdict = config->filter(config->filter_arg, filtered->cf, span_of(key, key_size),
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

/* What is written in the background must not fill the queue of the device: who syncs waits behind
 * it. */
static void set_pace(rocksdb_options_t *options)
{
    rocksdb_ratelimiter_t *limiter = rocksdb_ratelimiter_create(PACE_BYTES, PACE_STEP_US, 10);
    rocksdb_options_set_ratelimiter(options, limiter);
    rocksdb_ratelimiter_destroy(limiter);
}

/* Of old: read when a directory is converted, and written by tests and benches. */
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
    set_pace(o);
    return o;
}

static void set_append(rocksdb_options_t *options)
{
    rocksdb_options_set_merge_operator(
        options, rocksdb_mergeoperator_create(NULL, nothing_to_free, append_full, append_partial,
                                              NULL, append_name));
}

/* Small rows, each asked for by its whole key, most of which are not there. */
static rocksdb_options_t *index_options(struct kv *kv)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, kv->config.create);
    rocksdb_options_set_write_buffer_size(o, MEMTABLE_INDEX);
    rocksdb_options_set_max_write_buffer_number(o, 3);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX / 2);
    rocksdb_options_set_keep_log_file_num(o, 4);
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    rocksdb_options_set_bytes_per_sync(o, SYNC_STEP);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, LEVEL0_FILES_SMALL);
    rocksdb_options_set_level0_slowdown_writes_trigger(o, LEVEL0_SLOW);
    rocksdb_options_set_level0_stop_writes_trigger(o, LEVEL0_STOP);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_bottommost_compression(o, rocksdb_zstd_compression);
    rocksdb_options_set_bottommost_compression_options(o, ZSTD_WINDOW, ZSTD_LEVEL_INDEX, 0, 0, 1);
    set_pace(o);
    set_table(kv, o);
    set_append(o);
    char hint[64];
    snprintf(hint, sizeof hint, "memtable_insert_with_hint_prefix_extractor=fixed:%d",
             KV_INDEX_HINT_SIZE);
    return with_string(o, hint);
}

/* ---- what filters know beside whole keys: kv_iter_open_near ---- */

/* RocksDB compares two of them at once at most, and copies what it keeps. */
static char *near_of(void *arg, const char *key, size_t size, size_t *near_size)
{
    static _Thread_local char rooms[4][KEY_SEQ_SIZE];
    static _Thread_local size_t turn;
    char *near = rooms[turn++ % 4];
    (void)arg, (void)size;
    memcpy(near, key, KEY_SEQ_SIZE);
    near[KEY_SEQ_SIZE - 1] = (char)(near[KEY_SEQ_SIZE - 1] & -KEY_NEAR);
    *near_size = KEY_SEQ_SIZE;
    return near;
}

static unsigned char near_has(void *arg, const char *key, size_t size)
{
    (void)arg, (void)key;
    return size == KEY_SEQ_SIZE;
}

static const char *near_name(void *arg)
{
    (void)arg;
    return "loquat-near-64";
}

static void set_near(rocksdb_options_t *options)
{
    rocksdb_options_set_prefix_extractor(
        options, rocksdb_slicetransform_create(NULL, nothing_to_free, near_of, near_has, near_has,
                                               near_name));
}

/* What differs between the families: how rows are found, and how much of them there is. */
static rocksdb_options_t *data_options(struct kv *kv, enum kv_cf cf)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, kv->config.create);
    rocksdb_options_set_create_missing_column_families(o, kv->config.create);
    rocksdb_options_set_atomic_flush(o, 1);
    uint64_t memtable = cf == KV_LOG ? MEMTABLE_DATA : MEMTABLE_SMALL;
    bool grows = cf == KV_LOG || cf == KV_FEED || cf == KV_DEDUP; /* with every message */
    int level0 = grows ? LEVEL0_FILES : LEVEL0_FILES_SMALL;
    if (kv->config.memtable_bytes > 0)
        memtable = kv->config.memtable_bytes;
    memtable -= memtable / STAGGER_PART * (kv->config.stagger % STAGGER_STEPS);
    rocksdb_options_set_write_buffer_size(o, memtable);
    rocksdb_options_set_max_write_buffer_number(o, 4);
    rocksdb_options_set_db_write_buffer_size(o, MEMTABLES_TOTAL);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_keep_log_file_num(o, 4);
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    rocksdb_options_set_bytes_per_sync(o, SYNC_STEP);
    if (cf == KV_LOG)
        set_pace(o);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, level0);
    rocksdb_options_set_level0_slowdown_writes_trigger(o, LEVEL0_SLOW);
    rocksdb_options_set_level0_stop_writes_trigger(o, LEVEL0_STOP);
    rocksdb_options_set_max_bytes_for_level_base(o, LEVEL_BASE);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_bottommost_compression(o, rocksdb_zstd_compression);
    rocksdb_options_set_bottommost_compression_options(o, ZSTD_WINDOW, ZSTD_LEVEL, 0, 0, 1);
    set_table(kv, o);
    /* A record or an entry of the feed that is asked for is there: filters over most of all rows
     * would take memory for nothing. */
    rocksdb_options_set_optimize_filters_for_hits(o, cf == KV_LOG || cf == KV_FEED);
    if ((cf == KV_LOG || cf == KV_FEED) && kv->config.filter != NULL) {
        struct kv_filtered *filtered = &kv->filtered[cf];
        *filtered = (struct kv_filtered){.kv = kv, .cf = cf};
        filtered->rocks =
            rocksdb_compactionfilter_create(filtered, nothing_to_free, filter_run, filter_name);
        rocksdb_options_set_compaction_filter(o, filtered->rocks);
    }
    if (cf == KV_DEDUP)
        set_append(o);
    if (cf == KV_LOG)
        set_near(o);
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
    rocksdb_block_based_options_set_format_version(kv->table, 5);
    if (kv->kind == KV_INDEX) {
        /* Its rows are so small that filters and what is said again of keys would be most of it. */
        rocksdb_block_based_options_set_filter_policy(
            kv->table, rocksdb_filterpolicy_create_ribbon(FILTER_BITS_INDEX));
        rocksdb_block_based_options_set_block_restart_interval(kv->table, RESTART_INDEX);
    } else {
        rocksdb_block_based_options_set_filter_policy(
            kv->table, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS));
    }
    kv->cf_count = kv->kind == KV_DATA ? KV_CF_COUNT : 1;
    for (size_t i = 0; i < kv->cf_count; i++)
        kv->options[i] = kv->kind == KV_RAFT    ? raft_options(kv)
                         : kv->kind == KV_INDEX ? index_options(kv)
                                                : data_options(kv, (enum kv_cf)i);
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
    for (int cf = 0; cf < KV_CF_COUNT; cf++)
        if (kv->filtered[cf].rocks != NULL)
            rocksdb_compactionfilter_destroy(kv->filtered[cf].rocks);
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
        return kv_translate(message);
    }
    if (!options->read_only)
        kv->trash = kv_trash_open(dir);
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
    kv_trash_close(kv->trash);
    free_parts(kv);
}
