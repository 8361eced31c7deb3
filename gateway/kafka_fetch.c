/* gateway/kafka_fetch.c: records of the topic. A fetch reads all of its partitions at once; where
 * nothing is, it waits for one of them to get something. That is asked once for each partition,
 * however many wait for it. */
#include <stdlib.h>

#include "gateway/kafka_inside.h"
#include "gateway/say.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/err.h"

/* Tells of what comes to a partition behind `place`. */
struct kafka_watch {
    struct kafka *kafka;
    uint32_t p;
    bool asked;
    uint64_t place;
};

struct fetch_part {
    struct kafka_fetch *fetch;
    const struct kafka_topic *topic;
    int32_t p, bytes_max;
    uint64_t after; /* the offset behind which it reads */
    uint64_t head;
    bool read; /* `head` is known */
    int16_t err;
    struct buf batch;
};
struct kafka_fetch {
    struct kafka_conn *conn;
    struct fetch_part *parts; /* in the request's arena */
    size_t count, left;
    bool any;  /* there is something to be answered */
    bool held; /* too much waits for others: it reads nothing */
    uint64_t until_ms;
};

/* ---- the answer ---- */

static void drop(struct kafka_fetch *fetch)
{
    struct kafka_conn *conn = fetch->conn;
    if (conn->in_waiting.next != NULL)
        list_remove(&conn->in_waiting);
    for (size_t i = 0; i < fetch->count; i++) {
        conn->kafka->out_pool.bytes -= fetch->parts[i].batch.n;
        buf_close(&fetch->parts[i].batch);
    }
    conn->fetch = NULL;
}

static void say(struct kafka_fetch *fetch)
{
    struct kafka_conn *conn = fetch->conn;
    const struct kafka_request *request = &conn->request;
    struct buf *out = kafka_answer(conn);
    const struct fetch_part *part = fetch->parts;
    kafka_i32(out, 0); /* no throttling */
    kafka_i32(out, (int32_t)request->topic_count);
    for (size_t i = 0; i < request->topic_count; i++) {
        kafka_text(out, request->topics[i].name);
        kafka_i32(out, (int32_t)request->topics[i].count);
        for (size_t j = 0; j < request->topics[i].count; j++, part++) {
            int64_t end = part->read ? (int64_t)kafka_end_of(part->head) : -1;
            kafka_i32(out, part->p);
            kafka_i16(out, part->err);
            kafka_i64(out, end);
            kafka_i64(out, end); /* without transactions it is the same */
            kafka_i32(out, 0);   /* none was aborted */
            kafka_bytes(out, buf_span(&part->batch));
        }
    }
    drop(fetch);
    kafka_answered(conn);
}

void kafka_fetch_end(struct kafka_conn *conn)
{
    if (conn->fetch != NULL && conn->fetch->left == 0)
        drop(conn->fetch); /* else when the last part has come */
}

/* ---- waiting for what comes ---- */

static void step(struct kafka_fetch *fetch);
static void ask_part(struct fetch_part *part);
static void ask_watch(struct kafka_watch *watch);

static struct fetch_part *part_of(const struct kafka_conn *conn, uint32_t p)
{
    for (size_t i = 0; i < conn->fetch->count && !conn->fetch->held; i++) {
        struct fetch_part *part = &conn->fetch->parts[i];
        if (part->p == (int32_t)p && part->err == KAFKA_NONE)
            return part;
    }
    return NULL;
}

/* Who waits for it reads again. */
static void tell(const struct kafka_watch *watch)
{
    struct list *waiting = &watch->kafka->waiting;
    for (struct list_link *link = list_first(waiting), *next; link != NULL; link = next) {
        struct kafka_conn *conn = container_of(link, struct kafka_conn, in_waiting);
        next = list_next(waiting, link);
        struct fetch_part *part = part_of(conn, watch->p);
        if (part == NULL)
            continue;
        list_remove(link);
        conn->fetch->left = 1;
        ask_part(part);
        conn->fetch->left--;
        step(conn->fetch);
    }
}

static bool wanted(const struct kafka_watch *watch)
{
    struct list *waiting = &watch->kafka->waiting;
    for (struct list_link *link = list_first(waiting); link != NULL;
         link = list_next(waiting, link))
        if (part_of(container_of(link, struct kafka_conn, in_waiting), watch->p) != NULL)
            return true;
    return false;
}

