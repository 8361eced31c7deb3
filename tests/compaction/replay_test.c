/* Two replicas of one log: the second loses content at random moments, the first never. They must
 * give the same answers and come to the same heads, ordinals, marks and folds. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "compaction/filter.h"
#include "compaction/survey.h"
#include "compaction/trim.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/feedlog.h"
#include "store/key.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { STEPS = 400, ROUNDS = 6, ITEMS_MAX = 1024 };

static struct machine kept, trimmed;
static char conv[64];
static unsigned seed;
static size_t entries_gone; /* of the feed */

static void setup(void)
{
    const char *given = getenv("LOQUAT_SEED");
    seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    srand(seed);
    machine_open(&kept);
    machine_open(&trimmed);
}

static void teardown(void)
{
    machine_close(&kept);
    machine_close(&trimmed);
}

TestSuite(replay, .init = setup, .fini = teardown, .timeout = 120);

static uint64_t up_to(uint64_t n)
{
    return (uint64_t)rand() % n;
}

/* ---- compaction as a run does it, in the test's hands ---- */

struct found {
    struct trim_item items[ITEMS_MAX];
    size_t count;
    struct conv_id id;
    uint64_t floor;
};

static int on_item(void *arg, const struct trim_item *item)
{
    struct found *found = arg;
    if (found->count < ITEMS_MAX)
        found->items[found->count++] = *item;
    return 0;
}

static int on_conv(void *arg, const struct survey_conv *survey)
{
    struct found *found = arg;
    found->id = survey->id;
    found->floor = survey->floor;
    return survey->rows_below
               ? on_item(arg, &(struct trim_item){.what = TRIM_BELOW, .id = survey->id})
               : 0;
}

static int on_rows(void *arg, uint64_t rows)
{
    (void)arg;
    (void)rows;
    return 0;
}

static void trim_items(const struct found *found)
{
    struct tally went[CAUSE_COUNT] = {0};
    for (size_t at = 0; at < found->count;) {
        size_t n = found->count - at < TRIM_ITEMS_MAX ? found->count - at : TRIM_ITEMS_MAX;
        bool more = true;
        while (more)
            cr_assert(eq(
                int, trim_slice(trimmed.kv, 0, found->items + at, n, trimmed.now_ms, went, &more),
                0));
        at += n;
    }
}

/* What a compaction would do to each row of the log. */
static void filter_rows(uint64_t floor)
{
    struct kv_iter iter;
    struct kv_batch batch;
    struct buf left = {0};
    kv_batch_init(&batch, trimmed.kv);
    kv_iter_open(&iter, trimmed.kv, NULL, KV_LOG, (struct span){0}, (struct span){0});
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        left.n = 0;
        int verdict = filter_decide(key, kv_iter_value(&iter), floor, trimmed.now_ms, &left);
        if (verdict == KV_DROP)
            kv_delete(&batch, KV_LOG, key);
        else if (verdict == KV_REPLACE)
            kv_put(&batch, KV_LOG, key, buf_span(&left));
    }
    kv_iter_close(&iter);
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    buf_close(&left);
}

/* And to each of the feed. */
static void filter_feed(const struct found *found)
{
    struct filter *filter = filter_new();
    struct kv_iter iter;
    struct kv_batch batch;
    kv_batch_init(&batch, trimmed.kv);
    filter_raise(filter, 0, found->id, found->floor);
    kv_iter_open(&iter, trimmed.kv, NULL, KV_FEED, (struct span){0}, (struct span){0});
    kv_iter_last(&iter);
    cr_assert(kv_iter_valid(&iter));
    filter_raise_feed(filter, 0, get_be64(kv_iter_key(&iter).p + 2));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        if (filter_row(filter, KV_FEED, key, kv_iter_value(&iter), NULL) == KV_DROP) {
            kv_delete(&batch, KV_FEED, key);
            entries_gone++;
        }
    }
    kv_iter_close(&iter);
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    filter_free(filter);
}

/* Of what is gone for all nobody's reaction is left. */
static void expect_no_reactions(void)
{
    struct kv_iter iter;
    struct buf row = {0};
    kv_iter_open(&iter, trimmed.kv, NULL, KV_CONV, (struct span){0}, (struct span){0});
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        if (key.n <= KEY_CONV_SIZE + 9 || key.p[KEY_CONV_SIZE] != KEY_TAG_REACTIONS)
            continue;
        uint64_t seq = get_be64(key.p + KEY_CONV_SIZE + 1);
        struct key log = key_seq(0, conv_id_of(span_str(conv)), seq);
        Loquat__Record *record = NULL;
        cr_assert(eq(int, kv_get(trimmed.kv, KV_LOG, key_span(&log), &row), 0));
        cr_assert(eq(int, record_decode(buf_span(&row), NULL, &record), 0));
        cr_assert(not(record->erased || record->stripped), "LOQUAT_SEED=%u: %lu", seed, seq);
        loquat__record__free_unpacked(record, NULL);
    }
    kv_iter_close(&iter);
    buf_close(&row);
}

