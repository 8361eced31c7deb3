#include "gateway/fanout.h"

#include <stdlib.h>

#include "gateway/blocks.h"
#include "gateway/follow.h"
#include "gateway/httpd.h"
#include "gateway/marks.h"
#include "gateway/say.h"
#include "gateway/seen.h"
#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "store/base/metrics.h"

enum { AUTHORS_MAX = 16 }; /* of one frame; a slice ends before there are more */

static struct metric frames_built = {.name = "loquat_fanout_frames_total",
                                     .help = "Frames built from tails, each shared by sessions",
                                     .type = METRIC_COUNTER};
static struct metric deliveries = {.name = "loquat_fanout_deliveries_total",
                                   .help = "Frames of tails given to sessions",
                                   .type = METRIC_COUNTER};
static struct metric topics_gauge = {
    .name = "loquat_fanout_topics", .help = "Logs followed, over all loops", .type = METRIC_GAUGE};

static struct map_key key_of(struct conv_id id)
{
    return (struct map_key){id.hi, id.lo};
}

void fanout_init(struct fanout *fanout, struct gate *gate)
{
    fanout->gate = gate;
    map_init(&fanout->topics);
    list_init(&fanout->unmarked);
}

void fanout_close(struct fanout *fanout)
{
    ASSERT(fanout->topics.count == 0);
    map_close(&fanout->topics);
}

void fanout_metrics(void)
{
    metric_register(&frames_built);
    metric_register(&deliveries);
    metric_register(&topics_gauge);
}

/* ---- topics ---- */

static struct topic *find(const struct fanout *fanout, struct span name, bool user_log)
{
    struct conv_id id = user_log ? user_log_id(name) : conv_id_of(name);
    union map_val *val = map_get(&fanout->topics, key_of(id));
    return val != NULL ? val->p : NULL;
}

struct topic *fanout_find(const struct fanout *fanout, struct span name)
{
    return find(fanout, name, false);
}

struct topic *fanout_find_user(const struct fanout *fanout, struct span user)
{
    return find(fanout, user, true);
}

uint64_t fanout_user_head(const struct fanout *fanout, struct span user)
{
    const struct topic *topic = find(fanout, user, true);
    if (topic == NULL)
        return 0;
    return topic->head == TOPIC_NOT_STARTED ? topic->begins : topic->head;
}

static void subscribe(struct fanout *fanout, const struct topic *topic, uint64_t cursor)
{
    Loquat__Sub sub = LOQUAT__SUB__INIT;
    sub.conv = (char *)(uintptr_t)topic->name;
    sub.user_log = topic->user_log;
    sub.partition = topic->partition;
    sub.cursor = cursor;
    sub.from_head = cursor == FOLLOW_FROM_HEAD;
    sub.away = topic->away;
    cluster_sub(&fanout->gate->cluster, &sub);
}

void fanout_again(struct fanout *fanout, struct topic *topic, uint64_t cursor)
{
    ASSERT(topic->failed);
    topic->failed = false;
    topic->head = TOPIC_NOT_STARTED;
    topic->begins = cursor;
    subscribe(fanout, topic, cursor);
}

/* A log that has started goes on behind what came of it: who is live misses nothing, and gets
 * nothing twice. One that has failed begins again when somebody asks. Marks are in no log that
 * could be read from a cursor: they are read as they are. */
void fanout_go_on(struct fanout *fanout, const bool *partitions)
{
    for (struct map_slot *s = map_each(&fanout->topics, NULL); s != NULL;
         s = map_each(&fanout->topics, s)) {
        struct topic *topic = s->val.p;
        if (!partitions[topic->partition])
            continue;
        if (!topic->user_log && topic->in_unmarked.next == NULL)
            list_push(&fanout->unmarked, &topic->in_unmarked);
        if (!topic->failed)
            subscribe(fanout, topic,
                      topic->head != TOPIC_NOT_STARTED ? topic->head : topic->begins);
    }
}

