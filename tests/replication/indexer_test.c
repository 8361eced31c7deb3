/* The thread that keeps the search index: what it makes anew takes its time, and nothing that comes
 * meanwhile waits for that. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>

#include "replication/indexer.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/search/index.h"
#include "store/search/search.h"
#include "tests/lib/machine.h"
#include "tests/lib/nodelink.h"

enum { CONVS = 20, EACH = 10, RATE = 100, PATIENCE_MS = 20000 };

static struct machine m;
static struct indexer *indexer;
static bool damaged; /* as the search before said of the index */
static char conv[CONVS][64];

static void say(int c, const char *text)
{
    static int n;
    char cid[16], body[64];
    snprintf(cid, sizeof cid, "s%d", n++);
    snprintf(body, sizeof body, "{\"text\":\"%s\"}", text);
    Loquat__Command command = command_send("ann", conv[c], cid, body);
    cr_assert(eq(int, machine_do(&m, &command).err, 0));
}

static void setup(void)
{
    char dir[SCRATCH_MAX + 32];
    machine_open(&m);
    for (int c = 0; c < CONVS; c++) {
        char cid[16];
        char *members[] = {"bob"};
        snprintf(cid, sizeof cid, "o%d", c);
        Loquat__Command command = command_open_group("ann", cid, conv[c], members, 1);
        cr_assert(eq(int, machine_do(&m, &command).err, 0));
        for (int i = 0; i < EACH; i++)
            say(c, "hello");
    }
    snprintf(dir, sizeof dir, "%s/index", m.root);
    indexer = indexer_start(m.kv, dir, "test", 1);
    cr_assert(indexer_kv(indexer) != NULL);
}

static void teardown(void)
{
    indexer_stop(indexer);
    machine_close(&m);
}

TestSuite(indexer, .init = setup, .fini = teardown, .timeout = 60);

static Loquat__Reply find(const char *q)
{
    return machine_search(&m, indexer_kv(indexer), "ann", q, conv, CONVS, 0, 100, &damaged);
}

static void await_indexed(void)
{
    uint64_t until = clock_mono_ms() + PATIENCE_MS;
    while (find("hello").behind > 0)
        cr_assert(lt(u64, clock_mono_ms(), until));
}

static void *make_again(void *arg)
{
    struct indexer_again *again = arg;
    cr_assert(eq(int, indexer_again(indexer, again), 0));
    return NULL;
}

/* The rate is kept; what is written while it is at work is in the index long before it is done. */
Test(indexer, made_anew_at_a_rate_while_it_goes_on)
{
    struct indexer_again again = {.all = true, .now_ms = m.now_ms, .rate = RATE};
    pthread_t thread;
    await_indexed();
    uint64_t begin = clock_mono_ms();
    cr_assert(eq(int, pthread_create(&thread, NULL, make_again, &again), 0));
    say(3, "hello meanwhile");
    indexer_wake(indexer);
    cr_assert(eq(sz, find("meanwhile").n_hits, 1));
    await_indexed();
    uint64_t indexed = clock_mono_ms() - begin;
    cr_assert(eq(int, pthread_join(thread, NULL), 0));
    uint64_t whole = clock_mono_ms() - begin, due = CONVS * EACH * 1000 / RATE;
    cr_assert(ge(u64, whole, due));
    cr_assert(lt(u64, indexed, due));
    cr_assert(eq(u64, again.segments, CONVS));
    cr_assert(eq(sz, find("meanwhile").n_hits, 1));
}

static int stop_soon(void *arg, const char *phase, uint64_t at, uint64_t all)
{
    (void)arg, (void)phase, (void)all;
    return at > 0 ? ERR_CLOSED : 0;
}

/* Who asked has gone: it ends though the rate would have it go on for long; all is found. */
Test(indexer, who_asked_may_go)
{
    struct indexer_again again = {
        .all = true, .now_ms = m.now_ms, .rate = 1, .progress = stop_soon};
    await_indexed();
    uint64_t begin = clock_mono_ms();
    cr_assert(eq(int, indexer_again(indexer, &again), ERR_CLOSED));
    cr_assert(lt(u64, clock_mono_ms() - begin, PATIENCE_MS));
    cr_assert(eq(sz, find("hello").n_hits, 100));
}

/* It is made anew by the next start, and until then nothing is written to it. */
Test(indexer, damage_that_a_reader_found_is_mended_by_the_next_start)
{
    char dir[SCRATCH_MAX + 32];
    struct index_key key = index_row_key(0, conv_id_of(span_str(conv[0])));
    struct kv_batch batch;
    await_indexed();
    kv_batch_init(&batch, indexer_kv(indexer));
    kv_put(&batch, KV_LOG, index_key_span(&key), (struct span){0});
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    cr_assert(eq(sz, find("hello").n_hits, 100));
    cr_assert(damaged);
    indexer_damaged(indexer);
    indexer_stop(indexer);
    snprintf(dir, sizeof dir, "%s/index", m.root);
    indexer = indexer_start(m.kv, dir, "test", 1);
    await_indexed();
    cr_assert(eq(sz, find("hello").n_hits, 100));
    cr_assert(eq(int, damaged, 0));
}
