#include "store/timeline.h"

#include "store/access.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/hidden.h"
#include "store/key.h"

enum { REACTION_BYTES = 64 }; /* of one, in a page */
enum { VISIT_MAX = 20000 };   /* rows looked at for one page: long runs of holes end it too */

struct reader {
    struct kv *kv;
    uint32_t partition;
    const Loquat__Read *read;
    uint64_t now_ms;
    struct arena *arena;
    Loquat__Reply *reply;
    struct conv_id id;
    uint64_t head, floor, since;
    bool hides; /* the reader has hidden some */
    struct kv_view view;
    struct access access;
    struct kv_iter fold;
    bool fold_open, fold_placed, fold_ended; /* ended: no fold lies further on */
    size_t items_cap, visited, records;
    size_t bytes, bytes_max, records_max;
    struct buf value;
};

/* ---- the page ---- */

static Loquat__Item *push(struct reader *r)
{
    if (r->reply->n_items == r->items_cap) {
        size_t cap = r->items_cap == 0 ? 64 : r->items_cap * 2;
        Loquat__Item **grown = arena_alloc(r->arena, cap * sizeof(void *));
        if (r->reply->n_items > 0)
            memcpy(grown, r->reply->items, r->reply->n_items * sizeof(void *));
        r->reply->items = grown;
        r->items_cap = cap;
    }
    Loquat__Item *item = arena_alloc(r->arena, sizeof *item);
    *item = (Loquat__Item)LOQUAT__ITEM__INIT;
    r->reply->items[r->reply->n_items++] = item;
    return item;
}

/* Adjacent holes of one kind are one hole. */
static void push_hole(struct reader *r, uint64_t first, uint64_t last, uint32_t why)
{
    if (first > last)
        return;
    if (r->reply->n_items > 0) {
        Loquat__Item *before = r->reply->items[r->reply->n_items - 1];
        if (before->hole == why && before->last + 1 == first) {
            before->last = last;
            return;
        }
        if (before->hole == why && last + 1 == before->seq) {
            before->seq = first;
            return;
        }
    }
    Loquat__Item *item = push(r);
    item->seq = first;
    item->last = last;
    item->hole = why;
    r->bytes += 40;
}

static bool full(const struct reader *r)
{
    return r->records >= r->records_max || r->bytes >= r->bytes_max || r->visited >= VISIT_MAX;
}

/* ---- folds, beside the log and in its order ---- */

static int find_fold(struct reader *r, uint64_t seq, Loquat__Item *item)
{
    if (r->fold_ended)
        return 0;
    struct key key = key_seq(r->partition, r->id, seq);
    if (!r->fold_open) {
        struct key from = key_seq(r->partition, r->id, 0);
        struct key until = key_seq(r->partition, r->id, UINT64_MAX);
        kv_iter_open(&r->fold, r->kv, &r->view, KV_FOLD, key_span(&from), key_span(&until));
        r->fold_open = true;
    }
    if (!r->fold_placed) {
        if (r->read->desc)
            kv_iter_seek_back(&r->fold, key_span(&key));
        else
            kv_iter_seek(&r->fold, key_span(&key));
        r->fold_placed = true;
    }
    while (kv_iter_valid(&r->fold)) {
        uint64_t at = get_be64(kv_iter_key(&r->fold).p + KEY_CONV_SIZE);
        if (at == seq)
            break;
        if (r->read->desc ? at < seq : at > seq)
            return 0;
        if (r->read->desc)
            kv_iter_prev(&r->fold);
        else
            kv_iter_next(&r->fold);
    }
    r->fold_ended = !kv_iter_valid(&r->fold);
    if (r->fold_ended)
        return kv_iter_error(&r->fold);
    int err = access_fold(&r->access, seq, kv_iter_value(&r->fold), r->arena, &r->value, item);
    r->bytes += item->body.len + item->n_reactions * REACTION_BYTES;
    return err;
}

/* ---- one row ---- */

