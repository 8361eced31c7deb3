/* bench/search.c: how long it takes to find texts, in one conversation and in 800 of a user, over
 * one WebSocket, one request at a time; how quickly the index is made on one core, and what it
 * takes of the disk. All of the chat archives, beside SQLite FTS5 and PostgreSQL with the same
 * texts and queries (bench/search/rival.h), and its store beside SQLite, both as libraries; or,
 * with --messages N, these archives again and again up to N, alone. Everything is asked once before
 * it is measured. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/archive.h"
#include "bench/search/made.h"
#include "bench/search/ours.h"
#include "bench/search/rival.h"

enum { MINE = 800, QUERIES = 1050, RIVALS = 2, ROUNDS_MAX = 5, SAID_MAX = 5, SEED = 1 };
#define ONE_MS 5.0
#define MINE_MS 30.0
#define RATE 100000.0
#define SIZE 0.6

struct queries {
    struct query_drawn all[QUERIES];
};
struct times {                                  /* ms */
    struct series all, of[ASKED_COUNT], inside; /* inside: without the way, where it is known */
    double cpu;                                 /* of the server, mean */
    size_t hits[QUERIES];
};

static struct archives find_archives(const char *root)
{
    struct archives archives = {.count = 1};
    archive_find(root, archives.paths[0], sizeof archives.paths[0]);
    if (archive_named("chat-multi", archives.paths[1], sizeof archives.paths[1]))
        archives.count = 2;
    else
        bench_say("search: the full data set is not there ($LOQUAT_DATASET): the sample, repeated");
    return archives;
}

static const struct said *saids;
static int by_time(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    if (saids[x].ts != saids[y].ts)
        return saids[x].ts < saids[y].ts ? -1 : 1;
    return x < y ? -1 : x > y;
}

static size_t *order_of(const struct texts *texts)
{
    size_t *order = xcalloc(texts->count, sizeof *order);
    for (size_t i = 0; i < texts->count; i++)
        order[i] = i;
    saids = texts->all;
    qsort(order, texts->count, sizeof *order, by_time);
    return order;
}

/* ---- asking ---- */

static double ask_one(struct ours *ours, struct rival *rival, const struct query_drawn *query,
                      bool mine, size_t *hits)
{
    if (ours != NULL)
        return ours_find(ours, query, mine, hits);
    static struct buf rows;
    double begin = now_s();
    rows.n = 0;
    *hits = rival->find(rival, query, mine, &rows);
    return now_s() - begin;
}

/* One of them, with NULL for the other. */
static void ask_all(struct ours *ours, struct rival *rival, const struct queries *queries,
                    bool mine, double secs, struct times *times)
{
    *times = (struct times){0};
    double until = 0, cpu = 0;
    for (int round = 0; round <= ROUNDS_MAX && (round <= 1 || now_s() < until); round++) {
        for (size_t i = 0; i < QUERIES; i++) {
            const struct query_drawn *query = &queries->all[i];
            double ms = 1e3 * ask_one(ours, rival, query, mine, &times->hits[i]);
            if (round == 0)
                continue;
            series_add(&times->all, ms);
            series_add(&times->of[query->kind], ms);
            if (rival != NULL && rival->inside_s > 0)
                series_add(&times->inside, 1e3 * rival->inside_s);
        }
        if (round == 0) {
            until = now_s() + secs;
            cpu = ours != NULL ? cpu_of_s(ours->gateway.pid) : 0;
        }
    }
    if (ours != NULL)
        times->cpu = 1e3 * (cpu_of_s(ours->gateway.pid) - cpu) / (double)times->all.n;
}

static double mean(const struct series *series)
{
    double sum = 0;
    for (size_t i = 0; i < series->n; i++)
        sum += series->v[i];
    return series->n > 0 ? sum / (double)series->n : 0;
}

static void times_close(struct times *times)
{
    series_close(&times->all);
    series_close(&times->inside);
    for (int kind = 0; kind < ASKED_COUNT; kind++)
        series_close(&times->of[kind]);
}

