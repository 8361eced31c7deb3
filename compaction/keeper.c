#include "compaction/keeper.h"

#include <stdlib.h>

#include "compaction/outcome.h"
#include "compaction/scrub.h"
#include "store/apply.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/key.h"

struct raised {
    uint32_t partition;
    struct conv_id id;
    uint64_t floor;
};

struct job {
    const struct keeper *keeper;
    const Loquat__Control *ask;
    struct outcome outcome;
    const char *phase;
    uint64_t at, all;
    const char *msg;
    uint32_t partition; /* in work */
    bool by_gone, count;
    struct keeper_retain retains[KEEPER_RETAIN_MAX];
    size_t retain_count;
    struct trim_item items[TRIM_ITEMS_MAX];
    size_t item_count;
    struct raised *floors; /* to be given to the filter once they are on disk */
    size_t floor_count, floor_cap;
};

static void begin_phase(struct job *job, const char *phase)
{
    struct kv *kv = job->keeper->kv;
    job->phase = phase;
    job->at = 0;
    job->all = kv_property(kv, KV_LOG, "rocksdb.estimate-num-keys") +
               kv_property(kv, KV_FOLD, "rocksdb.estimate-num-keys") +
               kv_property(kv, KV_CONV, "rocksdb.estimate-num-keys");
}

static int on_rows(void *arg, uint64_t rows)
{
    struct job *job = arg;
    job->at += rows;
    return job->keeper->ops->progress(job->keeper->arg, job->phase, job->at, job->all);
}

/* ---- walking: all conversations, or those that were named ---- */

static int survey_one(struct job *job, struct survey *survey, const char *name, uint64_t before)
{
    struct conv_id id = conv_id_of(span_str(name));
    survey->partition = job->partition = partition_of(id, job->keeper->partitions);
    survey->only = &id;
    int err = survey_run(survey);
    survey->only = NULL;
    if (err == 0 && job->outcome.report.conv_count == before && job->count) {
        job->msg = "there is no such conversation";
        err = ERR_NOT_FOUND;
    }
    return err;
}

static int survey_all(struct job *job, struct survey *survey, int (*after)(struct job *))
{
    int err = 0;
    bool named = job->ask->n_convs > 0;
    size_t count = named ? job->ask->n_convs : job->keeper->partitions;
    survey->kv = job->keeper->kv;
    survey->now_ms = job->keeper->now_ms;
    survey->on_rows = on_rows;
    survey->arg = job;
    for (size_t i = 0; i < count && err == 0; i++) {
        if (named) {
            err = survey_one(job, survey, job->ask->convs[i], job->outcome.report.conv_count);
        } else {
            survey->partition = job->partition = (uint32_t)i;
            err = survey_run(survey);
        }
        if (err == 0 && after != NULL)
            err = after(job);
    }
    return err;
}

/* ---- status and plan ---- */

static int count_conv(void *arg, const struct survey_conv *conv)
{
    struct job *job = arg;
    outcome_conv(&job->outcome, conv, job->by_gone);
    return 0;
}

static struct policy policy_of(const Loquat__Control *ask)
{
    return (struct policy){.max_age_ms = ask->max_age_ms, .max_count = ask->max_count};
}

static void note_damage(struct job *job)
{
    if (job->outcome.report.damage_count > 0)
        outcome_note(&job->outcome,
                     "%llu records could not be read and stay: see "
                     "`loquat-compact verify`",
                     (unsigned long long)job->outcome.report.damage_count);
}

static int do_survey(struct job *job, bool plan)
{
    struct survey survey = {.on_conv = count_conv};
    if (plan)
        survey.policy = policy_of(job->ask);
    job->by_gone = plan;
    job->count = true;
    begin_phase(job, "reading");
    outcome_families(&job->outcome, job->keeper->kv);
    int err = survey_all(job, &survey, NULL);
    job->outcome.report.disk_before = outcome_disk_bytes(job->keeper->kv);
    note_damage(job);
    return err;
}

/* ---- run, step 1: floors ---- */

static int give_retains(struct job *job)
{
    if (job->retain_count == 0)
        return 0;
    int err =
        job->keeper->ops->retain(job->keeper->arg, job->partition, job->retains, job->retain_count);
    job->retain_count = 0;
    if (err != 0)
        job->msg = "a floor could not be raised";
    return err;
}

