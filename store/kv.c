#include "store/kv.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/kv_inside.h"

/* RocksDB counts what it does for each thread, at every comparison of a key; nobody asks. */
static void count_nothing(void)
{
    static _Thread_local bool done;
    if (!done)
        rocksdb_set_perf_level(rocksdb_disable);
    done = true;
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
    ASSERT(cf == KV_DEDUP || batch->kv->kind == KV_INDEX);
    rocksdb_writebatch_merge_cf(batch->rocks, batch->kv->cf[cf], key.p, key.n, value.p, value.n);
}

void kv_delete(struct kv_batch *batch, enum kv_cf cf, struct span key)
{
    ASSERT(cf < batch->kv->cf_count);
    rocksdb_writebatch_delete_cf(batch->rocks, batch->kv->cf[cf], key.p, key.n);
}

void kv_delete_range(struct kv_batch *batch, struct span from, struct span until)
{
    ASSERT(batch->kv->kind == KV_INDEX && from.n < KV_INDEX_HINT_SIZE);
    rocksdb_writebatch_delete_range_cf(batch->rocks, batch->kv->cf[KV_LOG], from.p, from.n, until.p,
                                       until.n);
}

int kv_write(struct kv_batch *batch)
{
    char *message = NULL;
    count_nothing();
    rocksdb_write(batch->kv->db, batch->kv->write, batch->rocks, &message);
    rocksdb_writebatch_clear(batch->rocks);
    return kv_translate(message);
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
        return kv_translate(message);
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

int kv_view_get_each(const struct kv_view *view, enum kv_cf cf, const struct span *keys,
                     size_t count, void (*fn)(void *arg, size_t i, struct span value), void *arg)
{
    ASSERT(cf < view->kv->cf_count && count <= KV_EACH_MAX);
    const char *texts[KV_EACH_MAX];
    size_t sizes[KV_EACH_MAX];
    char *messages[KV_EACH_MAX];
    rocksdb_pinnableslice_t *pins[KV_EACH_MAX];
    int err = 0;
    for (size_t i = 0; i < count; i++) {
        texts[i] = keys[i].p;
        sizes[i] = keys[i].n;
    }
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(read, view->snapshot);
    rocksdb_batched_multi_get_cf(view->kv->db, read, view->kv->cf[cf], count, texts, sizes, pins,
                                 messages, true);
    rocksdb_readoptions_destroy(read);
    for (size_t i = 0; i < count; i++) {
        size_t n = 0;
        if (messages[i] != NULL)
            err = kv_translate(messages[i]);
        if (pins[i] == NULL)
            continue;
        const char *p = rocksdb_pinnableslice_value(pins[i], &n);
        fn(arg, i, span_of(p, n));
        rocksdb_pinnableslice_destroy(pins[i]);
    }
    return err;
}

static rocksdb_readoptions_t *iter_options(struct kv_iter *iter, const struct kv_view *view)
{
    *iter = (struct kv_iter){0};
    count_nothing();
    rocksdb_readoptions_t *read = iter->options = rocksdb_readoptions_create();
    if (view != NULL)
        rocksdb_readoptions_set_snapshot(read, view->snapshot);
    return read;
}

static void iter_open(struct kv_iter *iter, struct kv *kv, const struct kv_view *view,
                      enum kv_cf cf, struct span from, struct span until, bool scan)
{
    ASSERT(cf < kv->cf_count);
    rocksdb_readoptions_t *read = iter_options(iter, view);
    buf_add_span(&iter->lower, from);
    buf_add_span(&iter->upper, until);
    if (from.n > 0)
        rocksdb_readoptions_set_iterate_lower_bound(read, iter->lower.p, iter->lower.n);
    if (until.n > 0)
        rocksdb_readoptions_set_iterate_upper_bound(read, iter->upper.p, iter->upper.n);
    rocksdb_readoptions_set_fill_cache(read, !scan);
    rocksdb_readoptions_set_total_order_seek(read, 1); /* a range has more than one prefix */
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

void kv_iter_open_near(struct kv_iter *iter, struct kv *kv, const struct kv_view *view)
{
    ASSERT(kv->kind == KV_DATA);
    iter_options(iter, view);
    iter->rocks = rocksdb_create_iterator_cf(kv->db, iter->options, kv->cf[KV_LOG]);
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
    return kv_translate(message);
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
        return kv_translate(message);
    discard(scratch); /* of a flush that a crash cut short */
    rocksdb_checkpoint_create(checkpoint, scratch, 0, &message);
    rocksdb_checkpoint_object_destroy(checkpoint);
    int err = kv_translate(message);
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

void kv_compact_later(struct kv *kv, enum kv_cf cf, struct span from, struct span until)
{
    char *message = NULL; /* what is not compacted now is so at some time */
    rocksdb_suggest_compact_range_cf(kv->db, kv->cf[cf], from.p, from.n, until.p, until.n,
                                     &message);
    free(message);
}

uint64_t kv_property(struct kv *kv, enum kv_cf cf, const char *name)
{
    char *text = rocksdb_property_value_cf(kv->db, kv->cf[cf], name); /* some are text only */
    uint64_t value = text != NULL ? strtoull(text, NULL, 10) : 0;
    rocksdb_free(text);
    return value;
}

uint64_t kv_files(struct kv *kv)
{
    ASSERT(kv->kind == KV_DATA);
    return kv_property(kv, KV_APL, "rocksdb.current-super-version-number");
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
