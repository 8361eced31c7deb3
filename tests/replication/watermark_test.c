#include "replication/watermark.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "store/base/err.h"
#include "tests/lib/scratch.h"

static char root[SCRATCH_MAX], path[SCRATCH_MAX + 16];
static struct watermark mark;
static struct watermark_row row;

static void setup(void)
{
    scratch_make(root);
    snprintf(path, sizeof path, "%s/WATERMARK", root);
    cr_assert(eq(int, watermark_open(&mark, root, 4), 0));
}

static void teardown(void)
{
    watermark_close(&mark);
    scratch_remove(root);
}

TestSuite(watermark, .init = setup, .fini = teardown);

static void reopen(uint32_t partitions)
{
    watermark_close(&mark);
    cr_assert(eq(int, watermark_open(&mark, root, partitions), 0));
}

/* Nothing is known at first; what was put is there, each partition for itself. */
Test(watermark, put_and_get)
{
    for (uint32_t p = 0; p < 4; p++)
        cr_assert(eq(int, watermark_get(&mark, p, &row), ERR_NOT_FOUND));
    watermark_put(&mark, 2, (struct watermark_row){7, 1ull << 40, 0});
    watermark_put(&mark, 3, (struct watermark_row){1, 5, 0});
    watermark_put(&mark, 3, (struct watermark_row){1, 6, 9});
    watermark_write(&mark);
    watermark_sync(&mark);
    for (int life = 0; life < 2; life++) {
        cr_assert(eq(int, watermark_get(&mark, 2, &row), 0));
        cr_assert(row.term == 7 && row.index == 1ull << 40);
        cr_assert(eq(int, watermark_get(&mark, 3, &row), 0));
        cr_assert(row.term == 1 && row.index == 6 && row.cuts == 9);
        cr_assert(eq(int, watermark_get(&mark, 1, &row), ERR_NOT_FOUND));
        reopen(4);
    }
}

/* A row that was damaged is told from one that was never written; the others stand. */
Test(watermark, damaged_row)
{
    watermark_put(&mark, 1, (struct watermark_row){2, 3, 0});
    watermark_put(&mark, 2, (struct watermark_row){4, 5, 0});
    watermark_write(&mark);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, (int)pwrite(fd, "x", 1, 32 + 9), 1));
    close(fd);
    cr_assert(eq(int, watermark_get(&mark, 1, &row), ERR_CORRUPT));
    cr_assert(eq(int, watermark_get(&mark, 2, &row), 0));
    watermark_put(&mark, 1, (struct watermark_row){2, 4, 0});
    watermark_write(&mark);
    cr_assert(eq(int, watermark_get(&mark, 1, &row), 0));
}

/* A file that was cut short keeps the rows that are whole. */
Test(watermark, short_file_is_filled_up)
{
    watermark_put(&mark, 0, (struct watermark_row){2, 3, 0});
    watermark_put(&mark, 1, (struct watermark_row){4, 5, 0});
    watermark_write(&mark);
    cr_assert(eq(int, truncate(path, 40), 0));
    reopen(4);
    cr_assert(eq(int, watermark_get(&mark, 0, &row), 0));
    cr_assert(eq(int, watermark_get(&mark, 1, &row), ERR_NOT_FOUND));
    cr_assert(eq(int, watermark_get(&mark, 3, &row), ERR_NOT_FOUND));
    cr_assert(lt(int, watermark_open(&(struct watermark){0}, "/no/such/place", 4), 0));
}
