#include "bench/lib/play.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/clock.h"

enum { PAGE_JSON_MAX = 4 << 20, LINE_JSON_MAX = 256 << 10, COME_S_MAX = 60, SLACK_S = 5 };
enum { STAMP_SIZE = 16, TICK_MS = 2 };
#define KEEPER "keeper."

static struct play *playing; /* whose users have names */

static void user_name(size_t number, char *name, size_t size)
{
    if (number == play_keeper(playing))
        snprintf(name, size, KEEPER);
    else if (number < playing->script.people_count)
        snprintf(name, size, "%s", playing->script.people[number]);
    else
        snprintf(name, size, "reader%zu.", number); /* no nickname's id ends with a dot */
}

struct play *play_of(const struct follower *follower)
{
    return follower->all->data;
}

size_t play_keeper(const struct play *play)
{
    return play->people.count - 1;
}

struct followed *play_log(struct play *play, uint32_t person, uint32_t conv)
{
    struct followed *log = follower_log(&play->people.each[person], play->convs[conv].id);
    return log != NULL && !log->gone && log->data != NULL ? log : NULL;
}

void play_differs(struct play *play, const struct follower *follower, const char *conv, uint64_t s,
                  const char *what, struct span theirs)
{
    char name[USER_MAX + 1];
    user_name(follower->number, name, sizeof name);
    if (play->differences++ < PLAY_TOLD_MAX)
        bench_say("replay: differs: %s, %s, %llu: %s: %.*s", name, conv, (unsigned long long)s,
                  what, (int)(theirs.n < 600 ? theirs.n : 600), theirs.p);
}

/* ---- asking ---- */

struct play_ask *play_ask(struct play *play, uint32_t person, enum play_kind kind, uint32_t conv,
                          bool cid)
{
    static const char *const OPS[PLAY_KINDS] = {"send", "edit",   "delete", "react",
                                                "pin",  "member", "leave",  "meta",
                                                "mark", "range",  "range"};
    struct play_user *user = &play->users[person];
    struct play_ask *ask = xcalloc(1, sizeof *ask);
    if (user->count == user->cap) {
        user->cap = user->cap * 2 + 4;
        user->asks = xrealloc(user->asks, user->cap * sizeof(struct play_ask *));
    }
    user->asks[user->count++] = ask;
    play->unanswered++;
    *ask = (struct play_ask){.id = FOLLOWER_ASKS + play->asked++,
                             .conv = conv,
                             .person = person,
                             .kind = (uint8_t)kind,
                             .due_us = clock_mono_us()};
    buf_addf(&ask->text, "{\"id\":%llu,\"op\":\"%s\",\"c\":\"%s\"", (unsigned long long)ask->id,
             OPS[kind], play->convs[conv].id);
    if (cid)
        buf_addf(&ask->text, ",\"cid\":\"%llu\"", (unsigned long long)++play->cids);
    return ask;
}

/* Who is not there, or not in the conversation yet, says it later. */
static void send_ask(struct play *play, uint32_t person, struct play_ask *ask)
{
    struct follower *follower = &play->people.each[person];
    if (!follower->live || play_log(play, person, ask->conv) == NULL)
        return;
    if (ask->stamp_at > 0 && !ask->sent) {
        char stamp[STAMP_SIZE + 1];
        snprintf(stamp, sizeof stamp, "%0*llu", STAMP_SIZE, (unsigned long long)ask->due_us);
        memcpy(ask->text.p + ask->stamp_at, stamp, STAMP_SIZE);
    }
    ask->sent = true;
    ask->again_s = 0;
    follower_ask(follower, buf_span(&ask->text));
}

void play_ask_end(struct play *play, uint32_t person, struct play_ask *ask)
{
    buf_add_byte(&ask->text, '}');
    send_ask(play, person, ask);
}

static void drop_ask(struct play *play, struct play_user *user, size_t at)
{
    buf_close(&user->asks[at]->text);
    free(user->asks[at]);
    memmove(user->asks + at, user->asks + at + 1, (--user->count - at) * sizeof(struct play_ask *));
    play->unanswered--;
}

/* What it could not say until now. */
static void say_rest(struct play *play, uint32_t person)
{
    struct play_user *user = &play->users[person];
    for (size_t i = 0; i < user->count; i++) {
        if (user->asks[i]->sent)
            continue;
        user->asks[i]->due_us = clock_mono_us();
        send_ask(play, person, user->asks[i]);
    }
}

