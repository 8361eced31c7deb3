/* tests/replication/journal_lib.h: a journal in a scratch directory, what was written to it, what
 * it told, and what can befall its files. For journal_*test.c, each of which has its own. */
#ifndef LOQUAT_TESTS_REPLICATION_JOURNAL_LIB_H
#define LOQUAT_TESTS_REPLICATION_JOURNAL_LIB_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/journal.h"
#include "store/base/err.h"
#include "tests/lib/dice.h"
#include "tests/lib/scratch.h"

enum { FRAMES_MAX = 64, BIG = 20 << 20, SMALL = 100 };

struct frame {
    uint64_t at;
    size_t n;
    uint64_t sum;
};

static char root[SCRATCH_MAX], dir[SCRATCH_MAX + 32], why[512];
static struct journal *journal;
static struct journal_batch batch;
static struct frame written[FRAMES_MAX], taken[FRAMES_MAX];
static size_t written_count, taken_count;
static uint64_t seed = 1;

static inline void setup(void)
{
    scratch_make(root);
    snprintf(dir, sizeof dir, "%s/journal", root);
    cr_assert(zero(int, mkdir(dir, 0700)));
}

static inline void teardown(void)
{
    journal_close(journal);
    journal_batch_close(&batch);
    scratch_remove(root);
}

static inline int on_take(void *arg, uint64_t at, struct span records)
{
    cr_assert(zero(ptr, arg));
    cr_assert(lt(sz, taken_count, FRAMES_MAX));
    taken[taken_count++] = (struct frame){at, records.n, XXH3_64bits(records.p, records.n)};
    return 0;
}

static inline int open_it(void)
{
    journal_close(journal);
    journal = NULL;
    taken_count = 0;
    why[0] = '\0';
    return journal_open(dir, on_take, NULL, why, sizeof why, &journal);
}

/* Opened, it told of the first `count` frames that were written, behind the first `from`. */
static inline void opens_with(size_t from, size_t count)
{
    cr_assert(zero(int, open_it()), "%s", why);
    cr_assert(eq(sz, taken_count, count - from));
    for (size_t i = from; i < count; i++) {
        cr_assert(eq(u64, taken[i - from].at, written[i].at), "frame %zu", i);
        cr_assert(eq(sz, taken[i - from].n, written[i].n), "frame %zu", i);
        cr_assert(eq(u64, taken[i - from].sum, written[i].sum), "frame %zu", i);
    }
    written_count = count;
}

static inline void path_of(uint64_t segment, char path[SCRATCH_MAX + 64])
{
    snprintf(path, SCRATCH_MAX + 64, "%s/%016" PRIx64 ".log", dir, segment);
}

/* It is damaged, and that segment is named. */
static inline void refused(uint64_t segment)
{
    char path[SCRATCH_MAX + 64];
    path_of(segment, path);
    cr_assert(eq(int, open_it(), ERR_CORRUPT));
    cr_assert(ne(ptr, strstr(why, path), NULL), "not segment %" PRIu64 ": %s", segment, why);
}

static inline void begin(void)
{
    uint64_t at = 0;
    cr_assert(zero(int, journal_begin(journal, &at)));
    cr_assert(journal_begins(at));
    journal_batch_begin(&batch, at);
}

static inline void fill(size_t n)
{
    uint64_t at;
    char *p = journal_batch_grow(&batch, n, &at);
    for (size_t i = 0; i < n; i += sizeof seed) {
        uint64_t word = dice_next(&seed);
        memcpy(p + i, &word, n - i < sizeof word ? n - i : sizeof word);
    }
}

static inline int write_batch(void)
{
    struct frame frame = {batch.at + JOURNAL_HEAD, batch.n - JOURNAL_HEAD, 0};
    frame.sum = XXH3_64bits(batch.p + JOURNAL_HEAD, frame.n);
    int err = journal_write(journal, &batch);
    if (err == 0) {
        cr_assert(lt(sz, written_count, FRAMES_MAX));
        written[written_count++] = frame;
        journal_batch_begin(&batch, journal_after(&batch));
    }
    return err;
}

static inline void put(size_t n)
{
    fill(n);
    cr_assert(zero(int, write_batch()));
}

/* So many segments with a small frame each. */
static inline void make_segments(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cr_assert(zero(int, open_it()), "%s", why);
        begin();
        put(SMALL);
    }
}

/* From here on `dir` is what is left when the process ends at this moment. */
static inline void crash(void)
{
    static unsigned crashes;
    char left[SCRATCH_MAX + 32];
    snprintf(left, sizeof left, "%s/crash-%u", root, crashes++);
    scratch_copy(dir, left);
    journal_close(journal);
    journal = NULL;
    scratch_remove(dir);
    memcpy(dir, left, sizeof dir);
}

static inline int open_segment(uint64_t segment)
{
    char path[SCRATCH_MAX + 64];
    path_of(segment, path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    return fd;
}

static inline void flip(uint64_t at, unsigned bit)
{
    int fd = open_segment(journal_segment(at));
    off_t offset = (off_t)(at & UINT32_MAX);
    char byte;
    cr_assert(eq(i64, pread(fd, &byte, 1, offset), 1));
    byte ^= (char)(1 << bit);
    cr_assert(eq(i64, pwrite(fd, &byte, 1, offset), 1));
    close(fd);
}

static inline void zero_blocks(uint64_t at, size_t count)
{
    static const char zeros[JOURNAL_BLOCK];
    int fd = open_segment(journal_segment(at));
    for (size_t i = 0; i < count; i++) {
        off_t offset = (off_t)((at & UINT32_MAX) + i * JOURNAL_BLOCK);
        cr_assert(eq(i64, pwrite(fd, zeros, sizeof zeros, offset), JOURNAL_BLOCK));
    }
    close(fd);
}

static inline void cut(uint64_t segment, off_t size)
{
    int fd = open_segment(segment);
    cr_assert(zero(int, ftruncate(fd, size)));
    close(fd);
}

static inline struct stat stat_of(uint64_t segment)
{
    char path[SCRATCH_MAX + 64];
    struct stat st = {0};
    path_of(segment, path);
    if (stat(path, &st) != 0)
        st.st_size = -1;
    return st;
}

static inline bool is_there(uint64_t segment)
{
    return stat_of(segment).st_size >= 0;
}

/* These, and no others. */
static inline void segments_are(uint64_t first, uint64_t last)
{
    for (uint64_t segment = 1; segment < last + 20; segment++)
        cr_assert(eq(int, is_there(segment), segment >= first && segment <= last),
                  "segment %" PRIu64, segment);
}

static inline void copy_bytes(uint64_t from, uint64_t to, size_t n)
{
    static char bytes[1 << 20];
    cr_assert(le(sz, n, sizeof bytes));
    int in = open_segment(journal_segment(from)), out = open_segment(journal_segment(to));
    cr_assert(eq(i64, pread(in, bytes, n, (off_t)(from & UINT32_MAX)), (int64_t)n));
    cr_assert(eq(i64, pwrite(out, bytes, n, (off_t)(to & UINT32_MAX)), (int64_t)n));
    close(in);
    close(out);
}

static inline void move_file(uint64_t segment, const char *away, bool back)
{
    char path[SCRATCH_MAX + 64], other[SCRATCH_MAX + 64];
    path_of(segment, path);
    snprintf(other, sizeof other, "%s/%s", root, away);
    cr_assert(zero(int, back ? rename(other, path) : rename(path, other)));
}

static inline void remove_file(uint64_t segment)
{
    char path[SCRATCH_MAX + 64];
    path_of(segment, path);
    cr_assert(zero(int, unlink(path)));
}

#endif
