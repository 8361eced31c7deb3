/* store/timeline.h: read one conversation by sequence, as the log is or as people see it.
 * Shape:  asc: [from, until) upwards; desc: from `from` (0: the head) down to `until` (exclusive).
 *         Every sequence of the page is there once, as a record or inside a hole (view log); the
 *         folded view has messages only, with deleted ones as holes. A thread: its messages only.
 * Owner:  the page lives in the caller's arena.
 * Thread: any; one immutable view, never blocks writers.
 * Limits: TIMELINE_BYTES_MAX per page, and as many records as `read->max` says:
 *         TIMELINE_RECORDS_MAX when it says nothing, TIMELINE_RECORDS_MOST at most. */
/* Errors: ERR_NOT_FOUND  no such conversation for this user.
 *         ERR_CORRUPT    a record's checksum failed; nothing is returned.
 *         ERR_NOT_LEADER the log does not reach as far as `read->seen` here. */
#ifndef LOQUAT_STORE_TIMELINE_H
#define LOQUAT_STORE_TIMELINE_H

#include "store/base/arena.h"
#include "store/kv.h"
#include "wire.pb-c.h"

enum {
    TIMELINE_RECORDS_MAX = 1000,
    TIMELINE_RECORDS_MOST = 4000,
    TIMELINE_BYTES_MAX = 1 << 20,
};

/* `read` is a READ_RANGE; the answer (items, next, head, floor) is put into `reply`. */
int timeline_read(struct kv *kv, uint32_t partition, const Loquat__Read *read, uint64_t now_ms,
                  struct arena *arena, Loquat__Reply *reply);

/* The same for the own log of the user named in read->conv: [from, head] upwards, no membership. */
int timeline_read_user(struct kv *kv, uint32_t partition, const Loquat__Read *read,
                       struct arena *arena, Loquat__Reply *reply);

#endif
