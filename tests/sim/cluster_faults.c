/* tests/sim/cluster_faults.c: what happens to nodes, disks and links, and how often. */
#include "store/base/check.h"
#include "tests/sim/cluster.h"

enum { RECEIVER_STEPS = 20 }; /* of a snapshot, until it crashes: few have so many */

/* What a disk does to a node that is down; to one of them at most: the others have a majority. */
static void harm(struct node *node)
{
    if (!world.harmed && !world.members_change && sim_chance(world.loss)) {
        TRACE("node %u is gone for good", node->number);
        world.harmed = node->fenced = true;
        newcomer_expected(node);
        return;
    }
    if (sim_mutant("same-id-after-wipe") && sim_chance(20)) {
        sim_journal_clear(node->journal);
        sim_kv_clear(node->data);
        node_bootstrap(node);
    }
    if (world.harmed || world.members_change || node->power_cut || !sim_chance(20))
        return;
    world.harmed = node->damaged = true;
    sim_journal_damage(node->journal);
}

/* One server gets a vote or loses it; three keep one. Not the leader: it would have to go first. */
static void change_members(struct node *node)
{
    struct rcore *core = node->shard.core;
    struct rcore_server servers[NODES_MAX];
    size_t count = rcore_servers(core, servers, NODES_MAX), voters = 0;
    if (count == 0)
        return;
    size_t at = sim_roll(count);
    for (size_t i = 0; i < count; i++)
        voters += servers[i].voter;
    if (rcore_state(core) != RCORE_LEADER || rcore_transferring(core) ||
        servers[at].id == node->number + 1 || (servers[at].voter && voters <= 3))
        return;
    struct buf conf = {0};
    servers[at].voter = !servers[at].voter;
    rcore_encode_conf(servers, count, &conf);
    if (rcore_change(core, buf_span(&conf), sim_now_ms) == 0) {
        TRACE("node %u: server %llu is %s", node->number, (unsigned long long)servers[at].id,
              servers[at].voter ? "a voter" : "none");
        world.changes++;
    }
    buf_close(&conf);
}

static bool once_in(unsigned steps)
{
    return sim_roll(steps) == 0;
}

static void split(void) /* two groups that do not hear each other */
{
    uint64_t group = sim_roll(1u << world.nodes);
    for (unsigned i = 0; i < world.nodes; i++)
        for (unsigned j = 0; j < world.nodes; j++)
            world.cut[i][j] = (group >> i & 1) != (group >> j & 1);
}

void connections_break(unsigned to)
{
    for (unsigned i = 0; i < world.nodes; i++) {
        struct node *other = &world.node[i];
        if (i != to && other->up && !world.cut[to][i])
            shard_lost(&other->shard, to + 1, sim_now_ms);
    }
}

static void cut_links(unsigned a, unsigned b)
{
    const struct weather *weather = &world.weather;
    if (once_in(weather->cut) && a != b) {
        world.cut[a][b] = true;
        world.cut[b][a] = world.cut[b][a] || sim_chance(50);
    }
    if (once_in(weather->alone)) {
        if (sim_chance(50))
            connections_break(a);
        for (unsigned i = 0; i < world.nodes; i++)
            world.cut[a][i] = world.cut[i][a] = i != a;
    }
    if (once_in(weather->split))
        split();
    if (once_in(weather->heal))
        world.cut[a][b] = world.cut[b][a] = false;
    if (once_in(weather->whole))
        memset(world.cut, 0, sizeof world.cut);
}

