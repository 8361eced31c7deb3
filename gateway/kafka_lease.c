/* gateway/kafka_lease.c: a group's consumer in the store. Who coordinates the group is its one
 * worker: another gateway takes it only when nobody else is there, or was not heard of in time.
 * Should two believe that they have it, generations say which of them moves cursors
 * (docs/PROTOCOL.md). */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/kafka_inside.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

struct kafka_lease *kafka_lease_new(struct kafka *kafka, struct span name, const char *user,
                                    bool keeps)
{
    struct kafka_lease *lease = xcalloc(1, sizeof *lease);
    lease->kafka = kafka;
    lease->keeps = keeps;
    lease->refs = 1;
    memcpy(lease->name, name.p, name.n);
    snprintf(lease->user, sizeof lease->user, "%s", user);
    return lease;
}

static void unref(struct kafka_lease *lease)
{
    if (--lease->refs == 0)
        free(lease);
}

static Loquat__Command command_of(struct kafka_lease *lease, uint32_t op)
{
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = op;
    command.user = lease->user;
    command.consumer = lease->name;
    command.worker = lease->kafka->worker;
    return command;
}

/* 0, or it is not to be had for now. */
static int write_one(struct kafka_lease *lease, uint32_t p, const Loquat__Command *command,
                     upstream_done done)
{
    int err = cluster_write(&lease->kafka->cluster, p, command, done, lease);
    lease->refs += err == 0;
    return err;
}

static int look(struct kafka_lease *lease, upstream_done done)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONSUMERS;
    read.conv = lease->name;
    int err = cluster_read(&lease->kafka->cluster, &read, done, lease);
    lease->refs += err == 0;
    return err;
}

/* The answer to the first way to it, or that it is not held any more. */
static void settle(struct kafka_lease *lease, int16_t err)
{
    bool had = lease->held;
    if (lease->gone)
        return;
    lease->held = err == KAFKA_NONE;
    lease->err = err;
    if (!had)
        lease->done(lease);
    else if (err != KAFKA_NONE)
        lease->lost(lease, err);
}

static int16_t refusal(const Loquat__Reply *reply)
{
    return reply->err == ERR_BAD_REQUEST || reply->err == ERR_TOO_LARGE
               ? KAFKA_INVALID_GROUP_ID
               : KAFKA_COORDINATOR_NOT_AVAILABLE;
}

/* Somebody else is at work on it. */
static bool taken(const struct kafka_lease *lease, const Loquat__Consumer *consumer)
{
    uint64_t now = clock_wall_ms();
    for (size_t i = 0; i < consumer->n_workers; i++)
        if (consumer->workers[i]->until > now &&
            strcmp(consumer->workers[i]->name, lease->kafka->worker) != 0) {
            log_warn("a Kafka group is coordinated elsewhere", {"consumer", log_str(lease->name)},
                     {"worker", log_str(consumer->workers[i]->name)},
                     {"do", log_str("let all members of a group connect to one gateway")});
            return true;
        }
    return false;
}

/* ---- registered ---- */

static void on_checked(void *owner, const Loquat__Reply *reply)
{
    struct kafka_lease *lease = owner;
    bool fine = reply->err == 0 && reply->n_consumers == 1;
    bool late = lease->asked_ms > lease->heard_ms + KAFKA_LEASE_MS;
    if (lease->gone) {
        unref(lease);
        return;
    }
    /* Who has it and was heard of in time keeps it: the other one sees that, and goes. */
    if (fine && (!lease->held || late) && taken(lease, reply->consumers[0]))
        settle(lease, lease->held ? KAFKA_NOT_COORDINATOR : KAFKA_COORDINATOR_NOT_AVAILABLE);
    else if (fine) {
        lease->generation = reply->consumers[0]->generation;
        lease->heard_ms = lease->asked_ms;
        settle(lease, KAFKA_NONE);
    } else if (!lease->held || reply->err == ERR_NOT_FOUND)
        settle(lease, KAFKA_COORDINATOR_NOT_AVAILABLE);
    unref(lease);
}

