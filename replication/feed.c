#include "replication/feed.h"

#include <stdlib.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/metrics.h"
#include "store/base/wire.h"
#include "store/timeline.h"

enum { RUN_MAX = 64 }; /* records of one log in one Tail */

enum sub_state {
    SUB_START,  /* its first read has not come back */
    SUB_LIVE,   /* everything up to the cursor was sent, and the cursor is the head */
    SUB_BEHIND, /* a read is under way, or waits for its turn and for credit */
};

struct topic {
    struct conv_id id;
    uint64_t published; /* highest sequence seen here; 0: none yet */
    struct list subs;
};

struct sub {
    struct topic *topic;
    struct feed_peer *peer;
    struct list_link in_topic, in_queue;
    enum sub_state state;
    bool user_log, from_head, reading, dead; /* dead: ended while a read was under way */
    bool away;                               /* of a user log: who follows it is */
    uint32_t partition;
    uint64_t cursor;
    char conv[USER_MAX + 1];
};

static struct metric tail_bytes = {.name = "loquat_tail_bytes_total",
                                   .help = "Bytes of tails sent to gateways",
                                   .type = METRIC_COUNTER};
static struct metric tail_reads = {.name = "loquat_tail_reads_total",
                                   .help = "Range reads made for subscriptions that were behind",
                                   .type = METRIC_COUNTER};

static struct map_key id_key(struct conv_id id)
{
    return (struct map_key){id.hi, id.lo};
}

static struct conv_id log_id(const char *conv, bool user_log)
{
    return user_log ? user_log_id(span_str(conv)) : conv_id_of(span_str(conv));
}

void feed_init(struct feed *feed, uv_loop_t *loop, struct kv *kv, uint32_t partitions)
{
    static bool registered;
    if (!registered) {
        registered = true;
        metric_register(&tail_bytes);
        metric_register(&tail_reads);
    }
    *feed = (struct feed){.loop = loop, .kv = kv, .partitions = partitions};
    map_init(&feed->topics);
}

void feed_close(struct feed *feed)
{
    ASSERT(feed->topics.count == 0 && feed->reads == 0);
    map_close(&feed->topics);
    buf_close(&feed->scratch);
}

/* ---- sending ---- */

static void send_tail(struct feed *feed, struct feed_peer *peer, Loquat__Tail *tail)
{
    if (peer->link == NULL)
        return;
    size_t size = loquat__tail__get_packed_size(tail);
    feed->scratch.n = 0;
    loquat__tail__pack(tail, (uint8_t *)buf_grow(&feed->scratch, size));
    link_send(peer->link, LINK_TAIL, buf_span(&feed->scratch));
    peer->credit -= (int64_t)size;
    metric_add(&tail_bytes, (int64_t)size);
}

static void tail_init(Loquat__Tail *tail, const struct sub *sub, uint64_t head)
{
    loquat__tail__init(tail);
    tail->conv = (char *)(uintptr_t)sub->conv;
    tail->user_log = sub->user_log;
    tail->partition = sub->partition;
    tail->head = head;
}

/* ---- reads for subscriptions that are behind ---- */

struct feed_read {
    uv_work_t work;
    struct feed *feed;
    struct sub *sub;
    struct feed_peer *peer;
    struct arena arena;
    Loquat__Read read;
    Loquat__Reply reply;
    uint32_t partition;
    bool user_log;
    uint64_t now_ms;
    int err;
};

static void sub_free(struct feed *feed, struct sub *sub)
{
    struct topic *topic = sub->topic;
    list_remove(&sub->in_topic);
    if (sub->in_queue.next != NULL)
        list_remove(&sub->in_queue);
    if (list_empty(&topic->subs)) {
        map_remove(&feed->topics, id_key(topic->id));
        free(topic);
    }
    free(sub);
}

static void on_read_work(uv_work_t *work)
{
    struct feed_read *job = container_of(work, struct feed_read, work);
    if (job->user_log)
        job->err =
            timeline_read_user(job->feed->kv, job->partition, &job->read, &job->arena, &job->reply);
    else
        job->err = timeline_read(job->feed->kv, job->partition, &job->read, job->now_ms,
                                 &job->arena, &job->reply);
}

static void start_reads(struct feed *feed, struct feed_peer *peer);

/* Decides what a subscription does next, after its cursor moved. */
static void sub_go_on(struct sub *sub)
{
    if (sub->cursor >= sub->topic->published) {
        sub->state = SUB_LIVE;
    } else {
        sub->state = SUB_BEHIND;
        list_push(&sub->peer->behind, &sub->in_queue);
    }
}

