#include "store/search/search.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/key.h"
#include "store/search/place.h"

/* ---- the newest of all conversations ---- */

static void sift_down(struct search *s, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->heap_count)
            return;
        if (child + 1 < s->heap_count && s->heap[child + 1]->mid > s->heap[child]->mid)
            child++;
        if (s->heap[i]->mid >= s->heap[child]->mid)
            return;
        struct place *moved = s->heap[i];
        s->heap[i] = s->heap[child];
        s->heap[child] = moved;
        i = child;
    }
}

/* What the index has is not looked for before its newest message could be next. */
static int begin_heap(struct search *s)
{
    int err = 0;
    for (size_t i = 0; i < s->place_count && err == 0; i++) {
        struct place *place = &s->places[i];
        place->mid = place->row.mid < s->below ? place->row.mid : s->below - 1;
        if (place->tail_count > 0)
            err = place_advance(s, place);
        if (place->mid != 0)
            s->heap[s->heap_count++] = place;
    }
    for (size_t i = s->heap_count; i > 0; i--)
        sift_down(s, i - 1);
    return err;
}

static int move_top(struct search *s)
{
    int err = place_advance(s, s->heap[0]);
    if (s->heap[0]->mid == 0)
        s->heap[0] = s->heap[--s->heap_count];
    sift_down(s, 0);
    return err;
}

/* ---- one message ---- */

static void give_hit(struct search *s, const struct place *place, const Loquat__Item *found,
                     const struct match_spans *spans)
{
    Loquat__Hit *hit = arena_alloc(s->arena, sizeof *hit);
    loquat__hit__init(hit);
    hit->conv = place->conv;
    hit->mid = place->mid;
    hit->item = arena_alloc(s->arena, sizeof *hit->item);
    *hit->item = *found;
    hit->item->seq = place->seq;
    hit->item->record.len = place->message.n;
    hit->item->record.data = arena_copy(s->arena, place->message.p, place->message.n);
    hit->n_spans = spans->count;
    hit->spans = arena_copy(s->arena, spans->at, spans->count * sizeof spans->at[0]);
    s->reply->hits[s->reply->n_hits++] = hit;
}

/* As s->fold; empty: it has none. */
static int find_fold(struct search *s, const struct place *place)
{
    struct key key = key_seq(s->partition, place->id, place->seq);
    int err = kv_view_get(&s->view, KV_FOLD, key_span(&key), &s->fold);
    if (err == ERR_NOT_FOUND)
        s->fold.n = 0;
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int read_fold(struct search *s, const struct place *place, struct arena *arena,
                     Loquat__Item *item)
{
    loquat__item__init(item);
    if (s->fold.n == 0)
        return 0;
    return access_fold(&place->access, place->seq, buf_span(&s->fold), arena, &s->room, item);
}

static bool text_fits(struct search *s, const struct record_view *record, const Loquat__Item *item,
                      struct match_spans *spans)
{
    struct span body = item->body.len > 0 ? span_of(item->body.data, item->body.len) : record->body;
    struct span utf8 = content_text(s->content.json, record->kind, body);
    if (s->query.has_link && !term_has_link(utf8))
        return false;
    text_split(&s->content.text, utf8);
    return match_text(&s->query, &s->content.text, s->content.stemmer, s->lang, spans);
}

static int look_at(struct search *s, const struct place *place)
{
    struct match_spans spans;
    Loquat__Item item;
    s->looked = place->mid;
    if (!match_record(&s->query, &place->record))
        return 0;
    arena_reset(&s->scratch);
    int err = find_fold(s, place);
    if (err == 0)
        err = read_fold(s, place, &s->scratch, &item);
    place_speak(s, place);
    if (err != 0 || !text_fits(s, &place->record, &item, &spans))
        return err;
    err = read_fold(s, place, s->arena, &item);
    if (err == 0)
        give_hit(s, place, &item, &spans);
    return err;
}

/* ---- all of it ---- */

static int take_places(struct search *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->read->n_convs; i++) {
        char *conv = s->read->convs[i];
        if (strlen(conv) > CONV_ID_MAX)
            return ERR_BAD_REQUEST;
        s->places[i] = (struct place){.conv = conv, .id = conv_id_of(span_str(conv)), .lang = ""};
    }
    qsort(s->places, s->read->n_convs, sizeof *s->places, place_by_id);
    for (size_t i = 0; i < s->read->n_convs; i++)
        if (n == 0 || place_by_id(&s->places[n - 1], &s->places[i]) != 0) /* else named twice */
            s->places[n++] = s->places[i];
    s->place_count = n;
    return 0;
}

