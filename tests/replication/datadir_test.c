#include "replication/datadir.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/ids.h"
#include "tests/lib/scratch.h"

#define OLD "loquat data directory\nformat 2\npartitions 4\nid 0123456789abcdef0123456789abcdef\n"

static char root[SCRATCH_MAX], path[SCRATCH_MAX + 16], why[512];
static struct datadir dir;

static void setup(void)
{
    scratch_make(root);
    snprintf(path, sizeof path, "%s/data", root);
}

static void teardown(void)
{
    datadir_close(&dir);
    scratch_remove(root);
}

TestSuite(datadir, .init = setup, .fini = teardown);

static int open_it(uint32_t partitions, int create)
{
    datadir_close(&dir);
    why[0] = 0;
    int err = datadir_open(&dir, path, partitions, create, why, sizeof why);
    cr_assert(eq(int, err != 0, why[0] != 0), "an error says why: %s", why);
    return err;
}

static void make(void)
{
    cr_assert(eq(int, open_it(4, 1), 0), "%s", why);
    mkdir(dir.journal, 0700);
    mkdir(dir.data, 0700);
    cr_assert(eq(int, datadir_commit(&dir, path, why, sizeof why), 0));
}

/* Made once, then opened as it was made; the number of partitions is fixed. */
Test(datadir, made_once)
{
    dir.lock_fd = -1;
    make();
    cr_assert(eq(int, dir.fresh, 1));
    char id[33];
    snprintf(id, sizeof id, "%s", dir.id);
    cr_assert(eq(sz, strlen(id), 32));
    cr_assert(eq(int, open_it(0, 1), 0));
    cr_assert(eq(int, dir.fresh, 0));
    cr_assert(eq(u32, dir.partitions, 4));
    cr_assert(eq(str, dir.id, id));
    cr_assert(eq(int, open_it(4, 0), 0));
    cr_assert(eq(int, open_it(8, 1), ERR_BAD_REQUEST));
    cr_assert(not(scratch_has(path, "BEGUN")));
}

/* The default number, and the mode that keeps others out. */
Test(datadir, defaults)
{
    dir.lock_fd = -1;
    cr_assert(eq(int, open_it(0, 1), 0));
    cr_assert(eq(u32, dir.partitions, PARTITIONS_DEFAULT));
    struct stat st;
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(u32, st.st_mode & 077, 0));
}

/* A start that was cut short before the end is begun again. */
Test(datadir, half_made_is_made_again)
{
    dir.lock_fd = -1;
    cr_assert(eq(int, open_it(4, 1), 0));
    mkdir(dir.journal, 0700);
    cr_assert(eq(int, open_it(4, 0), ERR_NOT_FOUND));
    cr_assert(eq(int, open_it(4, 1), 0), "%s", why);
    cr_assert(eq(int, dir.fresh, 1));
}

/* One process at a time; the second is told so, and a lock of a dead process is none. */
Test(datadir, one_process_at_a_time)
{
    dir.lock_fd = -1;
    pid_t child = 0;
    int ready[2], quit[2];
    cr_assert(pipe(ready) == 0 && pipe(quit) == 0);
    make();
    datadir_close(&dir);
    child = fork();
    if (child == 0) {
        struct datadir own;
        char text[512], byte = 0;
        byte = datadir_open(&own, path, 0, 0, text, sizeof text) == 0;
        _exit(write(ready[1], &byte, 1) == 1 && read(quit[0], &byte, 1) == 1 ? 0 : 1);
    }
    char byte = 0;
    cr_assert(read(ready[0], &byte, 1) == 1 && byte == 1);
    cr_assert(eq(int, open_it(0, 1), ERR_LOCKED));
    cr_assert(ne(ptr, strstr(why, "in use"), NULL), "%s", why);
    cr_assert(write(quit[1], &byte, 1) == 1);
    int status;
    waitpid(child, &status, 0);
    cr_assert(eq(int, open_it(0, 1), 0));
}

/* ---- refused, and nothing touched ---- */

