/* Under ThreadSanitizer: a node's loop, wal, apply, pool and compaction threads beside the keeper:
 * writers, readers, runs and verifies at once; then a stop under a job. Criterion aborts there, so
 * this is a plain program. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "replication/node.h"
#include "store/base/check.h"
#include "store/base/log.h"
#include "tests/lib/compact.h"
#include "tests/lib/scratch.h"

enum { WRITERS = 2, MESSAGES = 150, RUNS = 4, PARTITIONS = 2 };

static char dir[SCRATCH_MAX + 8];
static struct node *node;

static void *write_many(void *arg)
{
    struct nodelink link;
    char conv[64], cid[24], *members[] = {"bob"};
    snprintf(cid, sizeof cid, "open-%d", *(int *)arg);
    nodelink_open(&link, node_connect(node));
    Loquat__Command command = command_open_group("ann", cid, conv, members, 1);
    uint64_t seq = nodelink_do(&link, &command)->seq;
    ASSERT(seq == 1);
    for (int i = 0; i < MESSAGES; i++) {
        snprintf(cid, sizeof cid, "c%d", i);
        command = command_send("ann", conv, cid, "{\"text\":\"words\"}");
        command.ttl_s = i % 3 == 0;
        const Loquat__Reply *reply = nodelink_do(&link, &command);
        ASSERT(reply->err == 0);
        snprintf(cid, sizeof cid, "e%d", i);
        command = command_edit("ann", conv, cid, reply->seq, "{\"text\":\"more words\"}");
        reply = nodelink_do(&link, &command); /* may be below the floor by now */
        Loquat__Read read = LOQUAT__READ__INIT;
        read.op = LOQUAT__READ_OP__READ_RANGE;
        read.user = "bob";
        read.conv = conv;
        reply = nodelink_reply(&link, nodelink_read(&link, &read, conv));
        ASSERT(reply->err == 0);
        arena_reset(&link.arena);
    }
    nodelink_close(&link);
    return NULL;
}

static void ask(uint32_t op, struct arena *arena)
{
    Loquat__Control control = compact_ask(op);
    control.max_count = op == LOQUAT__CONTROL_OP__CONTROL_RUN ? 10 : 0;
    const Loquat__Report *report = compact_node(dir, &control, arena);
    if (report->err != 0 || report->damage_count > 0)
        fprintf(stderr, "op %u: %d %s, %lu damaged\n", op, report->err, report->msg,
                report->damage_count);
    ASSERT(report->err == 0 && report->damage_count == 0);
}

int main(void)
{
    char root[SCRATCH_MAX], why[256] = "";
    pthread_t threads[WRITERS];
    int numbers[WRITERS];
    struct arena arena;
    log_setup("control_tsan", LOG_WARN, LOG_AUTO);
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/d", root);
    arena_init(&arena);
    struct node_config config = {.dir = dir, .partitions = PARTITIONS, .disk_reserve = 1};
    int err = node_start(&config, &node, why, sizeof why);
    ASSERT(err == 0);
    for (int i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        err = pthread_create(&threads[i], NULL, write_many, &numbers[i]);
        ASSERT(err == 0);
    }
    for (int i = 0; i < RUNS; i++) {
        ask(LOQUAT__CONTROL_OP__CONTROL_RUN, &arena);
        ask(LOQUAT__CONTROL_OP__CONTROL_VERIFY, &arena);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    ask(LOQUAT__CONTROL_OP__CONTROL_RUN, &arena);
    ask(LOQUAT__CONTROL_OP__CONTROL_VERIFY, &arena);
    struct nodelink link;
    Loquat__Control run = compact_ask(LOQUAT__CONTROL_OP__CONTROL_RUN);
    compact_open(&link, dir);
    compact_send(&link, &run);
    node_stop(node);
    nodelink_close(&link);
    arena_close(&arena);
    scratch_remove(root);
    puts("1 passed, 0 failed");
    return 0;
}
