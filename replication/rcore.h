/* replication/rcore.h: consensus of one partition; only rcore*.c include raft.h.
 * A thin shell around the pure core of libraft 0.22: no I/O, no clock, no randomness of its own.
 * Events go in with the caller's time; what must be done comes out through `ops`, in the order in
 * which it must be made durable: hard state, then entries; then messages to peers.
 * Faults of 0.22.1 are guarded here (docs/decisions/0002-raft-guards.md): AppendEntries that
 * begin below the own snapshot, CHANGE entries that are not first in a batch, answers to votes
 * tried in a term that is over, changes of members before an entry of the own term is
 * committed, entries of another leader of the own term, and configurations that are cut off. One
 * more is for who names snapshots: of one at index 1 a leader sends an empty server neither it nor
 * entries. The version is checked when this is compiled;
 * programs are linked with -z now, so that an older library, which lacks raft_step, ends them at
 * start.
 * Thread: one. Not reentrant: ops must not call back into the core; they note what is to be done.
 * Errors: RCORE_REFUSED from submit, change and transfer (not leader, or too much in
 *         flight); from receive ERR_CORRUPT: no message of a core, and ERR_CONFLICT: it contradicts
 *         what is committed here, or leads in the own term as well: one of the two servers is
 *         broken. Anything else that the core says is our mistake and ends the process. */
#ifndef LOQUAT_REPLICATION_RCORE_H
#define LOQUAT_REPLICATION_RCORE_H

#include "store/base/span.h"
#include "wire.pb-c.h"

enum rcore_state { RCORE_UNAVAILABLE, RCORE_FOLLOWER, RCORE_CANDIDATE, RCORE_LEADER };
enum rcore_type { RCORE_COMMAND = 1, RCORE_BARRIER = 2, RCORE_CHANGE = 3 };
enum {
    RCORE_ELECTION_MS = 500,
    RCORE_BEAT_MS = 100,     /* heartbeats of all leaders leave together, so often */
    RCORE_HEARTBEAT_MS = 80, /* where nothing was sent for so long */
    RCORE_HURRY_MIN_MS = 40,
    RCORE_INFLIGHT_ENTRIES_MAX = 1024,
    RCORE_APPEND_BYTES = 1 << 20, /* of entries: with so many a message is full */
    RCORE_BEHIND_MAX = 64
};

struct rcore_entry {
    uint64_t term;
    uint16_t type;
    struct span bytes;
};

struct rcore_server {
    uint64_t id;
    const char *address;
    bool voter;
};

/* What is known at start. Entries follow the snapshot: the first has index snapshot_index + 1. */
struct rcore_start {
    uint64_t id;
    const char *address;
    uint32_t seed;
    uint64_t term, voted_for;
    uint64_t snapshot_index, snapshot_term, conf_index;
    struct span conf; /* encoded; empty without a snapshot */
    uint64_t first_index;
    const struct rcore_entry *entries;
    size_t entry_count;
    uint64_t now_ms;
};

struct rcore_ops {
    void (*on_hard_state)(void *arg, uint64_t term, uint64_t voted_for);
    /* Replace everything from `index` on. Bytes are lent. */
    void (*on_entries)(void *arg, uint64_t index, const struct rcore_entry *entries, size_t count);
    void (*on_state)(void *arg, enum rcore_state state);
    void (*on_commit)(void *arg, uint64_t commit_index);
    /* To message->to. Lent. It may leave when every hard state given so far is durable: a vote or a
     * term that is forgotten could be given twice. A RAFT_SNAPSHOT asks for the state machine's
     * state to be sent; its index, terms and configuration are the driver's to fill in. */
    void (*on_message)(void *arg, Loquat__Raft *message);
    /* An entry of the own log, to be sent. Lent until the next one is asked for. */
    struct rcore_entry (*entry)(void *arg, uint64_t index);
    /* The log is to be replaced by a snapshot; then rcore_installed. Until then it takes no
     * entries. */
    void (*on_install)(void *arg, uint64_t index, uint64_t term, uint64_t conf_index,
                       struct span conf);
};

struct rcore;
struct rcore *rcore_new(const struct rcore_start *start, const struct rcore_ops *ops, void *arg);
void rcore_free(struct rcore *core);

enum { RCORE_REFUSED = -1 };
int rcore_submit(struct rcore *core, struct span bytes, uint64_t now_ms); /* bytes are copied */
void rcore_persisted(struct rcore *core, uint64_t index, uint64_t now_ms);
void rcore_timeout(struct rcore *core, uint64_t now_ms); /* call when now_ms ≥ rcore_next_ms */
uint64_t
rcore_next_ms(const struct rcore *core); /* sooner only after rcore_leader_lost, on_state */
/* The connection to the node of the leader has broken, which is nearly always because it is gone:
 * elections are tried within a fifth of the usual time for a while. Who still has a leader refuses
 * them, as ever: if it is there, nothing happens. Who is not `eager`, as it would have to catch up
 * before it serves, gives up its leader at once, so that it can vote, and then takes its time. */
void rcore_leader_lost(struct rcore *core, bool eager, uint64_t now_ms);
void rcore_configured(struct rcore *core, uint64_t index, struct span conf, uint64_t now_ms);
/* The state machine's files hold everything up to index: the log may begin later. */
void rcore_snapshot(struct rcore *core, uint64_t index, uint64_t term, uint64_t conf_index,
                    struct span conf, uint32_t trailing, uint64_t now_ms);
void rcore_installed(struct rcore *core, uint64_t index, uint64_t term, uint64_t conf_index,
                     struct span conf, uint64_t now_ms);
/* 0, ERR_CORRUPT, ERR_CONFLICT; whom the message is for is the caller's to check. */
int rcore_receive(struct rcore *core, const Loquat__Raft *message, uint64_t now_ms);
/* The leadership goes to `id`, 0: to whom has most; it takes nothing more meanwhile. */
int rcore_transfer(struct rcore *core, uint64_t id, uint64_t now_ms);
/* One server at a time, that comes, goes, gets a vote or loses it. Refused as well, until an entry
 * of this leader's term is committed, which is made if there is none; then a vote for who
 * is RCORE_BEHIND_MAX entries behind; and a change after which those who are known to have the
 * newest configuration are no majority: who has a vote and does not know it gives it to nobody. */
int rcore_change(struct rcore *core, struct span conf, uint64_t now_ms);
/* On the leader: the last entry that this server is known to have; 0: not known. */
uint64_t rcore_match(const struct rcore *core, uint64_t id);

enum rcore_state rcore_state(const struct rcore *core);
/* Of the newest configuration in the log: how many, and the first `max` of them; addresses are
 * lent until the core is used again. */
size_t rcore_servers(const struct rcore *core, struct rcore_server *out, size_t max);
uint64_t rcore_leader(const struct rcore *core); /* 0: not known */
bool rcore_transferring(const struct rcore *core);
bool rcore_installing(const struct rcore *core);
uint64_t rcore_term(const struct rcore *core);
uint64_t rcore_commit_index(const struct rcore *core);
uint64_t rcore_last_index(const struct rcore *core);
uint64_t rcore_last_stored(const struct rcore *core);
uint64_t rcore_uncommitted_conf_index(const struct rcore *core);
uint64_t rcore_conf_index(const struct rcore *core); /* of the newest one; 0: there is none */

/* Encoded configuration for a first start, appended to `out` (see rlog_bootstrap). */
struct buf;
void rcore_encode_conf(const struct rcore_server *servers, size_t count, struct buf *out);

#endif
