#include "compaction/scrub.h"

#include <stdarg.h>
#include <stdio.h>

#include "compaction/scrub_walk.h"
#include "store/apply.h"
#include "store/base/err.h"
#include "store/base/record.h"

int scrub_tick(struct scrub *scrub)
{
    scrub->outcome->report.rows++;
    if (++scrub->at % SCRUB_TICK_ROWS != 0)
        return 0;
    return scrub->keeper->ops->progress(scrub->keeper->arg, "verifying", scrub->at, scrub->all);
}

void scrub_damage(struct scrub *scrub, enum kv_cf cf, const char *conv, uint64_t seq,
                  const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    outcome_damage(scrub->outcome, cf, scrub->partition, conv, seq, text);
}

void scrub_ended(struct scrub *scrub, enum kv_cf cf, const char *conv, const struct kv_iter *iter)
{
    if (!kv_iter_valid(iter) && kv_iter_error(iter) != 0)
        scrub_damage(scrub, cf, conv, 0, "a file can't be read: %s", kv_error());
}

int scrub_get(struct scrub *scrub, enum kv_cf cf, struct key key)
{
    int err = kv_view_get(&scrub->view, cf, key_span(&key), &scrub->value);
    if (err != 0 && err != ERR_NOT_FOUND)
        scrub_damage(scrub, cf, "", 0, "a file can't be read: %s", kv_error());
    return err;
}

int scrub_record(struct scrub *scrub, struct conv_id id, uint64_t seq, Loquat__Record **record)
{
    int err = scrub_get(scrub, KV_LOG, key_seq(scrub->partition, id, seq));
    if (err == 0)
        err = record_decode(buf_span(&scrub->value), &scrub->arena.allocator, record);
    return err;
}

/* ---- a log: of a conversation or a user ---- */

bool scrub_link(struct scrub *scrub, struct scrub_chain *chain, enum kv_cf cf, const char *conv,
                uint64_t seq, struct span value)
{
    Loquat__Record *record = NULL;
    int err = record_check(value);
    if (err != 0)
        scrub_damage(scrub, cf, conv, seq, "the checksum of the record is wrong");
    else if ((err = record_decode(value, &scrub->arena.allocator, &record)) != 0)
        scrub_damage(scrub, cf, conv, seq, "the record can't be read though its checksum fits");
    struct scrub_chain before = *chain;
    chain->begun = err == 0;
    chain->seq = seq;
    if (err != 0)
        return false;
    chain->n = record_n(record, seq);
    chain->mid = record_mid(record->ts, record->mid_off, scrub->partition);
    if (record->gap > seq) {
        scrub_damage(scrub, cf, conv, seq, "the ordinal of the record is below 0");
        return false;
    }
    if (!before.begun || before.seq + 1 != seq)
        return true;
    uint64_t n = before.n + (kind_is_message(record->kind) ? 1 : 0);
    if (chain->n != n)
        scrub_damage(scrub, cf, conv, seq,
                     "the ordinal is %llu, after the record before it must "
                     "come %llu",
                     (unsigned long long)chain->n, (unsigned long long)n);
    else if (chain->mid <= before.mid)
        scrub_damage(scrub, cf, conv, seq, "the mid is not above that of the record before");
    return chain->n == n;
}

/* Whether the iterator stands on a row of this conversation. */
static bool here(const struct kv_iter *iter, struct conv_id id, uint64_t *seq)
{
    if (!kv_iter_valid(iter))
        return false;
    struct span key = kv_iter_key(iter);
    if (key.n != KEY_SEQ_SIZE || get_be64(key.p + 2) != id.hi || get_be64(key.p + 10) != id.lo)
        return false;
    *seq = get_be64(key.p + KEY_CONV_SIZE);
    return true;
}

static void missing(struct scrub *scrub, const struct scrub_conv *conv, uint64_t first,
                    uint64_t last)
{
    if (first == last)
        scrub_damage(scrub, KV_LOG, conv->header->id, first, "the record is missing");
    else
        scrub_damage(scrub, KV_LOG, conv->header->id, first, "the records up to %llu are missing",
                     (unsigned long long)last);
}

