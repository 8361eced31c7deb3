/* tests/replication/rlog_lib.h: the raft logs of three partitions, and the frames that they wrote,
 * in memory: segments are as long as a test wants them. For rlog_*test.c, each with its own. */
#ifndef LOQUAT_TESTS_REPLICATION_RLOG_LIB_H
#define LOQUAT_TESTS_REPLICATION_RLOG_LIB_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "replication/rlog_inside.h"
#include "store/base/check.h"
#include "store/base/err.h"

enum { LOGS = 3 };

struct frame {
    uint64_t at; /* of its records */
    struct buf records;
};

static struct rlog logs[LOGS];
static struct journal_batch batch;
static struct frame *frames;
static size_t frame_count, frame_cap;
static uint64_t released; /* as a node said last */

/* ---- in place of wal.c, all of it ---- */

struct wal *wal_new(uv_loop_t *loop, struct journal *journal, uint64_t at,
                    const struct wal_events *events)
{
    (void)loop, (void)journal, (void)at, (void)events;
    return NULL;
}

void wal_notify(struct wal *wal, wal_durable done, void *arg, uint64_t a, uint64_t b)
{
    (void)wal, (void)done, (void)arg, (void)a, (void)b;
}

void wal_release(struct wal *wal, uint64_t segment)
{
    (void)wal;
    released = segment;
}

void wal_kick(struct wal *wal)
{
    (void)wal;
}

void wal_write(struct wal *wal)
{
    (void)wal;
}

size_t wal_waiting(const struct wal *wal, size_t *bytes)
{
    (void)wal;
    return *bytes = 0;
}

bool wal_idle(const struct wal *wal)
{
    (void)wal;
    return true;
}

void wal_stop(struct wal *wal, uv_close_cb on_closed, void *data)
{
    (void)wal, (void)on_closed, (void)data;
}

void wal_free(struct wal *wal)
{
    (void)wal;
}

struct journal_batch *wal_batch(struct wal *wal)
{
    (void)wal;
    return &batch;
}

int wal_read(struct wal *wal, uint64_t at, char *to, size_t n)
{
    (void)wal;
    if (at >= batch.at + JOURNAL_HEAD && at + n <= batch.at + batch.n) {
        memcpy(to, batch.p + (at - batch.at), n);
        return 0;
    }
    for (size_t i = 0; i < frame_count; i++) {
        const struct frame *frame = &frames[i];
        if (at < frame->at || at + n > frame->at + frame->records.n)
            continue;
        memcpy(to, frame->records.p + (at - frame->at), n);
        return 0;
    }
    return ERR_IO;
}

/* ---- frames ---- */

static inline void flush(void)
{
    if (journal_batch_empty(&batch))
        return;
    if (frame_count == frame_cap) {
        frame_cap = frame_cap == 0 ? 64 : frame_cap * 2;
        frames = xrealloc(frames, frame_cap * sizeof *frames);
    }
    struct frame *frame = &frames[frame_count++];
    *frame = (struct frame){.at = batch.at + JOURNAL_HEAD};
    buf_add(&frame->records, batch.p + JOURNAL_HEAD, batch.n - JOURNAL_HEAD);
    journal_batch_begin(&batch, journal_after(&batch));
}

static inline uint64_t segment_now(void)
{
    return journal_segment(batch.at);
}

static inline void next_segment(void)
{
    flush();
    journal_batch_begin(&batch, (segment_now() + 1) << 32);
    for (uint32_t p = 0; p < LOGS; p++)
        rlog_put_state(&logs[p], &batch);
}

static inline void drop_frame(size_t number)
{
    buf_close(&frames[number].records);
    frame_count--;
    memmove(&frames[number], &frames[number + 1], (frame_count - number) * sizeof *frames);
}

/* As when their segments were released. */
static inline void drop_below(uint64_t segment)
{
    while (frame_count > 0 && journal_segment(frames[0].at) < segment)
        drop_frame(0);
}

static inline uint64_t oldest_needed(void)
{
    uint64_t oldest = segment_now();
    for (uint32_t p = 0; p < LOGS; p++)
        oldest = rlog_oldest(&logs[p]) < oldest ? rlog_oldest(&logs[p]) : oldest;
    return oldest;
}

/* ---- loading ---- */

