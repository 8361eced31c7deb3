#include "store/feedlog.h"

#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/map.h"
#include "store/base/record.h"
#include "store/feedlog_fetch.h"
#include "store/key.h"

enum {
    CONSUMERS_PAGE = 100,
    RECORD_OVERHEAD = 64,
    BATCH_FIRST = 64, /* records, while it is not known how large they are */
    BATCH_TIMES = 8,  /* … of each next one, at most */
};

/* One page of a feed. Its records are fetched in batches. */
struct reader {
    struct kv *kv;
    uint32_t partition;
    uint64_t now_ms;
    struct arena *arena;
    Loquat__Reply *reply;
    struct kv_view view;
    struct fetch fetch;
    struct map groups; /* conv_id → struct group * */
    struct buf value;
    uint64_t after;
    size_t cap, visited, bytes, bytes_max, records_max;
};

int feedlog_run(struct span *row, struct feedlog_run *run)
{
    if (row->n < 16)
        return ERR_CORRUPT;
    run->conv = (struct conv_id){get_be64(row->p), get_be64(row->p + 8)};
    size_t a = get_varint(row->p + 16, row->n - 16, &run->first);
    size_t b = a > 0 ? get_varint(row->p + 16 + a, row->n - 16 - a, &run->count) : 0;
    if (b == 0 || run->first == 0 || run->count == 0)
        return ERR_CORRUPT;
    *row = span_of(row->p + 16 + a + b, row->n - 16 - a - b);
    return 0;
}

static void open_rows(struct reader *r, struct kv_iter *iter, uint64_t index)
{
    struct key from = key_number(r->partition, index);
    struct key until = key_number(r->partition, UINT64_MAX);
    kv_iter_open_scan(iter, r->kv, &r->view, KV_FEED, key_span(&from), key_span(&until));
}

static uint64_t row_index(const struct kv_iter *iter)
{
    return get_be64(kv_iter_key(iter).p + 2);
}

static int count_records(struct span row, uint64_t *count)
{
    struct feedlog_run run;
    int err = 0;
    *count = 0;
    while (row.n > 0 && err == 0) {
        err = feedlog_run(&row, &run);
        *count += err == 0 ? run.count : 0;
    }
    return err;
}

/* The offsets of the first and of the last record; both 0 when there is none. */
static int find_ends(struct reader *r)
{
    struct kv_iter iter;
    uint64_t count = 0;
    open_rows(r, &iter, 0);
    kv_iter_last(&iter);
    int err =
        kv_iter_valid(&iter) ? count_records(kv_iter_value(&iter), &count) : kv_iter_error(&iter);
    if (count > 0) {
        r->reply->head = (row_index(&iter) << FEEDLOG_BITS) + count - 1;
        kv_iter_first(&iter);
        r->reply->floor = row_index(&iter) << FEEDLOG_BITS;
    }
    kv_iter_close(&iter);
    return err;
}

/* ERR_NOT_FOUND: trimmed. */
static int get_record(struct reader *r, struct conv_id conv, uint64_t seq,
                      struct record_view *record)
{
    struct key key = key_seq(r->partition, conv, seq);
    int err = kv_view_get(&r->view, KV_LOG, key_span(&key), &r->value);
    return err == 0 ? record_view(buf_span(&r->value), record) : err;
}

/* ---- by time ---- */

/* When the first record at or behind the entry was committed, ms; UINT64_MAX: none is there. */
static int time_at(struct reader *r, struct kv_iter *iter, uint64_t index, uint64_t *ms)
{
    struct key key = key_number(r->partition, index);
    *ms = UINT64_MAX;
    for (kv_iter_seek(iter, key_span(&key)); kv_iter_valid(iter); kv_iter_next(iter)) {
        struct span row = kv_iter_value(iter);
        while (row.n > 0) {
            struct feedlog_run run;
            struct record_view record;
            int err = feedlog_run(&row, &run);
            if (err == 0)
                err = get_record(r, run.conv, run.first, &record);
            if (err == 0)
                *ms = mid_ms(record_mid(record.ts, record.mid_off, r->partition));
            if (err != ERR_NOT_FOUND)
                return err;
        }
    }
    return kv_iter_error(iter);
}

/* Mids rise with what is committed, so it is a binary search over the entries. */
static int find_time(struct reader *r, uint64_t ms)
{
    struct kv_iter iter;
    uint64_t low = r->reply->floor >> FEEDLOG_BITS, high = (r->reply->head >> FEEDLOG_BITS) + 1;
    int err = 0;
    open_rows(r, &iter, 0);
    while (low < high && err == 0) {
        uint64_t index = low + (high - low) / 2, there = 0;
        err = time_at(r, &iter, index, &there);
        if (there < ms)
            low = index + 1;
        else
            high = index;
    }
    kv_iter_close(&iter);
    r->after = low == 0 ? 0 : (low << FEEDLOG_BITS) - 1;
    if (r->after > r->reply->head)
        r->after = r->reply->head;
    return err;
}

