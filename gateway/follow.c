#include "gateway/follow.h"

#include <stdlib.h>

#include "gateway/blocks.h"
#include "gateway/httpd.h"
#include "gateway/presence.h"
#include "gateway/say.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "store/base/record.h"

static struct metric lags = {.name = "loquat_session_lags_total",
                             .help = "Times a client was told to read by itself",
                             .type = METRIC_COUNTER};
static struct metric behind_reads = {.name = "loquat_session_reads_total",
                                     .help = "Range reads made for clients that were behind",
                                     .type = METRIC_COUNTER};

void follow_metrics(void)
{
    metric_register(&lags);
    metric_register(&behind_reads);
}

/* ---- which logs ---- */

struct follow *follow_find(const struct session *session, const struct topic *topic)
{
    if (topic == NULL)
        return NULL;
    if (topic->count < session->count) { /* whichever is shorter */
        for (uint32_t i = 0; i < topic->count; i++)
            if (topic->entries[i].session == session)
                return &session->follows[topic->entries[i].follow];
        return NULL;
    }
    for (uint32_t i = 0; i < session->count; i++)
        if (session->follows[i].topic == topic)
            return &session->follows[i];
    return NULL;
}

static void set_state(struct session *session, struct follow *follow, enum follow_state state)
{
    int more = (state == FOLLOW_BEHIND) - (follow->state == FOLLOW_BEHIND);
    session->behind += (uint32_t)more;
    session->conn->gate->behind += more;
    follow->state = (uint8_t)state;
}

void follow_reserve(struct session *session, uint32_t more)
{
    if (session->cap - session->count >= more)
        return;
    session->cap = session->count + more;
    session->follows = xrealloc(session->follows, session->cap * sizeof *session->follows);
}

int follow_add(struct session *session, struct span name, bool user_log, uint64_t cursor)
{
    struct fanout *fanout = &session->conn->gate->fanout;
    if (session->count == SESSION_FOLLOWS_MAX) {
        bound_hit(BOUND_FOLLOWS);
        return ERR_TOO_LARGE;
    }
    struct topic *topic =
        fanout_topic(fanout, name, user_log, user_log ? cursor : FOLLOW_FROM_HEAD);
    if (topic->count > 0 && follow_find(session, topic) != NULL)
        return 0;
    if (session->count == session->cap)
        follow_reserve(session, session->count / 4 + 1);
    struct follow *follow = &session->follows[session->count];
    *follow = (struct follow){.topic = topic, .cursor = cursor, .state = FOLLOW_WAIT};
    follow->slot = fanout_add(topic, session, session->count++);
    follow_settle(session, follow);
    return 0;
}

void follow_remove(struct session *session, struct follow *follow)
{
    uint32_t at = (uint32_t)(follow - session->follows);
    set_state(session, follow, FOLLOW_WAIT);
    session->marks_lost -= follow->marks_lost;
    fanout_remove(&session->conn->gate->fanout, follow->topic, follow->slot);
    session->count--;
    if (at == session->count)
        return;
    session->follows[at] = session->follows[session->count];
    struct follow *moved = &session->follows[at];
    moved->topic->entries[moved->slot].follow = at;
}

/* ---- caught up, behind, lagged ---- */

void follow_lag(struct session *session, struct follow *follow)
{
    struct topic *topic = follow->topic;
    if (session->stream) { /* nobody there to read by himself */
        conn_close_soon(session->conn);
        return;
    }
    set_state(session, follow, FOLLOW_LAGGED);
    uint64_t held = follow->cursor == FOLLOW_FROM_HEAD ? topic->head : follow->cursor;
    uint64_t head = topic->head > held ? topic->head : held;
    struct buf text = {0};
    buf_add_str(&text, "{\"ev\":\"lag\",\"c\":");
    json_put_string(&text, span_str(topic->name));
    buf_addf(&text, ",\"from\":%llu,\"head\":%llu}", (unsigned long long)held + 1,
             (unsigned long long)head);
    session_say(session->conn, buf_span(&text));
    buf_close(&text);
    metric_add(&lags, 1);
}

