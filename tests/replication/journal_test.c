#include "replication/journal.h"

#include <errno.h>

#include "tests/replication/journal_lib.h"

/* Stands before libc's: what the file system says to who wants room. 0: it gives it. */
static int fallocate_errno;
int fallocate(int fd, int mode, off_t at, off_t n)
{
    (void)mode;
    if (fallocate_errno == 0)
        return ftruncate(fd, at + n);
    if (fallocate_errno == ENOSPC) /* it comes half way */
        cr_assert(zero(int, ftruncate(fd, at + n / 2)));
    errno = fallocate_errno;
    return -1;
}

TestSuite(journal, .init = setup, .fini = teardown, .timeout = 120);

/* ---- batches ---- */

/* What is put stays where it was said to be, on whole blocks, however much comes behind it. */
Test(journal, batch_grows)
{
    uint64_t at;
    journal_batch_begin(&batch, 7ull << 32 | JOURNAL_BLOCK);
    cr_assert(journal_batch_empty(&batch));
    cr_assert(eq(u64, journal_after(&batch), 7ull << 32 | JOURNAL_BLOCK));
    memcpy(journal_batch_grow(&batch, 3, &at), "abc", 3);
    cr_assert(not(journal_batch_empty(&batch)));
    cr_assert(eq(u64, at, 7ull << 32 | (JOURNAL_BLOCK + JOURNAL_HEAD)));
    cr_assert(eq(u64, journal_after(&batch), 7ull << 32 | 2 * JOURNAL_BLOCK));
    for (size_t n = 1; n < 5 << 20; n = n * 3 + 1) {
        size_t before = batch.n;
        memset(journal_batch_grow(&batch, n, &at), 'x', n);
        cr_assert(eq(u64, at, batch.at + before));
        cr_assert(zero(sz, (uintptr_t)batch.p % JOURNAL_BLOCK));
        cr_assert(zero(sz, batch.cap % JOURNAL_BLOCK));
        cr_assert(le(sz, batch.n, batch.cap));
    }
    cr_assert(zero(int, memcmp(batch.p + JOURNAL_HEAD, "abcx", 4)));
    journal_batch_begin(&batch, 8ull << 32);
    cr_assert(journal_batch_empty(&batch));
    cr_assert(ne(ptr, batch.p, NULL), "its room is kept");
}

/* The next frame begins a block in the same segment, as long as one begins there. */
Test(journal, after)
{
    uint64_t at, last = JOURNAL_SEGMENT - JOURNAL_BLOCK;
    journal_batch_begin(&batch, 3ull << 32);
    journal_batch_grow(&batch, JOURNAL_BLOCK - JOURNAL_HEAD, &at);
    cr_assert(eq(u64, journal_after(&batch), 3ull << 32 | JOURNAL_BLOCK));
    journal_batch_grow(&batch, 1, &at);
    cr_assert(eq(u64, journal_after(&batch), 3ull << 32 | 2 * JOURNAL_BLOCK));
    journal_batch_begin(&batch, 3ull << 32 | (last - JOURNAL_BLOCK));
    journal_batch_grow(&batch, 1, &at);
    cr_assert(eq(u64, journal_after(&batch), 3ull << 32 | last));
    journal_batch_begin(&batch, 3ull << 32 | last);
    journal_batch_grow(&batch, 1, &at);
    cr_assert(eq(u64, journal_after(&batch), 4ull << 32));
    journal_batch_begin(&batch, 3ull << 32 | last);
    journal_batch_grow(&batch, BIG, &at);
    cr_assert(eq(u64, journal_after(&batch), 4ull << 32));
}

/* ---- written, and read ---- */

/* An empty directory is an empty journal; none at all is an error that names it. */
Test(journal, empty)
{
    opens_with(0, 0);
    begin();
    cr_assert(eq(u64, batch.at, 1ull << 32));
    opens_with(0, 0);
    cr_assert(zero(u32, scratch_entries(dir)), "opened, closed and begun, and nothing written");
    strcat(dir, "-none");
    cr_assert(eq(int, open_it(), ERR_IO));
    cr_assert(ne(ptr, strstr(why, dir), NULL), "%s", why);
}

/* Frames of all sizes come back as they were, in order, after each stop and after a crash; each
 * start begins a segment. What else is in the directory is none of its business. */
Test(journal, comes_back)
{
    static const size_t SIZES[] = {1, JOURNAL_BLOCK - JOURNAL_HEAD,
                                   JOURNAL_BLOCK - JOURNAL_HEAD + 1, 100000, 7};
    scratch_write(dir, "notes.txt", "x");
    scratch_write(dir, "0000000000000000.log", "x");
    scratch_write(dir, "00000001ffffffff.log", "x");
    scratch_write(dir, "0000000000000001.log.old", "x");
    for (uint64_t life = 1; life <= 4; life++) {
        opens_with(0, written_count);
        begin();
        cr_assert(eq(u64, journal_segment(batch.at), life));
        for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
            put(SIZES[i]);
        if (life == 3)
            crash();
    }
    opens_with(0, written_count);
    cr_assert(scratch_has(dir, "notes.txt"));
}

