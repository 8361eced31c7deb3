/* store/kv_inside.h: the inside of a database, shared by kv*.c only. */
#ifndef LOQUAT_STORE_KV_INSIDE_H
#define LOQUAT_STORE_KV_INSIDE_H

#include <rocksdb/c.h>

#include "store/kv.h"
#include "store/kv_trash.h"

/* A family whose rows the filter sees. */
struct kv_filtered {
    const struct kv *kv;
    enum kv_cf cf;
    rocksdb_compactionfilter_t *rocks;
};

struct kv {
    enum kv_kind kind;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *cf[KV_CF_COUNT];
    size_t cf_count;
    rocksdb_options_t *options[KV_CF_COUNT];
    rocksdb_cache_t *cache;
    rocksdb_block_based_table_options_t *table;
    struct kv_filtered filtered[KV_CF_COUNT]; /* rocks NULL: it is not filtered */
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read, *read_flushed;
    struct kv_options config;
    struct kv_trash *trash; /* NULL: what is deleted goes at once */
};

/* Takes RocksDB's message over and makes one of ours of it: kv_error has it. NULL: 0. */
int kv_translate(char *message);

#endif
