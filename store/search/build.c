#include "store/search/build.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/map.h"
#include "store/feedlog.h"
#include "store/key.h"

struct late { /* an edit of a message of another segment */
    uint64_t target, seq;
};
struct wanted {
    struct conv_id conv;
    uint64_t until; /* its newest record, as far as the step goes */
};

struct build {
    struct kv *data, *index;
    struct content content;
    struct posting_builder *builder;
    struct kv_batch batch;
    struct index_writer writer;
    struct buf value;
    struct wanted *wanted;
    size_t wanted_count, wanted_cap;
    struct late *late;
    size_t late_count, late_cap;
    /* the conversation in work */
    uint32_t partition, segment;
    struct conv_id conv;
    uint64_t messages;
};

struct build *build_new(struct kv *data, struct kv *index)
{
    struct build *build = xcalloc(1, sizeof *build);
    build->data = data;
    build->index = index;
    build->builder = posting_builder_new();
    content_open(&build->content);
    kv_batch_init(&build->batch, index);
    build->writer.batch = &build->batch;
    return build;
}

void build_free(struct build *build)
{
    if (build == NULL)
        return;
    kv_batch_close(&build->batch);
    buf_close(&build->writer.pairs);
    content_close(&build->content);
    posting_builder_free(build->builder);
    buf_close(&build->value);
    free(build->wanted);
    free(build->late);
    free(build);
}

/* ---- writing ---- */

static void put_run(void *arg, struct span term, struct span run)
{
    index_put(arg, term, run);
}

static int write_batch(struct build *build)
{
    return kv_batch_empty(&build->batch) ? 0 : kv_write(&build->batch);
}

/* All that was gathered of a segment, and that it goes up to `seq`. */
static int flush(struct build *build, uint64_t seq)
{
    build->writer.partition = build->partition;
    build->writer.segment = build->segment;
    build->writer.conv = build->conv;
    posting_take(build->builder, put_run, &build->writer);
    index_put_end(&build->writer);
    index_put_through(&build->batch, build->partition, build->conv, seq);
    return kv_batch_bytes(&build->batch) >= BUILD_BATCH_BYTES ? write_batch(build) : 0;
}

static void put_dirty(struct build *build, uint64_t seq)
{
    static const char MARK[1];
    struct index_key key =
        index_key(build->partition, build->conv, (uint32_t)(seq >> SEGMENT_BITS), span_of(MARK, 1));
    kv_put(&build->batch, KV_LOG, index_key_span(&key), (struct span){0});
}

/* ---- records ---- */

static void add_late(struct build *build, uint64_t target, uint64_t seq)
{
    if (build->late_count == build->late_cap) {
        build->late_cap = build->late_cap == 0 ? 64 : build->late_cap * 2;
        build->late = xrealloc(build->late, build->late_cap * sizeof *build->late);
    }
    build->late[build->late_count++] = (struct late){target, seq};
}

/* The kind of an edit's body is that of the message; only its text can be found. */
static void take_record(struct build *build, const struct record_view *record, uint64_t seq)
{
    uint16_t place = (uint16_t)seq;
    if (record->erased || record->stripped)
        return;
    if (kind_is_message(record->kind)) {
        build->messages++;
        content_add_traits(record, build->builder, place);
        content_add_text(&build->content, "", record->kind, record->body, build->builder, place);
    } else if (record->kind == LOQUAT__KIND__KIND_EDIT) {
        put_dirty(build, record->target); /* it may have terms that it has no more */
        if (record->target >> SEGMENT_BITS == seq >> SEGMENT_BITS)
            content_add_text(&build->content, "", LOQUAT__KIND__KIND_TEXT, record->body,
                             build->builder, (uint16_t)record->target);
        else
            add_late(build, record->target, seq);
    } else if (record->kind == LOQUAT__KIND__KIND_DELETE) {
        put_dirty(build, record->target);
    }
}

static int by_target(const void *a, const void *b)
{
    const struct late *x = a, *y = b;
    return x->target < y->target ? -1 : x->target > y->target;
}

static int take_late(struct build *build, uint64_t through)
{
    int err = 0;
    if (build->late_count == 0)
        return 0;
    qsort(build->late, build->late_count, sizeof *build->late, by_target);
    for (size_t i = 0; i < build->late_count && err == 0; i++) {
        const struct late *late = &build->late[i];
        struct key key = key_seq(build->partition, build->conv, late->seq);
        struct record_view record;
        if (late->target >> SEGMENT_BITS != build->segment)
            err = flush(build, through);
        build->segment = (uint32_t)(late->target >> SEGMENT_BITS);
        if (err == 0)
            err = kv_get(build->data, KV_LOG, key_span(&key), &build->value);
        if (err == 0)
            err = record_view(buf_span(&build->value), &record);
        if (err == 0 && !record.erased && !record.stripped)
            content_add_text(&build->content, "", LOQUAT__KIND__KIND_TEXT, record.body,
                             build->builder, (uint16_t)late->target);
        if (err == ERR_NOT_FOUND) /* trimmed meanwhile */
            err = 0;
    }
    build->late_count = 0;
    return err == 0 ? flush(build, through) : err;
}

