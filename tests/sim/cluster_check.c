/* tests/sim/cluster_check.c: what must hold when all is healed. */
#include <stdarg.h>
#include <stdlib.h>

#include "replication/rsnap.h"
#include "store/base/check.h"
#include "store/base/record.h"
#include "store/key.h"
#include "tests/sim/cluster.h"

void fail(const char *format, ...)
{
    char why[200];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!world.failed)
        printf("seed %llu, %llu ms: %s\n", (unsigned long long)world.seed,
               (unsigned long long)sim_now_ms, why);
    world.failed = true;
}

static struct node *first_up(void)
{
    return world.node[0].fenced ? &world.node[1] : &world.node[0];
}

static uint64_t count(const struct node *node, enum kv_cf cf, int tag)
{
    struct key from = key_partition(0), until = key_partition(1);
    struct kv_iter iter;
    uint64_t n = 0;
    kv_iter_open(&iter, node->data, NULL, cf, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter))
        n += tag < 0 || kv_iter_key(&iter).p[KEY_CONV_SIZE] == tag;
    kv_iter_close(&iter);
    return n;
}

bool all_equal(void)
{
    uint64_t applied = first_up()->shard.applied, last = 0;
    for (unsigned i = 0; i < world.nodes; i++) {
        const struct shard *shard = &world.node[i].shard;
        if (world.node[i].fenced)
            continue;
        if (!world.node[i].up || shard->applied != applied)
            return false;
        /* Others may have entries behind it that were never committed: an idle leader says
         * nothing of them. */
        if (rcore_state(shard->core) != RCORE_LEADER)
            continue;
        last = rcore_last_index(shard->core);
        if (!newcomer_is_in(shard) || !leavers_are_back(shard))
            return false;
    }
    if (last != applied)
        return false;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (world.client[i].waits)
            return false;
    return count(first_up(), KV_OUT, -1) == 0;
}

/* How many users have the conversation in their list. */
static uint64_t count_lists(const struct node *node)
{
    return count(node, KV_USER, KEY_TAG_LIST);
}

void check_node(struct node *node)
{
    const struct shard *shard = &node->shard;
    uint64_t stored = rcore_last_stored(shard->core);
    uint64_t changes = rcore_uncommitted_conf_index(shard->core);
    if (rcore_installing(shard->core) || rsnap_leaving(shard))
        return;
    if (rlog_get(&shard->log, stored) != NULL &&
        !sim_journal_has(node->journal, stored, rlog_term_at(&shard->log, stored)))
        fail("node %u takes entry %llu for durable, which is not", node->number,
             (unsigned long long)stored);
    const struct rlog_entry *change = rlog_get(&shard->log, changes);
    if (changes > 0 && (change == NULL || change->type != RCORE_CHANGE))
        fail("node %u takes entry %llu for a configuration", node->number,
             (unsigned long long)changes);
}

/* The log of the conversation: dense, and every cid at most once, where it was acknowledged. */
static void check_log(const struct node *node)
{
    struct conv_id id = conv_id_of(span_str(world.conv));
    struct key from = key_seq(0, id, 0), until = key_seq(0, id, UINT64_MAX);
    uint64_t *found = xcalloc(CIDS_MAX, sizeof *found), seq = 0, members = 0;
    struct kv_iter iter;
    kv_iter_open(&iter, node->data, NULL, KV_LOG, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); kv_iter_valid(&iter); kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter);
        Loquat__Record *record = NULL;
        uint64_t at = get_be64(key.p + key.n - 8), number = 0;
        if (at != ++seq)
            fail("a gap before sequence %llu", (unsigned long long)at);
        if (record_decode(kv_iter_value(&iter), NULL, &record) != 0)
            fail("sequence %llu is damaged", (unsigned long long)at);
        else if (record->kind == LOQUAT__KIND__KIND_TEXT)
            number = strtoull((const char *)record->body.data + 10, NULL, 10);
        else if (record->cid[0] == 'k')
            number = strtoull(record->cid + 1, NULL, 10);
        members += number > 0 && record != NULL && record->kind == LOQUAT__KIND__KIND_MEMBER;
        if (number >= CIDS_MAX || (number > 0 && found[number] != 0))
            fail("k%llu is there twice", (unsigned long long)number);
        else
            found[number] = at;
        if (record != NULL)
            loquat__record__free_unpacked(record, NULL);
    }
    kv_iter_close(&iter);
    members += seq > 0; /* who made it; there is none where nobody was up long enough */
    if (count_lists(node) != members)
        fail("%llu members, and %llu who know it", (unsigned long long)members,
             (unsigned long long)count_lists(node));
    for (uint64_t i = 1; i <= world.cids; i++)
        if (world.acked[i] != 0 && found[i] != world.acked[i])
            fail("k%llu was acknowledged at %llu and is at %llu", (unsigned long long)i,
                 (unsigned long long)world.acked[i], (unsigned long long)found[i]);
    free(found);
}

void check_end(void)
{
    static const enum kv_cf FAMILIES[] = {KV_LOG, KV_FOLD, KV_USER, KV_FEED, KV_OUT};
    const struct node *first = first_up();
    check_log(first);
    for (size_t f = 0; f < sizeof FAMILIES / sizeof *FAMILIES; f++)
        for (unsigned i = 0; i < world.nodes; i++)
            if (!world.node[i].fenced && sim_kv_hash(world.node[i].data, FAMILIES[f]) !=
                                             sim_kv_hash(first->data, FAMILIES[f]))
                fail("nodes %u and %u differ in family %d", first->number, i, (int)FAMILIES[f]);
}

void trace_nodes(void)
{
    for (unsigned i = 0; i < world.nodes && world.trace; i++) {
        const struct shard *shard = &world.node[i].shard;
        struct rcore_server servers[NODES_MAX];
        if (!world.node[i].up)
            continue;
        size_t count = rcore_servers(shard->core, servers, NODES_MAX);
        printf("         node %u: state %d, term %llu, leader %llu, log to %llu, stored %llu, "
               "committed %llu, applied %llu, voters",
               i, (int)rcore_state(shard->core), (unsigned long long)rcore_term(shard->core),
               (unsigned long long)rcore_leader(shard->core),
               (unsigned long long)rcore_last_index(shard->core),
               (unsigned long long)rcore_last_stored(shard->core),
               (unsigned long long)rcore_commit_index(shard->core),
               (unsigned long long)shard->applied);
        for (size_t s = 0; s < count; s++)
            if (servers[s].voter)
                printf(" %llu", (unsigned long long)servers[s].id);
        printf("\n");
    }
    for (unsigned i = 0; i < CLIENTS && world.trace; i++)
        printf("         client %u %s\n", i, world.client[i].waits ? "waits" : "rests");
}
