#include "gateway/origin.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

static struct origins origins;
static char why[200];

static bool allows(const char *origin, const char *host)
{
    struct span o = span_str(origin != NULL ? origin : ""), h = span_str(host != NULL ? host : "");
    return origins_allow(&origins, origin != NULL ? &o : NULL, host != NULL ? &h : NULL);
}

/* No Origin: no browser. */
Test(origin, without_one_anybody_may)
{
    cr_assert(allows(NULL, "chat.example"));
    cr_assert(origins_parse(&origins, "https://chat.example", why, sizeof why));
    cr_assert(allows(NULL, "chat.example"));
}

/* Without a list: pages of the own host, port included, by either scheme. */
Test(origin, the_own_host_without_a_list)
{
    cr_assert(allows("http://127.0.0.1:8080", "127.0.0.1:8080"));
    cr_assert(allows("https://chat.example", "chat.example"));
    cr_assert(allows("https://CHAT.example", "chat.EXAMPLE"));
    static const char *const OTHERS[] = {"http://evil.example",
                                         "http://127.0.0.1:8081",
                                         "http://127.0.0.1",
                                         "null",
                                         "",
                                         "127.0.0.1:8080",
                                         "file://127.0.0.1:8080",
                                         "http://127.0.0.1:8080.evil.example",
                                         "http://evil.example/127.0.0.1:8080",
                                         "http://127.0.0.1:8080/",
                                         "https://",
                                         "http://"};
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        cr_assert(not(allows(OTHERS[i], "127.0.0.1:8080")), "%s", OTHERS[i]);
    cr_assert(not(allows("http://x", NULL)));
}

/* With a list: it alone counts, scheme and port included. */
Test(origin, the_list_is_exact)
{
    cr_assert(origins_parse(&origins, "https://a.example,http://b.example:8443", why, sizeof why));
    cr_assert(allows("https://a.example", "other"));
    cr_assert(allows("HTTPS://A.example", NULL));
    cr_assert(allows("http://b.example:8443", "other"));
    cr_assert(not(allows("http://a.example", "other")));
    cr_assert(not(allows("https://a.example:443", "other")));
    cr_assert(not(allows("https://b.example:8443", "other")));
    cr_assert(not(allows("http://b.example", "b.example")));
    cr_assert(not(allows("https://other", "other")));
    cr_assert(not(allows("null", "other")));
}

/* What is no origin is refused with its name; bounds hold. */
Test(origin, lists_that_are_none)
{
    static const char *const BAD[] = {"a.example", "https://a.example/",    "ftp://a.example",
                                      "https://",  "https://a,,https://b",  "*",
                                      "null",      "https://a.example/path"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        why[0] = '\0';
        cr_assert(not(origins_parse(&origins, BAD[i], why, sizeof why)), "%s", BAD[i]);
        cr_assert(ne(str, why, ""));
    }
    char text[ORIGINS_MAX * 20 + 40] = "";
    size_t n = 0;
    for (int i = 0; i < ORIGINS_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%shttps://h%d", i > 0 ? "," : "", i);
    cr_assert(origins_parse(&origins, text, why, sizeof why));
    cr_assert(eq(sz, origins.count, ORIGINS_MAX));
    snprintf(text + n, sizeof text - n, ",https://more");
    cr_assert(not(origins_parse(&origins, text, why, sizeof why)));
    char large[ORIGIN_SIZE_MAX + 20];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    memcpy(large, "https://", 8);
    cr_assert(not(origins_parse(&origins, large, why, sizeof why)));
}