/* In order closed, a segment ends where its frames do. */
Test(journal, closed_in_order)
{
    opens_with(0, 0);
    begin();
    put(SMALL);
    put(2 * JOURNAL_BLOCK);
    cr_assert(eq(i64, stat_of(1).st_size, JOURNAL_SEGMENT));
    opens_with(0, 2);
    cr_assert(eq(i64, stat_of(1).st_size, 4 * JOURNAL_BLOCK));
}

/* What was written is read where it stands, in whatever order; what is not there is an error. */
Test(journal, reads_back)
{
    char bytes[SMALL];
    opens_with(0, 0);
    begin();
    put(SMALL);
    put(BIG);
    put(BIG);
    put(SMALL);
    cr_assert(eq(u64, journal_segment(written[3].at), 2));
    for (size_t i = 0; i < 40; i++) {
        const struct frame *frame = &written[i % 2 * 3];
        cr_assert(zero(int, journal_read(journal, frame->at, bytes, SMALL)));
        cr_assert(eq(u64, XXH3_64bits(bytes, SMALL), frame->sum));
    }
    cr_assert(eq(int, journal_read(journal, 3ull << 32, bytes, 1), ERR_IO));
    journal_close(journal);
    journal = NULL;
    opens_with(0, 4);
    uint64_t end = written[3].at - JOURNAL_HEAD + JOURNAL_BLOCK;
    cr_assert(zero(int, journal_read(journal, end - 1, bytes, 1)));
    cr_assert(eq(int, journal_read(journal, end - 1, bytes, 2), ERR_CORRUPT));
}

/* A frame that begins in a segment is whole in it; the next one begins another segment. */
Test(journal, rolls)
{
    static const uint64_t SEGMENTS[] = {1, 1, 2, 2, 3, 4};
    static const size_t SIZES[] = {
        BIG, BIG, BIG, JOURNAL_SEGMENT - BIG - JOURNAL_BLOCK - JOURNAL_HEAD, 2 * BIG, SMALL};
    opens_with(0, 0);
    begin();
    for (size_t i = 0; i < 6; i++) {
        cr_assert(eq(u64, journal_segment(batch.at), SEGMENTS[i]), "frame %zu", i);
        put(SIZES[i]);
    }
    cr_assert(eq(u64, journal_bytes(journal), 4ull * JOURNAL_SEGMENT));
    cr_assert(lt(i64, 2 * BIG, stat_of(1).st_size));
    cr_assert(eq(i64, stat_of(2).st_size, JOURNAL_SEGMENT));
    cr_assert(lt(i64, 2 * BIG, stat_of(3).st_size));
    cr_assert(eq(i64, stat_of(4).st_size, JOURNAL_SEGMENT));
    crash();
    opens_with(0, 6);
    begin();
    cr_assert(eq(u64, journal_segment(batch.at), 5));
}

static int take_half(void *arg, uint64_t at, struct span records)
{
    (void)arg, (void)records;
    return journal_segment(at) < 2 ? 0 : ERR_CORRUPT;
}

/* Records that say nothing to who takes them end the start; the segment is named. */
Test(journal, what_is_not_taken)
{
    make_segments(3);
    journal_close(journal);
    journal = NULL;
    cr_assert(eq(int, journal_open(dir, take_half, NULL, why, sizeof why, &journal), ERR_CORRUPT));
    cr_assert(ne(ptr, strstr(why, "/0000000000000002.log"), NULL), "%s", why);
}

/* ---- segments that are needed no more ---- */

/* Once a frame told of it, the oldest one is written over under the next number: nothing is made,
 * and nothing is deleted, as long as only few of them wait. */
Test(journal, segments_are_used_again)
{
    ino_t inode[8];
    opens_with(0, 0);
    begin();
    for (uint64_t segment = 1; segment <= 4; segment++) {
        cr_assert(eq(u64, journal_segment(batch.at), segment));
        put(JOURNAL_SEGMENT);
        inode[segment] = stat_of(segment).st_ino;
    }
    journal_release(journal, 3);
    journal_release(journal, 2); /* a lower one says nothing new */
    put(SMALL);                  /* made before the release was told of */
    cr_assert(ne(u64, stat_of(5).st_ino, inode[1]));
    segments_are(1, 5);
    put(JOURNAL_SEGMENT);
    put(JOURNAL_SEGMENT);
    cr_assert(eq(u64, stat_of(6).st_ino, inode[1]));
    put(SMALL);
    cr_assert(eq(u64, stat_of(7).st_ino, inode[2]));
    segments_are(3, 7);
    put(JOURNAL_SEGMENT);
    put(SMALL);
    segments_are(3, 8); /* 3 is needed */
    crash();
    opens_with(2, written_count);
    journal_release(journal, 7);
    begin();
    put(SMALL);
    opens_with(7, written_count);
    segments_are(7, 9); /* a stop removes what is not */
}

