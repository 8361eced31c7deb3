#include "replication/cluster_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "replication/cluster_ask.h"
#include "replication/cluster_plan.h"
#include "store/base/ids.h"
#include "store/base/program.h"

enum {
    CHANGES_AT_ONCE = 8, /* partitions that get another node, or lose one */
    TRANSFER_ASKS = 20,  /* half a second each */
};

static const struct cluster_options *options;
static struct roster roster; /* who is asked: those that were named, and who is to come */
static struct arena arena;
static Loquat__ClusterState *answers[ROSTER_NODES_MAX]; /* in the arena: of the last ask */

static void ask_all(const Loquat__ClusterAsk *ask)
{
    arena_reset(&arena);
    cluster_ask(&roster, options->secret, options->tls, ask, &arena, answers);
    for (size_t i = 0; i < roster.count; i++)
        if (answers[i] != NULL && answers[i]->err != 0)
            program_fail(answers[i]->msg);
}

static void ask_status(void)
{
    Loquat__ClusterAsk ask = LOQUAT__CLUSTER_ASK__INIT;
    ask.op = LOQUAT__CLUSTER_OP__CLUSTER_STATUS;
    ask_all(&ask);
}

static void pause_between(void)
{
    static const struct timespec PAUSE = {.tv_nsec = 500000000};
    nanosleep(&PAUSE, NULL);
}

