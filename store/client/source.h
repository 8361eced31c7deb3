/* store/client/source.h: the lines of a file, compressed by zstd or not (told by its first bytes).
 * Owner:  a line borrows the source until the next call.
 * Errors: ERR_IO, ERR_CORRUPT (not whole zstd), ERR_TOO_LARGE (a line over SOURCE_LINE_MAX);
 *         source_why says it for people. */
#ifndef LOQUAT_CLIENT_SOURCE_H
#define LOQUAT_CLIENT_SOURCE_H

#include "store/base/buf.h"

enum { SOURCE_LINE_MAX = 1 << 20 };

struct source;
/* "-" is standard input. NULL: errno. */
struct source *source_open(const char *path);
void source_close(struct source *source);
/* 1: a line, without its newline; 0: the end. */
int source_line(struct source *source, struct span *line);
uint64_t source_at(const struct source *source);   /* bytes of the file that were read */
uint64_t source_size(const struct source *source); /* 0: not known */
const char *source_why(const struct source *source);

#endif
