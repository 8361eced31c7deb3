/* store/kv.h: the data DB of a node; the only includer of rocksdb/c.h is store/kv.c. The families
 * below, WAL off, flushed together (atomic_flush): after a crash it stands at some write that was
 * made, whole, and the raft log is replayed from there.
 * KV_RAFT, one family, each write synced, is what raft logs once stood in: for directories of old.
 * KV_INDEX, one family, WAL off, is the search index (store/search/index.h).
 * Owner:  values are copied into the caller's buf; iterators lend until moved.
 * Thread: any thread reads; one thread writes to each database.
 * Errors: ERR_NOT_FOUND, ERR_CORRUPT, ERR_NO_SPACE, ERR_IO. kv_error tells the last message of the
 *         calling thread. */
#ifndef LOQUAT_STORE_KV_H
#define LOQUAT_STORE_KV_H

#include "store/base/buf.h"
#include "store/base/err.h"

enum kv_cf {
    KV_LOG, /* the only one of KV_RAFT and of KV_INDEX */
    KV_CONV,
    KV_FOLD,
    KV_DEDUP,
    KV_USER,
    KV_FEED,
    KV_OUT,
    KV_APL,
    KV_CF_COUNT
};
enum kv_kind { KV_RAFT, KV_DATA, KV_INDEX };

struct kv;
struct kv_options {
    bool create;             /* else the database must exist */
    bool read_only;          /* for inspection: nothing is written */
    uint64_t memtable_bytes; /* 0: the default */
    /* Another number for each database that gets the same rows: they are flushed, and compacted, at
     * different times, so that most of them are at hand at any time. */
    uint64_t stagger;
    /* Called in compaction threads for rows of KV_LOG and KV_FEED; NULL: nothing is filtered.
     * KV_KEEP, KV_DROP, or KV_REPLACE with the new value in `value`. */
    int (*filter)(void *arg, enum kv_cf cf, struct span key, struct span old, struct buf *value);
    void *filter_arg;
};
enum { KV_KEEP, KV_DROP, KV_REPLACE };

int kv_open(const char *dir, enum kv_kind kind, const struct kv_options *options, struct kv **kv);
void kv_close(struct kv *kv); /* data DB: flushes first */
const char *kv_error(void);
/* Whether the error that was last returned says that files are damaged, and not that they can't be
 * read for now. */
static inline bool kv_damaged(int err)
{
    /* A damaged CURRENT names a MANIFEST that nobody wrote. */
    return err == ERR_CORRUPT || (err == ERR_IO && strstr(kv_error(), "No such file") != NULL);
}
const char *kv_cf_name(enum kv_cf cf);

struct kv_batch {
    void *rocks;
    struct kv *kv;
};
void kv_batch_init(struct kv_batch *batch, struct kv *kv);
void kv_batch_close(struct kv_batch *batch);
void kv_batch_clear(struct kv_batch *batch);
size_t kv_batch_bytes(const struct kv_batch *batch);
bool kv_batch_empty(const struct kv_batch *batch);
void kv_put(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span value);
void kv_put2(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span head,
             struct span rest); /* one value in two pieces */
/* Adds to the end of the row's value. */
void kv_append(struct kv_batch *batch, enum kv_cf cf, struct span key, struct span value);
void kv_delete(struct kv_batch *batch, enum kv_cf cf, struct span key);
/* [from, until) of a KV_INDEX, of which `from` is shorter than the keys that take insert hints: one
 * that does would corrupt the memtable (RocksDB < 9.2). So other databases delete no ranges. */
enum { KV_INDEX_HINT_SIZE = 23 }; /* of a key, at least */
void kv_delete_range(struct kv_batch *batch, struct span from, struct span until);
int kv_write(struct kv_batch *batch); /* the batch is cleared */

int kv_get(struct kv *kv, enum kv_cf cf, struct span key, struct buf *value);
/* Only what has reached the data DB's files, and would survive a crash now. */
int kv_get_flushed(struct kv *kv, enum kv_cf cf, struct span key, struct buf *value);

/* One moment of the whole database. */
struct kv_view {
    struct kv *kv;
    const void *snapshot; /* NULL: whatever is there now */
};
void kv_view_open(struct kv_view *view, struct kv *kv);
void kv_view_close(struct kv_view *view);
int kv_view_get(const struct kv_view *view, enum kv_cf cf, struct span key, struct buf *value);
/* Many at once, in key order, at most KV_EACH_MAX: `fn` is lent the value of each that is there. */
enum { KV_EACH_MAX = 128 };
int kv_view_get_each(const struct kv_view *view, enum kv_cf cf, const struct span *keys,
                     size_t count, void (*fn)(void *arg, size_t i, struct span value), void *arg);

/* Rows of [from, until) in key order. Bounds are copied. */
struct kv_iter {
    void *rocks, *options;
    struct buf lower, upper;
};
void kv_iter_open(struct kv_iter *iter, struct kv *kv, const struct kv_view *view, enum kv_cf cf,
                  struct span from, struct span until);
/* The same for many rows that are read once: they don't drive others out of the block cache. */
void kv_iter_open_scan(struct kv_iter *iter, struct kv *kv, const struct kv_view *view,
                       enum kv_cf cf, struct span from, struct span until);
/* For runs of records: files of KV_LOG that have none of the KEY_NEAR sequences to which the sought
 * one belongs are not read. What lies behind these may be left out. */
void kv_iter_open_near(struct kv_iter *iter, struct kv *kv, const struct kv_view *view);
void kv_iter_close(struct kv_iter *iter);
void kv_iter_first(struct kv_iter *iter);
void kv_iter_last(struct kv_iter *iter);
void kv_iter_seek(struct kv_iter *iter, struct span key);      /* at or after */
void kv_iter_seek_back(struct kv_iter *iter, struct span key); /* at or before */
void kv_iter_next(struct kv_iter *iter);
void kv_iter_prev(struct kv_iter *iter);
bool kv_iter_valid(const struct kv_iter *iter);
struct span kv_iter_key(const struct kv_iter *iter);
struct span kv_iter_value(const struct kv_iter *iter);
int kv_iter_error(const struct kv_iter *iter); /* after it became invalid: 0 at the end */

/* Data DB: everything, at one point. scratch: a path beside it on the same file system; what is
 * there from before is removed. */
int kv_flush(struct kv *kv, const char *scratch);
void kv_compact(struct kv *kv, enum kv_cf cf, struct span from, struct span until);
/* The same without waiting for it: files that hold rows of the range are compacted with those below
 * them when background threads come to it. */
void kv_compact_later(struct kv *kv, enum kv_cf cf, struct span from, struct span until);
uint64_t kv_property(struct kv *kv, enum kv_cf cf, const char *name); /* rocksdb property; 0 */
uint64_t kv_files(struct kv *kv);  /* another number, when other rows are in files */
uint64_t kv_memory(struct kv *kv); /* bytes that are still to be written to files: all families */
uint64_t kv_size(struct kv *kv, enum kv_cf cf, struct span from, struct span until);

#endif
