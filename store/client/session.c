#include "store/client/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/clock.h"

static void session_tick(struct loquat *chat);

void session_note(struct loquat *chat, unsigned note)
{
    chat->session.notes |= note;
    session_tick(chat);
}

static bool take(struct session *session, unsigned note)
{
    bool there = (session->notes & note) != 0;
    session->notes &= ~note;
    return there;
}

void session_break(struct loquat *chat, int err, const char *why, bool final)
{
    struct session *session = &chat->session;
    if (session->why[0] == 0) {
        session->err = err;
        snprintf(session->why, sizeof session->why, "%s", why);
    }
    session->final |= final;
    session_note(chat, NOTE_BREAK);
}

void session_refuse(struct loquat *chat, loquat_answer_fn fn, void *arg, int err, const char *why)
{
    struct answer_words words;
    struct loquat_answer answer;
    answer_make(err, why, &words, &answer);
    if (fn != NULL)
        fn(chat, &answer, arg);
}

/* ---- the connection's callbacks: note what happened ---- */

static void session_on_open(struct conn *conn)
{
    session_note(conn->data, NOTE_OPEN);
}

static void session_on_bytes(struct conn *conn, const char *bytes, size_t n)
{
    struct loquat *chat = conn->data;
    chat->session.heard_us = clock_mono_us();
    receive_bytes(chat, bytes, n);
}

static void session_on_close(struct conn *conn, const char *why)
{
    struct loquat *chat = conn->data;
    struct session *session = &chat->session;
    if (session->why[0] == 0) {
        session->err = LOQUAT_UNAVAILABLE;
        snprintf(session->why, sizeof session->why, "%s", why);
    }
    session_note(chat, NOTE_CLOSED);
}

static const struct conn_ops CONN_OPS = {
    .on_open = session_on_open,
    .on_bytes = session_on_bytes,
    .on_close = session_on_close,
};

static void session_on_timer(uv_timer_t *timer)
{
    session_note(timer->data, NOTE_TIME);
}

/* ---- what goes out ---- */

void session_send_now(struct loquat *chat, struct span text)
{
    ws_frame_masked(&chat->conn.out, text);
    conn_flush(&chat->conn);
}

static void flush_requests(struct loquat *chat)
{
    while (conn_pending(&chat->conn) < SESSION_OUT_MAX &&
           requests_frame(&chat->requests, chat->session.frame_max, &chat->frame))
        ws_frame_masked(&chat->conn.out, buf_span(&chat->frame));
    conn_flush(&chat->conn);
}

/* Once per loop turn, before the loop sleeps. */
static void session_on_turn(uv_prepare_t *prepare)
{
    struct loquat *chat = prepare->data;
    if (chat->session.state != SESSION_READY)
        return;
    if (chat->room_wanted && chat->requests.used < chat->requests.window) {
        chat->room_wanted = false;
        if (chat->options.events.on_room != NULL)
            chat->options.events.on_room(chat);
    }
    if (chat->options.live)
        live_turn(chat);
    if (chat->session.state == SESSION_READY)
        flush_requests(chat);
}

static void send_upgrade(struct loquat *chat)
{
    struct buf *out = &chat->conn.out;
    ws_key(chat->session.key);
    buf_add_str(out, "GET /v1/ws HTTP/1.1\r\nHost: ");
    url_add_host(&chat->url, out);
    buf_addf(out,
             "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Protocol: loquat.v1.json\r\nSec-WebSocket-Key: %s\r\n\r\n",
             chat->session.key);
    conn_flush(&chat->conn);
}

static void send_auth(struct loquat *chat)
{
    struct buf *text = &chat->scratch;
    text->n = 0;
    buf_addf(text, "{\"id\":%d,\"op\":\"auth\",\"token\":", SESSION_ID_AUTH);
    json_put_string(text, span_str(chat->token));
    buf_add_str(text, ",\"device\":");
    json_put_string(text, span_str(chat->options.device));
    buf_add_byte(text, '}');
    session_send_now(chat, buf_span(text));
}