static int scrub_log(struct scrub *scrub, struct scrub_conv *conv, struct kv_iter *log)
{
    const Loquat__ConvHeader *header = conv->header;
    struct scrub_chain chain = {0};
    uint64_t seq = 0;
    int err = 0;
    if (conv->floor == 1) /* what would stand before the first */
        chain = (struct scrub_chain){.begun = true};
    else
        chain = (struct scrub_chain){.seq = conv->floor - 1, .n = header->expired, .begun = true};
    struct scrub_chain low = {0}; /* below the floor rows may be gone, but not wrong */
    conv->head = conv->floor - 1;
    conv->n = conv->floor == 1 ? 0 : header->expired;
    for (; err == 0 && here(log, conv->id, &seq); kv_iter_next(log)) {
        bool below = seq < conv->floor;
        if (!below && seq > conv->head + 1)
            missing(scrub, conv, conv->head + 1, seq - 1);
        bool fits =
            scrub_link(scrub, below ? &low : &chain, KV_LOG, header->id, seq, kv_iter_value(log));
        uint64_t n = below ? low.n : chain.n;
        if (!below)
            conv->head = seq;
        if (!below && fits)
            conv->n = n;
        if (fits && seq == header->head) {
            conv->header_seen = true;
            conv->ordinal_at_header = n;
        }
        arena_reset(&scrub->arena);
        err = scrub_tick(scrub);
    }
    scrub_ended(scrub, KV_LOG, header->id, log);
    return err;
}

static void check_header(struct scrub *scrub, const struct scrub_conv *conv)
{
    const Loquat__ConvHeader *header = conv->header;
    const char *id = header->id;
    if (!conv_id_eq(conv_id_of(span_str(id)), conv->id))
        scrub_damage(scrub, KV_CONV, id, 0, "the header stands under the key of another id");
    else if (partition_of(conv->id, scrub->keeper->partitions) != scrub->partition)
        scrub_damage(scrub, KV_CONV, id, 0, "the conversation is in the wrong partition");
    if (header->head > conv->head)
        scrub_damage(scrub, KV_CONV, id, header->head,
                     "the header says that the head is %llu, the last record is %llu",
                     (unsigned long long)header->head, (unsigned long long)conv->head);
    else if (conv->header_seen && conv->ordinal_at_header != header->ordinal)
        scrub_damage(scrub, KV_CONV, id, header->head,
                     "the header says that the ordinal there is %llu, the record says %llu",
                     (unsigned long long)header->ordinal,
                     (unsigned long long)conv->ordinal_at_header);
}

/* Rows before `until` that no header stands for. */
static int orphans(struct scrub *scrub, struct kv_iter *log, struct key until)
{
    struct conv_id noted = {0};
    int err = 0;
    while (err == 0 && kv_iter_valid(log)) {
        struct span key = kv_iter_key(log);
        if (memcmp(key.p, until.p, key.n < until.n ? key.n : until.n) >= 0)
            break;
        struct conv_id id = {0};
        if (key.n >= KEY_CONV_SIZE)
            id = (struct conv_id){get_be64(key.p + 2), get_be64(key.p + 10)};
        if (!conv_id_eq(id, noted))
            scrub_damage(scrub, KV_LOG, "", key.n == KEY_SEQ_SIZE ? get_be64(key.p + 18) : 0,
                         "records of conversation %016llx%016llx, which has no header",
                         (unsigned long long)id.hi, (unsigned long long)id.lo);
        noted = id;
        kv_iter_next(log);
        err = scrub_tick(scrub);
    }
    return err;
}

