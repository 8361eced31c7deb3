/* loquat.h: talk to a loquat server from C or C++ (docs/PROTOCOL.md says what the operations mean).
 *
 * A session is one WebSocket connection that comes back by itself: after a break it waits a random
 * time, authenticates again, resends what was not answered (with the same `cid`, so that nothing is
 * written twice) and goes on with every conversation after the last record that it gave out.
 *
 *   struct loquat_options options = {.url = "http://127.0.0.1:8080", .token = token};
 *   struct loquat *chat = loquat_new(&options, NULL, 0);
 *   struct loquat_answer answer;
 *   if (loquat_wait_send(chat, &(struct loquat_message){.c = c, .text = "hello"}, &answer) != 0)
 *       fprintf(stderr, "%s: %s\n", answer.code, answer.message);
 *   loquat_free(chat);
 *
 * Two ways to use it. With callbacks, on a libuv loop of the caller's (options.loop) or on the
 * session's own (loquat_run). Or blocking: a `loquat_wait_…` runs the loop until it is answered.
 * What is long, a whole conversation, one that is followed, or the feeds of all of them for a
 * backend job, is read without a session: blocking (loquat_read, loquat_tail, loquat_read_feed),
 * or on a loop of the caller's (loquat_start_…).
 *
 * Memory: what a callback or a struct loquat_answer hands out belongs to the session: that of a
 *         callback until it returns, that of a wait until the next call on the session.
 * Thread: a session is used from one thread, its loop's.
 * Limits: `window` requests in flight; more are refused with LOQUAT_BUSY until on_room.
 * URLs:   http://HOST[:PORT] or ws://HOST[:PORT]; with TLS https:// or wss://: the server's
 *         certificate must have that name and be trusted (options.ca, or the system).
 * A request that was accepted (0) calls back exactly once, later, never from inside. From inside a
 * callback neither loquat_run, loquat_free nor a loquat_wait_… may be called. */
#ifndef LOQUAT_H
#define LOQUAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;
struct loquat;

enum loquat_err {
    LOQUAT_OK = 0,
    LOQUAT_BAD_REQUEST = -1,
    LOQUAT_UNAUTHORIZED = -2,
    LOQUAT_FORBIDDEN = -3,
    LOQUAT_NOT_FOUND = -4,
    LOQUAT_CONFLICT = -5,
    LOQUAT_TOO_LARGE = -6,
    LOQUAT_RATE_LIMITED = -7,
    LOQUAT_TRIMMED = -8,
    LOQUAT_UNAVAILABLE = -9,
    LOQUAT_INTERNAL = -10,
    LOQUAT_BUSY = -25,   /* the window is full: on_room says when it is not */
    LOQUAT_CLOSED = -26, /* the session ended, or could not begin */
};

/* The name of an error as the server writes it ("not_found"). */
const char *loquat_err_name(int err);

struct loquat_text { /* n bytes, not ended by NUL; p NULL: absent */
    const char *p;
    size_t n;
};

/* What became of a request. */
struct loquat_answer {
    int err;                 /* enum loquat_err */
    const char *code;        /* "" or as the server says: "conflict" */
    const char *message;     /* for people */
    bool retry;              /* the same request may work later */
    uint32_t after_ms;       /* … not before */
    struct loquat_text json; /* the `ok` object, as sent */
    /* of a write */
    uint64_t s, ts, n;
    bool dup; /* it was written before */
};

/* A record or a hole of a conversation. */
struct loquat_record {
    struct loquat_text c;
    uint64_t s, last; /* a hole: the first and last sequence; otherwise the same twice */
    bool hole;
    struct loquat_text why; /* of a hole */
    uint64_t ts, n;
    struct loquat_text from, kind;
    struct loquat_text body; /* a JSON object, as written */
    struct loquat_text json; /* all of it, as sent */
};

typedef void (*loquat_answer_fn)(struct loquat *, const struct loquat_answer *, void *arg);

struct loquat_events { /* any may be NULL */
    /* Authenticated, and live if asked for: at first and after every break. */
    void (*on_ready)(struct loquat *, const char *user);
    /* Live: records and holes of the user's conversations, each sequence once and in order. */
    void (*on_record)(struct loquat *, const struct loquat_record *);
    /* Every other event of the server, as sent: typing, presence, mark, joined, … */
    void (*on_event)(struct loquat *, struct loquat_text name, struct loquat_text json);
    /* The connection broke; the next attempt comes after retry_ms. */
    void (*on_down)(struct loquat *, int err, const char *why, uint32_t retry_ms);
    /* The window has room again after LOQUAT_BUSY. */
    void (*on_room)(struct loquat *);
    /* The token expired: a fresh one, or NULL to give up. */
    const char *(*on_token)(struct loquat *);
    /* It is over: loquat_stop was called, or the server does not want this client back. */
    void (*on_end)(struct loquat *, int err, const char *why);
};