/* ---- a page ---- */

static Loquat__FeedItem *push(struct reader *r)
{
    Loquat__Reply *reply = r->reply;
    if (reply->n_feed == r->cap) {
        size_t cap = r->cap == 0 ? 64 : r->cap * 2;
        Loquat__FeedItem **grown = arena_alloc(r->arena, cap * sizeof *grown);
        if (reply->n_feed > 0)
            memcpy(grown, reply->feed, reply->n_feed * sizeof *grown);
        reply->feed = grown;
        r->cap = cap;
    }
    Loquat__FeedItem *item = arena_alloc(r->arena, sizeof *item);
    loquat__feed_item__init(item);
    item->item = arena_alloc(r->arena, sizeof *item->item);
    loquat__item__init(item->item);
    reply->feed[reply->n_feed++] = item;
    return item;
}

static int read_name(struct reader *r, struct group *group)
{
    struct key key = key_header(r->partition, group->conv);
    int err = kv_view_get(&r->view, KV_CONV, key_span(&key), &r->value);
    if (err == ERR_NOT_FOUND) /* a record has its conversation */
        return ERR_CORRUPT;
    if (err != 0)
        return err;
    Loquat__ConvHeader *header =
        loquat__conv_header__unpack(&r->arena->allocator, r->value.n, (const uint8_t *)r->value.p);
    if (header == NULL)
        return ERR_CORRUPT;
    group->name = header->id;
    return 0;
}

static int group_of(struct reader *r, struct conv_id conv, struct group **group)
{
    bool fresh = false;
    union map_val *val = map_put(&r->groups, (struct map_key){conv.hi, conv.lo}, &fresh);
    if (fresh) {
        val->p = arena_alloc(r->arena, sizeof **group);
        *(struct group *)val->p = (struct group){.conv = conv};
    }
    *group = val->p;
    return fresh ? read_name(r, *group) : 0;
}

static int take_record(struct reader *r, const struct slot *slot)
{
    struct record_view record;
    if (slot->value.p == NULL)
        return 0;
    int err = record_view(slot->value, &record);
    if (err != 0)
        return err;
    Loquat__FeedItem *made = push(r);
    made->offset = slot->offset;
    made->conv = slot->group->name;
    made->item->seq = slot->seq;
    made->item->hole = record_hole(&record, r->now_ms);
    r->bytes += RECORD_OVERHEAD;
    if (made->item->hole != 0)
        return 0;
    made->item->record.len = slot->value.n;
    made->item->record.data = (uint8_t *)(uintptr_t)slot->value.p;
    r->bytes += slot->value.n;
    return 0;
}

static bool full(const struct reader *r)
{
    return r->reply->n_feed >= r->records_max || r->bytes >= r->bytes_max ||
           r->visited >= FEEDLOG_VISIT_MAX;
}

/* What is likely to fit, by the size of those before; what is fetched in vain is little. */
static void next_batch(struct reader *r)
{
    size_t taken = r->reply->n_feed, count = r->fetch.cap * BATCH_TIMES;
    if (taken > 0) {
        size_t fit = (r->bytes_max - r->bytes) / (r->bytes / taken) + 1;
        count = count < fit ? count : fit;
    }
    count = r->fetch.cap == 0 ? BATCH_FIRST : count;
    if (count > r->records_max - taken)
        count = r->records_max - taken;
    fetch_begin(&r->fetch, count);
}

static int take_batch(struct reader *r)
{
    int err = fetch_all(&r->fetch, r->visited > 0);
    for (size_t i = 0; err == 0 && i < r->fetch.count && !full(r); i++) {
        r->visited++;
        err = take_record(r, &r->fetch.slots[i]);
        r->reply->next = r->fetch.slots[i].offset;
    }
    if (!full(r))
        next_batch(r);
    return err;
}

static int take_run(struct reader *r, const struct feedlog_run *run, uint64_t *offset)
{
    struct group *group = NULL;
    int err = 0;
    for (uint64_t i = 0; err == 0 && i < run->count && !full(r); i++, (*offset)++) {
        if (*offset <= r->after)
            continue;
        if (group == NULL)
            err = group_of(r, run->conv, &group);
        if (err != 0)
            break;
        fetch_want(&r->fetch, group, run->first + i, *offset);
        if (r->fetch.count == r->fetch.cap)
            err = take_batch(r);
    }
    return err;
}

