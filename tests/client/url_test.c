#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/err.h"
#include "store/client/url.h"

static struct url url;
static const char *why;

static int parse(const char *text)
{
    return url_parse(text, &url, &why);
}

Test(url, host_and_port)
{
    cr_assert(eq(int, parse("http://example.org"), 0));
    cr_assert(eq(str, url.host, "example.org"));
    cr_assert(eq(str, url.port, "80"));
    cr_assert(eq(int, parse("ws://127.0.0.1:8080/"), 0));
    cr_assert(eq(str, url.host, "127.0.0.1"));
    cr_assert(eq(str, url.port, "8080"));
}

/* An IPv6 address stands in brackets, in the Host header too. */
Test(url, v6)
{
    struct buf out = {0};
    cr_assert(eq(int, parse("http://[::1]:8080"), 0));
    cr_assert(eq(str, url.host, "::1"));
    url_add_host(&url, &out);
    cr_assert(span_is(buf_span(&out), "[::1]:8080"));
    buf_close(&out);
}

/* A scheme says whether TLS is spoken, and at which port by default. */
Test(url, tls)
{
    struct buf out = {0};
    cr_assert(eq(int, parse("https://example.org"), 0));
    cr_assert(url.tls);
    cr_assert(eq(str, url.port, "443"));
    url_add_host(&url, &out);
    cr_assert(eq(int, parse("wss://example.org:80"), 0));
    cr_assert(url.tls);
    url_add_host(&url, &out);
    cr_assert(span_is(buf_span(&out), "example.orgexample.org:80"));
    buf_close(&out);
    cr_assert(eq(int, parse("ws://example.org:443"), 0));
    cr_assert(not(url.tls));
}

Test(url, others_are_refused)
{
    static const char *const BAD[] = {
        "",           "example.org",    "http://",       "http://:80",    "http://a:",
        "http://a:0", "http://a:65536", "http://a:8x",   "http://a/path", "http://[::1",
        "http://a b", "http://a\r\nX:", "http://[::1]x", "ftp://a",       "http://a:123456",
        "http://[]",  "http://u@a",     "http://a:80/x", "https//a",      "://a",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert_eq(parse(BAD[i]), ERR_BAD_REQUEST, "%s", BAD[i]);
}
