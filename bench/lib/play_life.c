/* bench/lib/play_life.c: what the people of a play do, and when. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/play.h"
#include "store/base/clock.h"

enum {
    EDIT_MS_MIN = 200,
    EDIT_MS_SPREAD = 4000,
    REACT_MS_SPREAD = 5000,
    OFF_PERCENT = 10,       /* of the reactions are taken off again */
    AGAIN_PERCENT = 25,     /* of what was edited is edited once more */
    DELETED_PER_MILLE = 10, /* of messages; the profile does not know */
    PINNED_PER_MILLE = 5,
    THREADS_PERCENT = 15, /* of the replies stand in a thread */
    DELETE_MS = 300,      /* until a message that the archive calls deleted goes */
    PREVIEW_PART = 256,   /* a file's message has this part of its bytes */
    TRIES = 8,            /* to find somebody who is there */
    MARKS_EACH_S = 300,
    BREAKS_EACH_S = 4,
    AWAY_MS = 40000,
    BACK_MS = 1000,
};

struct play_act {
    struct play_act *next;
    const struct script_line *line;
    uint64_t s;
    const char *emoji;
    uint32_t conv, person; /* SCRIPT_NOBODY: somebody */
    uint8_t kind;
    bool off, file;
};

static uint64_t roll(uint64_t sides)
{
    return random_u64() % sides;
}

static bool chance(double share)
{
    return (double)roll(1000000) < share * 1000000;
}

/* What would be after the end happens right before it. */
static void later(struct play *play, struct play_act act, uint64_t in_ms)
{
    struct play_act *kept = xcalloc(1, sizeof *kept);
    size_t at = (size_t)((clock_mono_us() - play->begun_us + in_ms * 1000) / PLAY_SLOT_US);
    if (at < play->slot)
        at = play->slot;
    if (at >= play->slots_count)
        at = play->slots_count - 1;
    *kept = act;
    kept->next = play->slots[at];
    play->slots[at] = kept;
}

/* ---- messages ---- */

/* What may follow on a message. */
void play_said(struct play *play, const struct play_ask *ask, uint32_t person, uint64_t s)
{
    const struct script_line *line = ask->line;
    const struct profile *profile = &play->profile;
    play->convs[ask->conv].seqs[line->place] = s;
    if (!play->going || (!line->plain && line->what != SCRIPT_SAY_DELETED))
        return;
    struct play_act act = {
        .line = line, .s = s, .conv = ask->conv, .person = person, .file = ask->file};
    act.kind = PLAY_DELETE;
    if (line->what == SCRIPT_SAY_DELETED)
        later(play, act, DELETE_MS);
    else if (roll(1000) < DELETED_PER_MILLE)
        later(play, act, EDIT_MS_MIN + roll(2 * (uint64_t)EDIT_MS_SPREAD));
    act.kind = PLAY_EDIT;
    if (line->plain && chance(profile->edited)) {
        later(play, act, EDIT_MS_MIN + roll(EDIT_MS_SPREAD));
        if (roll(100) < AGAIN_PERCENT)
            later(play, act, EDIT_MS_MIN + EDIT_MS_SPREAD + roll(EDIT_MS_SPREAD));
    }
    act.kind = PLAY_PIN;
    if (roll(1000) < PINNED_PER_MILLE)
        later(play, act, roll(REACT_MS_SPREAD));
    act.kind = PLAY_REACT;
    act.person = SCRIPT_NOBODY;
    for (size_t kinds = chance(profile->reacted) ? profile_draw_number(&profile->kinds) : 0;
         kinds > 0; kinds--) {
        act.emoji = profile_draw(&profile->emojis);
        for (size_t votes = profile_draw_number(&profile->votes); votes > 0; votes--)
            later(play, act, roll(REACT_MS_SPREAD));
    }
}

/* A file is told with its size, and a small part of it as a preview: there are no uploads. */
static void add_file(struct play *play, struct buf *text)
{
    size_t size = profile_draw_number(&play->profile.files), n = size / PREVIEW_PART;
    size -= roll(size / 2 + 1);
    if (n > PLAY_FILE_MAX)
        n = PLAY_FILE_MAX;
    buf_addf(text, ",\"size\":%zu,\"preview\":\"", size);
    for (size_t i = 0; i < n; i++)
        buf_add_byte(text, (uint8_t)('A' + roll(26)));
    buf_add_byte(text, '"');
    play->files++;
}

/* What is in a file's message beside the file stands by itself: an edit of a body that has a `text`
 * is one of a text. */
