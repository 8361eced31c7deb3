/* gateway/read.c: operations that ask about one conversation. */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/blocks.h"
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"

static struct say_place place_of(const struct call *call)
{
    return (struct say_place){.conv = span_str(call->conv),
                              .partition = call->partition,
                              .self = span_str(call->conn->who->user)};
}

static Loquat__Read read_of(const struct call *call, uint32_t op)
{
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = op;
    read.partition = call->partition;
    read.user = call->conn->who->user;
    read.all = call->conn->who->scope != 0;
    read.conv = (char *)(uintptr_t)call->conv;
    return read;
}

/* ---- range ---- */

static void on_range(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text == NULL) {
        call_ok(call);
        return;
    }
    struct say_place place = place_of(call);
    int err = 0;
    buf_add_str(text, "{\"records\":[");
    for (size_t i = 0; i < reply->n_items && err == 0; i++) {
        if (i > 0)
            buf_add_byte(text, ',');
        err = say_element(text, &place, reply->items[i]);
    }
    if (err != 0) {
        call_fail(call, err, NULL, 0);
        return;
    }
    buf_add_byte(text, ']');
    say_number_or_null(text, "next", reply->next);
    buf_addf(text, ",\"head\":%llu,\"floor\":%llu}", (unsigned long long)reply->head,
             (unsigned long long)reply->floor);
    call_ok(call);
}

static int take_choice(struct request *request, const char *name, const char *no, const char *yes,
                       int *out)
{
    const struct json_val *val = json_get(request->obj, name);
    if (val == NULL || val->type == JSON_NULL ||
        (val->type == JSON_STRING && span_is(val->str, no)))
        return 0;
    if (val->type == JSON_STRING && span_is(val->str, yes)) {
        *out = 1;
        return 0;
    }
    snprintf(request->why, sizeof request->why, "%s is %s or %s", name, no, yes);
    return ERR_BAD_REQUEST;
}

int read_take_range(struct request *request, Loquat__Read *read, uint64_t *max)
{
    uint64_t most = *max;
    *read = read_of(request->call, LOQUAT__READ_OP__READ_RANGE);
    int err = field_whole(request, "from", 0, PROTO_WHOLE_MAX, &read->from);
    if (err == 0)
        err = field_whole(request, "to", 0, PROTO_WHOLE_MAX, &read->to);
    if (err == 0)
        err = field_whole(request, "max", 1, most, max);
    if (err == 0)
        err = take_choice(request, "view", "log", "folded", &read->folded);
    if (err == 0)
        err = take_choice(request, "order", "asc", "desc", &read->desc);
    if (err == 0)
        err = field_whole(request, "thread", 1, PROTO_WHOLE_MAX, &read->thread);
    read->max = (uint32_t)(*max < PROTO_PAGE_MAX ? *max : PROTO_PAGE_MAX);
    return err;
}

int op_range(struct request *request)
{
    Loquat__Read read;
    uint64_t max = PROTO_PAGE_MAX;
    int err = read_take_range(request, &read, &max);
    if (err == 0 && !call_read(request->call, &read, on_range))
        err = ERR_BUSY;
    return err;
}

/* ---- members ---- */

/* Not those of whom the reader has blocked, nor of a time that is past. */
static bool marks_of(const struct call *call, const Loquat__Member *member)
{
    const struct session *session = call->conn->session;
    return call->state == NULL && (session == NULL || !blocks_has(session, member->user));
}

static void on_members(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL) {
        buf_add_str(text, "{\"members\":[");
        for (size_t i = 0; i < reply->n_members; i++) {
            if (i > 0)
                buf_add_byte(text, ',');
            const Loquat__Member *member = reply->members[i];
            say_member(text, member, marks_of(call, member));
        }
        buf_add_byte(text, ']');
        say_text_or_null(text, "next", reply->after);
        buf_add_byte(text, '}');
    }
    call_ok(call);
}

