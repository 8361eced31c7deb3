/* store/apply.h: the state machine of one partition. Committed entries go in, in order; every
 * replica computes the same rows, answers and effects from them. Reads no clock and no randomness:
 * the leader's time stands in the entry.
 * Thread: one apply thread owns it.
 * Use:    apply_entry any number of times into one batch; kv_write(batch); apply_written. An entry
 *         that sets `must_write` wants the batch written before the next one.
 * Owner:  what `struct applied` points to lives in its arena, and that of every entry of a batch
 *         until apply_written.
 * Errors: apply_open and apply_entry return ERR_CORRUPT or a kv error: the partition can't go on.
 *         A command that is refused is no error of the entry: its result says why. */
#ifndef LOQUAT_STORE_APPLY_H
#define LOQUAT_STORE_APPLY_H

#include "store/base/arena.h"
#include "store/base/ids.h"
#include "store/kv.h"
#include "wire.pb-c.h"

enum { MARK_EVENT_MEMBERS_MAX = 32 };

struct apply_result {
    int err;
    const char *msg; /* static text; NULL when err is 0 */
    uint64_t seq, mid, ts, n;
    bool dup;
    uint32_t outs; /* effects in other partitions that this answer should wait for */
};

struct apply_record {
    struct conv_id id;
    struct span conv; /* name of the conversation, or the user of a user log */
    bool user_log;
    uint64_t seq;
    struct span bytes; /* record.h */
};

struct apply_mark {
    struct conv_id id;
    struct span conv, user;
    uint64_t read, delivered, members;
    uint64_t thread; /* `read` is the user's place in it; 0: a mark of the conversation */
    uint64_t seen;   /* so many have read up to `read`; there is no user */
};

/* A command for another partition (or this one): deliver it, then OP_OUT_DONE with `number`. */
struct apply_out {
    uint64_t number;
    uint32_t partition;
    uint32_t result; /* which result waits for it */
    struct span command;
};

struct applied {
    struct arena arena;
    struct apply_result *results;
    size_t result_count, result_cap;
    struct apply_record *records;
    size_t record_count, record_cap;
    struct apply_mark *marks;
    size_t mark_count, mark_cap;
    struct apply_out *outs;
    size_t out_count, out_cap;
    bool must_write;
};
void applied_init(struct applied *applied);
void applied_close(struct applied *applied);

struct apply;
int apply_open(struct kv *kv, uint32_t partition, uint32_t partitions, struct apply **apply);
void apply_close(struct apply *apply);
/* Between batches: the rows have become other ones; begins anew from them. */
int apply_reload(struct apply *apply);
uint64_t apply_index(const struct apply *apply); /* of the last entry applied */
uint64_t apply_term(const struct apply *apply);
int apply_entry(struct apply *apply, uint64_t index, uint64_t term, struct span entry,
                struct kv_batch *batch, struct applied *applied);
/* An entry of consensus itself: nothing but the index moves. */
void apply_nothing(struct apply *apply, uint64_t index, uint64_t term, struct kv_batch *batch);
void apply_written(struct apply *apply);
/* Between batches: what is kept in memory per message goes into the batch (then kv_write and
 * apply_written), so that a restart need not look at any record written until now. */
void apply_seal(struct apply *apply, struct kv_batch *batch);

/* What is held in memory. Between batches only. */
struct apply_sizes {
    size_t convs, members; /* cached; CONV_CACHE_MAX, MEMBER_CACHE_MAX */
    size_t cids;           /* not in rows yet */
    size_t filter_bytes;   /* of cids */
};
struct apply_sizes apply_sizes(const struct apply *apply);

/* Between batches: reads some rows for a filter that makes new cids cheap. Nothing depends on it
 * but speed. False: there is nothing to do at present. */
bool apply_warm(struct apply *apply);

/* The index that has reached the data DB's files, 0 when none. Any thread. */
int apply_flushed_index(struct kv *kv, uint32_t partition, uint64_t *index, uint64_t *term);
/* What a row of KV_APL says; ERR_CORRUPT. */
int apply_row_read(struct span row, uint64_t *index, uint64_t *term);
/* Effects still owed, oldest first, at start. */
int apply_outs(struct apply *apply, struct applied *applied);

/* Reads of the state as of the last entry; between batches only. Fills `reply`, whose memory is
 * the arena's. READ_RANGE is not among them: see timeline.h. */
int apply_read(struct apply *apply, const Loquat__Read *read, uint64_t now_ms, struct arena *arena,
               Loquat__Reply *reply);

#endif