struct topic *fanout_topic(struct fanout *fanout, struct span name, bool user_log, uint64_t cursor)
{
    struct conv_id id = user_log ? user_log_id(name) : conv_id_of(name);
    bool fresh;
    union map_val *val = map_put(&fanout->topics, key_of(id), &fresh);
    if (!fresh)
        return val->p;
    struct topic *topic = xcalloc(1, sizeof *topic + name.n + 1);
    val->p = topic;
    topic->id = id;
    topic->head = TOPIC_NOT_STARTED;
    topic->user_log = user_log;
    topic->partition = partition_of(id, fanout->gate->cluster.partitions);
    memcpy(topic->name, name.p, name.n);
    topic->begins = cursor;
    metric_add(&topics_gauge, 1);
    subscribe(fanout, topic, cursor);
    return topic;
}

/* Away is who has no session that is not. */
static void settle_away(struct fanout *fanout, struct topic *topic)
{
    bool away = topic->user_log && topic->count > 0;
    for (uint32_t i = 0; i < topic->count && away; i++)
        away = topic->entries[i].session->away;
    if (away == topic->away)
        return;
    topic->away = away;
    if (!topic->failed) /* the cursor stands: who follows the log already is told nothing again */
        subscribe(fanout, topic, topic->head != TOPIC_NOT_STARTED ? topic->head : topic->begins);
}

void fanout_settle_away(struct fanout *fanout, struct span user)
{
    struct topic *topic = find(fanout, user, true);
    if (topic != NULL)
        settle_away(fanout, topic);
}

uint32_t fanout_add(struct topic *topic, struct session *session, uint32_t follow)
{
    if (topic->count == topic->cap) {
        topic->cap += topic->cap / 2 + 1;
        topic->entries = xrealloc(topic->entries, topic->cap * sizeof *topic->entries);
    }
    topic->entries[topic->count++] =
        (struct topic_entry){session, follow, session->conn->who->slot};
    if (topic->away || session->away)
        settle_away(&session->conn->gate->fanout, topic);
    return topic->count - 1;
}

void fanout_remove(struct fanout *fanout, struct topic *topic, uint32_t slot)
{
    ASSERT(slot < topic->count);
    topic->count--;
    if (slot != topic->count) {
        struct topic_entry *moved = &topic->entries[slot];
        *moved = topic->entries[topic->count];
        moved->session->follows[moved->follow].slot = slot;
    }
    if (topic->count > 0 && topic->user_log)
        settle_away(fanout, topic);
    if (topic->count > 0)
        return;
    Loquat__Unsub unsub = LOQUAT__UNSUB__INIT;
    unsub.conv = topic->name;
    unsub.user_log = topic->user_log;
    unsub.partition = topic->partition;
    cluster_unsub(&fanout->gate->cluster, &unsub);
    map_remove(&fanout->topics, key_of(topic->id));
    if (topic->in_unmarked.next != NULL)
        list_remove(&topic->in_unmarked);
    metric_add(&topics_gauge, -1);
    free(topic->entries);
    free(topic);
}

/* ---- frames ---- */

/* One text as frames, each made when the first session that takes it comes. */
struct variant {
    struct frame *plain, *compressed;
    size_t text_size;
    bool tried; /* compressing: it may not be worth it */
};

/* A run of records of one topic, and its frames as they are asked for. */
struct slice {
    struct gate *gate;
    struct topic *topic;
    Loquat__Item **items;
    const struct record_view **records; /* NULL: a hole */
    size_t count;
    uint64_t first, last;
    struct frame *stream;
    struct variant common;
    struct { /* who gets a frame with the own cid in it */
        struct span user;
        uint32_t tag;
        struct variant variant;
    } authors[AUTHORS_MAX];
    size_t author_count;
};

/* Into gate->answer. */
static struct buf *write_text(const struct slice *slice, struct span self, bool stream)
{
    struct gate *gate = slice->gate;
    struct say_place place = {
        .conv = span_str(slice->topic->name), .partition = slice->topic->partition, .self = self};
    struct buf *text = &gate->answer;
    text->n = 0;
    for (size_t i = 0; i < slice->count; i++)
        say_live(text, &place, slice->items[i], slice->records[i], stream);
    metric_add(&frames_built, 1);
    return text;
}