bool play_leaving(const struct play *play, uint32_t conv, uint32_t person)
{
    const struct play_user *user = &play->users[person];
    for (size_t i = 0; i < user->count; i++)
        if (user->asks[i]->kind == PLAY_LEAVE && user->asks[i]->conv == conv)
            return true;
    return false;
}

void play_add_member(struct play *play, uint32_t conv, uint32_t person)
{
    char name[USER_MAX + 1];
    uint32_t keeper = (uint32_t)play_keeper(play);
    struct play_ask *ask = play_ask(play, keeper, PLAY_ADD, conv, true);
    ask->person = person;
    user_name(person, name, sizeof name);
    buf_addf(&ask->text, ",\"user\":\"%s\",\"set\":\"add\"", name);
    play_ask_end(play, keeper, ask);
}

/* ---- what comes ---- */

static struct span conv_in(struct span line, const char *id)
{
    char name[MADE_ID_SIZE + 32];
    snprintf(name, sizeof name, "{\"c\":\"%.*s\",\"kind\":", MADE_ID_SIZE, id);
    const char *at = line_after(line, name);
    if (at == NULL)
        bench_fail("replay: sync does not have %.*s", MADE_ID_SIZE, id);
    return span_of(at, (size_t)(line.p + line.n - at));
}

/* What was asked and not answered is asked again; but pages, which only make sense as they are. */
static void ask_all_again(struct follower *follower)
{
    struct play *play = play_of(follower);
    uint32_t person = (uint32_t)follower->number;
    struct play_user *user = &play->users[person];
    for (size_t i = user->count; i > 0; i--)
        if (user->asks[i - 1]->kind == PLAY_HISTORY)
            drop_ask(play, user, i - 1);
    for (size_t i = 0; i < user->count; i++) {
        if (!user->asks[i]->sent)
            continue;
        play->again++;
        if (play_log(play, person, user->asks[i]->conv) != NULL)
            send_ask(play, person, user->asks[i]);
        else
            user->asks[i]->sent = false;
    }
}

static void on_live(struct follower *follower, struct span line)
{
    struct play *play = play_of(follower);
    struct play_user *user = &play->users[follower->number];
    ask_all_again(follower);
    user->u = line_number(line, "\"u\":");
    for (size_t i = 0; i < follower->count; i++) {
        struct followed *log = &follower->logs[i];
        struct play_seat *seat = log->data;
        if (log->gone)
            play_leave_seat(log);
        else if (seat == NULL)
            play_take_seat(follower, log, conv_in(line, log->id));
        else if (seat->filling)
            play_ask_history(seat);
    }
    say_rest(play, (uint32_t)follower->number);
    if (user->checking)
        play_check_sync(follower, line);
}

static void on_event(struct follower *follower, struct span line)
{
    static const char JOINED[] = "{\"ev\":\"joined\",\"c\":\"",
                      LEFT[] = "{\"ev\":\"left\",\"c\":\"", MARK[] = "{\"ev\":\"mark\",\"c\":\"",
                      USER[] = "{\"ev\":\"user\",\"s\":";
    struct play_user *user = &play_of(follower)->users[follower->number];
    if (LINE_BEGINS(line, JOINED)) {
        struct followed *log = follower_log(follower, line.p + sizeof JOINED - 1);
        if (log->data == NULL)
            play_take_seat(follower, log, line);
        say_rest(play_of(follower), (uint32_t)follower->number);
    } else if (LINE_BEGINS(line, LEFT)) {
        play_leave_seat(follower_log(follower, line.p + sizeof LEFT - 1));
    } else if (LINE_BEGINS(line, MARK)) {
        struct followed *log = follower_log(follower, line.p + sizeof MARK - 1);
        struct play_seat *seat = log != NULL ? log->data : NULL;
        char name[USER_MAX + 16];
        snprintf(name, sizeof name, "\"user\":\"%s\"", seat != NULL ? seat->view.self : "");
        if (seat != NULL && line_after(line, name) != NULL)
            view_read(&seat->view, line_number(line, "\"read\":"));
    } else if (LINE_BEGINS(line, USER)) {
        uint64_t u = strtoull(line.p + sizeof USER - 1, NULL, 10);
        if (follower->live && u != user->u + 1)
            play_differs(play_of(follower), follower, "the user log", u, "not the next entry",
                         line);
        user->u = u;
    }
}

/* ---- answers ---- */

