#include "compaction/survey.h"

#include "compaction/beside.h"
#include "compaction/strip.h"
#include "store/base/arena.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/key.h"

struct walk {
    const struct survey *survey;
    struct kv_view view;
    struct kv_iter convs, log, fold, ends;
    struct arena arena;
    struct buf value, stub;
    uint64_t unreported;
    struct survey_conv conv; /* in work */
    struct policy_walk policy;
    struct tally waiting[CAUSE_COUNT]; /* rows that go when a later one does */
};

static int tick(struct walk *walk)
{
    if (++walk->unreported < SURVEY_TICK_ROWS)
        return 0;
    uint64_t rows = walk->unreported;
    walk->unreported = 0;
    return walk->survey->on_rows(walk->survey->arg, rows);
}

/* Whether the iterator stands on a row of the conversation in work; which. */
static bool here(const struct walk *walk, const struct kv_iter *iter, uint64_t *seq)
{
    if (!kv_iter_valid(iter))
        return false;
    struct span key = kv_iter_key(iter);
    if (key.n != KEY_SEQ_SIZE || get_be64(key.p + 2) != walk->conv.id.hi ||
        get_be64(key.p + 10) != walk->conv.id.lo)
        return false;
    *seq = get_be64(key.p + KEY_CONV_SIZE);
    return true;
}

/* Brings an iterator of sequences to the conversation in work, which is never behind it. */
static void place(const struct walk *walk, struct kv_iter *iter)
{
    struct key first = key_seq(walk->conv.partition, walk->conv.id, 0);
    if (kv_iter_valid(iter) && memcmp(kv_iter_key(iter).p, first.p, KEY_CONV_SIZE) >= 0)
        return;
    kv_iter_seek(iter, key_span(&first));
}

/* Ordinal of the newest record: what a bound by count is measured from. */
static int ordinal_at_end(struct walk *walk, uint64_t *n)
{
    uint64_t seq = 0;
    struct key last = key_seq(walk->conv.partition, walk->conv.id, UINT64_MAX);
    kv_iter_seek_back(&walk->ends, key_span(&last));
    if (!here(walk, &walk->ends, &seq))
        return kv_iter_error(&walk->ends);
    Loquat__Record *record = NULL;
    if (record_decode(kv_iter_value(&walk->ends), &walk->arena.allocator, &record) == 0)
        *n = record_n(record, seq);
    arena_reset(&walk->arena);
    return 0;
}

/* ---- folds, which stand beside the records in the same order ---- */

static int give_item(struct walk *walk, enum trim_what what, uint64_t seq)
{
    struct trim_item item = {.what = what, .id = walk->conv.id, .seq = seq};
    return walk->survey->on_item != NULL ? walk->survey->on_item(walk->survey->arg, &item) : 0;
}

static int take_fold(struct walk *walk, uint64_t seq, enum cause cause)
{
    struct span key = kv_iter_key(&walk->fold), value = kv_iter_value(&walk->fold);
    uint64_t bytes = key.n + value.n, gone = 0;
    int err = 0;
    if (seq < walk->policy.floor) {
        cause = CAUSE_FLOOR;
        gone = bytes;
        walk->conv.rows_below = true;
    } else if ((cause == CAUSE_EXPIRED || cause == CAUSE_STUB) &&
               strip_fold(value, &walk->stub) == 0 && walk->stub.n < value.n) {
        cause = CAUSE_EXPIRED;
        gone = value.n - walk->stub.n;
        err = give_item(walk, TRIM_FOLD, seq);
    }
    bool reactions = false; /* to what was deleted for all */
    if (err == 0 && cause == CAUSE_ERASED)
        err = beside_reactions(walk->survey->kv, &walk->view, walk->conv.partition, walk->conv.id,
                               seq, &reactions);
    if (err == 0 && reactions)
        err = give_item(walk, TRIM_FOLD, seq);
    tally_add(&walk->conv.tallies[cause], bytes, gone);
    return err;
}

