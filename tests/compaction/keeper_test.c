/* The steps of a run, with a state machine alone in place of a node. */
#include "compaction/keeper.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/err.h"
#include "store/key.h"
#include "tests/lib/compact.h"
#include "tests/lib/machine.h"

static struct machine m;
static char conv[64];
static struct filter *filter;
static char steps[64];      /* r: floors, t: trim, s: seal, i: index */
static long calls, stop_at; /* of progress */
static uint64_t room;

static void note(char step)
{
    size_t n = strlen(steps);
    if (n + 1 < sizeof steps && (n == 0 || steps[n - 1] != step))
        steps[n] = step;
}

static int on_progress(void *arg, const char *phase, uint64_t at, uint64_t all)
{
    (void)arg;
    (void)phase;
    (void)at;
    (void)all;
    return ++calls == stop_at ? ERR_CLOSED : 0;
}

static int on_retain(void *arg, uint32_t partition, const struct keeper_retain *items, size_t count)
{
    (void)arg;
    (void)partition;
    note('r');
    for (size_t i = 0; i < count; i++) {
        Loquat__Command command = command_retain(items[i].conv, items[i].floor);
        cr_assert(eq(int, machine_do(&m, &command).err, 0));
    }
    return 0;
}

static int on_trim(void *arg, uint32_t partition, const struct trim_item *items, size_t count,
                   uint64_t now_ms, struct tally went[CAUSE_COUNT], bool *more)
{
    (void)arg;
    note('t');
    return trim_slice(m.kv, partition, items, count, now_ms, went, more);
}

static int on_seal(void *arg, uint32_t partition, uint64_t *index)
{
    (void)arg;
    (void)partition;
    note('s');
    machine_seal(&m);
    *index = apply_index(m.apply);
    return 0;
}

static uint64_t on_room(void *arg)
{
    (void)arg;
    return room;
}

static int on_index(void *arg, const Loquat__Control *ask, bool all, uint64_t *segments)
{
    (void)arg;
    (void)ask;
    note('i');
    cr_assert(eq(int, all, 0));
    *segments = 7;
    return on_progress(NULL, "index", 0, 0);
}

static const struct keeper_ops ops = {.progress = on_progress,
                                      .retain = on_retain,
                                      .trim = on_trim,
                                      .seal = on_seal,
                                      .room = on_room,
                                      .index = on_index};

static void setup(void)
{
    machine_open(&m);
    filter = filter_new();
    room = UINT64_MAX;
    char *members[] = {"bob"};
    Loquat__Command command = command_open_group("ann", "open", conv, members, 1);
    cr_assert(eq(u64, machine_do(&m, &command).seq, 1));
    for (unsigned i = 0; i < 1500; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "m%u", i);
        command = command_send("ann", conv, cid, "{\"text\":\"words\"}");
        machine_do(&m, &command);
        snprintf(cid, sizeof cid, "e%u", i);
        command = command_edit("ann", conv, cid, i / 2 * 4 + 2, "{\"text\":\"other words\"}");
        machine_do(&m, &command);
    }
}

static void teardown(void)
{
    machine_close(&m);
    filter_free(filter);
}

TestSuite(keeper, .init = setup, .fini = teardown, .timeout = 120);

static Loquat__Report *do_run(const struct keeper_ops *with)
{
    Loquat__Control ask = compact_ask(LOQUAT__CONTROL_OP__CONTROL_RUN);
    ask.max_count = 100;
    struct keeper keeper = {
        .kv = m.kv, .partitions = 1, .now_ms = m.now_ms, .filter = filter, .ops = with};
    struct buf bytes = {0};
    int err = keeper_do(&keeper, &ask, &bytes);
    Loquat__Report *report =
        loquat__report__unpack(&m.arena.allocator, bytes.n, (const uint8_t *)bytes.p);
    buf_close(&bytes);
    cr_assert(ne(ptr, report, NULL));
    cr_assert(report->done);
    cr_assert(eq(int, report->err, err));
    return report;
}

