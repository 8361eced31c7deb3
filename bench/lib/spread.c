#include "bench/lib/spread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/crowd.h"
#include "bench/lib/kernel.h"
#include "store/base/clock.h"

enum {
    CONNS = 30000,
    RATE = 1000, /* messages a second, of all */
    JOIN_S_MAX = 900,
    ANSWERS_S_MAX = 60,
    LOOK_MS = 10,
    SAMPLES_MAX = 400000, /* latencies of one part */
    PER_PROCESS = 19000,
};

enum phase { PHASE_JOIN, PHASE_TALK, PHASE_QUIET, PHASE_END };

enum count { LIVE, ASKED, ANSWERED, RECEIVED, MISSED, TWICE, ENDED, LAGS, FAILED, UNSAID, COUNTS };

/* What a process of clients says of itself, in memory that all share. */
struct part {
    _Atomic uint64_t counts[COUNTS];
    double join50, join99; /* once all are live */
    size_t samples;        /* once it has ended */
    double ms[SAMPLES_MAX];
};
struct board {
    _Atomic int phase;
    _Atomic bool measured; /* no latencies are taken any more */
    struct part parts[];
};

/* ---- a process of clients ---- */

struct clients {
    struct board *board;
    struct part *part;
    struct crowd *crowd;
    double next_us, step_us;
    bool talking;
};

static void on_look(uv_timer_t *timer)
{
    struct clients *clients = timer->data;
    struct crowd *crowd = clients->crowd;
    struct part *part = clients->part;
    int phase = atomic_load(&clients->board->phase);
    uint64_t now = clock_mono_us();
    if (phase == PHASE_TALK && !clients->talking)
        clients->next_us = (double)now + clients->step_us * (double)(random_u64() % 1000) / 1000;
    clients->talking = phase == PHASE_TALK;
    if (atomic_load(&clients->board->measured))
        crowd->latency_ms = NULL;
    for (; phase == PHASE_TALK && clients->next_us <= (double)now;
         clients->next_us += clients->step_us)
        crowd_say(crowd, random_u64() % crowd->count, random_u64() % CROWD_LAYERS,
                  (uint64_t)clients->next_us);
    const uint64_t counts[COUNTS] = {
        [LIVE] = crowd->live,         [ASKED] = crowd->asked,   [ANSWERED] = crowd->answered,
        [RECEIVED] = crowd->received, [MISSED] = crowd->missed, [TWICE] = crowd->twice,
        [ENDED] = crowd->ended,       [LAGS] = crowd->lags,     [FAILED] = crowd->failed,
        [UNSAID] = crowd->unsaid};
    for (int i = 0; i < COUNTS; i++)
        atomic_store(&part->counts[i], counts[i]);
}

static void run_clients(struct clients *clients, size_t number, size_t count)
{
    struct crowd *crowd = clients->crowd;
    struct series ms = {0};
    uv_timer_t timer = {.data = clients};
    uv_timer_init(crowd->loop, &timer);
    uv_timer_start(&timer, on_look, 1, 1);
    crowd_come(crowd, 0, CROWD_ORDERLY);
    if (!crowd_all_live(crowd, JOIN_S_MAX))
        bench_fail("clients %zu of %zu: %llu of %zu are live after %d s; %llu failed (%s)", number,
                   count, (unsigned long long)crowd->live, crowd->count, JOIN_S_MAX,
                   (unsigned long long)crowd->failed, crowd->why);
    clients->part->join50 = series_at(&crowd->join_ms, 0.5);
    clients->part->join99 = series_at(&crowd->join_ms, 0.99);
    crowd->latency_ms = &ms;
    crowd->may_refuse = true; /* while the node is away; otherwise: see `talk` */
    while (atomic_load(&clients->board->phase) != PHASE_END)
        uv_run(crowd->loop, UV_RUN_ONCE);
    clients->part->samples = ms.n < SAMPLES_MAX ? ms.n : SAMPLES_MAX;
    memcpy(clients->part->ms, ms.v, clients->part->samples * sizeof *ms.v);
}

static pid_t start_clients(struct board *board, struct crowd *crowd, struct gateway *gateway,
                           size_t number, size_t count)
{
    pid_t pid = proc_fork();
    if (pid > 0)
        return pid;
    uv_loop_t loop; /* that of the parent is the parent's */
    int rv = uv_loop_init(&loop);
    ASSERT(rv == 0);
    crowd_split(crowd, gateway, &loop, number, count);
    struct clients clients = {.board = board,
                              .part = &board->parts[number],
                              .crowd = crowd,
                              .step_us = 1e6 / RATE * (double)count};
    run_clients(&clients, number, count);
    _exit(0); /* what the parent registered to be done at exit is the parent's to do */
}

