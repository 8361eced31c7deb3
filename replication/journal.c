#include "replication/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/journal_frame.h"
#include "store/base/buf.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/ids.h"

#define NAME_NEW "new" /* of a segment that is being made */

enum { PATH_ROOM = 4200, NAME_ROOM = 32, SUFFIX_AT = 16 };

struct journal {
    char dir[PATH_ROOM - NAME_ROOM];
    int dir_fd;
    uint64_t first, last;     /* segments that are there: [first, last]; none: first > last */
    uint64_t end;             /* behind the last frame of `last` */
    int fd;                   /* of `last`, once something was written; else -1 */
    uint64_t nonce;           /* of `last` */
    uint64_t before;          /* where the one before `last` ended */
    uint64_t needed;          /* the newest frame says: those below are not */
    _Atomic uint64_t count;   /* of segments, for who asks */
    _Atomic uint64_t release; /* those below are needed no more */
    int read_fd;              /* of the segment that was read last */
    uint64_t read_segment;
};

uint64_t journal_after(const struct journal_batch *batch)
{
    uint64_t end = batch->at + journal_padded(batch->n);
    return (end & UINT32_MAX) < JOURNAL_SEGMENT ? end : (journal_segment(end) + 1) << 32;
}

/* ---- files ---- */

static int failed(void)
{
    return errno == ENOSPC || errno == EDQUOT ? ERR_NO_SPACE : ERR_IO;
}

static void name_of(char name[NAME_ROOM], uint64_t segment)
{
    snprintf(name, NAME_ROOM, "%016" PRIx64 ".log", segment);
}

static int open_segment(const struct journal *journal, uint64_t segment, int flags)
{
    char name[NAME_ROOM];
    name_of(name, segment);
    return openat(journal->dir_fd, name, flags | O_CLOEXEC, 0600);
}

/* False: the name is not that of a segment. */
static bool number_of(const char *name, uint64_t *segment)
{
    char *end = NULL;
    if (strspn(name, "0123456789abcdef") != SUFFIX_AT || strcmp(name + SUFFIX_AT, ".log") != 0)
        return false;
    *segment = strtoull(name, &end, 16);
    return end == name + SUFFIX_AT && *segment > 0 && *segment <= UINT32_MAX;
}

/* Into the kernel's page cache only where the file system wants it so: what is written is hardly
 * ever read again. */
static int open_to_write(const struct journal *journal, uint64_t segment)
{
    int fd = open_segment(journal, segment, O_RDWR | O_DIRECT);
    return fd >= 0 || errno != EINVAL ? fd : open_segment(journal, segment, O_RDWR);
}

static int write_all(int fd, const char *p, size_t n, off_t at)
{
    for (size_t done = 0; done < n;) {
        ssize_t rv = pwrite(fd, p + done, n - done, at + (off_t)done);
        if (rv < 0 && errno == EINTR)
            continue;
        if (rv <= 0) {
            errno = rv == 0 ? EIO : errno;
            return failed();
        }
        done += (size_t)rv;
    }
    return 0;
}

static int read_all(int fd, char *p, size_t n, off_t at)
{
    for (size_t done = 0; done < n;) {
        ssize_t rv = pread(fd, p + done, n - done, at + (off_t)done);
        if (rv < 0 && errno == EINTR)
            continue;
        if (rv < 0)
            return ERR_IO;
        if (rv == 0)
            return ERR_CORRUPT; /* shorter than it was */
        done += (size_t)rv;
    }
    return 0;
}

/* ---- what is there ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

struct numbers {
    uint64_t *items;
    size_t count, cap;
};

static int list_segments(const struct journal *journal, struct numbers *found)
{
    uint64_t segment;
    DIR *stream = opendir(journal->dir);
    if (stream == NULL)
        return ERR_IO;
    for (;;) {
        errno = 0; /* a name that is not told would be a segment that is not there */
        const struct dirent *entry = readdir(stream);
        if (entry == NULL)
            break;
        if (!number_of(entry->d_name, &segment))
            continue;
        if (found->count == found->cap) {
            found->cap = found->cap == 0 ? 64 : found->cap * 2;
            found->items = xrealloc(found->items, found->cap * sizeof *found->items);
        }
        found->items[found->count++] = segment;
    }
    int problem = errno;
    closedir(stream);
    errno = problem;
    if (problem != 0)
        return ERR_IO;
    if (found->count > 1)
        qsort(found->items, found->count, sizeof *found->items, by_number);
    return 0;
}

