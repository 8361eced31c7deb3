/* cluster FIRST COUNT [--mutant NAME] [--season N] [--trace | --messages]: a partition on three or
 * five nodes, simulated by seed: the real shard, rlog, rcore and state machine; a net that loses,
 * delays and is cut, one way or both; disks that are slow; logs that are trimmed, so that snapshots
 * go around; crashes that lose what was not synced; clients that send again.
 * Always: one leader in a term; no read is old; what was committed stays as it is, and is the same
 *         everywhere. At the end, when all is healed: every node has the same rows, sequences
 *         without a gap, and what was acknowledged once, where it was said to be. Last line: `N
 *         passed, N failed`. */
#include <getopt.h>
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/command.h"
#include "tests/sim/cluster.h"

struct world world;

/* ---- the net ---- */

void packet_free(struct packet *packet)
{
    buf_close(&packet->bytes);
    free(packet);
}

static void set_version(struct buf *bytes)
{
    Loquat__Raft *message = loquat__raft__unpack(NULL, bytes->n, (const uint8_t *)bytes->p);
    message->version = 0;
    bytes->n = 0;
    size_t size = loquat__raft__get_packed_size(message);
    loquat__raft__pack(message, (uint8_t *)buf_grow(bytes, size));
    loquat__raft__free_unpacked(message, NULL);
}

/* At moments that are short, or rare, a crash must not be left to chance alone. */
static bool doomed(void)
{
    return !world.calm && sim_chance(world.doom);
}

static bool is_vote(struct span bytes)
{
    Loquat__Raft *message = loquat__raft__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
    bool vote = message->kind == LOQUAT__RAFT_KIND__RAFT_VOTE_RESULT && message->granted &&
                !message->pre_vote;
    loquat__raft__free_unpacked(message, NULL);
    return vote;
}

void node_say(struct node *node, uint64_t to, enum link_type type, struct span message)
{
    if (world.doom > 0 && type == LINK_RAFT && is_vote(message) && doomed())
        node->doomed = true;
    unsigned a = node->number, b = (unsigned)to - 1;
    if (b >= world.nodes || world.cut[a][b] || (!world.calm && sim_chance(3)))
        return;
    struct packet *packet = xcalloc(1, sizeof *packet);
    packet->from = a;
    packet->to = b;
    packet->type = type;
    packet->due_ms = sim_now_ms + 1 + sim_roll(sim_chance(world.lag) ? 600 : 15);
    if (packet->due_ms < world.link_ms[a][b]) /* a link keeps the order */
        packet->due_ms = world.link_ms[a][b];
    world.link_ms[a][b] = packet->due_ms;
    buf_add_span(&packet->bytes, message);
    if (type == LINK_RAFT && sim_mutant("wrong-version"))
        set_version(&packet->bytes);
    struct packet **at = &world.net;
    while (*at != NULL && (*at)->due_ms <= packet->due_ms)
        at = &(*at)->next;
    packet->next = *at;
    *at = packet;
}

static void on_message(void *arg, uint64_t to, enum link_type type, struct span message)
{
    node_say(arg, to, type, message);
}

static void trace_message(const struct node *node, const Loquat__Raft *message)
{
    TRACE("node %llu to %u: kind %u, term %llu, index %llu of term %llu, %zu entries, commit %llu, "
          "rejected %llu%s%s%s",
          (unsigned long long)message->from - 1, node->number, message->kind,
          (unsigned long long)message->term, (unsigned long long)message->index,
          (unsigned long long)message->index_term, message->n_entries,
          (unsigned long long)message->commit, (unsigned long long)message->rejected,
          message->granted ? ", granted" : "", message->pre_vote ? ", pre-vote" : "",
          message->disrupt ? ", disrupt" : "");
}

static void deliver_raft(struct node *node, unsigned from, struct span bytes)
{
    Loquat__Raft *message = loquat__raft__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
    ASSERT(message != NULL && message->partition == 0);
    if (world.trace_messages)
        trace_message(node, message);
    int err = shard_receive(&node->shard, message, sim_now_ms);
    if (err != 0)
        fail("node %u refuses a message of node %u: %s", node->number, from, err_name(err));
    loquat__raft__free_unpacked(message, NULL);
}

static void deliver(struct packet *packet)
{
    struct node *node = &world.node[packet->to];
    struct span bytes = buf_span(&packet->bytes);
    if (!node->up || world.cut[packet->from][packet->to])
        return;
    if (packet->type == LINK_RAFT) {
        deliver_raft(node, packet->from, bytes);
    } else if (packet->type == LINK_LEADS) {
        leavers_told(node, bytes);
    } else if (packet->type == LINK_CHUNK) {
        Loquat__Chunk *chunk = loquat__chunk__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
        shard_chunk(&node->shard, chunk, sim_now_ms);
        loquat__chunk__free_unpacked(chunk, NULL);
    } else {
        Loquat__ChunkReply *reply =
            loquat__chunk_reply__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
        shard_chunk_reply(&node->shard, reply, sim_now_ms);
        loquat__chunk_reply__free_unpacked(reply, NULL);
    }
}

