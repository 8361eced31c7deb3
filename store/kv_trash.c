#include "store/kv_trash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/thread.h"

enum {
    NAME_SIZE = 64,
    NUMBERS_LATE = 64, /* a file may get its number so much earlier than its name */
};

struct victim {
    char name[NAME_SIZE];
    uint64_t bytes; /* that it still has */
};
struct victims {
    struct victim *items;
    size_t count, cap;
    uint64_t bytes;
};

struct kv_trash {
    int dir, trash; /* descriptors of both directories */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool quit;
    /* the thread's */
    uint64_t newest, seen; /* number of a file: before this look, and in it */
    struct victims victims;
};

static DIR *list(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *made = copy >= 0 ? fdopendir(copy) : NULL;
    if (made == NULL && copy >= 0)
        close(copy);
    return made;
}

/* The number of an SST or WAL, 0: something else. */
static uint64_t number_of(const char *name)
{
    char *end = NULL;
    uint64_t number = strtoull(name, &end, 10);
    bool ours = end != name && (strcmp(end, ".sst") == 0 || strcmp(end, ".log") == 0);
    return ours && strlen(name) < NAME_SIZE ? number : 0;
}

static void name_new_files(struct kv_trash *trash)
{
    DIR *dir = list(trash->dir);
    if (dir == NULL)
        return;
    for (struct dirent *at; (at = readdir(dir)) != NULL;) {
        uint64_t number = number_of(at->d_name);
        if (number == 0 || number + NUMBERS_LATE <= trash->newest)
            continue;
        bool there = linkat(trash->dir, at->d_name, trash->trash, at->d_name, 0) == 0;
        if (!there && errno != EEXIST)
            continue; /* deleted at once, when its time comes */
        if (number > trash->seen)
            trash->seen = number;
    }
    closedir(dir);
    trash->newest = trash->seen;
}

static void add_victim(struct victims *victims, const char *name, uint64_t bytes)
{
    if (victims->count == victims->cap) {
        victims->cap = victims->cap == 0 ? 16 : victims->cap * 2;
        victims->items = xrealloc(victims->items, victims->cap * sizeof *victims->items);
    }
    struct victim *victim = &victims->items[victims->count++];
    memcpy(victim->name, name, strlen(name) + 1); /* number_of looks at its length */
    victim->bytes = bytes;
    victims->bytes += bytes;
}

/* Those that have no other name any more. */
static void find_victims(struct kv_trash *trash)
{
    struct stat st;
    DIR *dir = list(trash->trash);
    trash->victims.count = trash->victims.bytes = 0;
    if (dir == NULL)
        return;
    for (struct dirent *at; (at = readdir(dir)) != NULL;)
        if (number_of(at->d_name) > 0 &&
            fstatat(trash->trash, at->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 1)
            add_victim(&trash->victims, at->d_name, (uint64_t)st.st_size);
    closedir(dir);
}

static bool room_is_scarce(const struct kv_trash *trash)
{
    struct statvfs room;
    return fstatvfs(trash->trash, &room) != 0 ||
           (uint64_t)room.f_bavail * room.f_frsize < TRASH_ROOM + trash->victims.bytes;
}

/* Takes `step` bytes from the end of the last one, or all of it. */
static void shorten(struct kv_trash *trash, uint64_t step)
{
    struct victims *victims = &trash->victims;
    struct victim *victim = &victims->items[victims->count - 1];
    uint64_t left = victim->bytes > step ? victim->bytes - step : 0;
    int fd = left > 0 ? openat(trash->trash, victim->name, O_WRONLY | O_CLOEXEC) : -1;
    bool shorter = fd >= 0 && ftruncate(fd, (off_t)left) == 0;
    if (fd >= 0)
        close(fd);
    if (!shorter) {
        left = 0;
        (void)unlinkat(trash->trash, victim->name, 0);
    }
    victims->bytes -= victim->bytes - left;
    victim->bytes = left;
    if (left == 0)
        victims->count--;
}

/* False: it is to end. */
static bool pause_ms(struct kv_trash *trash, unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&trash->mutex);
    if (!trash->quit)
        (void)pthread_cond_timedwait(&trash->cond, &trash->mutex, &until);
    bool goes_on = !trash->quit;
    pthread_mutex_unlock(&trash->mutex);
    return goes_on;
}

static bool empty_slowly(struct kv_trash *trash)
{
    uint64_t begun_ms = clock_mono_ms();
    uint64_t step = trash->victims.bytes * TRASH_STEP_MS / TRASH_MS_MAX;
    if (room_is_scarce(trash))
        step = UINT64_MAX;
    else if (step < TRASH_STEP)
        step = TRASH_STEP;
    while (trash->victims.count > 0) {
        shorten(trash, step);
        if (step == UINT64_MAX)
            continue;
        if (!pause_ms(trash, TRASH_STEP_MS))
            return false;
        if (clock_mono_ms() >= begun_ms + TRASH_LOOK_MS)
            return true; /* others may wait for a second name */
    }
    return pause_ms(trash, TRASH_LOOK_MS);
}

static void *run(void *arg)
{
    struct kv_trash *trash = arg;
    do {
        name_new_files(trash);
        find_victims(trash);
    } while (empty_slowly(trash));
    return NULL;
}

static void remove_all(int trash)
{
    DIR *dir = list(trash);
    if (dir == NULL)
        return;
    for (struct dirent *at; (at = readdir(dir)) != NULL;)
        if (at->d_name[0] != '.')
            (void)unlinkat(trash, at->d_name, 0);
    closedir(dir);
}

struct kv_trash *kv_trash_open(const char *path)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
    if (dir >= 0) {
        (void)mkdirat(dir, "trash", 0700);
        fd = openat(dir, "trash", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0) {
        if (dir >= 0)
            close(dir);
        return NULL;
    }
    remove_all(fd); /* of a process that was killed */
    struct kv_trash *trash = xcalloc(1, sizeof *trash);
    trash->dir = dir;
    trash->trash = fd;
    pthread_mutex_init(&trash->mutex, NULL);
    pthread_cond_init(&trash->cond, NULL);
    thread_start(&trash->thread, "trash", run, trash);
    return trash;
}

void kv_trash_close(struct kv_trash *trash)
{
    if (trash == NULL)
        return;
    pthread_mutex_lock(&trash->mutex);
    trash->quit = true;
    pthread_cond_signal(&trash->cond);
    pthread_mutex_unlock(&trash->mutex);
    pthread_join(trash->thread, NULL);
    remove_all(trash->trash);
    (void)unlinkat(trash->dir, "trash", AT_REMOVEDIR);
    close(trash->trash);
    close(trash->dir);
    pthread_mutex_destroy(&trash->mutex);
    pthread_cond_destroy(&trash->cond);
    free(trash->victims.items);
    free(trash);
}
