#include "replication/wal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/base/buf.h"
#include "store/base/err.h"
#include "tests/lib/scratch.h"

enum { BIG = 20 << 20 };

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16], why[256];
static struct journal *journal;
static uv_loop_t loop;
static struct wal *wal;
static uint64_t told[64];
static size_t told_count, begun;

/* A segment begins with its number. */
static void on_segment(void *arg)
{
    uint64_t at;
    cr_assert(zero(ptr, arg));
    cr_assert(journal_begins(wal_batch(wal)->at));
    cr_assert(journal_batch_empty(wal_batch(wal)));
    char *p = journal_batch_grow(wal_batch(wal), 1, &at);
    *p = (char)('0' + journal_segment(at));
    begun++;
}

static int take_nothing(void *arg, uint64_t at, struct span records)
{
    (void)arg, (void)at, (void)records;
    return ERR_CORRUPT;
}

static void setup(void)
{
    uint64_t at = 0;
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/journal", root);
    cr_assert(zero(int, mkdir(dir, 0700)));
    cr_assert(zero(int, journal_open(dir, take_nothing, NULL, why, sizeof why, &journal)));
    cr_assert(zero(int, journal_begin(journal, &at)));
    uv_loop_init(&loop);
    wal = wal_new(&loop, journal, at, &(struct wal_events){.on_segment = on_segment});
}

static void on_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