static int take_row(struct reader *r, uint64_t seq, struct span value)
{
    struct record_view record;
    int err = record_view(value, &record);
    if (err != 0)
        return err;
    r->visited++;
    uint32_t hole = record_hole(&record, r->now_ms);
    bool message = kind_is_message(record.kind), hidden = false;
    if (r->hides && hole == LOQUAT__HOLE__HOLE_NONE && (message || record.target != 0))
        err = hidden_has(r->kv, &r->view, r->partition, r->id, span_str(r->read->user),
                         message ? seq : record.target, &hidden);
    if (err != 0)
        return err;
    if (hidden)
        hole = LOQUAT__HOLE__HOLE_HIDDEN;
    if (hole != LOQUAT__HOLE__HOLE_NONE) {
        if (message || !r->read->folded)
            push_hole(r, seq, seq, hole);
        return 0;
    }
    if (r->read->folded && !message)
        return 0;
    Loquat__Item *item = push(r);
    item->seq = seq;
    item->record.len = value.n;
    item->record.data = arena_copy(r->arena, value.p, value.n);
    r->records++;
    r->bytes += value.n + 64;
    return r->read->folded ? find_fold(r, seq, item) : 0;
}

/* ---- both directions ---- */

static void low_holes(struct reader *r, uint64_t first, uint64_t last)
{
    uint64_t trimmed = last < r->floor ? last : r->floor - 1;
    uint64_t hidden_from = first > r->floor ? first : r->floor;
    uint64_t hidden = last < r->since ? last : r->since - 1;
    if (r->read->desc) {
        push_hole(r, hidden_from, hidden, LOQUAT__HOLE__HOLE_HIDDEN);
        push_hole(r, first, trimmed, LOQUAT__HOLE__HOLE_TRIMMED);
    } else {
        push_hole(r, first, trimmed, LOQUAT__HOLE__HOLE_TRIMMED);
        push_hole(r, hidden_from, hidden, LOQUAT__HOLE__HOLE_HIDDEN);
    }
}

/* Up from `at` to `until` (exclusive). reply->next: where to go on, 0 at the end. */
static int read_up(struct reader *r, struct kv_iter *iter, uint64_t at, uint64_t until)
{
    uint64_t low = r->since > r->floor ? r->since : r->floor;
    if (at < low && at < until) {
        uint64_t last = low < until ? low - 1 : until - 1;
        low_holes(r, at, last);
        at = last + 1;
    }
    struct key key = key_seq(r->partition, r->id, at);
    int err = 0;
    for (kv_iter_seek(iter, key_span(&key)); err == 0 && at < until; kv_iter_next(iter)) {
        uint64_t seq = until;
        if (kv_iter_valid(iter))
            seq = get_be64(kv_iter_key(iter).p + KEY_CONV_SIZE);
        else
            err = kv_iter_error(iter);
        if (err != 0)
            break;
        if (seq > at) {
            uint64_t gap_end = seq < until ? seq : until;
            push_hole(r, at, gap_end - 1, LOQUAT__HOLE__HOLE_COMPACTED);
            at = gap_end;
        }
        if (seq >= until || full(r))
            break;
        err = take_row(r, seq, kv_iter_value(iter));
        at = seq + 1;
    }
    r->reply->next = at < until ? at : 0;
    return err;
}

