/* store/base/bound.h: how often each bound was reached, so that an alarm can be put on it: one
 * counter for each, loquat_bound_hits_total by `bound`. All that a bound holds back, refuses or
 * ends is counted here, but what has a metric of its own (connections refused, sessions that lag).
 * Thread: any; one relaxed add, and only where a bound is reached. */
#ifndef LOQUAT_BASE_BOUND_H
#define LOQUAT_BASE_BOUND_H

enum bound_side { BOUND_OF_NODE, BOUND_OF_GATEWAY };

/* side, name, the label's value. docs/OPERATING.md says of each what is to be done. */
#define BOUNDS(X)                                                                                  \
    X(NODE, DISK, "disk_reserve")           /* a write, refused: NODE_DISK_RESERVE_DEFAULT */      \
    X(NODE, SHARD_WAITING, "shard_waiting") /* a write, refused: SHARD_WAITING_MAX */              \
    X(NODE, PEERS, "links")                 /* a link, closed: PEERS_MAX */                        \
    X(NODE, PEER_READS, "link_reads")       /* a read, refused: PEER_READS_MAX */                  \
    X(NODE, PEER_PENDING, "link_pending")   /* a read, refused: PEER_PENDING_MAX */                \
    X(NODE, CALLERS, "link_callers")        /* a caller, cut for a later one: DOOR_CALLERS_MAX */  \
    X(NODE, LINK_FILES, "link_files")       /* the door rests: no descriptors */                   \
    X(NODE, LINK_STEPS, "link_handshakes")  /* a step of TLS, put off: DOOR_STEPS_MAX */           \
    X(NODE, FEED_SUBS, "feed_subs")         /* a subscription, refused: FEED_SUBS_MAX */           \
    X(NODE, FEED_CREDIT, "feed_credit")     /* a subscription falls behind: no credit */           \
    X(NODE, FEED_WAITS, "feed_waits")       /* a page of a feed does not wait: FEED_WAITS_MAX */   \
    X(NODE, FEED_MARKS, "feed_marks")       /* a mark is not told: no credit */                    \
    X(NODE, WATCHES, "watches")             /* a user, not watched: PRESENCE_WATCHES_MAX */        \
    X(NODE, RNET_PENDING, "node_pending")   /* said to a node, dropped: RNET_PENDING_MAX */        \
    X(NODE, REPLY_BYTES, "reply_bytes")     /* an answer, too large: LINK_MESSAGE_MAX */           \
    X(NODE, CONV_CACHE, "conv_cache")       /* caches emptied: CONV_CACHE_MAX */                   \
    X(NODE, MEMBER_CACHE, "member_cache")   /* caches emptied: MEMBER_CACHE_MAX */                 \
    X(NODE, CONTROL_JOBS, "compact_jobs")   /* a job, refused: one at a time */                    \
    X(NODE, CONTROL_LINKS, "compact_links") /* a link, closed: CONTROL_CLIENTS_MAX */              \
    X(GATEWAY, RATE, "user_rate")           /* a request, refused: --rate, --burst */              \
    X(GATEWAY, FLOOD, "conv_rate")          /* a change, refused: --conv-rate, --conv-rate-all */  \
    X(GATEWAY, USER_CONNS, "user_connections")   /* refused: --user-connections */                 \
    X(GATEWAY, CONN_FILES, "connection_files")   /* accepting rests: no descriptors */             \
    X(GATEWAY, CONN_OUT, "connection_out")       /* not read for a while: CONN_OUT_HIGH */         \
    X(GATEWAY, CONN_READS, "connection_reads")   /* the same: CONN_READS_MAX, CONN_PAGES_MAX */    \
    X(GATEWAY, CONN_WRITES, "connection_writes") /* the same: CONN_WRITES_MAX */                   \
    X(GATEWAY, GATE_OUT, "loop_out")             /* a read, refused: GATE_OUT_MAX */               \
    X(GATEWAY, HANDSHAKES, "loop_handshakes")    /* a step of TLS, put off: GATE_HANDSHAKES_MAX */ \
    X(GATEWAY, FOLLOWS, "session_follows")       /* a log, not followed: SESSION_FOLLOWS_MAX */    \
    X(GATEWAY, KAFKA_CONNS, "kafka_connections") /* a connection, refused: KAFKA_CONNS_MAX */      \
    X(GATEWAY, KAFKA_REQUEST, "kafka_request")   /* closed: KAFKA_REQUEST_MAX */                   \
    X(GATEWAY, KAFKA_OUT, "kafka_out")           /* a fetch finds nothing: KAFKA_OUT_MAX */        \
    X(GATEWAY, KAFKA_GROUPS,                                                                       \
      "kafka_groups") /* a member, refused: KAFKA_GROUPS_MAX, _MEMBERS_MAX */                      \
    X(GATEWAY, CLUSTER_ASKS,                                                                       \
      "cluster_requests") /* the same: CLUSTER_ASKS_MAX, CLUSTER_BYTES_MAX */                      \
    X(GATEWAY, UPSTREAM_CALLS, "upstream_calls")     /* a request, refused: UPSTREAM_CALLS_MAX */  \
    X(GATEWAY, UPSTREAM_PENDING, "upstream_pending") /* the same: UPSTREAM_PENDING_MAX */          \
    X(GATEWAY, UPSTREAM_PAGES, "upstream_pages") /* a page waits for its turn: UPSTREAM_PAGES_MAX */

enum bound {
#define X(s, n, l) BOUND_##n,
    BOUNDS(X)
#undef X
        BOUND_COUNT
};

void bounds_register(enum bound_side side); /* their counters; once */
void bound_hit(enum bound bound);

#endif
