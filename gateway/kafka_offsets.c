/* gateway/kafka_offsets.c: committed offsets, which are the cursors of consumers. Clients commit
 * where they go on, a cursor is behind what was read: one less. */
#include "gateway/kafka_inside.h"
#include "store/base/err.h"

/* ---- commits ---- */

static uint64_t place_of(int64_t offset)
{
    return offset > KAFKA_OFFSET_MIN ? (uint64_t)offset - 1 : KAFKA_OFFSET_MIN - 1;
}

/* Of a member: under the generation of who coordinates. Else only where there are no members. */
static int ask_commit(struct kafka_ask *ask)
{
    struct kafka_conn *conn = ask->asks->conn;
    const struct kafka_lease *lease = ask->asks->arg;
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_CURSOR;
    command.user = conn->user;
    command.consumer = (char *)(uintptr_t)lease->name;
    command.step =
        lease->keeps ? LOQUAT__CURSOR_STEP__CURSOR_MOVE : LOQUAT__CURSOR_STEP__CURSOR_SET;
    command.generation = lease->generation;
    command.offset = place_of(ask->part->offset);
    return cluster_write(&conn->kafka->cluster, (uint32_t)ask->part->p, &command, kafka_asks_reply,
                         ask);
}

static void on_commit(struct kafka_ask *ask, const Loquat__Reply *reply)
{
    switch (reply->err) {
    case 0:
        break;
    case ERR_BAD_REQUEST:
        ask->err = KAFKA_OFFSET_OUT_OF_RANGE;
        break;
    case ERR_CONFLICT: /* another gateway has it */
    case ERR_NOT_FOUND:
        ask->err = KAFKA_NOT_COORDINATOR;
        break;
    default:
        ask->err = KAFKA_COORDINATOR_NOT_AVAILABLE;
    }
}

static void say_commit(struct buf *out, const struct kafka_ask *ask)
{
    kafka_i16(out, ask->err);
}

static void say_commits(struct kafka_asks *asks)
{
    struct kafka_conn *conn = asks->conn;
    bool lost = false;
    for (size_t i = 0; i < asks->count; i++)
        lost = lost || asks->asks[i].err == KAFKA_NOT_COORDINATOR;
    struct kafka_group *group = kafka_group_find(conn->kafka, conn->request.group);
    kafka_asks_say(asks, kafka_answer(conn), say_commit);
    kafka_answered(conn);
    if (lost && group != NULL) /* another gateway has it, or the consumer was deleted */
        kafka_group_lost(group, KAFKA_NOT_COORDINATOR);
}

static void fail_commits(struct kafka_conn *conn, int16_t err)
{
    struct kafka_asks *asks = kafka_asks_new(conn);
    for (size_t i = 0; i < asks->count; i++)
        asks->asks[i].err = err;
    kafka_asks_say(asks, kafka_answer(conn), say_commit);
    kafka_answered(conn);
}

static void commit(struct kafka_conn *conn, struct kafka_lease *lease)
{
    struct kafka_asks *asks = kafka_asks_new(conn);
    asks->arg = lease; /* looked at before the return only */
    asks->ask = ask_commit;
    asks->on_reply = on_commit;
    asks->done = say_commits;
    kafka_asks_start(asks);
}

/* Nobody else is at work on the consumer, and it is there. */
static void on_free(struct kafka_lease *lease)
{
    struct kafka_conn *conn = lease->arg;
    if (!conn->closed && lease->err == KAFKA_NONE)
        commit(conn, lease);
    else if (!conn->closed)
        fail_commits(conn, lease->err);
    kafka_lease_drop(lease);
    kafka_conn_unref(conn);
}

static void commit_alone(struct kafka_conn *conn)
{
    struct kafka_lease *lease =
        kafka_lease_new(conn->kafka, conn->request.group, conn->user, false);
    lease->arg = conn;
    lease->done = on_free;
    kafka_conn_ref(conn);
    kafka_lease_take(lease);
}

void kafka_do_commit(struct kafka_conn *conn)
{
    const struct kafka_request *request = &conn->request;
    struct kafka_group *group = kafka_group_find(conn->kafka, request->group);
    bool alone = request->generation < 0 && request->member.n == 0;
    int16_t err = KAFKA_UNKNOWN_MEMBER_ID;
    if (group != NULL)
        err = kafka_group_check(group, request);
    if (!user_valid(request->group))
        fail_commits(conn, KAFKA_INVALID_GROUP_ID);
    else if (group == NULL && alone)
        commit_alone(conn);
    else if (err != KAFKA_NONE)
        fail_commits(conn, err);
    else if (group->state == KAFKA_SYNCING)
        fail_commits(conn, KAFKA_REBALANCE_IN_PROGRESS);
    else
        commit(conn, group->lease);
}