static bool too_far(const struct session *session, const struct follow *follow)
{
    return !session->stream && follow->topic->head > follow->cursor &&
           follow->topic->head - follow->cursor > GATEWAY_WINDOW;
}

void follow_settle(struct session *session, struct follow *follow)
{
    struct topic *topic = follow->topic;
    if (topic->head == TOPIC_NOT_STARTED) {
        set_state(session, follow, FOLLOW_WAIT);
        return;
    }
    if (topic->failed) {
        fanout_again(&session->conn->gate->fanout, topic,
                     topic->user_log ? follow->cursor : FOLLOW_FROM_HEAD);
        set_state(session, follow, FOLLOW_WAIT);
        return;
    }
    if (follow->cursor == FOLLOW_FROM_HEAD)
        follow->cursor = topic->head;
    if (follow->cursor >= topic->head || topic->user_log) {
        set_state(session, follow, FOLLOW_LIVE);
    } else if (too_far(session, follow)) {
        follow_lag(session, follow);
    } else {
        set_state(session, follow, FOLLOW_BEHIND);
        follow_catch_up(session);
    }
}

/* A frame of the tail is for all and does not know what one of them may not see, such as what was
 * written before the joining; a range read does. So who goes back is read for. */
void follow_resume(struct session *session, struct follow *follow, uint64_t cursor)
{
    bool back = follow->cursor == FOLLOW_FROM_HEAD || cursor < follow->cursor;
    follow->cursor = cursor;
    follow_settle(session, follow);
    if (back && follow->state == FOLLOW_LIVE)
        follow_fall_behind(session, follow);
}

int follow_begin(struct session *session, struct span conv, uint64_t cursor, uint64_t since)
{
    int err = follow_add(session, conv, false, cursor);
    struct follow *follow = follow_find(session, fanout_find(&session->conn->gate->fanout, conv));
    if (err == 0 && cursor + 1 < since && follow->state == FOLLOW_LIVE)
        follow_fall_behind(session, follow);
    return err;
}

void follow_fall_behind(struct session *session, struct follow *follow)
{
    set_state(session, follow, FOLLOW_BEHIND);
    follow_catch_up(session);
}

/* ---- reading what a client has not got ---- */

struct catching {
    struct conn *conn;
    uint64_t from;
    char conv[CONV_ID_MAX + 1];
};

/* The node is busy: the loop's sweep tries again. */
static void be_hungry(struct session *session)
{
    if (session->in_hungry.next == NULL)
        list_push(&session->conn->gate->hungry, &session->in_hungry);
}

/* The page as one message or as events of a stream. ERR_CORRUPT: a record is damaged. */
static int say_page(struct session *session, const struct topic *topic, const Loquat__Reply *reply)
{
    struct say_place place = {.conv = span_str(topic->name),
                              .partition = topic->partition,
                              .self = span_str(session->stream ? "" : session->conn->who->user)};
    struct buf text = {0};
    int err = 0;
    for (size_t i = 0; i < reply->n_items && err == 0; i++) {
        struct record_view room;
        const struct record_view *record;
        err = say_view(reply->items[i], &room, &record);
        if (err == 0)
            say_live(&text, &place, reply->items[i], record, session->stream);
    }
    if (err == 0 && text.n > 0 && session->stream) {
        struct frame *chunk = httpd_chunk(&text);
        conn_send_frame(session->conn, chunk);
        frame_unref(chunk);
    } else if (err == 0 && text.n > 0) {
        session_say(session->conn, buf_span(&text));
    }
    buf_close(&text);
    return err;
}

