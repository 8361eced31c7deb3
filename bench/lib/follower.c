#include "bench/lib/follower.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/clock.h"

enum { TICK_MS = 10, AGAIN_MS = 500 };
enum { ID_SYNC = 2, ID_RANGE = 1000, ID_RESUME = ID_RANGE + FOLLOWER_LOGS_MAX };
#define ITEM "{\"c\":\""
#define LIVE_ITEM "{\"ev\":\"rec\",\"c\":\""

const char *line_after(struct span line, const char *name)
{
    const char *at = memmem(line.p, line.n, name, strlen(name));
    return at != NULL ? at + strlen(name) : NULL;
}

uint64_t line_number(struct span line, const char *name)
{
    const char *at = line_after(line, name);
    return at != NULL ? strtoull(at, NULL, 10) : 0;
}

/* ---- its conversations ---- */

struct followed *follower_log(struct follower *follower, const char *id)
{
    for (size_t i = 0; i < follower->count; i++)
        if (memcmp(follower->logs[i].id, id, MADE_ID_SIZE) == 0)
            return &follower->logs[i];
    return NULL;
}

struct followed *follower_follow(struct follower *follower, const char *id, uint64_t seen)
{
    struct followed *log = follower_log(follower, id);
    if (log == NULL) {
        ASSERT(follower->count < FOLLOWER_LOGS_MAX);
        if (follower->count == follower->cap) {
            follower->cap += follower->cap / 2 + 2;
            follower->logs = xrealloc(follower->logs, follower->cap * sizeof *follower->logs);
        }
        log = &follower->logs[follower->count++];
        *log = (struct followed){.gone = true};
        memcpy(log->id, id, MADE_ID_SIZE);
    }
    if (log->gone)
        log->seen = seen;
    log->gone = false;
    return log;
}

/* ---- asking ---- */

static void send_text(struct follower *follower, const struct buf *text)
{
    sock_send(&follower->sock, buf_span(text));
    net_flush(&follower->sock.net);
}

static void send_sync(struct follower *follower)
{
    struct buf text = {0};
    buf_addf(&text, "{\"id\":%d,\"op\":\"sync\",\"cur\":{", ID_SYNC);
    const char *comma = "";
    for (size_t i = 0; i < follower->count; i++) {
        const struct followed *log = &follower->logs[i];
        if (log->gone)
            continue;
        buf_addf(&text, "%s\"%s\":%llu", comma, log->id, (unsigned long long)log->seen);
        comma = ",";
    }
    buf_add_str(&text, "}}");
    send_text(follower, &text);
    buf_close(&text);
}

static void send_range(struct follower *follower, struct followed *log)
{
    struct buf text = {0};
    buf_addf(&text, "{\"id\":%zu,\"op\":\"range\",\"c\":\"%s\",\"from\":%llu,\"max\":%zu}",
             ID_RANGE + (size_t)(log - follower->logs), log->id, (unsigned long long)log->seen + 1,
             follower->all->page);
    log->again_s = 0;
    send_text(follower, &text);
    buf_close(&text);
}

static void send_resume(struct follower *follower, struct followed *log)
{
    struct buf text = {0};
    buf_addf(&text, "{\"id\":%zu,\"op\":\"resume\",\"c\":\"%s\",\"cur\":%llu}",
             ID_RESUME + (size_t)(log - follower->logs), log->id, (unsigned long long)log->seen);
    send_text(follower, &text);
    buf_close(&text);
}

void follower_ask(struct follower *follower, struct span text)
{
    ASSERT(follower->live);
    sock_send(&follower->sock, text);
    net_flush(&follower->sock.net);
}

/* ---- what comes ---- */

static NORETURN void fail_at(struct span line)
{
    bench_fail("what is this: %.*s", (int)(line.n < 400 ? line.n : 400), line.p);
}

bool line_item(struct span item, uint64_t *first, uint64_t *last)
{
    static const char SEQ[] = "\",\"s\":", HOLE[] = "\",\"hole\":[";
    const char *at = item.p + MADE_ID_SIZE;
    if (item.n < MADE_ID_SIZE + sizeof HOLE + 4)
        return false;
    if (memcmp(at, SEQ, sizeof SEQ - 1) == 0) {
        *first = *last = strtoull(at + sizeof SEQ - 1, NULL, 10);
        return true;
    }
    char *stop = NULL;
    if (memcmp(at, HOLE, sizeof HOLE - 1) != 0)
        return false;
    *first = strtoull(at + sizeof HOLE - 1, &stop, 10);
    *last = strtoull(stop + 1, NULL, 10);
    return true;
}

