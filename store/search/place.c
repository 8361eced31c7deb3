#include "store/search/place.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/feedlog.h"
#include "store/key.h"
#include "store/search/search.h"

enum { SEQS_OF_TAIL_FIRST = 16 };

/* ---- whether it may be read ---- */

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

/* What the user sees of it. Where that is nothing, no sequence is high enough. */
int place_see(struct search *s, struct place *place)
{
    if (place->seen)
        return 0;
    place->seen = true;
    int err = access_find(&place->access, &s->view, s->partition, place->conv, s->read->user,
                          s->read->all, s->arena, &s->room);
    const Loquat__ConvHeader *header = place->access.header;
    if (err == ERR_NOT_FOUND || (err == 0 && (header->search_off || !is_in(s, &place->access)))) {
        place->access.since = UINT64_MAX;
        place->left = 0;
        return 0;
    }
    if (err != 0)
        return err;
    if (place->row.through == 0)
        place->lang = header->lang;
    s->reply->partial |=
        place->row.changing || place->row.off || strcmp(place->lang, header->lang) != 0;
    return 0;
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
    struct key key = key_seq(s->partition, place->id, seq);
    struct record_view record;
    int err = kv_view_get(&s->view, KV_LOG, key_span(&key), &s->room);
    if (err == 0)
        err = record_view(buf_span(&s->room), &record);
    if (err == 0 && kind_is_message(record.kind))
        tail_add(place, seq);
    else if (err == 0 && record.kind == LOQUAT__KIND__KIND_EDIT)
        tail_add(place, record.target);
    return err == ERR_NOT_FOUND ? 0 : err;
}

int place_by_id(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return conv_id_cmp(x->id, y->id);
}

/* What the user does not see is not looked at: nothing shows that it is there. */
static int tail_run(struct search *s, const struct feedlog_run *run, size_t *looked)
{
    struct place sought = {.id = run->conv};
    struct place *place = bsearch(&sought, s->places, s->place_count, sizeof sought, place_by_id);
    uint64_t seq = run->first + run->count - 1;
    s->reply->behind += run->count;
    if (place == NULL || seq <= place->row.through)
        return 0;
    int err = place_see(s, place);
    if (err != 0 || place->access.since == UINT64_MAX)
        return err;
    for (; err == 0 && seq >= run->first && seq > place->row.through; seq--) {
        if (*looked == SEARCH_TAIL_MAX) {
            s->reply->partial = true;
            return 0;
        }
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
int place_find_tails(struct search *s, uint64_t fed)
{
    struct key from = key_number(s->partition, fed + 1);
    struct key until = key_number(s->partition, UINT64_MAX);
    struct kv_iter iter;
    size_t looked = 0;
    bool cut = false;
    int err = 0;
    kv_iter_open(&iter, s->data, &s->view, KV_FEED, key_span(&from), key_span(&until));
    kv_iter_first(&iter);
    if (kv_iter_valid(&iter)) /* else the index has all, which costs half as much to find */
        kv_iter_last(&iter);
    for (; err == 0 && kv_iter_valid(&iter); kv_iter_prev(&iter)) {
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
    struct conv_id id = place->id;
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
    return search_of_index(s, err);
}

/* What is looked for is found by the stems of the conversation's language. */
void place_speak(struct search *s, const struct place *place)
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
    uint64_t first = (uint64_t)place->segment << SEGMENT_BITS, through = place->row.through;
    int err = 0;
    place_speak(s, place);
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
    /* What has come into the index since is in the tail, and no mid of the row is above it. */
    while (place->set.count > 0 && first + place->set.places[place->set.count - 1] > through)
        place->set.count--;
    add_tail(place);
    place->left = place->set.count;
    return err;
}

/* The mid of a message that is there for this reader, and its row; *mid 0: it is not. */
static int find_mid(struct search *s, struct place *place, uint64_t seq, uint64_t *mid)
{
    *mid = 0;
    s->visits++;
    int err = access_message(&place->access, seq, s->now_ms, &place->message, &place->record);
    if (err == 0)
        *mid = record_mid(place->record.ts, place->record.mid_off, s->partition);
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

/* ---- from one to the next ---- */

/* To the next segment down that may have something. ERR_NOT_FOUND: there is none. */
static int next_segment(struct search *s, struct place *place)
{
    uint64_t top = place->row.through;
    int err = 0;
    if (place->tail_count > 0 && place->tail[0] > top)
        top = place->tail[0];
    if (place->begun) {
        if (place->segment == 0)
            return ERR_NOT_FOUND;
        err = place_see(s, place); /* before more is looked into */
        top = ((uint64_t)place->segment << SEGMENT_BITS) - 1;
    }
    uint64_t low =
        place->access.floor > place->access.since ? place->access.floor : place->access.since;
    place->begun = true;
    place->segment = (uint32_t)(top >> SEGMENT_BITS);
    return err != 0 ? err : top < low || top == 0 ? ERR_NOT_FOUND : 0;
}

/* The next one down that is there, as place->seq and mid. */
int place_advance(struct search *s, struct place *place)
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
        if (err == 0)
            err = next_segment(s, place);
        if (err == 0)
            err = load_segment(s, place);
        if (err == 0 && place->left > 0)
            err = place_see(s, place); /* most have nothing, and need not be asked */
        if (err == 0 && s->below != UINT64_MAX)
            err = skip_newer(s, place);
    }
    return err == ERR_NOT_FOUND ? 0 : err;
}