struct loquat_options {
    const char *url;        /* default http://127.0.0.1:8080 */
    const char *ca;         /* of https://: certificates to trust, a PEM file; NULL: the system's */
    const char *token;      /* JWT */
    const char *device;     /* default "c" */
    struct uv_loop_s *loop; /* NULL: the session makes its own */
    uint32_t window;        /* default 256, at most 65,536 */
    bool live;              /* on_record from the cursors on */
    bool no_retry;          /* a break ends the session */
    struct loquat_events events;
    void *data; /* the caller's: loquat_data */
};

/* NULL when the options are wrong, or no event loop is to be had: `why` (may be NULL) says so.
 * Strings are copied. Nothing is connected before loquat_start or a wait. */
struct loquat *loquat_new(const struct loquat_options *options, char *why, size_t why_size);
void *loquat_data(const struct loquat *chat);
void loquat_start(struct loquat *chat);
/* Ends the session: unanswered requests are answered LOQUAT_CLOSED, then on_end is called. */
void loquat_stop(struct loquat *chat);
/* Stops if need be and frees. On a loop of the caller's it may be called after on_end only. */
void loquat_free(struct loquat *chat);
/* Runs the session's own loop until it ends; returns what on_end was told. */
int loquat_run(struct loquat *chat);

/* ---- requests ---- */

struct loquat_message {
    const char *c;
    const char *text;              /* kind text with this text; or: */
    const char *kind;              /* default "text" */
    const char *body;              /* a JSON object */
    const char *cid;               /* default: one is made */
    uint64_t reply, thread, ttl_s; /* 0: none */
};
struct loquat_range {
    const char *c;
    uint64_t from, to; /* 0: the default */
    uint32_t max;
    bool folded, desc;
};

/* Any operation. `fields`: the members of the request without braces and without an id, such as
 * "op":"members","c":"g-…". A write without a `cid` may happen twice when the connection breaks. */
int loquat_request(struct loquat *chat, const char *fields, size_t size, loquat_answer_fn fn,
                   void *arg);
/* Without an answer (typing): lost when there is no connection at the moment. */
int loquat_post(struct loquat *chat, const char *fields, size_t size);
int loquat_send(struct loquat *chat, const struct loquat_message *message, loquat_answer_fn fn,
                void *arg);
int loquat_open_direct(struct loquat *chat, const char *with, loquat_answer_fn fn, void *arg);
int loquat_open_group(struct loquat *chat, const char *name, const char *const *members,
                      size_t count, const char *cid, loquat_answer_fn fn, void *arg);
int loquat_mark_read(struct loquat *chat, const char *c, uint64_t s, loquat_answer_fn fn,
                     void *arg);
int loquat_range(struct loquat *chat, const struct loquat_range *range, loquat_answer_fn fn,
                 void *arg);
/* Live: the last sequence of `c` that this client holds. Before loquat_start. */
void loquat_set_cursor(struct loquat *chat, const char *c, uint64_t s);
uint64_t loquat_cursor(const struct loquat *chat, const char *c);
size_t loquat_in_flight(const struct loquat *chat);

/* Blocking: 0 or the error, which answer->code and ->message explain. */
int loquat_wait_request(struct loquat *chat, const char *fields, size_t size,
                        struct loquat_answer *answer);
int loquat_wait_send(struct loquat *chat, const struct loquat_message *message,
                     struct loquat_answer *answer);
int loquat_wait_open_direct(struct loquat *chat, const char *with, struct loquat_answer *answer);
int loquat_wait_open_group(struct loquat *chat, const char *name, const char *const *members,
                           size_t count, const char *cid, struct loquat_answer *answer);
int loquat_wait_range(struct loquat *chat, const struct loquat_range *range,
                      struct loquat_answer *answer);

/* ---- HTTP ---- */

/* Return false to stop. */
typedef bool (*loquat_line_fn)(struct loquat_text line, void *arg);
typedef bool (*loquat_record_fn)(const struct loquat_record *record, void *arg);