static void add_body(struct play_ask *ask, const struct script_line *line, const char *more)
{
    buf_addf(&ask->text, ask->file ? ",\"body\":{\"message\":{%s}%s" : ",\"body\":{%s%s",
             line->members, more);
    buf_add_str(&ask->text, ",\"due\":\"");
    ask->stamp_at = ask->text.n;
    buf_add_str(&ask->text, "0000000000000000\"}");
}

static void add_reply(struct play *play, struct play_ask *ask, const struct script_line *line)
{
    uint64_t reply = line->reply >= 0 ? play->convs[line->conv].seqs[line->reply] : 0;
    if (reply == 0)
        return;
    buf_addf(&ask->text, ",\"reply\":%llu", (unsigned long long)reply);
    if (line->plain && roll(100) < THREADS_PERCENT) {
        buf_addf(&ask->text, ",\"thread\":%llu", (unsigned long long)reply);
        ask->number = reply;
    }
}

static void add_mention(struct play *play, struct play_ask *ask, const struct script_line *line)
{
    const struct play_conv *conv = &play->convs[line->conv];
    char name[USER_MAX + 1];
    if (!line->plain || conv->count == 0 || !chance(play->profile.mentioning))
        return;
    play->people.user(conv->members[roll(conv->count)], name, sizeof name);
    buf_addf(&ask->text, ",\"mentions\":[\"%s\"]", name);
}

static void come(struct play *play, uint32_t person)
{
    struct follower *follower = &play->people.each[person];
    if (!follower->begun && !follower->wanted)
        follower_come(follower, 0);
    else if (!follower->begun)
        follower->due_s = 0;
}

static void join(struct play *play, uint32_t conv, uint32_t person)
{
    if (play->convs[conv].in[person])
        return;
    play->convs[conv].in[person] = true;
    if (!play_leaving(play, conv, person)) /* else when that is answered */
        play_add_member(play, conv, person);
}

static void part(struct play *play, uint32_t conv, uint32_t person)
{
    if (!play->convs[conv].in[person])
        return;
    play->convs[conv].in[person] = false;
    if (!play_leaving(play, conv, person))
        play_ask_end(play, person, play_ask(play, person, PLAY_LEAVE, conv, true));
}

static void say(struct play *play, const struct script_line *line, uint64_t due_us)
{
    uint32_t person = line->person == SCRIPT_NOBODY ? (uint32_t)play_keeper(play) : line->person;
    join(play, line->conv, person);
    come(play, person);
    struct play_ask *ask = play_ask(play, person, PLAY_SAY, line->conv, true);
    struct buf more = {0};
    ask->file = line->plain && chance(play->profile.filed);
    if (ask->file)
        add_file(play, &more);
    buf_add_byte(&more, 0);
    ask->line = line;
    ask->due_us = due_us;
    buf_addf(&ask->text, ",\"kind\":\"%s\"", ask->file ? "x-file" : line->plain ? "text" : "x-irc");
    add_body(ask, line, more.p);
    add_reply(play, ask, line);
    add_mention(play, ask, line);
    play_ask_end(play, person, ask);
    buf_close(&more);
}

/* ---- acts ---- */

/* Its view of the message; NULL: it is not there, or does not see it. */
static const struct view_message *sees(struct play *play, uint32_t person, uint32_t conv,
                                       uint64_t s)
{
    const struct followed *log = play_log(play, person, conv);
    const struct play_seat *seat = log != NULL ? log->data : NULL;
    if (seat == NULL || !play->people.each[person].live || seat->filling || seat->view.seen < s ||
        seat->view.each[s].state != VIEW_MESSAGE || play_leaving(play, conv, person))
        return NULL;
    return &seat->view.each[s];
}

static uint32_t somebody_who_sees(struct play *play, uint32_t conv, uint64_t s)
{
    const struct play_conv *of = &play->convs[conv];
    for (int i = 0; i < TRIES && of->count > 0; i++) {
        uint32_t person = of->members[roll(of->count)];
        if (sees(play, person, conv, s) != NULL)
            return person;
    }
    return SCRIPT_NOBODY;
}

