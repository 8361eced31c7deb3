/* store/client/reader.h: what the readers of loquat.h (a range, a tail, a feed) have in common.
 * Owner:  whoever embeds it opens it first and frees itself behind reader_end.
 * Thread: the loop's. */
#ifndef LOQUAT_CLIENT_READER_H
#define LOQUAT_CLIENT_READER_H

#include "store/client/ask.h"

struct loquat_reader {
    uv_loop_t *loop;
    struct ask_place place;
    char *token;
    loquat_end_fn on_end;
    void *end_arg;
    void (*stop)(struct loquat_reader *reader);
};

/* 0 or LOQUAT_BAD_REQUEST with `why`. */
int reader_open(struct loquat_reader *reader, const struct loquat_options *options,
                loquat_end_fn on_end, void *arg, char *why, size_t why_size);
void reader_close(struct loquat_reader *reader);

/* Blocking calls: the options get a loop; on it runs what was started (NULL: nothing was). */
struct reader_wait {
    uv_loop_t loop;
    struct loquat_options options;
    char *why;
    size_t why_size;
    int err;
};
/* 0 or LOQUAT_UNAVAILABLE. */
int reader_wait_open(struct reader_wait *wait, const struct loquat_options *options, char *why,
                     size_t why_size);
int reader_wait_end(struct reader_wait *wait, struct loquat_reader *reader);

#endif