static void teardown(void)
{
    bool closed = false;
    wal_stop(wal, on_closed, &closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert(closed);
    wal_free(wal);
    cr_assert(eq(int, uv_loop_close(&loop), 0));
    journal_close(journal);
    scratch_remove(root);
}

TestSuite(wal, .init = setup, .fini = teardown, .timeout = 60);

/* Where it will stand. */
static uint64_t put_span(struct span bytes)
{
    uint64_t at;
    memcpy(journal_batch_grow(wal_batch(wal), bytes.n, &at), bytes.p, bytes.n);
    return at;
}

static uint64_t put(const char *text)
{
    return put_span(span_str(text));
}

static int add(void *arg, uint64_t at, struct span records)
{
    (void)at;
    buf_add_span(arg, records);
    buf_add_byte(arg, '|');
    return 0;
}

/* What another start would find now: frames, in order. */
static void on_disk(struct buf *frames)
{
    struct journal *other = NULL;
    frames->n = 0;
    cr_assert(zero(int, journal_open(dir, add, frames, why, sizeof why, &other)), "%s", why);
    journal_close(other);
}

static bool disk_has(const char *text)
{
    struct buf frames = {0};
    on_disk(&frames);
    bool found = span_is(buf_span(&frames), text);
    buf_close(&frames);
    return found;
}

static void on_durable(void *arg, uint64_t a, uint64_t b)
{
    cr_assert(eq(u64, b, a + 100));
    cr_assert(disk_has(arg));
    told[told_count++] = a;
}

static void run_until_idle(void)
{
    while (!wal_idle(wal)) {
        wal_kick(wal);
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* Who waits is told once, in order, when the frame is on disk and not before. */
Test(wal, notices_come_when_durable)
{
    for (uint64_t i = 0; i < 5; i++) {
        put("row");
        wal_notify(wal, on_durable, "rowrowrowrowrow|", i, i + 100);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert(eq(sz, told_count, 0));
    cr_assert(not(wal_idle(wal)));
    run_until_idle();
    cr_assert(eq(sz, told_count, 5));
    for (uint64_t i = 0; i < 5; i++)
        cr_assert(eq(u64, told[i], i));
}

static void on_frame(void *arg, uint64_t a, uint64_t b)
{
    struct buf frames = {0};
    (void)b;
    on_disk(&frames);
    cr_assert(ne(ptr, memmem(frames.p, frames.n, arg, strlen(arg)), NULL));
    buf_close(&frames);
    told[told_count++] = a;
}

/* What comes while a frame is being written goes with the next one. */
Test(wal, next_batch_fills_meanwhile)
{
    put("a");
    wal_notify(wal, on_frame, "a|", 1, 0);
    wal_kick(wal);
    put("b");
    wal_notify(wal, on_frame, "a|b|", 2, 0);
    wal_kick(wal);
    while (told_count == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(sz, told_count, 1));
    run_until_idle();
    cr_assert(eq(sz, told_count, 2));
    cr_assert(disk_has("a|b|"));
}

static void on_first(void *arg, uint64_t a, uint64_t b)
{
    on_durable(arg, a, b);
    put("second");
    wal_notify(wal, on_durable, "first|second|", 2, 102);
}

/* Somebody who is told may put more. */
Test(wal, notice_that_writes_again)
{
    put("first");
    wal_notify(wal, on_first, "first|", 1, 101);
    run_until_idle();
    cr_assert(eq(sz, told_count, 2));
    cr_assert(disk_has("first|second|"));
}

/* Records that nobody waits for (a vote, a trim) are written in the same turn all the same, and it
 * is not idle before. */
Test(wal, records_without_notices_are_written)
{
    size_t bytes;
    put("alone");
    cr_assert(not(wal_idle(wal)));
    cr_assert(zero(sz, wal_waiting(wal, &bytes)));
    cr_assert(ge(sz, bytes, 5));
    run_until_idle();
    cr_assert(disk_has("alone|"));
    cr_assert(zero(sz, wal_waiting(wal, &bytes)));
    cr_assert(zero(sz, bytes));
}

/* Without records there is nothing to write. */
Test(wal, idle_without_records)
{
    cr_assert(wal_idle(wal));
    wal_kick(wal);
    cr_assert(wal_idle(wal));
    cr_assert(disk_has(""));
}

static bool reads(uint64_t at, const char *text)
{
    char bytes[16];
    cr_assert(zero(int, wal_read(wal, at, bytes, strlen(text))));
    return memcmp(bytes, text, strlen(text)) == 0;
}

/* What was put is read from there on: while it waits, while it flies, and when it is on disk. */
Test(wal, reads_what_was_put)
{
    uint64_t a = put("aaaa"), b = put("bb"), c;
    cr_assert(reads(a, "aaaa") && reads(b, "bb"));
    wal_kick(wal);
    c = put("ccc");
    cr_assert(reads(a, "aaaa") && reads(b, "bb") && reads(c, "ccc"));
    run_until_idle();
    cr_assert(reads(a, "aaaa") && reads(b, "bb") && reads(c, "ccc"));
    for (int i = 0; i < 4; i++) {
        put("more");
        run_until_idle();
        cr_assert(reads(a, "aaaa") && reads(b, "bb") && reads(c, "ccc"));
    }
    char bytes[8];
    cr_assert(ne(int, wal_read(wal, 7ull << 32, bytes, 1), 0));
}

/* At a start, before the loop runs: all there is, with the state of a segment that begins. */
Test(wal, written_at_once)
{
    put("now");
    wal_write(wal);
    cr_assert(wal_idle(wal));
    cr_assert(disk_has("now|"));
    wal_write(wal);
    cr_assert(disk_has("now|"));
    uint64_t at;
    memset(journal_batch_grow(wal_batch(wal), 2 * BIG, &at), 'x', 2 * BIG);
    wal_write(wal);
    cr_assert(wal_idle(wal), "what begins the next segment is written as well");
    cr_assert(eq(sz, begun, 1));
    cr_assert(reads(2ull << 32 | JOURNAL_HEAD, "2"));
    put("on");
    run_until_idle();
    cr_assert(eq(sz, begun, 1));
}

/* Each segment begins with what is put for it then, in front of what comes after. */
Test(wal, segments_begin)
{
    struct buf big = {0};
    memset(buf_grow(&big, BIG), 'x', BIG);
    for (uint64_t i = 0; i < 5; i++) {
        put_span(buf_span(&big));
        wal_kick(wal);
        put("after");
        run_until_idle();
    }
    buf_close(&big);
    cr_assert(eq(sz, begun, 2));
    cr_assert(reads(2ull << 32 | JOURNAL_HEAD, "2after") && reads(3ull << 32 | JOURNAL_HEAD, "3"));
}

/* A segment goes once the frame that says so is on disk: not while it waits or flies. */
Test(wal, releases_when_durable)
{
    struct buf big = {0};
    memset(buf_grow(&big, 2 * BIG), 'x', 2 * BIG);
    put_span(buf_span(&big));
    run_until_idle();
    put_span(buf_span(&big)); /* the second segment is full, too */
    wal_release(wal, 2);
    run_until_idle();
    cr_assert(scratch_has(dir, "0000000000000001.log"));
    cr_assert(scratch_has(dir, "0000000000000003.log"));
    put_span(buf_span(&big));
    run_until_idle();
    cr_assert(not(scratch_has(dir, "0000000000000001.log")), "it is the fourth now");
    cr_assert(scratch_has(dir, "0000000000000002.log"));
    cr_assert(scratch_has(dir, "0000000000000004.log"));
    buf_close(&big);
}

static pthread_t writer;
static unsigned syncs;

static void on_synced(void *arg)
{
    cr_assert(eq(ptr, arg, &syncs));
    writer = pthread_self();
    syncs++;
}

/* After each write something can be done on the thread that wrote. */
Test(wal, tells_the_writing_thread)
{
    bool closed = false;
    uint64_t at = wal_batch(wal)->at;
    wal_stop(wal, on_closed, &closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    wal_free(wal);
    wal = wal_new(&loop, journal, at, &(struct wal_events){on_segment, on_synced, &syncs});
    put("a");
    run_until_idle();
    put("b");
    run_until_idle();
    closed = false;
    wal_stop(wal, on_closed, &closed); /* joins it */
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert(eq(u32, syncs, 2));
    cr_assert(not(pthread_equal(writer, pthread_self())));
    at = wal_batch(wal)->at;
    wal_free(wal);
    wal = wal_new(&loop, journal, at, &(struct wal_events){.on_segment = on_segment});
}