/* ---- a node ---- */

static void on_owed(void *arg, struct owed *owed)
{
    effects_put(&((struct node *)arg)->effects, owed);
}

static void on_answer(void *arg, const struct waiter *waiter, const struct apply_result *result)
{
    struct node *node = arg;
    if (result->err == 0 && waiter->kind == WAITER_PEER && node->shard.applied > world.acked_index)
        world.acked_index = node->shard.applied;
    if (waiter->kind == WAITER_PEER && node->up)
        on_client_answer(waiter->owner, waiter, result);
    if (waiter->kind == WAITER_OUT)
        effects_answer(&node->effects, waiter->owner, result);
}

static void on_applied(void *arg, struct shard *shard, const struct applied *applied)
{
    struct node *node = arg;
    uint64_t index = shard->applied;
    const struct rlog_entry *entry = rlog_get(&shard->log, index);
    ASSERT(entry != NULL && index < INDEX_MAX);
    uint64_t hash = XXH3_64bits_withSeed(entry->bytes, entry->size, entry->term);
    for (size_t i = 0; i < applied->record_count; i++) {
        const struct apply_record *record = &applied->records[i];
        hash = XXH3_64bits_withSeed(record->bytes.p, record->bytes.n, hash + record->seq);
    }
    if (hash == 0)
        hash = 1;
    if (world.digest[index] != 0 && world.digest[index] != hash)
        fail("node %u applied another entry %llu", node->number, (unsigned long long)index);
    if (world.digest[index] == 0)
        world.commits++;
    world.digest[index] = hash;
}

static void on_state(void *arg, struct shard *shard)
{
    (void)arg, (void)shard;
}

void node_bootstrap(struct node *node)
{
    struct rcore_server servers[NODES_MAX];
    char addresses[NODES_MAX][16];
    struct journal_batch batch = {.at = sim_journal_next(node->journal)};
    struct rlog log;
    for (unsigned i = 0; i < world.nodes; i++) {
        snprintf(addresses[i], sizeof addresses[i], "%u", i + 1);
        servers[i] = (struct rcore_server){i + 1, addresses[i], true};
    }
    rlog_bootstrap(&log, &batch, 0, servers, world.nodes);
    (void)journal_write(node->journal, &batch);
    journal_batch_close(&batch);
    rlog_close(&log);
    watermark_put(node->mark, 0, (struct watermark_row){1, 1, 0});
}

static void drop_parts(struct node *node)
{
    node->up = false;
    readers_end(node);
    sim_applier_crash(node->applier);
    shard_close(&node->shard);
    sim_wal_crash(node->wal);
}

/* Its log has lost something that it had promised: it stays out. */
static void fence(struct node *node)
{
    TRACE("node %u does not start: damaged", node->number);
    drop_parts(node);
    node->fenced = true;
    newcomer_expected(node);
}

void node_crash(struct node *node)
{
    TRACE("node %u crashes", node->number);
    node->doomed = false;
    drop_parts(node);
    sim_kv_crash(node->data);
    node->power_cut = sim_chance(30);
    if (node->power_cut)
        sim_mark_power_cut(node->mark);
    effects_close(&node->effects);
    if (!world.closing)
        connections_break(node->number);
}

static uint32_t trailing_of(const struct node *node)
{
    return world.uneven && node->number % 2 == 0 ? UNEVEN_TRAILING : world.weather.trailing;
}

static void on_segment(void *arg)
{
    struct node *node = arg;
    rlog_put_state(&node->shard.log, wal_batch(node->wal));
}

/* What replication/node_journal.c does when logs were trimmed. */
void node_tidy(struct node *node, bool moves)
{
    struct rlog *log = &node->shard.log;
    uint64_t newest = journal_segment(wal_batch(node->wal)->at), oldest = rlog_oldest(log), moved;
    if (oldest > newest)
        oldest = newest;
    wal_release(node->wal, oldest);
    if (moves && rlog_move(log, node->wal, oldest + 1 + sim_roll(2), MOVE_BYTES, &moved) != 0)
        fail("node %u can't read an entry that is to be moved", node->number);
}

/* Its log, as the journal tells it, in which it goes on. */
static int load_log(struct node *node, struct rlog *log, uint64_t *at)
{
    struct journal_batch batch = {.at = sim_journal_next(node->journal)};
    int err = sim_journal_load(node->journal, log);
    if (err == 0) {
        rlog_put_state(log, &batch);
        (void)journal_write(node->journal, &batch);
        *at = journal_after(&batch);
    }
    journal_batch_close(&batch);
    return err;
}

