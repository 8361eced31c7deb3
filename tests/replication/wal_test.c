#include "replication/wal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "tests/lib/scratch.h"

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
static struct kv *kv;
static uv_loop_t loop;
static struct wal *wal;
static uint64_t told[64];
static size_t told_count;

static void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/db", root);
    struct kv_options options = {.create = true};
    cr_assert(eq(int, kv_open(dir, KV_RAFT, &options, &kv), 0));
    uv_loop_init(&loop);
    wal = wal_new(&loop, kv, NULL, NULL);
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
    kv_close(kv);
    scratch_remove(root);
}

TestSuite(wal, .init = setup, .fini = teardown, .timeout = 60);

static void put(const char *key)
{
    kv_put(wal_batch(wal), KV_LOG, span_str(key), span_str("v"));
}

static bool on_disk(const char *key)
{
    struct buf value = {0};
    bool found = kv_get(kv, KV_LOG, span_str(key), &value) == 0;
    buf_close(&value);
    return found;
}

static void on_durable(void *arg, uint64_t a, uint64_t b)
{
    cr_assert(eq(u64, b, a + 100));
    cr_assert(on_disk(arg));
    told[told_count++] = a;
}

static void run_until_idle(void)
{
    while (!wal_idle(wal)) {
        wal_kick(wal);
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* Who waits is told once, in order, when the rows are on disk and not before. */
Test(wal, notices_come_when_durable)
{
    for (uint64_t i = 0; i < 5; i++) {
        put("row");
        wal_notify(wal, on_durable, "row", i, i + 100);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert(eq(sz, told_count, 0));
    cr_assert(not(wal_idle(wal)));
    run_until_idle();
    cr_assert(eq(sz, told_count, 5));
    for (uint64_t i = 0; i < 5; i++)
        cr_assert(eq(u64, told[i], i));
}

/* What comes while a batch is being written goes with the next one. */
Test(wal, next_batch_fills_meanwhile)
{
    put("a");
    wal_notify(wal, on_durable, "a", 1, 101);
    wal_kick(wal);
    put("b");
    wal_notify(wal, on_durable, "b", 2, 102);
    wal_kick(wal);
    while (told_count == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(eq(sz, told_count, 1));
    run_until_idle();
    cr_assert(eq(sz, told_count, 2));
    cr_assert(on_disk("a") && on_disk("b"));
}

static void on_first(void *arg, uint64_t a, uint64_t b)
{
    on_durable(arg, a, b);
    put("second");
    wal_notify(wal, on_durable, "second", 2, 102);
}

/* Somebody who is told may put more. */
Test(wal, notice_that_writes_again)
{
    put("first");
    wal_notify(wal, on_first, "first", 1, 101);
    run_until_idle();
    cr_assert(eq(sz, told_count, 2));
    cr_assert(on_disk("second"));
}

/* Rows that nobody waits for (a vote, a trim) are written in the same turn all the same, and it is
 * not idle before. */
Test(wal, rows_without_notices_are_written)
{
    put("alone");
    cr_assert(not(wal_idle(wal)));
    run_until_idle();
    cr_assert(on_disk("alone"));
}

/* Without rows there is nothing to write. */
Test(wal, idle_without_rows)
{
    cr_assert(wal_idle(wal));
    wal_kick(wal);
    cr_assert(wal_idle(wal));
}