/* Folds up to `seq`; the one at `seq` has the cause of its record. */
static int folds_until(struct walk *walk, uint64_t seq, enum cause cause)
{
    uint64_t at = 0;
    int err = 0;
    while (err == 0 && here(walk, &walk->fold, &at) && at <= seq) {
        err = take_fold(walk, at, at == seq ? cause : CAUSE_LIVE);
        kv_iter_next(&walk->fold);
        if (err == 0)
            err = tick(walk);
    }
    if (err == 0 && !kv_iter_valid(&walk->fold))
        err = kv_iter_error(&walk->fold);
    return err;
}

/* ---- records ---- */

static int newest_edit(struct walk *walk, uint64_t target, uint64_t *seq)
{
    struct key key = key_seq(walk->conv.partition, walk->conv.id, target);
    int err = kv_view_get(&walk->view, KV_FOLD, key_span(&key), &walk->value);
    *seq = 0;
    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    const Loquat__Fold *fold =
        loquat__fold__unpack(&walk->arena.allocator, walk->value.n, (const uint8_t *)walk->value.p);
    if (fold != NULL)
        *seq = fold->edit_seq;
    return 0;
}

static uint64_t gain(struct walk *walk, struct span value)
{
    int err = strip_record(value, &walk->stub);
    return err == 0 && walk->stub.n < value.n ? value.n - walk->stub.n : 0;
}

/* What waited goes below the floor with the record in hand, or stays with it. */
static void settle(struct walk *walk, enum policy_fate fate)
{
    struct tally *tallies = walk->conv.tallies;
    if (fate == POLICY_WAITS)
        return;
    for (int i = 0; i < CAUSE_COUNT; i++) {
        struct tally *waited = &walk->waiting[i];
        struct tally *into = &tallies[fate == POLICY_GOES ? CAUSE_FLOOR : i];
        into->rows += waited->rows;
        into->bytes += waited->bytes;
        into->gone += fate == POLICY_GOES ? waited->bytes : waited->gone;
        *waited = (struct tally){0};
    }
}

static int take_record(struct walk *walk, uint64_t seq)
{
    struct span key = kv_iter_key(&walk->log), value = kv_iter_value(&walk->log);
    struct survey_conv *conv = &walk->conv;
    uint64_t bytes = key.n + value.n, gone = 0;
    Loquat__Record *record = NULL;
    conv->head = seq > conv->head ? seq : conv->head;
    if (record_decode(value, &walk->arena.allocator, &record) != 0) {
        bool below = seq < walk->policy.floor;
        if (!below)
            policy_stop(&walk->policy);
        conv->damaged++;
        tally_add(&conv->tallies[below ? CAUSE_FLOOR : CAUSE_LIVE], bytes, below ? bytes : 0);
        return folds_until(walk, seq, CAUSE_LIVE);
    }
    conv->n = record_n(record, seq);
    struct policy_record row = {
        .seq = seq,
        .expires = record->expires,
        .target = record->target,
        .erased = record->erased,
        .stripped = record->stripped,
        .edit = record->kind == LOQUAT__KIND__KIND_EDIT,
    };
    int err = 0;
    enum policy_fate fate =
        policy_take(&walk->policy, seq, record->ts, conv->n, kind_is_message(record->kind));
    settle(walk, fate);
    if (row.edit && seq >= walk->policy.floor)
        err = newest_edit(walk, row.target, &row.newest_edit);
    enum cause cause = policy_cause(&row, walk->policy.floor, walk->survey->now_ms);
    if (cause == CAUSE_FLOOR)
        gone = bytes;
    else if (cause == CAUSE_EXPIRED || cause == CAUSE_EDIT)
        gone = gain(walk, value);
    tally_add(fate == POLICY_WAITS ? &walk->waiting[cause] : &conv->tallies[cause], bytes, gone);
    if (err == 0 && cause == CAUSE_EDIT && gone > 0)
        err = give_item(walk, TRIM_EDIT, seq);
    return err == 0 ? folds_until(walk, seq, cause) : err;
}

static int take_rows(struct walk *walk)
{
    uint64_t seq = 0, last = UINT64_MAX;
    int err = 0;
    place(walk, &walk->log);
    place(walk, &walk->fold);
    while (err == 0 && here(walk, &walk->log, &seq)) {
        err = take_record(walk, seq);
        arena_reset(&walk->arena);
        kv_iter_next(&walk->log);
        if (err == 0)
            err = tick(walk);
    }
    settle(walk, POLICY_STAYS);
    if (err == 0 && !kv_iter_valid(&walk->log))
        err = kv_iter_error(&walk->log);
    return err == 0 ? folds_until(walk, last, CAUSE_LIVE) : err;
}