static void happen(struct play *play, struct play_act *act)
{
    if (act->kind == PLAY_PIN)
        act->person = (uint32_t)play_keeper(play);
    if (act->person == SCRIPT_NOBODY)
        act->person = somebody_who_sees(play, act->conv, act->s);
    if (act->person == SCRIPT_NOBODY || sees(play, act->person, act->conv, act->s) == NULL)
        return;
    struct play_ask *ask = play_ask(play, act->person, act->kind, act->conv, true);
    buf_addf(&ask->text, ",\"s\":%llu", (unsigned long long)act->s);
    if (act->kind == PLAY_DELETE)
        buf_add_str(&ask->text, ",\"for\":\"all\"");
    ask->file = act->file;
    if (act->kind == PLAY_EDIT)
        add_body(ask, act->line, roll(2) == 0 ? ",\"edit\":1" : ",\"edit\":2");
    else if (act->kind == PLAY_REACT)
        buf_addf(&ask->text, ",\"emoji\":\"%s\"", act->emoji);
    if (act->off)
        buf_add_str(&ask->text, ",\"on\":false");
    play_ask_end(play, act->person, ask);
    bool again =
        act->kind == PLAY_REACT ? roll(100) < OFF_PERCENT : act->kind == PLAY_PIN && roll(2) == 0;
    if (again && !act->off) {
        struct play_act off = *act;
        off.off = true;
        later(play, off, EDIT_MS_MIN + roll(REACT_MS_SPREAD));
    }
}

static void mark_somewhere(struct play *play)
{
    uint32_t person = (uint32_t)roll(play->people.count);
    struct follower *follower = &play->people.each[person];
    struct followed *log = follower->count > 0 ? &follower->logs[roll(follower->count)] : NULL;
    struct play_seat *seat = log != NULL && !log->gone ? log->data : NULL;
    if (!follower->live || seat == NULL || seat->view.seen == 0 ||
        play_leaving(play, seat->conv, person))
        return;
    uint64_t s = seat->view.seen - roll(2) * roll(seat->view.seen);
    if (roll(3) == 0) { /* one that may be dropped; it is said again in the end */
        char text[256];
        int n = snprintf(text, sizeof text, "{\"op\":\"mark\",\"c\":\"%s\",\"read\":%llu}", log->id,
                         (unsigned long long)s);
        follower_ask(follower, span_of(text, (size_t)n));
    } else {
        struct play_ask *ask = play_ask(play, person, PLAY_MARK, seat->conv, false);
        buf_addf(&ask->text, ",\"read\":%llu", (unsigned long long)s);
        play_ask_end(play, person, ask);
    }
    view_read(&seat->view, s);
}

static void cut(struct play *play, uint32_t person, uint64_t away_ms)
{
    struct follower *follower = &play->people.each[person];
    if (!follower->live)
        return;
    follower_go(follower, roll(2) == 0);
    follower_come(follower, (double)away_ms / 1000);
    play->breaks++;
}

static void do_line(struct play *play, const struct script_line *line)
{
    uint32_t person = line->person;
    if (line->what == SCRIPT_JOIN && person != SCRIPT_NOBODY) {
        if (play->convs[line->conv].in[person]) /* the archive does not tell of all quits */
            cut(play, person, roll(BACK_MS));
        join(play, line->conv, person);
        come(play, person);
    } else if (line->what == SCRIPT_PART && person != SCRIPT_NOBODY) {
        part(play, line->conv, person);
    } else if (line->what == SCRIPT_QUIT && person != SCRIPT_NOBODY) {
        cut(play, person, roll(AWAY_MS));
    } else {
        say(play, line, play->begun_us + line->at_us);
    }
    if (line->what == SCRIPT_NICK && person != SCRIPT_NOBODY) {
        part(play, line->conv, person);
        join(play, line->conv, line->other);
        come(play, line->other);
    }
}

void play_on_tick(uv_timer_t *timer)
{
    struct play *play = timer->data;
    if (!play->going)
        return;
    uint64_t now_us = clock_mono_us() - play->begun_us;
    double secs = (double)now_us / 1e6;
    bool over = secs >= play->secs;
    for (; play->line < play->script.count && play->script.lines[play->line].at_us <= now_us;
         play->line++)
        do_line(play, &play->script.lines[play->line]);
    for (; play->slot < play->slots_count && (play->slot + 1) * (uint64_t)PLAY_SLOT_US <= now_us;
         play->slot++) {
        while (play->slots[play->slot] != NULL) {
            struct play_act *act = play->slots[play->slot];
            play->slots[play->slot] = act->next;
            happen(play, act);
            free(act);
        }
    }
    for (; !over && play->mark_us <= (double)now_us; play->mark_us += 1e6 / MARKS_EACH_S)
        mark_somewhere(play);
    for (; !over && play->break_us <= (double)now_us; play->break_us += 1e6 / BREAKS_EACH_S)
        cut(play, (uint32_t)roll(play->people.count), roll(AWAY_MS));
    if (play->slot == play->slots_count && play->line == play->script.count)
        play->going = false;
}