static int read_rows(struct search *s)
{
    struct conv_id *ids = arena_alloc(s->arena, s->place_count * sizeof *ids);
    struct index_conv *rows = arena_alloc(s->arena, s->place_count * sizeof *rows);
    for (size_t i = 0; i < s->place_count; i++)
        ids[i] = s->places[i].id;
    int err = search_of_index(s, index_convs(s->index, s->partition, ids, s->place_count, rows));
    for (size_t i = 0; i < s->place_count && err == 0; i++) {
        s->places[i].row = rows[i];
        if (rows[i].through > 0)
            s->places[i].lang = s->places[i].row.lang;
    }
    return err;
}

/* Anybody can name one conversation: how long it takes must not say what is in it. And where the
 * index has not got all, that has to be said. */
static int see_some(struct search *s)
{
    int err = 0;
    for (size_t i = 0; i < s->place_count && err == 0; i++)
        if (s->place_count == 1 || s->places[i].row.changing || s->places[i].row.off)
            err = place_see(s, &s->places[i]);
    return err;
}

static bool is_enough(const struct search *s)
{
    return s->reply->n_hits == s->hits_max ||
           (s->looked != UINT64_MAX && s->visits >= SEARCH_VISITS_MAX + s->place_count);
}

static int walk(struct search *s)
{
    int err = begin_heap(s);
    while (err == 0 && s->heap_count > 0 && !is_enough(s)) {
        if (s->heap[0]->seq != 0)
            err = look_at(s, s->heap[0]);
        if (err == 0)
            err = move_top(s);
    }
    if (err == 0 && s->heap_count > 0)
        s->reply->next = s->heap[0]->mid < s->looked ? s->heap[0]->mid + 1 : s->looked;
    return err;
}

static int run(struct search *s)
{
    uint64_t fed = 0;
    int err = take_places(s);
    if (err != 0 || s->place_count == 0)
        return err;
    if (s->index != NULL)
        err = search_of_index(s, index_fed(s->index, s->partition, &fed));
    if (err == 0 && s->index != NULL)
        err = read_rows(s);
    kv_view_open(&s->view, s->data); /* behind it: what the index has, this has */
    if (err == 0)
        err = see_some(s);
    if (err == 0)
        err = place_find_tails(s, fed);
    if (err == 0)
        err = walk(s);
    kv_view_close(&s->view);
    return err;
}

static int look(struct kv *data, struct kv *index, uint32_t partition, const Loquat__Read *read,
                uint64_t now_ms, struct arena *arena, Loquat__Reply *reply, bool *damaged)
{
    struct need needs[NEEDS_MAX]; /* many bytes, of which few are used */
    struct search *s = xcalloc(1, sizeof *s);
    *s = (struct search){.data = data,
                         .index = index,
                         .partition = partition,
                         .read = read,
                         .now_ms = now_ms,
                         .below = read->from != 0 ? read->from : UINT64_MAX,
                         .looked = UINT64_MAX,
                         .arena = arena,
                         .reply = reply};
    s->hits_max = read->max > 0 && read->max < SEARCH_HITS_MAX ? read->max : SEARCH_HITS_MAX;
    s->places = xcalloc(read->n_convs + 1, sizeof *s->places);
    s->heap = xcalloc(read->n_convs + 1, sizeof(void *));
    reply->hits = arena_alloc(arena, s->hits_max * sizeof(void *));
    arena_init(&s->scratch);
    content_open(&s->content, 0);
    query_open(&s->query, read->search, span_str(read->user));
    s->needs = needs;
    int err = query_is_empty(&s->query) ? 0 : run(s);
    for (size_t i = 0; i < s->place_count; i++) {
        free(s->places[i].tail);
        posting_set_close(&s->places[i].set);
        buf_close(&s->places[i].message);
    }
    query_close(&s->query);
    content_close(&s->content);
    arena_close(&s->scratch);
    posting_set_close(&s->other);
    buf_close(&s->room);
    buf_close(&s->fold);
    free(s->places);
    free(s->heap);
    *damaged = s->damaged;
    free(s);
    if (err != 0) {
        reply->n_hits = 0;
        reply->next = reply->behind = 0;
        reply->partial = false;
    }
    return err;
}

int search_read(struct kv *data, struct kv *index, uint32_t partition, const Loquat__Read *read,
                uint64_t now_ms, struct arena *arena, Loquat__Reply *reply, bool *damaged)
{
    bool no;
    *damaged = false;
    if (read->search == NULL || read->n_convs > SEARCH_CONVS_MAX || strlen(read->user) > USER_MAX)
        return ERR_BAD_REQUEST;
    int err = look(data, index, partition, read, now_ms, arena, reply, damaged);
    return *damaged ? look(data, NULL, partition, read, now_ms, arena, reply, &no) : err;
}
