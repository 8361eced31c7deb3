/* bench/search/ours.h: a server with the archive in it, and a client that looks for texts over one
 * WebSocket, one request at a time.
 * Errors: none: see bench/lib/measure.h. */
#ifndef LOQUAT_BENCH_SEARCH_OURS_H
#define LOQUAT_BENCH_SEARCH_OURS_H

#include "bench/lib/sock.h"
#include "bench/search/texts.h"

enum { ARCHIVES_MAX = 2, HITS = 20 };
extern const char ours_reader[]; /* the user who looks */
struct archives {
    char paths[ARCHIVES_MAX][SCRATCH_MAX + 64];
    size_t count;
};
struct ours {
    struct gateway gateway;
    struct sock sock;
    char (*convs)[CONV_ID_MAX + 1]; /* of rooms that are mine */
    struct buf answer;
    uint64_t answers;
    uint64_t messages; /* of all copies */
    double answered_s;
};
/* Imports the archives so often, each time under other names; the user is in those rooms of the
 * first that are mine, and in no other. Until all is in the index and the server at rest. */
void ours_open(struct ours *ours, const struct texts *texts, const struct archives *archives,
               size_t copies);
void ours_stop(struct ours *ours);
void ours_close(struct ours *ours); /* once it has stopped */
/* What is looked for, in the words of `search`, with this quotation mark. */
void ours_ask(const struct query_drawn *query, const char *quote, struct buf *text);
/* Seconds from asking until the answer is there; its hits, of 20. */
double ours_find(struct ours *ours, const struct query_drawn *query, bool mine, size_t *hits);

#endif