static void on_watch(void *owner, const Loquat__Reply *reply)
{
    struct kafka_watch *watch = owner;
    watch->asked = false;
    if (reply->err != 0 || watch->kafka->stop != KAFKA_RUNNING)
        return; /* the next tick asks again */
    bool came = reply->head > watch->place;
    if (came)
        watch->place = reply->head;
    if (came)
        tell(watch);
    if (!watch->asked && wanted(watch))
        ask_watch(watch);
}

static void ask_watch(struct kafka_watch *watch)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED;
    read.partition = watch->p;
    read.from = watch->place;
    read.max = 1;
    read.bytes_max = 1;
    read.wait_ms = KAFKA_WATCH_MS;
    watch->asked = cluster_read(&watch->kafka->cluster, &read, on_watch, watch) == 0;
}

static struct kafka_watch *watch_of(struct kafka *kafka, int32_t p)
{
    uint32_t count = kafka->cluster.partitions;
    if (kafka->watches == NULL) {
        kafka->watches = xcalloc(count, sizeof *kafka->watches);
        for (uint32_t i = 0; i < count; i++)
            kafka->watches[i] = (struct kafka_watch){.kafka = kafka, .p = i};
    }
    return &kafka->watches[p];
}

/* False: meanwhile something has come, which is being read. */
static bool watched(struct kafka_fetch *fetch)
{
    bool news = false;
    fetch->left = 1;
    for (size_t i = 0; i < fetch->count; i++) {
        struct fetch_part *part = &fetch->parts[i];
        struct kafka_watch *watch = watch_of(fetch->conn->kafka, part->p);
        if (watch->asked && watch->place > part->head) {
            news = true;
            ask_part(part);
        } else if (!watch->asked) {
            watch->place = part->head;
            ask_watch(watch);
        }
    }
    fetch->left--;
    return !news;
}

void kafka_fetch_tick(struct kafka *kafka)
{
    uint64_t now = kafka_now(kafka);
    for (struct list_link *link = list_first(&kafka->waiting), *next; link != NULL; link = next) {
        struct kafka_conn *conn = container_of(link, struct kafka_conn, in_waiting);
        next = list_next(&kafka->waiting, link);
        if (now >= conn->fetch->until_ms)
            say(conn->fetch);
    }
    for (uint32_t p = 0; kafka->watches != NULL && p < kafka->cluster.partitions; p++)
        if (!kafka->watches[p].asked && wanted(&kafka->watches[p]))
            ask_watch(&kafka->watches[p]);
}

void kafka_fetch_close(struct kafka *kafka)
{
    free(kafka->watches);
}

/* ---- reading ---- */

/* After anything has come: is that all? */
static void step(struct kafka_fetch *fetch)
{
    struct kafka_conn *conn = fetch->conn;
    if (fetch->left > 0)
        return;
    if (conn->closed)
        drop(fetch);
    else if (fetch->any || kafka_now(conn->kafka) >= fetch->until_ms)
        say(fetch);
    else if (watched(fetch))
        list_push(&conn->kafka->waiting, &conn->in_waiting);
    else
        step(fetch);
}

static int64_t time_of(const Loquat__Item *item, int64_t before)
{
    struct record_view room;
    const struct record_view *record;
    bool there = say_view(item, &room, &record) == 0 && record != NULL;
    return there ? (int64_t)room.ts : before;
}

/* Whole records, at least one. An error only if there are none before it. */
static int take_records(struct fetch_part *part, const Loquat__Reply *reply)
{
    struct kafka_batch batch;
    struct buf text = {0};
    int64_t ms = 0;
    int err = 0;
    kafka_batch_begin(&batch, &part->batch);
    for (size_t i = 0; i < reply->n_feed && err == 0; i++) {
        const Loquat__FeedItem *item = reply->feed[i];
        struct say_place place = {.conv = span_str(item->conv), .partition = (uint32_t)part->p};
        text.n = 0;
        err = item->item != NULL ? say_element(&text, &place, item->item) : ERR_CORRUPT;
        bool fits = batch.count == 0 ||
                    kafka_batch_bytes(&batch) + text.n + place.conv.n < (size_t)part->bytes_max;
        if (err != 0 || !fits)
            break;
        ms = time_of(item->item, ms); /* of a hole: that of what came before */
        if (!kafka_batch_add(&batch, item->offset, ms, place.conv, buf_span(&text)))
            break;
    }
    kafka_batch_end(&batch);
    buf_close(&text);
    return batch.count == 0 ? err : 0;
}

