#include "store/search/build.h"

#include <stdio.h>
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
    void (*breathe)(void *arg);
    void *breathe_arg;
    uint32_t breaths; /* records since it was called */
    /* the conversation in work */
    uint32_t partition, segment;
    struct conv_id conv;
    struct index_conv row;
    uint64_t messages;
};

struct build *build_new(struct kv *data, struct kv *index)
{
    struct build *build = xcalloc(1, sizeof *build);
    build->data = data;
    build->index = index;
    build->builder = posting_builder_new();
    content_open(&build->content, BUILD_STEMS);
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

void build_breathe(struct build *build, void (*breathe)(void *arg), void *arg)
{
    build->breathe = breathe;
    build->breathe_arg = arg;
}

static void breathe(struct build *build)
{
    if (build->breathe == NULL || ++build->breaths < BUILD_BREATH_RECORDS)
        return;
    build->breaths = 0;
    build->breathe(build->breathe_arg);
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

/* What was gathered since the last batch, after an error. */
static void forget(struct build *build)
{
    kv_batch_clear(&build->batch);
    posting_builder_clear(build->builder);
    build->writer.pairs.n = build->writer.first_n = 0;
}

/* All that was gathered of a segment. */
static int put_terms(struct build *build, size_t most)
{
    build->writer.partition = build->partition;
    build->writer.segment = build->segment;
    build->writer.conv = build->conv;
    posting_take(build->builder, put_run, &build->writer);
    index_put_end(&build->writer);
    return kv_batch_bytes(&build->batch) >= most ? write_batch(build) : 0;
}

/* The same, and that it goes up to `seq`. */
static int flush(struct build *build, uint64_t seq)
{
    int err = put_terms(build, SIZE_MAX);
    build->row.through = seq;
    index_put_conv(&build->batch, build->partition, build->conv, &build->row);
    if (err == 0 && kv_batch_bytes(&build->batch) >= BUILD_BATCH_BYTES)
        err = write_batch(build);
    return err;
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
        uint64_t mid = record_mid(record->ts, record->mid_off, build->partition);
        build->row.mid = mid > build->row.mid ? mid : build->row.mid;
        build->messages++;
        content_add_traits(record, build->builder, place);
        content_add_text(&build->content, build->row.lang, record->kind, record->body,
                         build->builder, place);
    } else if (record->kind == LOQUAT__KIND__KIND_EDIT) {
        put_dirty(build, record->target); /* it may have terms that it has no more */
        if (record->target >> SEGMENT_BITS == seq >> SEGMENT_BITS)
            content_add_text(&build->content, build->row.lang, LOQUAT__KIND__KIND_TEXT,
                             record->body, build->builder, (uint16_t)record->target);
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

/* `through` moves only once all of them are there. */
static int take_late(struct build *build, uint64_t through, uint64_t until)
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
            content_add_text(&build->content, build->row.lang, LOQUAT__KIND__KIND_TEXT, record.body,
                             build->builder, (uint16_t)late->target);
        if (err == ERR_NOT_FOUND) /* trimmed meanwhile */
            err = 0;
    }
    build->late_count = 0;
    return err == 0 ? flush(build, until) : err;
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
        breathe(build);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    if (err == 0)
        err = flush(build, build->late_count == 0 ? until : through);
    return err == 0 ? take_late(build, through, until) : err;
}

/* ---- again ---- */

/* A message as it is now. */
static int take_folded(struct build *build, uint64_t seq, const struct record_view *record,
                       uint64_t now_ms)
{
    struct key key = key_seq(build->partition, build->conv, seq);
    uint16_t place = (uint16_t)seq;
    if (!kind_is_message(record->kind) || record_hole(record, now_ms) != LOQUAT__HOLE__HOLE_NONE)
        return 0;
    int err = kv_get(build->data, KV_FOLD, key_span(&key), &build->value);
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    Loquat__Fold *fold =
        err == 0 ? loquat__fold__unpack(NULL, build->value.n, (const uint8_t *)build->value.p)
                 : NULL;
    if (err == 0 && fold == NULL)
        return ERR_CORRUPT;
    struct span body = record->body;
    if (fold != NULL && fold->body.len > 0)
        body = span_of(fold->body.data, fold->body.len);
    build->messages++;
    content_add_traits(record, build->builder, place);
    content_add_text(&build->content, build->row.lang, record->kind, body, build->builder, place);
    if (fold != NULL)
        loquat__fold__free_unpacked(fold, NULL);
    return 0;
}

/* In one batch: who searches finds the old rows or the new ones. */
static int make_segment(struct build *build, const struct build_again *again, uint64_t floor)
{
    uint64_t first = (uint64_t)build->segment << SEGMENT_BITS, last = first + SEGMENT_SIZE - 1;
    struct key from = key_seq(build->partition, build->conv, first > floor ? first : floor);
    struct key until = key_seq(build->partition, build->conv,
                               (last < build->row.through ? last : build->row.through) + 1);
    struct kv_iter iter;
    int err = write_batch(build);
    index_drop(&build->batch, build->partition, build->conv, build->segment);
    kv_iter_open_scan(&iter, build->data, NULL, KV_LOG, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct record_view record;
        if (posting_bytes(build->builder) > BUILD_BYTES_MAX)
            err = put_terms(build, BUILD_SEGMENT_BYTES);
        if (err != 0)
            break;
        uint64_t seq = get_be64(kv_iter_key(&iter).p + KEY_CONV_SIZE);
        err = record_view(kv_iter_value(&iter), &record);
        if (err == 0)
            err = take_folded(build, seq, &record, again->now_ms);
        breathe(build);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    if (err == 0)
        err = flush(build, build->row.through);
    return err == 0 ? write_batch(build) : err;
}

/* What decides which segments of a conversation are made anew, and how. */
struct old {
    uint64_t floor, expiring_from, expiring_until;
    bool gone; /* there is no such conversation here */
    bool off;
    char lang[LANG_MAX + 1];
};

static int find_old(struct build *build, struct old *old)
{
    struct key key = key_header(build->partition, build->conv);
    int err = kv_get(build->data, KV_CONV, key_span(&key), &build->value);
    *old = (struct old){.gone = err == ERR_NOT_FOUND};
    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    Loquat__ConvHeader *header =
        loquat__conv_header__unpack(NULL, build->value.n, (const uint8_t *)build->value.p);
    if (header == NULL)
        return ERR_CORRUPT;
    old->floor = header->floor > 0 ? header->floor : 1;
    old->expiring_from = header->expiring_from;
    old->expiring_until = header->expiring_until;
    old->off = header->search_off;
    snprintf(old->lang, sizeof old->lang, "%s", header->lang);
    loquat__conv_header__free_unpacked(header, NULL);
    return 0;
}

static bool is_old(const struct build *build, const struct build_again *again,
                   const struct old *old, struct span first_key)
{
    uint64_t first = (uint64_t)build->segment << SEGMENT_BITS, last = first + SEGMENT_SIZE - 1;
    bool marked = first_key.n == INDEX_SEGMENT_SIZE + 1 && first_key.p[INDEX_SEGMENT_SIZE] == 0;
    bool trimmed = old->floor > build->row.floor && first < old->floor;
    bool expires = old->expiring_until > first && old->expiring_from <= last &&
                   old->expiring_until > old->expiring_from;
    return again->all || marked || trimmed || expires;
}

static int again_segments(struct build *build, struct build_again *again, const struct old *old)
{
    struct index_key from = index_key(build->partition, build->conv, 0, (struct span){0});
    struct index_key until = index_key(build->partition, build->conv, UINT32_MAX, (struct span){0});
    struct kv_iter iter;
    int err = 0;
    kv_iter_open(&iter, build->index, NULL, KV_LOG, index_key_span(&from), index_key_span(&until));
    kv_iter_first(&iter);
    while (err == 0 && kv_iter_valid(&iter)) {
        struct span key = kv_iter_key(&iter);
        build->segment =
            (uint32_t)get_be16(key.p + KEY_CONV_SIZE) << 16 | get_be16(key.p + KEY_CONV_SIZE + 2);
        if (is_old(build, again, old, key)) {
            err = make_segment(build, again, old->floor);
            again->segments++;
        }
        struct index_key next =
            index_key(build->partition, build->conv, build->segment + 1, (struct span){0});
        kv_iter_seek(&iter, index_key_span(&next));
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

static int again_conv(struct build *build, struct build_again *again)
{
    struct old old;
    int err = index_conv(build->index, build->partition, build->conv, &build->row);
    if (err == 0)
        err = find_old(build, &old);
    if (err != 0)
        return err;
    if (old.gone) {
        index_drop(&build->batch, build->partition, build->conv, UINT32_MAX);
        again->segments++;
    } else {
        err = again_segments(build, again, &old);
    }
    if (err == 0 && !old.gone && old.floor > build->row.floor) {
        build->row.floor = old.floor;
        index_put_conv(&build->batch, build->partition, build->conv, &build->row);
    }
    if (err == 0)
        err = write_batch(build);
    again->looked_at++;
    again->messages = build->messages;
    if (again->progress != NULL)
        again->progress(again->arg, again);
    return err;
}

static bool is_stopped(const struct build_again *again)
{
    return again->stop != NULL && __atomic_load_n(again->stop, __ATOMIC_RELAXED);
}

static int again_every(struct build *build, struct build_again *again)
{
    int err = 0;
    build->conv = (struct conv_id){0};
    while (err == 0 && !is_stopped(again)) {
        err = index_next_conv(build->index, build->partition, &build->conv);
        if (err == ERR_NOT_FOUND)
            return 0;
        if (err == 0)
            err = again_conv(build, again);
        if (++build->conv.lo == 0 && ++build->conv.hi == 0)
            break;
    }
    return err;
}

int build_again(struct build *build, uint32_t partition, struct build_again *again)
{
    uint64_t segments = again->segments;
    int err = 0;
    build->partition = partition;
    build->messages = again->messages;
    for (size_t i = 0; i < again->conv_count && err == 0 && !is_stopped(again); i++) {
        build->conv = again->convs[i];
        err = again_conv(build, again);
    }
    if (again->conv_count == 0)
        err = again_every(build, again);
    if (err != 0)
        forget(build);
    else if (again->segments > segments)
        index_compact(build->index, partition);
    return err;
}

/* ---- a conversation ---- */

/* What is set of it is another than the index was made with: terms are made anew in the language,
 * or go. Who searches meanwhile is told that some are missing. */
static int change(struct build *build, const struct old *old)
{
    struct index_conv *row = &build->row;
    struct build_again again = {.all = true};
    bool was_off = row->off;
    row->off = old->off;
    memcpy(row->lang, old->lang, sizeof row->lang);
    row->changing = !row->off && (was_off || row->changing || row->through > 0);
    if (row->off)
        index_drop(&build->batch, build->partition, build->conv, UINT32_MAX);
    if (was_off)
        row->through = 0;
    index_put_conv(&build->batch, build->partition, build->conv, row);
    int err = write_batch(build);
    return err == 0 && row->changing ? again_segments(build, &again, old) : err;
}

static int take_conv(struct build *build, const struct wanted *wanted)
{
    struct old old;
    struct index_conv *row = &build->row;
    build->conv = wanted->conv;
    breathe(build);
    int err = index_conv(build->index, build->partition, wanted->conv, row);
    if (err == 0)
        err = find_old(build, &old);
    if (err == 0 && !old.gone &&
        (row->changing || row->off != old.off || strcmp(row->lang, old.lang) != 0))
        err = change(build, &old);
    if (err == 0 && row->through < wanted->until && !row->off) {
        build->segment = (uint32_t)((row->through + 1) >> SEGMENT_BITS);
        err = take_rows(build, row->through, wanted->until);
    }
    if (err == 0 && (row->changing || row->off)) {
        row->changing = false;
        if (row->off && row->through < wanted->until)
            row->through = wanted->until;
        index_put_conv(&build->batch, build->partition, wanted->conv, row);
    }
    return err;
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
    return conv_id_cmp(x->conv, y->conv);
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
        forget(build);
    step->messages = build->messages;
    return err;
}