static struct result result_of(const char *bench, struct times *times, uint64_t messages,
                               double must)
{
    struct result result = {.bench = bench,
                            .unit = "ms",
                            .ref_name = "what is promised",
                            .value = series_at(&times->all, 0.99),
                            .ref = must,
                            .must = 1,
                            .lower = true};
    result_add(&result, "messages", (double)messages);
    result_add(&result, "asked", (double)times->all.n);
    result_add(&result, "mean", mean(&times->all));
    result_add(&result, "server_cpu", times->cpu);
    result_add(&result, "p50", series_at(&times->all, 0.5));
    result_add(&result, "max", series_at(&times->all, 1));
    for (int kind = 0; kind < ASKED_COUNT; kind++) {
        char name[32];
        snprintf(name, sizeof name, "%s_p50", ASKED_NAMES[kind]);
        result_add(&result, name, series_at(&times->of[kind], 0.5));
        snprintf(name, sizeof name, "%s_p99", ASKED_NAMES[kind]);
        result_add(&result, name, series_at(&times->of[kind], 0.99));
    }
    return result;
}

/* The mean of all queries beside that of a rival; each quantile, too. */
static void compare(const char *where, const struct queries *queries, struct times *ours,
                    struct times *theirs, const struct rival *rival)
{
    char bench[64];
    size_t fewer = 0;
    snprintf(bench, sizeof bench, "search-%s-beside", where);
    struct result result = {.bench = bench,
                            .unit = "ms",
                            .ref_name = rival->name,
                            .value = mean(&ours->all),
                            .ref = mean(&theirs->all),
                            .must = 1,
                            .lower = true};
    result_add(&result, "p50", series_at(&ours->all, 0.5));
    result_add(&result, "ref_p50", series_at(&theirs->all, 0.5));
    result_add(&result, "p99", series_at(&ours->all, 0.99));
    result_add(&result, "ref_p99", series_at(&theirs->all, 0.99));
    if (theirs->inside.n > 0)
        result_add(&result, "ref_mean_without_socket", mean(&theirs->inside));
    if (ours->cpu > 0)
        result_add(&result, "server_cpu", ours->cpu);
    if (rival->cut > 0)
        result_add(&result, "ref_cut", (double)rival->cut); /* of all rounds so far */
    for (int kind = 0; kind < ASKED_COUNT; kind++) {
        char name[32];
        snprintf(name, sizeof name, "%s", ASKED_NAMES[kind]);
        result_add(&result, name, mean(&ours->of[kind]));
        snprintf(name, sizeof name, "ref_%s", ASKED_NAMES[kind]);
        result_add(&result, name, mean(&theirs->of[kind]));
    }
    for (size_t i = 0; i < QUERIES; i++) {
        const struct query_drawn *query = &queries->all[i];
        if (ours->hits[i] >= theirs->hits[i])
            continue;
        if (fewer++ < SAID_MAX)
            bench_say("search: %s: %zu hits, %s has %zu: %s '%s' '%s'", where, ours->hits[i],
                      rival->name, theirs->hits[i], ASKED_NAMES[query->kind], query->words[0],
                      query->words[1]);
    }
    result_add(&result, "fewer_hits", (double)fewer); /* queries of which we found fewer */
    result_print(&result);
}

/* ---- the index ---- */

static void say_index(const struct made *made, const struct texts *texts, uint64_t copies)
{
    double bytes = (double)(copies * texts->bytes), messages = (double)(copies * texts->count);
    struct result rate = {.bench = "search-index",
                          .unit = "msg/s",
                          .ref_name = "what is promised",
                          .value = (double)made->messages / made->seconds,
                          .ref = RATE,
                          .must = 1};
    result_add(&rate, "messages", (double)made->messages);
    result_add(&rate, "compact_s", made->compact_s);
    result_add(&rate, "cpu_us_per_message", 1e6 * made->cpu_s / (double)made->messages);
    result_print(&rate);
    struct result size = {.bench = "search-size",
                          .unit = "bytes/message",
                          .ref_name = "the texts",
                          .value = (double)made->bytes / messages,
                          .ref = bytes / messages,
                          .must = SIZE,
                          .lower = true};
    result_print(&size);
}

