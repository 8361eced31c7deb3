/* gateway/page.h: the web client's files, read once at start and served from memory.
 * Thread: read-only once loaded.
 * Limits: PAGE_FILES_MAX files, PAGE_BYTES_MAX bytes in all; larger: not loaded, with a message. */
#ifndef LOQUAT_GATEWAY_PAGE_H
#define LOQUAT_GATEWAY_PAGE_H

#include "store/base/buf.h"

enum { PAGE_FILES_MAX = 256, PAGE_BYTES_MAX = 32 << 20, PAGE_PATH_MAX = 256, PAGE_DEPTH_MAX = 4 };

struct page_file {
    char path[PAGE_PATH_MAX]; /* "/assets/index-1a2b.js" */
    const char *type;
    struct buf bytes;
    char etag[24]; /* with quotes */
    bool fixed;    /* its name changes with its content: may be kept for ever */
};

struct page;
/* NULL: `why` says what is missing. */
struct page *page_load(const char *dir, char *why, size_t size);
void page_free(struct page *page);
/* "/" is index.html. NULL: no such file. */
const struct page_file *page_find(const struct page *page, struct span path);

/* Headers of every answer that a browser may show: nothing inline, nothing from elsewhere. */
extern const char PAGE_HEADERS[];

#endif
