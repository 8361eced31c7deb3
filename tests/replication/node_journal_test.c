/* Which segments of the journal are needed, as a node sees it: little that goes on somewhere does
 * not keep much of what goes on elsewhere. */
#include "replication/node_inside.h"
#include "tests/replication/rlog_lib.h"

enum { BUSY = 1, KIB = 1 << 10, SLACK = 4 /* segments */ };

static struct node *node;

static void setup(void)
{
    node = xcalloc(1, sizeof *node);
    node->dir.partitions = LOGS;
    node->shards = xcalloc(LOGS, sizeof *node->shards);
    node->phase = NODE_SERVING;
    for (uint32_t p = 0; p < LOGS; p++)
        node->shards[p].partition = p;
    bootstrap_all();
    flush();
}

static void teardown(void)
{
    close_all();
    free(node->shards);
    free(node);
}

TestSuite(node_journal, .init = setup, .fini = teardown, .timeout = 60);

static void tidy(void)
{
    for (uint32_t p = 0; p < LOGS; p++)
        node->shards[p].log = logs[p];
    node_journal_tidy(node);
    for (uint32_t p = 0; p < LOGS; p++)
        logs[p] = node->shards[p].log;
}

static void put(uint32_t p, size_t size)
{
    char *bytes = xcalloc(1, size);
    struct rcore_entry entry = {1, RCORE_COMMAND, {bytes, size}};
    rlog_put_entries(&logs[p], &batch, rlog_last(&logs[p]) + 1, &entry, 1);
    free(bytes);
}

static void trim(uint32_t p)
{
    uint64_t last = rlog_last(&logs[p]);
    rlog_set_conf(&logs[p], 1, span_str("configuration"));
    rlog_trim(&logs[p], &batch, last, rlog_term_at(&logs[p], last), last);
}

/* Another segment, full of what is trimmed already. */
static void go_on(void)
{
    put(BUSY, KIB);
    trim(BUSY);
    next_segment();
}

/* What nobody needs is released: with nothing in the logs, all but the segment that is written. */
Test(node_journal, nothing_is_needed)
{
    for (uint32_t p = 0; p < LOGS; p++)
        trim(p);
    next_segment();
    next_segment();
    tidy();
    cr_assert(eq(u64, released, 3));
    cr_assert(not(node->moving));
}

/* What is needed is not released, and as long as that is little more than there has to be it stays
 * where it is. */
Test(node_journal, a_little_more_than_needed)
{
    for (uint64_t segment = 2; segment <= 1 + SLACK; segment++) {
        go_on();
        tidy();
        cr_assert(eq(u64, released, 1));
        cr_assert(not(node->moving));
        cr_assert(eq(u64, rlog_oldest(&logs[0]), 1));
    }
}

/* With more, what keeps the oldest segment is written again, until there is no more than that. */
Test(node_journal, idle_partitions_keep_little)
{
    for (uint64_t segment = 2; segment <= 30; segment++) {
        go_on();
        put(segment % 2 * 2, 100); /* to one that is idle, most of the time */
        tidy();
        flush();
        comes_back();
        drop_below(released);
        comes_back();
        cr_assert(le(u64, segment_now() - released, SLACK + 1));
        tidy();
    }
    cr_assert(lt(u64, 20, released));
}

/* It is looked at once for each segment, unless something is being moved, or the node stops. */
Test(node_journal, looked_at_once)
{
    go_on();
    tidy();
    for (uint32_t p = 0; p < LOGS; p++)
        trim(p);
    tidy();
    cr_assert(eq(u64, released, 1));
    node->phase = NODE_TRIMMING;
    tidy();
    cr_assert(eq(u64, released, 2));
}

/* Much is moved in several steps: others want to write, too. */
Test(node_journal, in_steps)
{
    enum { COUNT = 20, SIZE = 300 * KIB };
    unsigned steps = 0;
    for (int i = 0; i < COUNT; i++)
        put(0, SIZE);
    for (int i = 0; i < 10; i++)
        go_on();
    flush();
    do {
        size_t before = batch.n;
        tidy();
        cr_assert(le(sz, batch.n - before, (1 << 20) + SIZE + 200));
        steps++;
        cr_assert(lt(u32, steps, 100));
        comes_back();
    } while (node->moving);
    cr_assert(ge(u32, steps, COUNT * SIZE / (1 << 20)));
    cr_assert(ge(u64, released, segment_now() - SLACK - 1));
}
