/* soak [--secs N] [--rate N] [--people N] [--out DIR]: a server under the load of a whole town
 * (bench/lib/town.h) for a long time, at half of what it takes at most from these clients, or at
 * --rate messages a second. Every few seconds what it uses and how quick it is; at the end a table,
 * a chart (DIR/soak.svg), the samples (DIR/soak.csv), one JSON line, and what must hold: memory and
 * descriptors flat, as quick as in the beginning, the raft log trimmed, no more on disk than was
 * written takes, nothing missed, nothing twice, sequences dense.
 * What takes longer than a short run to become flat is judged from LONG_S on. The last line:
 * `N passed, N failed`. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/lib/chart.h"
#include "bench/lib/town.h"
#include "bench/lib/verdict.h"

enum {
    SECS = 3600,
    SECS_MAX = 23 * 3600, /* tokens last a day */
    PEOPLE = 300,
    PEOPLE_STEP = 50,
    PEOPLE_MAX = 5000,
    LIVE_S_MAX = 60,
    SETTLE_S_MAX = 60,
    AIM = 400,     /* messages unanswered while the most is measured */
    SAMPLES = 300, /* of a run, but not more than one a second */
    TABLE_ROWS = 18,
};
enum {                      /* what must hold */
       LONG_S = 1800,       /* from here on memory is judged by its slope */
       WARM_S = 600,        /* after this, and a third of the run */
       GROWTH_PERCENT = 5,  /* of memory, from then to the end */
       GROWTH_MIB = 16,     /* or so much, which is more where little is used */
       RSS_MIB_MAX = 1200,  /* memtables and caches of both databases, all full, and what is ours */
       CACHE_MIB_MAX = 68,  /* of it, blocks of files: full after some GB were read, and some */
       KEPT_BYTES_MAX = 6,  /* beside it, for each record: filters and indexes */
       KEPT_MIB_MORE = 128, /* a filter that grows is there twice */
       FILES_MAX = 1100,    /* both databases: OPEN_FILES_MAX each, and some */
       SOCKETS_MORE = 40,   /* beside one for each client */
       THREADS_MORE = 2,    /* than in the first third */
       P99_TIMES_MAX = 2,   /* of p99 of the first third, and this beside: */
       P99_MORE_MS = 20,
       P99_MORE_SHORT_MS = 300, /* in a short run: thirds of few samples */
       RAFT_MIB_MAX = 512,      /* what is not flushed, twice; segments that wait, and the slack */
       MESSAGE_BYTES_MAX = 64,  /* on disk beside the text, before compaction comes to it */
       DISK_MIB_MORE = 256,     /* tables that are being merged are there twice */
       SAID_PERCENT_MIN = 95,   /* of what was due: or this was not the load it says */
};
#define MIB 1048576.0
#if defined(__SANITIZE_ADDRESS__)
enum { MEASURES = false }; /* neither memory nor time is the server's own */
#else
enum { MEASURES = true };
#endif

struct soak {
    double secs, rate, most;
    size_t people;
    char out[SCRATCH_MAX];
    struct gateway gateway;
    struct town town;
    struct watch watch;
    uint64_t said; /* at the last sample */
    double sampled_s;
};

static void take_options(struct soak *soak, int argc, char **argv)
{
    static const struct option LONG[] = {{"secs", required_argument, NULL, 's'},
                                         {"rate", required_argument, NULL, 'r'},
                                         {"people", required_argument, NULL, 'p'},
                                         {"out", required_argument, NULL, 'o'},
                                         {0}};
    const char *build = getenv("BUILD");
    *soak = (struct soak){.secs = SECS, .people = PEOPLE};
    snprintf(soak->out, sizeof soak->out, "%s/soak", build != NULL ? build : "build");
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        if (c == 's')
            soak->secs = strtod(optarg, NULL);
        else if (c == 'r')
            soak->rate = strtod(optarg, NULL);
        else if (c == 'p')
            soak->people = strtoul(optarg, NULL, 10);
        else if (c == 'o')
            snprintf(soak->out, sizeof soak->out, "%s", optarg);
        else
            exit(2);
    }
    if (!(soak->secs >= 3 && soak->secs <= SECS_MAX) || !(soak->rate >= 0 && soak->rate <= 1e6) ||
        soak->people < PEOPLE_STEP || soak->people > PEOPLE_MAX || soak->people % PEOPLE_STEP != 0)
        bench_fail("--secs: 3 to %d; --rate: messages a second; --people: a multiple of %d",
                   SECS_MAX, PEOPLE_STEP);
    if (mkdir(soak->out, 0777) != 0 && errno != EEXIST)
        bench_fail("%s: %s", soak->out, strerror(errno));
}

