#include "store/kv_trash.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/scratch.h"

enum { MIB = 1 << 20, WAIT_S = 20 };

static char root[SCRATCH_MAX];
static struct kv_trash *trash;

static void setup(void)
{
    scratch_make(root);
}

static void teardown(void)
{
    scratch_remove(root);
}

TestSuite(kv_trash, .init = setup, .fini = teardown, .timeout = 60);

static char *path_of(const char *name)
{
    static char paths[4][2 * SCRATCH_MAX];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void make_file(const char *name, size_t mib)
{
    char *block = calloc(1, MIB);
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(ge(int, fd, 0));
    for (size_t i = 0; i < mib; i++)
        cr_assert(eq(long, write(fd, block, MIB), MIB));
    close(fd);
    free(block);
}

static long size_of(const char *name) /* -1: not there */
{
    struct stat st;
    return stat(path_of(name), &st) == 0 ? (long)st.st_size : -1;
}

/* Waits until the file is there, or gone. Returns how many sizes it has had meanwhile. */
static int await(const char *name, bool there)
{
    int sizes = 0;
    long last = size_of(name);
    for (int i = 0; i < WAIT_S * 500 && (size_of(name) >= 0) != there; i++) {
        long size = size_of(name);
        sizes += size != last;
        last = size;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    cr_assert(eq(int, size_of(name) >= 0, there), "%s", name);
    return sizes;
}

/* A file that the database has deleted becomes shorter, step by step, and goes. */
Test(kv_trash, shorter_and_gone)
{
    make_file("000007.sst", 12);
    make_file("000008.log", 1);
    trash = kv_trash_open(root);
    cr_assert(ne(ptr, trash, NULL));
    await("trash/000007.sst", true);
    await("trash/000008.log", true);
    cr_assert(eq(int, unlink(path_of("000007.sst")), 0));
    cr_assert(lt(int, 2, await("trash/000007.sst", false)), "in steps");
    make_file("000009.sst", 1);
    await("trash/000009.sst", true);
    cr_assert(eq(long, size_of("000008.log"), MIB), "one that is in use stays as it is");
    kv_trash_close(trash);
    cr_assert(eq(long, size_of("trash"), -1));
    cr_assert(eq(long, size_of("000009.sst"), MIB));
}

/* A file that somebody else has linked is theirs. */
Test(kv_trash, linked_elsewhere)
{
    make_file("000007.sst", 2);
    make_file("000010.sst", 2);
    cr_assert(eq(int, link(path_of("000007.sst"), path_of("backup")), 0));
    trash = kv_trash_open(root);
    await("trash/000010.sst", true);
    cr_assert(eq(int, unlink(path_of("000007.sst")), 0));
    cr_assert(eq(int, unlink(path_of("000010.sst")), 0));
    await("trash/000010.sst", false);
    cr_assert(eq(long, size_of("backup"), 2 * MIB));
    kv_trash_close(trash);
    cr_assert(eq(long, size_of("backup"), 2 * MIB));
}

/* What a killed process left goes at the next start; files of other names are nobody's business. */
Test(kv_trash, of_a_killed_process)
{
    cr_assert(eq(int, mkdir(path_of("trash"), 0700), 0));
    make_file("trash/000003.sst", 1);
    make_file("000007.sst", 1);
    make_file("CURRENT", 1);
    trash = kv_trash_open(root);
    await("trash/000007.sst", true);
    cr_assert(eq(long, size_of("trash/000003.sst"), -1));
    cr_assert(eq(long, size_of("trash/CURRENT"), -1));
    kv_trash_close(trash);
    cr_assert(eq(ptr, kv_trash_open("/no/such/place"), NULL));
    kv_trash_close(NULL);
}
