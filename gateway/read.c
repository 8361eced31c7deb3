/* gateway/read.c: operations that ask about one conversation. */
#include <stdio.h>
#include <stdlib.h>

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
            say_member(text, reply->members[i]);
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
    if (err != 0)
        return err;
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
        buf_addf(text, "{\"n\":%zu,\"users\":[", reply->n_members);
        for (size_t i = 0; i < reply->n_members; i++) {
            if (i > 0)
                buf_add_byte(text, ',');
            json_put_string(text, span_str(reply->members[i]->user));
        }
        buf_add_byte(text, ']');
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
        err = field_whole(request, "s", 1, PROTO_WHOLE_MAX, &read.from);
    if (err == 0 && read.from == 0)
        return field_error(request, ERR_BAD_REQUEST, "s", "must be a sequence");
    if (err != 0)
        return err;
    read.after = field_copy(request, page);
    read.max = PROTO_PAGE_MAX;
    return call_read(request->call, &read, on_seen) ? 0 : ERR_BUSY;
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
    if (info->last == NULL || say_view(info->last, &room, &record) != 0 || record == NULL)
        return info->created;
    return record->ts;
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
