#include "store/base/file.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/err.h"
#include "tests/lib/scratch.h"

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 8];
static struct buf out;

static void setup(void)
{
    scratch_make(dir);
    snprintf(path, sizeof path, "%s/file", dir);
    buf_add_str(&out, "before ");
}

static void teardown(void)
{
    scratch_remove(dir);
    buf_close(&out);
}

TestSuite(file, .init = setup, .fini = teardown);

/* The whole file is added, with its mode. */
Test(file, whole_file_is_read)
{
    unsigned mode = 0;
    scratch_write(dir, "file", "content");
    cr_assert(eq(int, chmod(path, 0640), 0));
    cr_assert(eq(int, file_read(path, 7, &out, &mode), 0));
    cr_assert(span_is(buf_span(&out), "before content"));
    cr_assert(eq(uint, mode, 0640));
}

Test(file, empty_file_is_read)
{
    scratch_write(dir, "file", "");
    cr_assert(eq(int, file_read(path, 0, &out, NULL), 0));
    cr_assert(span_is(buf_span(&out), "before "));
}

/* More than one read takes. */
Test(file, large_file_is_read)
{
    struct buf text = {0};
    for (int i = 0; i < 20000; i++)
        buf_addf(&text, "%d ", i);
    buf_add_byte(&text, 0);
    scratch_write(dir, "file", text.p);
    cr_assert(eq(int, file_read(path, text.n, &out, NULL), 0));
    cr_assert(eq(sz, out.n, 7 + text.n - 1));
    cr_assert(eq(int, memcmp(out.p + 7, text.p, text.n - 1), 0));
    buf_close(&text);
}

/* A file over the limit adds nothing; so does what can't be read, and errno says why. */
Test(file, what_is_refused_adds_nothing)
{
    unsigned mode = 7;
    scratch_write(dir, "file", "content");
    cr_assert(eq(int, file_read(path, 6, &out, &mode), ERR_TOO_LARGE));
    cr_assert(eq(int, file_read("/dev/zero", 100000, &out, &mode), ERR_TOO_LARGE));
    cr_assert(eq(int, file_read(dir, 100, &out, &mode), ERR_IO));
    cr_assert(eq(int, errno, EISDIR));
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(eq(int, file_read(path, 100, &out, &mode), ERR_IO));
    cr_assert(eq(int, errno, ENOENT));
    cr_assert(span_is(buf_span(&out), "before "));
    cr_assert(eq(uint, mode, 7));
}
