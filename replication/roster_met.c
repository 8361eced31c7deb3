/* replication/roster_met.c: who was met, and whether this node is drained: DIR/ROSTER. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "replication/roster.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/file.h"

#define BEGINNING "loquat roster\nformat 1\ndrained "
#define SUM_TEXT "sum %016" PRIx64 "\n"

enum {
    FILE_MAX = 1 << 20, /* some 18,000 nodes, one after the other, in the life of a cluster */
    PATH_ROOM = 4200,
    SUM_SIZE = 21,
    DRAINED_AT = sizeof BEGINNING - 1,
};

static void path_of(char path[PATH_ROOM], const char *dir)
{
    snprintf(path, PATH_ROOM, "%s/ROSTER", dir);
}

/* The lines but for the sum; those of an empty one when there is no file. */
static int read_lines(const char *dir, struct buf *lines)
{
    char path[PATH_ROOM], sum[SUM_SIZE + 1];
    path_of(path, dir);
    int err = file_read(path, FILE_MAX, lines, NULL);
    if (err == ERR_IO && errno == ENOENT) {
        buf_add_str(lines, BEGINNING "0\n");
        return 0;
    }
    if (err != 0)
        return err == ERR_TOO_LARGE ? ERR_CORRUPT : err;
    if (lines->n < DRAINED_AT + 2 + SUM_SIZE || memcmp(lines->p, BEGINNING, DRAINED_AT) != 0)
        return ERR_CORRUPT;
    lines->n -= SUM_SIZE;
    snprintf(sum, sizeof sum, SUM_TEXT, XXH3_64bits(lines->p, lines->n));
    return memcmp(lines->p + lines->n, sum, SUM_SIZE) == 0 ? 0 : ERR_CORRUPT;
}

static int write_lines(const char *dir, struct buf *lines)
{
    char path[PATH_ROOM];
    path_of(path, dir);
    buf_addf(lines, SUM_TEXT, XXH3_64bits(lines->p, lines->n));
    return file_replace(path, buf_span(lines));
}

/* The directory that the node was met with; empty: it was not. */
static struct span find(const struct buf *lines, uint64_t id)
{
    char begins[32];
    int n = snprintf(begins, sizeof begins, "\nnode %" PRIu64 " ", id);
    const char *at = memmem(lines->p, lines->n, begins, (size_t)n);
    if (at == NULL || (size_t)(lines->p + lines->n - at) < (size_t)n + ROSTER_ID_SIZE)
        return (struct span){0};
    return span_of(at + n, ROSTER_ID_SIZE);
}

int roster_meet(const char *dir, uint64_t id, struct span incarnation)
{
    struct buf lines = {0};
    ASSERT(incarnation.n == ROSTER_ID_SIZE);
    int err = read_lines(dir, &lines);
    struct span met = err == 0 ? find(&lines, id) : (struct span){0};
    if (err == 0 && met.n == 0) {
        buf_addf(&lines, "node %" PRIu64 " %.*s\n", id, ROSTER_ID_SIZE, incarnation.p);
        err = write_lines(dir, &lines);
    } else if (err == 0 && !span_eq(met, incarnation)) {
        err = ERR_CONFLICT;
    }
    buf_close(&lines);
    return err;
}

int roster_put_drained(const char *dir, bool drained)
{
    struct buf lines = {0};
    int err = read_lines(dir, &lines);
    if (err == 0) {
        lines.p[DRAINED_AT] = (char)('0' + drained);
        err = write_lines(dir, &lines);
    }
    buf_close(&lines);
    return err;
}

int roster_get_drained(const char *dir, bool *drained)
{
    struct buf lines = {0};
    int err = read_lines(dir, &lines);
    *drained = err == 0 && lines.p[DRAINED_AT] == '1';
    buf_close(&lines);
    return err;
}

void roster_forget(const char *dir)
{
    char path[PATH_ROOM];
    path_of(path, dir);
    (void)unlink(path);
}
