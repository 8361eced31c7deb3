#include "tests/faults/power_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/base/check.h"
#include "tests/lib/dice.h"
#include "tests/lib/scratch.h"

enum {
    DIRS = 4, /* the parent of the directory, the directory, journal/, data/ */
    JOURNAL = 2,
    NAMES_MAX = 1024,
    NAME_ROOM = 64,
    FILES_MAX = 16384,
    NOTES_MAX = 65536,
    OLD_MAX = 64 << 20,
    SECTOR = 512,
    IN_PLACE_MAX = 4096, /* WATERMARK: written in place */
    PATH_ROOM = SCRATCH_MAX + 128,
    FULL_PATH = 2048,
};

struct name {
    char name[NAME_ROOM];
    ino_t inode;
};

struct listing {
    struct name names[NAMES_MAX];
    size_t count;
};

/* Of a file of the journal: bytes that were there before, and no sync has covered what is. */
struct note {
    ino_t inode;
    off_t at;
    size_t n, from; /* old[from, from + n) */
    bool end;       /* the file ended behind them */
    atomic_bool synced;
};

/* Shared with the process that is killed. */
static struct shared {
    struct {
        ino_t inode;
        off_t size; /* what a sync has covered */
    } files[FILES_MAX];
    size_t file_count;
    struct listing dirs[DIRS][2]; /* as they were synced: [which]; the other one is being written */
    atomic_uint which[DIRS];
    char mark[IN_PLACE_MAX];
    size_t mark_size;
    struct note notes[NOTES_MAX];
    atomic_size_t note_count;
    size_t old_used;
    char old[OLD_MAX];
} * shared;

static char paths[DIRS][PATH_ROOM], grave[PATH_ROOM];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool cutting; /* calls are those of the cut itself */
static uint64_t *dice;
static struct power_lost *lost;

static uint64_t roll(uint64_t sides)
{
    return dice_roll(dice, sides);
}

static bool watching(void)
{
    return shared != NULL && !cutting;
}

/* ---- what is on the disk ---- */

static int dir_of(const char *path)
{
    for (int i = 0; i < DIRS; i++)
        if (strcmp(path, paths[i]) == 0)
            return i;
    return -1;
}

/* LOCK, and RocksDB's own log, are nothing that anybody reads. */
static bool matters(int dir, const char *name)
{
    if (dir == 0)
        return strcmp(name, "data") == 0;
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strncmp(name, "LOG", 3) != 0 &&
           strcmp(name, "LOCK") != 0 && strcmp(name, "control.sock") != 0 &&
           strlen(name) < NAME_ROOM;
}

static void list_dir(int dir, struct listing *listing)
{
    listing->count = 0;
    DIR *stream = opendir(paths[dir]);
    if (stream == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        if (!matters(dir, entry->d_name))
            continue;
        ASSERT(listing->count < NAMES_MAX);
        struct name *name = &listing->names[listing->count++];
        snprintf(name->name, NAME_ROOM, "%.*s", NAME_ROOM - 1, entry->d_name);
        name->inode = entry->d_ino;
    }
    closedir(stream);
}

static const struct name *find_name(const struct listing *listing, const char *name)
{
    for (size_t i = 0; i < listing->count; i++)
        if (strcmp(listing->names[i].name, name) == 0)
            return &listing->names[i];
    return NULL;
}

static const struct listing *synced_names(int dir)
{
    return &shared->dirs[dir][atomic_load(&shared->which[dir])];
}

/* Whole, or not at all: the process may be killed meanwhile. Of two syncs at once the one that
 * looked first may end last: `looked` rises. */
static void note_names(int dir, const struct listing *listing, unsigned long looked)
{
    static unsigned long newest[DIRS];
    if (looked < newest[dir])
        return;
    newest[dir] = looked;
    unsigned next = atomic_load(&shared->which[dir]) ^ 1;
    shared->dirs[dir][next] = *listing;
    atomic_store(&shared->which[dir], next);
}

static off_t *synced_size(ino_t inode)
{
    for (size_t i = 0; i < shared->file_count; i++)
        if (shared->files[i].inode == inode)
            return &shared->files[i].size;
    return NULL;
}