/* ---- the first process ---- */

struct spread {
    size_t count; /* of gateways */
    struct node_server node;
    struct gateway gateways[GATEWAYS_MAX];
    pid_t clients[GATEWAYS_MAX];
    struct crowd crowd;
    struct board *board;
    size_t board_bytes;
};

struct sums {
    unsigned long long of[COUNTS];
};

static struct sums sum_all(const struct spread *spread)
{
    struct sums sums = {0};
    for (size_t i = 0; i < spread->count; i++)
        for (int k = 0; k < COUNTS; k++)
            sums.of[k] += atomic_load(&spread->board->parts[i].counts[k]);
    return sums;
}

static void look_away(const struct spread *spread)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    for (size_t i = 0; i < spread->count; i++)
        if (waitpid(spread->clients[i], NULL, WNOHANG) != 0)
            bench_fail("the clients of gateway %zu have ended", i);
}

static void begin(struct spread *spread, size_t conns)
{
    node_begin(&spread->node);
    gateway_prepare(&spread->gateways[0]);
    spread->gateways[0].node = &spread->node;
    for (size_t i = 0; i < spread->count; i++) {
        if (i > 0)
            gateway_join(&spread->gateways[i], &spread->gateways[0]);
        gateway_start(&spread->gateways[i], NULL);
    }
    crowd_open(&spread->crowd, &spread->gateways[0], uv_default_loop(), conns);
    spread->board_bytes = sizeof *spread->board + spread->count * sizeof *spread->board->parts;
    spread->board =
        mmap(NULL, spread->board_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (spread->board == MAP_FAILED)
        bench_fail("mmap: %s", strerror(errno));
    for (size_t i = 0; i < spread->count; i++)
        gateway_rest(&spread->gateways[i]);
}

static double memory_of_gateways(const struct spread *spread)
{
    double bytes = 0;
    for (size_t i = 0; i < spread->count; i++)
        bytes += (double)proc_memory(spread->gateways[i].pid);
    return bytes;
}

static double cpu_of_gateways(const struct spread *spread)
{
    double secs = 0;
    for (size_t i = 0; i < spread->count; i++)
        secs += cpu_of_s(spread->gateways[i].pid);
    return secs;
}

static double join(struct spread *spread)
{
    double at = now_s(), said = at;
    for (size_t i = 0; i < spread->count; i++)
        spread->clients[i] =
            start_clients(spread->board, &spread->crowd, &spread->gateways[i], i, spread->count);
    while (sum_all(spread).of[LIVE] < spread->crowd.all) {
        look_away(spread);
        if (now_s() - said > 10) {
            said = now_s();
            bench_say("conns: %llu live after %.0f s", (unsigned long long)sum_all(spread).of[LIVE],
                      said - at);
        }
    }
    return now_s() - at;
}

/* Until all that was said has come to everybody; and has it come once? */
static void settle(struct spread *spread)
{
    struct sums sums;
    double until = now_s() + ANSWERS_S_MAX;
    atomic_store(&spread->board->phase, PHASE_QUIET);
    do {
        look_away(spread);
        sums = sum_all(spread);
    } while (
        (sums.of[RECEIVED] < sums.of[ASKED] * CROWD_ROOM || sums.of[ANSWERED] < sums.of[ASKED]) &&
        now_s() < until);
    const unsigned long long *of = sums.of;
    if (of[RECEIVED] != of[ASKED] * CROWD_ROOM || of[ANSWERED] != of[ASKED] || of[MISSED] > 0 ||
        of[TWICE] > 0 || of[ENDED] > 0 || of[LAGS] > 0)
        bench_fail("conns: %llu said, %llu answered, %llu delivered, %llu missed, %llu twice, "
                   "%llu lags, %llu ended",
                   of[ASKED], of[ANSWERED], of[RECEIVED], of[MISSED], of[TWICE], of[LAGS],
                   of[ENDED]);
}

static void talk(struct spread *spread, double secs)
{
    double until = now_s() + secs;
    atomic_store(&spread->board->phase, PHASE_TALK);
    while (now_s() < until)
        look_away(spread);
    settle(spread);
    if (sum_all(spread).of[UNSAID] > 0)
        bench_fail("conns: %llu were refused", sum_all(spread).of[UNSAID]);
    atomic_store(&spread->board->measured, true);
}

static bool all_answered(const struct spread *spread, const uint64_t *before)
{
    for (size_t i = 0; i < spread->count; i++)
        if (atomic_load(&spread->board->parts[i].counts[ANSWERED]) == before[i])
            return false;
    return true;
}

/* The node is killed, and people talk as soon as it is started again: seconds until an answer came
 * through each gateway. Nobody is cut off, and nothing is missed or comes twice. */
static double restart(struct spread *spread)
{
    uint64_t before[GATEWAYS_MAX];
    for (size_t i = 0; i < spread->count; i++)
        before[i] = atomic_load(&spread->board->parts[i].counts[ANSWERED]);
    double at = now_s();
    node_again(&spread->node);
    atomic_store(&spread->board->phase, PHASE_TALK);
    while (!all_answered(spread, before) && now_s() - at < ANSWERS_S_MAX)
        look_away(spread);
    double took = now_s() - at;
    settle(spread);
    return took;
}

static void end(struct spread *spread, struct series *ms)
{
    atomic_store(&spread->board->phase, PHASE_END);
    for (size_t i = 0; i < spread->count; i++) {
        proc_wait(spread->clients[i]);
        const struct part *part = &spread->board->parts[i];
        for (size_t k = 0; k < part->samples; k++)
            series_add(ms, part->ms[k]);
    }
}

void spread_run(const struct bench_options *options)
{
    static struct spread spread;
    struct series ms = {0};
    spread.count = options->gateways;
    size_t conns = options->conns != 0 ? options->conns : CONNS;
    conns -= conns % CROWD_ROOM;
    if (conns > spread.count * PER_PROCESS)
        bench_fail("%zu connections want %zu gateways: a process may hold %d", conns,
                   conns / PER_PROCESS + 1, PER_PROCESS);
    begin(&spread, conns);
    double before = memory_of_gateways(&spread), node_before = (double)proc_memory(spread.node.pid);
    struct kernel kernel = kernel_now();
    double live_s = join(&spread);
    for (size_t i = 0; i < spread.count; i++)
        gateway_rest(&spread.gateways[i]);
    struct kernel full = kernel_now();
    double count = (double)conns, each = (memory_of_gateways(&spread) - before) / count,
           node_each = ((double)proc_memory(spread.node.pid) - node_before) / count;
    bench_say("conns: %zu live after %.1f s, %.0f bytes each at the gateways, %.0f at the node",
              conns, live_s, each, node_each);
    double cpu = cpu_of_gateways(&spread), node_cpu = cpu_of_s(spread.node.pid), at = now_s();
    talk(&spread, options->secs);
    double took = now_s() - at;
    cpu = cpu_of_gateways(&spread) - cpu;
    node_cpu = cpu_of_s(spread.node.pid) - node_cpu;
    struct sums sums = sum_all(&spread);
    double restart_s = restart(&spread);
    end(&spread, &ms);
    struct result result = {.bench = "conns-gateways",
                            .unit = "ms",
                            .lower = true,
                            .value = series_at(&ms, 0.99),
                            .ref_name = "none: one run, not in turn with another"};
    result_add(&result, "connections", count);
    result_add(&result, "gateways", (double)spread.count);
    result_add(&result, "live_s", live_s);
    result_add(&result, "join_p50_ms", spread.board->parts[0].join50);
    result_add(&result, "join_p99_ms", spread.board->parts[0].join99);
    result_add(&result, "failed", (double)sums.of[FAILED]);
    result_add(&result, "gateway_bytes_each", each);
    result_add(&result, "node_bytes_each", node_each);
    result_add(&result, "kernel_slab_each", (full.slab - kernel.slab) / count);
    result_add(&result, "kernel_buffers_each", (full.sockets - kernel.sockets) / count);
    result_add(&result, "rate", (double)sums.of[ASKED] / options->secs);
    result_add(&result, "p50_ms", series_at(&ms, 0.5));
    result_add(&result, "delivered", (double)sums.of[RECEIVED]);
    result_add(&result, "missed", (double)sums.of[MISSED]);
    result_add(&result, "twice", (double)sums.of[TWICE]);
    result_add(&result, "node_restart_s", restart_s);
    result_add(&result, "gateways_cpu", cpu / took);
    result_add(&result, "node_cpu", node_cpu / took);
    result_print(&result);
    crowd_close(&spread.crowd);
    for (size_t i = spread.count; i > 0; i--)
        gateway_drop(&spread.gateways[i - 1]);
    node_drop(&spread.node);
    munmap(spread.board, spread.board_bytes);
    series_close(&ms);
}
