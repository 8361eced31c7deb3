#include "store/base/check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Assertions are on in every build, and evaluate what they assert once. */
Test(check, assertion_that_holds_is_evaluated_once)
{
    int count = 0;
    ASSERT(++count == 1);
    cr_assert(eq(int, count, 1));
}

Test(check, assertion_that_fails_aborts, .signal = SIGABRT)
{
    ASSERT(1 + 1 == 3);
}

/* Nothing asked for is a block all the same: NULL would look like a failure. */
Test(check, blocks_of_any_size)
{
    static const unsigned char ZEROS[24] = {0};
    char *none = xmalloc(0), *some = xcalloc(3, 8), *empty = xcalloc(0, 8);
    cr_assert(ne(ptr, none, NULL));
    cr_assert(ne(ptr, empty, NULL));
    cr_assert(eq(int, memcmp(some, ZEROS, 24), 0));
    memcpy(some, "grown", 6);
    some = xrealloc(some, 100000);
    cr_assert(eq(str, some, "grown"));
    none = xrealloc(none, 0);
    cr_assert(ne(ptr, none, NULL));
    char *copy = xstrdup("text");
    cr_assert(eq(str, copy, "text"));
    free(none);
    free(some);
    free(empty);
    free(copy);
}

struct outer {
    int before, inner;
};

Test(check, container_of_a_member)
{
    struct outer outer;
    cr_assert(eq(ptr, container_of(&outer.inner, struct outer, inner), &outer));
}