/* Those that are read: the newest ones, up to the first hole. What lies below was deleted, and a
 * power cut brought it back; else the frames say that it is needed. */
static void choose_segments(struct journal *journal, const struct numbers *found)
{
    size_t at = found->count;
    journal->first = 1;
    journal->last = 0;
    if (at == 0)
        return;
    journal->last = found->items[--at];
    while (at > 0 && found->items[at - 1] == found->items[at] - 1)
        at--;
    journal->first = found->items[at];
}

static int read_segment(const struct journal *journal, uint64_t segment, struct buf *bytes)
{
    struct stat st;
    int fd = open_segment(journal, segment, O_RDONLY);
    if (fd < 0)
        return ERR_IO;
    int err = fstat(fd, &st) == 0 ? 0 : ERR_IO;
    bytes->n = 0;
    if (err == 0 && st.st_size > 0)
        err = read_all(fd, buf_grow(bytes, (size_t)st.st_size), (size_t)st.st_size, 0);
    close(fd);
    return err;
}

static int damaged(const struct journal *journal, uint64_t at, const char *what, char *why,
                   size_t size)
{
    snprintf(why, size, "%s/%016" PRIx64 ".log is damaged at byte %" PRIu64 ": %s", journal->dir,
             journal_segment(at), at & UINT32_MAX, what);
    return ERR_CORRUPT;
}

/* A whole frame behind one that is broken: what is between them was synced once. Of the same
 * attempt as the first one, whose nonce nobody knew: what somebody sent may look like anything. */
static bool goes_on(struct span bytes, uint64_t segment, size_t offset, uint64_t nonce)
{
    struct journal_frame frame;
    bool any = offset == 0;
    for (offset += JOURNAL_BLOCK; offset < bytes.n; offset += JOURNAL_BLOCK)
        if (journal_frame_at(bytes, segment, offset, &frame) && (any || frame.nonce == nonce))
            return true;
    return false;
}

struct reading {
    struct journal *journal;
    journal_take take;
    void *arg;
    uint64_t end; /* behind the last frame; 0: there was none yet */
    char *why;
    size_t size;
};

static int take_frame(const struct reading *reading, uint64_t at, const struct journal_frame *frame)
{
    int err = 0;
    if (journal_begins(at) && reading->end != 0 && frame->before != reading->end)
        return damaged(reading->journal, reading->end, "what was there is gone", reading->why,
                       reading->size);
    err = reading->take(reading->arg, at + JOURNAL_HEAD, frame->records);
    if (err != 0)
        damaged(reading->journal, at, "its records say nothing that could be", reading->why,
                reading->size);
    return err;
}

static int take_segment(struct reading *reading, uint64_t segment, struct span bytes)
{
    struct journal_frame frame;
    size_t offset = 0;
    uint64_t nonce = 0;
    int err = 0;
    for (; err == 0 && journal_frame_at(bytes, segment, offset, &frame); offset += frame.size) {
        if (offset > 0 && frame.nonce != nonce)
            break; /* of an attempt that a crash ended */
        nonce = frame.nonce;
        reading->journal->needed = frame.needed;
        err = take_frame(reading, segment << 32 | offset, &frame);
        reading->end = segment << 32 | (offset + frame.size);
    }
    if (err != 0)
        return err;
    if (bytes.n < JOURNAL_SEGMENT && offset < bytes.n)
        return damaged(reading->journal, segment << 32 | offset,
                       "it was closed in order, and does not end so", reading->why, reading->size);
    if (goes_on(bytes, segment, offset, nonce))
        return damaged(reading->journal, segment << 32 | offset, "a frame is broken", reading->why,
                       reading->size);
    return 0;
}

static int take_all(struct reading *reading)
{
    struct journal *journal = reading->journal;
    struct buf bytes = {0};
    int err = 0;
    for (uint64_t segment = journal->first; err == 0 && segment <= journal->last; segment++) {
        err = read_segment(journal, segment, &bytes);
        if (err != 0)
            snprintf(reading->why, reading->size, "%s/%016" PRIx64 ".log: %s", journal->dir,
                     segment, err == ERR_CORRUPT ? "it becomes shorter" : strerror(errno));
        else
            err = take_segment(reading, segment, buf_span(&bytes));
        /* Only the newest one may have nothing in it: it was made, and then came a crash. */
        bool nothing = reading->end == 0 || journal_segment(reading->end) != segment;
        if (err == 0 && nothing && segment < journal->last)
            err = damaged(journal, segment << 32, "nothing in it is whole", reading->why,
                          reading->size);
    }
    buf_close(&bytes);
    if (err == 0 && reading->end != 0 && journal->first > journal->needed)
        err = damaged(journal, (journal->first - 1) << 32, "it is missing", reading->why,
                      reading->size);
    journal->end = reading->end;
    return err;
}

