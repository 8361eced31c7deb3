#include "bench/lib/view.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"

static uint64_t number(const struct json_obj *obj, const char *name)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->is_whole ? (uint64_t)val->whole : 0;
}

static struct span text(const struct json_obj *obj, const char *name)
{
    const struct json_val *val = json_get(obj, name);
    return val != NULL && val->type == JSON_STRING ? val->str : (struct span){0};
}

static uint64_t hash_of(struct span bytes)
{
    return XXH3_64bits(bytes.p, bytes.n);
}

static void wrong(const struct view *view, uint64_t s, const char *what, struct span theirs)
{
    view->wrong(view, s, what, theirs);
}

/* Of every member but those that change, that a live event has more, or that are looked at. */
static uint64_t hash_rest(const struct json_obj *item)
{
    static const char *const NOT[] = {"ev",   "c",      "s",       "mid",    "ts",       "n",
                                      "body", "edited", "replies", "pinned", "reactions"};
    uint64_t hash = 0;
    for (size_t i = 0; i < item->count; i++) {
        const struct json_field *field = &item->fields[i];
        size_t k = 0;
        while (k < sizeof NOT / sizeof *NOT && !span_is(field->name, NOT[k]))
            k++;
        if (k < sizeof NOT / sizeof *NOT)
            continue;
        hash = XXH3_64bits_withSeed(field->name.p, field->name.n, hash);
        hash = XXH3_64bits_withSeed(field->val.raw.p, field->val.raw.n, hash);
    }
    return hash;
}

static struct view_message *message_at(const struct view *view, uint64_t s)
{
    return s > 0 && s < view->cap ? &view->each[s] : NULL;
}

static struct view_message *make_room(struct view *view, uint64_t s)
{
    if (s >= view->cap) {
        size_t cap = s + s / 2 + 16;
        view->each = xrealloc(view->each, cap * sizeof *view->each);
        memset(view->each + view->cap, 0, (cap - view->cap) * sizeof *view->each);
        view->cap = cap;
    }
    return &view->each[s];
}

/* ---- reactions ---- */

static uint32_t *find_emoji(const struct view *view, struct view_message *message, uint64_t hash)
{
    uint32_t *at = &message->emojis;
    while (*at != 0 && view->emojis[*at - 1].hash != hash)
        at = &view->emojis[*at - 1].next;
    return at;
}

static uint32_t *find_vote(const struct view *view, struct view_emoji *emoji, uint64_t user)
{
    uint32_t *at = &emoji->votes;
    while (*at != 0 && view->votes[*at - 1].user != user)
        at = &view->votes[*at - 1].next;
    return at;
}

static uint32_t add_emoji(struct view *view, uint64_t hash)
{
    if (view->emojis_count == view->emojis_cap) {
        view->emojis_cap = view->emojis_cap * 2 + 16;
        view->emojis = xrealloc(view->emojis, view->emojis_cap * sizeof *view->emojis);
    }
    view->emojis[view->emojis_count++] = (struct view_emoji){.hash = hash};
    return (uint32_t)view->emojis_count;
}

static uint32_t add_vote(struct view *view, uint64_t user)
{
    if (view->votes_count == view->votes_cap) {
        view->votes_cap = view->votes_cap * 2 + 16;
        view->votes = xrealloc(view->votes, view->votes_cap * sizeof *view->votes);
    }
    view->votes[view->votes_count++] = (struct view_vote){.user = user};
    return (uint32_t)view->votes_count;
}

static void put_on(struct view *view, uint64_t s, uint64_t hash, uint64_t user)
{
    uint32_t *at = find_emoji(view, &view->each[s], hash), found = *at;
    if (found == 0) {
        uint32_t added = add_emoji(view, hash); /* what `at` points into may have moved */
        *find_emoji(view, &view->each[s], hash) = found = added;
    }
    uint32_t *vote = find_vote(view, &view->emojis[found - 1], user);
    if (*vote != 0) {
        wrong(view, s, "a reaction was put on twice", (struct span){0});
        return;
    }
    uint32_t added = add_vote(view, user);
    *find_vote(view, &view->emojis[found - 1], user) = added;
}

static void take_off(struct view *view, uint64_t s, uint64_t hash, uint64_t user)
{
    uint32_t *at = find_emoji(view, &view->each[s], hash);
    uint32_t *vote = *at != 0 ? find_vote(view, &view->emojis[*at - 1], user) : NULL;
    if (vote == NULL || *vote == 0) {
        wrong(view, s, "a reaction was taken off that was not on", (struct span){0});
        return;
    }
    *vote = view->votes[*vote - 1].next;
    if (view->emojis[*at - 1].votes == 0)
        *at = view->emojis[*at - 1].next;
}

/* ---- what comes ---- */

