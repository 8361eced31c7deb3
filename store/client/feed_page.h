/* store/client/feed_page.h: a page of a partition's feed, taken apart; and a record of it, printed.
 * Owner: spans borrow the parser and the text. */
#ifndef LOQUAT_CLIENT_FEED_PAGE_H
#define LOQUAT_CLIENT_FEED_PAGE_H

#include "store/base/json.h"
#include "store/client/loquat.h"

enum { FEED_PAGE_RECORDS = 1000, FEED_PAGE_BYTES = 16 << 20 };

struct feed_page {
    uint64_t next; /* where to go on: behind its records, and those that are gone */
    uint64_t head; /* of the partition's last record */
    size_t count;
    struct json_val records[FEED_PAGE_RECORDS];
};

/* 0 or ERR_BAD_REQUEST: it is no page. */
int feed_page_parse(struct feed_page *page, struct json *json, struct span text);
/* The i-th record. ERR_BAD_REQUEST: it is none. */
int feed_page_record(const struct feed_page *page, struct json *json, size_t i, uint64_t *offset,
                     struct loquat_record *record);
/* Appends it as a line: as JSON, or for people. `spare`: a parser other than the page's. */
void feed_print(struct buf *out, struct json *spare, bool as_json, uint32_t partition,
                uint64_t offset, const struct loquat_record *record);

#endif