/* `exactly`: of a file that may have become shorter. */
static void note_file(ino_t inode, off_t size, bool exactly)
{
    off_t *known = synced_size(inode);
    if (known == NULL) {
        ASSERT(shared->file_count < FILES_MAX);
        shared->files[shared->file_count].inode = inode;
        known = &shared->files[shared->file_count++].size;
        *known = 0;
    }
    if (size > *known || exactly)
        *known = size;
}

static bool in_journal(const char *path)
{
    size_t n = strlen(paths[JOURNAL]);
    return strncmp(path, paths[JOURNAL], n) == 0 && path[n] == '/';
}

static void path_of(int fd, char path[FULL_PATH])
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, FULL_PATH - 1);
    path[n > 0 ? n : 0] = 0;
}

/* The bytes that the file has there now. */
static void note_old(const char *path, const struct stat *st, off_t at, size_t n, bool end)
{
    if (at >= st->st_size)
        return;
    if ((off_t)n > st->st_size - at)
        n = (size_t)(st->st_size - at);
    int fd = open(path, O_RDONLY | O_CLOEXEC); /* not as the journal has it: any memory will do */
    ASSERT(fd >= 0);
    pthread_mutex_lock(&mutex);
    size_t count = atomic_load(&shared->note_count);
    ASSERT(count < NOTES_MAX && n <= OLD_MAX - shared->old_used);
    ssize_t got = pread(fd, shared->old + shared->old_used, n, at);
    ASSERT(got == (ssize_t)n);
    struct note *note = &shared->notes[count];
    note->inode = st->st_ino;
    note->at = at;
    note->n = n;
    note->from = shared->old_used;
    note->end = end;
    atomic_store(&note->synced, false);
    shared->old_used += n;
    atomic_store(&shared->note_count, count + 1); /* from here on, if it is killed now */
    pthread_mutex_unlock(&mutex);
    close(fd);
}

/* Of the first `count`; under the mutex. */
static void forget_old(ino_t inode, size_t count)
{
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        if (shared->notes[i].inode == inode)
            atomic_store(&shared->notes[i].synced, true);
        all = all && atomic_load(&shared->notes[i].synced);
    }
    if (!all || atomic_load(&shared->note_count) != count)
        return;
    atomic_store(&shared->note_count, 0);
    shared->old_used = 0;
}

/* ---- functions that stand before libc's ---- */

#define STANDS_BEFORE __attribute__((visibility("default")))

static int real_sync(long call, int fd)
{
    return (int)syscall(call, fd);
}

static bool is_mark(const char *path)
{
    size_t n = strlen(path);
    return n > 10 && strcmp(path + n - 10, "/WATERMARK") == 0;
}

/* What counts is what was there before the sync, once that is over. */
static int sync_by(long call, int fd)
{
    static atomic_ulong looks;
    static _Thread_local struct listing before;
    char path[FULL_PATH], mark[IN_PLACE_MAX];
    ssize_t marked = 0;
    struct stat st;
    if (!watching() || fstat(fd, &st) != 0)
        return real_sync(call, fd);
    path_of(fd, path);
    int dir = S_ISDIR(st.st_mode) ? dir_of(path) : -1;
    unsigned long looked = atomic_fetch_add(&looks, 1);
    if (dir >= 0)
        list_dir(dir, &before);
    if (is_mark(path))
        marked = pread(fd, mark, sizeof mark, 0);
    size_t notes = atomic_load(&shared->note_count);
    int rv = real_sync(call, fd);
    if (rv != 0)
        return rv;
    pthread_mutex_lock(&mutex);
    if (S_ISREG(st.st_mode)) {
        note_file(st.st_ino, st.st_size, in_journal(path));
        forget_old(st.st_ino, notes);
    }
    if (dir >= 0)
        note_names(dir, &before, looked);
    if (marked > 0) {
        memcpy(shared->mark, mark, (size_t)marked);
        shared->mark_size = (size_t)marked;
    }
    pthread_mutex_unlock(&mutex);
    return 0;
}

STANDS_BEFORE int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}

STANDS_BEFORE int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

/* A file that loses its name is kept, so that it can get it back. */
static void keep(const char *path)
{
    char other[FULL_PATH];
    struct stat st;
    if (!watching() || strncmp(path, paths[1], strlen(paths[1])) != 0 || lstat(path, &st) != 0 ||
        !S_ISREG(st.st_mode))
        return;
    snprintf(other, sizeof other, "%s/%lu", grave, (unsigned long)st.st_ino);
    syscall(SYS_link, path, other);
}