static void compact(void)
{
    static struct found found;
    found.count = 0;
    struct survey survey = {
        .kv = trimmed.kv,
        .now_ms = trimmed.now_ms,
        .on_conv = on_conv,
        .on_item = on_item,
        .on_rows = on_rows,
        .arg = &found,
    };
    cr_assert(eq(int, survey_run(&survey), 0));
    trim_items(&found);
    machine_seal(&trimmed);
    machine_flush(&trimmed);
    filter_rows(found.floor);
    filter_feed(&found);
    expect_no_reactions();
}

/* ---- random commands, old cids among them ---- */

static void random_step(int step)
{
    static const char *const users[] = {"ann", "bob", "eve"};
    const char *user = users[up_to(3)];
    char cid[24], body[48];
    uint64_t seq = up_to((uint64_t)step + 2) + 1; /* of anything there is, or nearly */
    bool retry = up_to(6) == 0 && step > 0;
    snprintf(cid, sizeof cid, "c%lu", retry ? up_to((uint64_t)step) : (uint64_t)step);
    snprintf(body, sizeof body, "{\"text\":\"of %s\"}", cid);
    Loquat__Command command;
    static const char *const emojis[] = {"+", "-", "*"};
    static char *named[] = {"bob"};
    switch (up_to(14)) {
    case 0:
    case 1:
        command = command_edit(user, conv, cid, seq, body);
        break;
    case 2:
        command = command_delete(user, conv, cid, seq);
        break;
    case 3:
        command = command_mark(user, conv, seq, seq);
        break;
    case 4:
        command = command_retain(conv, up_to(8) == 0 ? seq / 2 : 0);
        break;
    case 5:
    case 6:
        command = command_react(user, conv, cid, seq, emojis[up_to(3)], up_to(3) > 0);
        break;
    case 7:
        command = command_pin("ann", conv, cid, seq, up_to(2) == 0);
        break;
    case 8:
        command = command_meta("ann", conv, cid);
        command.fields = LOQUAT__META_FIELD__META_TTL | LOQUAT__META_FIELD__META_ANNOUNCE |
                         LOQUAT__META_FIELD__META_LANG;
        command.lang = up_to(2) == 0 ? "de" : "";
        command.ttl_s = up_to(4);
        command.announce = up_to(4) == 0;
        break;
    default:
        command = command_send(user, conv, cid, body);
        command.mention_all = up_to(6) == 0;
        command.n_mentions = !command.mention_all && up_to(4) == 0;
        command.mentions = named;
        command.thread = up_to(4) == 0 ? seq : 0;
        command.ttl_s = up_to(3) == 0 ? up_to(3) + 1 : 0;
    }
    kept.now_ms += up_to(400); /* some seconds per hundred steps: things expire */
    trimmed.now_ms = kept.now_ms;
    struct apply_result a = machine_do(&kept, &command), b = machine_do(&trimmed, &command);
    if (retry && a.err == ERR_CONFLICT && b.err == 0) {
        cr_assert(b.dup); /* other content under an old cid, which can't be compared any more */
        return;
    }
    cr_assert(eq(int, a.err, b.err), "LOQUAT_SEED=%u step %d op %u: %s, %s", seed, step, command.op,
              err_name(a.err), err_name(b.err));
    cr_assert(eq(u64, a.seq, b.seq), "LOQUAT_SEED=%u step %d", seed, step);
    cr_assert(eq(int, a.dup, b.dup), "LOQUAT_SEED=%u step %d", seed, step);
}

static void expect_alike(int step)
{
    static char *const users[] = {"ann", "bob", "eve"};
    for (int i = 0; i < 3; i++) {
        const Loquat__ConvInfo *a = machine_conv(&kept, users[i], conv);
        const Loquat__ConvInfo *b = machine_conv(&trimmed, users[i], conv);
        cr_assert(eq(u64, a->head, b->head), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(u64, a->floor, b->floor), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(u64, a->n, b->n), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(u64, a->read, b->read), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(u64, a->unread, b->unread), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(u64, a->mentions, b->mentions), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(sz, a->n_pins, b->n_pins), "LOQUAT_SEED=%u step %d", seed, step);
        for (size_t k = 0; k < a->n_pins; k++)
            cr_assert(eq(u64, a->pins[k], b->pins[k]), "LOQUAT_SEED=%u step %d", seed, step);
    }
    arena_reset(&kept.arena);
    arena_reset(&trimmed.arena);
}

