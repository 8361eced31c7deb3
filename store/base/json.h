/* store/base/json.h: reading JSON from outside, and writing JSON.
 * Reading stands on simdjson (store/base/json.cc is the only file that includes it): the whole text
 * is validated (grammar, UTF-8, escapes, depth, numbers) before anything of it is handed out.
 * Shape:  one object at a time, its members flat; nested values are opened with the same calls.
 * Owner:  spans borrow the parser and the text and die with the next `json_parse` on it.
 * Thread: one parser, one thread.
 * Limits: JSON_DEPTH_MAX levels, JSON_FIELDS_MAX members of an object that is opened, whole numbers
 *         of 64 bits.
 * Errors: ERR_BAD_REQUEST (json_error says what, in a few words), ERR_TOO_LARGE. */
#ifndef LOQUAT_BASE_JSON_H
#define LOQUAT_BASE_JSON_H

#include "store/base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { JSON_DEPTH_MAX = 32, JSON_FIELDS_MAX = 48, JSON_PADDING = 64 };

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_val {
    enum json_type type;
    uint32_t token;  /* json.cc's: where it is in the text; of a value made by hand: any */
    struct span raw; /* as written, minified; what a body passes through as */
    struct span str; /* strings: unescaped UTF-8 (may hold NUL bytes) */
    double num;
    int64_t whole; /* numbers that are whole and |x| < 2^53 */
    bool is_whole;
    bool truth;
};

struct json_field {
    struct span name; /* unescaped */
    struct json_val val;
};

struct json_obj {
    struct json_field fields[JSON_FIELDS_MAX];
    size_t count; /* duplicate names are refused */
};

struct json; /* a parser */
struct json *json_new(size_t bytes_max);
void json_free(struct json *json);

/* One whole text that must be an object. `text` is only read; it needs no padding. */
int json_parse(struct json *json, const char *text, size_t n, struct json_obj *obj);
const char *json_error(const struct json *json);

/* Opens a nested object or array by its `raw`, without disturbing spans already handed out by the
 * current parse. `json_items` fills at most `max` values and returns how many there are (more than
 * max: the caller refuses), or a negative error. */
int json_open(struct json *json, const struct json_val *val, struct json_obj *obj);
int json_items(struct json *json, const struct json_val *val, struct json_val *vals, size_t max);
/* Every member of an object of any size, in order (a name may come twice), until `fn` says false:
 * then ERR_BAD_REQUEST. */
int json_each(struct json *json, const struct json_val *val,
              bool (*fn)(void *arg, const struct json_field *field), void *arg);

/* NULL when absent. */
const struct json_val *json_get(const struct json_obj *obj, const char *name);

/* Writing: plain appends; the caller places commas and braces (buf_add_str). */
void json_put_string(struct buf *buf, struct span text); /* with quotes, escaped; text is UTF-8 */
void json_put_u64(struct buf *buf, uint64_t v);
void json_put_i64(struct buf *buf, int64_t v);
void json_put_u64_string(struct buf *buf, uint64_t v); /* "123": ids beyond 2^53 */

/* True when the bytes are UTF-8 (RFC 3629). */
bool utf8_valid(struct span text);

#ifdef __cplusplus
}
#endif
#endif
