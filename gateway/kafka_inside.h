/* gateway/kafka_inside.h: the inside of kafka*.c.
 * Bounds: KAFKA_CONNS_MAX connections, each with one request in work: it is not read meanwhile, and
 *         what came behind is held, one read of the socket at most. KAFKA_OUT_MAX bytes of answers
 *         that wait for all of them: above, fetches find nothing. Who takes nothing for
 *         KAFKA_STUCK_MS is cut, so is who has not shown a token KAFKA_AUTH_MS after connecting.
 * Thread: the one of struct kafka. */
#ifndef LOQUAT_GATEWAY_KAFKA_INSIDE_H
#define LOQUAT_GATEWAY_KAFKA_INSIDE_H

#include <uv.h>

#include "gateway/cluster.h"
#include "gateway/kafka.h"
#include "gateway/kafka_wire.h"
#include "gateway/out.h"
#include "gateway/settings.h"
#include "store/base/list.h"

enum {
    KAFKA_TICK_MS = 100,
    KAFKA_STOP_TICK_MS = 20,
    KAFKA_CONNS_MAX = 1024,
    KAFKA_IN_BYTES = 64 << 10,       /* read from a socket at once */
    KAFKA_FIRST_REQUEST_MAX = 16384, /* bytes of one before a token was shown */
    KAFKA_OUT_MAX = 64 << 20,
    KAFKA_AUTH_MS = 10000, /* from connecting on, TLS and all */
    KAFKA_STUCK_MS = 30000,
    KAFKA_IDLE_MS = 900000,      /* clients themselves close after nine minutes or so */
    KAFKA_FETCH_BYTES = 1 << 20, /* stored bytes of one answer, over all its partitions */
    KAFKA_FETCH_PART_MIN = 16 << 10,
    KAFKA_FETCH_RECORDS = 4000,
    KAFKA_FETCH_WAIT_MAX_MS = 30000,
    KAFKA_WATCH_MS = 20000,     /* for something to come to a partition */
    KAFKA_OFFSET_MIN = 1 << 12, /* no record is below */
    KAFKA_GROUPS_MAX = 256,
    KAFKA_MEMBERS_MAX = 64,        /* of a group */
    KAFKA_MEMBER_BYTES = 64 << 10, /* that its protocols have, and its assignment */
    KAFKA_MEMBER_ID_MAX = 128,
    KAFKA_SESSION_MIN_MS = 1000,
    KAFKA_SESSION_MAX_MS = 1800000,
    KAFKA_LEASE_MS = 10000, /* a coordinator is gone when it was not heard of so long */
    KAFKA_RENEW_MS = 3000,  /* and is heard of so often */
    KAFKA_STOP_MS = 3000,
};

enum kafka_refusal {
    KAFKA_REFUSED_TOKEN,     /* wrong, expired, or of another scope */
    KAFKA_REFUSED_NO_TOKEN,  /* something else was asked for first, or nothing in time */
    KAFKA_REFUSED_MALFORMED, /* or not spoken here */
    KAFKA_REFUSED_TOO_LARGE,
    KAFKA_REFUSED_TOO_MANY,
    KAFKA_REFUSED_STUCK, /* takes nothing of its answer */
    KAFKA_REFUSALS,
};

enum kafka_stop { KAFKA_RUNNING, KAFKA_LEAVING, KAFKA_CLOSING, KAFKA_ENDED };

struct kafka_watch;
struct kafka {
    struct settings *settings;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_poll_t listener;
    int listen_fd;
    bool accepting;
    struct cluster cluster;
    struct address advertise;
    int32_t port, node;        /* node: its number among brokers */
    char worker[USER_MAX + 1]; /* what this gateway is called among those who share */
    struct list conns, dirty;
    size_t conn_count;
    struct out_pool out_pool;
    char *in, *plain;
    struct list waiting;         /* connections whose fetch has found nothing yet */
    struct kafka_watch *watches; /* by partition; NULL: none was needed yet */
    struct list groups;
    size_t group_count;
    enum kafka_stop stop;
    size_t leaving; /* groups that others are being told of */
    uint64_t stop_ms;
    pthread_t thread;
};

static inline uint64_t kafka_now(const struct kafka *kafka) /* ms; of this turn of the loop */
{
    return uv_now(&kafka->loop);
}

/* ---- connections: kafka_conn.c ---- */

struct kafka_fetch;
struct kafka_member;
struct kafka_conn {
    struct kafka *kafka;
    uv_poll_t poll;
    int fd;
    uint32_t refs; /* open, and one for each question to the store */
    uint8_t events;
    bool closed, stuck, close_soon;
    bool busy;   /* a request is in work */
    bool taking; /* requests are being taken */
    bool raw;    /* what comes next is a token without a request around it */
    bool known;  /* a token was accepted */
    struct list_link in_kafka, in_dirty, in_waiting;
    uint64_t opened_ms, heard_ms, moved_ms; /* heard: a request came; moved: an answer goes */
    uint64_t exp_ms;                        /* wall clock: of the token */
    char user[USER_MAX + 1];
    struct tls_conn *tls;
    struct buf in; /* what was read and is not done with */
    struct out out;
    struct arena arena; /* of the request in work */
    struct kafka_request request;
    size_t frame; /* its bytes in `in` */
    struct buf answer;
    size_t answer_at;
    struct kafka_fetch *fetch;   /* in work */
    struct kafka_member *member; /* it waits for its group */
};