/* Folded history is the same for people: the same messages, bodies, holes and replies. */
static void expect_same_history(int step)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply a, b;
    read.conv = conv;
    read.user = "ann";
    read.from = 1;
    read.folded = true;
    cr_assert(eq(int, machine_range(&kept, &read, &a), 0));
    cr_assert(eq(int, machine_range(&trimmed, &read, &b), 0));
    cr_assert(eq(sz, a.n_items, b.n_items), "LOQUAT_SEED=%u step %d", seed, step);
    for (size_t i = 0; i < a.n_items; i++) {
        const Loquat__Item *x = a.items[i], *y = b.items[i];
        cr_assert(eq(u64, x->seq, y->seq), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(u32, x->hole, y->hole), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(u64, x->last, y->last));
        cr_assert(eq(u64, x->replies, y->replies));
        cr_assert(eq(u64, x->edited, y->edited));
        cr_assert(eq(u64, x->pinned, y->pinned), "LOQUAT_SEED=%u step %d", seed, step);
        cr_assert(eq(sz, x->n_reactions, y->n_reactions), "LOQUAT_SEED=%u step %d", seed, step);
        for (size_t k = 0; k < x->n_reactions; k++) {
            cr_assert(eq(str, x->reactions[k]->emoji, y->reactions[k]->emoji));
            cr_assert(eq(u64, x->reactions[k]->n, y->reactions[k]->n));
            cr_assert(eq(int, x->reactions[k]->me, y->reactions[k]->me));
        }
        cr_assert(span_eq(span_of(x->body.data, x->body.len), span_of(y->body.data, y->body.len)));
        cr_assert(span_eq(span_of(x->record.data, x->record.len),
                          span_of(y->record.data, y->record.len)));
    }
    arena_reset(&kept.arena);
    arena_reset(&trimmed.arena);
}

static Loquat__Reply feed_of(struct machine *m)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    Loquat__Reply reply = LOQUAT__REPLY__INIT;
    read.max = FEEDLOG_RECORDS_MAX;
    cr_assert(eq(int, feedlog_read(m->kv, 0, &read, m->now_ms, &m->arena, &reply), 0));
    cr_assert(lt(sz, reply.n_feed, FEEDLOG_RECORDS_MAX));
    return reply;
}

/* The feed has, at the same offsets, all but what is below the floor, and ends where it ended. */
static void expect_same_feed(int step)
{
    uint64_t floor = machine_conv(&kept, "ann", conv)->floor;
    arena_reset(&kept.arena);
    Loquat__Reply a = feed_of(&kept), b = feed_of(&trimmed);
    cr_assert(eq(u64, a.head, b.head), "LOQUAT_SEED=%u step %d", seed, step);
    cr_assert(ge(u64, b.floor, a.floor), "LOQUAT_SEED=%u step %d", seed, step);
    size_t at = 0;
    for (size_t i = 0; i < a.n_feed; i++) {
        bool same = at < b.n_feed && b.feed[at]->offset == a.feed[i]->offset;
        cr_assert(same || a.feed[i]->item->seq < floor, "LOQUAT_SEED=%u step %d", seed, step);
        if (same)
            cr_assert(eq(u64, b.feed[at++]->item->seq, a.feed[i]->item->seq));
    }
    cr_assert(eq(sz, at, b.n_feed), "LOQUAT_SEED=%u step %d", seed, step);
    arena_reset(&kept.arena);
    arena_reset(&trimmed.arena);
}

static void open_conv(void)
{
    char *members[] = {"bob", "eve"};
    Loquat__Command open = command_open_group("ann", "open", conv, members, 2);
    cr_assert(eq(int, machine_do(&kept, &open).err, 0));
    cr_assert(eq(int, machine_do(&trimmed, &open).err, 0));
}

/* Any commands, compaction and crashes at any moment. */
Test(replay, content_makes_no_difference)
{
    open_conv();
    for (int step = 0; step < STEPS * ROUNDS; step++) {
        random_step(step);
        if (up_to(25) == 0)
            compact();
        if (up_to(100) == 0)
            machine_crash(&trimmed);
        if (up_to(20) == 0) {
            expect_alike(step);
            expect_same_history(step);
            expect_same_feed(step);
        }
    }
    expect_alike(STEPS * ROUNDS);
    expect_same_history(STEPS * ROUNDS);
    expect_same_feed(STEPS * ROUNDS);
    cr_assert(ne(sz, entries_gone, 0), "LOQUAT_SEED=%u", seed);
}