int op_members(struct request *request)
{
    Loquat__Read read = read_of(request->call, LOQUAT__READ_OP__READ_MEMBERS);
    struct span page = {0};
    uint64_t max = PROTO_LIST_MAX;
    int err = field_user(request, "page", false, &page);
    if (err == 0)
        err = field_whole(request, "limit", 1, PROTO_LIST_MAX, &max);
    if (err == 0)
        err = field_whole(request, "at", 1, PROTO_WHOLE_MAX, &read.at);
    if (err != 0)
        return err;
    static const char PAST;
    request->call->state = read.at != 0 ? (void *)(uintptr_t)&PAST : NULL;
    read.after = field_copy(request, page);
    read.max = (uint32_t)max;
    return call_read(request->call, &read, on_members) ? 0 : ERR_BUSY;
}

/* ---- seen ---- */

static void on_seen(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL) {
        size_t n = 0;
        buf_add_str(text, "{\"users\":[");
        for (size_t i = 0; i < reply->n_members; i++) {
            if (!marks_of(call, reply->members[i]))
                continue;
            if (n++ > 0)
                buf_add_byte(text, ',');
            json_put_string(text, span_str(reply->members[i]->user));
        }
        buf_addf(text, "],\"n\":%zu", n);
        say_text_or_null(text, "next", reply->after);
        buf_add_byte(text, '}');
    }
    call_ok(call);
}

int op_seen(struct request *request)
{
    Loquat__Read read = read_of(request->call, LOQUAT__READ_OP__READ_MEMBERS);
    struct span page = {0};
    int err = field_user(request, "page", false, &page);
    if (err == 0)
        err = field_seq(request, "s", "must be a sequence", &read.from);
    if (err != 0)
        return err;
    read.after = field_copy(request, page);
    read.max = PROTO_PAGE_MAX;
    return call_read(request->call, &read, on_seen) ? 0 : ERR_BUSY;
}

/* ---- edits ---- */

static int say_version(struct buf *text, const Loquat__Item *item)
{
    struct record_view room;
    const struct record_view *record = NULL;
    int err = say_view(item, &room, &record);
    if (err != 0 || record == NULL)
        return ERR_CORRUPT;
    buf_add_str(text, "{\"s\":");
    json_put_u64(text, item->seq);
    say_number_or_null(text, "ts", record->ts);
    buf_add_str(text, ",\"body\":");
    buf_add_span(text, record->body.n > 0 ? record->body : span_str("{}"));
    buf_add_byte(text, '}');
    return 0;
}

/* They come newest first. */
static void on_edits(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    int err = 0;
    if (text != NULL)
        buf_add_str(text, "{\"versions\":[");
    for (size_t i = reply->n_items; text != NULL && err == 0 && i > 0; i--) {
        if (i < reply->n_items)
            buf_add_byte(text, ',');
        err = say_version(text, reply->items[i - 1]);
    }
    if (err != 0) {
        call_fail(call, err, NULL, 0);
        return;
    }
    if (text != NULL)
        buf_add_str(text, "]}");
    call_ok(call);
}

int op_edits(struct request *request)
{
    Loquat__Read read = read_of(request->call, LOQUAT__READ_OP__READ_EDITS);
    int err = field_seq(request, "s", "must be the message's sequence", &read.from);
    if (err != 0)
        return err;
    return call_read(request->call, &read, on_edits) ? 0 : ERR_BUSY;
}

/* ---- threads ---- */

static void on_threads(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    if (reply->err != 0) {
        call_fail_reply(call, reply);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL) {
        buf_add_str(text, "{\"threads\":[");
        for (size_t i = 0; i < reply->n_threads; i++) {
            const Loquat__Thread *thread = reply->threads[i];
            buf_addf(text, "%s{\"s\":%llu,\"replies\":%llu,\"unread\":%llu,", i > 0 ? "," : "",
                     (unsigned long long)thread->root, (unsigned long long)thread->replies,
                     (unsigned long long)thread->unread);
            buf_addf(text, "\"read\":%llu,\"last\":%llu}", (unsigned long long)thread->read,
                     (unsigned long long)thread->last);
        }
        buf_add_byte(text, ']');
        say_number_or_null(text, "next", reply->next);
        buf_add_byte(text, '}');
    }
    call_ok(call);
}

