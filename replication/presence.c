#include "replication/presence.h"

#include <stdlib.h>

#include "store/base/bound.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/jwt.h"

enum { NOT_TOLD = LOQUAT__PRESENCE_STATE__PRESENCE_NONE };

struct watched {
    struct conv_id id;
    uint32_t partition, told; /* enum PresenceState */
    uint64_t gone_ms;         /* when it is told, of one that is leaving; monotonic */
    struct list watchers;
    struct list_link in_leaving;
    char user[USER_MAX + 1];
};

struct watcher {
    struct watched *watched;
    struct feed_peer *peer;
    struct list_link in_watched, in_peer;
};

static struct map_key key_of(struct conv_id id)
{
    return (struct map_key){id.hi, id.lo};
}

static struct watched *find(const struct presence *presence, struct conv_id id)
{
    union map_val *val = map_get(&presence->watched, key_of(id));
    return val != NULL ? val->p : NULL;
}

void presence_init(struct presence *presence, uint32_t partitions, const struct presence_ops *ops,
                   void *arg)
{
    *presence = (struct presence){.ops = ops, .arg = arg, .partitions = partitions};
    presence->led_ms = xcalloc(partitions, sizeof *presence->led_ms);
    map_init(&presence->watched);
    map_init(&presence->seen);
    list_init(&presence->leaving);
}

void presence_close(struct presence *presence)
{
    ASSERT(presence->watched.count == 0);
    map_close(&presence->watched);
    map_close(&presence->seen);
    free(presence->led_ms);
}

/* ---- telling ---- */

static void say(const struct presence *presence, const struct watched *watched,
                struct feed_peer *peer)
{
    const union map_val *seen = map_get(&presence->seen, key_of(watched->id));
    Loquat__Presence message = LOQUAT__PRESENCE__INIT;
    char bytes[2 * USER_MAX];
    message.user = (char *)(uintptr_t)watched->user;
    message.partition = watched->partition;
    message.state = watched->told;
    if (seen != NULL && watched->told == LOQUAT__PRESENCE_STATE__PRESENCE_OFFLINE)
        message.last_seen = seen->u;
    size_t size = loquat__presence__get_packed_size(&message);
    ASSERT(size <= sizeof bytes);
    loquat__presence__pack(&message, (uint8_t *)bytes);
    presence->ops->say(presence->arg, peer, span_of(bytes, size));
}

static void tell(const struct presence *presence, struct watched *watched, uint32_t state)
{
    watched->told = state;
    for (struct list_link *link = list_first(&watched->watchers); link != NULL;
         link = list_next(&watched->watchers, link))
        say(presence, watched, container_of(link, struct watcher, in_watched)->peer);
}

/* The order of the list is that of their times. */
static void leave_at(struct presence *presence, struct watched *watched, uint64_t at_ms)
{
    struct list_link *before = presence->leaving.head.prev;
    while (before != &presence->leaving.head &&
           container_of(before, struct watched, in_leaving)->gone_ms > at_ms)
        before = before->prev;
    watched->gone_ms = at_ms;
    list_put_after(before, &watched->in_leaving);
}

static void stay(struct watched *watched)
{
    if (watched->in_leaving.next != NULL)
        list_remove(&watched->in_leaving);
}

static uint64_t led_until(const struct presence *presence, uint32_t partition)
{
    return presence->led_ms[partition] + PRESENCE_LED_MS;
}

void presence_changed(struct presence *presence, struct conv_id user, bool lost, uint64_t now_ms)
{
    struct watched *watched = find(presence, user);
    uint32_t state = presence->ops->state(presence->arg, user);
    if (state == LOQUAT__PRESENCE_STATE__PRESENCE_OFFLINE) {
        bool fresh;
        if (presence->seen.count >= PRESENCE_SEEN_MAX)
            map_clear(&presence->seen);
        map_put(&presence->seen, key_of(user), &fresh)->u = clock_wall_ms();
    }
    if (watched == NULL)
        return;
    if (state != LOQUAT__PRESENCE_STATE__PRESENCE_OFFLINE) {
        stay(watched);
        if (state != watched->told)
            tell(presence, watched, state);
        return;
    }
    uint64_t at_ms = now_ms + (lost ? PRESENCE_LOST_MS : PRESENCE_CLOSED_MS);
    if (at_ms < led_until(presence, watched->partition))
        at_ms = led_until(presence, watched->partition);
    if (watched->told != state && watched->in_leaving.next == NULL)
        leave_at(presence, watched, at_ms);
}

void presence_again(struct presence *presence, struct conv_id user)
{
    struct watched *watched = find(presence, user);
    if (watched != NULL && watched->told != NOT_TOLD)
        tell(presence, watched, watched->told);
}

