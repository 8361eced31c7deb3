/* bench/lib/play_check.c: the end of a play: every user comes anew with its cursors; what `sync`
 * says of each conversation, and the folded view, page by page, is compared with its own. */
#include <stdlib.h>

#include "bench/lib/play.h"

enum { CHECKING_MAX = 32, CHECK_S_MAX = 240, MARK_S_MAX = 30 };

static void ask_page(struct play *play, uint32_t person, uint32_t conv, uint64_t from)
{
    struct play_ask *ask = play_ask(play, person, PLAY_CHECK, conv, false);
    ask->number = from;
    buf_addf(&ask->text, ",\"view\":\"folded\",\"from\":%llu,\"max\":%d", (unsigned long long)from,
             PLAY_PAGE);
    play_ask_end(play, person, ask);
}

static void compare(struct play_seat *seat, const struct json_obj *conv, struct span raw,
                    const char *name, uint64_t own)
{
    const struct json_val *val = json_get(conv, name);
    if (val == NULL || (uint64_t)val->whole != own || !val->is_whole) {
        char what[64];
        int n = snprintf(what, sizeof what, "%s, own %llu", name, (unsigned long long)own);
        ASSERT(n > 0);
        play_differs(seat->play, seat->follower, seat->play->convs[seat->conv].id, 0, what, raw);
    }
}

static void check_conv(struct follower *follower, const struct json_val *val)
{
    static struct json_obj conv;
    struct play *play = play_of(follower);
    const struct json_val *id;
    if (json_open(play->page_json, val, &conv) != 0 || (id = json_get(&conv, "c")) == NULL ||
        id->str.n != MADE_ID_SIZE)
        bench_fail("replay: not a Conv: %.*s", (int)val->raw.n, val->raw.p);
    struct followed *log = follower_log(follower, id->str.p);
    struct play_seat *seat = log != NULL ? log->data : NULL;
    if (seat == NULL || seat->filling) {
        play_differs(play, follower, "a conversation", 0, "it was not told of it", val->raw);
        return;
    }
    uint64_t mentions, unread = view_unread(&seat->view, &mentions);
    log->listed = false; /* looked for below */
    compare(seat, &conv, val->raw, "unread", unread);
    compare(seat, &conv, val->raw, "mentions", mentions);
    compare(seat, &conv, val->raw, "read", seat->view.read);
    compare(seat, &conv, val->raw, "head", seat->view.seen);
    compare(seat, &conv, val->raw, "n", seat->view.n);
}

void play_check_sync(struct follower *follower, struct span line)
{
    static struct json_obj answer, ok;
    static struct json_val convs[500];
    struct play *play = play_of(follower);
    struct play_user *user = &play->users[follower->number];
    const struct json_val *val;
    if (json_parse(play->page_json, line.p, line.n, &answer) != 0 ||
        (val = json_get(&answer, "ok")) == NULL || json_open(play->page_json, val, &ok) != 0 ||
        (val = json_get(&ok, "convs")) == NULL)
        bench_fail("replay: not what sync answers: %.*s", (int)line.n, line.p);
    int n = json_items(play->page_json, val, convs, 500);
    ASSERT(n >= 0 && n <= 500);
    for (int i = 0; i < n; i++)
        check_conv(follower, &convs[i]);
    user->to_check = 0;
    for (size_t i = 0; i < follower->count; i++) {
        struct followed *log = &follower->logs[i];
        if (log->gone || log->data == NULL)
            continue;
        if (log->listed)
            play_differs(play, follower, log->id, 0, "sync says it twice or not at all", line);
        user->to_check++;
    }
    for (size_t i = 0; i < follower->count; i++) {
        struct play_seat *seat = follower->logs[i].data;
        if (seat != NULL && !follower->logs[i].gone)
            ask_page(play, (uint32_t)follower->number, seat->conv, 1);
    }
    user->checked = user->to_check == 0;
}

void play_check_page(struct follower *follower, const struct play_ask *ask, struct span line)
{
    static struct json_val items[PLAY_ITEMS_MAX];
    static struct json_obj item;
    struct play *play = play_of(follower);
    struct play_user *user = &play->users[follower->number];
    const struct followed *log = play_log(play, (uint32_t)follower->number, ask->conv);
    const struct play_seat *seat = log != NULL ? log->data : NULL;
    size_t count;
    uint64_t next = play_page(play, line, items, &count), at = ask->number;
    if (seat == NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        if (json_open(play->page_json, &items[i], &item) != 0)
            bench_fail("replay: %s: %.*s", json_error(play->page_json), (int)items[i].raw.n,
                       items[i].raw.p);
        at = view_check(&seat->view, play->page_json, at, &item, items[i].raw);
        play->checked_messages++;
    }
    view_check_none(&seat->view, at, next != 0 ? next : seat->view.seen + 1);
    if (next != 0)
        ask_page(play, (uint32_t)follower->number, ask->conv, next);
    else
        user->checked = --user->to_check == 0;
}

/* Marks without an id may have been dropped: each user says once more how far it has read. */
static void mark_all(struct play *play)
{
    for (uint32_t p = 0; p < play->people.count; p++) {
        struct follower *follower = &play->people.each[p];
        for (size_t i = 0; i < follower->count; i++) {
            const struct play_seat *seat = follower->logs[i].data;
            if (seat == NULL || seat->view.read == 0)
                continue;
            struct play_ask *ask = play_ask(play, p, PLAY_MARK, seat->conv, false);
            buf_addf(&ask->text, ",\"read\":%llu", (unsigned long long)seat->view.read);
            play_ask_end(play, p, ask);
        }
    }
    for (double until = now_s() + MARK_S_MAX; !play_settled(play) && now_s() < until;)
        net_run(play->loop, 0.05);
    if (!play_settled(play))
        bench_fail("replay: %llu marks are not answered", (unsigned long long)play->unanswered);
}

void play_check(struct play *play)
{
    struct followers *people = &play->people;
    mark_all(play);
    size_t begun = 0, first = 0;
    for (double until = now_s() + CHECK_S_MAX; first < people->count && now_s() < until;) {
        for (; begun < people->count && begun < first + CHECKING_MAX; begun++) {
            play->users[begun].checking = true;
            follower_go(&people->each[begun], false);
            follower_come(&people->each[begun], 0);
        }
        net_run(play->loop, 0.01);
        while (first < begun && play->users[first].checked)
            first++;
        (void)play_settled(play); /* what was refused is asked again */
        bench_progress("replay: comparing", (double)first / (double)people->count);
    }
    play->checked = first;
    if (first < people->count)
        bench_fail("replay: only %zu of %zu users could be compared", first, people->count);
}