/* Blocking, one connection each; of the options url, ca and token count. `why` explains an error.
 * loquat_ask: `method` is GET, PUT, POST or DELETE, `target` a path ("/v1/conversations/…",
 * percent-encoded), `body` JSON or NULL. With `accept` NULL the answer comes as one text, otherwise
 * (application/x-ndjson) line by line. A write whose answer was lost may have happened.
 * loquat_get: the same with GET. */
int loquat_ask(const struct loquat_options *options, const char *method, const char *target,
               const char *body, const char *accept, loquat_line_fn fn, void *arg, char *why,
               size_t why_size);
int loquat_get(const struct loquat_options *options, const char *target, const char *accept,
               loquat_line_fn fn, void *arg, char *why, size_t why_size);
/* Every record and hole of a range, however long, by NDJSON. */
int loquat_read(const struct loquat_options *options, const struct loquat_range *range,
                loquat_record_fn fn, void *arg, char *why, size_t why_size);
/* Follows one conversation by Server-Sent Events, from sequence `from` on (0: what comes), without
 * an end; comes back after breaks unless no_retry, each sequence once. */
int loquat_tail(const struct loquat_options *options, const char *c, uint64_t from,
                loquat_record_fn fn, void *arg, char *why, size_t why_size);

/* ---- feeds: all conversations, partition by partition, in the order of their writing ---- */

struct loquat_feed_record {
    uint64_t offset;
    struct loquat_record record;
};
struct loquat_feed_page { /* of one partition */
    uint32_t p;
    const struct loquat_feed_record *records; /* one at least */
    size_t count;
    uint64_t next; /* the place behind it: `after` of whoever keeps places himself */
    uint64_t head; /* offset of the partition's last record */
};
/* Takes a page, all of it or nothing. True: it is done with; of a consumer, its cursor moves
 * behind it. False: stops, and the page comes again to the next reader of the consumer. */
typedef bool (*loquat_feed_fn)(const struct loquat_feed_page *page, void *arg);

struct loquat_place {
    uint32_t p;
    uint64_t after; /* an offset; 0: from the start */
};
/* What to read. With a consumer: what its workers have shared out to this one, from its cursors
 * on; each record comes to one of them, and comes again when that one is lost before the cursor
 * moved. Without: every partition, from where is said here. The token needs scope jobs or admin. */
struct loquat_feed {
    const char *consumer; /* which has to be there: PUT /v1/consumers/NAME makes it */
    const char *worker;   /* unlike those of all others; NULL: host, process and a number */
    const struct loquat_place *places; /* where to begin; others at the start */
    size_t place_count;
    bool only;    /* the partitions of `places`, no others */
    uint64_t at;  /* instead of places: everything from this time on, ms */
    uint64_t max; /* records at most; 0: all. Not of a consumer */
    bool follow;  /* goes on with what comes, through breaks; otherwise ends where the feed (of a
                    * consumer: all its workers) has come to where it was at the beginning */
};
/* Blocking. 0: it came to its end, or `fn` said false. */
int loquat_read_feed(const struct loquat_options *options, const struct loquat_feed *feed,
                     loquat_feed_fn fn, void *arg, char *why, size_t why_size);

/* ---- the same on a loop of the caller's (options.loop) ---- */

struct loquat_reader; /* a range, a tail or a feed that is being read */
/* It is over, as the blocking call returns, or 0 after loquat_reader_stop. Comes exactly once,
 * last; when it returns the reader is gone. */
typedef void (*loquat_end_fn)(int err, const char *why, void *arg);
/* NULL when the options are wrong: `why` (may be NULL) says so. Strings and places are copied.
 * Nothing is called from inside. `arg` is that of both functions. */
struct loquat_reader *loquat_start_read(const struct loquat_options *options,
                                        const struct loquat_range *range, loquat_record_fn fn,
                                        loquat_end_fn end, void *arg, char *why, size_t why_size);
struct loquat_reader *loquat_start_tail(const struct loquat_options *options, const char *c,
                                        uint64_t from, loquat_record_fn fn, loquat_end_fn end,
                                        void *arg, char *why, size_t why_size);
struct loquat_reader *loquat_start_feed(const struct loquat_options *options,
                                        const struct loquat_feed *feed, loquat_feed_fn fn,
                                        loquat_end_fn end, void *arg, char *why, size_t why_size);
/* No function but `end` is called any more; a worker moves its cursors behind what was taken and
 * leaves before that. May be called from inside `fn`, and more than once. */
void loquat_reader_stop(struct loquat_reader *reader);

/* A conversation's id as part of a target. Returns the length, as snprintf. */
size_t loquat_path_escape(const char *text, char *out, size_t size);

#ifdef __cplusplus
}
#endif
#endif