/* `at`: behind `"c":"`. */
static void take_item(struct follower *follower, const char *at, const char *end, bool live)
{
    struct followers *all = follower->all;
    struct span item = span_of(at, (size_t)(end - at));
    uint64_t first, last;
    struct followed *log = line_item(item, &first, &last) ? follower_log(follower, at) : NULL;
    if (log == NULL || log->gone)
        fail_at(item);
    all->received++;
    if (first <= log->seen) {
        all->twice++;
        return;
    }
    all->missed += first - log->seen - 1;
    log->seen = last;
    if (all->on_record != NULL)
        all->on_record(follower, log, item, live);
}

static void take_range(struct follower *follower, struct followed *log, struct span line)
{
    static const char NEXT[] = "\"next\":";
    const char *end = line.p + line.n;
    struct span tail = line.n > 128 ? span_of(end - 128, 128) : line;
    const char *next = line_after(tail, NEXT);
    if (next == NULL)
        fail_at(line);
    const char *item = line_after(line, ITEM);
    while (item != NULL) {
        const char *following = line_after(span_of(item, (size_t)(next - item)), ITEM);
        take_item(follower, item, following != NULL ? following - sizeof ITEM + 1 : next, false);
        item = following;
    }
    follower->all->ranges++;
    if (*next == 'n')
        send_resume(follower, log);
    else
        send_range(follower, log);
}

/* The conversations of the user: those that are new begin after their head. */
static void take_sync(struct follower *follower, struct span line)
{
    static const char KIND[] = "\",\"kind\":\"";
    struct followers *all = follower->all;
    const char *end = line.p + line.n, *at = line_after(line, ITEM);
    for (size_t i = 0; i < follower->count; i++)
        follower->logs[i].listed = false;
    for (; at != NULL; at = line_after(span_of(at, (size_t)(end - at)), ITEM)) {
        if (memcmp(at + MADE_ID_SIZE, KIND, sizeof KIND - 1) != 0)
            continue; /* the last record of one */
        uint64_t head = line_number(span_of(at, (size_t)(end - at)), "\"head\":");
        follower_follow(follower, at, head)->listed = true;
    }
    for (size_t i = 0; i < follower->count; i++)
        follower->logs[i].gone = !follower->logs[i].listed;
    follower->live = true;
    follower->live_s = now_s();
    all->live++;
    all->opening--;
    if (all->on_live != NULL)
        all->on_live(follower, line);
}

/* What the server can't answer now is asked again when it says, or up to twice as late. */
static void take_error(struct follower *follower, uint64_t id, struct span line)
{
    struct followers *all = follower->all;
    const char *wait = line_after(line, "\"after_ms\":");
    struct followed *log = NULL;
    if (id >= ID_RESUME && id - ID_RESUME < follower->count)
        log = &follower->logs[id - ID_RESUME];
    else if (id >= ID_RANGE && id - ID_RANGE < follower->count)
        log = &follower->logs[id - ID_RANGE];
    snprintf(all->why, sizeof all->why, "%.*s", (int)(line.n < 127 ? line.n : 127), line.p);
    if (log != NULL && line_after(line, "\"not_found\"") != NULL)
        return; /* the user was taken out meanwhile: `left` says so */
    if (wait == NULL || (log == NULL && id != ID_SYNC))
        bench_fail("refused: %.*s", (int)line.n, line.p);
    all->refused++;
    double at_s = now_s() + strtod(wait, NULL) * (1 + (double)(random_u64() % 1000) / 1000) / 1000;
    if (log != NULL) {
        log->again_s = at_s;
        follower->again = true;
    } else {
        follower->sync_s = at_s;
    }
}

static void take_answer(struct follower *follower, struct span line)
{
    uint64_t id = strtoull(line.p + 6, NULL, 10);
    const char *comma = memchr(line.p, ',', line.n);
    bool ok = comma != NULL && memcmp(comma, ",\"ok\":", 6) == 0;
    if (id >= FOLLOWER_ASKS) {
        follower->all->on_answer(follower, id, line);
    } else if (!ok) {
        take_error(follower, id, line);
    } else if (id == 1) {
        send_sync(follower);
    } else if (id == ID_SYNC) {
        take_sync(follower, line);
    } else if (id >= ID_RANGE && id < ID_RESUME) {
        take_range(follower, &follower->logs[id - ID_RANGE], line);
    }
}

static void take_event(struct follower *follower, struct span line)
{
    static const char LAG[] = "{\"ev\":\"lag\",\"c\":\"", LEFT[] = "{\"ev\":\"left\",\"c\":\"",
                      JOINED[] = "{\"ev\":\"joined\",\"c\":\"";
    if (LINE_BEGINS(line, LAG)) {
        struct followed *log = follower_log(follower, line.p + sizeof LAG - 1);
        if (log == NULL || log->gone)
            fail_at(line);
        follower->all->lags++;
        send_range(follower, log);
    } else if (LINE_BEGINS(line, JOINED)) {
        follower_follow(follower, line.p + sizeof JOINED - 1, line_number(line, "\"head\":"));
    } else if (LINE_BEGINS(line, LEFT)) {
        struct followed *log = follower_log(follower, line.p + sizeof LEFT - 1);
        if (log == NULL || log->gone)
            fail_at(line);
        log->gone = true;
    }
    if (follower->all->on_event != NULL)
        follower->all->on_event(follower, line);
}

