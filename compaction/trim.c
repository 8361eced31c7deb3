#include "compaction/trim.h"

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

static int trim_fold(struct slice *slice, const struct trim_item *item)
{
    Loquat__Record *record = NULL;
    int err = load_record(slice, item->id, item->seq, &record);
    if (err != 0)
        return err;
    bool over = record->stripped || (record->expires != 0 && record->expires <= slice->now_ms);
    loquat__record__free_unpacked(record, NULL);
    struct key key = key_seq(slice->partition, item->id, item->seq);
    if (over)
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
    struct key from = key_seq(slice->partition, item->id, 0);
    struct key until = key_seq(slice->partition, item->id, slice->floor);
    struct kv_iter iter;
    kv_iter_open(&iter, slice->kv, NULL, KV_FOLD, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        if (slice->rows == TRIM_ROWS_MAX) {
            slice->more = true;
            break;
        }
        struct span key = kv_iter_key(&iter);
        uint64_t bytes = key.n + kv_iter_value(&iter).n;
        kv_delete(&slice->batch, KV_FOLD, key);
        tally_add(&slice->went[CAUSE_FLOOR], bytes, bytes);
        slice->rows++;
    }
    err = slice->more ? 0 : kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
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
