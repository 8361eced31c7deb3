/* replication/wal.h: group commit. Rows for the raft DB are collected while a thread syncs the ones
 * before: one synced WriteBatch for all partitions, double buffered.
 * Thread: all calls on the loop thread; the write itself on the wal thread.
 * Errors: a write or sync that fails ends the process with a message: what a failed fsync left on
 *         disk can't be known, and it must not be tried again. */
#ifndef LOQUAT_REPLICATION_WAL_H
#define LOQUAT_REPLICATION_WAL_H

#include <uv.h>

#include "store/kv.h"

typedef void (*wal_durable)(void *arg, uint64_t a, uint64_t b);

struct wal;
/* `after`: called on the wal thread after each write; may be NULL. */
struct wal *wal_new(uv_loop_t *loop, struct kv *kv, void (*after)(void *arg), void *arg);
struct kv_batch *wal_batch(struct wal *wal); /* rows put here go with the next kick */
void wal_notify(struct wal *wal, wal_durable done, void *arg, uint64_t a, uint64_t b);
void wal_kick(struct wal *wal); /* once per loop turn: starts a write if one is due */
size_t wal_waiting(const struct wal *wal, size_t *bytes); /* entries, and bytes, that wait */
bool wal_idle(const struct wal *wal);
void wal_stop(struct wal *wal, uv_close_cb on_closed, void *data); /* must be idle */
void wal_free(struct wal *wal);                                    /* after on_closed */

#endif