static int say_status(void)
{
    struct buf out = {0};
    ask_status();
    options->json ? cluster_json(&roster, answers, &out) : cluster_text(&roster, answers, &out);
    fwrite(out.p, 1, out.n, stdout);
    buf_close(&out);
    return cluster_well(&roster, answers) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- who holds what ---- */

/* What is to be: of each partition. */
static struct plan_set wanted[PARTITIONS_MAX];
static uint64_t going; /* the node that somebody wants to be rid of; 0: none */

static const Loquat__PartitionState *served(uint32_t partition)
{
    return cluster_served(&roster, answers, partition);
}

/* How many partitions there are, all of which are served now, and who holds them: else it can't be
 * said what has to be done. */
static uint32_t read_sets(struct plan_set *nodes)
{
    uint32_t count = 0;
    for (int i = 0; i < TRANSFER_ASKS && count == 0; i++) {
        if (i > 0)
            pause_between();
        ask_status();
        nodes->count = 0;
        count = (uint32_t)cluster_partitions(&roster, answers);
        for (uint32_t p = 0; p < count; p++) {
            const Loquat__PartitionState *state = served(p);
            wanted[p].count = 0;
            for (size_t k = 0; state != NULL && k < state->n_replicas; k++) {
                uint64_t id = state->replicas[k]->id;
                if (!state->replicas[k]->voter && !cluster_reached(&roster, answers, id))
                    continue; /* it was to come, and has not: whoever wants it says so again */
                plan_put(&wanted[p], id);
                plan_put(nodes, id);
            }
            if (state == NULL)
                count = 0;
        }
    }
    if (count == 0)
        program_fail("a partition has no leader that answers: name all nodes in --cluster, look at "
                     "`cluster status`, and bring back nodes until most of those of each "
                     "partition are there");
    return count;
}

/* The next thing to do for a partition: false: nothing, it is as it should be. Who goes and is away
 * goes first: as long as it counts, a newcomer gets no vote (rcore_change). Else who comes is there
 * before anybody goes. */
static bool next_change(uint32_t partition, Loquat__ClusterChange *change, bool *wait)
{
    const Loquat__PartitionState *state = served(partition);
    uint64_t missing = 0, drop = 0, add = 0;
    struct plan_set has = {0};
    *wait = state == NULL;
    for (size_t k = 0; state != NULL && k < state->n_replicas; k++) {
        uint64_t id = state->replicas[k]->id;
        if (state->replicas[k]->voter)
            plan_put(&has, id);
        else if (plan_has(&wanted[partition], id))
            *wait = true; /* it is catching up */
        if (plan_has(&wanted[partition], id))
            continue;
        drop = id;
        if (!cluster_reached(&roster, answers, id) && (id == going || !state->replicas[k]->voter))
            missing = id;
    }
    for (size_t k = 0; k < wanted[partition].count && !*wait; k++)
        if (!plan_has(&has, wanted[partition].ids[k]))
            add = wanted[partition].ids[k];
    change->partition = partition;
    change->node = missing != 0 ? missing : *wait ? 0 : add != 0 ? add : drop;
    change->address = (char *)(uintptr_t) "";
    if (change->node == 0 || change->node != add)
        return change->node != 0 || *wait;
    const struct roster_node *node = roster_find(&roster, add);
    if (node == NULL)
        program_fail("a node that is to get a partition is not in --cluster: name all of them");
    else
        change->address = (char *)(uintptr_t)node->name;
    return true;
}

/* A newcomer gets no vote while one is missing that counts. */
static bool say_missing(void)
{
    uint64_t id = cluster_missing(&roster, answers);
    if (id == going) /* 0, when there is none */
        return false;
    if (id != 0)
        fprintf(stderr,
                "node %llu has votes and is away: a newcomer gets none until it is back. If it "
                "is lost: loquat-node cluster remove %llu\n",
                (unsigned long long)id, (unsigned long long)id);
    return id != 0;
}

/* Until every partition is where it should be. */
static void make_so(uint32_t count)
{
    bool warned = false;
    uint32_t right = 0;
    while (right < count) {
        Loquat__ClusterChange changes[CHANGES_AT_ONCE], *each[CHANGES_AT_ONCE];
        Loquat__ClusterAsk ask = LOQUAT__CLUSTER_ASK__INIT;
        ask.op = LOQUAT__CLUSTER_OP__CLUSTER_CHANGE;
        ask.changes = each;
        size_t busy = 0;
        right = 0;
        for (uint32_t p = 0; p < count; p++) {
            Loquat__ClusterChange change = LOQUAT__CLUSTER_CHANGE__INIT;
            bool wait = false;
            if (!next_change(p, &change, &wait)) {
                right++;
            } else if (busy < CHANGES_AT_ONCE) {
                busy++;
                changes[ask.n_changes] = change;
                each[ask.n_changes] = &changes[ask.n_changes];
                ask.n_changes += change.node != 0;
            }
        }
        options->show(right, "partitions are where they should be", (double)right / (double)count);
        if (right == count)
            break;
        ask_all(&ask);
        warned = warned || say_missing();
        pause_between();
        ask_status();
    }
}

/* Says once how the node is started that is to come. */
static void say_how(const struct roster_node *node, uint32_t count)
{
    const Loquat__ClusterState *some = NULL;
    for (size_t i = 0; i < roster.count; i++)
        some = answers[i] != NULL ? answers[i] : some;
    if (some == NULL)
        return; /* not reached: it was asked how many partitions there are */
    fprintf(stderr,
            "start it, if it is not there yet: loquat-node --id %llu --data DIR --join %s "
            "--partitions %u --cluster %s,%llu=%s --cluster-secret-file %s%s\n",
            (unsigned long long)node->id, some->cluster, count, options->cluster,
            (unsigned long long)node->id, node->name, options->secret_file,
            options->tls != NULL ? " --tls-cert FILE --tls-key FILE --tls-ca FILE" : "");
}

/* From here on it is asked, too: it will lead some of the partitions. */
static void know(const struct roster_node *node)
{
    size_t at = 0;
    if (roster_find(&roster, node->id) != NULL)
        return;
    if (roster.count == ROSTER_NODES_MAX)
        program_fail("there are as many nodes as there can be");
    while (at < roster.count && roster.nodes[at].id < node->id)
        at++;
    for (size_t i = roster.count++; i > at; i--)
        roster.nodes[i] = roster.nodes[i - 1];
    roster.nodes[at] = *node;
}

static int add(const char *text)
{
    static struct roster one;
    char why[512] = "";
    struct plan_set nodes;
    if (!roster_parse(text, &one, why, sizeof why) || one.count != 1)
        program_usage("cluster add: ", why[0] != '\0' ? why : "one node at a time: ID=HOST:PORT");
    uint32_t count = read_sets(&nodes);
    if (!plan_has(&nodes, one.nodes[0].id))
        say_how(&one.nodes[0], count);
    (void)say_missing();
    know(&one.nodes[0]);
    plan_put(&nodes, one.nodes[0].id);
    plan_spread(wanted, count, &nodes, options->replicas);
    make_so(count);
    printf("added node %llu\n", (unsigned long long)one.nodes[0].id);
    return EXIT_SUCCESS;
}

static int remove_node(uint64_t id)
{
    struct plan_set nodes;
    uint32_t count = read_sets(&nodes);
    going = id;
    plan_drop(&nodes, id);
    if (nodes.count == 0)
        program_fail("it is the last one: nobody would hold anything");
    plan_spread(wanted, count, &nodes, options->replicas);
    make_so(count);
    printf("removed node %llu\n", (unsigned long long)id);
    return EXIT_SUCCESS;
}

static int spread(void)
{
    struct plan_set nodes;
    uint32_t count = read_sets(&nodes);
    plan_spread(wanted, count, &nodes, options->replicas);
    make_so(count);
    printf("spread over %zu nodes\n", nodes.count);
    return EXIT_SUCCESS;
}

static int move(uint64_t partition, uint64_t from, uint64_t to)
{
    struct plan_set nodes;
    uint32_t count = read_sets(&nodes);
    if (partition >= count)
        program_fail("there is no such partition: they are numbered from 0 on");
    if (!plan_has(&wanted[partition], from) && !plan_has(&wanted[partition], to))
        program_fail("neither of the two nodes holds the partition: look at `cluster status`");
    going = from;
    plan_drop(&wanted[partition], from);
    plan_put(&wanted[partition], to);
    make_so(count);
    printf("moved partition %llu from node %llu to node %llu\n", (unsigned long long)partition,
           (unsigned long long)from, (unsigned long long)to);
    return EXIT_SUCCESS;
}

/* ---- who leads what ---- */

static int transfer(uint64_t partition, uint64_t to)
{
    Loquat__ClusterAsk ask = LOQUAT__CLUSTER_ASK__INIT;
    ask.op = LOQUAT__CLUSTER_OP__CLUSTER_TRANSFER;
    ask.partition = (uint32_t)partition;
    ask.node = to;
    for (int i = 0; i < TRANSFER_ASKS; i++) {
        ask_all(&ask);
        const Loquat__PartitionState *state = served((uint32_t)partition);
        if (state != NULL && state->leader == to) {
            printf("node %llu leads partition %llu\n", (unsigned long long)to,
                   (unsigned long long)partition);
            return EXIT_SUCCESS;
        }
        pause_between();
    }
    program_fail("it did not come to lead the partition: does it hold it, is it there, and not "
                 "behind? Look at `cluster status`");
}

static int drain(uint64_t id, bool drained)
{
    Loquat__ClusterAsk ask = LOQUAT__CLUSTER_ASK__INIT;
    ask.op = drained ? LOQUAT__CLUSTER_OP__CLUSTER_DRAIN : LOQUAT__CLUSTER_OP__CLUSTER_UNDRAIN;
    ask.node = id;
    size_t most = 1, leads = 1;
    for (bool first = true; first || (drained && leads > 0); first = false) {
        if (!first)
            pause_between();
        ask_all(&ask);
        const Loquat__ClusterState *state = cluster_state_of(&roster, answers, id);
        if (state == NULL)
            program_fail("that node does not answer, or is not in --cluster");
        leads = cluster_leads(state);
        most = leads > most ? leads : most;
        if (drained)
            options->show(most - leads, "partitions are led by others",
                          (double)(most - leads) / (double)most);
    }
    printf(drained ? "drained node %llu: it leads nothing, also when it starts again, until "
                     "`cluster undrain`\n"
                   : "node %llu may lead again\n",
           (unsigned long long)id);
    return EXIT_SUCCESS;
}

/* ---- what is meant ---- */

static uint64_t number(const char *text, const char *what)
{
    char *end = NULL;
    uint64_t value = strtoull(text, &end, 10);
    if (*end != '\0' || text[0] < '0' || text[0] > '9')
        program_usage(what, text);
    return value;
}

static uint64_t node_number(const char *text)
{
    static const char WHAT[] = "write the number of a node, and not ";
    uint64_t id = number(text, WHAT);
    if (id == 0 || id > UINT32_MAX)
        program_usage(WHAT, text);
    return id;
}

static uint64_t partition_number(const char *text)
{
    static const char WHAT[] = "write the number of a partition, and not ";
    uint64_t partition = number(text, WHAT);
    if (partition >= PARTITIONS_MAX)
        program_usage(WHAT, text);
    return partition;
}

int cluster_command(int argc, char **argv, const struct cluster_options *given)
{
    options = given;
    roster = *given->roster;
    const char *verb = argc > 1 && strcmp(argv[0], "cluster") == 0 ? argv[1] : "";
    arena_init(&arena);
    if (roster.count == 0)
        program_usage("which nodes? ", "Give --cluster");
    if (argc == 2 && strcmp(verb, "status") == 0)
        return say_status();
    if (argc == 2 && strcmp(verb, "spread") == 0)
        return spread();
    if (argc == 3 && strcmp(verb, "add") == 0)
        return add(argv[2]);
    if (argc == 3 && strcmp(verb, "remove") == 0)
        return remove_node(node_number(argv[2]));
    if (argc == 3 && (strcmp(verb, "drain") == 0 || strcmp(verb, "undrain") == 0))
        return drain(node_number(argv[2]), verb[0] == 'd');
    if (argc == 4 && strcmp(verb, "transfer") == 0)
        return transfer(partition_number(argv[2]), node_number(argv[3]));
    if (argc == 5 && strcmp(verb, "move") == 0)
        return move(partition_number(argv[2]), node_number(argv[3]), node_number(argv[4]));
    program_usage("what it can be told is:\n" CLUSTER_USAGE "\nbut not: ", argv[argc - 1]);
}