STANDS_BEFORE int unlink(const char *path)
{
    keep(path);
    return (int)syscall(SYS_unlink, path);
}

STANDS_BEFORE int rename(const char *from, const char *to)
{
    keep(to);
    keep(from);
    return (int)syscall(SYS_rename, from, to);
}

static void keep_at(int dir_fd, const char *name)
{
    char dir[FULL_PATH], path[FULL_PATH + NAME_ROOM];
    path_of(dir_fd, dir);
    snprintf(path, sizeof path, "%s/%.*s", dir, NAME_ROOM - 1, name);
    keep(path);
}

STANDS_BEFORE int unlinkat(int dir_fd, const char *name, int flags)
{
    keep_at(dir_fd, name);
    return (int)syscall(SYS_unlinkat, dir_fd, name, flags);
}

STANDS_BEFORE int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    keep_at(to_fd, to);
    keep_at(from_fd, from);
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

STANDS_BEFORE ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    char path[FULL_PATH];
    struct stat st;
    if (watching() && fstat(fd, &st) == 0) {
        path_of(fd, path);
        if (in_journal(path))
            note_old(path, &st, at, n, false);
    }
    return syscall(SYS_pwrite64, fd, from, n, at);
}

STANDS_BEFORE int ftruncate(int fd, off_t size)
{
    char path[FULL_PATH];
    struct stat st;
    if (watching() && fstat(fd, &st) == 0 && st.st_size > size) {
        path_of(fd, path);
        if (in_journal(path))
            note_old(path, &st, size, (size_t)(st.st_size - size), true);
    }
    return (int)syscall(SYS_ftruncate, fd, size);
}

/* ---- the cut ---- */

static void bring_back(int dir, const struct name *name)
{
    char from[FULL_PATH], to[FULL_PATH];
    snprintf(from, sizeof from, "%s/%lu", grave, (unsigned long)name->inode);
    snprintf(to, sizeof to, "%s/%s", paths[dir], name->name);
    if (syscall(SYS_link, from, to) == 0)
        lost->names_back++;
}

static void cut_names(int dir)
{
    static struct listing now;
    const struct listing *synced = synced_names(dir);
    char path[FULL_PATH];
    list_dir(dir, &now);
    for (size_t i = 0; i < now.count; i++) {
        const struct name *name = &now.names[i], *old = find_name(synced, name->name);
        if ((old != NULL && old->inode == name->inode) || roll(2) == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", paths[dir], name->name);
        scratch_remove(path); /* with what is in it, when it is a directory */
        lost->names_gone++;
        if (old != NULL)
            bring_back(dir, old);
    }
    for (size_t i = 0; i < synced->count; i++)
        if (find_name(&now, synced->names[i].name) == NULL && roll(2) == 0)
            bring_back(dir, &synced->names[i]);
}

/* The end of a file that was not synced: it ends anywhere in it, and sectors are not there. But for
 * the MANIFEST: RocksDB refuses one whose last record has a hole, which a disk that tears a page in
 * that very moment could leave. Nobody but RocksDB could mend that. */
static void cut_tail(const char *path, off_t synced, off_t size)
{
    static const char zeros[SECTOR];
    off_t end = synced + (off_t)roll((uint64_t)(size - synced) + 1);
    if (roll(2) == 0)
        end = end / SECTOR * SECTOR < synced ? synced : end / SECTOR * SECTOR;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ASSERT(fd >= 0);
    int rv = ftruncate(fd, end);
    ASSERT(rv == 0);
    lost->bytes += (unsigned long)(size - end);
    lost->files++;
    bool torn = roll(2) == 0 && strstr(path, "/MANIFEST-") == NULL;
    for (off_t at = synced; torn && at < end;) {
        off_t until = (at / SECTOR + 1) * SECTOR < end ? (at / SECTOR + 1) * SECTOR : end;
        if (roll(2) == 0) {
            ssize_t n = pwrite(fd, zeros, (size_t)(until - at), at);
            ASSERT(n == until - at);
            lost->sectors++;
        }
        at = until;
    }
    close(fd);
}

/* Sectors that were overwritten, the newest first: a sync that was not asked for may have been done
 * in between. What was cut off comes back whole, or not. */
static void undo(int fd, const struct note *note, off_t size)
{
    uint64_t how = roll(4); /* all as it is, all as it was, or by coin */
    if (note->end && how < 2 && size == note->at) {
        ssize_t n = pwrite(fd, shared->old + note->from, note->n, note->at);
        ASSERT(n == (ssize_t)note->n);
    }
    for (size_t done = 0; !note->end && done < note->n; done += SECTOR) {
        size_t n = note->n - done < SECTOR ? note->n - done : SECTOR;
        off_t at = note->at + (off_t)done;
        lost->rewritten++;
        if (how == 0 || (how > 1 && roll(2) == 0) || at >= size)
            continue;
        n = size - at < (off_t)n ? (size_t)(size - at) : n;
        ssize_t put = pwrite(fd, shared->old + note->from + done, n, at);
        ASSERT(put == (ssize_t)n);
        lost->undone++;
    }
}

static void cut_journal(const char *path, ino_t inode)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ASSERT(fd >= 0);
    for (size_t i = atomic_load(&shared->note_count); i-- > 0;) {
        struct note *note = &shared->notes[i];
        int rv = fstat(fd, &st);
        ASSERT(rv == 0);
        if (note->inode == inode && !atomic_exchange(&note->synced, true))
            undo(fd, note, st.st_size);
    }
    close(fd);
}

