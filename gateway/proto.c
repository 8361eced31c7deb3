#include "gateway/proto.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/follow.h"
#include "gateway/jobs.h"
#include "gateway/say.h"
#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/metrics.h"

/* ---- fields ---- */

int field_error(struct request *request, int err, const char *name, const char *what)
{
    snprintf(request->why, sizeof request->why, "%s %s", name, what);
    return err;
}

int field_whole(struct request *request, const char *name, uint64_t min, uint64_t max,
                uint64_t *out)
{
    const struct json_val *val = json_get(request->obj, name);
    if (val == NULL || val->type == JSON_NULL)
        return 0;
    if (val->type != JSON_NUMBER || !val->is_whole || val->whole < 0 ||
        (uint64_t)val->whole < min || (uint64_t)val->whole > max) {
        snprintf(request->why, sizeof request->why, "%s must be a whole number from %llu to %llu",
                 name, (unsigned long long)min, (unsigned long long)max);
        return ERR_BAD_REQUEST;
    }
    *out = (uint64_t)val->whole;
    return 0;
}

int field_seq(struct request *request, const char *name, const char *what, uint64_t *out)
{
    int err = field_whole(request, name, 1, PROTO_WHOLE_MAX, out);
    return err == 0 && *out == 0 ? field_error(request, ERR_BAD_REQUEST, name, what) : err;
}

bool text_is_clean(struct span text)
{
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f)
            return false;
    return true;
}

int field_text(struct request *request, const char *name, size_t max, struct span *out)
{
    const struct json_val *val = json_get(request->obj, name);
    if (val == NULL || val->type == JSON_NULL)
        return 0;
    if (val->type != JSON_STRING || !text_is_clean(val->str))
        return field_error(request, ERR_BAD_REQUEST, name,
                           "must be a text without control characters");
    if (val->str.n > max) {
        snprintf(request->why, sizeof request->why, "%s may have %zu bytes at most", name, max);
        return ERR_TOO_LARGE;
    }
    *out = val->str;
    return 0;
}

int field_user(struct request *request, const char *name, bool required, struct span *out)
{
    const struct json_val *val = json_get(request->obj, name);
    if ((val == NULL || val->type == JSON_NULL) && !required)
        return 0;
    if (val == NULL || val->type != JSON_STRING || !user_valid(val->str))
        return field_error(request, ERR_BAD_REQUEST, name,
                           "must be a user: 1 to 64 of A-Z a-z 0-9 . _ @ -");
    *out = val->str;
    return 0;
}

int field_cid(struct request *request, struct span *out)
{
    const struct json_val *val = json_get(request->obj, "cid");
    if (val == NULL || val->type != JSON_STRING || val->str.n == 0 || val->str.n > CID_MAX ||
        !text_is_clean(val->str))
        return field_error(request, ERR_BAD_REQUEST, "cid",
                           "must be a text of 1 to 64 bytes, new for each request");
    *out = val->str;
    return 0;
}

char *field_copy(struct request *request, struct span text)
{
    return arena_copy(request->arena, text.p, text.n);
}

int field_users(struct request *request, const char *name, const struct json_val *val, size_t max,
                char ***users, size_t *count)
{
    struct json *json = request->conn->gate->json;
    int n = json_items(json, val, NULL, 0);
    if (n < 0)
        return field_error(request, ERR_BAD_REQUEST, name, "must be a list of users");
    if ((size_t)n > max)
        return field_error(request, ERR_TOO_LARGE, name, "names too many users");
    struct json_val *vals = arena_alloc(request->arena, ((size_t)n + 1) * sizeof *vals);
    *users = arena_alloc(request->arena, ((size_t)n + 1) * sizeof **users);
    n = json_items(json, val, vals, (size_t)n);
    for (int i = 0; i < n; i++) {
        if (vals[i].type != JSON_STRING || !user_valid(vals[i].str))
            return field_error(request, ERR_BAD_REQUEST, name, "must be a list of users");
        (*users)[i] = field_copy(request, vals[i].str);
    }
    *count = n > 0 ? (size_t)n : 0;
    return n < 0 ? field_error(request, ERR_BAD_REQUEST, name, "must be a list of users") : 0;
}

int field_switch(struct request *request, const char *name, bool *out)
{
    const struct json_val *val = json_get(request->obj, name);
    if (val != NULL && val->type != JSON_NULL && val->type != JSON_BOOL)
        return field_error(request, ERR_BAD_REQUEST, name, "is true or false");
    *out = val == NULL || val->type == JSON_NULL || val->truth;
    return 0;
}

/* ---- session ---- */