/* ---- running ---- */

static void fill(void *data, struct watch_sample *sample)
{
    struct soak *soak = data;
    struct town *town = &soak->town;
    double now = now_s();
    sample->live = (double)(town->people.live + town->witness.live);
    sample->rate = (double)(town->said - soak->said) / (now - soak->sampled_s);
    sample->p50_ms = series_at(&town->deliveries_ms, 0.5);
    sample->p99_ms = series_at(&town->deliveries_ms, 0.99);
    sample->ack_p99_ms = series_at(&town->acks_ms, 0.99);
    town->deliveries_ms.n = town->acks_ms.n = 0;
    soak->said = town->said;
    soak->sampled_s = now;
}

static void run_for(struct soak *soak, double secs)
{
    double until = now_s() + secs, left;
    while ((left = until - now_s()) > 0) {
        bench_progress("soak", 1 - left / secs);
        net_run(soak->town.loop, fmin(1, left));
    }
    bench_progress("soak", 1);
}

/* The most that these clients get through, for a tenth of the time, or ten seconds. */
static void measure_most(struct soak *soak)
{
    struct town *town = &soak->town;
    double secs = fmin(10, soak->secs / 10);
    town->unanswered_aim = AIM;
    net_run(town->loop, secs / 2);
    uint64_t said = town->said;
    double begin = now_s();
    net_run(town->loop, secs);
    soak->most = (double)(town->said - said) / (now_s() - begin);
    if (!town_settle(town, SETTLE_S_MAX))
        bench_fail("the town does not come to rest after the most it can");
    soak->rate = soak->most / 2;
}

static void run(struct soak *soak)
{
    struct town *town = &soak->town;
    files_allow();
    gateway_prepare(&soak->gateway);
    gateway_start(&soak->gateway, TWO_LOOPS);
    town_open(town, &soak->gateway, uv_default_loop(), soak->people);
    followers_all_live(&town->people, soak->people, LIVE_S_MAX);
    followers_all_live(&town->witness, 1, LIVE_S_MAX);
    if (soak->rate == 0)
        measure_most(soak);
    bench_say("soak: %.0f messages a second for %.0f s, %zu people, %zu conversations", soak->rate,
              soak->secs, soak->people, town->convs_count);
    town->due = town->skipped = 0;
    town->deliveries_ms.n = town->acks_ms.n = 0;
    soak->said = town->said;
    soak->sampled_s = now_s();
    town->rate = soak->rate;
    town->busy = true;
    soak->watch =
        (struct watch){.gateway = &soak->gateway, .loop = town->loop, .fill = fill, .data = soak};
    watch_begin(&soak->watch, fmax(1, soak->secs / SAMPLES));
    run_for(soak, soak->secs);
    watch_end(&soak->watch);
}

/* ---- what must hold ---- */

#define COLUMN(name) offsetof(struct watch_sample, name)

static double part_of(const struct soak *soak, size_t column, int third, double q)
{
    return watch_quantile(&soak->watch, column, third / 3.0, (third + 1) / 3.0, q);
}

/* What resident memory, without what there is for each message and without the cache of blocks,
 * which fills as quickly as files are read, grew by in the last part, by the line through its
 * samples; its mean. */
static double growth(const struct soak *soak, double *mean)
{
    double n = 0, t = 0, y = 0, tt = 0, ty = 0, from = fmax(WARM_S, soak->secs / 3);
    for (size_t i = 0; i < soak->watch.n; i++) {
        const struct watch_sample *sample = &soak->watch.samples[i];
        if (sample->at_s < from)
            continue;
        double own = sample->rss - sample->kept - sample->cache;
        n++;
        t += sample->at_s;
        y += own;
        tt += sample->at_s * sample->at_s;
        ty += sample->at_s * own;
    }
    *mean = y / n;
    return (n * ty - t * y) / (n * tt - t * t) * (soak->secs - from);
}