int op_threads(struct request *request)
{
    Loquat__Read read = read_of(request->call, LOQUAT__READ_OP__READ_THREADS);
    uint64_t max = PROTO_THREADS_MAX;
    int err = field_whole(request, "page", 1, PROTO_WHOLE_MAX, &read.from);
    if (err == 0)
        err = field_whole(request, "limit", 1, PROTO_THREADS_MAX, &max);
    if (err != 0)
        return err;
    read.all = false;
    read.max = (uint32_t)max;
    return call_read(request->call, &read, on_threads) ? 0 : ERR_BUSY;
}

/* ---- one conversation ---- */

/* What the user has set of it comes first, from the user's partition. */
struct conv_asked {
    uint64_t hidden_ms;
    struct say_prefs prefs;
    char draft[DRAFT_MAX + 1];
};

static uint64_t newest_ms(const Loquat__ConvInfo *info)
{
    struct record_view room;
    const struct record_view *record = NULL;
    if (info->last != NULL && say_view(info->last, &room, &record) != 0)
        record = NULL;
    return say_newest(info, record);
}

static void on_conv(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    struct conv_asked *asked = call->state;
    int err = reply->err;
    if (err == 0)
        err = reply->n_convs == 1 ? reply->convs[0]->err : ERR_CORRUPT;
    if (err != 0) {
        free(asked);
        call_fail(call, err, err == ERR_NOT_FOUND ? "no such conversation" : reply->msg, 0);
        return;
    }
    struct buf *text = call_begin(call);
    if (text != NULL) {
        struct say_place place = place_of(call);
        asked->prefs.hidden =
            asked->hidden_ms != 0 && newest_ms(reply->convs[0]) < asked->hidden_ms;
        err = say_conv(text, &place, reply->convs[0], &asked->prefs);
    }
    free(asked);
    if (err != 0)
        call_fail(call, err, NULL, 0);
    else
        call_ok(call);
}

static void on_prefs(void *owner, const Loquat__Reply *reply)
{
    struct call *call = owner;
    struct conv_asked *asked = call->state;
    if (reply->err != 0) {
        free(asked);
        call_fail_reply(call, reply);
        return;
    }
    if (reply->n_rows == 1 && strlen(reply->rows[0]->draft) <= DRAFT_MAX) {
        const Loquat__UserConv *row = reply->rows[0];
        memcpy(asked->draft, row->draft, strlen(row->draft) + 1);
        asked->hidden_ms = row->hidden;
        asked->prefs = (struct say_prefs){.muted_until = row->muted_until,
                                          .pinned = row->pinned != 0,
                                          .draft = span_str(asked->draft)};
    }
    if (conn_gone(call->conn) || !read_ask_conv(call, on_conv)) {
        free(asked);
        call_fail(call, ERR_BUSY, NULL, 0);
    }
}

static bool ask_prefs(struct call *call)
{
    Loquat__Read read = read_of(call, LOQUAT__READ_OP__READ_USER);
    read.all = false;
    read.partition =
        partition_of(user_log_id(span_str(read.user)), call->conn->gate->cluster.partitions);
    call->state = xcalloc(1, sizeof(struct conv_asked));
    if (call_read(call, &read, on_prefs))
        return true;
    free(call->state);
    return false;
}

bool read_ask_conv(struct call *call, upstream_done done)
{
    char *names[] = {call->conv};
    Loquat__Read read = read_of(call, LOQUAT__READ_OP__READ_CONVS);
    read.convs = names;
    read.n_convs = 1;
    return call_read(call, &read, done);
}

void read_conv_for(struct call *call)
{
    if (!call_wanted(call))
        call_ok(call);
    else if (!ask_prefs(call))
        call_fail(call, ERR_BUSY, NULL, 0);
}

int op_conv(struct request *request)
{
    return ask_prefs(request->call) ? 0 : ERR_BUSY;
}
