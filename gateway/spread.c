#include "gateway/spread.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"

struct spread *spread_new(struct call *call, void (*done)(struct spread *spread))
{
    uint32_t count = call->conn->gate->cluster.partitions;
    struct spread *spread = xcalloc(1, sizeof *spread + count * sizeof *spread->parts);
    spread->call = call;
    spread->done = done;
    spread->count = count;
    for (uint32_t p = 0; p < count; p++)
        spread->parts[p].spread = spread;
    return spread;
}

static void fail(struct spread *spread, int err, const char *msg, uint64_t after_ms)
{
    if (spread->err != 0)
        return;
    spread->err = err;
    spread->after_ms = after_ms;
    snprintf(spread->why, sizeof spread->why, "%s", msg != NULL ? msg : "");
}

static void settle(struct spread *spread)
{
    if (--spread->left > 0)
        return;
    if (spread->err != 0)
        call_fail(spread->call, spread->err, spread->why, spread->after_ms);
    else
        spread->done(spread);
    if (spread->drop != NULL)
        spread->drop(spread->arg);
    free(spread);
}

static void on_reply(void *owner, const Loquat__Reply *reply)
{
    struct spread_part *part = owner;
    if (reply->err != 0) {
        fail(part->spread, reply->err, reply->msg, reply->after_ms);
    } else {
        part->first = reply->floor;
        part->head = reply->head;
        part->lag = reply->lag;
        part->lag_ms = reply->lag_ms;
        part->offset = reply->cursor != NULL ? reply->cursor->offset : reply->seq;
        part->generation = reply->cursor != NULL ? reply->cursor->generation : reply->n;
        part->ts = reply->cursor != NULL ? reply->cursor->ts : 0;
    }
    settle(part->spread);
}

/* `left` counts one more until all are asked: the last answer can't come before. */
void spread_read(struct spread *spread, Loquat__Read *read)
{
    struct cluster *cluster = &spread->call->conn->gate->cluster;
    spread->left = spread->count + 1;
    for (uint32_t p = 0; p < spread->count; p++) {
        read->partition = p;
        int err = cluster_read(cluster, read, on_reply, &spread->parts[p]);
        if (err != 0) {
            fail(spread, err, NULL, 0);
            spread->left--;
        }
    }
    settle(spread);
}

void spread_write(struct spread *spread, const Loquat__Command *command)
{
    struct cluster *cluster = &spread->call->conn->gate->cluster;
    spread->left = spread->count + 1;
    for (uint32_t p = 0; p < spread->count; p++) {
        int err = cluster_write(cluster, p, command, on_reply, &spread->parts[p]);
        if (err != 0) {
            fail(spread, err, NULL, 0);
            spread->left--;
        }
    }
    settle(spread);
}