static void on_registered(void *owner, const Loquat__Reply *reply)
{
    struct kafka_lease *lease = owner;
    bool same = lease->held && reply->err == 0 && reply->seq == lease->generation;
    lease->asking = false;
    if (same)
        lease->heard_ms = lease->asked_ms;
    else if (!lease->gone && (reply->err != 0 || look(lease, on_checked) != 0) &&
             (!lease->held || reply->err == ERR_NOT_FOUND))
        settle(lease, refusal(reply));
    unref(lease);
}

static void put_worker(struct kafka_lease *lease)
{
    Loquat__Command command = command_of(lease, LOQUAT__OP__OP_WORKER);
    command.ttl_ms = KAFKA_LEASE_MS;
    lease->registered = true;
    lease->asked_ms = kafka_now(lease->kafka);
    if (!lease->held)
        lease->heard_ms = lease->asked_ms;
    lease->asking = write_one(lease, 0, &command, on_registered) == 0;
    if (!lease->asking && !lease->held)
        settle(lease, KAFKA_COORDINATOR_NOT_AVAILABLE);
}

static void found(struct kafka_lease *lease)
{
    if (lease->keeps)
        put_worker(lease);
    else
        settle(lease, KAFKA_NONE);
}

/* ---- made, where there was none ---- */

static void on_made(void *owner, const Loquat__Reply *reply)
{
    struct kafka_lease *lease = owner;
    if (!lease->gone && reply->err != 0)
        settle(lease, refusal(reply));
    else if (!lease->gone)
        found(lease);
    unref(lease);
}

static void begun(struct kafka_lease *lease)
{
    Loquat__Command command = command_of(lease, LOQUAT__OP__OP_CONSUMER);
    if (--lease->left > 0 || lease->gone)
        return;
    if (lease->err == KAFKA_NONE && write_one(lease, 0, &command, on_made) != 0)
        lease->err = KAFKA_COORDINATOR_NOT_AVAILABLE;
    if (lease->err != KAFKA_NONE)
        settle(lease, lease->err);
}

static void on_begun(void *owner, const Loquat__Reply *reply)
{
    struct kafka_lease *lease = owner;
    if (reply->err != 0)
        lease->err = refusal(reply);
    begun(lease);
    unref(lease);
}

/* In every partition a place at the start, which says as well that nothing was committed there. */
static void make(struct kafka_lease *lease)
{
    Loquat__Command command = command_of(lease, LOQUAT__OP__OP_CURSOR);
    command.step = LOQUAT__CURSOR_STEP__CURSOR_BEGIN;
    lease->left = 1;
    for (uint32_t p = 0; p < lease->kafka->cluster.partitions; p++) {
        if (write_one(lease, p, &command, on_begun) == 0)
            lease->left++;
        else
            lease->err = KAFKA_COORDINATOR_NOT_AVAILABLE;
    }
    begun(lease);
}

static void on_found(void *owner, const Loquat__Reply *reply)
{
    struct kafka_lease *lease = owner;
    const Loquat__Consumer *consumer = reply->n_consumers == 1 ? reply->consumers[0] : NULL;
    if (lease->gone)
        ;
    else if (reply->err == ERR_NOT_FOUND)
        make(lease);
    else if (consumer != NULL && consumer->webhook != NULL)
        settle(lease, KAFKA_INVALID_GROUP_ID);
    else if (reply->err != 0 || consumer == NULL || taken(lease, consumer))
        settle(lease, KAFKA_COORDINATOR_NOT_AVAILABLE);
    else
        found(lease);
    unref(lease);
}

void kafka_lease_take(struct kafka_lease *lease)
{
    if (look(lease, on_found) != 0)
        settle(lease, KAFKA_COORDINATOR_NOT_AVAILABLE);
}

void kafka_lease_tick(struct kafka_lease *lease)
{
    if (lease->held && !lease->asking &&
        kafka_now(lease->kafka) >= lease->asked_ms + KAFKA_RENEW_MS)
        put_worker(lease);
}

static void on_left(void *owner, const Loquat__Reply *reply)
{
    struct kafka_lease *lease = owner;
    (void)reply;
    lease->kafka->leaving--;
    unref(lease);
}

void kafka_lease_drop(struct kafka_lease *lease)
{
    Loquat__Command command = command_of(lease, LOQUAT__OP__OP_WORKER);
    lease->gone = true;
    if (lease->registered && write_one(lease, 0, &command, on_left) == 0)
        lease->kafka->leaving++;
    unref(lease);
}