static bool is_message(struct span kind)
{
    return span_is(kind, "text") || (kind.n > 2 && memcmp(kind.p, "x-", 2) == 0);
}

static void take_hole(struct view *view, struct json *json, const struct json_val *hole)
{
    struct json_val ends[2];
    if (json_items(json, hole, ends, 2) != 2 || ends[0].whole != (int64_t)view->seen + 1 ||
        ends[1].whole < ends[0].whole) {
        wrong(view, view->seen + 1, "not the next hole", hole->raw);
        return;
    }
    for (uint64_t s = (uint64_t)ends[0].whole; s <= (uint64_t)ends[1].whole; s++)
        make_room(view, s)->state = VIEW_HOLE;
    view->seen = (uint64_t)ends[1].whole;
}

static bool mentions(struct json *json, const struct json_val *val, const char *self)
{
    struct json_val users[100];
    int n = val != NULL && val->type == JSON_ARRAY ? json_items(json, val, users, 100) : 0;
    bool me = val != NULL && val->type == JSON_STRING; /* all */
    for (int i = 0; i < n; i++)
        me |= span_is(users[i].str, self);
    return me;
}

static void take_message(struct view *view, struct json *json, const struct json_obj *item,
                         struct view_message *to)
{
    const struct json_val *body = json_get(item, "body");
    to->state = VIEW_MESSAGE;
    to->body = body != NULL ? hash_of(body->raw) : 0;
    to->rest = hash_rest(item);
    to->mentions_me = mentions(json, json_get(item, "mentions"), view->self);
    struct view_message *root = message_at(view, number(item, "thread"));
    if (root != NULL)
        root->replies++;
    if (span_is(text(item, "from"), view->self)) /* who writes has read what came before */
        view_read(view, view->seen);
}

static void take_reaction(struct view *view, struct json *json, const struct json_obj *item,
                          uint64_t s)
{
    struct json_obj body;
    const struct json_val *val = json_get(item, "body"), *on;
    if (val == NULL || json_open(json, val, &body) != 0 || (on = json_get(&body, "on")) == NULL)
        wrong(view, s, "not a reaction", val != NULL ? val->raw : (struct span){0});
    else
        (on->truth ? put_on : take_off)(view, s, hash_of(text(&body, "emoji")),
                                        hash_of(text(item, "from")));
}

static void take_change(struct view *view, struct json *json, const struct json_obj *item)
{
    const struct json_val *body = json_get(item, "body");
    struct span kind = text(item, "kind");
    uint64_t s = number(item, "target");
    struct view_message *to = message_at(view, s);
    struct json_obj set;
    if (span_is(kind, "member") && body != NULL && json_open(json, body, &set) == 0 &&
        span_is(text(&set, "set"), "add") && span_is(text(&set, "user"), view->self))
        view_read(view, view->seen); /* who comes has nothing unread */
    if (to == NULL || to->state != VIEW_MESSAGE || body == NULL)
        return; /* it was deleted since, and came as a hole */
    if (span_is(kind, "edit")) {
        to->body = hash_of(body->raw);
        to->edited = number(item, "ts");
    } else if (span_is(kind, "delete")) {
        to->state = VIEW_ERASED;
        to->emojis = 0;
        struct view_message *root = message_at(view, number(item, "thread"));
        if (root != NULL)
            root->replies--;
    } else if (span_is(kind, "react")) {
        take_reaction(view, json, item, s);
    } else if (span_is(kind, "pin")) {
        to->pinned = json_open(json, body, &set) == 0 && json_get(&set, "on") != NULL &&
                             json_get(&set, "on")->truth
                         ? number(item, "ts")
                         : 0;
    }
}

void view_take(struct view *view, struct json *json, const struct json_obj *item)
{
    const struct json_val *hole = json_get(item, "hole"), *mid = json_get(item, "mid");
    if (hole != NULL) {
        take_hole(view, json, hole);
        return;
    }
    uint64_t s = number(item, "s"), n = number(item, "n"), before = view->n;
    bool message = is_message(text(item, "kind"));
    if (s != view->seen + 1 || mid == NULL || mid->type != JSON_STRING) {
        wrong(view, s, "not the next record", (struct span){0});
        return;
    }
    struct view_message *to = make_room(view, s);
    bool behind_hole = s > 1 && view->each[s - 1].state == VIEW_HOLE;
    view->seen = s;
    view->n = n;
    if (behind_hole ? n < before + message : n != before + message)
        wrong(view, s, "n does not count", (struct span){0});
    *to = (struct view_message){.state = VIEW_OTHER,
                                .mid = strtoull(mid->raw.p + 1, NULL, 10),
                                .ts = number(item, "ts"),
                                .n = n};
    if (message)
        take_message(view, json, item, to);
    else
        take_change(view, json, item);
}