static void on_line(struct sock *sock, struct span line)
{
    struct follower *follower = container_of(sock, struct follower, sock);
    if (LINE_BEGINS(line, LIVE_ITEM))
        take_item(follower, line.p + sizeof LIVE_ITEM - 1, line.p + line.n, true);
    else if (LINE_BEGINS(line, "{\"id\":"))
        take_answer(follower, line);
    else
        take_event(follower, line);
}

/* ---- coming and going ---- */

void follower_go(struct follower *follower, bool by_reset)
{
    struct followers *all = follower->all;
    follower->wanted = false;
    if (!follower->begun)
        return;
    if (follower->live)
        all->live--;
    else
        all->opening--;
    follower->begun = follower->live = false;
    follower->sync_s = 0;
    for (size_t i = 0; i < follower->count; i++)
        follower->logs[i].again_s = 0;
    by_reset ? net_reset(&follower->sock.net) : net_close(&follower->sock.net);
}

void follower_come(struct follower *follower, double after_s)
{
    follower->due_s = now_s() + after_s;
    follower->wanted = true;
}

/* Who was cut off waits half a second to one, so that a server that is away is not hammered. */
static void on_end(struct net *net, const char *why)
{
    struct follower *follower = container_of(net, struct follower, sock.net);
    struct followers *all = follower->all;
    if (follower->live)
        all->ended++;
    else
        all->failed++;
    snprintf(all->why, sizeof all->why, "%s", why);
    follower_go(follower, false);
    if (all->stay_away)
        return;
    follower_come(follower, AGAIN_MS * (1 + (double)(random_u64() % 1000) / 1000) / 1000);
}

static void begin(struct follower *follower)
{
    struct followers *all = follower->all;
    struct sock_plan plan = {
        .gateway = all->gateway, .loop = all->loop, .user = all->user, .on_line = on_line};
    follower->sock = (struct sock){.net = {.on_end = on_end, .receive_bytes = all->receive_bytes}};
    if (all->sources > 0)
        follower->sock.net.from = 2 + (unsigned)(follower->number % all->sources);
    follower->begun = true;
    all->opening++;
    sock_begin(&follower->sock, &plan, follower->number);
}

static void ask_again(struct follower *follower, double now)
{
    if (follower->sync_s > 0 && follower->sync_s <= now) {
        follower->sync_s = 0;
        send_sync(follower);
    }
    if (!follower->again)
        return;
    follower->again = false;
    for (size_t i = 0; i < follower->count; i++) {
        struct followed *log = &follower->logs[i];
        if (log->again_s > 0 && log->again_s <= now)
            send_range(follower, log);
        follower->again |= log->again_s > 0;
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct followers *all = timer->data;
    double now = now_s();
    size_t opening_max = all->opening_max != 0 ? all->opening_max : FOLLOWERS_OPENING_MAX;
    for (size_t i = 0; i < all->count; i++) {
        struct follower *follower = &all->each[i];
        if (follower->begun)
            ask_again(follower, now);
        else if (follower->wanted && follower->due_s <= now && follower->sock.net.closed &&
                 all->opening < opening_max)
            begin(follower);
    }
}

void followers_open(struct followers *followers, size_t count)
{
    followers->count = count;
    followers->each = xcalloc(count, sizeof *followers->each);
    for (size_t i = 0; i < count; i++) {
        followers->each[i].all = followers;
        followers->each[i].number = i;
        followers->each[i].sock.net.closed = true;
    }
    followers->tick.data = followers;
    uv_timer_init(followers->loop, &followers->tick);
    uv_timer_start(&followers->tick, on_tick, TICK_MS, TICK_MS);
}

void followers_all_live(struct followers *followers, uint64_t count, double secs)
{
    for (double until = now_s() + secs; followers->live < count && now_s() < until;)
        uv_run(followers->loop, UV_RUN_ONCE); /* the tick ends each wait */
    if (followers->live < count)
        bench_fail("%llu of %llu are live after %.0f s; %llu failed (%s)",
                   (unsigned long long)followers->live, (unsigned long long)count, secs,
                   (unsigned long long)followers->failed, followers->why);
}

void followers_close(struct followers *followers)
{
    for (size_t i = 0; i < followers->count; i++)
        follower_go(&followers->each[i], false);
    uv_close((uv_handle_t *)&followers->tick, NULL);
    net_settle(followers->loop);
    uv_run(followers->loop, UV_RUN_NOWAIT); /* the timer is the followers' */
    for (size_t i = 0; i < followers->count; i++)
        free(followers->each[i].logs);
    free(followers->each);
}
