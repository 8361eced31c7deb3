/* store/client/feed_page.h: a page of a partition's feed, taken apart.
 * Owner: spans borrow the parser. */
#ifndef LOQUAT_CLIENT_FEED_PAGE_H
#define LOQUAT_CLIENT_FEED_PAGE_H

#include "store/base/json.h"
#include "store/client/loquat.h"

enum { FEED_PAGE_RECORDS = 4000, FEED_PAGE_BYTES = 16 << 20 };

struct feed_page {
    uint64_t next; /* where to go on: behind its records, and those that are gone */
    uint64_t head; /* of the partition's last record */
    size_t count;
    struct json_val vals[FEED_PAGE_RECORDS];
    struct loquat_feed_record records[FEED_PAGE_RECORDS];
};

/* 0 or ERR_BAD_REQUEST: it is no page, or a record of it is none. */
int feed_page_parse(struct feed_page *page, struct json *json, struct span text);

#endif
