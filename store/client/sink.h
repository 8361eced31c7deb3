/* store/client/sink.h: where an export goes: standard output, or a file (zstd when it ends with
 * .zst) that appears under its name only when it is whole. */
#ifndef LOQUAT_CLIENT_SINK_H
#define LOQUAT_CLIENT_SINK_H

#include "store/base/buf.h"

struct sink;
/* `path` NULL or "-": standard output. NULL: errno. */
struct sink *sink_open(const char *path);
/* False: not written; errno. */
bool sink_write(struct sink *sink, struct span bytes);
uint64_t sink_size(const struct sink *sink); /* bytes given to sink_write */
/* Ends and frees. `whole`: the file gets its name; otherwise it is removed. False: errno. */
bool sink_close(struct sink *sink, bool whole);

#endif