static struct frame *compress(struct gate *gate, const struct variant *variant)
{
    const struct frame *plain = variant->plain;
    struct span text = span_of(plain->p + plain->n - variant->text_size, variant->text_size);
    struct buf *packed = &gate->answer;
    packed->n = 0;
    if (text.n > SESSION_COMPRESS_MAX || !ws_deflate_frame(gate->ws_pool, text, packed))
        return NULL;
    return frame_new(buf_span(packed), (struct span){0});
}

static struct frame *frame_of(struct slice *slice, struct variant *variant, struct span self,
                              const struct ws *ws)
{
    if (variant->plain == NULL) {
        struct buf *text = write_text(slice, self, false);
        char head[WS_HEAD_MAX];
        size_t n = ws_frame_head(head, text->n);
        variant->text_size = text->n;
        variant->plain = frame_new(span_of(head, n), buf_span(text));
    }
    if (!ws_deflate_fits(ws, variant->text_size))
        return variant->plain;
    if (!variant->tried)
        variant->compressed = compress(slice->gate, variant);
    variant->tried = true;
    return variant->compressed != NULL ? variant->compressed : variant->plain;
}

static struct frame *frame_for(struct slice *slice, const struct topic_entry *entry)
{
    const struct conn *conn = entry->session->conn;
    if (entry->session->stream) {
        if (slice->stream == NULL)
            slice->stream = httpd_chunk(write_text(slice, (struct span){0}, true));
        return slice->stream;
    }
    for (size_t i = 0; i < slice->author_count; i++) {
        struct span user = slice->authors[i].user;
        if (slice->authors[i].tag == entry->tag && span_is(user, conn->who->user))
            return frame_of(slice, &slice->authors[i].variant, user, &conn->ws);
    }
    return frame_of(slice, &slice->common, (struct span){0}, &conn->ws);
}

static void drop(struct frame *frame)
{
    if (frame != NULL)
        frame_unref(frame);
}

static void drop_frames(struct slice *slice)
{
    drop(slice->stream);
    drop(slice->common.plain);
    drop(slice->common.compressed);
    for (size_t i = 0; i < slice->author_count; i++) {
        drop(slice->authors[i].variant.plain);
        drop(slice->authors[i].variant.compressed);
    }
}

/* False: no room for one more author. */
static bool note_author(struct slice *slice, const struct record_view *record)
{
    if (record == NULL || record->cid.n == 0)
        return true;
    for (size_t i = 0; i < slice->author_count; i++)
        if (span_eq(slice->authors[i].user, record->from))
            return true;
    if (slice->author_count == AUTHORS_MAX)
        return false;
    slice->authors[slice->author_count].user = record->from;
    slice->authors[slice->author_count].tag =
        limits_slot(&slice->gate->settings->limits, record->from);
    slice->author_count++;
    return true;
}

/* ---- publishing ---- */

static void give(struct slice *slice, const char *removed)
{
    struct topic *topic = slice->topic;
    int64_t given = 0;
    topic->head = slice->last;
    for (uint32_t i = 0; i < topic->count; i++) {
        struct topic_entry *entry = &topic->entries[i];
        struct session *session = entry->session;
        struct follow *follow = &session->follows[entry->follow];
        if (follow->state != FOLLOW_LIVE || follow->cursor >= slice->last)
            continue;
        if (removed != NULL && strcmp(session->conn->who->user, removed) == 0)
            continue; /* is told `left` */
        if (follow->cursor + 1 != slice->first || session->conn->out.bytes >= CONN_OUT_HIGH) {
            follow_fall_behind(session, follow);
            continue;
        }
        conn_send_frame(session->conn, frame_for(slice, entry));
        follow->cursor = slice->last;
        given++;
    }
    metric_add(&deliveries, given);
}

