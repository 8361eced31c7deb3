/* replication/wal.h: group commit. Records for the journal are collected while a thread writes and
 * syncs the ones before: one frame for all partitions, double buffered.
 * Thread: all calls on the loop thread; the write itself on the wal thread.
 * Errors: a write or sync that fails ends the process with a message: what a failed fsync left on
 *         disk can't be known, and it must not be tried again. */
#ifndef LOQUAT_REPLICATION_WAL_H
#define LOQUAT_REPLICATION_WAL_H

#include <uv.h>

#include "replication/journal.h"

typedef void (*wal_durable)(void *arg, uint64_t a, uint64_t b);

struct wal_events {
    void (*on_segment)(void *arg); /* the batch begins one: the state of each log is to be put */
    void (*on_synced)(void *arg);  /* on the wal thread, after each write; may be NULL */
    void *arg;
};

struct wal;
/* The first batch stands at `at`: see journal_begin. */
struct wal *wal_new(uv_loop_t *loop, struct journal *journal, uint64_t at,
                    const struct wal_events *events);
struct journal_batch *wal_batch(struct wal *wal); /* what is put here goes with the next kick */
void wal_notify(struct wal *wal, wal_durable done, void *arg, uint64_t a, uint64_t b);
/* Segments of the journal below are needed no more, as of what is in the batch. */
void wal_release(struct wal *wal, uint64_t segment);
void wal_kick(struct wal *wal);  /* once per loop turn: starts a write if one is due */
void wal_write(struct wal *wal); /* what there is, now, before anything runs: at a start */
/* What was put there once, durable or not. */
int wal_read(struct wal *wal, uint64_t at, char *to, size_t n);
size_t wal_waiting(const struct wal *wal, size_t *bytes); /* entries, and bytes, that wait */
bool wal_idle(const struct wal *wal);
void wal_stop(struct wal *wal, uv_close_cb on_closed, void *data); /* must be idle */
void wal_free(struct wal *wal);                                    /* after on_closed */

#endif
