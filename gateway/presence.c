#include "gateway/presence.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/blocks.h"
#include "gateway/follow.h"
#include "gateway/proto.h"
#include "gateway/say.h"
#include "store/base/check.h"
#include "store/base/err.h"

enum { NOT_TOLD = LOQUAT__PRESENCE_STATE__PRESENCE_NONE };

struct watching {
    struct session *session;
    uint64_t told_seen_ms;
    uint32_t told; /* enum PresenceState */
    bool shares;   /* a conversation with the user; while that is being asked for */
    bool blocked;  /* by the user */
};

struct watch {
    struct conv_id id; /* of the user's log */
    uint32_t partition, state;
    uint64_t seen_ms;
    bool reading, again; /* the user's conversations; again: and once more then */
    bool hidden;         /* the user shows nobody that he is there */
    bool dead;           /* nobody watches any more: freed when the read is back */
    uint32_t count, cap;
    struct watching *entries;
    struct list_link in_unchecked; /* of the loop: that could not be read */
    char after[CONV_ID_MAX + 1];   /* of the page that is read */
    char user[];
};

/* Of a session. */
struct watches {
    uint32_t count, cap;
    struct watch **items;
};

static struct map_key key_of(struct conv_id id)
{
    return (struct map_key){id.hi, id.lo};
}

static struct watch *find(const struct gate *gate, struct span user)
{
    union map_val *val = map_get(&gate->watches, key_of(user_log_id(user)));
    return val != NULL ? val->p : NULL;
}

void presence_begin(struct gate *gate)
{
    map_init(&gate->watches);
    list_init(&gate->unchecked);
}

void presence_end(struct gate *gate)
{
    ASSERT(gate->watches.count == 0);
    map_close(&gate->watches);
}

static void ask_node(struct gate *gate, const struct watch *watch, bool on)
{
    Loquat__Watch message = LOQUAT__WATCH__INIT;
    message.user = (char *)(uintptr_t)watch->user;
    message.partition = watch->partition;
    message.on = on;
    cluster_watch(&gate->cluster, &message);
}

/* ---- telling ---- */

/* Who is not to know is told what he would be told of somebody who never came. */
static bool may_know(const struct watch *watch, const struct watching *entry)
{
    return strcmp(entry->session->conn->who->user, watch->user) == 0 ||
           (!watch->hidden && !entry->blocked && !blocks_has(entry->session, watch->user));
}

static void tell(const struct watch *watch, struct watching *entry)
{
    struct conn *conn = entry->session->conn;
    if (!entry->shares || conn_gone(conn) || watch->state == NOT_TOLD)
        return;
    bool may = may_know(watch, entry);
    uint32_t state = may ? watch->state : LOQUAT__PRESENCE_STATE__PRESENCE_OFFLINE;
    uint64_t seen_ms = may ? watch->seen_ms : 0;
    if (entry->told == state && entry->told_seen_ms == seen_ms)
        return;
    entry->told = state;
    entry->told_seen_ms = seen_ms;
    struct buf *text = &conn->gate->answer;
    text->n = 0;
    say_presence(text, watch->user, state, seen_ms);
    session_say(conn, buf_span(text));
}

static void take_settings(struct watch *watch, const Loquat__UserSettings *settings)
{
    watch->hidden = settings->presence_hidden;
    for (size_t i = 0; i < settings->n_blocks; i++)
        for (uint32_t k = 0; k < watch->count; k++)
            if (strcmp(watch->entries[k].session->conn->who->user, settings->blocks[i]->user) == 0)
                watch->entries[k].blocked = true;
}

/* Which of those who watch follow one of these conversations. */
static void mark_shared(struct gate *gate, struct watch *watch, const Loquat__Reply *reply)
{
    for (size_t i = 0; i < reply->n_ids; i++) {
        const struct topic *topic = fanout_find(&gate->fanout, span_str(reply->ids[i]));
        for (uint32_t k = 0; topic != NULL && k < watch->count; k++) {
            struct watching *entry = &watch->entries[k];
            entry->shares = entry->shares || follow_find(entry->session, topic) != NULL;
        }
    }
}

static void check(struct gate *gate, struct watch *watch);

struct checking {
    struct gate *gate;
    struct watch *watch;
};

static void watch_free(struct watch *watch)
{
    free(watch->entries);
    free(watch);
}