/* ---- the life of a connection ---- */

static void step_timer(struct loquat *chat, uint64_t ms)
{
    chat->session.notes &= ~NOTE_TIME;
    uv_timer_start(&chat->timer, session_on_timer, ms, 0);
}

static enum session_state begin_connect(struct loquat *chat)
{
    struct session *session = &chat->session;
    session->notes &= NOTE_STOP;
    session->err = 0;
    session->why[0] = 0;
    session->final = chat->options.no_retry;
    session->goodbye_min = session->goodbye_max = 0;
    ASSERT(chat->http == NULL);
    chat->http = http_new(false, 65536, false);
    ws_init(&chat->ws, chat->pool, &RECEIVE_WS_OPS);
    chat->conn.data = chat;
    conn_open(&chat->conn, chat->loop, &chat->url, chat->trust, &CONN_OPS);
    step_timer(chat, SESSION_STEP_MS);
    return SESSION_CONNECT;
}

static enum session_state begin_ready(struct loquat *chat)
{
    chat->session.attempt = 0;
    chat->session.token_used = false;
    requests_rewind(&chat->requests);
    if (chat->session.ping_ms > 0)
        step_timer(chat, (uint64_t)chat->session.ping_ms * SESSION_SILENCE_PINGS);
    else
        uv_timer_stop(&chat->timer);
    return SESSION_READY;
}

/* Full jitter: anything between nothing and a bound that doubles. */
static uint32_t wait_ms(const struct session *session)
{
    if (session->goodbye_max > session->goodbye_min)
        return session->goodbye_min +
               (uint32_t)(random_u64() % (session->goodbye_max - session->goodbye_min));
    uint32_t bound = SESSION_WAIT_MIN_MS;
    for (uint32_t i = 0; i < session->attempt && bound < SESSION_WAIT_MAX_MS; i++)
        bound *= 2;
    return (uint32_t)(random_u64() % (bound < SESSION_WAIT_MAX_MS ? bound : SESSION_WAIT_MAX_MS));
}

static bool fresh_token(struct loquat *chat)
{
    const char *token =
        chat->options.events.on_token != NULL ? chat->options.events.on_token(chat) : NULL;
    if (token == NULL)
        return false;
    free(chat->token);
    chat->token = xstrdup(token);
    chat->session.token_used = false;
    return true;
}

static void session_on_handle_closed(uv_handle_t *handle)
{
    struct loquat *chat = handle->data;
    if (--chat->handles == 0)
        session_note(chat, NOTE_CLOSED);
}

static enum session_state begin_end(struct loquat *chat)
{
    uv_close((uv_handle_t *)&chat->timer, session_on_handle_closed);
    uv_close((uv_handle_t *)&chat->prepare, session_on_handle_closed);
    return SESSION_ENDING;
}

static enum session_state after_close(struct loquat *chat)
{
    struct session *session = &chat->session;
    ws_close(&chat->ws);
    http_free(chat->http);
    chat->http = NULL;
    if (session->notes & NOTE_STOP || session->final || (session->token_used && !fresh_token(chat)))
        return begin_end(chat);
    uint32_t ms = wait_ms(session);
    session->attempt++;
    step_timer(chat, ms);
    if (chat->options.events.on_down != NULL)
        chat->options.events.on_down(chat, session->err, session->why, ms);
    return SESSION_WAIT;
}

static void after_end(struct loquat *chat)
{
    loquat_answer_fn fn;
    void *arg;
    while (requests_take_first(&chat->requests, &fn, &arg))
        session_refuse(chat, fn, arg, LOQUAT_CLOSED, chat->session.why);
    if (chat->options.events.on_end != NULL)
        chat->options.events.on_end(chat, chat->session.err, chat->session.why);
}

