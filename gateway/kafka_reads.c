/* gateway/kafka_reads.c: what there is: the topic, who serves it, where its partitions begin and
 * end; and how several partitions are asked for one request. */
#include "gateway/kafka_inside.h"
#include "store/base/err.h"
#include "store/base/record.h"

/* ---- several partitions ---- */

bool kafka_part_known(const struct kafka *kafka, const struct kafka_topic *topic, int32_t p)
{
    return span_is(topic->name, KAFKA_TOPIC) && p >= 0 && (uint32_t)p < kafka->cluster.partitions;
}

struct kafka_asks *kafka_asks_new(struct kafka_conn *conn)
{
    const struct kafka_request *request = &conn->request;
    struct kafka_asks *asks = arena_alloc(&conn->arena, sizeof *asks);
    *asks = (struct kafka_asks){.conn = conn};
    for (size_t i = 0; i < request->topic_count; i++)
        asks->count += request->topics[i].count;
    asks->asks = arena_alloc(&conn->arena, asks->count * sizeof *asks->asks + 1);
    struct kafka_ask *ask = asks->asks;
    for (size_t i = 0; i < request->topic_count; i++)
        for (size_t j = 0; j < request->topics[i].count; j++)
            *ask++ = (struct kafka_ask){.asks = asks,
                                        .topic = &request->topics[i],
                                        .part = &request->topics[i].parts[j],
                                        .offset = -1,
                                        .ms = -1};
    return asks;
}

static void settle(struct kafka_asks *asks)
{
    struct kafka_conn *conn = asks->conn;
    if (--asks->left == 0 && !conn->closed)
        asks->done(asks);
    kafka_conn_unref(conn);
}

void kafka_asks_reply(void *owner, const Loquat__Reply *reply)
{
    struct kafka_ask *ask = owner;
    ask->asks->on_reply(ask, reply);
    settle(ask->asks);
}

/* `left` counts one more until all are asked: the last answer can't come before. */
void kafka_asks_start(struct kafka_asks *asks)
{
    kafka_conn_ref(asks->conn);
    asks->left = 1;
    for (size_t i = 0; i < asks->count; i++) {
        struct kafka_ask *ask = &asks->asks[i];
        if (!kafka_part_known(asks->conn->kafka, ask->topic, ask->part->p)) {
            ask->err = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
            continue;
        }
        int err = asks->ask(ask);
        if (err != 0) {
            Loquat__Reply reply = LOQUAT__REPLY__INIT;
            reply.err = err;
            asks->on_reply(ask, &reply);
            continue;
        }
        asks->left++;
        kafka_conn_ref(asks->conn);
    }
    settle(asks);
}

void kafka_asks_say(struct kafka_asks *asks, struct buf *out,
                    void (*say)(struct buf *out, const struct kafka_ask *ask))
{
    const struct kafka_request *request = &asks->conn->request;
    const struct kafka_ask *ask = asks->asks;
    kafka_i32(out, (int32_t)request->topic_count);
    for (size_t i = 0; i < request->topic_count; i++) {
        const struct kafka_topic *topic = &request->topics[i];
        kafka_text(out, topic->name);
        kafka_i32(out, (int32_t)topic->count);
        for (size_t j = 0; j < topic->count; j++, ask++) {
            kafka_i32(out, ask->part->p);
            say(out, ask);
        }
    }
}

/* ---- the topic ---- */

static void say_broker(struct buf *out, const struct kafka *kafka)
{
    kafka_i32(out, kafka->node);
    kafka_text(out, span_str(kafka->advertise.host));
    kafka_i32(out, kafka->port);
}

