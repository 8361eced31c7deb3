/* replication/rpc.h: what gateways ask of a node, over link.h frames.
 * Thread: the loop's.
 * Limits: PEERS_MAX links (above: closed at once); PEER_READS_MAX reads at once per link, and none
 *         while more than PEER_PENDING_MAX bytes of answers wait for it (above: `unavailable`,
 *         retry); FEED_WAITS_MAX empty pages of feeds wait per link (above: answered at once), for
 *         FEED_WAIT_MAX_MS at most. As many pages of feeds are read at once as there are
 *         processors, of all links, in the order in which they were asked for: each takes a
 *         processor for itself, and other reads must find a thread. */
#ifndef LOQUAT_REPLICATION_RPC_H
#define LOQUAT_REPLICATION_RPC_H

#include "replication/feed.h"
#include "replication/indexer.h"
#include "replication/readindex.h"
#include "replication/shard.h"
#include "store/base/link.h"

enum {
    PEERS_MAX = 1024,
    PEER_READS_MAX = 1024,
    PEER_PENDING_MAX = 64 << 20,
    IDLE_READS_MAX = 8,    /* kept with their memory for the next */
    FEED_WAITS_MAX = 8192, /* pages of feeds that wait for something, per link */
    FEED_WAIT_MAX_MS = 60000,
    FEED_READS_LEAST = 2, /* pages of feeds that may be read at once with fewer processors, too */
};

struct rpc_env { /* what the links need of their node */
    uv_loop_t *loop;
    struct shard *shards;
    uint32_t partitions;
    struct kv *data;
    struct indexer *indexer;
    struct applier *applier;
    struct feed *feed;
    struct presence *presence;
    struct readindex *readindex; /* NULL: there are no other nodes, and no need of it */
    const char *name, *cluster;
    uint64_t *told; /* per partition, in which term gateways were told it is served; 0: it is not */
    uint64_t told_nodes; /* a sum of the addresses that gateways were told */
    const bool *disk_full;
    /* Packs what is asked about the cluster into `out`, which is empty. */
    void (*on_cluster)(void *arg, const Loquat__ClusterAsk *ask, struct buf *out);
    void *arg;
    struct list peers;
    struct list *waits; /* per partition: pages of its feed, on which nothing is yet */
    size_t wait_count;
    uint64_t *fed;                     /* per partition: how often something came */
    struct list feed_turns;            /* pages of feeds that are read when others have been */
    size_t feed_reads, feed_reads_max; /* of feeds, under way; FEED_READS_LEAST or processors */
    size_t peer_count, reads;          /* reads: under way on the thread pool */
    uint64_t followed;                 /* pages read of partitions that are led elsewhere; so far */
    uint64_t taken_bytes;              /* of commands, since the disk was looked at */
    struct page_read *idle_reads[IDLE_READS_MAX];
    size_t idle_read_count;
    struct buf packed; /* an answer to a write */
};

struct rpc_sizes {
    size_t reads_largest;   /* under way for one link; PEER_READS_MAX */
    size_t pending;         /* bytes that wait for all links */
    size_t pending_largest; /* and for one; PEER_PENDING_MAX */
    size_t subs;
    int64_t credit_lowest; /* bytes of tails that one link may still be sent; 0 without links */
    uint32_t version;      /* the oldest that a gateway speaks; 0 without links */
};
struct rpc_sizes rpc_sizes(const struct rpc_env *env);
int rpc_adopt(struct rpc_env *env, struct line line);
void rpc_answer(struct rpc_env *env, const struct waiter *waiter,
                const struct apply_result *result); /* WAITER_PEER */
/* Once per turn: gateways are told which partitions are served here, when that has changed. */
bool rpc_tell_leads(struct rpc_env *env); /* whether it has */
/* Now and then: a node that is new is told of, so that it is known before it leads. */
void rpc_tell_nodes(struct rpc_env *env);
void rpc_pack_leads(const struct rpc_env *env, struct buf *out); /* a message Leads, appended */
/* Records of conversations of the partition have been applied. */
void rpc_page_fed(struct rpc_env *env, uint32_t partition);
/* Now and then: empty pages of feeds that have waited long enough are answered; or all. */
void rpc_page_tick(struct rpc_env *env, bool all);
void rpc_close_all(struct rpc_env *env);
void rpc_free(struct rpc_env *env); /* nothing is under way any more */

#endif
