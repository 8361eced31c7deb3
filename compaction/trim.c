#include "compaction/trim.h"

#include "compaction/beside.h"
#include "compaction/strip.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/key.h"

struct slice {
    struct kv *kv;
    uint32_t partition;
    uint64_t now_ms;
    struct kv_batch batch;
    struct buf value, stub;
    struct conv_id floor_id; /* whose floor is at hand */
    bool floor_known, more;
    uint64_t floor;
    size_t rows;
    struct tally went[CAUSE_COUNT];
};

static int load_floor(struct slice *slice, struct conv_id id)
{
    if (slice->floor_known && conv_id_eq(slice->floor_id, id))
        return 0;
    struct key key = key_header(slice->partition, id);
    int err = kv_get(slice->kv, KV_CONV, key_span(&key), &slice->value);
    if (err != 0)
        return err;
    Loquat__ConvHeader *header =
        loquat__conv_header__unpack(NULL, slice->value.n, (const uint8_t *)slice->value.p);
    if (header == NULL)
        return ERR_CORRUPT;
    slice->floor = header->floor;
    slice->floor_id = id;
    slice->floor_known = true;
    loquat__conv_header__free_unpacked(header, NULL);
    return 0;
}

static int load_record(struct slice *slice, struct conv_id id, uint64_t seq,
                       Loquat__Record **record)
{
    struct key key = key_seq(slice->partition, id, seq);
    int err = kv_get(slice->kv, KV_LOG, key_span(&key), &slice->value);
    return err != 0 ? err : record_decode(buf_span(&slice->value), NULL, record);
}

static int newest_edit(struct slice *slice, struct conv_id id, uint64_t target, uint64_t *seq)
{
    struct key key = key_seq(slice->partition, id, target);
    int err = kv_get(slice->kv, KV_FOLD, key_span(&key), &slice->stub);
    *seq = 0;
    if (err == ERR_NOT_FOUND)
        return 0;
    if (err != 0)
        return err;
    Loquat__Fold *fold = loquat__fold__unpack(NULL, slice->stub.n, (const uint8_t *)slice->stub.p);
    if (fold == NULL)
        return ERR_CORRUPT;
    *seq = fold->edit_seq;
    loquat__fold__free_unpacked(fold, NULL);
    return 0;
}

/* `value` holds the row as it is, `stub` what is left of it. */
static void rewrite(struct slice *slice, enum kv_cf cf, struct key key, enum cause cause)
{
    if (slice->stub.n >= slice->value.n)
        return;
    kv_put(&slice->batch, cf, key_span(&key), buf_span(&slice->stub));
    tally_add(&slice->went[cause], key.n + slice->value.n, slice->value.n - slice->stub.n);
}

static int trim_edit(struct slice *slice, const struct trim_item *item)
{
    int err = load_floor(slice, item->id);
    uint64_t floor = slice->floor;
    Loquat__Record *record = NULL;
    if (err == 0)
        err = load_record(slice, item->id, item->seq, &record);
    if (err != 0)
        return err;
    struct policy_record view = {
        .seq = item->seq,
        .expires = record->expires,
        .target = record->target,
        .erased = record->erased,
        .stripped = record->stripped,
        .edit = record->kind == LOQUAT__KIND__KIND_EDIT,
    };
    loquat__record__free_unpacked(record, NULL);
    if (view.edit)
        err = newest_edit(slice, item->id, view.target, &view.newest_edit);
    if (err != 0 || policy_cause(&view, floor, slice->now_ms) != CAUSE_EDIT)
        return err;
    err = strip_record(buf_span(&slice->value), &slice->stub);
    if (err == 0)
        rewrite(slice, KV_LOG, key_seq(slice->partition, item->id, item->seq), CAUSE_EDIT);
    return err;
}

/* Not 0: the slice is full, and there is more. */
static int drop_row(struct slice *slice, enum kv_cf cf, struct span key, struct span value,
                    enum cause cause)
{
    if (slice->rows == TRIM_ROWS_MAX) {
        slice->more = true;
        return ERR_AGAIN;
    }
    kv_delete(&slice->batch, cf, key);
    tally_add(&slice->went[cause], key.n + value.n, key.n + value.n);
    slice->rows++;
    return 0;
}