static void refused(int create, int want, const char *part)
{
    unsigned before = scratch_entries(path);
    cr_assert(eq(int, open_it(0, create), want), "%s", why);
    cr_assert(ne(ptr, strstr(why, part), NULL), "%s", why);
    cr_assert(eq(u32, scratch_entries(path), before), "something was put into the directory");
}

/* Somebody else's directory. */
Test(datadir, foreign_directory)
{
    dir.lock_fd = -1;
    mkdir(path, 0700);
    scratch_write(path, "thesis.tex", "years of work");
    refused(1, ERR_NOT_FOUND, "not empty");
    refused(0, ERR_NOT_FOUND, "no loquat data");
}

/* A directory of a newer version names both formats. */
Test(datadir, newer_format)
{
    dir.lock_fd = -1;
    mkdir(path, 0700);
    scratch_write(path, "FORMAT", "loquat data directory\nformat 99\nsomething new\n");
    refused(1, ERR_VERSION, "format 99");
    cr_assert(ne(ptr, strstr(why, "or a newer one"), NULL), "%s", why);
}

/* One of an older version says how to get at what it holds. */
Test(datadir, older_format)
{
    dir.lock_fd = -1;
    mkdir(path, 0700);
    scratch_write(path, "FORMAT", "loquat data directory\nformat 1\nsomething old\n");
    refused(1, ERR_VERSION, "loquat-log export");
}

/* Damaged: FORMAT is not what it was, or a database is missing. */
Test(datadir, damaged)
{
    dir.lock_fd = -1;
    mkdir(path, 0700);
    const char *const bad[] = {
        "",
        "garbage",
        "loquat data directory\nformat 2\n",
        "loquat data directory\nformat 2\npartitions 0\nid 0123456789abcdef0123456789abcdef\n",
        "loquat data directory\nformat 2\npartitions 99999\nid 0123456789abcdef0123456789abcdef\n",
        "loquat data directory\nformat 2\npartitions 4\nid 0123\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        scratch_write(path, "FORMAT", bad[i]);
        refused(1, ERR_CORRUPT, "damaged");
    }
    scratch_write(path, "FORMAT", OLD);
    refused(1, ERR_CORRUPT, "raft is missing");
    char sub[SCRATCH_MAX + 32];
    snprintf(sub, sizeof sub, "%s/raft", path);
    mkdir(sub, 0700);
    refused(1, ERR_CORRUPT, "data is missing");
}

static size_t read_format(char *text, size_t size)
{
    char file[SCRATCH_MAX + 32];
    snprintf(file, sizeof file, "%s/FORMAT", path);
    FILE *stream = fopen(file, "re");
    cr_assert(ne(ptr, stream, NULL));
    size_t n = fread(text, 1, size - 1, stream);
    fclose(stream);
    text[n] = 0;
    return n;
}

/* A directory of before, with what its format had. */
static void make_old(const char *text)
{
    char sub[SCRATCH_MAX + 32];
    mkdir(path, 0700);
    scratch_write(path, "FORMAT", text);
    snprintf(sub, sizeof sub, "%s/raft", path);
    mkdir(sub, 0700);
    snprintf(sub, sizeof sub, "%s/data", path);
    mkdir(sub, 0700);
    cr_assert(zero(int, open_it(4, 0)), "%s", why);
}

/* Raised, it is the same directory in the newest format; also one of a node that is alone, which
 * named no cluster once. */