void node_start(struct node *node)
{
    struct rlog log;
    struct wal_events events = {.on_segment = on_segment, .arg = node};
    uint64_t at = 0;
    int err = load_log(node, &log, &at);
    if (err == ERR_CORRUPT && node->damaged) {
        TRACE("node %u does not start: damaged", node->number);
        node->fenced = true;
        newcomer_expected(node);
        return;
    }
    if (err != 0) {
        fail("the log of node %u can't be read: %s", node->number, err_name(err));
        return;
    }
    node->up = true;
    node->wal = wal_new(NULL, node->journal, at, &events);
    if (world.slow_disk && node->number == 0)
        sim_wal_slow(node->wal, 1000);
    node->applier = applier_new(NULL, node->data);
    effects_init(&node->effects, &node->shard, 1);
    readers_start(node);
    node->env = (struct shard_env){.id = node->number + 1,
                                   .data = node->data,
                                   .dir = "",
                                   .trailing = trailing_of(node),
                                   .entry_version = ENTRY_VERSION,
                                   .eager = node->number % 2 == 0 ? 1 : SHARD_INFLIGHT_MAX,
                                   .chunk_bytes = CHUNK_BYTES,
                                   .mark_bytes = MARK_BYTES,
                                   .wal = node->wal,
                                   .applier = node->applier,
                                   .mark = node->mark,
                                   .on_answer = on_answer,
                                   .on_applied = on_applied,
                                   .on_owed = on_owed,
                                   .on_state = on_state,
                                   .on_message = on_message,
                                   .arg = node};
    err = shard_start(&node->shard, &log, 1, &node->env);
    if (err != 0 && sim_kv_torn(node->data)) { /* again, next time */
        node_crash(node);
        return;
    }
    if (err == ERR_CORRUPT && node->damaged) {
        fence(node);
        return;
    }
    if (err != 0)
        fail("node %u does not start: %s", node->number, err_name(err));
    TRACE("node %u starts", node->number);
}

void node_change(struct node *node, const struct rcore_server *servers, size_t count)
{
    struct buf conf = {0};
    rcore_encode_conf(servers, count, &conf);
    if (shard_change(&node->shard, buf_span(&conf), sim_now_ms) == 0) {
        TRACE("node %u: %zu servers now", node->number, count);
        world.changes++;
    }
    buf_close(&conf);
}

static void look_at_leader(struct node *node)
{
    if (rcore_state(node->shard.core) != RCORE_LEADER)
        return;
    uint64_t term = rcore_term(node->shard.core);
    if (term >= TERMS_MAX)
        return;
    unsigned before = world.leader[term];
    if (before != 0 && before != node->number + 1)
        fail("two leaders in term %llu: nodes %u and %u", (unsigned long long)term, before - 1,
             node->number);
    if (before == 0) {
        TRACE("node %u leads in term %llu", node->number, (unsigned long long)term);
        world.elections++;
    }
    world.leader[term] = node->number + 1;
}

static void node_step(struct node *node)
{
    sim_wal_work(node->wal);
    sim_applier_work(node->applier);
    if (sim_kv_torn(node->data)) { /* in the middle of an installation */
        node_crash(node);
        world.crashes++;
        return;
    }
    effects_retry(&node->effects);
    shard_tick(&node->shard, sim_now_ms);
    shard_turn(&node->shard, sim_now_ms);
    if (sim_wal_cuts(node->wal) && doomed())
        node->doomed = true;
    wal_kick(node->wal);
    look_at_leader(node);
    check_node(node);
    if (node->doomed)
        node_crash(node);
}

/* ---- the world ---- */

static void start_all(void)
{
    for (unsigned i = 0; i < world.nodes; i++)
        if (!world.node[i].up && !world.node[i].fenced)
            node_start(&world.node[i]);
}

static void calm_down(void)
{
    world.calm = true;
    sim_slow = world.lag = 3;
    memset(world.cut, 0, sizeof world.cut);
}

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void move_time(void)
{
    uint64_t next = sim_now_ms + STEP_MS;
    if (world.net != NULL)
        next = min(next, world.net->due_ms);
    for (unsigned i = 0; i < world.nodes; i++) {
        const struct node *node = &world.node[i];
        if (!node->up)
            continue;
        next = min(next, sim_wal_due(node->wal));
        next = min(next, sim_applier_due(node->applier));
        next = min(next, rcore_next_ms(node->shard.core));
    }
    sim_now_ms = next > sim_now_ms ? next : sim_now_ms + 1;
}