static void judge_memory(const struct soak *soak)
{
    double most = 0, cache = watch_quantile(&soak->watch, COLUMN(cache), 0, 1, 1) / MIB;
    double mean = 0, kept = soak->watch.samples[soak->watch.n - 1].kept / MIB;
    double may = (double)town_records(&soak->town) * KEPT_BYTES_MAX / MIB + KEPT_MIB_MORE;
    for (size_t i = 0; i < soak->watch.n; i++)
        most = fmax(most, soak->watch.samples[i].rss - soak->watch.samples[i].kept);
    verdict(!MEASURES || most / MIB <= RSS_MIB_MAX, "memory: %.0f MiB at most, bound %d",
            most / MIB, RSS_MIB_MAX);
    verdict(cache <= CACHE_MIB_MAX, "of it %.0f MiB at most are blocks of files, bound %d", cache,
            CACHE_MIB_MAX);
    verdict(kept <= may, "and for what is stored %.1f MiB of filters and indexes, bound %.1f", kept,
            may);
    if (soak->secs < LONG_S || !MEASURES) {
        printf("      memory: its slope is judged in runs of at least %d s\n", LONG_S);
        return;
    }
    double grown = growth(soak, &mean), bound = mean * GROWTH_PERCENT / 100;
    verdict(grown <= fmax(bound, GROWTH_MIB * MIB),
            "memory is flat: %+.1f MiB after the warm-up, of %.0f", grown / MIB, mean / MIB);
}

static void judge_use(const struct soak *soak)
{
    const struct town *town = &soak->town;
    double files = watch_quantile(&soak->watch, COLUMN(files), 0, 1, 1);
    double sockets = watch_quantile(&soak->watch, COLUMN(sockets), 0, 1, 1);
    double threads0 = part_of(soak, COLUMN(threads), 0, 1);
    double threads = part_of(soak, COLUMN(threads), 2, 1);
    double p99 = part_of(soak, COLUMN(p99_ms), 2, 0.5),
           p99_0 = part_of(soak, COLUMN(p99_ms), 0, 0.5);
    double more = soak->secs < LONG_S ? P99_MORE_SHORT_MS : P99_MORE_MS;
    double raft = watch_quantile(&soak->watch, COLUMN(raft_bytes), 0, 1, 1) / MIB;
    const struct watch_sample *last = &soak->watch.samples[soak->watch.n - 1];
    double may = (double)town->text_bytes + (double)town_records(town) * MESSAGE_BYTES_MAX +
                 DISK_MIB_MORE * MIB;
    judge_memory(soak);
    verdict(files <= FILES_MAX, "descriptors: %.0f files at most, bound %d", files, FILES_MAX);
    verdict(sockets <= (double)soak->people + SOCKETS_MORE,
            "descriptors: %.0f sockets at most, for %zu clients", sockets, soak->people);
    verdict(threads <= threads0 + THREADS_MORE, "threads: %.0f, in the beginning %.0f", threads,
            threads0);
    verdict(!MEASURES || p99 <= p99_0 * P99_TIMES_MAX + more,
            "delivered: p99 %.1f ms in the last third, %.1f in the first", p99, p99_0);
    verdict(raft <= RAFT_MIB_MAX, "the raft log is trimmed: %.0f MiB at most, bound %d", raft,
            RAFT_MIB_MAX);
    verdict(last->data_bytes <= may, "disk: %.1f MiB for %llu records, bound %.1f",
            last->data_bytes / MIB, (unsigned long long)town_records(town), may / MIB);
}

static void judge_town(struct soak *soak)
{
    struct town *town = &soak->town;
    const struct followers *people = &town->people, *witness = &town->witness;
    bool settled = town_settle(town, SETTLE_S_MAX);
    uint64_t received = people->received + witness->received;
    uint64_t missed = people->missed + witness->missed, twice = people->twice + witness->twice;
    uint64_t ended = people->ended + witness->ended;
    verdict(settled, "all come to rest: %zu do not have everything, %llu unanswered",
            town_behind(town), (unsigned long long)town->unanswered);
    verdict(missed == 0 && twice == 0, "%llu records received: %llu missed, %llu twice",
            (unsigned long long)received, (unsigned long long)missed, (unsigned long long)twice);
    verdict(town_not_once(town) == 0,
            "every write acknowledged is there once, sequences dense: not so in %zu of %zu",
            town_not_once(town), town->convs_count);
    verdict(town_not_seen(town) == 0, "what was read is what was written: not so in %zu of %zu",
            town_not_seen(town), town->convs_count);
    verdict(town->wrong == 0, "%llu pages, %llu edits, %llu deletes: %llu wrong%s%s",
            (unsigned long long)town->pages, (unsigned long long)town->edits,
            (unsigned long long)town->deletes, (unsigned long long)town->wrong,
            town->wrong > 0 ? ": " : "", town->why);
    verdict(ended + people->failed == 0,
            "%llu connections broken off and back, %llu by the server (%s)",
            (unsigned long long)town->breaks, (unsigned long long)ended, people->why);
    double said = 100 * (1 - (double)town->skipped / fmax(1, (double)town->due));
    verdict(said >= SAID_PERCENT_MIN, "%.1f %% of what was due was said", said);
}

/* ---- what it says ---- */