static void say_rival_index(const struct rival *rival, const struct made *made,
                            const struct texts *texts)
{
    struct result result = {.bench = "search-size-beside",
                            .unit = "bytes/message",
                            .ref_name = rival->name,
                            .value = (double)made->bytes / (double)texts->count,
                            .ref = (double)rival->index_bytes / (double)texts->count,
                            .must = 1,
                            .lower = true};
    result_add(&result, "made_s", made->seconds + made->compact_s);
    result_add(&result, "ref_made_s", rival->fill_s);
    result_print(&result);
}

/* ---- all of it ---- */

static void beside_rivals(const struct texts *texts, const struct archives *archives,
                          const struct queries *queries, double secs)
{
    static const char *const WHERE[] = {"conv", "user"}, *const STORE[] = {"conv-store",
                                                                           "user-store"};
    struct times ours_took[2], store_took[2], theirs;
    struct ours ours;
    ours_open(&ours, texts, archives, 1);
    for (int mine = 0; mine <= 1; mine++) {
        ask_all(&ours, NULL, queries, mine != 0, secs, &ours_took[mine]);
        struct result result = result_of(mine ? "search-user" : "search-conv", &ours_took[mine],
                                         ours.messages, mine ? MINE_MS : ONE_MS);
        result_print(&result);
    }
    ours_stop(&ours);
    struct rival store = {.state = &ours};
    rival_apart(&store, texts, NULL, rival_store);
    for (int mine = 0; mine <= 1; mine++)
        ask_all(NULL, &store, queries, mine != 0, secs, &store_took[mine]);
    store.close(&store);
    struct made made = made_anew(&ours.gateway);
    say_index(&made, texts, 1);
    ours_close(&ours);
    size_t *order = order_of(texts);
    for (int i = 0; i < RIVALS; i++) {
        struct rival rival;
        if (i == 0)
            rival_apart(&rival, texts, order, rival_sqlite);
        else
            rival_postgres(&rival, texts, order);
        say_rival_index(&rival, &made, texts);
        for (int mine = 0; mine <= 1; mine++) {
            ask_all(NULL, &rival, queries, mine != 0, secs, &theirs);
            compare(WHERE[mine], queries, &ours_took[mine], &theirs, &rival);
            if (i == 0)
                compare(STORE[mine], queries, &store_took[mine], &theirs, &rival);
            times_close(&theirs);
        }
        rival.close(&rival);
    }
    free(order);
    for (int mine = 0; mine <= 1; mine++) {
        times_close(&ours_took[mine]);
        times_close(&store_took[mine]);
    }
}

static void many(const struct texts *texts, const struct archives *archives,
                 const struct queries *queries, double secs, size_t copies)
{
    struct times took[2];
    struct ours ours;
    ours_open(&ours, texts, archives, copies);
    for (int mine = 0; mine <= 1; mine++)
        ask_all(&ours, NULL, queries, mine != 0, secs, &took[mine]);
    struct result one = result_of("search-conv", &took[0], ours.messages, ONE_MS);
    struct result all = result_of("search-user", &took[1], ours.messages, MINE_MS);
    ours_stop(&ours);
    struct made made = made_anew(&ours.gateway);
    say_index(&made, texts, copies);
    results_print_worst("search", &one, &all);
    ours_close(&ours);
    times_close(&took[0]);
    times_close(&took[1]);
}

int main(int argc, char **argv)
{
    static struct queries queries;
    struct bench_options options = bench_options(argc, argv, 60);
    uint64_t seed = SEED;
    char root[SCRATCH_MAX];
    struct texts texts;
    bench_dir(root);
    struct archives archives = find_archives(root);
    texts_open(&texts);
    for (size_t i = 0; i < archives.count; i++)
        texts_load(&texts, archives.paths[i]);
    texts_take_largest(&texts, MINE);
    for (size_t i = 0; i < QUERIES; i++)
        texts_draw(&texts, &seed, (enum asked)(i % ASKED_COUNT), &queries.all[i]);
    if (options.messages == 0)
        beside_rivals(&texts, &archives, &queries, options.secs / 6);
    else
        many(&texts, &archives, &queries, options.secs / 2,
             (size_t)((options.messages + texts.count - 1) / texts.count));
    texts_close(&texts);
    return 0;
}
