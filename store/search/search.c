#include "store/search/search.h"

#include <stdlib.h>

#include "store/access.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/map.h"
#include "store/feedlog.h"
#include "store/key.h"
#include "store/search/content.h"
#include "store/search/index.h"
#include "store/search/match.h"

enum { SEQS_OF_TAIL_FIRST = 16 };

/* One conversation, and how far down it was looked at. */
struct place {
    char *conv;
    struct access access;
    struct index_conv row;
    const char *lang;
    uint64_t *tail; /* messages to be looked at beside the index, falling */
    size_t tail_count, tail_cap, tail_at;
    uint32_t segment; /* that `set` is of */
    bool begun;
    struct posting_set set;
    size_t left;       /* of the set: those before it were not looked at yet */
    uint64_t seq, mid; /* the next one; seq 0: there is none */
};

struct search {
    struct kv *data, *index;
    uint32_t partition;
    const Loquat__Read *read;
    uint64_t now_ms, below;
    struct arena *arena;
    Loquat__Reply *reply;
    struct kv_view view;
    struct query query;
    const char *lang; /* that query and needs are prepared for */
    struct need *needs;
    size_t need_count;
    struct posting_set other;
    struct place *places, **heap; /* heap: those with a next one, newest at the top */
    size_t place_count, heap_count;
    struct map by_conv; /* → struct place */
    struct content content;
    struct arena scratch;
    struct buf row, room, fold;
    size_t visits, hits_max;
    bool damaged; /* the index */
};

/* What an error of the index is. */
static int of_index(struct search *s, int err)
{
    s->damaged |= err == ERR_CORRUPT;
    return err;
}

/* ---- what the index has not got ---- */

static void tail_add(struct place *place, uint64_t seq)
{
    if (place->tail_count == place->tail_cap) {
        place->tail_cap = place->tail_cap == 0 ? SEQS_OF_TAIL_FIRST : place->tail_cap * 2;
        place->tail = xrealloc(place->tail, place->tail_cap * sizeof *place->tail);
    }
    place->tail[place->tail_count++] = seq;
}

/* A message, or the one that an edit is of. */
static int tail_record(struct search *s, struct place *place, uint64_t seq)
{
    struct key key = key_seq(s->partition, place->access.id, seq);
    struct record_view record;
    int err = kv_view_get(&s->view, KV_LOG, key_span(&key), &s->row);
    if (err == 0)
        err = record_view(buf_span(&s->row), &record);
    if (err == 0 && kind_is_message(record.kind))
        tail_add(place, seq);
    else if (err == 0 && record.kind == LOQUAT__KIND__KIND_EDIT)
        tail_add(place, record.target);
    return err == ERR_NOT_FOUND ? 0 : err;
}

static int tail_run(struct search *s, const struct feedlog_run *run, size_t *looked)
{
    union map_val *val = map_get(&s->by_conv, (struct map_key){run->conv.hi, run->conv.lo});
    int err = 0;
    s->reply->behind += run->count;
    if (val == NULL)
        return 0;
    struct place *place = val->p;
    for (uint64_t i = run->count; i > 0 && err == 0 && *looked < SEARCH_TAIL_MAX; i--) {
        uint64_t seq = run->first + i - 1;
        if (seq <= place->row.through)
            continue;
        err = tail_record(s, place, seq);
        ++*looked;
    }
    return err;
}

static int falling(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x > *y ? -1 : *x < *y;
}

