/* replication/shard.h: one partition on this node: consensus, its log, and the requests that wait
 * for it. Commands of a loop turn are collected into one entry; a few entries are in flight while
 * the next one fills.
 * Thread: the loop's.
 * Limits: SHARD_INFLIGHT_MAX entries between submit and applied; SHARD_WAITING_MAX bytes collected
 *         and not submitted (above it: ERR_BUSY). */
#ifndef LOQUAT_REPLICATION_SHARD_H
#define LOQUAT_REPLICATION_SHARD_H

#include "replication/applier.h"
#include "replication/outbox.h"
#include "replication/rlog.h"
#include "replication/watermark.h"
#include "store/base/check.h"
#include "store/base/link.h"
#include "store/base/list.h"

enum {
    SHARD_INFLIGHT_MAX = 3,
    SHARD_WAITING_MAX = 4 << 20,
    SHARD_TRAILING = 64, /* entries kept below the flushed index, for followers a little behind */
    SHARD_TRAILING_MAX = 65536,    /* the same, where there are followers: see trailing_bytes */
    SHARD_CHUNK_BYTES = 256 << 10, /* of a snapshot, at a time */
    SHARD_MARK_BYTES = 64 << 20, /* of one that comes: at most so many come again after a restart */
    SHARD_HEARD_MS = 2 * RCORE_ELECTION_MS,
    SHARD_NEARLY = 64, /* entries to apply: with more it is behind, and should not lead */
};

/* Who gets the answer to a command. */
enum waiter_kind { WAITER_NONE, WAITER_PEER, WAITER_OUT, WAITER_CONTROL, WAITER_NODE };
struct waiter {
    enum waiter_kind kind;
    void *owner; /* struct peer, struct owed, struct control; WAITER_NODE: its number */
    uint64_t id;
};

/* An effect that another partition must get, kept until it was applied there. */
struct deferred;
struct owed {
    struct list_link link; /* node's retry list */
    struct shard *source;
    uint64_t term, number; /* of the leader that it is owed by; of the effect */
    uint32_t partition;
    struct buf command;
    struct deferred *deferred; /* an answer that waits for it; NULL after a restart */
    uint64_t via, flight;      /* the node that was asked, and how; 0: nobody is */
};

struct shard_env { /* what a shard needs of its node */
    uint64_t id;   /* the node's, among the servers of every configuration */
    struct kv *data;
    const char *dir;         /* where snapshots that come are collected */
    uint32_t trailing;       /* SHARD_TRAILING; a simulation has less */
    uint64_t trailing_bytes; /* more than these, as long as they have not more bytes */
    unsigned entry_version;  /* of the entries that it writes, see store/command.h */
    size_t eager; /* with so many entries in flight one that is not full waits for more commands */
    uint64_t held_bytes; /* of payloads that were applied, kept for followers a little behind */
    size_t chunk_bytes;  /* SHARD_CHUNK_BYTES; likewise */
    size_t mark_bytes;   /* SHARD_MARK_BYTES; likewise */
    struct wal *wal;
    struct applier *applier;
    struct watermark *mark;
    void (*on_answer)(void *arg, const struct waiter *waiter, const struct apply_result *result);
    void (*on_applied)(void *arg, struct shard *shard, const struct applied *applied);
    void (*on_owed)(void *arg, struct owed *owed); /* takes it over */
    void (*on_state)(void *arg, struct shard *shard);
    /* For the node `to`, a packed message of that type (LINK_RAFT, LINK_CHUNK, LINK_CHUNK_REPLY);
     * may be lost. */
    void (*on_message)(void *arg, uint64_t to, enum link_type type, struct span message);
    /* Whether what is said to it may arrive; NULL: nobody knows. Spares the work if not. */
    bool (*reaches)(void *arg, uint64_t to);
    void *arg;
};

struct proposal {
    struct list_link link;
    struct buf entry;
    struct waiter *waiters;
    size_t waiter_count, waiter_cap, bytes;
    uint64_t index;
};

