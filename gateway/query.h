/* gateway/query.h: parameters of a URL as the fields of a request, as its body would have them.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_QUERY_H
#define LOQUAT_GATEWAY_QUERY_H

#include "store/base/json.h"

struct conn;
struct http_msg;

/* Up to 16 digits, which are below 2^53. */
bool query_whole(struct span text, uint64_t *out);
/* In the place of one of that name; else there must be room. */
void query_add(struct json_obj *obj, const char *name, struct json_val val);
/* Those that any operation knows. Digits make a number, anything else a text; the operation says
 * what it wants. Texts are the loop's arena's. */
void query_fields(struct conn *conn, const struct http_msg *msg, struct json_obj *obj);

#endif