static void journal_free(struct journal *journal)
{
    if (journal->fd >= 0)
        close(journal->fd);
    if (journal->read_fd >= 0)
        close(journal->read_fd);
    if (journal->dir_fd >= 0)
        close(journal->dir_fd);
    free(journal);
}

int journal_open(const char *dir, journal_take take, void *arg, char *why, size_t size,
                 struct journal **out)
{
    struct journal *journal = xcalloc(1, sizeof *journal);
    struct reading reading = {journal, take, arg, 0, why, size};
    struct numbers found = {0};
    journal->fd = journal->read_fd = -1;
    snprintf(journal->dir, sizeof journal->dir, "%s", dir);
    journal->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = journal->dir_fd >= 0 ? list_segments(journal, &found) : ERR_IO;
    if (err != 0)
        snprintf(why, size, "%s: %s", dir, strerror(errno));
    choose_segments(journal, &found);
    free(found.items);
    if (err == 0)
        err = take_all(&reading);
    if (err != 0) {
        journal_free(journal);
        return err;
    }
    atomic_store(&journal->count, journal->last - journal->first + 1);
    *out = journal;
    return 0;
}

/* ---- writing ---- */

static int remove_segment(const struct journal *journal, uint64_t segment)
{
    char name[NAME_ROOM];
    name_of(name, segment);
    return unlinkat(journal->dir_fd, name, 0) == 0 || errno == ENOENT ? 0 : ERR_IO;
}

/* The newest one ends with its last frame from now on, so that nothing behind it is ever read. That
 * frame may be of a process that was killed before it was synced: it has to be there before the
 * length says that all of it is. */
static int cut_last(struct journal *journal)
{
    uint64_t last = journal_segment(journal->end), offset = journal->end & UINT32_MAX;
    if (last != journal->last) { /* nothing in it: its number is the next one again */
        int err = remove_segment(journal, journal->last--);
        if (err != 0 || last == 0)
            return err;
        ASSERT(last == journal->last);
    }
    int fd = open_segment(journal, last, O_RDWR), err = 0;
    if (fd < 0 || fdatasync(fd) != 0 || ftruncate(fd, (off_t)offset) != 0 || fsync(fd) != 0)
        err = failed();
    if (fd >= 0)
        close(fd);
    return err;
}

int journal_begin(struct journal *journal, uint64_t *at)
{
    struct numbers found = {0};
    int err = list_segments(journal, &found);
    (void)unlinkat(journal->dir_fd, NAME_NEW, 0);
    for (size_t i = 0; err == 0 && i < found.count; i++)
        if (found.items[i] < journal->first)
            err = remove_segment(journal, found.items[i]);
    free(found.items);
    if (err == 0 && journal->last >= journal->first)
        err = cut_last(journal);
    if (err == 0 && fsync(journal->dir_fd) != 0)
        err = failed();
    if (journal->end == 0)
        journal->needed = journal->last + 1;
    *at = (journal->last + 1) << 32;
    return err;
}

/* Room for a whole segment, so that writing it does not find the disk full; and its length, which
 * says that it was not closed in order. */
static int make_room(int fd)
{
    int rv;
    do
        rv = fallocate(fd, 0, 0, JOURNAL_SEGMENT);
    while (rv != 0 && errno == EINTR);
    int err = rv == 0 ? 0 : failed();
    if (err == ERR_IO && errno == EOPNOTSUPP)
        err = ftruncate(fd, JOURNAL_SEGMENT) == 0 ? 0 : failed();
    return err == 0 && fsync(fd) != 0 ? failed() : err;
}

