/* replication/rlog_load.c: the raft logs of a directory, out of its journal. */
#include "replication/rlog.h"

struct loading {
    struct rlog *logs;
    uint32_t partitions;
};

static int take_frame(void *arg, uint64_t at, struct span records)
{
    const struct loading *loading = arg;
    return rlog_take(loading->logs, loading->partitions, at, records);
}

int rlog_load(const char *dir, struct rlog *logs, uint32_t partitions, char *why, size_t size,
              struct journal **journal)
{
    struct loading loading = {logs, partitions};
    for (uint32_t p = 0; p < partitions; p++)
        rlog_open(&logs[p], p);
    return journal_open(dir, take_frame, &loading, why, size, journal);
}