static int scrub_one(struct scrub *scrub, struct span key, struct span value, struct kv_iter *log)
{
    struct arena names;
    arena_init(&names);
    struct scrub_conv conv = {.id = {get_be64(key.p + 2), get_be64(key.p + 10)}};
    conv.header = loquat__conv_header__unpack(&names.allocator, value.n, (const uint8_t *)value.p);
    struct key first = key_seq(scrub->partition, conv.id, 0);
    int err = 0;
    if (!kv_iter_valid(log)) /* an end, or a damaged file: go on behind it */
        kv_iter_seek(log, key_span(&first));
    else
        err = orphans(scrub, log, first);
    if (conv.header == NULL) {
        scrub_damage(scrub, KV_CONV, "", 0,
                     "the header of conversation %016llx%016llx can't be "
                     "read",
                     (unsigned long long)conv.id.hi, (unsigned long long)conv.id.lo);
        struct key next = key_seq(scrub->partition, conv.id, UINT64_MAX);
        kv_iter_seek(log, key_span(&next));
    } else if (err == 0) {
        conv.floor = conv.header->floor > 1 ? conv.header->floor : 1;
        scrub->outcome->report.conv_count++;
        err = scrub_log(scrub, &conv, log);
        check_header(scrub, &conv);
        if (err == 0)
            err = scrub_members(scrub, &conv);
        if (err == 0)
            err = scrub_beside(scrub, &conv);
        if (err == 0)
            err = scrub_folds(scrub, &conv);
        if (err == 0)
            err = scrub_dedup(scrub, &conv);
    }
    arena_close(&names);
    return err;
}

/* ---- a partition ---- */

static int scrub_convs(struct scrub *scrub, const struct conv_id *only)
{
    uint32_t p = scrub->partition;
    struct key from = key_partition(p), until = key_partition(p + 1), header = from,
               members = until;
    if (only != NULL) {
        from = key_seq(p, *only, 0);
        until = key_seq(p, *only, UINT64_MAX);
        header = key_header(p, *only);
        members = key_member(p, *only, (struct span){0});
    }
    struct kv_iter convs, log;
    kv_iter_open_scan(&convs, scrub->keeper->kv, &scrub->view, KV_CONV, key_span(&header),
                      key_span(&members));
    kv_iter_open_scan(&log, scrub->keeper->kv, &scrub->view, KV_LOG, key_span(&from),
                      key_span(&until));
    kv_iter_first(&log);
    int err = 0;
    uint64_t before = scrub->outcome->report.conv_count;
    for (kv_iter_first(&convs); err == 0 && kv_iter_valid(&convs); kv_iter_next(&convs)) {
        struct span key = kv_iter_key(&convs);
        if (key.n == KEY_CONV_SIZE + 1 && key.p[KEY_CONV_SIZE] == KEY_TAG_HEADER)
            err = scrub_one(scrub, key, kv_iter_value(&convs), &log);
    }
    scrub_ended(scrub, KV_CONV, "", &convs);
    if (err == 0)
        err = orphans(scrub, &log, until);
    scrub_ended(scrub, KV_LOG, "", &log);
    if (err == 0 && only != NULL && scrub->outcome->report.conv_count == before)
        err = ERR_NOT_FOUND;
    kv_iter_close(&log);
    kv_iter_close(&convs);
    return err;
}

static int scrub_partition(struct scrub *scrub)
{
    int err = scrub_convs(scrub, NULL);
    if (err == 0)
        err = scrub_users(scrub);
    if (err == 0)
        err = scrub_feed(scrub);
    return err;
}

static int scrub_named(struct scrub *scrub, const Loquat__Control *ask)
{
    int err = 0;
    for (size_t i = 0; i < ask->n_convs && err == 0; i++) {
        struct conv_id id = conv_id_of(span_str(ask->convs[i]));
        scrub->partition = partition_of(id, scrub->keeper->partitions);
        err = scrub_convs(scrub, &id);
    }
    return err;
}

int scrub_run(const struct keeper *keeper, const Loquat__Control *ask, struct outcome *outcome)
{
    struct scrub scrub = {.keeper = keeper, .outcome = outcome};
    for (int cf = 0; cf < KV_CF_COUNT; cf++)
        scrub.all += kv_property(keeper->kv, (enum kv_cf)cf, "rocksdb.estimate-num-keys");
    arena_init(&scrub.arena);
    kv_view_open(&scrub.view, keeper->kv);
    int err = 0;
    if (ask->n_convs > 0)
        err = scrub_named(&scrub, ask);
    for (uint32_t p = 0; ask->n_convs == 0 && p < keeper->partitions && err == 0; p++) {
        scrub.partition = p;
        err = scrub_partition(&scrub);
    }
    outcome_families(outcome, keeper->kv);
    outcome->report.disk_before = outcome_disk_bytes(keeper->kv);
    kv_view_close(&scrub.view);
    arena_close(&scrub.arena);
    buf_close(&scrub.value);
    return err;
}