/* Whoever was taken out gets nothing more, whatever the own log says when. */
static void end_removed(struct topic *topic, const char *removed, uint64_t seq)
{
    struct fanout *fanout = &topic->entries[0].session->conn->gate->fanout;
    struct span name = span_str(topic->name);
    for (uint32_t i = topic->count; i > 0 && find(fanout, name, false) == topic; i--) {
        struct session *session = topic->entries[i - 1].session;
        struct follow *follow = &session->follows[topic->entries[i - 1].follow];
        if (follow->cursor < seq && strcmp(session->conn->who->user, removed) == 0)
            follow_left(session, name);
    }
}

/* The user that a record takes out of the conversation, in the arena; NULL: none. */
static const char *removed_by(struct gate *gate, const struct record_view *record)
{
    struct json_obj obj;
    if (record == NULL || record->kind != LOQUAT__KIND__KIND_MEMBER ||
        json_parse(gate->inner, record->body.p, record->body.n, &obj) != 0)
        return NULL;
    const struct json_val *user = json_get(&obj, "user"), *set = json_get(&obj, "set");
    if (user == NULL || set == NULL || !span_is(set->str, "remove"))
        return NULL;
    return arena_copy(&gate->arena, user->str.p, user->str.n);
}

static void publish(struct fanout *fanout, struct topic *topic, const Loquat__Tail *tail,
                    const struct record_view **records)
{
    struct span own = span_str(topic->name);
    struct span name = span_of(arena_copy(&fanout->gate->arena, own.p, own.n), own.n);
    size_t at = 0;
    while (at < tail->n_items) {
        struct slice slice = {.gate = fanout->gate,
                              .topic = topic,
                              .items = tail->items + at,
                              .records = records + at,
                              .first = tail->items[at]->seq};
        const char *removed = NULL;
        size_t bytes = 0;
        while (at < tail->n_items && bytes < FANOUT_FRAME_BYTES && removed == NULL &&
               note_author(&slice, records[at])) {
            slice.last = say_last(tail->items[at]);
            bytes += tail->items[at]->record.len + 100;
            removed = removed_by(fanout->gate, records[at]);
            slice.count++;
            at++;
        }
        give(&slice, removed);
        drop_frames(&slice);
        if (removed != NULL)
            end_removed(topic, removed, slice.last);
        if (find(fanout, name, false) != topic)
            return; /* nobody is left */
    }
}

static bool view_all(struct gate *gate, const Loquat__Tail *tail,
                     const struct record_view **records)
{
    struct record_view *room = arena_alloc(&gate->arena, tail->n_items * sizeof *room);
    for (size_t i = 0; i < tail->n_items; i++)
        if (say_view(tail->items[i], &room[i], &records[i]) != 0)
            return false;
    return true;
}

static void publish_user(struct topic *topic, const Loquat__Tail *tail,
                         const struct record_view **records)
{
    for (size_t i = 0; i < tail->n_items; i++) {
        uint64_t seq = tail->items[i]->seq;
        for (uint32_t k = 0; k < topic->count; k++) {
            struct session *session = topic->entries[k].session;
            struct follow *follow = &session->follows[topic->entries[k].follow];
            if (follow->cursor != FOLLOW_FROM_HEAD && follow->cursor >= seq)
                continue;
            follow->cursor = seq;
            follow_user_record(session, seq, records[i]);
        }
        topic->head = seq;
    }
}

static void start(struct topic *topic, uint64_t head)
{
    topic->head = head;
    for (uint32_t i = 0; i < topic->count; i++) {
        struct session *session = topic->entries[i].session;
        struct follow *follow = &session->follows[topic->entries[i].follow];
        if (follow->state == FOLLOW_WAIT) /* begun again: others still read by themselves */
            follow_settle(session, follow);
    }
}

/* The node can't go on with this log: whoever follows it is told to read, and hears why. Of the own
 * log nobody reads: the next `sync` finds what came. */
