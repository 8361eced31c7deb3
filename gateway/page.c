#include "gateway/page.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/file.h"

const char PAGE_HEADERS[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n";

struct page {
    struct page_file *files[PAGE_FILES_MAX];
    size_t count, bytes;
    char *why;
    size_t why_size;
};

static const char *type_of(const char *path)
{
    static const char *const TYPES[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".woff2", "font/woff2"},
        {".webmanifest", "application/manifest+json"},
        {".json", "application/json"},
        {".txt", "text/plain; charset=utf-8"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof TYPES / sizeof *TYPES; i++)
        if (strcmp(dot, TYPES[i][0]) == 0)
            return TYPES[i][1];
    return "application/octet-stream";
}

static bool add_file(struct page *page, const char *file, const char *path)
{
    if (page->count == PAGE_FILES_MAX) {
        snprintf(page->why, page->why_size, "more than %d files", PAGE_FILES_MAX);
        return false;
    }
    struct page_file *to = xcalloc(1, sizeof *to);
    page->files[page->count++] = to;
    snprintf(to->path, sizeof to->path, "%s", path);
    int err = file_read(file, PAGE_BYTES_MAX - page->bytes, &to->bytes, NULL);
    if (err != 0) {
        snprintf(page->why, page->why_size, "%.200s: %s", file,
                 err == ERR_TOO_LARGE ? "too large to serve from memory" : strerror(errno));
        return false;
    }
    page->bytes += to->bytes.n;
    to->type = type_of(path);
    to->fixed = strncmp(path, "/assets/", 8) == 0;
    snprintf(to->etag, sizeof to->etag, "\"%016llx\"",
             (unsigned long long)XXH3_64bits(to->bytes.p, to->bytes.n));
    return true;
}

static bool add_dir(struct page *page, const char *dir, const char *path, int depth)
{
    DIR *open = opendir(dir);
    if (open == NULL) {
        snprintf(page->why, page->why_size, "%.200s: %s", dir, strerror(errno));
        return false;
    }
    bool fine = true;
    struct dirent *entry;
    while (fine && (entry = readdir(open)) != NULL) {
        char file[4096], name[PAGE_PATH_MAX];
        struct stat st;
        if (entry->d_name[0] == '.')
            continue;
        int a = snprintf(file, sizeof file, "%s/%s", dir, entry->d_name);
        int b = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (a >= (int)sizeof file || b >= (int)sizeof name || stat(file, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode))
            fine = depth == PAGE_DEPTH_MAX || add_dir(page, file, name, depth + 1);
        else if (S_ISREG(st.st_mode))
            fine = add_file(page, file, name);
    }
    closedir(open);
    return fine;
}

struct page *page_load(const char *dir, char *why, size_t size)
{
    struct page *page = xcalloc(1, sizeof *page);
    page->why = why;
    page->why_size = size;
    bool fine = add_dir(page, dir, "", 0);
    if (fine && page_find(page, span_str("/")) == NULL) {
        snprintf(why, size, "%.200s has no index.html", dir);
        fine = false;
    }
    if (!fine) {
        page_free(page);
        return NULL;
    }
    return page;
}

void page_free(struct page *page)
{
    if (page == NULL)
        return;
    for (size_t i = 0; i < page->count; i++) {
        buf_close(&page->files[i]->bytes);
        free(page->files[i]);
    }
    free(page);
}

const struct page_file *page_find(const struct page *page, struct span path)
{
    if (span_is(path, "/"))
        path = span_str("/index.html");
    for (size_t i = 0; i < page->count; i++)
        if (span_is(path, page->files[i]->path))
            return page->files[i];
    return NULL;
}
