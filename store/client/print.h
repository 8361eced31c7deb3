/* store/client/print.h: records, numbers and times for people at a terminal. Control characters of
 * what others wrote are shown, not sent to the terminal. */
#ifndef LOQUAT_CLIENT_PRINT_H
#define LOQUAT_CLIENT_PRINT_H

#include "store/base/json.h"
#include "store/client/loquat.h"

void print_count(struct buf *out, uint64_t number); /* 582,650 */
void print_time(struct buf *out, uint64_t ms);      /* local: 2015-02-11 19:24:47 */
void print_safe(struct buf *out, struct span text, const char *indent); /* indent: of later lines */
/* One record or hole, with its newline. */
void print_record(struct buf *out, struct json *json, const struct loquat_record *record);
/* One of a feed: as JSON, or for people. */
void print_feed(struct buf *out, struct json *json, bool as_json, uint32_t partition,
                const struct loquat_feed_record *record);

#endif