static uint64_t folds(void)
{
    uint64_t count = 0;
    struct kv_iter iter;
    kv_iter_open(&iter, m.kv, NULL, KV_FOLD, (struct span){0}, (struct span){0});
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter))
        count++;
    kv_iter_close(&iter);
    return count;
}

/* Floors before trimming, trimming before the seal; the folds that go are more than one slice
 * takes. Another run finds nothing. */
Test(keeper, steps_in_order)
{
    cr_assert(lt(u64, (uint64_t)TRIM_ROWS_MAX, folds()));
    Loquat__Report *report = do_run(&ops);
    cr_assert(eq(int, report->err, 0), "%s", report->msg);
    cr_assert(eq(str, steps, "rtsi"));
    cr_assert(eq(u64, report->segments, 7));
    cr_assert(eq(u64, report->raised, 1));
    cr_assert(lt(u64, folds(), 101));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 100));
    report = do_run(&ops);
    cr_assert(eq(u64, report->raised, 0));
    cr_assert(eq(u64, compact_tally(report, CAUSE_EDIT)->rows, 0));
}

/* Without room on the disk nothing is compacted, and what was decided stands. */
Test(keeper, too_little_room)
{
    room = KEEPER_ROOM_BYTES - 1;
    Loquat__Report *report = do_run(&ops);
    cr_assert(eq(int, report->err, ERR_NO_SPACE));
    cr_assert(lt(sz, 0, strlen(report->msg)));
    cr_assert(eq(sz, report->n_notes, 1));
    cr_assert(eq(u64, report->raised, 1));
    cr_assert(lt(u64, 1, machine_conv(&m, "bob", conv)->floor));
    room = UINT64_MAX;
    cr_assert(eq(int, do_run(&ops)->err, 0));
}

/* Stopped at any moment, and run again: the end is the same. */
Test(keeper, stopped_anywhere)
{
    long count = 1;
    for (stop_at = 1;; stop_at++) {
        calls = 0;
        Loquat__Report *report = do_run(&ops);
        if (report->err == 0)
            break;
        cr_assert(eq(int, report->err, ERR_CLOSED));
        count++;
        machine_crash(&m);
    }
    cr_assert(lt(i64, 2, count));
    stop_at = 0;
    cr_assert(lt(u64, folds(), 101));
    cr_assert(eq(u64, machine_conv(&m, "bob", conv)->unread, 100));
    cr_assert(eq(u64, do_run(&ops)->raised, 0));
}

/* Where only reading is possible a run is refused. */
Test(keeper, run_needs_its_operations)
{
    static const struct keeper_ops reading = {.progress = on_progress};
    cr_assert(eq(int, do_run(&reading)->err, ERR_BAD_REQUEST));
}

/* A plan says what a run then does. */
Test(keeper, plan_is_what_happens)
{
    Loquat__Control ask = compact_ask(LOQUAT__CONTROL_OP__CONTROL_PLAN);
    ask.max_count = 100;
    struct keeper keeper = {.kv = m.kv, .partitions = 1, .now_ms = m.now_ms, .ops = &ops};
    struct buf bytes = {0};
    cr_assert(eq(int, keeper_do(&keeper, &ask, &bytes), 0));
    Loquat__Report *plan =
        loquat__report__unpack(&m.arena.allocator, bytes.n, (const uint8_t *)bytes.p);
    buf_close(&bytes);
    cr_assert(eq(u64, compact_gone(plan),
                 compact_tally(plan, CAUSE_FLOOR)->gone + compact_tally(plan, CAUSE_EDIT)->gone));
    Loquat__Report *done = do_run(&ops);
    cr_assert(
        eq(u64, compact_tally(done, CAUSE_EDIT)->gone, compact_tally(plan, CAUSE_EDIT)->gone));
    cr_assert(eq(u64, done->convs[0]->new_floor, plan->convs[0]->new_floor));
}
