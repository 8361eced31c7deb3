/* bench/disk.c: bytes on disk for a message of a real chat archive, every family of the data
 * database, compacted, server at rest, against the bytes of the texts alone and BUDGET more. The
 * raft log beside it has a bound that does not grow with the messages, and is told apart: whole
 * segments, as long as there are few of them. */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/lib/archive.h"

enum { BUDGET = 24 };

struct texts {
    uint64_t lines, bytes;
};

static void count(void *arg, const json_t *line)
{
    struct texts *texts = arg;
    texts->bytes += json_string_length(json_object_get(line, "text"));
    texts->lines++;
}

/* At rest: stopped, and started and stopped once more, which cuts the raft log, as far as it is cut
 * at all, below what reached the data database's files. */
static void settle(struct gateway *gateway)
{
    gateway_stop(gateway);
    gateway_start(gateway, NULL);
    gateway_stop(gateway);
}

static void compact(const struct gateway *gateway)
{
    char program[SCRATCH_MAX], log[SCRATCH_MAX + 16];
    const char *argv[] = {bench_program("loquat-compact", program, sizeof program),
                          "run",
                          "--data",
                          gateway->dir,
                          "--yes",
                          NULL};
    snprintf(log, sizeof log, "%s/compact.log", gateway->root);
    proc_wait(proc_start((char *const *)(uintptr_t)argv, log));
}

int main(int argc, char **argv)
{
    char root[SCRATCH_MAX], path[SCRATCH_MAX + 64], data[SCRATCH_MAX + 32], raft[SCRATCH_MAX + 32];
    struct gateway gateway;
    bench_options(argc, argv, 60);
    bench_dir(root);
    archive_find(root, path, sizeof path);
    struct texts texts = {0};
    archive_each(path, count, &texts);
    gateway_prepare(&gateway);
    gateway_start(&gateway, NULL);
    archive_import(&gateway, "importer", path);
    settle(&gateway);
    snprintf(data, sizeof data, "%s/data", gateway.dir);
    snprintf(raft, sizeof raft, "%s/journal", gateway.dir);
    double lines = (double)texts.lines, data_before = (double)dir_bytes(data) / lines;
    double raft_before = (double)dir_bytes(raft) / lines;
    compact(&gateway);
    struct result result = {.bench = "disk",
                            .unit = "bytes/message",
                            .ref_name = "the texts alone, as they are",
                            .lower = true,
                            .value = (double)dir_bytes(data) / lines,
                            .ref = (double)texts.bytes / lines};
    result.must = (result.ref + BUDGET) / result.ref;
    result_add(&result, "messages", lines);
    result_add(&result, "before_compaction", data_before);
    result_add(&result, "raft_log", raft_before);
    result_add(&result, "raft_log_after", (double)dir_bytes(raft) / lines);
    result_print(&result);
    gateway_drop(&gateway);
    return 0;
}