Test(datadir, raised)
{
    char text[256], line[32];
    dir.lock_fd = -1;
    make_old(OLD);
    cr_assert(eq(u32, dir.format, 2));
    cr_assert(not(datadir_newest(&dir)));
    cr_assert(zero(int, datadir_raise(&dir, DATADIR_FORMAT_NEWEST, path, why, sizeof why)), "%s",
              why);
    cr_assert(eq(int, open_it(4, 0), ERR_CORRUPT));
    cr_assert(ne(ptr, strstr(why, "journal is missing"), NULL), "%s", why);
    mkdir(dir.journal, 0700);
    cr_assert(zero(int, open_it(4, 0)), "%s", why);
    cr_assert(eq(u32, dir.format, DATADIR_FORMAT_NEWEST));
    cr_assert(datadir_newest(&dir));
    cr_assert(datadir_alone(&dir));
    cr_assert(eq(str, dir.id, "0123456789abcdef0123456789abcdef"));
    cr_assert(eq(u64, dir.node, 1));
    read_format(text, sizeof text);
    snprintf(line, sizeof line, "\nformat %d\n", DATADIR_FORMAT_NEWEST);
    cr_assert(ne(ptr, strstr(text, line), NULL), "%s", text);
    cr_assert(not(scratch_has(path, "FORMAT.tmp")));
}

/* Of several nodes: it stays with its cluster and its number. */
Test(datadir, raised_among_others)
{
    dir.lock_fd = -1;
    make_old("loquat data directory\nformat 3\npartitions 4\n"
             "id 0123456789abcdef0123456789abcdef\n"
             "cluster 1123456789abcdef0123456789abcdef\nnode 3\n");
    cr_assert(zero(int, datadir_raise(&dir, DATADIR_FORMAT_NEWEST, path, why, sizeof why)), "%s",
              why);
    mkdir(dir.journal, 0700);
    cr_assert(zero(int, open_it(4, 0)), "%s", why);
    cr_assert(not(datadir_alone(&dir)));
    cr_assert(eq(str, dir.cluster, "1123456789abcdef0123456789abcdef"));
    cr_assert(eq(u64, dir.node, 3));
}

/* What can't be written leaves the directory in the format that it had. */
Test(datadir, not_raised)
{
    char file[SCRATCH_MAX + 32];
    dir.lock_fd = -1;
    make_old(OLD);
    snprintf(file, sizeof file, "%s/FORMAT.tmp", path);
    cr_assert(zero(int, mkdir(file, 0700))); /* in the way */
    cr_assert(eq(int, datadir_raise(&dir, DATADIR_FORMAT_NEWEST, path, why, sizeof why), ERR_IO));
    cr_assert(ne(ptr, strstr(why, path), NULL), "%s", why);
    cr_assert(zero(int, open_it(4, 0)), "%s", why);
    cr_assert(eq(u32, dir.format, 2));
}

/* Another number of partitions would look for everything in the wrong place: no bit of FORMAT flips
 * unseen. One without its sum, as it was written once, is taken. */
Test(datadir, flipped_bit)
{
    char text[256];
    dir.lock_fd = -1;
    make();
    size_t n = read_format(text, sizeof text);
    cr_assert(lt(sz, 80, n));
    for (size_t bit = 0; bit < n * 8; bit++) {
        text[bit / 8] ^= (char)(1 << bit % 8);
        scratch_write(path, "FORMAT", text);
        cr_assert(ne(int, open_it(0, 1), 0), "bit %zu", bit);
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    scratch_write(path, "FORMAT", text);
    cr_assert(eq(int, open_it(0, 1), 0), "%s", why);
    char *sum = strstr(text, "sum ");
    cr_assert(ne(ptr, sum, NULL));
    *sum = 0;
    scratch_write(path, "FORMAT", text);
    cr_assert(eq(int, open_it(0, 1), 0), "%s", why);
}

/* Nothing there, and not asked to make it; a file in its place. */
Test(datadir, missing)
{
    dir.lock_fd = -1;
    cr_assert(eq(int, open_it(0, 0), ERR_NOT_FOUND));
    cr_assert(not(scratch_has(root, "data")));
    scratch_write(root, "data", "a file");
    cr_assert(lt(int, open_it(0, 1), 0));
}

/* What is free is known where there is a file system. */
Test(datadir, free_bytes)
{
    dir.lock_fd = -1;
    cr_assert(lt(u64, 0, datadir_free_bytes(root)));
    cr_assert(eq(u64, datadir_free_bytes("/no/such/place"), UINT64_MAX));
}
