/* bench/search/rival.h: other programs that look for texts, with the same messages in them and
 * numbered by time, so that the newest are the last ones of an index.
 * SQLite:     FTS5 with its contents outside: text, and a word for the conversation and one for the
 *             author, by unicode61, with prefixes of two and three characters; and one of trigrams.
 *             In a process of its own, on a socket pair.
 * PostgreSQL: GIN of (conversation, tsvector of `simple`), GIN of (conversation, trigrams), B-trees
 *             of number and conversation; a server of its own in a directory of its own, on a Unix
 *             socket; statements prepared, each planned for its values, and cut off after two
 *             seconds: some plans would take minutes.
 * Both:       analyzed, all in memory; 20 newest, with their texts. What is shorter than a trigram
 *             they look for in the texts of the conversations themselves, newest first.
 * Thread: one. Errors: none: see bench/lib/measure.h. */
#ifndef LOQUAT_BENCH_SEARCH_RIVAL_H
#define LOQUAT_BENCH_SEARCH_RIVAL_H

#include "bench/search/ours.h"

struct rival {
    const char *name;
    void *state;
    double fill_s;
    uint64_t index_bytes;
    char root[SCRATCH_MAX];
    pid_t pid; /* of its process, and the socket there */
    int fd;
    size_t cut;      /* queries that were cut off */
    double inside_s; /* of the last query, without the way there and back; 0: not known */
    /* Asks in the query's conversation, or with `mine` in all that are the user's: how many hits;
     * `rows` gets their texts. */
    size_t (*find)(struct rival *rival, const struct query_drawn *query, bool mine,
                   struct buf *rows);
    void (*close)(struct rival *rival);
};
/* `order`: all messages by time. A library's rival->root is there already. */
void rival_sqlite(struct rival *rival, const struct texts *texts, const size_t *order);
void rival_postgres(struct rival *rival, const struct texts *texts, const size_t *order);
/* The store of a server that has stopped, as a library; rival->state: the struct ours. */
void rival_store(struct rival *rival, const struct texts *texts, const size_t *order);
/* One that is a library, in a process of its own. */
void rival_apart(struct rival *rival, const struct texts *texts, const size_t *order,
                 void (*open)(struct rival *, const struct texts *, const size_t *));

#endif