/* The steps up to ready; the state it is in when nothing new was noted. */
static enum session_state tick_step(struct loquat *chat)
{
    struct session *session = &chat->session;
    switch (session->state) {
    case SESSION_CONNECT:
        if (!take(session, NOTE_OPEN))
            break;
        send_upgrade(chat);
        return SESSION_UPGRADE;
    case SESSION_UPGRADE:
        return take(session, NOTE_UPGRADED) ? SESSION_HELLO : SESSION_UPGRADE;
    case SESSION_HELLO:
        if (!take(session, NOTE_HELLO))
            break;
        send_auth(chat);
        return SESSION_AUTH;
    case SESSION_AUTH:
        if (!take(session, NOTE_AUTH))
            break;
        if (!chat->options.live)
            return begin_ready(chat);
        live_send_sync(chat);
        return SESSION_SYNC;
    case SESSION_SYNC:
        return take(session, NOTE_SYNC) ? begin_ready(chat) : SESSION_SYNC;
    default:
        break;
    }
    return session->state;
}

static enum session_state tick_connected(struct loquat *chat)
{
    struct session *session = &chat->session;
    if (take(session, NOTE_TIME)) {
        uint64_t silence_ms = (clock_mono_us() - session->heard_us) / 1000;
        uint64_t limit_ms = (uint64_t)session->ping_ms * SESSION_SILENCE_PINGS;
        if (session->state == SESSION_READY && silence_ms < limit_ms)
            step_timer(chat, limit_ms - silence_ms);
        else if (session->why[0] == 0)
            snprintf(session->why, sizeof session->why, "no answer in time");
        session->notes |= session->why[0] != 0 ? NOTE_BREAK : 0;
    }
    if (take(session, NOTE_BREAK) || session->notes & NOTE_STOP) {
        if (session->why[0] == 0)
            snprintf(session->why, sizeof session->why, "stopped");
        if (session->err == 0 && !(session->notes & NOTE_STOP))
            session->err = LOQUAT_UNAVAILABLE;
        if (session->notes & NOTE_STOP && session->state > SESSION_UPGRADE)
            ws_send_close(&chat->ws, 1000, "");
        conn_close(&chat->conn, session->why);
        return SESSION_BREAK;
    }
    return tick_step(chat);
}

static enum session_state tick_once(struct loquat *chat)
{
    struct session *session = &chat->session;
    switch (session->state) {
    case SESSION_IDLE:
        if (session->notes & NOTE_STOP)
            return begin_end(chat);
        return take(session, NOTE_START) ? begin_connect(chat) : SESSION_IDLE;
    case SESSION_WAIT:
        if (session->notes & NOTE_STOP)
            return begin_end(chat);
        return take(session, NOTE_TIME) ? begin_connect(chat) : SESSION_WAIT;
    case SESSION_ENDING:
        return take(session, NOTE_CLOSED) ? SESSION_ENDED : SESSION_ENDING;
    case SESSION_ENDED:
        return SESSION_ENDED;
    default:
        break;
    }
    if (take(session, NOTE_CLOSED))
        return after_close(chat);
    return session->state == SESSION_BREAK ? SESSION_BREAK : tick_connected(chat);
}

/* The only place where the state changes. */
static void session_tick(struct loquat *chat)
{
    struct session *session = &chat->session;
    if (session->ticking)
        return; /* the tick that runs sees the note */
    session->ticking = true;
    enum session_state before;
    bool moved, ready = false, ended = false;
    do {
        before = session->state;
        session->state = tick_once(chat);
        moved = session->state != before;
        ready |= moved && session->state == SESSION_READY;
        ended |= moved && session->state == SESSION_ENDED;
    } while (moved);
    session->ticking = false;
    if (ended)
        after_end(chat); /* chat may be gone from here */
    else if (ready && session->state == SESSION_READY && chat->options.events.on_ready != NULL)
        chat->options.events.on_ready(chat, chat->session.user);
}

void session_init(struct loquat *chat)
{
    uv_timer_init(chat->loop, &chat->timer);
    uv_prepare_init(chat->loop, &chat->prepare);
    chat->timer.data = chat->prepare.data = chat;
    uv_prepare_start(&chat->prepare, session_on_turn);
    chat->handles = 2;
    chat->session.frame_max = 65536;
}
