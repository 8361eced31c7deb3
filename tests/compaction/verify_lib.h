/* tests/compaction/verify_lib.h: a directory at rest in which rows are planted, and what verify
 * says of it. For verify_test.c and verify_beside_test.c; one test, one directory. */
#ifndef LOQUAT_TESTS_COMPACTION_VERIFY_LIB_H
#define LOQUAT_TESTS_COMPACTION_VERIFY_LIB_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "replication/node.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/dedup.h"
#include "store/key.h"
#include "tests/lib/compact.h"
#include "tests/lib/scratch.h"

enum { PARTITIONS = 2, HEAD = 13 };

static char root[SCRATCH_MAX], dir[2 * SCRATCH_MAX], conv[64];
static uint32_t partition;
static struct conv_id id;
static struct arena arena;
static struct kv *kv;
static struct kv_batch batch;
static struct buf value;

/* ann's group with bob: META at 1, messages at 2 to 11, an edit of 5 at 12, a delete of 6 at 13;
 * cids and marks are sealed. Then the node stops, and the data DB is opened for planting. */
static inline void setup(void)
{
    char why[256] = "";
    struct node *node = NULL;
    struct nodelink gate;
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/data", root);
    struct node_config config = {.dir = dir, .partitions = PARTITIONS, .disk_reserve = 1};
    int err = node_start(&config, &node, why, sizeof why);
    cr_assert(eq(int, err, 0), "%s", why);
    nodelink_open(&gate, node_connect(node));
    char *members[] = {"bob"};
    Loquat__Command command = command_open_group("ann", "open", conv, members, 1);
    cr_assert(eq(u64, nodelink_do(&gate, &command)->seq, 1));
    for (unsigned i = 0; i < 10; i++) {
        char cid[16];
        snprintf(cid, sizeof cid, "m%u", i);
        command = command_send("ann", conv, cid, "{\"text\":\"words\"}");
        cr_assert(eq(u64, nodelink_do(&gate, &command)->seq, i + 2));
    }
    command = command_edit("ann", conv, "e", 5, "{\"text\":\"better\"}");
    cr_assert(eq(u64, nodelink_do(&gate, &command)->seq, 12));
    command = command_delete("ann", conv, "d", 6);
    cr_assert(eq(u64, nodelink_do(&gate, &command)->seq, 13));
    arena_init(&arena);
    Loquat__Control run = compact_ask(LOQUAT__CONTROL_OP__CONTROL_RUN);
    cr_assert(eq(int, compact_node(dir, &run, &arena)->err, 0)); /* seals */
    nodelink_close(&gate);
    node_stop(node);
    id = conv_id_of(span_str(conv));
    partition = partition_of(id, PARTITIONS);
    kv = compact_data(dir, false);
    kv_batch_init(&batch, kv);
}

static inline void teardown(void)
{
    arena_close(&arena);
    buf_close(&value);
    scratch_remove(root);
}

static inline void put(enum kv_cf cf, struct key key)
{
    kv_put(&batch, cf, key_span(&key), buf_span(&value));
}

static inline void drop(enum kv_cf cf, struct key key)
{
    kv_delete(&batch, cf, key_span(&key));
}

static inline void get(enum kv_cf cf, struct key key)
{
    cr_assert(eq(int, kv_get(kv, cf, key_span(&key), &value), 0));
}

static inline struct key log_key(uint64_t seq)
{
    return key_seq(partition, id, seq);
}

/* Ends planting and verifies. */
static inline Loquat__Report *verify(void)
{
    cr_assert(eq(int, kv_write(&batch), 0));
    kv_batch_close(&batch);
    kv_close(kv);
    Loquat__Control ask = compact_ask(LOQUAT__CONTROL_OP__CONTROL_VERIFY);
    Loquat__Report *report = compact_at_rest(dir, PARTITIONS, &ask, &arena);
    cr_assert(eq(int, report->err, 0), "%s", report->msg);
    return report;
}

/* There is damage in this family at this place, and this word stands in what is said of it. */
static inline void expect(enum kv_cf cf, const char *name, uint64_t seq, const char *word)
{
    Loquat__Report *report = verify();
    bool found = false;
    cr_assert(lt(u64, 0, report->damage_count), "no damage was found");
    for (size_t i = 0; i < report->n_damages; i++) {
        const Loquat__Damage *damage = report->damages[i];
        found = found ||
                (strcmp(damage->family, kv_cf_name(cf)) == 0 && strcmp(damage->conv, name) == 0 &&
                 damage->seq == seq && strstr(damage->what, word) != NULL);
    }
    if (!found)
        for (size_t i = 0; i < report->n_damages; i++)
            fprintf(stderr, "%s, %s, %lu: %s\n", report->damages[i]->family,
                    report->damages[i]->conv, report->damages[i]->seq, report->damages[i]->what);
    cr_assert(found);
}

#endif