static void end_sub(struct feed *feed, struct sub *sub, int err)
{
    Loquat__Tail tail;
    tail_init(&tail, sub, 0);
    tail.err = err;
    send_tail(feed, sub->peer, &tail);
    map_remove(&sub->peer->subs, id_key(sub->topic->id));
    sub_free(feed, sub);
}

static void take_page(struct feed *feed, struct sub *sub, const struct feed_read *job)
{
    const Loquat__Reply *reply = &job->reply;
    Loquat__Tail tail;
    tail_init(&tail, sub, reply->head);
    if (sub->state == SUB_START) {
        sub->cursor = sub->from_head || sub->cursor > reply->head ? reply->head : sub->cursor;
        tail.started = true;
        tail.head = sub->cursor;
        if (sub->topic->published < reply->head)
            sub->topic->published = reply->head;
        send_tail(feed, sub->peer, &tail);
        return;
    }
    tail.items = reply->items;
    tail.n_items = reply->n_items;
    if (reply->n_items > 0)
        send_tail(feed, sub->peer, &tail);
    sub->cursor = reply->next > 0 ? reply->next - 1 : reply->head;
}

static void on_read_done(uv_work_t *work, int status)
{
    struct feed_read *job = container_of(work, struct feed_read, work);
    struct feed *feed = job->feed;
    struct feed_peer *peer = job->peer;
    struct sub *sub = job->sub;
    (void)status; /* never cancelled: the loop runs until reads are done */
    feed->reads--;
    peer->reads--;
    sub->reading = false;
    if (sub->dead) {
        sub_free(feed, sub);
    } else if (job->err != 0) {
        end_sub(feed, sub, job->err);
    } else {
        take_page(feed, sub, job);
        sub_go_on(sub);
    }
    arena_close(&job->arena);
    free(job);
    if (peer->link != NULL)
        start_reads(feed, peer);
    peer->unref(peer);
}

static void start_read(struct feed *feed, struct sub *sub)
{
    struct feed_read *job = xcalloc(1, sizeof *job);
    job->feed = feed;
    job->sub = sub;
    job->peer = sub->peer;
    job->partition = sub->partition;
    job->user_log = sub->user_log;
    job->now_ms = clock_wall_ms();
    arena_init(&job->arena);
    loquat__read__init(&job->read);
    loquat__reply__init(&job->reply);
    job->read.conv = (char *)(uintptr_t)sub->conv;
    job->read.all = true;
    job->read.from = sub->state == SUB_START ? UINT64_MAX : sub->cursor + 1; /* START: the head */
    job->read.bytes_max = FEED_PAGE_BYTES;
    sub->reading = true;
    sub->peer->reads++;
    feed->reads++;
    sub->peer->ref(sub->peer);
    metric_add(&tail_reads, 1);
    int rv = uv_queue_work(feed->loop, &job->work, on_read_work, on_read_done);
    ASSERT(rv == 0);
}

/* A read under way counts as a whole page: credit is overdrawn by one page at most. */
static bool has_credit(const struct feed_peer *peer)
{
    return peer->credit > (int64_t)peer->reads * FEED_PAGE_BYTES;
}

static void start_reads(struct feed *feed, struct feed_peer *peer)
{
    while (peer->reads < FEED_READS_MAX) {
        struct list_link *link = list_pop(&peer->starting);
        if (link == NULL && has_credit(peer))
            link = list_pop(&peer->behind);
        if (link == NULL)
            return;
        start_read(feed, container_of(link, struct sub, in_queue));
    }
}

/* ---- subscriptions ---- */

void feed_peer_init(struct feed_peer *peer, struct link *link)
{
    peer->link = link;
    peer->credit = 0;
    peer->reads = 0;
    map_init(&peer->subs);
    list_init(&peer->starting);
    list_init(&peer->behind);
    list_init(&peer->watching);
    peer->watches = 0;
}

uint32_t feed_presence(const struct feed *feed, struct conv_id user)
{
    const union map_val *val = map_get(&feed->topics, id_key(user));
    const struct list *subs = val != NULL ? &((struct topic *)val->p)->subs : NULL;
    uint32_t state = LOQUAT__PRESENCE_STATE__PRESENCE_OFFLINE;
    for (const struct list_link *link = subs != NULL ? list_first(subs) : NULL; link != NULL;
         link = list_next(subs, link)) {
        const struct sub *sub = container_of(link, struct sub, in_topic);
        if (sub->dead)
            continue;
        if (!sub->away)
            return LOQUAT__PRESENCE_STATE__PRESENCE_ONLINE;
        state = LOQUAT__PRESENCE_STATE__PRESENCE_AWAY;
    }
    return state;
}