static int read_page(struct reader *r)
{
    struct kv_iter iter;
    int err = 0;
    open_rows(r, &iter, r->after >> FEEDLOG_BITS);
    next_batch(r);
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter) && !full(r); kv_iter_next(&iter)) {
        struct span row = kv_iter_value(&iter);
        uint64_t offset = row_index(&iter) << FEEDLOG_BITS;
        while (err == 0 && row.n > 0 && !full(r)) {
            struct feedlog_run run;
            err = feedlog_run(&row, &run);
            if (err == 0)
                err = take_run(r, &run, &offset);
        }
    }
    if (err == 0 && !full(r))
        err = kv_iter_error(&iter);
    if (err == 0 && !full(r))
        err = take_batch(r); /* the last */
    kv_iter_close(&iter);
    return err;
}

static void begin(struct reader *r, struct kv *kv, uint32_t partition, uint64_t now_ms,
                  struct arena *arena, Loquat__Reply *reply)
{
    *r = (struct reader){
        .kv = kv, .partition = partition, .now_ms = now_ms, .arena = arena, .reply = reply};
    map_init(&r->groups);
    kv_view_open(&r->view, kv);
    r->fetch = (struct fetch){.view = &r->view, .partition = partition, .arena = arena};
}

static void end(struct reader *r)
{
    fetch_close(&r->fetch);
    kv_view_close(&r->view);
    map_close(&r->groups);
    buf_close(&r->value);
}

int feedlog_read(struct kv *kv, uint32_t partition, const Loquat__Read *read, uint64_t now_ms,
                 struct arena *arena, Loquat__Reply *reply)
{
    struct reader r;
    begin(&r, kv, partition, now_ms, arena, reply);
    r.after = read->from;
    r.records_max = read->max < FEEDLOG_RECORDS_MAX ? read->max : FEEDLOG_RECORDS_MAX;
    r.bytes_max = read->bytes_max > 0 && read->bytes_max < FEEDLOG_BYTES_MAX ? read->bytes_max
                                                                             : FEEDLOG_BYTES_MAX;
    int err = find_ends(&r);
    if (err == 0 && read->at != 0)
        err = find_time(&r, read->at);
    reply->next = r.after;
    if (err == 0 && r.after < reply->head)
        err = read_page(&r);
    end(&r);
    return err;
}

/* ---- consumers ---- */

static int by_offset(const void *a, const void *b)
{
    uint64_t x = ((const struct feedlog_lag *)a)->offset,
             y = ((const struct feedlog_lag *)b)->offset;
    return x > y ? -1 : x < y;
}

/* Since when the first record behind the cursor has been there. */
static int find_since(struct reader *r, struct kv_iter *iter, struct feedlog_lag *lag)
{
    uint64_t index = lag->offset >> FEEDLOG_BITS, count = 0, ms = UINT64_MAX;
    struct key key = key_number(r->partition, index);
    kv_iter_seek(iter, key_span(&key));
    if (kv_iter_valid(iter) && row_index(iter) == index) {
        int err = count_records(kv_iter_value(iter), &count);
        if (err != 0)
            return err;
    }
    if (lag->offset + 1 >= (index << FEEDLOG_BITS) + count)
        index++;
    int err = time_at(r, iter, index, &ms);
    if (err == 0 && ms != UINT64_MAX)
        lag->ms = r->now_ms > ms ? r->now_ms - ms : 1;
    return err;
}

/* Counts what lies behind the cursors, in one walk backwards from the head. */
static int find_lags(struct reader *r, struct feedlog_lag *lags, size_t count)
{
    struct kv_iter iter;
    uint64_t behind = 0; /* records from here on */
    size_t at = 0;       /* the next one that is not passed yet */
    int err = 0;
    qsort(lags, count, sizeof *lags, by_offset);
    open_rows(r, &iter, 0);
    for (kv_iter_last(&iter);
         at < count && err == 0 && kv_iter_valid(&iter) && behind < FEEDLOG_LAG_MAX;
         kv_iter_prev(&iter)) {
        uint64_t n = 0, first = row_index(&iter) << FEEDLOG_BITS;
        err = count_records(kv_iter_value(&iter), &n);
        for (; at < count && lags[at].offset >= first; at++) {
            uint64_t done = lags[at].offset - first + 1;
            lags[at].records = behind + (done < n ? n - done : 0);
        }
        behind += n;
    }
    if (err == 0)
        err = kv_iter_valid(&iter) ? 0 : kv_iter_error(&iter);
    for (; at < count; at++)
        lags[at].records = behind;
    for (size_t i = 0; err == 0 && i < count; i++) {
        if (lags[i].records > FEEDLOG_LAG_MAX)
            lags[i].records = FEEDLOG_LAG_MAX;
        if (lags[i].records > 0)
            err = find_since(r, &iter, &lags[i]);
    }
    kv_iter_close(&iter);
    return err;
}

