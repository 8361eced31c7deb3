#include "store/base/process.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/file.h"
#include "store/base/metrics.h"

enum { STATM_MAX = 256 };

static int64_t started_s;

static int64_t micros(struct timeval time)
{
    return (int64_t)time.tv_sec * 1000000 + time.tv_usec;
}

static int64_t cpu(void *arg)
{
    (void)arg;
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    return micros(usage.ru_utime) + micros(usage.ru_stime);
}

static int64_t resident(void *arg)
{
    (void)arg;
    struct buf text = {0};
    int64_t bytes = 0;
    if (file_read("/proc/self/statm", STATM_MAX, &text, NULL) == 0) {
        buf_add_byte(&text, '\0');
        const char *second = strchr(text.p, ' '); /* pages in all, resident ones, … */
        bytes = second != NULL ? strtoll(second, NULL, 10) * sysconf(_SC_PAGESIZE) : 0;
    }
    buf_close(&text);
    return bytes;
}

/* The size of the directory is their number from Linux 6.2 on; before, they are counted. */
static int64_t descriptors(void *arg)
{
    (void)arg;
    struct stat st;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        return (int64_t)st.st_size;
    int64_t n = 0;
    DIR *list = opendir("/proc/self/fd");
    for (struct dirent *at; list != NULL && (at = readdir(list)) != NULL;)
        n += at->d_name[0] != '.';
    if (list == NULL)
        return 0;
    closedir(list);
    return n - 1; /* the list's own */
}

static int64_t descriptors_max(void *arg)
{
    (void)arg;
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    return (int64_t)limit.rlim_cur;
}

static int64_t started(void *arg)
{
    (void)arg;
    return started_s;
}

static struct metric metrics[] = {
    {.name = "process_cpu_seconds_total",
     .help = "Processor time of all threads",
     .type = METRIC_COUNTER,
     .micros = true,
     .read = cpu},
    {.name = "process_resident_memory_bytes",
     .help = "Memory that the process has",
     .type = METRIC_GAUGE,
     .read = resident},
    {.name = "process_open_fds",
     .help = "Files and sockets that are open",
     .type = METRIC_GAUGE,
     .read = descriptors},
    {.name = "process_max_fds",
     .help = "How many may be open",
     .type = METRIC_GAUGE,
     .read = descriptors_max},
    {.name = "process_start_time_seconds",
     .help = "When the process started, Unix time",
     .type = METRIC_GAUGE,
     .read = started},
};

void process_metrics(void)
{
    if (started_s != 0)
        return;
    started_s = (int64_t)(clock_wall_ms() / 1000);
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        metric_register(&metrics[i]);
}