/* True: it is asked again later. */
static bool take_error(struct play *play, struct play_ask *ask, struct span line)
{
    const char *wait = line_after(line, "\"after_ms\":");
    play->refused++;
    if (wait != NULL) {
        ask->again_s = now_s() + strtod(wait, NULL) / 1000;
        return true;
    }
    bool gone = line_after(line, "\"not_found\"") != NULL, /* deleted; or the user is out of it */
        full = line_after(line, "\"too_large\"") != NULL && ask->kind == PLAY_REACT,
         rootless = line_after(line, "thread is not a message") != NULL;
    if (!gone && !rootless && !full)
        play_differs(play, &play->people.each[ask->person], play->convs[ask->conv].id, 0, "refused",
                     line);
    return false;
}

static void take_answer(struct follower *follower, struct play_ask *ask, struct span line)
{
    struct play *play = play_of(follower);
    struct play_conv *conv = &play->convs[ask->conv];
    uint32_t person = (uint32_t)follower->number;
    uint64_t s = ask->kind < PLAY_MARK ? line_number(line, "\"s\":") : 0;
    play->answers[ask->kind]++;
    if (s > conv->head)
        conv->head = s;
    if (ask->kind == PLAY_SAY)
        play_said(play, ask, person, s);
    else if (ask->kind == PLAY_HISTORY)
        play_take_history(follower, ask, line);
    else if (ask->kind == PLAY_CHECK)
        play_check_page(follower, ask, line);
}

static void on_answer(struct follower *follower, uint64_t id, struct span line)
{
    struct play *play = play_of(follower);
    struct play_user *user = &play->users[follower->number];
    size_t at = 0;
    while (at < user->count && user->asks[at]->id != id)
        at++;
    if (at == user->count) {
        play_differs(play, follower, "no conversation", 0, "an answer to nothing", line);
        return;
    }
    struct play_ask *ask = user->asks[at];
    bool ok = line_after(line, ",\"ok\":") != NULL;
    if (!ok && take_error(play, ask, line))
        return;
    if (ok)
        take_answer(follower, ask, line);
    uint32_t conv = ask->conv, person = (uint32_t)follower->number;
    bool left = ask->kind == PLAY_LEAVE;
    for (at = 0; user->asks[at] != ask;) /* an answer may have made others */
        at++;
    drop_ask(play, user, at);
    if (left && play->convs[conv].in[person])
        play_add_member(play, conv, person); /* came again meanwhile */
}

/* ---- opening ---- */

static void become_member(struct play *play, uint32_t conv, uint32_t person)
{
    struct play_conv *to = &play->convs[conv];
    if (to->count == to->cap) {
        to->cap = to->cap * 2 + 16;
        to->members = xrealloc(to->members, to->cap * sizeof *to->members);
    }
    to->members[to->count++] = person;
}

static void open_conv(struct play *play, struct sock *keeper, uint32_t number)
{
    struct script_conv *from = &play->script.convs[number];
    struct play_conv *conv = &play->convs[number];
    size_t users = play->people.count, convs = play->script.convs_count;
    struct buf text = {0};
    char cid[32], name[USER_MAX + 1];
    snprintf(cid, sizeof cid, "replay%u", number);
    group_id(span_str(KEEPER), span_str(cid), conv->id);
    conv->seqs = xcalloc(from->lines, sizeof *conv->seqs);
    conv->in = xcalloc(users, sizeof *conv->in);
    for (size_t i = 0; i < from->count; i++) {
        become_member(play, number, from->people[i]);
        conv->in[from->people[i]] = !from->joins[i];
    }
    for (size_t i = play->script.people_count; i < users; i++) {
        if ((i - play->script.people_count) % convs != number && i != play_keeper(play))
            continue;
        become_member(play, number, (uint32_t)i);
        conv->in[i] = true;
    }
    buf_addf(&text,
             "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"replay\",\"cid\":\"%s\","
             "\"members\":[\"" KEEPER "\"",
             cid);
    for (size_t i = 0; i < conv->count; i++) {
        if (!conv->in[conv->members[i]])
            continue;
        user_name(conv->members[i], name, sizeof name);
        buf_addf(&text, ",\"%s\"", name);
        follower_follow(&play->people.each[conv->members[i]], conv->id, 0);
    }
    buf_add(&text, "]}", 3);
    sock_do(keeper, text.p);
    buf_close(&text);
}

static void keeper_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, KEEPER);
}

static void ignore_line(struct sock *sock, struct span line)
{
    (void)sock;
    (void)line;
}

