/* store/client/lines.h: the body of an answer, in lines. */
#ifndef LOQUAT_CLIENT_LINES_H
#define LOQUAT_CLIENT_LINES_H

#include "store/client/ask.h"

enum { LINE_MAX_SIZE = 4 << 20 };

struct lines { /* pieces put together */
    struct buf held;
    bool whole; /* all of it is one */
    loquat_line_fn fn;
    void *arg;
};

bool lines_on_piece(struct ask *ask, struct span piece); /* ask->data: struct lines */
/* After on_end with `err`: gives out a last line that has no end. 0 or an error, with `why`. */
int lines_end(struct lines *lines, const struct ask *ask, int err, char *why, size_t why_size);

#endif