int feedlog_read_cursor(struct kv *kv, uint32_t partition, const Loquat__Read *read,
                        uint64_t now_ms, struct arena *arena, Loquat__Reply *reply)
{
    struct reader r;
    struct feedlog_lag lag = {0};
    struct key key = key_named(partition, KEY_TAG_CURSOR, span_str(read->after));
    begin(&r, kv, partition, now_ms, arena, reply);
    int err = kv_view_get(&r.view, KV_APL, key_span(&key), &r.value);
    if (err == 0) {
        reply->cursor =
            loquat__cursor__unpack(&arena->allocator, r.value.n, (const uint8_t *)r.value.p);
        err = reply->cursor != NULL ? find_ends(&r) : ERR_CORRUPT;
    }
    if (err == 0) {
        lag.offset = reply->cursor->offset;
        err = find_lags(&r, &lag, 1);
    }
    reply->lag = lag.records;
    reply->lag_ms = lag.ms;
    end(&r);
    return err;
}

/* Every cursor of the partition. */
static int read_cursors(struct reader *r, struct feedlog_lag *lags, size_t *count)
{
    struct kv_iter iter;
    struct key from = key_named(r->partition, KEY_TAG_CURSOR, (struct span){0});
    struct key until = key_named(r->partition, KEY_TAG_CURSOR + 1, (struct span){0});
    int err = 0;
    kv_iter_open(&iter, r->kv, &r->view, KV_APL, key_span(&from), key_span(&until));
    for (kv_iter_first(&iter); err == 0 && kv_iter_valid(&iter) && *count < FEEDLOG_CONSUMERS_MAX;
         kv_iter_next(&iter)) {
        struct span key = kv_iter_key(&iter), value = kv_iter_value(&iter);
        struct span name = span_of(key.p + from.n, key.n - from.n);
        const Loquat__Cursor *cursor =
            loquat__cursor__unpack(&r->arena->allocator, value.n, (const uint8_t *)value.p);
        if (cursor != NULL)
            lags[(*count)++] =
                (struct feedlog_lag){.name = span_of(arena_copy(r->arena, name.p, name.n), name.n),
                                     .offset = cursor->offset};
        else
            err = ERR_CORRUPT;
    }
    if (err == 0)
        err = kv_iter_valid(&iter) ? 0 : kv_iter_error(&iter);
    kv_iter_close(&iter);
    return err;
}

int feedlog_lags(struct kv *kv, uint32_t partition, uint64_t now_ms, struct arena *arena,
                 struct feedlog_lag **lags, size_t *count)
{
    struct reader r;
    begin(&r, kv, partition, now_ms, arena, NULL);
    *lags = arena_alloc(arena, FEEDLOG_CONSUMERS_MAX * sizeof **lags);
    *count = 0;
    int err = read_cursors(&r, *lags, count);
    if (err == 0)
        err = find_lags(&r, *lags, *count);
    end(&r);
    return err;
}

int feedlog_read_consumers(struct kv *kv, uint32_t partition, const Loquat__Read *read,
                           struct arena *arena, Loquat__Reply *reply)
{
    struct reader r;
    struct kv_iter iter;
    struct key from = key_named(partition, KEY_TAG_CONSUMER, span_str(read->after));
    struct key until = key_named(partition, KEY_TAG_CONSUMER + 1, (struct span){0});
    bool one = read->conv[0] != 0;
    int err = 0;
    if (one) {
        from = key_named(partition, KEY_TAG_CONSUMER, span_str(read->conv));
        until = from;
        until.p[until.n++] = 0;
    }
    begin(&r, kv, partition, 0, arena, reply);
    reply->consumers = arena_alloc(arena, CONSUMERS_PAGE * sizeof *reply->consumers);
    kv_iter_open(&iter, kv, &r.view, KV_APL, key_span(&from), key_span(&until));
    kv_iter_first(&iter);
    if (!one && kv_iter_valid(&iter) && span_eq(kv_iter_key(&iter), key_span(&from)))
        kv_iter_next(&iter); /* behind that name; the row without one is a count */
    for (; err == 0 && kv_iter_valid(&iter) && reply->n_consumers < CONSUMERS_PAGE;
         kv_iter_next(&iter)) {
        struct span value = kv_iter_value(&iter);
        Loquat__Consumer *consumer =
            loquat__consumer__unpack(&arena->allocator, value.n, (const uint8_t *)value.p);
        if (consumer != NULL)
            reply->consumers[reply->n_consumers++] = consumer;
        else
            err = ERR_CORRUPT;
    }
    if (err == 0 && kv_iter_valid(&iter) && reply->n_consumers > 0)
        reply->after = reply->consumers[reply->n_consumers - 1]->name;
    if (err == 0)
        err = kv_iter_valid(&iter) ? 0 : kv_iter_error(&iter);
    if (err == 0 && one && reply->n_consumers == 0)
        err = ERR_NOT_FOUND;
    kv_iter_close(&iter);
    end(&r);
    return err;
}