struct shard {
    uint32_t partition;
    const struct shard_env *env;
    struct rcore *core;
    struct rlog log;
    struct outbox outbox;
    struct buf message, payload; /* being packed; an entry read back */
    struct apply *apply;
    bool serving;
    bool kept;       /* it is led here because somebody wants that: it is not moved to others */
    bool stirred;    /* something has happened since the last turn */
    uint64_t due_ms; /* when a tick has something to do though nothing has; 0: look */
    uint64_t applied_at_start;
    uint64_t term_start;      /* last index when this node began to lead */
    uint64_t heard_ms;        /* when its leader, which is another node, said something */
    uint64_t left_ms;         /* when all of it was removed here, until its room is asked for; 0 */
    uint64_t committed;       /* as told by consensus */
    uint64_t pushed;          /* handed to the applier */
    uint64_t applied;         /* and come back */
    uint64_t held, held_from; /* bytes of payloads that were applied; of entries from there on */
    uint64_t unflushed_bytes; /* of entries that a start after a crash would apply again; as of the
                                 last shard_trim */
    uint64_t flushed;         /* index in the data DB's files, then */
    uint64_t trimmed_at;      /* `applied`, then */
    struct list ready;        /* closed proposals, oldest first */
    struct proposal *open;    /* collects this turn's commands */
    struct list inflight;     /* submitted, in index order */
    size_t inflight_count, waiting_bytes, unfinished;
    bool owing, loading; /* effects owed are known, as of this leadership; are being read */
    struct job load;
    struct applied found;
    int found_err;
    uint64_t *done; /* numbers of effects delivered, to be dropped */
    size_t done_count, done_cap;
    uint64_t cuts_durable;        /* of the log's, those that are on disk */
    struct list sends;            /* snapshots on their way to others */
    struct snap_in *in;           /* one that comes; NULL: none */
    struct snap_install *install; /* one that is being installed */
    struct job warm; /* what makes new cids cheap is read from disk, a part at a time */
    bool warming;
    struct apply_sizes sizes, sizes_next; /* as of the last look; the apply thread's */
    uint64_t warm_ms;                     /* when it is looked at again */
};

/* `log`: as the journal tells it; taken over. */
int shard_start(struct shard *shard, struct rlog *log, uint32_t partitions,
                const struct shard_env *env);
/* The log must reach as far as was synced once, unless it was cut since then: 0 or ERR_CORRUPT. */
int shard_check_watermark(const struct rlog *log, const struct watermark *mark);
void shard_close(struct shard *shard); /* who still waits is not answered */

/* What another replica's shard said: see rcore_receive. */
int shard_receive(struct shard *shard, const Loquat__Raft *message, uint64_t now_ms);
void shard_chunk(struct shard *shard, const Loquat__Chunk *chunk, uint64_t now_ms);
void shard_chunk_reply(struct shard *shard, const Loquat__ChunkReply *reply, uint64_t now_ms);

/* Who leads in `term` says that by the configuration at `conf_index`, which is committed, this node
 * has no part in the partition: what it has of it goes (rsnap.h). Nothing happens when it knows
 * better, or can't now: so it is to be told again. */
void shard_leave(struct shard *shard, uint64_t term, uint64_t conf_index);
/* The connection to that node has broken. */
void shard_lost(struct shard *shard, uint64_t node, uint64_t now_ms);
/* 0: the answer comes through env->on_answer, once, later. ERR_NOT_LEADER, ERR_BUSY: it won't. */
int shard_write(struct shard *shard, struct span command, struct waiter waiter);
/* Refused now: ERR_NOT_LEADER; see rcore_change. */
int shard_change(struct shard *shard, struct span conf, uint64_t now_ms);
void shard_turn(struct shard *shard, uint64_t now_ms); /* once per loop turn */
void shard_tick(struct shard *shard, uint64_t now_ms); /* timers; before the turn */
void shard_trim(struct shard *shard, struct kv *data, uint64_t now_ms);
void shard_owed_done(struct owed *owed); /* it was applied where it belongs */
/* Its shard leads no more, who does will deliver it: it need not be tried again, and can go. */
bool shard_owed_stale(const struct owed *owed);
void shard_owed_forget(struct owed *owed);
/* Another node is known to lead it, or this one has no part in it. */
bool shard_led_elsewhere(const struct shard *shard);
bool shard_behind(const struct shard *shard); /* it has much to apply */
bool shard_holds(const struct shard *shard);  /* there is something of the partition here */
/* What is read here is not older than SHARD_HEARD_MS and what it has to apply: it leads, or its
 * leader counts on it and has just been heard. */
bool shard_fresh(const struct shard *shard, uint64_t now_ms);
bool shard_idle(const struct shard *shard); /* nothing waits, nothing is owed */
/* Ends the process: an entry can't be read back. */
NORETURN void shard_damaged_log(const struct shard *shard, int err);

#endif
