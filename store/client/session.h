/* store/client/session.h: what a struct loquat is made of. Each part has its own file: session.c
 * (the connection's life, one tick), receive.c (what comes in), live.c (cursors and gaps), call.c
 * (requests as JSON), wait.c (blocking calls). */
#ifndef LOQUAT_CLIENT_SESSION_H
#define LOQUAT_CLIENT_SESSION_H

#include "store/base/http.h"
#include "store/base/map.h"
#include "store/base/ws.h"
#include "store/client/answer.h"
#include "store/client/conn.h"
#include "store/client/request.h"

enum {
    SESSION_ID_AUTH = 1,
    SESSION_ID_SYNC = 2,
    SESSION_MESSAGE_MAX = 8 << 20, /* of the server's: a page is 1 MiB, a sync may hold more */
    SESSION_OUT_MAX = 1 << 20,     /* bytes that wait for the socket; the rest waits as requests */
    SESSION_STEP_MS = 10000,       /* for each step until ready */
    SESSION_WAIT_MIN_MS = 500,
    SESSION_WAIT_MAX_MS = 15000,
    SESSION_SILENCE_PINGS = 3, /* pings of the server missed: the connection is dead */
};

enum session_state {
    SESSION_IDLE,
    SESSION_CONNECT, /* looks up, connects */
    SESSION_UPGRADE, /* the HTTP request is out */
    SESSION_HELLO,   /* upgraded */
    SESSION_AUTH,
    SESSION_SYNC,
    SESSION_READY,
    SESSION_BREAK, /* the connection is being closed */
    SESSION_WAIT,  /* for the next attempt */
    SESSION_ENDING,
    SESSION_ENDED,
};

enum session_note { /* what callbacks saw; the tick acts on it */
                    NOTE_START = 1,
                    NOTE_OPEN = 2,
                    NOTE_UPGRADED = 4,
                    NOTE_HELLO = 8,
                    NOTE_AUTH = 16,
                    NOTE_SYNC = 32,
                    NOTE_BREAK = 64,
                    NOTE_CLOSED = 128,
                    NOTE_TIME = 256,
                    NOTE_STOP = 512,
};

struct session {
    enum session_state state;
    unsigned notes;
    bool ticking;
    bool final;      /* no attempt after this break */
    bool token_used; /* the token was refused or expired: ask for another */
    int err;
    char why[160];
    uint32_t attempt;                  /* breaks since the last time ready */
    uint32_t goodbye_min, goodbye_max; /* ms, of a goodbye */
    uint32_t ping_ms, frame_max;
    uint64_t heard_us; /* when something came in last */
    char key[WS_KEY_SIZE + 1];
    char user[65];
};

struct live_conv {
    char c[65];
    uint64_t cursor; /* the last sequence given out */
    uint64_t seen;   /* the highest sequence heard of */
    bool known;      /* by the cursor of the caller or of a sync */
    bool told;       /* its cursor was in the sync: the server goes on from there */
    bool fills;      /* a range is under way */
    bool lagged;     /* the server waits for `resume` */
    struct loquat *chat;
};

struct live {
    struct map convs; /* conv_id → struct live_conv * */
    struct buf page;  /* of the next sync; empty: the first */
};

struct waiting { /* of a blocking call */
    bool done;
    struct loquat_answer answer;
    struct answer_words words;
    struct buf json;
};

struct loquat {
    struct loquat_options options; /* strings are the session's */
    char *token;
    struct url url;
    struct tlsc_trust *trust; /* NULL: no TLS */
    uv_loop_t *loop;
    bool own_loop;
    struct conn conn;
    struct http *http;
    struct ws ws;
    struct ws_pool *pool;
    struct json *json;
    struct session session;
    struct requests requests;
    struct live live;
    struct waiting waiting;
    uv_timer_t timer;
    uv_prepare_t prepare;
    int handles;
    bool room_wanted;
    struct buf frame, scratch;
};

/* session.c */
void session_init(struct loquat *chat);
void session_note(struct loquat *chat, unsigned note);
/* Ends the connection; the first reason of a connection is kept. */
void session_break(struct loquat *chat, int err, const char *why, bool final);
/* Answers a request with an error of the client's own. */
void session_refuse(struct loquat *chat, loquat_answer_fn fn, void *arg, int err, const char *why);
void session_send_now(struct loquat *chat, struct span text);

/* receive.c */
extern const struct ws_ops RECEIVE_WS_OPS;
void receive_bytes(struct loquat *chat, const char *bytes, size_t n);

/* live.c */
void live_init(struct loquat *chat);
void live_close(struct loquat *chat);
void live_send_sync(struct loquat *chat);
/* True when the sync is complete; otherwise the next page was asked for. */
bool live_on_sync(struct loquat *chat, const struct json_val *ok);
void live_on_record(struct loquat *chat, const struct json_obj *obj, struct span text);
void live_on_lag(struct loquat *chat, const struct json_obj *obj);
void live_on_joined(struct loquat *chat, const struct json_obj *obj);
void live_turn(struct loquat *chat); /* once per loop turn: begins the fills that are due */

#endif