/* What a start finds in the segments from that one on. */
static inline int load_from(uint64_t segment, struct rlog loaded[LOGS])
{
    int err = 0;
    for (uint32_t p = 0; p < LOGS; p++)
        rlog_open(&loaded[p], p);
    for (size_t i = 0; i < frame_count && err == 0; i++)
        if (journal_segment(frames[i].at) >= segment)
            err = rlog_take(loaded, LOGS, frames[i].at, buf_span(&frames[i].records));
    for (uint32_t p = 0; p < LOGS && err == 0; p++)
        err = rlog_finish(&loaded[p]);
    for (uint32_t p = 0; p < LOGS && err != 0; p++)
        rlog_close(&loaded[p]);
    return err;
}

static inline int load_error(void)
{
    struct rlog loaded[LOGS];
    flush();
    int err = load_from(0, loaded);
    for (uint32_t p = 0; p < LOGS && err == 0; p++)
        rlog_close(&loaded[p]);
    return err;
}

static inline void same_entry(const struct rlog *log, const struct rlog *loaded, uint64_t index)
{
    const struct rlog_entry *is = rlog_get(loaded, index), *was = rlog_get(log, index);
    struct buf payload = {0};
    cr_assert(ne(ptr, (void *)(uintptr_t)is, NULL));
    cr_assert(eq(u64, is->term, was->term));
    cr_assert(eq(u64, is->at, was->at), "entry %lu stands at %lx, not %lx", (unsigned long)index,
              (unsigned long)is->at, (unsigned long)was->at);
    cr_assert(is->type == was->type && is->size == was->size);
    cr_assert(zero(int, rlog_read(log, NULL, index, &payload)), "entry %lu", (unsigned long)index);
    cr_assert(span_eq(span_of(is->bytes, is->size), buf_span(&payload)));
    cr_assert(was->bytes == NULL || span_eq(span_of(was->bytes, was->size), buf_span(&payload)));
    buf_close(&payload);
}

static inline void same(const struct rlog *log, const struct rlog *loaded)
{
    struct rlog_snapshot snapshot;
    uint64_t upto;
    cr_assert(eq(u64, loaded->term, log->term));
    cr_assert(eq(u64, loaded->voted_for, log->voted_for));
    cr_assert(eq(u64, loaded->cuts, log->cuts));
    cr_assert(eq(u64, loaded->snapshot_index, log->snapshot_index));
    cr_assert(eq(u64, loaded->snapshot_term, log->snapshot_term));
    cr_assert(span_eq(buf_span(&loaded->snapshot), buf_span(&log->snapshot)));
    cr_assert(span_eq(buf_span(&loaded->install), buf_span(&log->install)));
    if (log->snapshot.n > 0) {
        cr_assert(zero(int, rlog_snapshot_of(buf_span(&log->snapshot), &snapshot, &upto)));
        cr_assert(eq(u64, loaded->conf_index, snapshot.conf_index));
        cr_assert(span_eq(buf_span(&loaded->conf), snapshot.conf));
    }
    cr_assert(eq(u64, loaded->first, log->first));
    cr_assert(eq(sz, loaded->count, log->count));
    cr_assert(eq(u64, loaded->bytes, log->bytes));
    for (uint64_t index = log->first; index <= rlog_last(log); index++)
        same_entry(log, loaded, index);
    cr_assert(eq(u64, rlog_oldest(loaded), rlog_oldest(log)));
}

/* Whichever segments are gone of those that are not needed: a start finds what there is. */
static inline void comes_back(void)
{
    struct rlog loaded[LOGS];
    flush();
    for (uint64_t from = 0; from <= oldest_needed(); from++) {
        int err = load_from(from, loaded);
        cr_assert(zero(int, err), "%s, from segment %lu", err_name(err), (unsigned long)from);
        for (uint32_t p = 0; p < LOGS; p++) {
            same(&logs[p], &loaded[p]);
            rlog_close(&loaded[p]);
        }
    }
}

/* Another start, from what was written. */
static inline void reload(void)
{
    flush();
    for (uint32_t p = 0; p < LOGS; p++)
        rlog_close(&logs[p]);
    cr_assert(zero(int, load_from(0, logs)));
    next_segment();
}

static inline void bootstrap_all(void)
{
    struct rcore_server self = {1, "1", true};
    journal_batch_begin(&batch, 1ull << 32);
    for (uint32_t p = 0; p < LOGS; p++)
        rlog_bootstrap(&logs[p], &batch, p, &self, 1);
    for (uint32_t p = 0; p < LOGS; p++) /* it goes on without another start */
        rlog_found_close(&logs[p]);
}

static inline void close_all(void)
{
    for (uint32_t p = 0; p < LOGS; p++)
        rlog_close(&logs[p]);
    while (frame_count > 0)
        drop_frame(frame_count - 1);
    free(frames);
    frames = NULL;
    frame_cap = 0;
    journal_batch_close(&batch);
}

#endif