static int op_auth(struct request *request)
{
    struct conn *conn = request->conn;
    const struct json_val *token = json_get(request->obj, "token");
    struct span device = span_of("", 0);
    struct jwt_claims claims;
    char why[120] = "token must be a text";
    int err = field_text(request, "device", DEVICE_MAX, &device);
    if (err != 0)
        return err;
    err = ERR_UNAUTHORIZED;
    if (token != NULL && token->type == JSON_STRING)
        err = auth_check(conn->gate->settings->auth, token->str, clock_wall_ms(), &claims, why,
                         sizeof why);
    if (err == 0 && request->who != NULL && strcmp(request->who->user, claims.user) != 0) {
        snprintf(why, sizeof why, "the token is another user's; open a connection for it");
        err = ERR_UNAUTHORIZED;
    }
    if (err == 0 && !conn_identify(conn, &claims, true)) {
        call_fail(request->call, ERR_RATE_LIMITED, "too many connections of this user", 0);
        session_close(conn, SESSION_CLOSE_AGAIN, "too many connections");
        return 0;
    }
    if (err != 0) {
        call_fail(request->call, err, why, 0);
        session_close(conn, SESSION_CLOSE_REFUSED, "token refused");
        return 0;
    }
    session_expires(conn, claims.exp_ms);
    conn_due(conn, DUE_PING);
    struct buf *text = call_begin(request->call);
    if (text != NULL) {
        buf_add_str(text, "{\"user\":");
        json_put_string(text, span_str(conn->who->user));
        buf_add_str(text, ",\"device\":");
        json_put_string(text, device);
        buf_addf(text, ",\"now\":%llu,\"scope\":", (unsigned long long)clock_wall_ms());
        say_scope(text, claims.scope);
        buf_add_byte(text, '}');
    }
    call_ok(request->call);
    return 0;
}

static int op_ping(struct request *request)
{
    struct buf *text = call_begin(request->call);
    if (text != NULL)
        buf_addf(text, "{\"now\":%llu}", (unsigned long long)clock_wall_ms());
    call_ok(request->call);
    return 0;
}

static int op_resume(struct request *request)
{
    struct session *session = request->conn->session;
    uint64_t cursor = UINT64_MAX;
    int err = field_whole(request, "cur", 0, PROTO_WHOLE_MAX, &cursor);
    if (err != 0)
        return err;
    if (cursor == UINT64_MAX)
        return field_error(request, ERR_BAD_REQUEST, "cur", "must be the last sequence held");
    struct follow *follow =
        follow_find(session, fanout_find(&request->conn->gate->fanout, request->c));
    if (follow == NULL) {
        snprintf(request->why, sizeof request->why,
                 "this connection does not follow that conversation");
        return ERR_NOT_FOUND;
    }
    struct buf *text = call_begin(request->call);
    if (text != NULL)
        buf_add_str(text, "{}");
    call_ok(request->call);
    follow_resume(session, follow, cursor);
    return 0;
}

/* ---- the table ---- */

static const struct proto_entry ENTRIES[] = {
    {"send", op_send, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"mark", op_mark, CALL_WRITE, PROTO_TAKES_C},
    {"ping", op_ping, CALL_NOTHING, PROTO_FREE},
    {"range", op_range, CALL_PAGE, PROTO_TAKES_C},
    {"typing", op_typing, CALL_NOTHING, PROTO_TAKES_C},
    {"presence", op_presence, CALL_NOTHING, 0},
    {"resume", op_resume, CALL_NOTHING, PROTO_TAKES_C},
    {"auth", op_auth, CALL_NOTHING, PROTO_FREE},
    {"sync", op_sync, CALL_PAGE, 0},
    {"open", op_open, CALL_WRITE, 0},
    {"edit", op_edit, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"delete", op_delete, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"react", op_react, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"pin", op_pin, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"meta", op_meta, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"prefs", op_prefs, CALL_WRITE, PROTO_TAKES_C},
    {"member", op_member, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"leave", op_leave, CALL_WRITE, PROTO_TAKES_C},
    {"block", op_block, CALL_WRITE, 0},
    {"blocks", op_blocks, CALL_READ, 0},
    {"privacy", op_privacy, CALL_WRITE, 0},
    {"invite", op_invite, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"uninvite", op_uninvite, CALL_WRITE, PROTO_TAKES_C | PROTO_FLOODS},
    {"invites", op_invites, CALL_READ, PROTO_TAKES_C},
    {"join", op_join, CALL_WRITE, 0},
    {"edits", op_edits, CALL_READ, PROTO_TAKES_C},
    {"threads", op_threads, CALL_READ, PROTO_TAKES_C},
    {"members", op_members, CALL_READ, PROTO_TAKES_C},
    {"seen", op_seen, CALL_READ, PROTO_TAKES_C},
    {"list", op_list, CALL_PAGE, 0},
    {"search", op_search, CALL_PAGE, 0},
    {"conv", op_conv, CALL_READ, PROTO_TAKES_C | PROTO_HTTP_ONLY},
    {"records", op_records, CALL_PAGE, PROTO_TAKES_C | PROTO_HTTP_ONLY},
    {"partitions", op_partitions, CALL_READ, PROTO_JOBS},
    {"feed", op_feed, CALL_READ, PROTO_JOBS},
    {"feed_lines", op_feed_lines, CALL_READ, PROTO_JOBS},
    {"consumers", op_consumers, CALL_READ, PROTO_JOBS},
    {"consumer", op_consumer, CALL_READ, PROTO_JOBS},
    {"consumer_put", op_consumer_put, CALL_WRITE, PROTO_JOBS},
    {"consumer_drop", op_consumer_drop, CALL_WRITE, PROTO_JOBS},
    {"cursor", op_cursor, CALL_WRITE, PROTO_JOBS},
    {"worker", op_worker, CALL_WRITE, PROTO_JOBS},
    {"worker_drop", op_worker_drop, CALL_WRITE, PROTO_JOBS},
};
enum { ENTRY_COUNT = sizeof ENTRIES / sizeof *ENTRIES };