/* From the newest entry of the feed down to where the index goes. */
static int find_tails(struct search *s, uint64_t fed)
{
    struct key from = key_number(s->partition, fed + 1);
    struct key until = key_number(s->partition, UINT64_MAX);
    struct kv_iter iter;
    size_t looked = 0;
    bool cut = false;
    int err = 0;
    kv_iter_open(&iter, s->data, &s->view, KV_FEED, key_span(&from), key_span(&until));
    for (kv_iter_last(&iter); err == 0 && kv_iter_valid(&iter); kv_iter_prev(&iter)) {
        if (looked >= SEARCH_TAIL_MAX || s->reply->behind >= FEEDLOG_LAG_MAX) {
            cut = true;
            break;
        }
        struct span row = kv_iter_value(&iter);
        while (err == 0 && row.n > 0) {
            struct feedlog_run run;
            err = feedlog_run(&row, &run);
            if (err == 0)
                err = tail_run(s, &run, &looked);
        }
    }
    if (err == 0 && !cut)
        err = kv_iter_error(&iter);
    s->reply->partial |= cut;
    kv_iter_close(&iter);
    for (size_t i = 0; i < s->place_count; i++)
        if (s->places[i].tail_count > 0)
            qsort(s->places[i].tail, s->places[i].tail_count, sizeof(uint64_t), falling);
    return err;
}

/* ---- which may be it, segment by segment ---- */

static int find_need(struct search *s, const struct place *place, const struct need *need,
                     struct posting_set *set)
{
    struct conv_id id = place->access.id;
    int err = 0;
    posting_set_clear(set);
    if (need->kind == NEED_RANGE)
        err = index_find_range(s->index, s->partition, id, place->segment,
                               term_span(&need->terms[0]), term_span(&need->terms[1]), set);
    for (size_t i = 0; i < need->count && err == 0 && need->kind != NEED_RANGE; i++) {
        struct span term = term_span(&need->terms[i]);
        err = need->kind == NEED_PREFIX
                  ? index_find_prefix(s->index, s->partition, id, place->segment, term, set)
                  : index_find(s->index, s->partition, id, place->segment, term, set);
    }
    posting_set_finish(set);
    return of_index(s, err);
}

/* What is looked for is found by the stems of the conversation's language. */
static void speak(struct search *s, const struct place *place)
{
    if (s->lang != NULL && strcmp(s->lang, place->lang) == 0)
        return;
    s->lang = place->lang;
    query_prepare(&s->query, s->content.stemmer, s->lang);
    s->need_count = query_needs(&s->query, s->needs);
}

/* Nothing is needed: every message may be it. */
static void take_all(struct place *place)
{
    uint64_t first = (uint64_t)place->segment << SEGMENT_BITS;
    for (uint64_t i = 0; i < SEGMENT_SIZE && first + i <= place->row.through; i++)
        posting_set_add_place(&place->set, (uint16_t)i);
}

static void add_tail(struct place *place)
{
    size_t at = place->tail_at;
    while (at < place->tail_count && place->tail[at] >> SEGMENT_BITS == place->segment)
        at++;
    for (size_t i = at; i > place->tail_at; i--) /* rising */
        posting_set_add_place(&place->set, (uint16_t)place->tail[i - 1]);
    place->tail_at = at;
    posting_set_finish(&place->set);
}

static int load_segment(struct search *s, struct place *place)
{
    int err = 0;
    speak(s, place);
    posting_set_clear(&place->set);
    if (s->index != NULL && s->need_count == 0)
        take_all(place);
    for (size_t i = 0; s->index != NULL && i < s->need_count && err == 0; i++) {
        err = find_need(s, place, &s->needs[i], i == 0 ? &place->set : &s->other);
        if (i > 0)
            posting_set_and(&place->set, &s->other);
        if (place->set.count == 0)
            break;
    }
    add_tail(place);
    place->left = place->set.count;
    return err;
}

/* The mid of a message that is there for this reader; *mid 0: it is not. */
static int find_mid(struct search *s, const struct place *place, uint64_t seq, uint64_t *mid)
{
    struct record_view record;
    *mid = 0;
    s->visits++;
    int err = access_message(&place->access, seq, s->now_ms, &s->row, &record);
    if (err == 0)
        *mid = record_mid(record.ts, record.mid_off, s->partition);
    return err == ERR_NOT_FOUND ? 0 : err;
}

