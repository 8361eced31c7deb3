#include "gateway/page.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/scratch.h"

static char dir[SCRATCH_MAX], why[512];
static struct page *page;

static void add(const char *name, const char *text)
{
    scratch_write(dir, name, text);
}

static void add_dir(const char *name)
{
    char path[SCRATCH_MAX * 2];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert(zero(int, mkdir(path, 0700)));
}

static void setup(void)
{
    scratch_make(dir);
    why[0] = '\0';
    page = NULL;
}

static void teardown(void)
{
    page_free(page);
    scratch_remove(dir);
}

TestSuite(page, .init = setup, .fini = teardown);

static const struct page_file *find(const char *path)
{
    return page_find(page, span_str(path));
}

/* Files are found by their path alone, with the type of their name. */
Test(page, files_by_path)
{
    add("index.html", "<p>hello");
    add_dir("assets");
    add("assets/index-1a2b.js", "1");
    add("assets/style.css", "a{}");
    add("odd", "?");
    page = page_load(dir, why, sizeof why);
    cr_assert(ne(ptr, page, NULL), "%s", why);
    cr_assert(eq(ptr, (void *)find("/"), (void *)find("/index.html")));
    cr_assert(eq(sz, find("/")->bytes.n, 8));
    cr_assert(eq(str, (char *)find("/")->type, "text/html; charset=utf-8"));
    cr_assert(eq(str, (char *)find("/assets/style.css")->type, "text/css; charset=utf-8"));
    cr_assert(eq(str, (char *)find("/odd")->type, "application/octet-stream"));
    cr_assert(find("/assets/index-1a2b.js")->fixed);
    cr_assert(not(find("/")->fixed));
}

/* An etag follows from the content. */
Test(page, etags)
{
    add("index.html", "one");
    add("same.html", "one");
    add("other.html", "two");
    page = page_load(dir, why, sizeof why);
    cr_assert(eq(str, (char *)find("/")->etag, (char *)find("/same.html")->etag));
    cr_assert(ne(str, (char *)find("/")->etag, (char *)find("/other.html")->etag));
    cr_assert(eq(chr, find("/")->etag[0], '"'));
    cr_assert(eq(chr, find("/")->etag[17], '"'));
}

/* Nothing outside can be named: a path is only compared with those that were found at the start. */
Test(page, no_way_out)
{
    static const char *const PATHS[] = {"",
                                        "index.html",
                                        "//index.html",
                                        "/.",
                                        "/..",
                                        "/../index.html",
                                        "/./index.html",
                                        "/assets/../index.html",
                                        "/../../../../etc/passwd",
                                        "/index.html/",

                                        "/%2e%2e/etc/passwd",
                                        "/assets",
                                        "/assets/",
                                        "/.hidden",
                                        "/.git/config",
                                        "/INDEX.HTML"};
    add("index.html", "x");
    add(".hidden", "secret");
    add_dir(".git");
    add(".git/config", "secret");
    add_dir("assets");
    page = page_load(dir, why, sizeof why);
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++)
        cr_assert(eq(ptr, (void *)find(PATHS[i]), NULL), "%s", PATHS[i]);
    cr_assert(eq(ptr, (void *)page_find(page, span_of("/index.html\0x", 13)), NULL));
}

/* A folder that is none, has no index.html or too much in it is not loaded, with the reason. */
Test(page, folders_that_are_no_page)
{
    cr_assert(eq(ptr, page_load("/nonexistent/web", why, sizeof why), NULL));
    cr_assert(ne(ptr, strstr(why, "/nonexistent/web"), NULL));
    cr_assert(eq(ptr, page_load(dir, why, sizeof why), NULL));
    cr_assert(ne(ptr, strstr(why, "index.html"), NULL));
    for (int i = 0; i < PAGE_FILES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d.txt", i);
        add(name, "x");
    }
    add("index.html", "x");
    cr_assert(eq(ptr, page_load(dir, why, sizeof why), NULL));
    cr_assert(ne(ptr, strstr(why, "256 files"), NULL), "%s", why);
}

Test(page, too_large_is_not_loaded)
{
    char path[SCRATCH_MAX * 2];
    add("index.html", "x");
    add("large", "");
    snprintf(path, sizeof path, "%s/large", dir);
    cr_assert(zero(int, truncate(path, PAGE_BYTES_MAX + 1)));
    cr_assert(eq(ptr, page_load(dir, why, sizeof why), NULL));
    cr_assert(ne(ptr, strstr(why, "too large"), NULL), "%s", why);
}

/* The policy lets nothing inline in and nothing from elsewhere. */
Test(page, the_policy)
{
    cr_assert(ne(ptr, strstr(PAGE_HEADERS, "default-src 'none'"), NULL));
    cr_assert(ne(ptr, strstr(PAGE_HEADERS, "frame-ancestors 'none'"), NULL));
    cr_assert(eq(ptr, strstr(PAGE_HEADERS, "unsafe"), NULL));
    cr_assert(eq(str, (char *)PAGE_HEADERS + strlen(PAGE_HEADERS) - 2, "\r\n"));
}