static void take_page(struct session *session, struct follow *follow, const Loquat__Reply *reply)
{
    struct topic *topic = follow->topic;
    int err = reply->err != 0 ? reply->err : say_page(session, topic, reply);
    if (err == ERR_NOT_FOUND) { /* no member any more */
        follow_left(session, span_str(topic->name));
        return;
    }
    if (err != 0 && !err_retry(err)) {
        follow_lag(session, follow);
        return;
    }
    if (err == 0)
        follow->cursor = reply->next > 0 ? reply->next - 1 : reply->head;
    if (follow->cursor >= topic->head)
        set_state(session, follow, FOLLOW_LIVE);
}

static void on_page(void *owner, const Loquat__Reply *reply)
{
    struct catching *catching = owner;
    struct conn *conn = catching->conn;
    struct session *session = conn->session;
    if (!conn_gone(conn) && session != NULL) {
        session->reading = false;
        struct topic *topic = fanout_find(&conn->gate->fanout, span_str(catching->conv));
        struct follow *follow = follow_find(session, topic);
        if (follow != NULL && follow->state == FOLLOW_BEHIND &&
            follow->cursor + 1 == catching->from)
            take_page(session, follow, reply);
        if (reply->err != 0 && err_retry(reply->err))
            be_hungry(session);
        else
            follow_catch_up(session);
    }
    free(catching);
    conn_unref(conn);
}

static void start_read(struct session *session, const struct follow *follow)
{
    struct conn *conn = session->conn;
    struct catching *catching = xcalloc(1, sizeof *catching);
    catching->conn = conn;
    catching->from = follow->cursor + 1;
    memcpy(catching->conv, follow->topic->name, strlen(follow->topic->name));
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_RANGE;
    read.partition = follow->topic->partition;
    read.conv = catching->conv;
    read.user = conn->who->user;
    read.all = session->stream && conn->who->scope != 0; /* live are the own conversations */
    read.from = catching->from;
    read.max = SESSION_PAGE_RECORDS;
    read.bytes_max = SESSION_PAGE_BYTES;
    if (cluster_read(&conn->gate->cluster, &read, on_page, catching) != 0) {
        free(catching);
        be_hungry(session);
        return;
    }
    session->reading = true;
    conn_ref(conn);
    metric_add(&behind_reads, 1);
}

void follow_catch_up(struct session *session)
{
    const struct conn *conn = session->conn;
    if (session->behind == 0 || session->reading || conn_gone(conn) || conn->close_soon ||
        conn->out.bytes > CONN_OUT_LOW || conn->gate->state != GATE_SERVING)
        return;
    for (uint32_t i = 0; i < session->count; i++) {
        struct follow *follow = &session->follows[i];
        if (follow->state != FOLLOW_BEHIND)
            continue;
        if (too_far(session, follow)) {
            follow_lag(session, follow);
            continue;
        }
        start_read(session, follow);
        return;
    }
}

/* ---- memberships that come and go ---- */

struct joining {
    struct conn *conn;
    uint32_t partition;
    char conv[CONV_ID_MAX + 1];
};

static void say_joined(struct conn *conn, const struct joining *joining,
                       const Loquat__ConvInfo *info)
{
    struct say_place place = {.conv = span_str(joining->conv),
                              .partition = joining->partition,
                              .self = span_str(conn->who->user)};
    struct buf text = {0};
    buf_add_str(&text, "{\"ev\":\"joined\",");
    size_t at = text.n;
    int err = say_conv(&text, &place, info, NULL); /* nothing is set of what is new */
    if (err == 0) {
        memmove(text.p + at, text.p + at + 1, text.n - at - 1); /* the brace of its own */
        text.n--;
        session_say(conn, buf_span(&text));
    }
    buf_close(&text);
}

static void on_joined(void *owner, const Loquat__Reply *reply)
{
    struct joining *joining = owner;
    struct conn *conn = joining->conn;
    struct session *session = conn->session;
    struct span name = span_str(joining->conv);
    if (!conn_gone(conn) && session != NULL && reply->err == 0 && reply->n_convs == 1 &&
        reply->convs[0]->err == 0 && reply->convs[0]->role != LOQUAT__ROLE__ROLE_NONE &&
        follow_find(session, fanout_find(&conn->gate->fanout, name)) == NULL) {
        say_joined(conn, joining, reply->convs[0]);
        if (follow_add(session, name, false, reply->convs[0]->head) != 0)
            log_warn("a user follows as many conversations as one session may",
                     {"max", log_int(SESSION_FOLLOWS_MAX)});
    }
    if (!conn_gone(conn) && session != NULL && reply->err != 0 && err_retry(reply->err))
        session_close(conn, SESSION_CLOSE_AGAIN, "busy: come back"); /* its sync finds it */
    free(joining);
    conn_unref(conn);
}