/* Down from `at` to `until` (exclusive). */
static int read_down(struct reader *r, struct kv_iter *iter, uint64_t at, uint64_t until)
{
    uint64_t low = r->since > r->floor ? r->since : r->floor;
    uint64_t stop = until + 1 > low ? until : low - 1; /* rows of (stop, at] are looked at */
    if (stop > at)
        stop = at; /* all of it lies below what is kept */
    struct key key = key_seq(r->partition, r->id, at);
    int err = 0;
    for (kv_iter_seek_back(iter, key_span(&key)); err == 0 && at > stop; kv_iter_prev(iter)) {
        uint64_t seq = stop;
        if (kv_iter_valid(iter))
            seq = get_be64(kv_iter_key(iter).p + KEY_CONV_SIZE);
        else
            err = kv_iter_error(iter);
        if (err != 0)
            break;
        if (seq < at) {
            uint64_t gap_end = seq > stop ? seq : stop;
            push_hole(r, gap_end + 1, at, LOQUAT__HOLE__HOLE_COMPACTED);
            at = gap_end;
        }
        if (seq <= stop || full(r))
            break;
        err = take_row(r, seq, kv_iter_value(iter));
        at = seq - 1;
    }
    if (err == 0 && at == stop && stop > until) {
        low_holes(r, until + 1, stop);
        at = until;
    }
    r->reply->next = at > until ? at : 0;
    return err;
}

/* ---- one thread: its messages only, by its rows; no holes of others between them ---- */

static int take_threaded(struct reader *r, uint64_t seq)
{
    struct key key = key_seq(r->partition, r->id, seq);
    struct buf row = {0};
    int err = kv_view_get(&r->view, KV_LOG, key_span(&key), &row);
    if (err == 0)
        err = take_row(r, seq, buf_span(&row));
    buf_close(&row);
    return err == ERR_NOT_FOUND ? 0 : err; /* trimmed */
}