static void step(void)
{
    move_time();
    while (world.net != NULL && world.net->due_ms <= sim_now_ms && !world.failed) {
        struct packet *packet = world.net;
        world.net = packet->next;
        deliver(packet);
        packet_free(packet);
    }
    for (unsigned i = 0; i < CLIENTS && !world.failed; i++)
        client_step(&world.client[i]);
    for (unsigned i = 0; i < world.nodes && !world.failed; i++)
        if (world.node[i].up)
            node_step(&world.node[i]);
    if (!world.failed)
        newcomer_step();
    if (!world.failed)
        leavers_step();
    if (!world.failed)
        readers_step();
}

static void open_world(uint64_t seed)
{
    world = (struct world){.seed = seed, .read_dice = seed, .newcomer_dice = ~seed};
    sim_seed = seed;
    sim_now_ms = 1000;
    world.nodes = sim_chance(40) ? 3 : 5;
    world.members_change = world.nodes == NODES_MAX && sim_chance(70);
    choose_weather();
    leavers_expected();
    group_id(span_str("ann"), span_str("k0"), world.conv);
    for (unsigned i = 0; i < world.nodes; i++) {
        struct node *node = &world.node[i];
        node->number = i;
        node->journal = sim_journal_new();
        node->data = sim_kv_new();
        node->mark = sim_mark_new();
        node_bootstrap(node);
        node_start(node);
    }
}

static void close_world(void)
{
    world.closing = true;
    for (unsigned i = 0; i < world.nodes; i++) {
        struct node *node = &world.node[i];
        if (node->up)
            node_crash(node);
        sim_journal_free(node->journal);
        sim_kv_free(node->data);
        sim_mark_free(node->mark);
    }
    for (struct packet *packet; (packet = world.net) != NULL;) {
        world.net = packet->next;
        packet_free(packet);
    }
    for (struct packet *packet; (packet = world.read_net) != NULL;) {
        world.read_net = packet->next;
        packet_free(packet);
    }
}

static bool run(uint64_t seed, int trace)
{
    open_world(seed);
    world.trace = trace > 0;
    world.trace_messages = trace > 1;
    while (sim_now_ms < STORM_MS && !world.failed) {
        step();
        faults();
    }
    calm_down();
    while (!world.failed && !all_equal()) {
        start_all();
        step();
        if (sim_now_ms > STORM_MS + HEAL_MS) {
            trace_nodes();
            fail("the nodes do not come to rest");
        }
    }
    if (!world.failed)
        check_end();
    close_world();
    return !world.failed;
}

int main(int argc, char **argv)
{
    static const struct option LONG[] = {{"mutant", required_argument, NULL, 'm'},
                                         {"trace", no_argument, NULL, 't'},
                                         {"messages", no_argument, NULL, 'a'},
                                         {"season", required_argument, NULL, 's'},
                                         {0}};
    int trace = 0;
    const char *mutant = NULL;
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        if (c == 'm')
            mutant = optarg;
        else if (c == 't')
            trace = 1;
        else if (c == 'a')
            trace = 2;
        else if (c == 's')
            world_season = (int)strtol(optarg, NULL, 10);
        else
            return 2;
    }
    uint64_t first = optind < argc ? strtoull(argv[optind], NULL, 10) : 0;
    uint64_t count = optind + 1 < argc ? strtoull(argv[optind + 1], NULL, 10) : 0;
    if (first == 0 || count == 0) {
        fprintf(stderr,
                "usage: cluster FIRST COUNT [--mutant NAME] [--season N] [--trace | --messages], "
                "numbers from 1 on\n");
        return 2;
    }
    log_setup("cluster", LOG_ERROR, LOG_TEXT);
    sim_set_mutant(mutant);
    uint64_t passed = 0, failures = 0, commits = 0, crashes = 0, elections = 0, acked = 0;
    uint64_t changes = 0, newcomers = 0, leaves = 0, reads = 0;
    for (uint64_t seed = first; seed < first + count && failures < FAILURES_MAX; seed++) {
        bool fine = run(seed, trace);
        passed += fine;
        failures += !fine;
        commits += world.commits;
        crashes += world.crashes;
        elections += world.elections;
        changes += world.changes;
        newcomers += world.newcomers;
        leaves += world.leaves;
        reads += world.reads;
        acked += world.cids;
        if (!fine)
            printf("  again: %s %llu 1 --trace%s%s\n", argv[0], (unsigned long long)seed,
                   mutant != NULL ? " --mutant " : "", mutant != NULL ? mutant : "");
    }
    printf("%llu entries, %llu messages, %llu crashes, %llu elections, %llu changes of members, "
           "%llu snapshots, %llu of them resumed, %llu newcomers, %llu who left, %llu reads\n",
           (unsigned long long)commits, (unsigned long long)acked, (unsigned long long)crashes,
           (unsigned long long)elections, (unsigned long long)changes,
           (unsigned long long)sim_installs, (unsigned long long)sim_resumes,
           (unsigned long long)newcomers, (unsigned long long)leaves, (unsigned long long)reads);
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failures);
    return failures > 0;
}