void faults(void)
{
    const struct weather *weather = &world.weather;
    unsigned a = (unsigned)sim_roll(world.nodes), b = (unsigned)sim_roll(world.nodes);
    bool receives = world.node[a].up && world.node[a].shard.in != NULL; /* a snapshot */
    if (world.node[a].up && (once_in(weather->crash) || (receives && once_in(RECEIVER_STEPS)))) {
        node_crash(&world.node[a]);
        world.crashes++;
    }
    if (once_in(weather->start) && !world.node[b].up && !world.node[b].fenced) {
        harm(&world.node[b]);
        if (!world.node[b].fenced)
            node_start(&world.node[b]);
    }
    cut_links(a, b);
    if (!world.node[a].up)
        return;
    if (once_in(weather->flush))
        sim_kv_flush(world.node[a].data);
    if (once_in(weather->trim)) {
        shard_trim(&world.node[a].shard, world.node[a].data, sim_now_ms);
        node_tidy(&world.node[a], once_in(weather->move));
    }
    if (world.members_change && once_in(weather->change))
        change_members(&world.node[a]);
    if (once_in(weather->crash)) /* a connection breaks, and nothing else */
        shard_lost(&world.node[a].shard, b + 1, sim_now_ms);
    if (once_in(weather->transfer))
        (void)rcore_transfer(world.node[a].shard.core, 0, sim_now_ms);
}

static unsigned about(unsigned steps) /* from an eighth of it to eight times as many */
{
    unsigned times = steps << sim_roll(7);
    return times >= 8 ? times / 8 : 1;
}

int world_season = -1;

enum { SEASON_LEAVERS = 6 }; /* behind those that are rolled for */

/* What is rare in any weather, but for one that is made for it. */
static void choose_season(void)
{
    struct weather *weather = &world.weather;
    uint64_t season = sim_roll(6);
    switch (world_season >= 0 ? (uint64_t)world_season : season) {
    case 0: /* leaders whose entries come to nothing, while they are being written */
        weather->split = 250;
        weather->whole = 120;
        sim_slow = 40;
        world.slow_disk = true;
        break;
    case 1: /* the last two of three, neither of which has it all */
        world.nodes = 3;
        world.members_change = false;
        world.loss = 100;
        world.rest_ms = 2000;
        weather->crash = 200;
        weather->start = 200;
        weather->alone = 100;
        break;
    case 2: /* logs that begin just now, beside long ones */
        weather->flush = weather->trim = 8;
        weather->trailing = 0;
        weather->cut = 150;
        weather->heal = 40;
        world.lag = 60;
        world.uneven = true;
        break;
    case 3: /* leaders that are cut off, while clients turn to others at once */
        weather->crash = 4000;
        weather->alone = 60;
        weather->whole = 60;
        world.loss = 0;
        world.patience_ms = 60;
        break;
    case 4: /* nodes that begin with nothing, and trim at once what they get, some of it twice */
        world.nodes = 3;
        world.members_change = false;
        world.loss = 100;
        weather->crash = 300;
        weather->start = 100;
        weather->flush = weather->trim = 6;
        weather->trailing = 1;
        weather->cut = 150;
        weather->heal = 40;
        world.lag = 60;
        world.uneven = true;
        break;
    case SEASON_LEAVERS: /* who goes and comes at once */
        world.nodes = NODES_MAX;
        world.members_change = true;
        world.loss = 0;
        world.lag = 60;
        weather->crash = 1500;
        weather->start = 200;
        weather->transfer = 1000;
        weather->change = 4;
        break;
    default:
        break;
    }
}

void choose_weather(void)
{
    world.weather = (struct weather){.crash = about(400),
                                     .start = about(100),
                                     .cut = about(300),
                                     .alone = about(500),
                                     .heal = about(60),
                                     .split = about(300),
                                     .whole = about(100),
                                     .flush = about(50),
                                     .trim = about(50),
                                     .move = 3,
                                     .change = about(30),
                                     .transfer = about(600),
                                     .trailing = (uint32_t)sim_roll(TRAILING_MAX + 1)};
    sim_slow = sim_chance(30) ? 40 : 3;
    world.lag = 5;
    world.rest_ms = 30;
    world.patience_ms = 1500;
    world.doom = sim_chance(30) ? 30 : 0;
    world.loss = sim_chance(30) ? 30 : 0;
    choose_season();
    if (world.nodes == 3 && world.weather.trailing == 0)
        world.weather.trailing = 1; /* a newcomer may be sent everything: rcore.h on index 1 */
}
