#include "bench/search/made.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "store/base/file.h"
#include "store/search/build.h"

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void must(int err, const char *what)
{
    if (err != 0)
        bench_fail("search: %s: %s: %s", what, err_name(err), kv_error());
}

static void make(const char *data_dir, const char *index_dir, struct made *made)
{
    static const char FIRST[] = "", LAST[] = "\xff\xff\xff";
    struct kv_options options = {.read_only = true};
    struct kv *data, *index;
    bool fresh;
    must(kv_open(data_dir, KV_DATA, &options, &data), "the data");
    must(index_open(index_dir, "made anew", &index, &fresh), "the index");
    double begin = now_s(), cpu = cpu_s();
    struct build *build = build_new(data, index);
    for (uint32_t p = 0; p < PARTITIONS_DEFAULT; p++) {
        struct build_step step = {.more = true};
        while (step.more) {
            must(build_step(build, p, NULL, &step), "indexing");
            made->messages += step.messages;
        }
    }
    build_free(build);
    made->seconds = now_s() - begin;
    made->cpu_s = cpu_s() - cpu;
    kv_compact(index, KV_LOG, span_of(FIRST, 0), span_of(LAST, 3));
    made->compact_s = now_s() - begin - made->seconds;
    kv_close(index);
    kv_close(data);
}

struct made made_anew(const struct gateway *gateway)
{
    char data[SCRATCH_MAX + 32], index[SCRATCH_MAX + 32];
    struct made *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bench_fail("mmap: %s", strerror(errno));
    snprintf(data, sizeof data, "%s/data", gateway->dir);
    snprintf(index, sizeof index, "%s/index", gateway->dir);
    file_empty_directory(index);
    pid_t pid = proc_fork();
    if (pid == 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        if (sched_setaffinity(0, sizeof one, &one) != 0)
            bench_fail("sched_setaffinity: %s", strerror(errno));
        make(data, index, shared);
        _exit(0);
    }
    proc_wait(pid);
    struct made made = *shared;
    munmap(shared, sizeof *shared);
    made.bytes = dir_bytes(index);
    return made;
}