static void take_page(struct fetch_part *part, const Loquat__Reply *reply)
{
    struct kafka_fetch *fetch = part->fetch;
    part->read = reply->err == 0;
    part->head = reply->head;
    if (reply->err != 0) {
        part->err = reply->err == ERR_CORRUPT ? KAFKA_STORAGE_ERROR : KAFKA_NOT_LEADER;
    } else if (part->after >= kafka_end_of(reply->head)) {
        part->err = KAFKA_OFFSET_OUT_OF_RANGE;
    } else if (reply->n_feed > 0) {
        fetch->any = true;
        if (take_records(part, reply) != 0)
            part->err = KAFKA_STORAGE_ERROR;
        fetch->conn->kafka->out_pool.bytes += part->batch.n;
    } else if (reply->next < reply->head && reply->next > part->after) {
        part->after = reply->next; /* all of these were trimmed */
        ask_part(part);
    }
    fetch->any = fetch->any || part->err != KAFKA_NONE;
}

static void on_page(void *owner, const Loquat__Reply *reply)
{
    struct fetch_part *part = owner;
    struct kafka_fetch *fetch = part->fetch;
    struct kafka_conn *conn = fetch->conn;
    if (!conn->closed)
        take_page(part, reply);
    fetch->left--;
    step(fetch);
    kafka_conn_unref(conn);
}

static void ask_part(struct fetch_part *part)
{
    struct kafka_conn *conn = part->fetch->conn;
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED;
    read.partition = (uint32_t)part->p;
    read.from = part->after;
    read.max = KAFKA_FETCH_RECORDS;
    read.bytes_max = (uint32_t)part->bytes_max;
    if (cluster_read(&conn->kafka->cluster, &read, on_page, part) == 0) {
        part->fetch->left++;
        kafka_conn_ref(conn);
    } else {
        part->err = KAFKA_NOT_LEADER;
        part->fetch->any = true;
    }
}

static int32_t within(int32_t v, int32_t least, int32_t most)
{
    return v < least ? least : v > most ? most : v;
}

static void take_part(struct kafka_fetch *fetch, const struct kafka_topic *topic,
                      const struct kafka_part *from, int32_t bytes_max)
{
    struct fetch_part *part = &fetch->parts[fetch->count++];
    *part = (struct fetch_part){.fetch = fetch, .topic = topic, .p = from->p};
    part->bytes_max = within(from->max_bytes, KAFKA_FETCH_PART_MIN, bytes_max);
    part->after = from->offset > 0 ? (uint64_t)from->offset - 1 : 0;
    if (!kafka_part_known(fetch->conn->kafka, topic, from->p))
        part->err = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    fetch->any = fetch->any || part->err != KAFKA_NONE;
}

void kafka_do_fetch(struct kafka_conn *conn)
{
    const struct kafka_request *request = &conn->request;
    struct kafka *kafka = conn->kafka;
    struct kafka_fetch *fetch = arena_alloc(&conn->arena, sizeof *fetch);
    size_t count = 0;
    *fetch = (struct kafka_fetch){.conn = conn};
    conn->fetch = fetch;
    fetch->until_ms =
        kafka_now(kafka) + (uint64_t)within(request->wait_ms, 0, KAFKA_FETCH_WAIT_MAX_MS);
    for (size_t i = 0; i < request->topic_count; i++)
        count += request->topics[i].count;
    fetch->parts = arena_alloc(&conn->arena, count * sizeof *fetch->parts + 1);
    int32_t most = within(request->max_bytes, KAFKA_FETCH_PART_MIN, KAFKA_FETCH_BYTES);
    int32_t share =
        within(most / within((int32_t)count, 1, KAFKA_PARTS_MAX), KAFKA_FETCH_PART_MIN, most);
    for (size_t i = 0; i < request->topic_count; i++)
        for (size_t j = 0; j < request->topics[i].count; j++)
            take_part(fetch, &request->topics[i], &request->topics[i].parts[j], share);
    if (kafka->out_pool.bytes > KAFKA_OUT_MAX) {
        bound_hit(BOUND_KAFKA_OUT);
        fetch->held = true;
        list_push(&kafka->waiting, &conn->in_waiting); /* until its time is over */
        return;
    }
    fetch->left = 1;
    for (size_t i = 0; i < fetch->count; i++)
        if (fetch->parts[i].err == KAFKA_NONE)
            ask_part(&fetch->parts[i]);
    fetch->left--;
    step(fetch);
}
