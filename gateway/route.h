/* gateway/route.h: which HTTP request is which operation (docs/PROTOCOL.md, part 4).
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_ROUTE_H
#define LOQUAT_GATEWAY_ROUTE_H

#include "gateway/conn.h"

void route_request(struct conn *conn, const struct http_msg *msg); /* answers now or later */
void route_next(struct conn *conn); /* after an answer: the request that is here already */

/* What all paths need. False, of identify: answered. */
bool route_identify(struct conn *conn, const struct http_msg *msg);
bool route_method_is(const struct http_msg *msg, const char *method);
bool route_wants(const struct http_msg *msg, const char *type); /* in Accept */
void route_not_allowed(struct conn *conn, const char *allow);

#endif
