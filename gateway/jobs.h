/* gateway/jobs.h: what backend jobs ask over HTTP (docs/PROTOCOL.md): feeds and their consumers.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_JOBS_H
#define LOQUAT_GATEWAY_JOBS_H

#include "gateway/proto.h"

enum {
    JOBS_PAGE_DEFAULT = 1000,
    JOBS_PAGE_MAX = 4000,
    JOBS_WAIT_MAX_MS = 30000,
    JOBS_WAIT_BYTES = 64 << 10, /* of a page that may wait: many do, and none is counted */
    JOBS_WORKER_TTL_MS = 30000,
    JOBS_WORKER_TTL_MIN_MS = 1000,
    JOBS_WORKER_TTL_MAX_MS = 600000,
};

/* Runs what the path below /v1/ names. False: it is none of these. */
struct http_msg;
bool jobs_route(struct conn *conn, const struct http_msg *msg); /* route_jobs.c */

int op_partitions(struct request *request);
int op_feed(struct request *request);
int op_feed_lines(struct request *request);
/* consumer.c */
int op_consumers(struct request *request);
int op_consumer(struct request *request);
int op_consumer_put(struct request *request);
int op_consumer_drop(struct request *request);
int op_cursor(struct request *request);
int op_worker(struct request *request);
int op_worker_drop(struct request *request);

/* Field `p`: the call's partition. 0, or an error of the request. */
int jobs_partition(struct request *request);
/* {"offset":…,"record":…}; 0 or ERR_CORRUPT. */
int jobs_say_record(struct buf *text, uint32_t partition, const Loquat__FeedItem *item);

#endif
