#include "bench/lib/halts.h"

#include <sched.h>
#include <string.h>
#include <time.h>

#include "store/base/clock.h"
#include "store/base/thread.h"

static bool take_place(int cpu)
{
    cpu_set_t one;
    struct sched_param most = {.sched_priority = sched_get_priority_max(SCHED_FIFO)};
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0 &&
           pthread_setschedparam(pthread_self(), SCHED_FIFO, &most) == 0;
}

/* Who wakes first after a halt counts it; for the others somebody has just been awake. */
static void look(struct halts *halts)
{
    uint64_t now = clock_mono_us(), before = atomic_exchange(&halts->awake_us, now);
    if (now <= before + HALTS_LIMIT_US)
        return;
    uint64_t halt = now - before - HALTS_STEP_US, longest = halts->longest_us;
    halts->sum_us += halt;
    while (halt > longest && !atomic_compare_exchange_weak(&halts->longest_us, &longest, halt))
        continue;
}

static void *run(void *arg)
{
    struct halts_cpu *cpu = arg;
    const struct timespec step = {.tv_nsec = HALTS_STEP_US * 1000L};
    if (!take_place(cpu->number)) {
        cpu->all->refused = true;
        return NULL;
    }
    while (!cpu->all->quit) {
        nanosleep(&step, NULL);
        look(cpu->all);
    }
    return NULL;
}

void halts_begin(struct halts *halts)
{
    cpu_set_t ours;
    memset(halts, 0, sizeof *halts);
    halts->awake_us = halts->begun_us = clock_mono_us();
    if (sched_getaffinity(0, sizeof ours, &ours) != 0)
        return;
    for (int i = 0; i < CPU_SETSIZE && halts->count < HALTS_CPUS_MAX; i++)
        if (CPU_ISSET(i, &ours))
            halts->cpus[halts->count++] = (struct halts_cpu){.all = halts, .number = i};
    for (int i = 0; i < halts->count; i++)
        thread_start(&halts->cpus[i].thread, "halts", run, &halts->cpus[i]);
}

void halts_end(struct halts *halts)
{
    halts->quit = true;
    for (int i = 0; i < halts->count; i++)
        pthread_join(halts->cpus[i].thread, NULL);
    halts->known = halts->count > 0 && !halts->refused;
    halts->share = (double)halts->sum_us * 1000 / (double)(clock_mono_us() - halts->begun_us);
    halts->longest_ms = (double)halts->longest_us / 1000;
}

void halts_rounds_add(struct halts_rounds *rounds, const struct halts *halts)
{
    if (!halts->known)
        return;
    series_add(&rounds->share, halts->share);
    series_add(&rounds->longest, halts->longest_ms);
}

void halts_rounds_tell(struct halts_rounds *rounds, struct result *result)
{
    if (rounds->share.n == 0)
        return;
    result_add(result, "halted_ms_s", series_median(&rounds->share));
    result_add(result, "halt_max_ms", series_at(&rounds->longest, 1));
}

void halts_rounds_close(struct halts_rounds *rounds)
{
    series_close(&rounds->share);
    series_close(&rounds->longest);
}
