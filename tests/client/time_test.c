/* Times and durations of a command line. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <time.h>

#include "store/client/cmd.h"

enum { NOW_MS = 2000000000 };

static uint64_t ms_of(const char *text)
{
    uint64_t ms = 0;
    cr_assert(cmd_time(text, NOW_MS, &ms), "%s", text);
    return ms;
}

Test(time, rfc_3339)
{
    cr_assert(eq(u64, ms_of("1970-01-01T00:00:01Z"), 1000));
    cr_assert(eq(u64, ms_of("2015-02-11T19:24:47Z"), 1423682687000));
    cr_assert(eq(u64, ms_of("2015-02-11t19:24:47.5z"), 1423682687500));
    cr_assert(eq(u64, ms_of("2015-02-11T19:24:47.123456789Z"), 1423682687123));
    cr_assert(eq(u64, ms_of("2015-02-11T20:24:47+01:00"), 1423682687000));
    cr_assert(eq(u64, ms_of("2015-02-11T14:54:47-04:30"), 1423682687000));
    cr_assert(eq(u64, ms_of("2016-02-29T00:00:00Z"), 1456704000000));
}

/* What is printed is in local time and has no zone: it can be given back. */
Test(time, local)
{
    setenv("TZ", "XYZ-2", 1); /* two hours east */
    tzset();
    cr_assert(eq(u64, ms_of("2015-02-11 21:24:47"), 1423682687000));
    cr_assert(eq(u64, ms_of("2015-02-11"), 1423605600000));
}

Test(time, numbers_and_durations)
{
    cr_assert(eq(u64, ms_of("1423682687123"), 1423682687123));
    cr_assert(eq(u64, ms_of("now"), NOW_MS));
    cr_assert(eq(u64, ms_of("90 ago"), NOW_MS - 90000));
    cr_assert(eq(u64, ms_of("90m ago"), NOW_MS - 5400000));
    cr_assert(eq(u64, ms_of("99999d ago"), 1)); /* before everything */
}

Test(time, others_are_refused)
{
    static const char *const BAD[] = {
        "",
        "0",
        "-1",
        "1h",
        "ago",
        " ago",
        "1x ago",
        "1h  ago",
        "tomorrow",
        "1.5",
        "2015",
        "1423682687", /* seconds */
        "2015-02",
        "2015-2-11",
        "2015-02-30",
        "2015-13-01",
        "2015-02-29T00:00:00Z",
        "2015-02-11T",
        "2015-02-11T19:24",
        "2015-02-11T24:00:00Z",
        "2015-02-11T19:24:47.Z",
        "2015-02-11T19:24:47+1:00",
        "2015-02-11T19:24:47Zx",
        "1969-12-31T23:59:59Z",
        "9999999999999999",
    };
    uint64_t ms;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert(not(cmd_time(BAD[i], NOW_MS, &ms)), "%s", BAD[i]);
}

Test(time, seconds)
{
    uint64_t seconds;
    cr_assert(cmd_seconds("45s", &seconds) && seconds == 45);
    cr_assert(cmd_seconds("7d", &seconds) && seconds == 604800);
    cr_assert(not(cmd_seconds("0", &seconds)));
    cr_assert(not(cmd_seconds("1w", &seconds)));
}
