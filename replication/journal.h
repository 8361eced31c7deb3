/* replication/journal.h: the files of the raft logs of all partitions of a node: DIR/journal,
 * segments of frames that are written one after the other, each synced before the next. What is in
 * a frame is the business of rlog.h.
 *   Segment  <number, 16 hex digits>.log, JOURNAL_SEGMENT bytes and sometimes a little more. One
 *            that nobody needs any more is written over under a new number: what is overwritten in
 *            place needs no metadata of the file system to be synced, and nothing is deleted
 *            (docs/decisions/0018-journal.md).
 *   Frame    JOURNAL_HEAD bytes of head, records, zeros up to a multiple of JOURNAL_BLOCK.
 *            Head: "lqjf", version u8, 3 zeros, bytes of records u64, position u64, number at
 *            random of the segment u64, where the segment before ends u64, XXH3-64 of the whole
 *            frame but for itself u64, the oldest segment that is needed u64, zeros; LE.
 *   Position segment << 32 | offset: where a byte of a frame stands, for ever.
 * What a start finds: of the newest segment the last frame may be half there after a crash, and was
 * never told of: it goes. Anything else that does not fit is damage: a frame that is broken with a
 * whole one behind it, a segment that does not end where the next one says, one that is needed and
 * not there, or, if it was closed in order, which its length tells, anything broken at all.
 * Thread: place: any; write: one thread; read, release: another one. The rest before and after.
 * Errors: ERR_CORRUPT with what is damaged in `why`; ERR_IO, ERR_NO_SPACE with errno. */
#ifndef LOQUAT_REPLICATION_JOURNAL_H
#define LOQUAT_REPLICATION_JOURNAL_H

#include "store/base/span.h"

#ifndef JOURNAL_SEGMENT /* a test has smaller ones */
#define JOURNAL_SEGMENT (32 << 20)
#endif

enum {
    JOURNAL_BLOCK = 4096, /* what is written at once, and where: as O_DIRECT wants it */
    JOURNAL_HEAD = 64,
    JOURNAL_FRAME_MAX = 1 << 30,
    JOURNAL_SPARE_MAX = 4, /* segments that wait for a new number; more of them are deleted */
};

/* A frame that is being filled. Zero-initialised but for `at` it is empty and valid. */
struct journal_batch {
    char *p; /* aligned; the head's room first */
    size_t n, cap;
    uint64_t at;
};
void journal_batch_close(struct journal_batch *batch);
bool journal_batch_empty(const struct journal_batch *batch);
/* Empty, keeping its room, at that position. */
void journal_batch_begin(struct journal_batch *batch, uint64_t at);
/* Room for `more` bytes, counted at once; *at: where the first of them will stand. */
char *journal_batch_grow(struct journal_batch *batch, size_t more, uint64_t *at);
/* False: what stands at that position is not in it. */
bool journal_batch_read(const struct journal_batch *batch, uint64_t at, char *to, size_t n);

static inline uint64_t journal_segment(uint64_t at)
{
    return at >> 32;
}
/* Where the frame behind this one stands: in the same segment, or at the beginning of the next. */
uint64_t journal_after(const struct journal_batch *batch);
static inline bool journal_begins(uint64_t at)
{
    return (at & UINT32_MAX) == 0;
}

struct journal;
/* The records of a frame, in the order that they were written in. Nonzero ends the start. */
typedef int (*journal_take)(void *arg, uint64_t at, struct span records);

/* Reads everything that is there; changes nothing. An empty directory is an empty journal. */
int journal_open(const char *dir, journal_take take, void *arg, char *why, size_t size,
                 struct journal **out);
/* What a crash left half done goes, and the next frame begins a segment: its position. */
int journal_begin(struct journal *journal, uint64_t *at);
int journal_write(struct journal *journal, struct journal_batch *batch); /* returns when synced */
int journal_read(struct journal *journal, uint64_t at, char *to, size_t n);
/* So that journal_read finds it in memory; any thread, but one at a time. */
void journal_warm(const struct journal *journal, uint64_t at, size_t n);
/* Segments below are needed no more; what says so is synced. They go once the next frame told of
 * it: what is missing without that is damage. */
void journal_release(struct journal *journal, uint64_t segment);
uint64_t journal_bytes(const struct journal *journal); /* on disk, about; any thread */
/* In order: the newest segment ends where its frames do. */
void journal_close(struct journal *journal);

#endif
