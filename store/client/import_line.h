/* store/client/import_line.h: one line of a chat archive, and the request that stores it.
 * Line:   {"conv","ts","from","text","reply_to", others…, "type"}: see tests/data/README.md.
 * Stored: a plain message, an `action` and a `post` as kind `text`, everything else as `x-irc`:
 *         {"type"?,"text",…,"action"?,"nick"?,"ts"?,"more"?}; `nick` where the user id is not the
 *         nickname itself, `"ts":null` where the line has no time, `more` the other fields, if they
 *         are kept. JSON strings pass through as they were written, escapes and all.
 * Owner:  spans borrow the parser and the line and die with the next parse.
 * Errors: ERR_BAD_REQUEST, and *why says what is wrong with the line. */
#ifndef LOQUAT_CLIENT_IMPORT_LINE_H
#define LOQUAT_CLIENT_IMPORT_LINE_H

#include "store/base/ids.h"
#include "store/base/json.h"

enum { IMPORT_LINE_MAX = 60 << 10 };

struct import_line {
    struct span conv;             /* unescaped */
    struct span text, from, type; /* as written, with quotes; p NULL: null or absent */
    struct span type_name;        /* unescaped */
    char user[USER_MAX + 1];      /* who is written as its author */
    bool nick_differs;            /* … and is not `from` itself */
    int64_t ts;                   /* -1: none */
    int64_t reply_to;             /* -1: none */
};

/* `position`: of the line in its conversation. Fields that are not known are appended to `more` as
 * `,"name":value`, unless it is NULL. */
int import_line_parse(struct json *json, struct span line, uint64_t position,
                      struct import_line *out, struct buf *more, const char **why);

/* Appends the members of a `send` that do not depend on the server:
 * "cid":…,"from":…,"ts":…,"kind":…,"body":{…} */
void import_line_encode(const struct import_line *line, uint64_t position, struct span more,
                        struct buf *out);

#endif