static int raise_conv(void *arg, const struct survey_conv *conv)
{
    struct job *job = arg;
    outcome_conv(&job->outcome, conv, true);
    if (conv->new_floor <= conv->floor)
        return 0;
    if (strlen(conv->name) > CONV_ID_MAX || !conv_id_eq(conv_id_of(span_str(conv->name)), conv->id))
        return 0; /* a damaged header must not name another conversation */
    struct keeper_retain *retain = &job->retains[job->retain_count++];
    memcpy(retain->conv, conv->name, strlen(conv->name) + 1);
    retain->floor = conv->new_floor;
    return job->retain_count == KEEPER_RETAIN_MAX ? give_retains(job) : 0;
}

/* ---- run, step 2: what is rewritten on the apply thread ---- */

static int give_items(struct job *job)
{
    bool more = job->item_count > 0;
    int err = 0;
    while (more && err == 0)
        err = job->keeper->ops->trim(job->keeper->arg, job->partition, job->items, job->item_count,
                                     job->keeper->now_ms, job->outcome.tallies, &more);
    job->item_count = 0;
    return err;
}

static int add_item(void *arg, const struct trim_item *item)
{
    struct job *job = arg;
    job->items[job->item_count++] = *item;
    return job->item_count == TRIM_ITEMS_MAX ? give_items(job) : 0;
}

static int trim_conv(void *arg, const struct survey_conv *conv)
{
    struct job *job = arg;
    if (conv->floor > 1) {
        if (job->floor_count == job->floor_cap) {
            job->floor_cap = job->floor_cap == 0 ? 256 : job->floor_cap * 2;
            job->floors = xrealloc(job->floors, job->floor_cap * sizeof *job->floors);
        }
        job->floors[job->floor_count++] = (struct raised){conv->partition, conv->id, conv->floor};
    }
    return conv->rows_below ? add_item(job, &(struct trim_item){.what = TRIM_BELOW, .id = conv->id})
                            : 0;
}

/* ---- run, step 3: everything until now is on disk ---- */

/* Compacting the one row of each partition that every batch writes flushes all families at one
 * point, as any flush of the data DB does. */
static void flush(struct job *job)
{
    struct key from = key_partition(0), until = key_partition(job->keeper->partitions);
    kv_compact(job->keeper->kv, KV_APL, key_span(&from), key_span(&until));
}

