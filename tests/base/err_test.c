#include "store/base/err.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

static const int ALL[] = {
#define X(name, number, wire, http, retry) name,
    ERR_TABLE(X)
#undef X
};
enum { ALL_COUNT = sizeof ALL / sizeof *ALL };

/* Errors are negative, and no two are the same. */
Test(err, numbers_are_negative_and_different)
{
    for (size_t i = 0; i < ALL_COUNT; i++) {
        cr_assert(lt(int, ALL[i], 0));
        for (size_t j = 0; j < i; j++) {
            cr_assert(ne(int, ALL[i], ALL[j]));
            cr_assert(ne(int, strcmp(err_name(ALL[i]), err_name(ALL[j])), 0));
        }
    }
}

Test(err, rows_of_the_table)
{
    cr_assert(eq(str, (char *)err_name(ERR_CONFLICT), (char *)"ERR_CONFLICT"));
    cr_assert(eq(str, (char *)err_wire(ERR_CONFLICT), (char *)"conflict"));
    cr_assert(eq(int, err_http(ERR_CONFLICT), 409));
    cr_assert(not(err_retry(ERR_CONFLICT)));
    cr_assert(eq(str, (char *)err_wire(ERR_NOT_LEADER), (char *)"unavailable"));
    cr_assert(err_retry(ERR_NOT_LEADER));
}

/* What is inside only is told to clients in words that they know, with a status that fits. */
Test(err, every_error_has_a_public_face)
{
    static const char *const PUBLIC[] = {"bad_request", "unauthorized", "forbidden",    "not_found",
                                         "conflict",    "too_large",    "rate_limited", "trimmed",
                                         "unavailable", "internal"};
    for (size_t i = 0; i < ALL_COUNT; i++) {
        bool known = false;
        for (size_t j = 0; j < sizeof PUBLIC / sizeof *PUBLIC; j++)
            known |= strcmp(err_wire(ALL[i]), PUBLIC[j]) == 0;
        cr_assert(known, "%s", err_name(ALL[i]));
        cr_assert(ge(int, err_http(ALL[i]), 400));
        cr_assert(lt(int, err_http(ALL[i]), 600));
    }
}

/* 0 is no error; what is not in the table counts as internal. */
Test(err, outside_the_table)
{
    cr_assert(eq(str, (char *)err_name(0), (char *)"OK"));
    cr_assert(eq(int, err_http(0), 200));
    cr_assert(not(err_retry(0)));
    static const int STRANGE[] = {1, -19, -1000, INT_MIN, INT_MAX};
    for (size_t i = 0; i < sizeof STRANGE / sizeof *STRANGE; i++) {
        cr_assert(eq(str, (char *)err_name(STRANGE[i]), (char *)"ERR_INTERNAL"));
        cr_assert(eq(str, (char *)err_wire(STRANGE[i]), (char *)"internal"));
        cr_assert(eq(int, err_http(STRANGE[i]), 500));
    }
}