static int make_segment(const struct journal *journal, const char *name)
{
    int fd = openat(journal->dir_fd, NAME_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed();
    int err = make_room(fd);
    if (err == 0 && renameat(journal->dir_fd, NAME_NEW, journal->dir_fd, name) != 0)
        err = failed();
    int problem = errno;
    if (err != 0) /* half of it, on a disk that is full, would be in the way */
        (void)unlinkat(journal->dir_fd, NAME_NEW, 0);
    close(fd);
    errno = problem;
    return err;
}

static bool one_is_free(const struct journal *journal)
{
    return journal->first < journal->last && journal->first < journal->needed;
}

/* The file of the next segment: the oldest one, if that is needed no more. One that was cut is
 * shorter, which tells how it ended: it is not made longer under its name, and not written over. */
static int next_file(struct journal *journal, const char *name)
{
    char old[NAME_ROOM];
    struct stat st;
    if (!one_is_free(journal))
        return make_segment(journal, name);
    uint64_t oldest = journal->first++;
    name_of(old, oldest);
    if (fstatat(journal->dir_fd, old, &st, 0) == 0 && st.st_size >= JOURNAL_SEGMENT)
        return renameat(journal->dir_fd, old, journal->dir_fd, name) == 0 ? 0 : failed();
    int err = remove_segment(journal, oldest);
    return err == 0 ? make_segment(journal, name) : err;
}

static int next_segment(struct journal *journal, uint64_t segment)
{
    char name[NAME_ROOM];
    name_of(name, segment);
    if (journal->fd >= 0)
        close(journal->fd);
    journal->fd = -1;
    int err = next_file(journal, name);
    if (err == 0 && one_is_free(journal) && journal->needed > journal->first + JOURNAL_SPARE_MAX)
        err = remove_segment(journal, journal->first++);
    if (err == 0 && fsync(journal->dir_fd) != 0)
        err = failed();
    if (err != 0)
        return err;
    journal->before = journal->end;
    journal->nonce = random_u64();
    journal->last = segment;
    journal->fd = open_to_write(journal, segment);
    atomic_store(&journal->count, journal->last - journal->first + 1);
    return journal->fd >= 0 ? 0 : failed();
}

int journal_write(struct journal *journal, struct journal_batch *batch)
{
    int err = 0;
    uint64_t segment = journal_segment(batch->at);
    if (journal->fd < 0 || segment != journal->last) {
        ASSERT(journal_begins(batch->at) && segment == journal->last + 1);
        err = next_segment(journal, segment);
    }
    if (err != 0)
        return err;
    uint64_t release = atomic_load(&journal->release);
    struct journal_frame frame = {.nonce = journal->nonce,
                                  .before = journal->before,
                                  .needed = release > journal->needed ? release : journal->needed};
    size_t size = journal_frame_seal(batch, &frame);
    err = write_all(journal->fd, batch->p, size, (off_t)(batch->at & UINT32_MAX));
    if (err == 0 && fdatasync(journal->fd) != 0)
        err = failed();
    if (err != 0)
        return err;
    journal->end = batch->at + size;
    journal->needed = frame.needed;
    return 0;
}

/* ---- for the loop ---- */

int journal_read(struct journal *journal, uint64_t at, char *to, size_t n)
{
    if (journal->read_fd < 0 || journal->read_segment != journal_segment(at)) {
        if (journal->read_fd >= 0)
            close(journal->read_fd);
        journal->read_segment = journal_segment(at);
        journal->read_fd = open_segment(journal, journal->read_segment, O_RDONLY);
        if (journal->read_fd < 0)
            return ERR_IO;
    }
    return read_all(journal->read_fd, to, n, (off_t)(at & UINT32_MAX));
}

void journal_warm(const struct journal *journal, uint64_t at, size_t n)
{
    static char bytes[16 * JOURNAL_BLOCK];
    int fd = open_segment(journal, journal_segment(at), O_RDONLY);
    if (fd < 0)
        return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* what stands around it is of other logs */
    for (size_t done = 0; done < n; done += sizeof bytes)
        (void)read_all(fd, bytes, n - done < sizeof bytes ? n - done : sizeof bytes,
                       (off_t)((at & UINT32_MAX) + done));
    close(fd);
}

void journal_release(struct journal *journal, uint64_t segment)
{
    if (segment > atomic_load(&journal->release))
        atomic_store(&journal->release, segment);
}

uint64_t journal_bytes(const struct journal *journal)
{
    return atomic_load(&journal->count) * JOURNAL_SEGMENT;
}

void journal_close(struct journal *journal)
{
    if (journal == NULL)
        return;
    if (journal->fd >= 0) { /* what fails here is found out, and done, by the next start */
        while (one_is_free(journal))
            (void)remove_segment(journal, journal->first++);
        (void)cut_last(journal);
        (void)fsync(journal->dir_fd);
    }
    journal_free(journal);
}