static void cut_mark(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ASSERT(fd >= 0);
    for (size_t at = 0; at < shared->mark_size; at += SECTOR) {
        size_t n = shared->mark_size - at < SECTOR ? shared->mark_size - at : SECTOR;
        if (roll(2) == 0) {
            ssize_t put = pwrite(fd, shared->mark + at, n, (off_t)at);
            ASSERT(put == (ssize_t)n);
        }
    }
    close(fd);
}

static void cut_files(int dir)
{
    static struct listing now;
    list_dir(dir, &now);
    for (size_t i = 0; i < now.count; i++) {
        char path[FULL_PATH];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", paths[dir], now.names[i].name);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        const off_t *synced = synced_size(st.st_ino);
        off_t size = synced == NULL ? 0 : *synced;
        if (st.st_size > size)
            cut_tail(path, size, st.st_size);
        if (dir == JOURNAL)
            cut_journal(path, st.st_ino);
        if (is_mark(path))
            cut_mark(path);
    }
}

/* From here on what is there is on the disk. */
static void settle(void)
{
    static struct listing now;
    shared->file_count = 0;
    atomic_store(&shared->note_count, 0);
    shared->old_used = 0;
    for (int d = 0; d < DIRS; d++) {
        list_dir(d, &now);
        note_names(d, &now, 0);
        for (size_t i = 0; i < now.count; i++) {
            char path[FULL_PATH];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", paths[d], now.names[i].name);
            if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
                continue;
            note_file(st.st_ino, st.st_size, true);
        }
    }
    shared->mark_size = 0;
    char path[FULL_PATH];
    snprintf(path, sizeof path, "%s/WATERMARK", paths[1]);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    shared->mark_size = fread(shared->mark, 1, sizeof shared->mark, file);
    fclose(file);
}

void power_cut(uint64_t *seed, struct power_lost *counts)
{
    dice = seed;
    lost = counts;
    cutting = true;
    for (int d = 0; d < DIRS; d++)
        cut_names(d);
    for (int d = 1; d < DIRS; d++)
        cut_files(d);
    settle();
    scratch_remove(grave);
    int rv = mkdir(grave, 0700);
    ASSERT(rv == 0);
    cutting = false;
}

void power_open(const char *root)
{
    snprintf(paths[0], PATH_ROOM, "%s", root);
    snprintf(paths[1], PATH_ROOM, "%s/data", root);
    snprintf(paths[JOURNAL], PATH_ROOM, "%s/data/journal", root);
    snprintf(paths[3], PATH_ROOM, "%s/data/data", root);
    snprintf(grave, sizeof grave, "%s/grave", root);
    int rv = mkdir(grave, 0700);
    ASSERT(rv == 0);
    void *room = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool mapped = room != MAP_FAILED;
    ASSERT(mapped);
    shared = room;
}

void power_close(void)
{
    struct shared *p = shared;
    shared = NULL;
    munmap(p, sizeof *p);
}