static struct metric op_metrics[ENTRY_COUNT];
static char op_labels[ENTRY_COUNT][24];
static struct metric refused = {.name = "loquat_requests_refused_total",
                                .help = "Requests answered at once with an error",
                                .type = METRIC_COUNTER};

void proto_metrics(void)
{
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        snprintf(op_labels[i], sizeof op_labels[i], "op=\"%s\"", ENTRIES[i].name);
        op_metrics[i] = (struct metric){.name = "loquat_requests_total",
                                        .help = "Requests of clients, by operation",
                                        .labels = op_labels[i],
                                        .type = METRIC_COUNTER};
        metric_register(&op_metrics[i]);
    }
    metric_register(&refused);
}

const struct proto_entry *proto_find(struct span name)
{
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        if (span_is(name, ENTRIES[i].name))
            return &ENTRIES[i];
    return NULL;
}

uint64_t proto_rate(struct conn *conn)
{
    if (conn->who == NULL || conn->who->scope != 0)
        return 0;
    uint64_t after_ms =
        limits_take(&conn->gate->shared->limits, conn->who->slot, conn->gate->now_ms * 1000);
    if (after_ms > 0)
        bound_hit(BOUND_RATE);
    return after_ms;
}

/* Too many changes by one user, or by all, in one conversation: 0, or after how many milliseconds
 * it may be tried again. Of all count those who follow it here: members; so nobody else can use up
 * what is theirs. */
static uint64_t flood(const struct conn *conn, struct span c)
{
    struct settings *shared = conn->gate->shared;
    if (conn->who == NULL || conn->who->scope != 0)
        return 0;
    uint64_t now_us = conn->gate->now_ms * 1000;
    char both[sizeof conn->who->slot + CONV_ID_MAX];
    memcpy(both, &conn->who->slot, sizeof conn->who->slot);
    memcpy(both + sizeof conn->who->slot, c.p, c.n);
    struct span pair = span_of(both, sizeof conn->who->slot + c.n);
    uint64_t after_ms = limits_take(&shared->floods, limits_slot(&shared->floods, pair), now_us);
    const struct session *session = conn->session;
    if (after_ms == 0 && session != NULL &&
        follow_find(session, fanout_find(&conn->gate->fanout, c)) != NULL)
        after_ms = limits_take(&shared->crowds, limits_slot(&shared->crowds, c), now_us);
    if (after_ms > 0)
        bound_hit(BOUND_FLOOD);
    return after_ms;
}

bool proto_may(const struct who *who, const struct proto_entry *entry, struct span c)
{
    return who == NULL || who->send_to == NULL || (entry->traits & PROTO_FREE) != 0 ||
           (entry->run == op_send && c.p != NULL && span_is(c, who->send_to));
}

