#include "tests/lib/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/base/check.h"

void scratch_make(char path[SCRATCH_MAX])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, SCRATCH_MAX, "%s/loquat-test-XXXXXX", base != NULL ? base : "/tmp");
    const char *made = mkdtemp(path);
    ASSERT(made != NULL);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void scratch_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void copy_file(const char *from, const char *to)
{
    static char block[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return; /* removed meanwhile: nothing a crash would leave */
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(out >= 0);
    ssize_t n;
    while ((n = read(in, block, sizeof block)) > 0) {
        ssize_t put = write(out, block, (size_t)n);
        ASSERT(put == n);
    }
    ASSERT(n == 0);
    close(in);
    close(out);
}

/* Names and sizes of what is in it, in any order. */
static uint64_t stamp_of(const char *dir)
{
    uint64_t sum = 0;
    DIR *stream = opendir(dir);
    ASSERT(stream != NULL);
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        char path[2 * SCRATCH_MAX];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (strncmp(entry->d_name, "LOG", 3) == 0 || stat(path, &st) != 0)
            continue;
        uint64_t size = S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size;
        sum += XXH3_64bits_withSeed(entry->d_name, strlen(entry->d_name), size);
    }
    closedir(stream);
    return sum;
}

static void copy_once(const char *from, const char *to)
{
    int rv = mkdir(to, 0700);
    ASSERT(rv == 0);
    DIR *stream = opendir(from);
    ASSERT(stream != NULL);
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        char a[2 * SCRATCH_MAX], b[2 * SCRATCH_MAX];
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strcmp(entry->d_name, "trash") == 0)
            continue;
        snprintf(a, sizeof a, "%s/%s", from, entry->d_name);
        snprintf(b, sizeof b, "%s/%s", to, entry->d_name);
        if (stat(a, &st) == 0 && S_ISDIR(st.st_mode))
            scratch_copy(a, b);
        else
            copy_file(a, b);
    }
    closedir(stream);
}

void scratch_copy(const char *from, const char *to)
{
    for (;;) {
        uint64_t before = stamp_of(from);
        copy_once(from, to);
        if (stamp_of(from) == before)
            return;
        scratch_remove(to);
    }
}

bool scratch_has(const char *dir, const char *name)
{
    char path[2 * SCRATCH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

void scratch_write(const char *dir, const char *name, const char *text)
{
    char path[2 * SCRATCH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    ASSERT(file != NULL);
    fputs(text, file);
    int rv = fclose(file);
    ASSERT(rv == 0);
}

unsigned scratch_entries(const char *dir)
{
    unsigned count = 0;
    DIR *stream = opendir(dir);
    ASSERT(stream != NULL);
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(stream);
    return count;
}

unsigned scratch_flip(const char *dir, const char *suffix, long size_min)
{
    unsigned count = 0;
    DIR *stream = opendir(dir);
    ASSERT(stream != NULL);
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        char path[2 * SCRATCH_MAX], byte = 0;
        struct stat st;
        size_t n = strlen(entry->d_name), tail = strlen(suffix);
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (n < tail || strcmp(entry->d_name + n - tail, suffix) != 0 || stat(path, &st) != 0 ||
            st.st_size < size_min)
            continue;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        ASSERT(fd >= 0);
        bool ok = pread(fd, &byte, 1, st.st_size / 2) == 1;
        byte ^= 0x10;
        ok = ok && pwrite(fd, &byte, 1, st.st_size / 2) == 1;
        ASSERT(ok);
        close(fd);
        count++;
    }
    closedir(stream);
    return count;
}