/* Leaves out those of the segment that are not below: mids rise with sequences. */
static int skip_newer(struct search *s, struct place *place)
{
    size_t low = 0, high = place->left; /* before `low`: below, or not there; from `high`: not */
    uint64_t first = (uint64_t)place->segment << SEGMENT_BITS, mid = 0;
    int err = 0;
    while (low < high && err == 0) {
        size_t middle = low + (high - low) / 2, at = middle;
        for (mid = 0; at < high && mid == 0 && err == 0; at++)
            err = find_mid(s, place, first + place->set.places[at], &mid);
        if (mid == 0 || mid >= s->below) /* 0: none of [middle, high) is there */
            high = middle;
        else
            low = at;
    }
    place->left = low;
    return err;
}

static bool next_segment(struct place *place)
{
    uint64_t low =
        place->access.floor > place->access.since ? place->access.floor : place->access.since;
    if (!place->begun) {
        uint64_t top = place->tail_count > 0 && place->tail[0] > place->row.through
                           ? place->tail[0]
                           : place->row.through;
        place->begun = true;
        place->segment = (uint32_t)(top >> SEGMENT_BITS);
        return top >= low && top > 0;
    }
    if (place->segment <= low >> SEGMENT_BITS)
        return false;
    place->segment--;
    return true;
}

/* The next one down that is there, as place->seq and mid. */
static int advance(struct search *s, struct place *place)
{
    int err = 0;
    place->seq = place->mid = 0;
    while (err == 0) {
        while (place->left > 0 && err == 0) {
            uint64_t seq =
                ((uint64_t)place->segment << SEGMENT_BITS) + place->set.places[--place->left];
            err = find_mid(s, place, seq, &place->mid);
            if (err == 0 && place->mid != 0) {
                place->seq = seq;
                return 0;
            }
        }
        if (err != 0 || !next_segment(place))
            return err;
        err = load_segment(s, place);
        if (err == 0 && s->below != UINT64_MAX)
            err = skip_newer(s, place);
    }
    return err;
}

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

static int begin_heap(struct search *s)
{
    int err = 0;
    for (size_t i = 0; i < s->place_count && err == 0; i++) {
        err = advance(s, &s->places[i]);
        if (s->places[i].seq != 0)
            s->heap[s->heap_count++] = &s->places[i];
    }
    for (size_t i = s->heap_count; i > 0; i--)
        sift_down(s, i - 1);
    return err;
}

static int move_top(struct search *s)
{
    int err = advance(s, s->heap[0]);
    if (s->heap[0]->seq == 0)
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
    hit->item->record.len = s->row.n;
    hit->item->record.data = arena_copy(s->arena, s->row.p, s->row.n);
    hit->n_spans = spans->count;
    hit->spans = arena_copy(s->arena, spans->at, spans->count * sizeof spans->at[0]);
    s->reply->hits[s->reply->n_hits++] = hit;
}

static int find_fold(struct search *s, const struct place *place, struct arena *arena,
                     Loquat__Item *item)
{
    struct key key = key_seq(s->partition, place->access.id, place->seq);
    int err = kv_view_get(&s->view, KV_FOLD, key_span(&key), &s->fold);
    if (err == 0)
        err = access_fold(&place->access, place->seq, buf_span(&s->fold), arena, &s->room, item);
    return err == ERR_NOT_FOUND ? 0 : err;
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
    struct record_view record;
    struct match_spans spans;
    Loquat__Item item = LOQUAT__ITEM__INIT;
    int err = access_message(&place->access, place->seq, s->now_ms, &s->row, &record);
    if (err != 0)
        return err == ERR_NOT_FOUND ? 0 : err;
    if (!match_record(&s->query, &record))
        return 0;
    arena_reset(&s->scratch);
    err = find_fold(s, place, &s->scratch, &item);
    speak(s, place);
    if (err != 0 || !text_fits(s, &record, &item, &spans))
        return err;
    loquat__item__init(&item);
    err = find_fold(s, place, s->arena, &item);
    if (err == 0)
        give_hit(s, place, &item, &spans);
    return err;
}