/* What is read of a segment that is written over is what was written there last: never what it had
 * under its former number, neither right behind the crash that made it nor later. */
Test(journal, former_use_is_not_read)
{
    opens_with(0, 0);
    begin();
    for (int i = 0; i < 64; i++) { /* many small frames, everywhere in the first segment */
        fill(JOURNAL_SEGMENT / 64 - JOURNAL_HEAD);
        cr_assert(zero(int, journal_write(journal, &batch)));
        journal_batch_begin(&batch, journal_after(&batch));
    }
    ino_t first = stat_of(1).st_ino;
    written_count = 0;
    put(SMALL);
    journal_release(journal, 2);
    put(JOURNAL_SEGMENT);
    put(SMALL);
    cr_assert(eq(u64, stat_of(3).st_ino, first));
    cr_assert(not(is_there(1)));
    crash();
    opens_with(0, 3);
    zero_blocks(3ull << 32, 1); /* as if it had not come that far */
    opens_with(0, 2);
    begin();
    cr_assert(eq(u64, journal_segment(batch.at), 3));
    put(SMALL);
    opens_with(0, 3);
}

/* One that a start or a stop had cut short is not written over: its length tells how it ended, and
 * half-way to another one it would look like damage. */
Test(journal, short_segments_go)
{
    make_segments(4);
    cr_assert(eq(i64, stat_of(1).st_size, JOURNAL_BLOCK));
    journal_release(journal, 4);
    put(JOURNAL_SEGMENT);
    put(SMALL);
    cr_assert(not(is_there(1)));
    cr_assert(eq(i64, stat_of(5).st_size, JOURNAL_SEGMENT));
    put(3 * JOURNAL_BLOCK);
    crash();
    zero_blocks(written[6].at - JOURNAL_HEAD + JOURNAL_BLOCK, 2);
    opens_with(1, 6);
    begin();
    put(SMALL);
    opens_with(3, 7);
}

/* More that wait than may: they go, one with each new segment. */
Test(journal, few_wait)
{
    enum { COUNT = 12 };
    make_segments(COUNT);
    journal_release(journal, COUNT);
    put(JOURNAL_SEGMENT);
    for (uint64_t next = COUNT + 1; next <= COUNT + 6; next++) {
        put(JOURNAL_SEGMENT);
        cr_assert(is_there(next));
        journal_release(journal, next);
    }
    unsigned spare = 0;
    for (uint64_t segment = 1; segment < COUNT + 6; segment++)
        spare += is_there(segment);
    cr_assert(le(u32, spare, JOURNAL_SPARE_MAX + 2));
    cr_assert(ge(u32, spare, 2));
    cr_assert(eq(u64, journal_bytes(journal), (spare + 1ull) * JOURNAL_SEGMENT));
}

/* ---- the disk ---- */

/* Without room for a segment nothing is written, and nothing is in the way when there is some. */
Test(journal, full_disk)
{
    opens_with(0, 0);
    begin();
    fill(SMALL);
    fallocate_errno = ENOSPC;
    cr_assert(eq(int, write_batch(), ERR_NO_SPACE));
    cr_assert(eq(int, errno, ENOSPC));
    cr_assert(zero(u32, scratch_entries(dir)));
    cr_assert(eq(int, write_batch(), ERR_NO_SPACE));
    fallocate_errno = 0;
    cr_assert(zero(int, write_batch()));
    put(JOURNAL_SEGMENT);
    fill(SMALL);
    fallocate_errno = ENOSPC;
    cr_assert(eq(int, write_batch(), ERR_NO_SPACE));
    cr_assert(eq(u32, scratch_entries(dir), 1));
    fallocate_errno = 0;
    cr_assert(zero(int, write_batch()));
    opens_with(0, 3);
}

/* Nor when a segment is used again that was cut short: half as long as it should be, it is none. */
Test(journal, full_disk_when_used_again)
{
    make_segments(4);
    journal_release(journal, 3);
    put(JOURNAL_SEGMENT);
    fill(SMALL);
    fallocate_errno = ENOSPC;
    cr_assert(eq(int, write_batch(), ERR_NO_SPACE));
    segments_are(2, 4);
    cr_assert(eq(u32, scratch_entries(dir), 3));
    crash();
    opens_with(1, 5);
    fallocate_errno = 0;
    begin();
    put(SMALL);
    opens_with(2, 6);
}

/* A file system that can't give room in advance is written all the same. */
Test(journal, no_room_in_advance)
{
    fallocate_errno = EOPNOTSUPP;
    make_segments(2);
    cr_assert(eq(i64, stat_of(2).st_size, JOURNAL_SEGMENT));
    crash();
    opens_with(0, 2);
}