static int take_beside(void *arg, struct span key, struct span value)
{
    struct walk *walk = arg;
    walk->conv.rows_below = true;
    tally_add(&walk->conv.tallies[CAUSE_FLOOR], key.n + value.n, key.n + value.n);
    return tick(walk);
}

static int take_conv(struct walk *walk, struct span key, struct span value)
{
    struct arena names;
    arena_init(&names);
    const Loquat__ConvHeader *header =
        loquat__conv_header__unpack(&names.allocator, value.n, (const uint8_t *)value.p);
    int err = 0;
    walk->conv = (struct survey_conv){
        .name = header != NULL ? header->id : "",
        .id = {get_be64(key.p + 2), get_be64(key.p + 10)},
        .partition = walk->survey->partition,
        .damaged = header == NULL,
    };
    struct survey_conv *conv = &walk->conv;
    if (header != NULL) {
        conv->floor = header->floor;
        conv->head = header->head;
        conv->n = header->ordinal;
    }
    uint64_t n_end = conv->n;
    if (walk->survey->policy.max_count > 0)
        err = ordinal_at_end(walk, &n_end);
    policy_begin(&walk->policy, &walk->survey->policy, walk->survey->now_ms, conv->floor, n_end);
    if (header == NULL)
        policy_stop(&walk->policy);
    if (err == 0)
        err = take_rows(walk);
    conv->new_floor = walk->policy.floor;
    if (err == 0 && conv->new_floor > 1)
        err = beside_below(walk->survey->kv, &walk->view, conv->partition, conv->id,
                           conv->new_floor, take_beside, walk);
    if (err == 0)
        err = walk->survey->on_conv(walk->survey->arg, conv);
    arena_close(&names);
    return err;
}

static int take_all(struct walk *walk)
{
    int err = 0;
    for (kv_iter_first(&walk->convs); kv_iter_valid(&walk->convs) && err == 0;
         kv_iter_next(&walk->convs)) {
        struct span key = kv_iter_key(&walk->convs);
        if (key.n == KEY_CONV_SIZE + 1 && key.p[KEY_CONV_SIZE] == KEY_TAG_HEADER)
            err = take_conv(walk, key, kv_iter_value(&walk->convs));
        else
            err = tick(walk);
    }
    if (err == 0)
        err = kv_iter_error(&walk->convs);
    if (err == 0 && walk->unreported > 0)
        err = walk->survey->on_rows(walk->survey->arg, walk->unreported);
    return err;
}

int survey_run(const struct survey *survey)
{
    struct walk walk = {.survey = survey};
    struct key from = key_partition(survey->partition);
    struct key until = key_partition(survey->partition + 1);
    if (survey->only != NULL) {
        from = key_seq(survey->partition, *survey->only, 0);
        from.n = KEY_CONV_SIZE;
        until = key_seq(survey->partition, *survey->only, UINT64_MAX);
    }
    struct key header = from, members = until;
    if (survey->only != NULL) {
        header = key_header(survey->partition, *survey->only);
        members = key_member(survey->partition, *survey->only, (struct span){0});
    }
    kv_view_open(&walk.view, survey->kv);
    arena_init(&walk.arena);
    kv_iter_open(&walk.convs, survey->kv, &walk.view, KV_CONV, key_span(&header),
                 key_span(&members));
    kv_iter_open(&walk.log, survey->kv, &walk.view, KV_LOG, key_span(&from), key_span(&until));
    kv_iter_open(&walk.fold, survey->kv, &walk.view, KV_FOLD, key_span(&from), key_span(&until));
    kv_iter_open(&walk.ends, survey->kv, &walk.view, KV_LOG, key_span(&from), key_span(&until));
    int err = take_all(&walk);
    kv_iter_close(&walk.ends);
    kv_iter_close(&walk.fold);
    kv_iter_close(&walk.log);
    kv_iter_close(&walk.convs);
    kv_view_close(&walk.view);
    arena_close(&walk.arena);
    buf_close(&walk.value);
    buf_close(&walk.stub);
    return err;
}