void follow_joined(struct session *session, struct span conv)
{
    struct conn *conn = session->conn;
    if (conv.n == 0 || conv.n > CONV_ID_MAX)
        return;
    struct joining *joining = xcalloc(1, sizeof *joining);
    joining->conn = conn;
    memcpy(joining->conv, conv.p, conv.n);
    char *names[] = {joining->conv};
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_CONVS;
    read.partition = joining->partition =
        partition_of(conv_id_of(conv), conn->gate->cluster.partitions);
    read.user = conn->who->user;
    read.convs = names;
    read.n_convs = 1;
    if (cluster_read(&conn->gate->cluster, &read, on_joined, joining) != 0) {
        free(joining);
        session_close(conn, SESSION_CLOSE_AGAIN, "busy: come back");
        return;
    }
    conn_ref(conn);
}

void follow_left(struct session *session, struct span conv)
{
    struct topic *topic = fanout_find(&session->conn->gate->fanout, conv);
    struct follow *follow = follow_find(session, topic);
    if (follow == NULL)
        return;
    if (session->stream) {
        conn_close_soon(session->conn);
        return;
    }
    struct buf text = {0};
    buf_add_str(&text, "{\"ev\":\"left\",\"c\":");
    json_put_string(&text, conv);
    buf_add_byte(&text, '}');
    session_say(session->conn, buf_span(&text));
    buf_close(&text);
    follow_remove(session, follow);
}

/* ---- the own log ---- */

static void say_user(struct session *session, uint64_t seq, const struct record_view *record)
{
    const char *kind = kind_name(record->kind);
    struct buf text = {0};
    buf_addf(&text, "{\"ev\":\"user\",\"s\":%llu,\"ts\":%llu,\"kind\":\"%s\",\"body\":",
             (unsigned long long)seq, (unsigned long long)record->ts,
             kind != NULL ? kind : "unknown");
    if (record->body.n > 0)
        buf_add_span(&text, record->body);
    else
        buf_add_str(&text, "{}");
    buf_add_byte(&text, '}');
    session_say(session->conn, buf_span(&text));
    buf_close(&text);
}

static void take_block(struct session *session, const struct json_obj *obj)
{
    const struct json_val *user = json_get(obj, "user"), *on = json_get(obj, "on");
    if (user == NULL || user->type != JSON_STRING || on == NULL || on->type != JSON_BOOL)
        return;
    blocks_change(session, user->str, on->truth);
    presence_recheck(session->conn->gate, user->str);
}

void follow_user_record(struct session *session, uint64_t seq, const struct record_view *record)
{
    struct json_obj obj;
    if (record == NULL)
        return;
    if (session->conn->out.bytes >= CONN_OUT_HIGH) { /* nothing is queued: its next sync finds it */
        session_close(session->conn, SESSION_CLOSE_AGAIN, "what comes is not read");
        return;
    }
    say_user(session, seq, record);
    if (json_parse(session->conn->gate->inner, record->body.p, record->body.n, &obj) != 0)
        return;
    if (record->kind == LOQUAT__KIND__KIND_BLOCK)
        take_block(session, &obj);
    const struct json_val *conv = json_get(&obj, "c");
    if (conv == NULL || conv->type != JSON_STRING)
        return;
    if (record->kind == LOQUAT__KIND__KIND_JOINED)
        follow_joined(session, conv->str);
    else if (record->kind == LOQUAT__KIND__KIND_LEFT)
        follow_left(session, conv->str);
}