static void check_later(struct gate *gate, struct watch *watch)
{
    if (watch->in_unchecked.next == NULL)
        list_push(&gate->unchecked, &watch->in_unchecked);
}

static void ask_convs(struct gate *gate, struct watch *watch);

static void on_convs(void *owner, const Loquat__Reply *reply)
{
    struct checking *checking = owner;
    struct gate *gate = checking->gate;
    struct watch *watch = checking->watch;
    free(checking);
    watch->reading = false;
    if (watch->dead) {
        watch_free(watch);
        return;
    }
    if (reply->err != 0) {
        check_later(gate, watch);
        return;
    }
    if (reply->settings != NULL)
        take_settings(watch, reply->settings);
    mark_shared(gate, watch, reply);
    if (reply->after[0] != 0 && strlen(reply->after) <= CONV_ID_MAX) {
        memcpy(watch->after, reply->after, strlen(reply->after) + 1);
        ask_convs(gate, watch);
        return;
    }
    for (uint32_t i = 0; i < watch->count; i++)
        tell(watch, &watch->entries[i]);
    if (watch->again)
        check(gate, watch);
}

static void ask_convs(struct gate *gate, struct watch *watch)
{
    struct checking *checking = xmalloc(sizeof *checking);
    *checking = (struct checking){gate, watch};
    Loquat__Read read = LOQUAT__READ__INIT;
    read.op = LOQUAT__READ_OP__READ_USER;
    read.partition = watch->partition;
    read.user = watch->user;
    read.after = watch->after;
    read.max = PROTO_PAGE_MAX;
    read.settings = watch->after[0] == 0;
    watch->reading = cluster_read(&gate->cluster, &read, on_convs, checking) == 0;
    if (watch->reading)
        return;
    free(checking);
    check_later(gate, watch);
}

/* Asks with whom the user shares conversations now, and tells those. */
static void check(struct gate *gate, struct watch *watch)
{
    watch->again = watch->reading;
    if (watch->reading)
        return;
    watch->after[0] = 0;
    for (uint32_t i = 0; i < watch->count; i++) { /* oneself is no stranger */
        watch->entries[i].shares =
            strcmp(watch->entries[i].session->conn->who->user, watch->user) == 0;
        watch->entries[i].blocked = false;
    }
    ask_convs(gate, watch);
}

void presence_sweep(struct gate *gate)
{
    struct list again;
    struct list_link *link;
    list_init(&again);
    while ((link = list_pop(&gate->unchecked)) != NULL)
        list_push(&again, link);
    while ((link = list_pop(&again)) != NULL)
        check(gate, container_of(link, struct watch, in_unchecked));
}

void presence_recheck(struct gate *gate, struct span user)
{
    struct watch *watch = find(gate, user);
    if (watch != NULL)
        check(gate, watch);
}

void presence_take(struct gate *gate, const Loquat__Presence *presence)
{
    struct watch *watch = find(gate, span_str(presence->user));
    if (watch == NULL)
        return;
    watch->state = presence->state;
    watch->seen_ms = presence->last_seen;
    check(gate, watch);
}

void presence_go_on(struct gate *gate, const bool *partitions)
{
    for (struct map_slot *s = map_each(&gate->watches, NULL); s != NULL;
         s = map_each(&gate->watches, s)) {
        const struct watch *watch = s->val.p;
        if (partitions[watch->partition])
            ask_node(gate, watch, true);
    }
}

/* ---- which sessions watch whom ---- */

static struct watch *watch_of(struct gate *gate, struct span user)
{
    struct conv_id id = user_log_id(user);
    bool fresh;
    union map_val *val = map_put(&gate->watches, key_of(id), &fresh);
    if (!fresh)
        return val->p;
    struct watch *watch = xcalloc(1, sizeof *watch + user.n + 1);
    val->p = watch;
    watch->id = id;
    watch->partition = partition_of(id, gate->cluster.partitions);
    memcpy(watch->user, user.p, user.n);
    ask_node(gate, watch, true);
    return watch;
}

static uint32_t place_in(const struct watches *watches, const struct watch *watch)
{
    uint32_t i = 0;
    while (i < watches->count && watches->items[i] != watch)
        i++;
    return i;
}