static void tell_user(const struct feed *feed, bool user_log, struct conv_id user, bool lost)
{
    if (user_log && feed->on_user != NULL)
        feed->on_user(feed->arg, user, lost);
}

static void sub_end(struct feed *feed, struct sub *sub)
{
    if (sub->reading)
        sub->dead = true; /* freed when the read comes back */
    else
        sub_free(feed, sub);
}

void feed_peer_close(struct feed *feed, struct feed_peer *peer)
{
    peer->link = NULL;
    for (struct map_slot *s = map_each(&peer->subs, NULL); s; s = map_each(&peer->subs, s)) {
        struct sub *sub = s->val.p;
        struct conv_id id = sub->topic->id;
        bool user_log = sub->user_log;
        sub_end(feed, sub);
        tell_user(feed, user_log, id, true);
    }
    map_close(&peer->subs);
}

void feed_refuse(struct feed *feed, struct feed_peer *peer, const Loquat__Sub *wanted, int err)
{
    Loquat__Tail tail = LOQUAT__TAIL__INIT;
    tail.conv = wanted->conv;
    tail.user_log = wanted->user_log;
    tail.partition = wanted->partition;
    tail.err = err;
    send_tail(feed, peer, &tail);
}

void feed_sub(struct feed *feed, struct feed_peer *peer, const Loquat__Sub *wanted)
{
    size_t size = strlen(wanted->conv);
    if (size > USER_MAX || wanted->partition >= feed->partitions) {
        feed_refuse(feed, peer, wanted, ERR_BAD_REQUEST);
        return;
    }
    if (peer->subs.count >= FEED_SUBS_MAX) {
        bound_hit(BOUND_FEED_SUBS);
        feed_refuse(feed, peer, wanted, ERR_BUSY);
        return;
    }
    struct conv_id id = log_id(wanted->conv, wanted->user_log);
    bool fresh;
    union map_val *mine = map_put(&peer->subs, id_key(id), &fresh);
    if (!fresh) { /* followed already: the cursor of the first stands */
        struct sub *same = mine->p;
        bool changed = same->away != wanted->away;
        same->away = wanted->away;
        if (changed)
            tell_user(feed, same->user_log, id, false);
        return;
    }
    union map_val *val = map_put(&feed->topics, id_key(id), &fresh);
    if (fresh) {
        struct topic *made = xcalloc(1, sizeof *made);
        made->id = id;
        list_init(&made->subs);
        val->p = made;
    }
    struct sub *sub = xcalloc(1, sizeof *sub);
    sub->topic = val->p;
    sub->peer = peer;
    sub->user_log = wanted->user_log;
    sub->partition = wanted->partition;
    sub->cursor = wanted->cursor;
    sub->from_head = wanted->from_head;
    sub->away = wanted->away;
    memcpy(sub->conv, wanted->conv, size);
    list_push(&sub->topic->subs, &sub->in_topic);
    mine->p = sub;
    sub->state = SUB_START;
    list_push(&peer->starting, &sub->in_queue);
    start_reads(feed, peer);
    tell_user(feed, sub->user_log, id, false);
}

void feed_drop(struct feed *feed, struct feed_peer *peer, uint32_t partition)
{
    struct sub **dropped = xmalloc((peer->subs.count + 1) * sizeof *dropped);
    size_t count = 0;
    for (struct map_slot *s = map_each(&peer->subs, NULL); s; s = map_each(&peer->subs, s)) {
        struct sub *sub = s->val.p;
        if (sub->partition == partition)
            dropped[count++] = sub;
    }
    for (size_t i = 0; i < count; i++) {
        map_remove(&peer->subs, id_key(dropped[i]->topic->id));
        sub_end(feed, dropped[i]);
    }
    free(dropped);
}

void feed_unsub(struct feed *feed, struct feed_peer *peer, const Loquat__Unsub *unsub)
{
    if (strlen(unsub->conv) > USER_MAX)
        return;
    struct conv_id id = log_id(unsub->conv, unsub->user_log);
    union map_val *val = map_get(&peer->subs, id_key(id));
    if (val == NULL)
        return;
    struct sub *sub = val->p;
    bool user_log = sub->user_log;
    map_remove(&peer->subs, id_key(id));
    sub_end(feed, sub);
    tell_user(feed, user_log, id, false);
}

void feed_credit(struct feed *feed, struct feed_peer *peer, uint64_t bytes)
{
    enum { CREDIT_MAX = 64 << 20 };
    peer->credit += bytes < CREDIT_MAX ? (int64_t)bytes : CREDIT_MAX;
    if (peer->credit > CREDIT_MAX)
        peer->credit = CREDIT_MAX;
    start_reads(feed, peer);
}