static void fail(struct topic *topic, int err)
{
    if (topic->failed)
        return;
    log_error("a tail ended", {"log", log_str(topic->name)}, {"err", log_str(err_name(err))});
    if (topic->head == TOPIC_NOT_STARTED)
        topic->head = 0;
    topic->failed = true;
    for (uint32_t i = 0; i < topic->count; i++) {
        struct session *session = topic->entries[i].session;
        struct follow *follow = &session->follows[topic->entries[i].follow];
        if (topic->user_log)
            session_close(session->conn, SESSION_CLOSE_AGAIN, "come back");
        else if (follow->state != FOLLOW_LAGGED)
            follow_lag(session, follow);
    }
}

void fanout_on_tail(struct fanout *fanout, const Loquat__Tail *tail)
{
    struct topic *topic = find(fanout, span_str(tail->conv), tail->user_log);
    if (topic == NULL)
        return; /* nobody follows it any more */
    if (tail->err != 0) {
        fail(topic, tail->err);
        return;
    }
    if (topic->failed)
        return;
    if (tail->started) {
        if (topic->head != TOPIC_NOT_STARTED && tail->head < topic->head)
            fail(topic, ERR_CORRUPT); /* the log has become shorter while the node was away */
        else
            start(topic, tail->head);
        return;
    }
    if (topic->head == TOPIC_NOT_STARTED || tail->n_items == 0)
        return; /* of a subscription before this one */
    struct gate *gate = fanout->gate;
    const struct record_view **records = arena_alloc(&gate->arena, tail->n_items * sizeof *records);
    if (!view_all(gate, tail, records))
        fail(topic, ERR_CORRUPT);
    else if (topic->user_log)
        publish_user(topic, tail, records);
    else
        publish(fanout, topic, tail, records);
    arena_reset(&gate->arena);
}

void fanout_tell_marks(struct topic *topic, struct span text,
                       bool (*wanted)(const struct session *session, const void *arg),
                       const void *arg)
{
    char head[WS_HEAD_MAX];
    size_t n = ws_frame_head(head, text.n);
    struct frame *frame = frame_new(span_of(head, n), text);
    for (uint32_t i = 0; i < topic->count; i++) {
        struct session *session = topic->entries[i].session;
        if (session->stream || (wanted != NULL && !wanted(session, arg)))
            continue;
        if (session->conn->out.bytes < CONN_OUT_HIGH)
            conn_send_frame(session->conn, frame);
        else
            marks_lose(session, &session->follows[topic->entries[i].follow]);
    }
    frame_unref(frame);
}

void fanout_tell_passing(struct topic *topic, struct span text, const char *user)
{
    char head[WS_HEAD_MAX];
    size_t n = ws_frame_head(head, text.n);
    struct frame *frame = frame_new(span_of(head, n), text);
    for (uint32_t i = 0; i < topic->count; i++) {
        const struct session *session = topic->entries[i].session;
        if (!session->stream && session->conn->out.bytes <= CONN_OUT_LOW &&
            strcmp(session->conn->who->user, user) != 0 && !blocks_has(session, user))
            conn_send_frame(session->conn, frame);
    }
    frame_unref(frame);
}

static bool not_blocked(const struct session *session, const void *user)
{
    return !blocks_has(session, user);
}

static bool is_user(const struct session *session, const void *user)
{
    return strcmp(session->conn->who->user, user) == 0;
}

void fanout_on_mark(struct fanout *fanout, const Loquat__MarkEvent *mark)
{
    struct topic *topic = find(fanout, span_str(mark->conv), false);
    if (topic == NULL)
        return;
    struct buf *text = &fanout->gate->answer;
    text->n = 0;
    if (mark->seen != 0) {
        seen_take(fanout->gate, mark);
    } else if (mark->thread != 0) {
        say_thread_mark(text, mark->conv, mark->user, mark->thread, mark->read);
        fanout_tell_marks(topic, buf_span(text), is_user, mark->user);
    } else {
        say_mark(text, mark->conv, mark->user, mark->read, mark->delivered);
        fanout_tell_marks(topic, buf_span(text), not_blocked, mark->user);
    }
}
