/* Pages of a feed, and how their records are printed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/base/err.h"
#include "store/client/feed_page.h"
#include "store/client/print.h"

static struct feed_page page;
static struct json *json, *spare;
static struct buf out;

static void set_up(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    json = json_new(FEED_PAGE_BYTES);
    spare = json_new(FEED_PAGE_BYTES);
}

static void clean_up(void)
{
    json_free(json);
    json_free(spare);
    buf_close(&out);
}

TestSuite(feed, .init = set_up, .fini = clean_up);

static int parse(const char *text)
{
    return feed_page_parse(&page, json, span_str(text));
}

#define RECORD                                                                                     \
    "{\"c\":\"g-a\",\"s\":7,\"ts\":1423682687000,\"from\":\"ann\",\"kind\":\"text\","              \
    "\"body\":{\"text\":\"a\\nb\\u001b\"},\"n\":3}"
#define HOLE "{\"c\":\"g-a\",\"hole\":[8,8],\"why\":\"expired\"}"
#define PAGE                                                                                       \
    "{\"records\":[{\"offset\":4096,\"record\":" RECORD "},{\"offset\":4097,\"record\":" HOLE      \
    "}],\"next\":8192,\"head\":9000,\"first\":1}"

static void print(bool as_json)
{
    for (size_t i = 0; i < page.count; i++)
        print_feed(&out, spare, as_json, 5, &page.records[i]);
    buf_add_byte(&out, 0);
}

Test(feed, for_people)
{
    cr_assert(eq(int, parse(PAGE), 0));
    cr_assert(eq(u64, page.next, 8192));
    cr_assert(eq(u64, page.head, 9000));
    print(false);
    cr_assert(eq(str, out.p,
                 "  5         4096  g-a      7  2015-02-11 19:24:47  <ann> a\n    b\\x1b\n"
                 "  5         4097  g-a      8  -- expired --\n"));
}

/* The record passes through as it was sent. */
Test(feed, as_json)
{
    cr_assert(eq(int, parse(PAGE), 0));
    print(true);
    cr_assert(eq(str, out.p,
                 "{\"p\":5,\"offset\":4096,\"record\":" RECORD "}\n"
                 "{\"p\":5,\"offset\":4097,\"record\":" HOLE "}\n"));
}

Test(feed, empty)
{
    cr_assert(eq(int, parse("{\"records\":[],\"next\":0,\"head\":0,\"first\":0}"), 0));
    cr_assert(eq(sz, page.count, 0));
    cr_assert(eq(u64, page.next, 0));
}

Test(feed, no_page)
{
    static const char *const BAD[] = {
        "",
        "[]",
        "{}",
        "{\"records\":[]}",
        "{\"records\":{},\"next\":1}",
        "{\"records\":[],\"next\":-1}",
        "{\"records\":[],\"next\":\"1\"}",
        "{\"records\":[],\"next\":1",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert_eq(parse(BAD[i]), ERR_BAD_REQUEST, "%s", BAD[i]);
}

Test(feed, no_record)
{
    static const char *const BAD[] = {
        "1",
        "{}",
        "{\"offset\":1}",
        "{\"offset\":0,\"record\":" RECORD "}",
        "{\"offset\":1,\"record\":[]}",
        "{\"offset\":1,\"record\":{\"c\":\"g-a\"}}",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"records\":[%s],\"next\":1}", BAD[i]);
        cr_assert_eq(parse(text), ERR_BAD_REQUEST, "%s", BAD[i]);
        cr_assert(eq(sz, page.count, 0));
    }
}
