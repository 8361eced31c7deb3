/* tests/sim/cluster_readers.c: who reads: at any node that believes it leads, once it is confirmed
 * that it does (replication/readindex.h). What was acknowledged before a read began must be applied
 * where it is answered. Readers have dice and a net of their own: the rest of a run is the same
 * with them and without. */
#include <stdlib.h>

#include "store/base/check.h"
#include "tests/lib/dice.h"
#include "tests/sim/cluster.h"

enum { SPELL_MS = 700, LOST_PERCENT = 10, LONG_PERCENT = 40, LONG_MS = 1500, SHORT_MS = 30 };

struct reading {
    struct readindex_wait wait;
    struct node *node;
    struct reading *next; /* of the node */
    uint64_t least;       /* what must be applied */
    bool done;
};

static bool chance(unsigned percent)
{
    return dice_roll(&world.read_dice, 100) < percent;
}

/* ---- their net ---- */

static void on_send(void *arg, uint64_t to, enum link_type type, struct span message)
{
    const struct node *node = arg;
    unsigned a = node->number, b = (unsigned)to - 1;
    if (b >= world.nodes || world.cut[a][b] || chance(LOST_PERCENT))
        return;
    struct packet *packet = xcalloc(1, sizeof *packet);
    packet->from = a;
    packet->to = b;
    packet->type = type;
    packet->due_ms =
        sim_now_ms + 1 + dice_roll(&world.read_dice, chance(LONG_PERCENT) ? LONG_MS : SHORT_MS);
    buf_add_span(&packet->bytes, message);
    struct packet **at = &world.read_net;
    while (*at != NULL && (*at)->due_ms <= packet->due_ms)
        at = &(*at)->next;
    packet->next = *at;
    *at = packet;
}

static void deliver(const struct packet *packet)
{
    struct node *node = &world.node[packet->to];
    struct span bytes = buf_span(&packet->bytes);
    if (!node->up || world.cut[packet->from][packet->to])
        return;
    int err = packet->type == LINK_READ_PROBE
                  ? readindex_asked(&node->reads, packet->from + 1, bytes)
                  : readindex_answered(&node->reads, packet->from + 1, bytes);
    if (err != 0 && packet->type == LINK_READ_PROBE)
        fail("node %u does not understand a question", node->number);
}

/* ---- reads ---- */

static void on_done(struct readindex_wait *wait, int err)
{
    struct reading *reading = container_of(wait, struct reading, wait);
    const struct node *node = reading->node;
    reading->done = true;
    if (err != 0)
        return;
    world.reads++;
    if (node->shard.applied < reading->least)
        fail("a read at node %u saw entry %llu, and %llu was acknowledged before it began",
             node->number, (unsigned long long)node->shard.applied,
             (unsigned long long)reading->least);
}

static void begin(struct node *node)
{
    if (!node->shard.serving || (sim_now_ms / SPELL_MS + node->number) % 2 == 0)
        return; /* the last answer was given before the world changed */
    struct reading *reading = xcalloc(1, sizeof *reading);
    reading->node = node;
    reading->least = world.acked_index;
    reading->wait.done = on_done;
    reading->next = node->readings;
    node->readings = reading;
    if (sim_mutant("stale-read"))
        on_done(&reading->wait, 0);
    else
        readindex_add(&node->reads, 0, &reading->wait, sim_now_ms);
}

static void free_done(struct node *node, bool all)
{
    for (struct reading **at = &node->readings; *at != NULL;) {
        struct reading *reading = *at;
        if (!all && !reading->done) {
            at = &reading->next;
            continue;
        }
        *at = reading->next;
        free(reading);
    }
}

void readers_start(struct node *node)
{
    readindex_init(&node->reads, &node->shard, 1, node->number + 1, on_send, node);
}

void readers_end(struct node *node)
{
    readindex_close(&node->reads);
    free_done(node, true);
}

void readers_step(void)
{
    while (world.read_net != NULL && world.read_net->due_ms <= sim_now_ms && !world.failed) {
        struct packet *packet = world.read_net;
        world.read_net = packet->next;
        deliver(packet);
        packet_free(packet);
    }
    for (unsigned i = 0; i < world.nodes && !world.failed; i++) {
        struct node *node = &world.node[i];
        if (!node->up)
            continue;
        begin(node);
        readindex_turn(&node->reads, sim_now_ms);
        free_done(node, false);
    }
}