void presence_tick(struct presence *presence, uint64_t now_ms)
{
    struct list_link *link;
    while ((link = list_first(&presence->leaving)) != NULL) {
        struct watched *watched = container_of(link, struct watched, in_leaving);
        if (watched->gone_ms > now_ms)
            return;
        stay(watched);
        tell(presence, watched, presence->ops->state(presence->arg, watched->id));
    }
}

/* ---- who watches ---- */

static void end(struct presence *presence, struct watched *watched)
{
    stay(watched);
    map_remove(&presence->watched, key_of(watched->id));
    free(watched);
}

static void unwatch(struct presence *presence, struct watcher *watcher)
{
    struct watched *watched = watcher->watched;
    list_remove(&watcher->in_watched);
    list_remove(&watcher->in_peer);
    watcher->peer->watches--;
    free(watcher);
    if (list_empty(&watched->watchers))
        end(presence, watched);
}

static struct watcher *watcher_of(const struct watched *watched, const struct feed_peer *peer)
{
    for (struct list_link *link = list_first(&watched->watchers); link != NULL;
         link = list_next(&watched->watchers, link)) {
        struct watcher *watcher = container_of(link, struct watcher, in_watched);
        if (watcher->peer == peer)
            return watcher;
    }
    return NULL;
}

static struct watched *begin(struct presence *presence, struct conv_id id,
                             const Loquat__Watch *watch, uint64_t now_ms)
{
    struct watched *watched = xcalloc(1, sizeof *watched);
    bool fresh;
    map_put(&presence->watched, key_of(id), &fresh)->p = watched;
    watched->id = id;
    watched->partition = watch->partition;
    watched->told = presence->ops->state(presence->arg, id);
    memcpy(watched->user, watch->user, strlen(watch->user));
    list_init(&watched->watchers);
    if (watched->told == LOQUAT__PRESENCE_STATE__PRESENCE_OFFLINE &&
        now_ms < led_until(presence, watch->partition)) {
        watched->told = NOT_TOLD;
        leave_at(presence, watched, led_until(presence, watch->partition));
    }
    return watched;
}

void presence_watch(struct presence *presence, struct feed_peer *peer, const Loquat__Watch *watch,
                    uint64_t now_ms)
{
    struct span user = span_str(watch->user);
    if (!user_valid(user) || watch->partition >= presence->partitions)
        return;
    struct conv_id id = user_log_id(user);
    struct watched *watched = find(presence, id);
    struct watcher *watcher = watched != NULL ? watcher_of(watched, peer) : NULL;
    if (!watch->on || watcher != NULL) {
        if (watcher != NULL && !watch->on)
            unwatch(presence, watcher);
        else if (watcher != NULL && watched->told != NOT_TOLD)
            say(presence, watched, peer);
        return;
    }
    if (peer->watches == PRESENCE_WATCHES_MAX) {
        bound_hit(BOUND_WATCHES);
        return;
    }
    if (watched == NULL)
        watched = begin(presence, id, watch, now_ms);
    watcher = xcalloc(1, sizeof *watcher);
    *watcher = (struct watcher){.watched = watched, .peer = peer};
    list_push(&watched->watchers, &watcher->in_watched);
    list_push(&peer->watching, &watcher->in_peer);
    peer->watches++;
    if (watched->told != NOT_TOLD)
        say(presence, watched, peer);
}

void presence_peer_close(struct presence *presence, struct feed_peer *peer)
{
    for (struct list_link *link = list_first(&peer->watching), *next; link != NULL; link = next) {
        next = list_next(&peer->watching, link);
        unwatch(presence, container_of(link, struct watcher, in_peer));
    }
}

/* ---- who leads ---- */

void presence_led(struct presence *presence, uint32_t partition, uint64_t now_ms)
{
    presence->led_ms[partition] = now_ms;
}

void presence_drop(struct presence *presence, uint32_t partition)
{
    struct watched **dropped = xmalloc((presence->watched.count + 1) * sizeof *dropped);
    size_t count = 0;
    for (struct map_slot *s = map_each(&presence->watched, NULL); s != NULL;
         s = map_each(&presence->watched, s))
        if (((struct watched *)s->val.p)->partition == partition)
            dropped[count++] = s->val.p;
    for (size_t i = 0; i < count; i++) {
        for (struct list_link *link = list_first(&dropped[i]->watchers), *next; link != NULL;
             link = next) {
            next = list_next(&dropped[i]->watchers, link);
            struct watcher *watcher = container_of(link, struct watcher, in_watched);
            list_remove(&watcher->in_peer);
            watcher->peer->watches--;
            free(watcher);
        }
        end(presence, dropped[i]);
    }
    free(dropped);
}