/* What every operation needs before it begins. */
static int check(struct request *request, const struct proto_entry *entry, struct span c)
{
    struct conn *conn = request->conn;
    metric_add(&op_metrics[entry - ENTRIES], 1);
    if (request->who == NULL && entry->run != op_auth) {
        snprintf(request->why, sizeof request->why, "say auth first");
        return ERR_UNAUTHORIZED;
    }
    if (!proto_may(request->who, entry, c)) {
        snprintf(request->why, sizeof request->why, "%s", PROTO_SEND_ONLY);
        return ERR_FORBIDDEN;
    }
    uint32_t scope = request->who != NULL ? request->who->scope : 0;
    if ((entry->traits & PROTO_JOBS) != 0 && (scope & (JWT_SCOPE_JOBS | JWT_SCOPE_ADMIN)) == 0) {
        snprintf(request->why, sizeof request->why, "this takes a token of scope jobs");
        return ERR_FORBIDDEN;
    }
    uint64_t after_ms = (entry->traits & PROTO_FREE) != 0 ? 0 : proto_rate(conn);
    if (after_ms > 0) {
        call_fail(request->call, ERR_RATE_LIMITED, "too many requests of this user", after_ms);
        return ERR_AGAIN; /* answered */
    }
    if (entry->weight >= CALL_READ && conn->gate->out_pool.bytes > GATE_OUT_MAX) {
        bound_hit(BOUND_GATE_OUT);
        return ERR_BUSY;
    }
    if ((entry->traits & PROTO_TAKES_C) == 0)
        return 0;
    if (c.p == NULL)
        return field_error(request, ERR_BAD_REQUEST, "c", "must be the id of a conversation");
    if (!conv_name_valid(c)) {
        snprintf(request->why, sizeof request->why, "no such conversation");
        return ERR_NOT_FOUND;
    }
    after_ms = (entry->traits & PROTO_FLOODS) != 0 ? flood(conn, c) : 0;
    if (after_ms > 0) {
        call_fail(request->call, ERR_RATE_LIMITED, "too many changes in this conversation",
                  after_ms);
        return ERR_AGAIN; /* answered */
    }
    request->c = c;
    call_conv(request->call, c);
    return 0;
}

static void run(struct request *request, const struct proto_entry *entry, struct span c)
{
    struct arena *arena = request->arena;
    int err = check(request, entry, c);
    if (err == 0)
        err = entry->run(request);
    else if (err == ERR_AGAIN)
        err = 0;
    if (err != 0) {
        metric_add(&refused, 1);
        call_fail(request->call, err, request->why, 0);
    }
    arena_reset(arena);
}

void proto_refuse(struct conn *conn, int err, const char *why)
{
    struct buf *text = &conn->gate->answer;
    metric_add(&refused, 1);
    text->n = 0;
    buf_add_str(text, "{\"id\":null,\"err\":");
    say_error(text, err, why, 0);
    buf_add_byte(text, '}');
    session_say(conn, buf_span(text));
}

void proto_take(struct conn *conn, struct span line)
{
    struct gate *gate = conn->gate;
    struct json_obj obj;
    int err = json_parse(gate->json, line.p, line.n, &obj);
    if (err != 0) {
        proto_refuse(conn, err, json_error(gate->json));
        return;
    }
    const struct json_val *id = json_get(&obj, "id"), *op = json_get(&obj, "op");
    if (id != NULL && (id->type != JSON_NUMBER || !id->is_whole)) {
        proto_refuse(conn, ERR_BAD_REQUEST, "id must be a whole number below 2^53");
        return;
    }
    const struct proto_entry *entry =
        op != NULL && op->type == JSON_STRING ? proto_find(op->str) : NULL;
    if (entry != NULL && (entry->traits & (PROTO_HTTP_ONLY | PROTO_JOBS)) != 0)
        entry = NULL;
    struct call *call = call_new(conn, entry != NULL ? entry->weight : CALL_NOTHING);
    call->has_id = id != NULL;
    call->id = id != NULL ? id->whole : 0;
    if (entry == NULL) {
        metric_add(&refused, 1);
        call_fail(call, conn->who == NULL ? ERR_UNAUTHORIZED : ERR_BAD_REQUEST,
                  conn->who == NULL ? "say auth first" : "unknown op", 0);
        return;
    }
    const struct json_val *c = json_get(&obj, "c");
    struct request request = {
        .conn = conn, .who = conn->who, .obj = &obj, .call = call, .arena = &gate->arena};
    run(&request, entry, c != NULL && c->type == JSON_STRING ? c->str : (struct span){0});
}

void proto_http(struct conn *conn, const struct proto_entry *entry, struct span c,
                const struct json_obj *obj)
{
    struct call *call = call_new(conn, entry->weight);
    call->http = true;
    struct request request = {
        .conn = conn, .who = conn->who, .obj = obj, .call = call, .arena = &conn->gate->arena};
    run(&request, entry, c);
}