static void say_topic(struct buf *out, const struct kafka *kafka, struct span name)
{
    bool known = span_is(name, KAFKA_TOPIC);
    uint32_t count = known ? kafka->cluster.partitions : 0;
    kafka_i16(out, known ? KAFKA_NONE : KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    kafka_text(out, name);
    kafka_i8(out, 0); /* none of Kafka's own */
    kafka_i32(out, (int32_t)count);
    for (uint32_t p = 0; p < count; p++) {
        kafka_i16(out, KAFKA_NONE);
        kafka_i32(out, (int32_t)p);
        kafka_i32(out, kafka->node); /* who leads it, has it, has all of it: this gateway */
        kafka_i32(out, 1);
        kafka_i32(out, kafka->node);
        kafka_i32(out, 1);
        kafka_i32(out, kafka->node);
    }
}

void kafka_do_metadata(struct kafka_conn *conn)
{
    const struct kafka *kafka = conn->kafka;
    const struct kafka_request *request = &conn->request;
    struct buf *out = kafka_answer(conn);
    if (request->version >= 3)
        kafka_i32(out, 0); /* no throttling */
    kafka_i32(out, 1);
    say_broker(out, kafka);
    kafka_no_text(out); /* its rack */
    if (request->version >= 2)
        kafka_text(out, span_str(kafka->cluster.name));
    kafka_i32(out, kafka->node); /* the controller */
    kafka_i32(out, request->all_topics ? 1 : (int32_t)request->topic_count);
    if (request->all_topics)
        say_topic(out, kafka, span_str(KAFKA_TOPIC));
    for (size_t i = 0; i < request->topic_count; i++)
        say_topic(out, kafka, request->topics[i].name);
    kafka_answered(conn);
}

void kafka_do_coordinator(struct kafka_conn *conn)
{
    struct buf *out = kafka_answer(conn);
    kafka_i16(out, KAFKA_NONE);
    say_broker(out, conn->kafka);
    kafka_answered(conn);
}

/* ---- what can't be written ---- */

static void say_refused(struct buf *out, const struct kafka_ask *ask)
{
    (void)ask;
    kafka_i16(out, KAFKA_TOPIC_AUTHORIZATION_FAILED);
    kafka_i64(out, -1);
    kafka_i64(out, -1);
}

void kafka_do_produce(struct kafka_conn *conn)
{
    if (conn->request.acks == 0) {
        kafka_refuse(conn, KAFKA_REFUSED_MALFORMED, "it writes, and wants no answer");
        return;
    }
    struct buf *out = kafka_answer(conn);
    kafka_asks_say(kafka_asks_new(conn), out, say_refused);
    kafka_i32(out, 0); /* no throttling */
    kafka_answered(conn);
}

/* ---- where partitions begin and end ---- */

static int ask_offset(struct kafka_ask *ask)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED;
    read.partition = (uint32_t)ask->part->p;
    read.bytes_max = 1;
    if (ask->part->offset > 0) { /* a time */
        read.at = (uint64_t)ask->part->offset;
        read.max = 1;
    }
    return cluster_read(&ask->asks->conn->kafka->cluster, &read, kafka_asks_reply, ask);
}

static void on_offset(struct kafka_ask *ask, const Loquat__Reply *reply)
{
    if (reply->err != 0) {
        ask->err = reply->err == ERR_CORRUPT ? KAFKA_STORAGE_ERROR : KAFKA_NOT_LEADER;
    } else if (ask->part->offset == KAFKA_TIME_LATEST) {
        ask->offset = (int64_t)kafka_end_of(reply->head);
    } else if (ask->part->offset <= 0) {
        ask->offset = (int64_t)(reply->floor != 0 ? reply->floor : kafka_end_of(0));
    } else if (reply->n_feed == 1) { /* else there is none so late */
        ask->offset = (int64_t)reply->feed[0]->offset;
        ask->ms = ask->part->offset;
    }
}

static void say_offset(struct buf *out, const struct kafka_ask *ask)
{
    kafka_i16(out, ask->err);
    kafka_i64(out, ask->ms);
    kafka_i64(out, ask->offset);
}

static void say_offsets(struct kafka_asks *asks)
{
    kafka_asks_say(asks, kafka_answer(asks->conn), say_offset);
    kafka_answered(asks->conn);
}

void kafka_do_list_offsets(struct kafka_conn *conn)
{
    struct kafka_asks *asks = kafka_asks_new(conn);
    asks->ask = ask_offset;
    asks->on_reply = on_offset;
    asks->done = say_offsets;
    kafka_asks_start(asks);
}