void kafka_conn_open(struct kafka *kafka, int fd);
void kafka_conn_abort(struct kafka_conn *conn);
void kafka_conn_flush(struct kafka_conn *conn);
void kafka_conn_tick(struct kafka_conn *conn);
void kafka_conn_ref(struct kafka_conn *conn);
void kafka_conn_unref(struct kafka_conn *conn);
/* The answer to the request in work: its body goes into the buf, then it is sent. */
struct buf *kafka_answer(struct kafka_conn *conn);
void kafka_answered(struct kafka_conn *conn);
void kafka_refused(enum kafka_refusal why);
/* Closes it: what was asked can't be answered. */
void kafka_refuse(struct kafka_conn *conn, enum kafka_refusal why, const char *what);

/* ---- what is asked: each answers the request in work, now or later ---- */

void kafka_do_versions(struct kafka_conn *conn); /* kafka_auth.c */
void kafka_do_handshake(struct kafka_conn *conn);
void kafka_do_authenticate(struct kafka_conn *conn);
void kafka_do_raw_token(struct kafka_conn *conn, struct span bytes);
void kafka_do_metadata(struct kafka_conn *conn); /* kafka_reads.c */
void kafka_do_coordinator(struct kafka_conn *conn);
void kafka_do_produce(struct kafka_conn *conn);
void kafka_do_list_offsets(struct kafka_conn *conn);
void kafka_do_fetch(struct kafka_conn *conn); /* kafka_fetch.c */
void kafka_do_join(struct kafka_conn *conn);  /* kafka_group.c */
void kafka_do_sync(struct kafka_conn *conn);
void kafka_do_heartbeat(struct kafka_conn *conn);
void kafka_do_leave(struct kafka_conn *conn);
void kafka_do_commit(struct kafka_conn *conn); /* kafka_offsets.c */
void kafka_do_offsets(struct kafka_conn *conn);

/* One question to each of the partitions that a request names, of any topic: those that there are
 * not are answered without. `done` follows, also at once; not when the connection has closed. */
struct kafka_asks;
struct kafka_ask {
    struct kafka_asks *asks;
    const struct kafka_topic *topic;
    const struct kafka_part *part;
    int16_t err; /* enum kafka_err */
    int64_t offset, ms;
};
struct kafka_asks {
    struct kafka_conn *conn;
    size_t count, left;
    struct kafka_ask *asks; /* in the order of the request */
    /* Asks; 0: `on_reply` follows, else an enum err. */
    int (*ask)(struct kafka_ask *ask);
    void (*on_reply)(struct kafka_ask *ask, const Loquat__Reply *reply);
    void (*done)(struct kafka_asks *asks);
    void *arg;
};
struct kafka_asks *kafka_asks_new(struct kafka_conn *conn); /* in the request's arena */
void kafka_asks_start(struct kafka_asks *asks);
void kafka_asks_reply(void *ask, const Loquat__Reply *reply); /* for cluster_read */
/* Writes topics and their partitions, each by `say`. */
void kafka_asks_say(struct kafka_asks *asks, struct buf *out,
                    void (*say)(struct buf *out, const struct kafka_ask *ask));
bool kafka_part_known(const struct kafka *kafka, const struct kafka_topic *topic, int32_t p);

/* ---- fetches ---- */

void kafka_fetch_end(struct kafka_conn *conn); /* its connection has closed */
void kafka_fetch_tick(struct kafka *kafka);
void kafka_fetch_close(struct kafka *kafka);
static inline uint64_t kafka_end_of(uint64_t head) /* the offset behind the last record */
{
    return head + 1 > KAFKA_OFFSET_MIN ? head + 1 : KAFKA_OFFSET_MIN;
}

/* ---- leases: kafka_lease.c: a consumer that this gateway is the only worker of ---- */

struct kafka_lease {
    struct kafka *kafka;
    char name[USER_MAX + 1], user[USER_MAX + 1];
    bool keeps; /* registers as its worker; else only looks that nobody else is */
    bool held, gone, registered, asking;
    uint64_t generation;
    uint64_t asked_ms, heard_ms; /* the last registration: asked for; known to be in force */
    size_t left;                 /* partitions to be told of a new consumer */
    uint32_t refs;
    int16_t err;
    /* It is held (err is 0), or is not to be had. Once. */
    void (*done)(struct kafka_lease *lease);
    void (*lost)(struct kafka_lease *lease, int16_t err); /* after it was held */
    void *arg;
};
struct kafka_lease *kafka_lease_new(struct kafka *kafka, struct span name, const char *user,
                                    bool keeps);
void kafka_lease_take(struct kafka_lease *lease);
void kafka_lease_tick(struct kafka_lease *lease); /* while it is held */
void kafka_lease_drop(struct kafka_lease *lease); /* gives it back, frees it; neither is called */

/* ---- groups ---- */

enum kafka_group_state { KAFKA_JOINING, KAFKA_SYNCING, KAFKA_STABLE };
struct kafka_group {
    struct kafka *kafka;
    struct list_link in_kafka;
    char name[USER_MAX + 1];
    enum kafka_group_state state;
    int32_t generation;
    struct kafka_lease *lease;
    struct list members; /* in the order in which they came; the first leads */
    size_t member_count;
    char *type, *protocol;
    uint64_t join_until_ms; /* who has not joined again by then is gone */
};
struct kafka_group *kafka_group_find(const struct kafka *kafka, struct span name);
/* KAFKA_NONE: the request's member, of the present generation, heard of now. */
int16_t kafka_group_check(struct kafka_group *group, const struct kafka_request *request);
void kafka_group_lost(struct kafka_group *group, int16_t err); /* all of it ends */
void kafka_member_unheard(struct kafka_conn *conn); /* of the member it waited for, it has closed */
void kafka_groups_tick(struct kafka *kafka);
void kafka_groups_leave(struct kafka *kafka);

void kafka_conn_metrics(void);
void kafka_group_metrics(void);

#endif