/* ---- what was committed ---- */

static int ask_cursor(struct kafka_ask *ask)
{
    struct kafka_conn *conn = ask->asks->conn;
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CURSOR;
    read.partition = (uint32_t)ask->part->p;
    read.after = ask->asks->arg;
    return cluster_read(&conn->kafka->cluster, &read, kafka_asks_reply, ask);
}

/* A cursor may be ahead of the last record, a client's place not. */
static void on_cursor(struct kafka_ask *ask, const Loquat__Reply *reply)
{
    if (reply->err != 0 && reply->err != ERR_NOT_FOUND)
        ask->err = KAFKA_COORDINATOR_NOT_AVAILABLE;
    if (reply->err != 0 || reply->cursor == NULL || reply->cursor->offset == 0)
        return;
    uint64_t end = kafka_end_of(reply->head), at = reply->cursor->offset + 1;
    ask->offset = (int64_t)(at < end ? at : end);
}

static void say_cursor(struct buf *out, const struct kafka_ask *ask)
{
    kafka_i64(out, ask->offset);
    kafka_text(out, (struct span){0}); /* metadata is not kept */
    kafka_i16(out, ask->err);
}

static void say_cursors(struct kafka_asks *asks)
{
    struct kafka_conn *conn = asks->conn;
    struct buf *out = kafka_answer(conn);
    kafka_asks_say(asks, out, say_cursor);
    if (conn->request.version >= 2)
        kafka_i16(out, KAFKA_NONE);
    kafka_answered(conn);
}

static void ask_cursors(struct kafka_conn *conn)
{
    struct kafka_asks *asks = kafka_asks_new(conn);
    const struct span *group = &conn->request.group;
    asks->arg = arena_copy(&conn->arena, group->n > 0 ? group->p : "", group->n);
    asks->ask = ask_cursor;
    asks->on_reply = on_cursor;
    asks->done = say_cursors;
    kafka_asks_start(asks);
}

/* Whoever had the partition before can't move its cursor from here on. */
static int ask_take(struct kafka_ask *ask)
{
    struct kafka_conn *conn = ask->asks->conn;
    const struct kafka_lease *lease = ask->asks->arg;
    Loquat__Command command = LOQUAT__COMMAND__INIT;
    command.op = LOQUAT__OP__OP_CURSOR;
    command.user = conn->user;
    command.consumer = (char *)(uintptr_t)lease->name;
    command.step = LOQUAT__CURSOR_STEP__CURSOR_TAKE;
    command.generation = lease->generation;
    return cluster_write(&conn->kafka->cluster, (uint32_t)ask->part->p, &command, kafka_asks_reply,
                         ask);
}

static void after_take(struct kafka_asks *asks)
{
    struct kafka_conn *conn = asks->conn;
    struct kafka_group *group = kafka_group_find(conn->kafka, conn->request.group);
    int16_t err = KAFKA_NONE;
    for (size_t i = 0; i < asks->count; i++)
        if (err == KAFKA_NONE && asks->asks[i].err != KAFKA_UNKNOWN_TOPIC_OR_PARTITION)
            err = asks->asks[i].err;
    if (err == KAFKA_NONE) {
        ask_cursors(conn);
        return;
    }
    say_cursors(asks);
    if (err == KAFKA_NOT_COORDINATOR && group != NULL)
        kafka_group_lost(group, err);
}

static void name_all(struct kafka_conn *conn)
{
    struct kafka_request *request = &conn->request;
    uint32_t count = conn->kafka->cluster.partitions;
    struct kafka_topic *topic = arena_alloc(&conn->arena, sizeof *topic);
    *topic = (struct kafka_topic){.name = span_str(KAFKA_TOPIC), .count = count};
    topic->parts = arena_alloc(&conn->arena, count * sizeof *topic->parts);
    for (uint32_t p = 0; p < count; p++)
        topic->parts[p] = (struct kafka_part){.p = (int32_t)p};
    request->topics = topic;
    request->topic_count = 1;
}

void kafka_do_offsets(struct kafka_conn *conn)
{
    struct kafka_group *group = kafka_group_find(conn->kafka, conn->request.group);
    if (conn->request.all_topics)
        name_all(conn);
    struct kafka_asks *asks = kafka_asks_new(conn);
    if (!user_valid(conn->request.group)) {
        for (size_t i = 0; i < asks->count; i++)
            asks->asks[i].err = KAFKA_INVALID_GROUP_ID;
        say_cursors(asks);
    } else if (group == NULL || !group->lease->held) {
        ask_cursors(conn);
    } else {
        asks->arg = group->lease;
        asks->ask = ask_take;
        asks->on_reply = on_commit;
        asks->done = after_take;
        kafka_asks_start(asks);
    }
}
