/* gateway/call.h: one request of a client until it is answered, over WebSocket or HTTP alike.
 * Owner:  a call keeps its connection's memory; it frees itself with its answer. When the client
 *         has gone meanwhile, the answer is dropped.
 * Use:    exactly one of call_ok (after call_begin and what was written into the buf) and
 *         call_fail.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_CALL_H
#define LOQUAT_GATEWAY_CALL_H

#include "gateway/conn.h"

enum call_weight { CALL_NOTHING, CALL_WRITE, CALL_READ, CALL_PAGE }; /* a page is a read */

struct call {
    struct conn *conn;
    int64_t id;
    bool has_id, http;
    uint8_t weight; /* enum call_weight: what it counts as in the connection's bounds */
    uint32_t partition;
    char conv[CONV_ID_MAX + 1]; /* that it is about; may be empty */
    void *state;                /* of the operation */
};

struct call *call_new(struct conn *conn, enum call_weight weight);
void call_conv(struct call *call, struct span conv); /* names it, and finds its partition */
void call_user(struct call *call); /* it is about the user: the partition of the own log */
/* The answer's JSON goes into this buf; NULL when nobody waits for it: then call_ok too. */
struct buf *call_begin(struct call *call);
void call_ok(struct call *call);
void call_fail(struct call *call, int err, const char *msg, uint64_t after_ms);
static inline void call_fail_reply(struct call *call, const Loquat__Reply *reply)
{
    call_fail(call, reply->err, reply->msg, reply->after_ms);
}
/* Sends; on failure the call is answered. `done` gets the call. */
void call_write(struct call *call, const Loquat__Command *command, upstream_done done);
bool call_read(struct call *call, Loquat__Read *read, upstream_done done);
static inline bool call_wanted(const struct call *call)
{
    return !conn_gone(call->conn) && (call->has_id || call->http);
}

#endif
