/* bench/lib/archive.h: a chat archive to import: chat-en.jsonl.zst of $LOQUAT_DATASET (or
 * ../shared/data) where that is, otherwise the sample of the tests, several times under other
 * names.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_ARCHIVE_H
#define LOQUAT_BENCH_ARCHIVE_H

#include "bench/lib/server.h"
#include "store/client/source.h"

#define ARCHIVE_SAMPLE "tests/data/chat-sample.jsonl.zst"

/* Of the data set; false: it is not there. */
bool archive_named(const char *name, char *path, size_t size);
void archive_find(const char *scratch, char *path, size_t size); /* may be made in `scratch` */
/* Each of its lines, in order; lent, as jansson has it. */
struct json_t;
void archive_each(const char *path, void (*fn)(void *arg, const struct json_t *line), void *arg);
/* By loquat-log, as this user, who comes to be in all conversations; the seconds of processor time
 * that it took. */
double archive_import(const struct gateway *gateway, const char *user, const char *path);

#endif