/* ---- what was just applied ---- */

static void publish_to(struct feed *feed, struct sub *sub, Loquat__Item **items, size_t count,
                       uint64_t head)
{
    if (sub->state != SUB_LIVE)
        return; /* its read will find them */
    while (count > 0 && items[0]->seq <= sub->cursor) {
        items++;
        count--;
    }
    if (count == 0)
        return;
    if (items[0]->seq != sub->cursor + 1 || sub->peer->credit <= 0) {
        if (sub->peer->credit <= 0)
            bound_hit(BOUND_FEED_CREDIT);
        sub_go_on(sub); /* behind */
        start_reads(feed, sub->peer);
        return;
    }
    Loquat__Tail tail;
    tail_init(&tail, sub, head);
    tail.items = items;
    tail.n_items = count;
    send_tail(feed, sub->peer, &tail);
    sub->cursor = items[count - 1]->seq;
}

static void publish_run(struct feed *feed, const struct apply_record *records, size_t count)
{
    union map_val *val = map_get(&feed->topics, id_key(records[0].id));
    if (val == NULL)
        return;
    struct topic *topic = val->p;
    Loquat__Item items[RUN_MAX], *pointers[RUN_MAX];
    for (size_t i = 0; i < count; i++) {
        loquat__item__init(&items[i]);
        items[i].seq = records[i].seq;
        items[i].record.data = (uint8_t *)(uintptr_t)records[i].bytes.p;
        items[i].record.len = records[i].bytes.n;
        pointers[i] = &items[i];
    }
    uint64_t head = records[count - 1].seq;
    if (topic->published < head)
        topic->published = head;
    for (struct list_link *link = list_first(&topic->subs); link != NULL;) {
        struct sub *sub = container_of(link, struct sub, in_topic);
        link = list_next(&topic->subs, link);
        publish_to(feed, sub, pointers, count, head);
    }
}

/* What is in no log: to who has credit for it, else it is dropped; and reads it, by its version. */
static void send_passing(struct feed *feed, struct topic *topic, enum link_type type,
                         const ProtobufCMessage *message, uint32_t version)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    feed->scratch.n = 0;
    protobuf_c_message_pack(message, (uint8_t *)buf_grow(&feed->scratch, size));
    for (struct list_link *link = list_first(&topic->subs); link != NULL;
         link = list_next(&topic->subs, link)) {
        struct sub *sub = container_of(link, struct sub, in_topic);
        if (sub->peer->version < version)
            continue;
        if (sub->peer->link != NULL && sub->peer->credit > 0) {
            link_send(sub->peer->link, type, buf_span(&feed->scratch));
            sub->peer->credit -= (int64_t)size;
        } else if (sub->peer->link != NULL) {
            bound_hit(BOUND_FEED_MARKS);
        }
    }
}

static void publish_mark(struct feed *feed, const struct apply_mark *mark)
{
    union map_val *val = map_get(&feed->topics, id_key(mark->id));
    if (val == NULL)
        return;
    struct topic *topic = val->p;
    char conv[CONV_ID_MAX + 1] = {0}, user[USER_MAX + 1] = {0};
    memcpy(conv, mark->conv.p, mark->conv.n);
    memcpy(user, mark->user.p, mark->user.n);
    Loquat__MarkEvent event = LOQUAT__MARK_EVENT__INIT;
    event.conv = conv;
    event.user = user;
    event.read = mark->read;
    event.delivered = mark->delivered;
    event.members = mark->members;
    event.thread = mark->thread;
    event.seen = mark->seen;
    send_passing(feed, topic, LINK_MARK, &event.base,
                 mark->thread != 0 || mark->seen != 0 ? WIRE_VERSION_SOCIAL : WIRE_VERSION_MIN);
}

void feed_typing(struct feed *feed, const Loquat__Typing *typing)
{
    union map_val *val = map_get(&feed->topics, id_key(conv_id_of(span_str(typing->conv))));
    if (val != NULL)
        send_passing(feed, val->p, LINK_TYPING, &typing->base, WIRE_VERSION_CHAT);
}

void feed_publish(struct feed *feed, const struct applied *applied)
{
    size_t at = 0;
    while (at < applied->record_count) {
        const struct apply_record *first = &applied->records[at];
        size_t n = 1;
        while (at + n < applied->record_count && n < RUN_MAX &&
               conv_id_eq(applied->records[at + n].id, first->id))
            n++;
        publish_run(feed, first, n);
        at += n;
    }
    for (size_t i = 0; i < applied->mark_count; i++)
        publish_mark(feed, &applied->marks[i]);
}