/* ---- all of it ---- */

static bool is_with(const Loquat__ConvHeader *header, struct span user)
{
    return header->kind == LOQUAT__CONV_KIND__CONV_DIRECT &&
           (span_is(user, header->user_a) || span_is(user, header->user_b));
}

static bool is_in(struct search *s, const struct access *access)
{
    struct span name = span_str(access->header->name);
    for (size_t i = 0; i < s->query.in_count; i++)
        if (span_is(s->query.in[i], access->header->id) ||
            is_with(access->header, s->query.in[i]) ||
            match_name(&s->content.text, name, s->query.in[i]))
            return true;
    return s->query.in_count == 0;
}

static int take_place(struct search *s, char *conv)
{
    struct place *place = &s->places[s->place_count];
    bool fresh;
    *place = (struct place){.conv = conv};
    if (strlen(conv) > CONV_ID_MAX)
        return ERR_BAD_REQUEST;
    int err = access_find(&place->access, &s->view, s->partition, conv, s->read->user, s->read->all,
                          s->arena, &s->room);
    if (err == ERR_NOT_FOUND ||
        (err == 0 && (place->access.header->search_off || !is_in(s, &place->access))))
        return 0;
    if (err == 0 && s->index != NULL)
        err = of_index(s, index_conv(s->index, s->partition, place->access.id, &place->row));
    if (err != 0)
        return err;
    const char *lang = place->access.header->lang;
    place->lang = place->row.through > 0 ? place->row.lang : lang;
    s->reply->partial |= place->row.changing || place->row.off || strcmp(place->lang, lang) != 0;
    union map_val *val =
        map_put(&s->by_conv, (struct map_key){place->access.id.hi, place->access.id.lo}, &fresh);
    if (!fresh)
        return 0; /* named twice */
    val->p = place;
    s->place_count++;
    return 0;
}

static int run(struct search *s)
{
    uint64_t fed = 0;
    int err = s->index != NULL ? of_index(s, index_fed(s->index, s->partition, &fed)) : 0;
    kv_view_open(&s->view, s->data); /* behind it: what the index has, this has */
    for (size_t i = 0; i < s->read->n_convs && err == 0; i++)
        err = take_place(s, s->read->convs[i]);
    if (err == 0 && s->place_count > 0)
        err = find_tails(s, fed);
    if (err == 0)
        err = begin_heap(s);
    while (err == 0 && s->heap_count > 0 && s->reply->n_hits < s->hits_max &&
           s->visits < SEARCH_VISITS_MAX + s->place_count) {
        err = look_at(s, s->heap[0]);
        if (err == 0)
            err = move_top(s);
    }
    if (err == 0 && s->heap_count > 0)
        s->reply->next = s->heap[0]->mid + 1;
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
                         .arena = arena,
                         .reply = reply};
    s->hits_max = read->max > 0 && read->max < SEARCH_HITS_MAX ? read->max : SEARCH_HITS_MAX;
    s->places = xcalloc(read->n_convs + 1, sizeof *s->places);
    s->heap = xcalloc(read->n_convs + 1, sizeof(void *));
    reply->hits = arena_alloc(arena, s->hits_max * sizeof(void *));
    map_init(&s->by_conv);
    arena_init(&s->scratch);
    content_open(&s->content);
    query_open(&s->query, read->search, span_str(read->user));
    s->needs = needs;
    int err = query_is_empty(&s->query) ? 0 : run(s);
    for (size_t i = 0; i < s->place_count; i++) {
        free(s->places[i].tail);
        posting_set_close(&s->places[i].set);
    }
    query_close(&s->query);
    content_close(&s->content);
    arena_close(&s->scratch);
    map_close(&s->by_conv);
    posting_set_close(&s->other);
    buf_close(&s->row);
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
