/* store/client/export_line.h: a record as a line of a chat archive: import_line.h the other way.
 * Records that are no messages (members, edits, …) and holes give no line; a line's position counts
 * the lines before it, so `reply_to` fits what is written, or is null when that line is gone. */
#ifndef LOQUAT_CLIENT_EXPORT_LINE_H
#define LOQUAT_CLIENT_EXPORT_LINE_H

#include "store/base/json.h"

struct export_conv {
    struct span name; /* the `conv` of every line; the caller's */
    uint64_t *seqs;   /* of the lines so far, by position; rising */
    size_t count, cap;
    uint64_t holes; /* sequences without content */
    uint64_t other; /* records that are no messages */
};

void export_conv_begin(struct export_conv *conv, struct span name); /* keeps the memory */
void export_conv_close(struct export_conv *conv);

/* `record`: one object of a range, as sent. 1: a line with its newline was appended to `out`; 0: it
 * is no message; ERR_BAD_REQUEST: not a record, or out of order. */
int export_line(struct export_conv *conv, struct json *json, struct span record, struct buf *out);

#endif