static void print_table(const struct soak *soak)
{
    const struct watch *watch = &soak->watch;
    puts("     s  live   msg/s  p50 ms  p99 ms  ack p99  RSS MiB  sockets files threads  raft MiB"
         "  data MiB  sync ms  cache MiB");
    size_t rows = watch->n < TABLE_ROWS ? watch->n : TABLE_ROWS;
    for (size_t i = 0; i < rows; i++) {
        const struct watch_sample *s = &watch->samples[(watch->n - 1) * (i + 1) / rows];
        printf("%6.0f %5.0f %7.0f %7.1f %7.1f %8.1f %8.0f %8.0f %5.0f %7.0f %9.1f %9.1f %8.2f "
               "%10.1f\n",
               s->at_s, s->live, s->rate, s->p50_ms, s->p99_ms, s->ack_p99_ms, s->rss / MIB,
               s->sockets, s->files, s->threads, s->raft_bytes / MIB, s->data_bytes / MIB,
               s->sync_ms, s->cache / MIB);
    }
}

static void draw(const struct soak *soak)
{
    static const struct chart_panel panels[] = {
        {"messages a second", 1, 0, {{"acknowledged", COLUMN(rate)}}},
        {"delivered, ms", 1, 0, {{"p50", COLUMN(p50_ms)}, {"p99", COLUMN(p99_ms)}}},
        {"acknowledged, ms", 1, 0, {{"p99", COLUMN(ack_p99_ms)}, {"sync, mean", COLUMN(sync_ms)}}},
        {"memory, MiB",
         MIB,
         RSS_MIB_MAX,
         {{"resident", COLUMN(rss)}, {"of it blocks of files", COLUMN(cache)}}},
        {"descriptors", 1, 0, {{"sockets", COLUMN(sockets)}, {"files", COLUMN(files)}}},
        {"threads", 1, 0, {{"threads", COLUMN(threads)}}},
        {"raft log, MiB", MIB, RAFT_MIB_MAX, {{"on disk", COLUMN(raft_bytes)}}},
        {"data, MiB", MIB, 0, {{"on disk", COLUMN(data_bytes)}}},
    };
    char path[SCRATCH_MAX + 16], title[128];
    snprintf(path, sizeof path, "%s/soak.csv", soak->out);
    watch_csv(&soak->watch, path);
    snprintf(title, sizeof title, "soak: %.0f messages a second, %zu people, %zu conversations",
             soak->rate, soak->people, soak->town.convs_count);
    snprintf(path, sizeof path, "%s/soak.svg", soak->out);
    chart_write(&soak->watch, path, title, panels, sizeof panels / sizeof *panels);
    printf("chart: %s\n", path);
}

static void print_result(const struct soak *soak)
{
    const struct town *town = &soak->town;
    const struct watch_sample *last = &soak->watch.samples[soak->watch.n - 1];
    struct result result = {.bench = "soak",
                            .unit = "ms",
                            .lower = true,
                            .ref_name = "p99 of delivery in the first third",
                            .value = part_of(soak, COLUMN(p99_ms), 2, 0.5),
                            .ref = part_of(soak, COLUMN(p99_ms), 0, 0.5)};
    result_add(&result, "secs", soak->secs);
    result_add(&result, "rate", soak->rate);
    result_add(&result, "most", soak->most);
    result_add(&result, "people", (double)soak->people);
    result_add(&result, "records", (double)town_records(town));
    result_add(&result, "received", (double)(town->people.received + town->witness.received));
    result_add(&result, "missed", (double)(town->people.missed + town->witness.missed));
    result_add(&result, "twice", (double)(town->people.twice + town->witness.twice));
    result_add(&result, "breaks", (double)town->breaks);
    result_add(&result, "sent_again", (double)town->again);
    result_add(&result, "refused", (double)town->refused);
    result_add(&result, "lags", (double)(town->people.lags + town->witness.lags));
    result_add(&result, "joins", (double)town->joins);
    result_add(&result, "leaves", (double)town->leaves);
    result_add(&result, "rss_mib", last->rss / MIB);
    result_add(&result, "raft_mib", part_of(soak, COLUMN(raft_bytes), 2, 1) / MIB);
    result_add(&result, "data_bytes_per_record", last->data_bytes / (double)town_records(town));
    result_print(&result);
}

int main(int argc, char **argv)
{
    static struct soak soak;
    take_options(&soak, argc, argv);
    run(&soak);
    print_table(&soak);
    judge_use(&soak);
    judge_town(&soak);
    draw(&soak);
    print_result(&soak);
    town_close(&soak.town);
    watch_close(&soak.watch);
    gateway_drop(&soak.gateway);
    return verdicts_end();
}
