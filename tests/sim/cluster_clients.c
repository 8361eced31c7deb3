/* tests/sim/cluster_clients.c: who writes: one message after the other, or a new member, sent again
 * under its cid to any node until it is answered. */
#include <stdlib.h>

#include "store/base/wire.h"
#include "tests/sim/cluster.h"

static void pack_next(struct client *client, struct buf *bytes)
{
    char cid[32], text[64], who[32];
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.user = (char *)(uintptr_t) "ann";
    command.conv = world.conv;
    command.cid = cid;
    snprintf(cid, sizeof cid, "k%llu", (unsigned long long)client->number);
    if (sim_mutant("no-cid") && client->number > 0)
        command.cid[0] = 0;
    if (client->number == 0) {
        command.op = LOQUAT__OP__OP_OPEN;
        command.conv_kind = LOQUAT__CONV_KIND__CONV_GROUP;
        command.name = (char *)(uintptr_t) "g";
    } else if (client->number % MEMBER_EVERY == 0) {
        snprintf(who, sizeof who, "m%llu", (unsigned long long)client->number);
        command.op = LOQUAT__OP__OP_MEMBER;
        command.set = 1; /* added: an effect on the list of that user */
        command.who = who;
    } else {
        snprintf(text, sizeof text, "{\"text\":\"k%llu\"}", (unsigned long long)client->number);
        command.op = LOQUAT__OP__OP_SEND;
        command.kind = LOQUAT__KIND__KIND_TEXT;
        command.body = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    }
    command_pack(&command, bytes);
}

static void next_message(struct client *client)
{
    client->waits = false;
    client->again_ms = sim_now_ms + sim_roll(world.rest_ms);
    if (!world.opened || world.cids + 1 >= CIDS_MAX)
        return;
    client->number = ++world.cids;
}

void on_client_answer(struct client *client, const struct waiter *waiter,
                      const struct apply_result *result)
{
    if (result->err == 0 && waiter->id >> 32 > 0) {
        uint64_t *acked = &world.acked[waiter->id >> 32];
        if (*acked != 0 && *acked != result->seq)
            fail("k%llu was acknowledged at %llu, and at %llu",
                 (unsigned long long)(waiter->id >> 32), (unsigned long long)*acked,
                 (unsigned long long)result->seq);
        *acked = result->seq;
    }
    if ((uint32_t)waiter->id != (uint32_t)client->attempt)
        return; /* of an attempt that was given up */
    if (result->err == 0) {
        world.opened = true;
        next_message(client);
    } else {
        client->waits = false;
        client->again_ms = sim_now_ms + 20 + sim_roll(100);
    }
}

void client_step(struct client *client)
{
    if (client->again_ms > sim_now_ms || (world.calm && !client->waits))
        return;
    if (!world.opened && client != world.client)
        return;
    if (world.opened && client->number == 0)
        next_message(client);
    struct node *node = &world.node[sim_roll(world.nodes)];
    struct buf bytes = {0};
    client->attempt = ++world.attempts;
    client->waits = true;
    uint64_t patience = world.patience_ms; /* then it is tried again */
    client->again_ms = sim_now_ms + patience / 3 + sim_roll(patience);
    pack_next(client, &bytes);
    struct waiter waiter = {.kind = WAITER_PEER,
                            .owner = client,
                            .id = client->number << 32 | (uint32_t)client->attempt};
    if (!node->up || shard_write(&node->shard, buf_span(&bytes), waiter) != 0)
        client->again_ms = sim_now_ms + 5 + sim_roll(60);
    buf_close(&bytes);
}
