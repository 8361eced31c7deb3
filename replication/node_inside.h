/* replication/node_inside.h: the inside of a node, shared by node*.c only. */
#ifndef LOQUAT_REPLICATION_NODE_INSIDE_H
#define LOQUAT_REPLICATION_NODE_INSIDE_H

#include <pthread.h>
#include <uv.h>

#include "replication/datadir.h"
#include "replication/effects.h"
#include "replication/gauges.h"
#include "replication/lags.h"
#include "replication/node.h"
#include "replication/presence.h"
#include "replication/readindex.h"
#include "replication/rnet.h"
#include "store/base/pace.h"

enum { NODE_CONNECTS_MAX = 64, NODE_WARM_MAX = 64 };

enum node_phase {
    NODE_STARTING,
    NODE_SERVING,
    NODE_HANDING,  /* other nodes get the partitions that are led here */
    NODE_DRAINING, /* what was accepted is being answered */
    NODE_FLUSHING, /* the data DB goes to its files, so that the next start has little to replay */
    NODE_TRIMMING, /* the raft log is cut below that */
    NODE_CLOSING
};

/* Of the directory to the newest format (node_format.c), on the pool. */
struct node_raise {
    uv_work_t work;
    char why[256];
    int err, said; /* said: the error that the log has */
    bool running;
};

/* Entries of the journal that are about to be written again (node_journal.c), on the pool. */
struct node_warm {
    uv_work_t work;
    const struct journal *journal;
    struct rlog_place places[NODE_WARM_MAX];
    size_t count;
    bool running;
};

struct node {
    struct datadir dir;
    char path[DATADIR_PATH_MAX];
    uint64_t disk_reserve;
    struct kv *data;
    struct indexer *indexer;
    struct journal *journal;
    uint64_t journal_at; /* where it goes on */
    struct rlog *logs;   /* until the shards have them */
    uint64_t oldest;     /* segment of it that something is needed of, as of the last look */
    uint64_t newest;     /* the one that was being written then */
    uv_loop_t loop;
    uv_prepare_t prepare;
    struct pace pace; /* of one with others */
    uv_timer_t timer;
    uv_async_t async;
    uv_work_t flush;
    bool flushing;
    uint64_t flushed_ms; /* when the last flush began */
    uint64_t files;      /* of the data DB, when the raft log was trimmed last: kv_files */
    struct watermark mark;
    struct wal *wal;
    struct applier *applier;
    struct shard *shards;
    struct shard_env shard_env;
    struct feed feed;
    struct presence presence;
    struct rpc_env rpc;
    struct door *door; /* NULL: no gateway comes from outside */
    struct filter *filter;
    struct control *control;
    struct gauges_env gauges;
    struct lags *lags;
    struct effects effects;
    struct readindex readindex; /* of a node among others */
    uint64_t id;
    struct roster roster;
    struct span secret;
    struct tls *tls;  /* of links over TCP; NULL: plain */
    int door_fd;      /* -1: nobody comes from outside */
    struct rnet *net; /* NULL: the node is alone */
    uint64_t handing_until_ms;
    uint32_t balanced;    /* behind the partition that was moved last */
    struct arena arena;   /* of a message of another node */
    struct buf packed;    /* an answer to it */
    struct node_led *led; /* per partition: which other node leads it, as it says */
    uint64_t holders;     /* a sum of what the others were told of configurations */
    uint64_t said_ms;     /* when that was */
    struct node_raise raise;
    struct node_warm warm;
    bool disk_full, drained, writers_stopped;
    bool moving; /* entries are written again, so that more of the journal can go */
    uint64_t ticks;
    enum node_phase phase; /* loop thread; `ready` tells others */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool ready, stop_asked; /* under mutex */
    int connects[NODE_CONNECTS_MAX];
    size_t connect_count;
};

/* node.c */
void node_callbacks(struct node *node); /* of its shards and handles */
void node_launch(struct node *node);    /* the thread */
void node_check_disk(struct node *node);

/* node_members.c */
void node_members_asked(void *arg, const Loquat__ClusterAsk *ask, struct buf *out); /* see rpc.h */
void node_members_tick(struct node *node); /* of a node among others, now and then */
/* Who leads a partition says in whose configuration it is. */
void node_members_told(struct node *node, uint32_t partition, uint64_t term,
                       const Loquat__Holders *holders);

/* node_format.c: when the directory is raised to the newest format. */
void node_format_begin(struct node *node); /* before other nodes are let in */
unsigned node_entry_version(const struct node *node);
void node_format_tick(struct node *node); /* now and then */

/* node_journal.c: tells what can go; now and then, when the logs were trimmed. */
void node_journal_tidy(struct node *node);

/* node_start.c */
void node_free(struct node *node); /* with its databases */

/* node_peers.c: what a node has to do with the other nodes of its cluster. */
void node_peers_open(struct node *node); /* when there are others */
/* Of an effect that another node's shard asked for. */
void node_peers_answer(struct node *node, const struct waiter *waiter,
                       const struct apply_result *result);

/* node_lead.c */
void node_lead_open(struct node *node);
uint64_t node_lead_of(const struct node *node, uint32_t partition); /* 0: not known */
bool node_lead_settled(const struct node *node); /* every partition is served, here or elsewhere */
int node_lead_told(struct node *node, uint64_t from, struct span body); /* by another node */
void node_lead_say(struct node *node, uint64_t to);                     /* 0: to all others */
void node_lead_tell(struct node *node); /* how it is here; now and then, as */
void node_lead_balance(struct node *node);
bool node_lead_hand_over(struct node *node); /* again and again; true: nothing is led here */
/* NULL, or why not. */
const char *node_lead_transfer(struct node *node, uint32_t partition, uint64_t to);
const char *node_lead_drain(struct node *node, uint64_t who, bool drained);

#endif