void view_read(struct view *view, uint64_t s)
{
    if (s > view->read)
        view->read = s;
}

uint64_t view_unread(const struct view *view, uint64_t *mentions_of_me)
{
    uint64_t unread = 0;
    *mentions_of_me = 0;
    for (uint64_t s = view->read + 1; s <= view->seen && s < view->cap; s++) {
        unread += view->each[s].state == VIEW_MESSAGE;
        *mentions_of_me += view->each[s].state == VIEW_MESSAGE && view->each[s].mentions_me;
    }
    return unread;
}

/* ---- comparing ---- */

struct comparing {
    const struct view *view;
    uint32_t next; /* emoji that is to come, + 1 */
    bool differs;
    struct json *json;
};

static bool compare_emoji(void *arg, const struct json_field *field)
{
    struct comparing *with = arg;
    struct json_obj obj;
    if (with->next == 0 || json_open(with->json, &field->val, &obj) != 0) {
        with->differs = true;
        return false;
    }
    struct view_emoji *emoji = &with->view->emojis[with->next - 1];
    uint64_t n = 0, self = hash_of(span_str(with->view->self));
    for (uint32_t vote = emoji->votes; vote != 0; vote = with->view->votes[vote - 1].next)
        n++;
    const struct json_val *me = json_get(&obj, "me");
    with->differs |= emoji->hash != hash_of(field->name) || n != number(&obj, "n") || me == NULL ||
                     me->truth != (*find_vote(with->view, emoji, self) != 0);
    with->next = emoji->next;
    return true;
}

static bool reactions_differ(const struct view *view, struct json *json, uint64_t s,
                             const struct json_obj *item)
{
    const struct json_val *val = json_get(item, "reactions");
    struct comparing with = {.view = view, .next = view->each[s].emojis, .json = json};
    if (val == NULL)
        return with.next != 0;
    return json_each(json, val, compare_emoji, &with) != 0 || with.differs || with.next != 0;
}

void view_check_none(const struct view *view, uint64_t first, uint64_t until)
{
    for (uint64_t s = first; s < until; s++) {
        const struct view_message *own = message_at(view, s);
        if (own == NULL || own->state == VIEW_MESSAGE || own->state == VIEW_ERASED ||
            own->state == VIEW_UNKNOWN)
            wrong(view, s, "the server does not show it", (struct span){0});
    }
}

static uint64_t check_hole(const struct view *view, struct json *json, uint64_t at,
                           const struct json_val *hole, struct span raw)
{
    struct json_val ends[2];
    if (json_items(json, hole, ends, 2) != 2 || ends[0].whole < (int64_t)at) {
        wrong(view, at, "not a hole that can be here", raw);
        return at;
    }
    view_check_none(view, at, (uint64_t)ends[0].whole);
    for (uint64_t s = (uint64_t)ends[0].whole; s <= (uint64_t)ends[1].whole; s++) {
        const struct view_message *own = message_at(view, s);
        if (own == NULL || (own->state != VIEW_HOLE && own->state != VIEW_ERASED))
            wrong(view, s, "a hole", raw);
    }
    return (uint64_t)ends[1].whole + 1;
}

uint64_t view_check(const struct view *view, struct json *json, uint64_t at,
                    const struct json_obj *item, struct span raw)
{
    const struct json_val *hole = json_get(item, "hole"), *mid = json_get(item, "mid"),
                          *body = json_get(item, "body");
    if (hole != NULL)
        return check_hole(view, json, at, hole, raw);
    uint64_t s = number(item, "s");
    const struct view_message *own = message_at(view, s);
    if (s < at || own == NULL || mid == NULL || body == NULL) {
        wrong(view, s, "not a message that can be here", raw);
        return at;
    }
    view_check_none(view, at, s);
    if (own->state != VIEW_MESSAGE)
        wrong(view, s, own->state == VIEW_ERASED ? "it was deleted" : "it did not come", raw);
    else if (own->mid != strtoull(mid->raw.p + 1, NULL, 10) || own->ts != number(item, "ts") ||
             own->n != number(item, "n") || own->rest != hash_rest(item))
        wrong(view, s, "mid, ts, n, from, kind, reply, thread, mentions or cid", raw);
    else if (own->body != hash_of(body->raw))
        wrong(view, s, "body", raw);
    else if (own->edited != number(item, "edited"))
        wrong(view, s, "edited", raw);
    else if (own->pinned != number(item, "pinned"))
        wrong(view, s, "pinned", raw);
    else if (own->replies != number(item, "replies"))
        wrong(view, s, "replies", raw);
    else if (reactions_differ(view, json, s, item))
        wrong(view, s, "reactions", raw);
    return s + 1;
}

void view_close(struct view *view)
{
    free(view->each);
    free(view->emojis);
    free(view->votes);
}