/* From `first` to `last`, both inclusive, in the order of the read. */
static int read_thread(struct reader *r, uint64_t first, uint64_t last)
{
    uint64_t root = r->read->thread, low = r->since > r->floor ? r->since : r->floor;
    struct key from = key_thread(r->partition, r->id, root, first > low ? first : low);
    struct key until = key_thread(r->partition, r->id, root, last + 1);
    struct kv_iter iter;
    int err = 0;
    if (root < low || first > last)
        return 0;
    kv_iter_open(&iter, r->kv, &r->view, KV_CONV, key_span(&from), key_span(&until));
    if (r->read->desc)
        kv_iter_last(&iter);
    else
        kv_iter_first(&iter);
    while (err == 0 && kv_iter_valid(&iter)) {
        struct span key = kv_iter_key(&iter);
        uint64_t seq = get_be64(key.p + key.n - 8);
        if (full(r)) {
            r->reply->next = seq;
            break;
        }
        err = take_threaded(r, seq);
        if (r->read->desc)
            kv_iter_prev(&iter);
        else
            kv_iter_next(&iter);
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

/* ---- who may read what ---- */

static int find_conv(struct reader *r)
{
    int err = access_find(&r->access, &r->view, r->partition, r->read->conv, r->read->user,
                          r->read->all, r->arena, &r->value);
    if (err != 0)
        return err;
    r->floor = r->access.floor;
    r->since = r->access.since;
    r->hides = r->access.hides;
    r->head = r->access.header->head;
    return 0;
}

static size_t bytes_max(const Loquat__Read *read)
{
    return read->bytes_max > 0 && read->bytes_max < TIMELINE_BYTES_MAX ? read->bytes_max
                                                                       : TIMELINE_BYTES_MAX;
}

/* The last row has it, unless all were trimmed. */
static int find_head(struct reader *r, struct kv_iter *iter)
{
    kv_iter_last(iter);
    if (!kv_iter_valid(iter))
        return kv_iter_error(iter);
    uint64_t last = get_be64(kv_iter_key(iter).p + KEY_CONV_SIZE);
    r->head = last > r->head ? last : r->head;
    return 0;
}

static int read_page(struct reader *r)
{
    int err = find_conv(r);
    if (err != 0)
        return err;
    struct key from = key_seq(r->partition, r->id, 0);
    struct key until = key_seq(r->partition, r->id, UINT64_MAX);
    struct kv_iter iter;
    if (r->read->scan)
        kv_iter_open_scan(&iter, r->kv, &r->view, KV_LOG, key_span(&from), key_span(&until));
    else
        kv_iter_open(&iter, r->kv, &r->view, KV_LOG, key_span(&from), key_span(&until));
    const Loquat__Read *read = r->read;
    if (read->scan && read->to != 0 && !read->desc && r->head >= read->seen)
        r->head = read->to - 1 > r->head ? read->to - 1 : r->head;
    else
        err = find_head(r, &iter);
    if (err == 0 && r->head < read->seen)
        err = ERR_NOT_LEADER;
    r->reply->head = r->head;
    r->reply->floor = r->floor;
    if (err == 0 && read->desc) {
        uint64_t at = read->from == 0 || read->from > r->head ? r->head : read->from;
        if (read->thread != 0)
            err = read_thread(r, read->to + 1, at);
        else
            err = at > read->to ? read_down(r, &iter, at, read->to) : 0;
    } else if (err == 0) {
        uint64_t end = read->to == 0 || read->to > r->head ? r->head + 1 : read->to;
        uint64_t at = read->from == 0 ? 1 : read->from;
        if (read->thread != 0)
            err = read_thread(r, at, end - 1);
        else
            err = at < end ? read_up(r, &iter, at, end) : 0;
    }
    kv_iter_close(&iter);
    return err;
}

static size_t records_max(const Loquat__Read *read)
{
    if (read->max == 0)
        return TIMELINE_RECORDS_MAX;
    return read->max < TIMELINE_RECORDS_MOST ? read->max : TIMELINE_RECORDS_MOST;
}

int timeline_read(struct kv *kv, uint32_t partition, const Loquat__Read *read, uint64_t now_ms,
                  struct arena *arena, Loquat__Reply *reply)
{
    if (strlen(read->conv) > CONV_ID_MAX || strlen(read->user) > USER_MAX)
        return ERR_BAD_REQUEST;
    struct reader r = {
        .kv = kv,
        .partition = partition,
        .read = read,
        .now_ms = now_ms,
        .arena = arena,
        .reply = reply,
        .id = conv_id_of(span_str(read->conv)),
        .records_max = records_max(read),
        .bytes_max = bytes_max(read),
    };
    kv_view_open(&r.view, kv);
    int err = read_page(&r);
    if (r.fold_open)
        kv_iter_close(&r.fold);
    kv_view_close(&r.view);
    buf_close(&r.value);
    if (err != 0)
        reply->n_items = 0;
    return err;
}

int timeline_read_user(struct kv *kv, uint32_t partition, const Loquat__Read *read,
                       struct arena *arena, Loquat__Reply *reply)
{
    if (strlen(read->conv) > USER_MAX)
        return ERR_BAD_REQUEST;
    struct reader r = {.read = read,
                       .arena = arena,
                       .reply = reply,
                       .records_max = TIMELINE_RECORDS_MAX,
                       .bytes_max = bytes_max(read)};
    struct conv_id user = user_log_id(span_str(read->conv));
    struct key first = key_user_log(partition, user, 0);
    struct key until = key_user_log(partition, user, UINT64_MAX);
    struct key from = key_user_log(partition, user, read->from);
    struct kv_iter iter;
    kv_iter_open(&iter, kv, NULL, KV_USER, key_span(&first), key_span(&until));
    kv_iter_last(&iter);
    if (kv_iter_valid(&iter)) {
        struct span key = kv_iter_key(&iter);
        reply->head = get_be64(key.p + key.n - 8);
    }
    reply->floor = 1;
    int err = 0;
    for (kv_iter_seek(&iter, key_span(&from)); err == 0 && kv_iter_valid(&iter);
         kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        uint64_t seq = get_be64(key.p + key.n - 8);
        if (full(&r)) {
            reply->next = seq;
            break;
        }
        err = record_check(value);
        Loquat__Item *item = push(&r);
        item->seq = seq;
        item->record.len = value.n;
        item->record.data = arena_copy(arena, value.p, value.n);
        r.records++;
        r.visited++;
        r.bytes += value.n + 64;
    }
    if (err == 0)
        err = kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}
