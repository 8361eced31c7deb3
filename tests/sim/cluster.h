/* tests/sim/cluster.h: the parts of the simulated cluster: see cluster.c. */
#ifndef LOQUAT_TESTS_SIM_CLUSTER_H
#define LOQUAT_TESTS_SIM_CLUSTER_H

#include <stdio.h>

#include "replication/effects.h"
#include "replication/readindex.h"
#include "store/base/ids.h"
#include "tests/sim/world.h"

enum {
    NODES_MAX = 5,
    CLIENTS = 4,
    CIDS_MAX = 20000,
    TERMS_MAX = 4096,
    INDEX_MAX = 100000,
    STORM_MS = 30000, /* of faults */
    HEAL_MS = 30000,  /* at most, until all nodes are equal */
    STEP_MS = 20,
    FAILURES_MAX = 5,
    TRAILING_MAX = 12,
    UNEVEN_TRAILING = 200,
    CHUNK_BYTES = 400,
    MARK_BYTES = 500,
    MOVE_BYTES = 1500,
    MEMBER_EVERY = 8, /* of what clients write is a member who is added */
};

struct packet {
    struct packet *next;
    uint64_t due_ms;
    unsigned from, to;
    enum link_type type;
    struct buf bytes;
};

struct node {
    unsigned number;          /* id - 1 */
    bool up, damaged, fenced; /* fenced: stays down for good */
    bool power_cut;           /* how it went down last */
    bool doomed;              /* goes down at the end of this step */
    struct kv *data;
    struct journal *journal;
    struct watermark *mark;
    struct wal *wal;
    struct applier *applier;
    struct shard_env env;
    struct shard shard;
    struct effects effects;
    struct readindex reads;
    struct reading *readings;
};

struct client {
    uint64_t number; /* of the message it has under way; 0: opens the conversation */
    uint64_t attempt, again_ms;
    bool waits;
};

/* How rough a run is: what happens once in so many steps. */
struct weather {
    unsigned crash, start, cut, alone, split, heal, whole, flush, trim, move, change, transfer;
    uint32_t trailing; /* entries that stay when a log is trimmed */
};

struct world {
    unsigned nodes;
    struct weather weather;
    unsigned doom;        /* percent of votes given, and of logs cut, at which the node crashes */
    unsigned lag;         /* percent of messages that are long on their way */
    unsigned rest_ms;     /* of a client between two messages, at most */
    unsigned patience_ms; /* of a client with a node, beside a third of it; at most */
    unsigned loss;        /* percent of nodes that are down which never come back: of one at most */
    struct node node[NODES_MAX];
    bool cut[NODES_MAX][NODES_MAX];
    uint64_t link_ms[NODES_MAX][NODES_MAX];
    struct packet *net, *read_net;
    uint64_t newcomer_dice, newcomer_ms, newcomers; /* when it comes; that have come */
    unsigned lost;                                  /* number + 1 of the node in whose place */
    uint64_t leave_dice, leaves; /* of runs in which nodes leave: 0, none do; that have left */
    uint64_t read_dice, reads, acked_index; /* of the log: what was acknowledged is not behind it */
    struct client client[CLIENTS];
    char conv[MADE_ID_SIZE + 1];
    bool opened;
    uint64_t cids, acked[CIDS_MAX]; /* its sequence; 0: not acknowledged */
    uint64_t attempts;
    unsigned leader[TERMS_MAX]; /* number + 1 */
    uint64_t digest[INDEX_MAX];
    uint64_t seed, commits, crashes, elections, changes;
    bool failed, trace, trace_messages, calm, harmed, slow_disk, uneven, closing;
    bool members_change; /* in this run, and then nothing is lost for good: who has a vote and does
                            not know it yet does not give it (docs/decisions/0011) */
};
extern struct world world;
extern int world_season; /* that every run has; -1: each its own */

/* The run has failed; only the first reason is printed. */
__attribute__((format(printf, 1, 2))) void fail(const char *format, ...);
#define TRACE(...)                                                                                 \
    do {                                                                                           \
        if (world.trace) {                                                                         \
            printf("%8llu ", (unsigned long long)sim_now_ms);                                      \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
        }                                                                                          \
    } while (0)

/* cluster.c */
void packet_free(struct packet *packet);
void node_bootstrap(struct node *node);
void node_start(struct node *node);
void node_crash(struct node *node);
void node_tidy(struct node *node, bool moves); /* its journal */
/* It leads, and changes the configuration, or is refused. */
void node_change(struct node *node, const struct rcore_server *servers, size_t count);
void node_say(struct node *node, uint64_t to, enum link_type type, struct span message);

/* cluster_faults.c */
void choose_weather(void);           /* of this run */
void connections_break(unsigned to); /* the nodes that hear it notice */
void faults(void);                   /* some, or none: after each step */

/* cluster_clients.c */
void client_step(struct client *client);
void on_client_answer(struct client *client, const struct waiter *waiter,
                      const struct apply_result *result);

/* cluster_newcomer.c */
void newcomer_expected(const struct node *lost); /* it is gone for good */
void newcomer_step(void);
bool newcomer_is_in(const struct shard *leader);

/* cluster_leavers.c */
void leavers_expected(void); /* in this run, or not */
void leavers_step(void);
void leavers_told(struct node *node, struct span leads); /* by another node */
bool leavers_are_back(const struct shard *leader);

/* cluster_readers.c */
void readers_start(struct node *node);
void readers_end(struct node *node);
void readers_step(void);

/* cluster_check.c */
void check_node(struct node *node); /* at any time: what its core takes for granted is so */
bool all_equal(void);   /* every node is up, has applied the same, and no client waits */
void check_end(void);   /* when all is equal: rows, sequences, what was acknowledged */
void trace_nodes(void); /* how each node stands */

#endif
