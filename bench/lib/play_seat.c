/* bench/lib/play_seat.c: a user in a conversation: what comes of it makes its view. Who comes into
 * one fetches what was before; what comes meanwhile waits. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/play.h"
#include "store/base/clock.h"

static void on_wrong(const struct view *view, uint64_t s, const char *what, struct span theirs)
{
    const struct play_seat *seat = view->data;
    play_differs(seat->play, seat->follower, seat->play->convs[seat->conv].id, s, what, theirs);
}

static void take(struct play_seat *seat, struct span text)
{
    static struct json_obj obj;
    struct play *play = seat->play;
    if (json_parse(play->json, text.p, text.n, &obj) != 0)
        bench_fail("replay: %s: %.*s", json_error(play->json), (int)text.n, text.p);
    view_take(&seat->view, play->json, &obj);
    if (seat->view.seen > play->convs[seat->conv].head)
        play->convs[seat->conv].head = seat->view.seen;
}

static void note_latency(struct play *play, const struct follower *follower, struct span text)
{
    const char *stamp = line_after(text, "\"due\":\"");
    uint64_t due_us = stamp != NULL ? strtoull(stamp, NULL, 10) : 0;
    if (due_us > 0 && (double)due_us >= follower->live_s * 1e6)
        series_add(&play->latency_ms, ((double)clock_mono_us() - (double)due_us) / 1000);
}

/* The follower's item begins behind `"c":"`, and may have the page's punctuation behind it. */
void play_on_record(struct follower *follower, struct followed *log, struct span item, bool live)
{
    struct play_seat *seat = log->data;
    size_t head = live ? strlen("{\"ev\":\"rec\",\"c\":\"") : strlen("{\"c\":\"");
    const char *end = memrchr(item.p, '}', item.n);
    if (seat == NULL || end == NULL)
        bench_fail("replay: what is this: %.*s", (int)item.n, item.p);
    struct span text = span_of(item.p - head, (size_t)(end + 1 - item.p) + head);
    if (live)
        note_latency(seat->play, follower, text);
    if (seat->filling) {
        buf_add_span(&seat->queue, text);
        buf_add_byte(&seat->queue, '\n');
    } else {
        take(seat, text);
    }
}

void play_ask_history(struct play_seat *seat)
{
    uint32_t person = (uint32_t)seat->follower->number;
    struct play_ask *ask = play_ask(seat->play, person, PLAY_HISTORY, seat->conv, false);
    ask->number = seat->serial;
    buf_addf(&ask->text, ",\"from\":%llu,\"to\":%llu,\"max\":%d",
             (unsigned long long)seat->view.seen + 1, (unsigned long long)seat->base + 1,
             PLAY_PAGE);
    play_ask_end(seat->play, person, ask);
}

uint64_t play_page(struct play *play, struct span line, struct json_val *items, size_t *count)
{
    static struct json_obj answer, page;
    const struct json_val *ok, *records, *next;
    if (json_parse(play->page_json, line.p, line.n, &answer) != 0 ||
        (ok = json_get(&answer, "ok")) == NULL || json_open(play->page_json, ok, &page) != 0 ||
        (records = json_get(&page, "records")) == NULL || (next = json_get(&page, "next")) == NULL)
        bench_fail("replay: not a page: %.*s", (int)(line.n < 400 ? line.n : 400), line.p);
    int n = json_items(play->page_json, records, items, PLAY_ITEMS_MAX);
    if (n < 0 || n > PLAY_ITEMS_MAX)
        bench_fail("replay: a page of %d", n);
    *count = (size_t)n;
    return next->is_whole ? (uint64_t)next->whole : 0;
}

void play_take_history(struct follower *follower, const struct play_ask *ask, struct span line)
{
    static struct json_val items[PLAY_ITEMS_MAX];
    struct play *play = play_of(follower);
    struct followed *log = play_log(play, (uint32_t)follower->number, ask->conv);
    struct play_seat *seat = log != NULL ? log->data : NULL;
    if (seat == NULL || !seat->filling || seat->serial != ask->number)
        return; /* the user was out of it meanwhile */
    size_t count;
    uint64_t next = play_page(play, line, items, &count);
    for (size_t i = 0; i < count; i++)
        take(seat, items[i].raw);
    if (next != 0) {
        play_ask_history(seat);
        return;
    }
    if (seat->view.seen != seat->base)
        on_wrong(&seat->view, seat->view.seen, "the history ends", (struct span){0});
    seat->filling = false;
    play->filled++;
    const char *at = seat->queue.p, *end = at != NULL ? at + seat->queue.n : NULL;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        take(seat, span_of(at, (size_t)(newline - at)));
        at = newline + 1;
    }
    buf_close(&seat->queue);
}

/* ---- seats ---- */

static uint32_t conv_of(const struct play *play, const char *id)
{
    for (uint32_t i = 0; i < play->script.convs_count; i++)
        if (memcmp(play->convs[i].id, id, MADE_ID_SIZE) == 0)
            return i;
    bench_fail("replay: %.*s is nobody's conversation", MADE_ID_SIZE, id);
}

void play_take_seat(struct follower *follower, struct followed *log, struct span conv)
{
    struct play *play = play_of(follower);
    struct play_seat *seat = xcalloc(1, sizeof *seat);
    char *self = xcalloc(1, USER_MAX + 1);
    play->people.user(follower->number, self, USER_MAX + 1);
    *seat = (struct play_seat){.play = play,
                               .follower = follower,
                               .view = {.self = self,
                                        .wrong = on_wrong,
                                        .data = seat,
                                        .read = line_number(conv, "\"read\":")},
                               .conv = conv_of(play, log->id),
                               .serial = ++play->serials,
                               .base = log->seen,
                               .filling = log->seen > 0};
    log->data = seat;
    if (seat->filling)
        play_ask_history(seat);
}

void play_leave_seat(struct followed *log)
{
    struct play_seat *seat = log->data;
    if (seat == NULL)
        return;
    free((char *)(uintptr_t)seat->view.self);
    view_close(&seat->view);
    buf_close(&seat->queue);
    free(seat);
    log->data = NULL;
}
