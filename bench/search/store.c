/* The store alone, as a library: its search in a process of its own, as a rival of that kind has,
 * over the data and the index of a server that is stopped. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/search/ours.h"
#include "bench/search/rival.h"
#include "store/base/clock.h"
#include "store/base/record.h"
#include "store/search/index.h"
#include "store/search/search.h"

struct store {
    struct kv *data, *index;
    const struct ours *ours;
    char **mine[PARTITIONS_DEFAULT]; /* conversations, by partition */
    size_t counts[PARTITIONS_DEFAULT];
    struct arena arena;
    struct buf text;
    Loquat__Hit **hits;
    size_t hit_count;
};

static void must(int err, const char *what)
{
    if (err != 0)
        bench_fail("search: %s: %s: %s", what, err_name(err), kv_error());
}

static int newest_first(const void *a, const void *b)
{
    const Loquat__Hit *x = *(Loquat__Hit *const *)a, *y = *(Loquat__Hit *const *)b;
    return x->mid > y->mid ? -1 : x->mid < y->mid;
}

/* As a gateway asks: on and on where nothing was found so far. */
static void ask(struct store *store, uint32_t partition, char **convs, size_t count)
{
    Loquat__Search what = LOQUAT__SEARCH__INIT;
    Loquat__Read read = LOQUAT__READ__INIT;
    what.q = store->text.p;
    read.user = (char *)(uintptr_t)ours_reader;
    read.convs = convs;
    read.n_convs = count;
    read.search = &what;
    read.max = HITS;
    do {
        Loquat__Reply reply = LOQUAT__REPLY__INIT;
        bool damaged;
        must(search_read(store->data, store->index, partition, &read, clock_wall_ms(),
                         &store->arena, &reply, &damaged),
             "searching");
        if (damaged)
            bench_fail("search: the index is damaged");
        if (reply.n_hits > 0)
            memcpy(store->hits + store->hit_count, reply.hits, reply.n_hits * sizeof *reply.hits);
        store->hit_count += reply.n_hits;
        read.from = reply.n_hits == 0 ? reply.next : 0;
    } while (read.from != 0);
}

static void give(const Loquat__Hit *hit, struct buf *rows)
{
    struct record_view record;
    const Loquat__Item *item = hit->item;
    must(record_view(span_of(item->record.data, item->record.len), &record), "a record");
    buf_add_span(rows, item->body.len > 0 ? span_of(item->body.data, item->body.len) : record.body);
}

static size_t find(struct rival *rival, const struct query_drawn *query, bool mine,
                   struct buf *rows)
{
    struct store *store = rival->state;
    store->text.n = store->hit_count = 0;
    ours_ask(query, "\"", &store->text);
    buf_add_byte(&store->text, 0);
    arena_reset(&store->arena);
    if (mine) {
        for (uint32_t p = 0; p < PARTITIONS_DEFAULT; p++)
            if (store->counts[p] > 0)
                ask(store, p, store->mine[p], store->counts[p]);
        if (store->hit_count > 0)
            qsort(store->hits, store->hit_count, sizeof *store->hits, newest_first);
    } else {
        char *conv = store->ours->convs[query->conv];
        ask(store, partition_of(conv_id_of(span_str(conv)), PARTITIONS_DEFAULT), &conv, 1);
    }
    size_t n = store->hit_count < HITS ? store->hit_count : HITS;
    for (size_t i = 0; i < n; i++)
        give(store->hits[i], rows);
    return n;
}

static void close_store(struct rival *rival)
{
    struct store *store = rival->state;
    for (uint32_t p = 0; p < PARTITIONS_DEFAULT; p++)
        free(store->mine[p]);
    kv_close(store->index);
    kv_close(store->data);
    arena_close(&store->arena);
    buf_close(&store->text);
    free(store->hits);
    free(store);
}

void rival_store(struct rival *rival, const struct texts *texts, const size_t *order)
{
    (void)order;
    struct kv_options options = {.read_only = true};
    struct store *store = xcalloc(1, sizeof *store);
    char path[SCRATCH_MAX + 32];
    store->ours = rival->state;
    snprintf(path, sizeof path, "%s/data", store->ours->gateway.dir);
    must(kv_open(path, KV_DATA, &options, &store->data), "the data");
    snprintf(path, sizeof path, "%s/index", store->ours->gateway.dir);
    must(kv_open(path, KV_INDEX, &options, &store->index), "the index");
    arena_init(&store->arena);
    for (uint32_t p = 0; p < PARTITIONS_DEFAULT; p++)
        store->mine[p] = xcalloc(texts->room_count, sizeof(char *));
    for (size_t i = 0; i < texts->room_count; i++) {
        char *conv = store->ours->convs[i];
        if (!texts->rooms[i].mine)
            continue;
        uint32_t p = partition_of(conv_id_of(span_str(conv)), PARTITIONS_DEFAULT);
        store->mine[p][store->counts[p]++] = conv;
    }
    store->hits = xcalloc((size_t)PARTITIONS_DEFAULT * HITS, sizeof(void *));
    *rival = (struct rival){
        .name = "the store alone", .state = store, .find = find, .close = close_store};
}