static int drop_beside(void *slice, struct span key, struct span value)
{
    return drop_row(slice, KV_CONV, key, value, CAUSE_FLOOR);
}

static int drop_rows(struct slice *slice, enum kv_cf cf, struct key from, struct key until,
                     enum cause cause)
{
    struct kv_iter iter;
    int err = 0;
    kv_iter_open(&iter, slice->kv, NULL, cf, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter))
        err = drop_row(slice, cf, kv_iter_key(&iter), kv_iter_value(&iter), cause);
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err == ERR_AGAIN ? 0 : err;
}

/* What people put on a message; `more`: not all of it yet. */
static int drop_reactions(struct slice *slice, struct conv_id id, uint64_t seq, enum cause cause)
{
    struct key from = key_reactions(slice->partition, id, seq, (struct span){0});
    struct key end = key_reactions(slice->partition, id, seq + 1, (struct span){0});
    return drop_rows(slice, KV_CONV, from, end, cause);
}

static int trim_fold(struct slice *slice, const struct trim_item *item)
{
    Loquat__Record *record = NULL;
    int err = load_record(slice, item->id, item->seq, &record);
    if (err != 0)
        return err;
    bool over = record->stripped || (record->expires != 0 && record->expires <= slice->now_ms);
    bool gone = over || record->erased;
    loquat__record__free_unpacked(record, NULL);
    struct key key = key_seq(slice->partition, item->id, item->seq);
    if (gone)
        err = drop_reactions(slice, item->id, item->seq, over ? CAUSE_EXPIRED : CAUSE_ERASED);
    if (slice->more) /* the fold says that there are some */
        return err;
    if (over && err == 0)
        err = kv_get(slice->kv, KV_FOLD, key_span(&key), &slice->value);
    if (!over || err != 0)
        return err;
    err = strip_fold(buf_span(&slice->value), &slice->stub);
    if (err == 0)
        rewrite(slice, KV_FOLD, key, CAUSE_EXPIRED);
    return err;
}

static int trim_below(struct slice *slice, const struct trim_item *item)
{
    int err = load_floor(slice, item->id);
    if (err != 0)
        return err;
    err =
        beside_below(slice->kv, NULL, slice->partition, item->id, slice->floor, drop_beside, slice);
    if (err != 0)
        return err == ERR_AGAIN ? 0 : err;
    struct key from = key_seq(slice->partition, item->id, 0);
    struct key until = key_seq(slice->partition, item->id, slice->floor);
    return drop_rows(slice, KV_FOLD, from, until, CAUSE_FLOOR);
}

static int trim_item(struct slice *slice, const struct trim_item *item)
{
    int err = 0;
    switch (item->what) {
    case TRIM_EDIT:
        err = trim_edit(slice, item);
        break;
    case TRIM_FOLD:
        err = trim_fold(slice, item);
        break;
    case TRIM_BELOW:
        err = trim_below(slice, item);
        break;
    }
    bool left_alone = err == ERR_NOT_FOUND || err == ERR_CORRUPT || err == ERR_VERSION;
    return left_alone ? 0 : err;
}

int trim_slice(struct kv *kv, uint32_t partition, const struct trim_item *items, size_t count,
               uint64_t now_ms, struct tally went[CAUSE_COUNT], bool *more)
{
    ASSERT(count <= TRIM_ITEMS_MAX);
    struct slice slice = {.kv = kv, .partition = partition, .now_ms = now_ms};
    kv_batch_init(&slice.batch, kv);
    int err = 0;
    for (size_t i = 0; i < count && err == 0 && !slice.more; i++)
        err = trim_item(&slice, &items[i]);
    if (err == 0)
        err = kv_write(&slice.batch);
    if (err == 0)
        tally_join(went, slice.went); /* only after the database agreed */
    *more = err == 0 && slice.more;
    kv_batch_close(&slice.batch);
    buf_close(&slice.value);
    buf_close(&slice.stub);
    return err;
}