void play_open(struct play *play, struct gateway *gateway, uv_loop_t *loop, size_t users)
{
    struct sock keeper = {0};
    struct sock_plan plan = {
        .gateway = gateway, .loop = loop, .user = keeper_name, .on_line = ignore_line};
    playing = play;
    play->gateway = gateway;
    play->loop = loop;
    play->json = json_new(LINE_JSON_MAX);
    play->page_json = json_new(PAGE_JSON_MAX);
    play->users = xcalloc(users, sizeof *play->users);
    play->convs = xcalloc(play->script.convs_count, sizeof *play->convs);
    play->slots_count = (size_t)((play->secs + SLACK_S) * 1e6 / PLAY_SLOT_US);
    play->slots = xcalloc(play->slots_count, sizeof(struct play_act *));
    play->people = (struct followers){.gateway = gateway,
                                      .loop = loop,
                                      .user = user_name,
                                      .page = PLAY_PAGE,
                                      .data = play,
                                      .on_record = play_on_record,
                                      .on_answer = on_answer,
                                      .on_live = on_live,
                                      .on_event = on_event};
    followers_open(&play->people, users);
    sock_open(&keeper, 0, 1, &plan);
    for (uint32_t i = 0; i < play->script.convs_count; i++)
        open_conv(play, &keeper, i);
    sock_close_all(&keeper, 1, loop);
    for (size_t i = 0; i < users; i++)
        follower_come(&play->people.each[i], 0);
    followers_all_live(&play->people, users, COME_S_MAX);
    play->tick.data = play;
    uv_timer_init(loop, &play->tick);
    uv_timer_start(&play->tick, play_on_tick, TICK_MS, TICK_MS);
}

/* Gives each conversation its topic: which a server that is new refuses in its first moments, as it
 * does reactions; mentions do not count until then. */
static void give_topics(struct play *play)
{
    uint32_t keeper = (uint32_t)play_keeper(play);
    for (uint32_t i = 0; i < play->script.convs_count; i++) {
        struct play_ask *ask = play_ask(play, keeper, PLAY_META, i, true);
        buf_add_str(&ask->text, ",\"topic\":");
        json_put_string(&ask->text, span_str(play->script.convs[i].name));
        play_ask_end(play, keeper, ask);
    }
    for (double until = now_s() + COME_S_MAX; !play_settled(play) && now_s() < until;)
        net_run(play->loop, 0.05);
    if (!play_settled(play))
        bench_fail("replay: the conversations got no topics in %d s", COME_S_MAX);
}

void play_begin(struct play *play)
{
    give_topics(play);
    play->begun_us = clock_mono_us();
    play->going = true;
}

/* ---- the end ---- */

static void ask_late(struct play *play, double now)
{
    for (size_t p = 0; p < play->people.count; p++) {
        struct play_user *user = &play->users[p];
        for (size_t i = 0; i < user->count && play->people.each[p].live; i++)
            if (user->asks[i]->again_s > 0 && user->asks[i]->again_s <= now)
                send_ask(play, (uint32_t)p, user->asks[i]);
    }
}

/* Nothing more is said by who is out of the conversation. */
static void drop_unsaid(struct play *play)
{
    for (size_t p = 0; p < play->people.count; p++) {
        struct play_user *user = &play->users[p];
        for (size_t i = user->count; i > 0; i--) {
            if (user->asks[i - 1]->sent || play->convs[user->asks[i - 1]->conv].in[p])
                continue;
            play->unsaid++;
            drop_ask(play, user, i - 1);
        }
    }
}

bool play_settled(struct play *play)
{
    struct followers *people = &play->people;
    ask_late(play, now_s());
    if (play->ending)
        drop_unsaid(play);
    if (people->live < people->count || play->unanswered > 0)
        return false;
    for (size_t p = 0; p < people->count; p++) {
        const struct follower *follower = &people->each[p];
        for (size_t i = 0; i < follower->count; i++) {
            const struct play_seat *seat = follower->logs[i].data;
            if (seat != NULL && (seat->filling || seat->view.seen < play->convs[seat->conv].head))
                return false;
        }
    }
    return true;
}

void play_close(struct play *play)
{
    uv_close((uv_handle_t *)&play->tick, NULL);
    for (size_t p = 0; p < play->people.count; p++) {
        struct follower *follower = &play->people.each[p];
        for (size_t i = 0; i < follower->count; i++)
            play_leave_seat(&follower->logs[i]);
        while (play->users[p].count > 0)
            drop_ask(play, &play->users[p], play->users[p].count - 1);
        free(play->users[p].asks);
    }
    followers_close(&play->people);
    for (size_t i = 0; i < play->script.convs_count; i++) {
        free(play->convs[i].seqs);
        free(play->convs[i].in);
        free(play->convs[i].members);
    }
    free(play->convs);
    free(play->users);
    free(play->slots);
    json_free(play->json);
    json_free(play->page_json);
    series_close(&play->latency_ms);
}
