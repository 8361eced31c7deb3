#include "store/base/secret.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

#include "store/base/err.h"
#include "tests/lib/scratch.h"

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 16], why[512];

static void setup(void)
{
    scratch_make(dir);
    snprintf(path, sizeof path, "%s/secret", dir);
}

static void teardown(void)
{
    scratch_remove(dir);
}

TestSuite(secret, .init = setup, .fini = teardown);

static int load(const char *text, struct buf *out)
{
    scratch_write(dir, "secret", text);
    return secret_load(path, out, why, sizeof why);
}

/* What the file holds is the secret, but for the newline that an editor leaves; one only, and no
 * other byte: it may be random. */
Test(secret, is_what_the_file_holds)
{
    struct buf secret;
    cr_assert(zero(int, load("0123456789abcdef0123456789abcdef\n", &secret)));
    cr_assert(span_is(buf_span(&secret), "0123456789abcdef0123456789abcdef"));
    secret_drop(&secret);
    cr_assert(eq(ptr, secret.p, NULL));
    cr_assert(zero(int, load(" 123456789abcdef0123456789abcde\n\n", &secret)));
    cr_assert(span_is(buf_span(&secret), " 123456789abcdef0123456789abcde\n"));
    secret_drop(&secret);
}

/* A short one, none, or a file that is something else: told, and nothing is left in memory. */
Test(secret, refusals)
{
    static char huge[SECRET_MAX + 2];
    struct buf secret;
    memset(huge, 'x', sizeof huge - 1);
    cr_assert(eq(int, load("0123456789abcdef0123456789abcde\n", &secret), ERR_BAD_REQUEST));
    cr_assert(ne(ptr, strstr(why, "too short"), NULL));
    cr_assert(eq(ptr, secret.p, NULL));
    cr_assert(eq(int, load(huge, &secret), ERR_BAD_REQUEST));
    cr_assert(ne(ptr, strstr(why, "the right file"), NULL));
    cr_assert(eq(ptr, secret.p, NULL));
    cr_assert(eq(int, secret_load("/nonexistent/s", &secret, why, sizeof why), ERR_BAD_REQUEST));
    cr_assert(ne(ptr, strstr(why, "No such file"), NULL));
    cr_assert(eq(ptr, secret.p, NULL));
}