/* The first and the last entry of a feed; both 0: it has none. */
static int feed_ends(struct kv *kv, uint32_t partition, uint64_t *first, uint64_t *last)
{
    struct key from = key_partition(partition), until = key_partition(partition + 1);
    struct kv_iter iter;
    int err = 0;
    *first = *last = 0;
    kv_iter_open(&iter, kv, NULL, KV_FEED, key_span(&from), key_span(&until));
    kv_iter_first(&iter);
    if (kv_iter_valid(&iter)) {
        *first = get_be64(kv_iter_key(&iter).p + 2);
        kv_iter_last(&iter);
    }
    if (kv_iter_valid(&iter))
        *last = get_be64(kv_iter_key(&iter).p + 2);
    else
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

static int raise_filter(struct job *job)
{
    const struct keeper *keeper = job->keeper;
    int err = 0;
    for (size_t i = 0; i < job->floor_count; i++)
        filter_raise(keeper->filter, job->floors[i].partition, job->floors[i].id,
                     job->floors[i].floor);
    for (uint32_t p = 0; p < keeper->partitions && err == 0; p++) {
        uint64_t first, last;
        err = feed_ends(keeper->kv, p, &first, &last);
        if (err == 0)
            filter_raise_feed(keeper->filter, p, last);
    }
    return err;
}

static int seal_all(struct job *job)
{
    const struct keeper *keeper = job->keeper;
    uint64_t *sealed = xcalloc(keeper->partitions, sizeof *sealed);
    int err = 0;
    for (uint32_t p = 0; p < keeper->partitions && err == 0; p++)
        err = keeper->ops->seal(keeper->arg, p, &sealed[p]);
    if (err == 0)
        flush(job);
    for (uint32_t p = 0; p < keeper->partitions && err == 0; p++) {
        uint64_t index = 0, term = 0;
        err = apply_flushed_index(keeper->kv, p, &index, &term);
        if (err == 0 && index < sealed[p]) {
            job->msg = "the data database could not be flushed";
            err = ERR_IO;
        }
    }
    if (err == 0)
        err = raise_filter(job);
    free(sealed);
    return err;
}

/* ---- run, step 4: compaction, a bounded piece of the key space at a time ---- */

enum { SPLITS = 16 }; /* of a partition, by the first digit of the conversation's hash */

static struct key boundary(uint32_t at)
{
    struct key key = key_partition(at / SPLITS);
    key.p[key.n++] = (char)(at % SPLITS << 4);
    return key;
}

static int check_room(struct job *job, uint64_t bytes)
{
    uint64_t room = job->keeper->ops->room(job->keeper->arg);
    if (room < bytes + KEEPER_ROOM_BYTES) {
        outcome_note(&job->outcome, "compaction needs %llu MiB free at a time, the disk has %llu",
                     (unsigned long long)((bytes + KEEPER_ROOM_BYTES) >> 20),
                     (unsigned long long)(room >> 20));
        job->msg = "too little room on the disk to compact; floors are raised, and the rest can "
                   "be run again";
        return ERR_NO_SPACE;
    }
    return 0;
}

static int went_on(struct job *job, uint64_t step)
{
    job->at += step;
    return job->keeper->ops->progress(job->keeper->arg, job->phase, job->at, job->all);
}

static int compact_range(struct job *job, struct key from, struct key until, uint64_t bytes,
                         uint64_t step)
{
    struct kv *kv = job->keeper->kv;
    int err = check_room(job, bytes);
    if (err != 0)
        return err;
    kv_compact(kv, KV_LOG, key_span(&from), key_span(&until));
    kv_compact(kv, KV_FOLD, key_span(&from), key_span(&until));
    return went_on(job, step);
}

static uint64_t size_of(struct job *job, struct key from, struct key until)
{
    return kv_size(job->keeper->kv, KV_LOG, key_span(&from), key_span(&until)) +
           kv_size(job->keeper->kv, KV_FOLD, key_span(&from), key_span(&until));
}

/* In pieces of about as many entries each. */
static int compact_feed(struct job *job, uint32_t partition)
{
    struct kv *kv = job->keeper->kv;
    struct key from = key_partition(partition), until = key_partition(partition + 1);
    uint64_t bytes = kv_size(kv, KV_FEED, key_span(&from), key_span(&until));
    uint64_t first, last, pieces = bytes / KEEPER_SLICE_BYTES + 1;
    int err = feed_ends(kv, partition, &first, &last);
    uint64_t step = (last - first) / pieces + 1;
    for (uint64_t at = first; last > 0 && at <= last && err == 0; at += step) {
        from = key_number(partition, at);
        until = key_number(partition, at + step);
        err = check_room(job, bytes / pieces);
        if (err != 0)
            break;
        kv_compact(kv, KV_FEED, key_span(&from), key_span(&until));
        err = went_on(job, bytes / pieces);
    }
    return err;
}

static int compact_all(struct job *job)
{
    const struct key whole = key_partition(0), behind = key_partition(job->keeper->partitions);
    uint32_t end = job->keeper->partitions * SPLITS;
    int err = 0;
    job->all = size_of(job, boundary(0), boundary(end)) +
               kv_size(job->keeper->kv, KV_FEED, key_span(&whole), key_span(&behind));
    for (uint32_t first = 0; first < end && err == 0;) {
        uint32_t last = first + 1;
        uint64_t bytes = size_of(job, boundary(first), boundary(last));
        for (; last < end && bytes < KEEPER_SLICE_BYTES; last++)
            bytes += size_of(job, boundary(last), boundary(last + 1));
        err = compact_range(job, boundary(first), boundary(last), bytes, bytes);
        first = last;
    }
    for (uint32_t p = 0; p < job->keeper->partitions && err == 0; p++)
        err = compact_feed(job, p);
    return err;
}

static int compact_named(struct job *job)
{
    int err = 0;
    job->all = job->ask->n_convs;
    for (size_t i = 0; i < job->ask->n_convs && err == 0; i++) {
        struct conv_id id = conv_id_of(span_str(job->ask->convs[i]));
        uint32_t p = partition_of(id, job->keeper->partitions);
        struct key from = key_seq(p, id, 0), until = key_seq(p, id, UINT64_MAX);
        err = compact_range(job, from, until, size_of(job, from, until), 1);
    }
    return err;
}

static void subtract(struct tally from[CAUSE_COUNT], const struct tally what[CAUSE_COUNT])
{
    for (int i = 0; i < CAUSE_COUNT; i++) {
        from[i].rows -= what[i].rows;
        from[i].bytes -= what[i].bytes;
        from[i].gone -= what[i].gone;
    }
}

static int index_again(struct job *job, bool all)
{
    const struct keeper *keeper = job->keeper;
    if (keeper->ops->index == NULL) {
        job->msg = "the databases are open for reading only";
        return ERR_BAD_REQUEST;
    }
    int err = keeper->ops->index(keeper->arg, job->ask, all, &job->outcome.report.segments);
    if (err == ERR_UNAVAILABLE) { /* nothing to be done where there is none */
        outcome_note(&job->outcome, "this node has no search index; its log says why");
        err = 0;
    }
    return err;
}

static int run_steps(struct job *job)
{
    struct survey raise = {.on_conv = raise_conv, .policy = policy_of(job->ask)};
    struct survey trim = {.on_conv = trim_conv, .on_item = add_item};
    job->count = true;
    begin_phase(job, "raising floors");
    int err = survey_all(job, &raise, give_retains);
    job->count = false;
    note_damage(job);
    memset(job->outcome.tallies, 0, sizeof job->outcome.tallies); /* from here on: what went */
    if (err == 0) {
        begin_phase(job, "trimming");
        err = survey_all(job, &trim, give_items);
    }
    if (err == 0)
        err = seal_all(job);
    job->phase = "compacting";
    job->at = 0;
    if (err == 0)
        err = job->ask->n_convs > 0 ? compact_named(job) : compact_all(job);
    return err == 0 ? index_again(job, false) : err;
}

static int do_run(struct job *job)
{
    struct tally before[CAUSE_COUNT], after[CAUSE_COUNT];
    const struct keeper *keeper = job->keeper;
    if (keeper->ops->retain == NULL) {
        job->msg = "the databases are open for reading only";
        return ERR_BAD_REQUEST;
    }
    filter_went(keeper->filter, before);
    flush(job); /* so that the sizes before and after are of the same */
    job->outcome.report.disk_before = outcome_disk_bytes(keeper->kv);
    int err = run_steps(job);
    filter_went(keeper->filter, after);
    subtract(after, before);
    tally_join(job->outcome.tallies, after);
    job->outcome.report.disk_after = outcome_disk_bytes(keeper->kv);
    outcome_families(&job->outcome, keeper->kv);
    return err;
}

/* ---- */

static int check_ask(struct job *job)
{
    if (job->ask->n_convs > KEEPER_CONVS_MAX) {
        job->msg = "too many conversations named";
        return ERR_TOO_LARGE;
    }
    for (size_t i = 0; i < job->ask->n_convs; i++)
        if (!conv_name_valid(span_str(job->ask->convs[i]))) {
            job->msg = "not the id of a conversation";
            return ERR_BAD_REQUEST;
        }
    return 0;
}

static int do_job(struct job *job)
{
    int err = check_ask(job);
    if (err != 0)
        return err;
    switch (job->ask->op) {
    case LOQUAT__CONTROL_OP__CONTROL_STATUS:
        return do_survey(job, false);
    case LOQUAT__CONTROL_OP__CONTROL_PLAN:
        return do_survey(job, true);
    case LOQUAT__CONTROL_OP__CONTROL_RUN:
        return do_run(job);
    case LOQUAT__CONTROL_OP__CONTROL_VERIFY:
        return scrub_run(job->keeper, job->ask, &job->outcome);
    case LOQUAT__CONTROL_OP__CONTROL_REINDEX:
        return index_again(job, true);
    default:
        job->msg = "not known here: the program and the node differ in version";
        return ERR_BAD_REQUEST;
    }
}

int keeper_do(const struct keeper *keeper, const Loquat__Control *ask, struct buf *report)
{
    struct job *job = xcalloc(1, sizeof *job);
    job->keeper = keeper;
    job->ask = ask;
    outcome_init(&job->outcome, ask->top);
    int err = do_job(job);
    if (err != 0 && job->msg == NULL)
        job->msg = err == ERR_CLOSED                     ? "stopped"
                   : err == ERR_CORRUPT || err == ERR_IO ? kv_error()
                                                         : err_name(err);
    outcome_pack(&job->outcome, err, job->msg != NULL ? job->msg : "", report);
    outcome_close(&job->outcome);
    free(job->floors);
    free(job);
    return err;
}
