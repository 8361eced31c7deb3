/* gateway/jobs.c: the feeds of partitions, for tokens of scope jobs: what there is, and its records
 * in the order in which they were committed. */
#include "gateway/jobs.h"

#include <stdio.h>

#include "gateway/httpd.h"
#include "gateway/say.h"
#include "gateway/spread.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/json.h"

/* ---- partitions ---- */

static void say_partitions(struct spread *spread)
{
    struct call *call = spread->call;
    const struct cluster *cluster = &call->conn->gate->cluster;
    struct buf *text = call_begin(call);
    if (text == NULL) {
        call_ok(call);
        return;
    }
    buf_add_str(text, "{\"partitions\":[");
    for (uint32_t p = 0; p < spread->count; p++) {
        const struct cluster_node *node =
            cluster->count > 1 ? cluster->routes[p].node : &cluster->nodes[0];
        buf_addf(text, "%s{\"p\":%u", p > 0 ? "," : "", p);
        say_text_or_null(text, "leader", node != NULL ? node->target.name : "");
        buf_addf(text, ",\"first\":%llu,\"head\":%llu}", (unsigned long long)spread->parts[p].first,
                 (unsigned long long)spread->parts[p].head);
    }
    buf_add_str(text, "]}");
    call_ok(call);
}

int op_partitions(struct request *request)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_FEED; /* none of its records: where it begins and ends */
    spread_read(spread_new(request->call, say_partitions), &read);
    return 0;
}

/* ---- a feed ---- */

int jobs_say_record(struct buf *text, uint32_t partition, const Loquat__FeedItem *item)
{
    struct say_place place = {.conv = span_str(item->conv), .partition = partition};
    if (item->item == NULL)
        return ERR_CORRUPT;
    buf_add_str(text, "{\"offset\":");
    json_put_u64(text, item->offset);
    buf_add_str(text, ",\"record\":");
    int err = say_element(text, &place, item->item);
    buf_add_byte(text, '}');
    return err;
}

/* Each with its end of line, or with commas between them. */
static int say_records(struct buf *text, uint32_t partition, const Loquat__Reply *reply, bool lines)
{
    int err = 0;
    for (size_t i = 0; i < reply->n_feed && err == 0; i++) {
        if (i > 0 && !lines)
            buf_add_byte(text, ',');
        err = jobs_say_record(text, partition, reply->feed[i]);
        if (lines)
            buf_add_byte(text, '\n');
    }
    return err;
}

/* What else a page says goes into the head. */
static void on_feed_lines(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    char headers[160];
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    int err = text != NULL ? say_records(text, call->partition, reply, true) : 0;
    if (err != 0) {
        call_fail(call, err, NULL, 0);
        return;
    }
    snprintf(headers, sizeof headers,
             "Loquat-Next: %llu\r\nLoquat-Head: %llu\r\nLoquat-First: %llu\r\n",
             (unsigned long long)reply->next, (unsigned long long)reply->head,
             (unsigned long long)reply->floor);
    if (text != NULL)
        httpd_answer(call->conn, 200, "application/x-ndjson", headers, buf_span(text));
    call->http = false; /* that was the answer */
    call_ok(call);
}

static void on_feed(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    int err = 0;
    if (text != NULL) {
        buf_add_str(text, "{\"records\":[");
        err = say_records(text, call->partition, reply, false);
    }
    if (err != 0) {
        call_fail(call, err, NULL, 0);
        return;
    }
    if (text != NULL)
        buf_addf(text, "],\"next\":%llu,\"head\":%llu,\"first\":%llu}",
                 (unsigned long long)reply->next, (unsigned long long)reply->head,
                 (unsigned long long)reply->floor);
    call_ok(call);
}

int jobs_partition(struct request *request)
{
    uint32_t count = request->conn->gate->cluster.partitions;
    uint64_t p = UINT64_MAX;
    int err = field_whole(request, "p", 0, PROTO_WHOLE_MAX, &p);
    if (err == 0 && p >= count) {
        snprintf(request->why, sizeof request->why, "there are partitions from 0 to %u", count - 1);
        err = ERR_NOT_FOUND;
    }
    request->call->partition = (uint32_t)p;
    return err;
}

static int take_feed(struct request *request, Loquat__Read *read)
{
    uint64_t max = JOBS_PAGE_DEFAULT;
    read->op = LOQUAT__READ_OP__READ_FEED;
    int err = jobs_partition(request);
    read->partition = request->call->partition;
    if (err == 0)
        err = field_whole(request, "after", 0, PROTO_WHOLE_MAX, &read->from);
    if (err == 0)
        err = field_whole(request, "at", 1, PROTO_WHOLE_MAX, &read->at);
    if (err == 0)
        err = field_whole(request, "max", 1, JOBS_PAGE_MAX, &max);
    if (err == 0)
        err = field_whole(request, "wait_ms", 0, JOBS_WAIT_MAX_MS, &read->wait_ms);
    read->max = (uint32_t)max;
    if (read->wait_ms > 0)
        read->bytes_max = JOBS_WAIT_BYTES;
    return err;
}

static int ask_feed(struct request *request, upstream_done done)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    int err = take_feed(request, &read);
    if (err == 0 && !call_read(request->call, &read, done))
        err = ERR_BUSY;
    return err;
}

int op_feed(struct request *request)
{
    return ask_feed(request, on_feed);
}

int op_feed_lines(struct request *request)
{
    return ask_feed(request, on_feed_lines);
}