/* False: it watches as many as it may. */
static bool add(struct session *session, struct span user)
{
    struct gate *gate = session->conn->gate;
    if (session->watches == NULL)
        session->watches = xcalloc(1, sizeof *session->watches);
    struct watches *watches = session->watches;
    struct watch *watch = find(gate, user);
    if (watch != NULL && place_in(watches, watch) < watches->count)
        return true;
    if (watches->count == PRESENCE_SESSION_MAX)
        return false;
    watch = watch_of(gate, user);
    if (watches->count == watches->cap) {
        watches->cap = watches->cap == 0 ? 8 : 2 * watches->cap;
        watches->items = xrealloc(watches->items, watches->cap * sizeof *watches->items);
    }
    watches->items[watches->count++] = watch;
    if (watch->count == watch->cap) {
        watch->cap += watch->cap / 2 + 1;
        watch->entries = xrealloc(watch->entries, watch->cap * sizeof *watch->entries);
    }
    watch->entries[watch->count++] = (struct watching){.session = session};
    if (watch->state != NOT_TOLD)
        check(gate, watch);
    return true;
}

static void drop(struct session *session, uint32_t at)
{
    struct gate *gate = session->conn->gate;
    struct watches *watches = session->watches;
    struct watch *watch = watches->items[at];
    watches->items[at] = watches->items[--watches->count];
    uint32_t i = 0;
    while (watch->entries[i].session != session)
        i++;
    watch->entries[i] = watch->entries[--watch->count];
    if (watch->count > 0)
        return;
    ask_node(gate, watch, false);
    if (watch->in_unchecked.next != NULL)
        list_remove(&watch->in_unchecked);
    map_remove(&gate->watches, key_of(watch->id));
    watch->dead = true;
    if (!watch->reading)
        watch_free(watch);
}

void presence_forget(struct session *session)
{
    struct watches *watches = session->watches;
    if (watches == NULL)
        return;
    while (watches->count > 0)
        drop(session, watches->count - 1);
    free(watches->items);
    free(watches);
    session->watches = NULL;
}

/* ---- the operation ---- */

static int take_list(struct request *request, const char *name, char ***users, size_t *count)
{
    const struct json_val *val = json_get(request->obj, name);
    *count = 0;
    if (val == NULL || val->type == JSON_NULL)
        return 0;
    return field_users(request, name, val, PRESENCE_SESSION_MAX, users, count);
}

static int take_state(struct request *request)
{
    struct session *session = request->conn->session;
    const struct json_val *set = json_get(request->obj, "set");
    if (set == NULL || set->type == JSON_NULL)
        return 0;
    bool away = set->type == JSON_STRING && span_is(set->str, "away");
    if (!away && (set->type != JSON_STRING || !span_is(set->str, "online")))
        return field_error(request, ERR_BAD_REQUEST, "set", "is online or away");
    session->away = away;
    fanout_settle_away(&request->conn->gate->fanout, span_str(request->who->user));
    return 0;
}

int op_presence(struct request *request)
{
    struct session *session = request->conn->session;
    char **on = NULL, **off = NULL;
    size_t on_count = 0, off_count = 0;
    int err = take_list(request, "watch", &on, &on_count);
    if (err == 0)
        err = take_list(request, "unwatch", &off, &off_count);
    if (err == 0)
        err = take_state(request);
    if (err != 0)
        return err;
    for (size_t i = 1; i < on_count; i++) { /* each costs the node as much as a request does */
        uint64_t after_ms = proto_rate(request->conn);
        if (after_ms == 0)
            continue;
        call_fail(request->call, ERR_RATE_LIMITED, "too many requests of this user", after_ms);
        return 0;
    }
    for (size_t i = 0; i < off_count; i++) {
        struct watch *watch = find(request->conn->gate, span_str(off[i]));
        uint32_t at = session->watches != NULL ? place_in(session->watches, watch) : 0;
        if (watch != NULL && session->watches != NULL && at < session->watches->count)
            drop(session, at);
    }
    for (size_t i = 0; i < on_count; i++)
        if (!add(session, span_str(on[i])))
            return field_error(request, ERR_TOO_LARGE, "watch", "names too many users");
    struct buf *text = call_begin(request->call);
    if (text != NULL)
        buf_add_str(text, "{}");
    call_ok(request->call);
    return 0;
}
