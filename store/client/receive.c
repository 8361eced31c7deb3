/* store/client/receive.c: what comes in on a session's connection, sorted. */
#include <stdio.h>

#include "store/base/check.h"
#include "store/client/session.h"

enum {
    CLOSE_TOKEN_FIRST = 4100, /* get a new token first */
    CLOSE_NEVER_FIRST = 4200, /* don't come back by yourself */
    CLOSE_APP_END = 4300,
};

static uint64_t whole(const struct json_obj *obj, const char *name, uint64_t missing)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->is_whole && val->whole >= 0 ? (uint64_t)val->whole : missing;
}

static struct span string(const struct json_obj *obj, const char *name)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->type == JSON_STRING ? val->str : (struct span){0};
}

static void on_hello(struct loquat *chat, const struct json_obj *obj)
{
    uint64_t frame_max = whole(obj, "max_in", 65536);
    chat->session.ping_ms = (uint32_t)whole(obj, "ping_ms", 25000);
    chat->session.frame_max =
        frame_max >= 1024 && frame_max <= 1 << 20 ? (uint32_t)frame_max : 65536;
    session_note(chat, NOTE_HELLO);
}

static void on_goodbye(struct loquat *chat, const struct json_obj *obj)
{
    struct json_val range[2];
    const struct json_val *val = json_get(obj, "reconnect_ms");
    if (val == NULL || json_items(chat->json, val, range, 2) != 2)
        return;
    chat->session.goodbye_min = (uint32_t)range[0].whole;
    chat->session.goodbye_max = (uint32_t)range[1].whole;
}

static void on_event(struct loquat *chat, const struct json_obj *obj, struct span name,
                     struct span text)
{
    if (span_is(name, "hello")) {
        on_hello(chat, obj);
        return;
    }
    if (chat->options.live && span_is(name, "rec")) {
        live_on_record(chat, obj, text);
        return;
    }
    if (chat->options.live && span_is(name, "lag"))
        live_on_lag(chat, obj);
    else if (chat->options.live && span_is(name, "joined"))
        live_on_joined(chat, obj);
    else if (span_is(name, "goodbye"))
        on_goodbye(chat, obj);
    if (chat->options.events.on_event != NULL)
        chat->options.events.on_event(chat, (struct loquat_text){name.p, name.n},
                                      (struct loquat_text){text.p, text.n});
}

/* `answer` is of the session's own auth or sync. */
static void on_own_answer(struct loquat *chat, uint64_t id, const struct json_obj *obj,
                          const struct loquat_answer *answer)
{
    if (answer->err != 0) {
        /* A token that is refused may only be old. */
        bool token = answer->err == LOQUAT_UNAUTHORIZED;
        chat->session.token_used |= token;
        session_break(chat, answer->err, answer->message, !token && !answer->retry);
        return;
    }
    const struct json_val *ok = json_get(obj, "ok");
    if (id == SESSION_ID_SYNC) {
        if (live_on_sync(chat, ok))
            session_note(chat, NOTE_SYNC);
        return;
    }
    struct json_obj inner;
    if (json_open(chat->json, ok, &inner) == 0) {
        struct span user = string(&inner, "user");
        snprintf(chat->session.user, sizeof chat->session.user, "%.*s", (int)user.n, user.p);
    }
    session_note(chat, NOTE_AUTH);
}

static void on_answer(struct loquat *chat, const struct json_obj *obj)
{
    struct answer_words words;
    struct loquat_answer answer;
    loquat_answer_fn fn;
    void *arg;
    uint64_t id = whole(obj, "id", 0);
    answer_parse(chat->json, obj, &words, &answer);
    if (id == SESSION_ID_AUTH || id == SESSION_ID_SYNC)
        on_own_answer(chat, id, obj, &answer);
    else if (requests_take(&chat->requests, id, &fn, &arg) && fn != NULL)
        fn(chat, &answer, arg);
}

static void on_object(struct loquat *chat, struct span text)
{
    struct json_obj obj;
    int err = json_parse(chat->json, text.p, text.n, &obj);
    if (err != 0) {
        session_break(chat, LOQUAT_INTERNAL, "the server sent what is no JSON object", false);
        return;
    }
    struct span name = string(&obj, "ev");
    if (name.p != NULL)
        on_event(chat, &obj, name, text);
    else
        on_answer(chat, &obj);
}

static bool listens(const struct loquat *chat)
{
    return chat->session.state >= SESSION_UPGRADE && chat->session.state <= SESSION_READY;
}

/* ---- WebSocket ---- */

static void receive_on_message(struct ws *ws, struct span text)
{
    struct loquat *chat = container_of(ws, struct loquat, ws);
    while (text.n > 0 && listens(chat)) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        if (n > 0)
            on_object(chat, span_of(text.p, n));
        n += end != NULL;
        text = span_of(text.p + n, text.n - n);
    }
}

static void receive_on_output(struct ws *ws, struct span bytes)
{
    struct loquat *chat = container_of(ws, struct loquat, ws);
    buf_add_span(&chat->conn.out, bytes);
    conn_flush(&chat->conn);
}

static void receive_on_close(struct ws *ws, int code)
{
    struct loquat *chat = container_of(ws, struct loquat, ws);
    char why[64];
    snprintf(why, sizeof why, "the server closed with code %d", code);
    bool token = code >= CLOSE_TOKEN_FIRST && code < CLOSE_NEVER_FIRST;
    bool never = code >= CLOSE_NEVER_FIRST && code < CLOSE_APP_END;
    chat->session.token_used |= token;
    session_break(chat, token || never ? LOQUAT_UNAUTHORIZED : LOQUAT_UNAVAILABLE, why, never);
}

const struct ws_ops RECEIVE_WS_OPS = {
    .on_message = receive_on_message,
    .on_output = receive_on_output,
    .on_close = receive_on_close,
};

/* ---- the answer to the upgrade ---- */

static bool upgrade_fits(const struct loquat *chat, const struct http_msg *msg)
{
    char accept[WS_ACCEPT_SIZE + 1];
    const struct span *sent = http_header_get(msg, "Sec-WebSocket-Accept");
    const struct span *protocol = http_header_get(msg, "Sec-WebSocket-Protocol");
    return msg->upgrade_websocket && sent != NULL && protocol != NULL &&
           span_is(*protocol, "loquat.v1.json") && ws_accept(span_str(chat->session.key), accept) &&
           span_is(*sent, accept);
}

static void on_upgrade(struct loquat *chat, const struct http_msg *msg)
{
    char why[96];
    if (msg->status != 101) {
        bool again = msg->status >= 500 || msg->status == 429;
        snprintf(why, sizeof why, "the server answered %d to the WebSocket upgrade", msg->status);
        session_break(chat, LOQUAT_UNAVAILABLE, why, !again);
    } else if (!upgrade_fits(chat, msg)) {
        session_break(chat, LOQUAT_UNAVAILABLE, "this is no loquat server", true);
    } else {
        session_note(chat, NOTE_UPGRADED);
    }
}

void receive_bytes(struct loquat *chat, const char *bytes, size_t n)
{
    if (chat->session.state == SESSION_UPGRADE) {
        struct http_msg msg;
        int got = http_feed(chat->http, bytes, n, &msg);
        if (got == 0)
            return;
        if (got < 0) {
            session_break(chat, LOQUAT_UNAVAILABLE, "this is no HTTP server", true);
            return;
        }
        on_upgrade(chat, &msg);
        struct span rest = http_rest(chat->http);
        bytes = rest.p;
        n = rest.n;
    }
    if (n > 0 && listens(chat))
        ws_feed(&chat->ws, bytes, n);
}