/* What of a conversation is not in the index, up to `until`. `through` moves behind edits of older
 * segments only once these are there as well. */
static int take_rows(struct build *build, uint64_t through, uint64_t until)
{
    struct key from = key_seq(build->partition, build->conv, through + 1);
    struct key to = key_seq(build->partition, build->conv, until + 1);
    struct kv_iter iter;
    uint64_t seq = through;
    int err = 0;
    kv_iter_open_scan(&iter, build->data, NULL, KV_LOG, key_span(&from), key_span(&to));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct record_view record;
        uint64_t at = get_be64(kv_iter_key(&iter).p + KEY_CONV_SIZE);
        if (at >> SEGMENT_BITS != build->segment || posting_bytes(build->builder) > BUILD_BYTES_MAX)
            err = flush(build, build->late_count == 0 ? seq : through);
        build->segment = (uint32_t)(at >> SEGMENT_BITS);
        if (err == 0)
            err = record_view(kv_iter_value(&iter), &record);
        if (err == 0)
            take_record(build, &record, at);
        seq = at;
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    if (err == 0)
        err = flush(build, build->late_count == 0 ? until : through);
    return err == 0 ? take_late(build, until) : err;
}

static int take_conv(struct build *build, const struct wanted *wanted)
{
    uint64_t through;
    build->conv = wanted->conv;
    int err = index_through(build->index, build->partition, wanted->conv, &through);
    if (err != 0 || through >= wanted->until)
        return err;
    build->segment = (uint32_t)((through + 1) >> SEGMENT_BITS);
    return take_rows(build, through, wanted->until);
}

/* ---- the feed ---- */

static int want(struct build *build, struct map *places, const struct feedlog_run *run)
{
    bool fresh;
    uint64_t last = run->first + run->count - 1;
    union map_val *val = map_put(places, (struct map_key){run->conv.hi, run->conv.lo}, &fresh);
    if (fresh) {
        val->u = build->wanted_count;
        if (build->wanted_count == build->wanted_cap) {
            build->wanted_cap = build->wanted_cap == 0 ? 256 : build->wanted_cap * 2;
            build->wanted = xrealloc(build->wanted, build->wanted_cap * sizeof *build->wanted);
        }
        build->wanted[build->wanted_count++] = (struct wanted){run->conv, last};
    } else if (build->wanted[val->u].until < last) {
        build->wanted[val->u].until = last;
    }
    return 0;
}

/* Which conversations have something new behind `after`; *fed: up to which entry. */
static int look_at_feed(struct build *build, uint64_t after, uint64_t *fed, struct build_step *step)
{
    struct key from = key_number(build->partition, after + 1);
    struct key until = key_number(build->partition, UINT64_MAX);
    struct map places;
    struct kv_iter iter;
    int err = 0;
    map_init(&places);
    kv_iter_open_scan(&iter, build->data, NULL, KV_FEED, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        if (step->records >= BUILD_RECORDS_MAX || build->wanted_count >= BUILD_CONVS_MAX) {
            step->more = true;
            break;
        }
        struct span row = kv_iter_value(&iter);
        while (err == 0 && row.n > 0) {
            struct feedlog_run run;
            err = feedlog_run(&row, &run);
            if (err == 0)
                err = want(build, &places, &run);
            step->records += err == 0 ? run.count : 0;
        }
        *fed = get_be64(kv_iter_key(&iter).p + 2);
    }
    if (err == 0 && !step->more)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    map_close(&places);
    return err;
}

static int by_conv(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    if (x->conv.hi != y->conv.hi)
        return x->conv.hi < y->conv.hi ? -1 : 1;
    return x->conv.lo < y->conv.lo ? -1 : x->conv.lo > y->conv.lo;
}

int build_step(struct build *build, uint32_t partition, const bool *stop, struct build_step *step)
{
    uint64_t after, fed = 0;
    build->partition = partition;
    build->wanted_count = build->late_count = 0;
    build->messages = 0;
    *step = (struct build_step){0};
    int err = index_fed(build->index, partition, &after);
    if (err == 0)
        err = look_at_feed(build, after, &fed, step);
    if (build->wanted_count > 0)
        qsort(build->wanted, build->wanted_count, sizeof *build->wanted, by_conv);
    size_t i = 0;
    for (; i < build->wanted_count && err == 0; i++) {
        if (stop != NULL && __atomic_load_n(stop, __ATOMIC_RELAXED))
            break;
        err = take_conv(build, &build->wanted[i]);
    }
    if (err == 0 && i == build->wanted_count && fed != 0)
        index_put_fed(&build->batch, partition, fed);
    if (err == 0)
        err = write_batch(build);
    else
        kv_batch_clear(&build->batch);
    step->messages = build->messages;
    return err;
}
