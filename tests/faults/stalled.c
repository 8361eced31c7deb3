/* stalled [READERS]: so many live WebSocket clients stop reading while messages keep coming to
 * them, many times what may wait for one. Meanwhile the server's memory stays flat, and neither
 * those who read nor the one who writes waits longer than under the same load before; then they
 * read again, and each gets everything, in order, once, in the way of docs/PROTOCOL.md: what
 * waited, a `lag`, ranges, what the server reads for it, live again.
 * All are in one hall and each in one room of ROOM, so that what is queued for one of them would
 * show both as bytes and as references to shared ones. The last line: `N passed, N failed`. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/follower.h"
#include "bench/lib/verdict.h"
#include "store/base/clock.h"

enum {
    ROOM = 50,
    HEALTHY = 4,
    TEXT = 6400,
    HALL_MESSAGES = 128, /* less than a window: the server reads for them */
    ROOM_MESSAGES = 512, /* twice that: they are told to read by themselves */
    PHASE_S = 8,
    SETTLED = 3, /* a third of the messages goes by before anything is measured: buffers fill */
    RECEIVE_BYTES = 64 << 10, /* less, and TCP itself loses much of the catching up */
    PAGE = 1000,              /* as many as a client may ask for; they end at 1 MiB */
    SAMPLE_MS = 250,
    TICK_MS = 1,
    LIVE_S_MAX = 30,
    CATCH_UP_S_MAX = 120,
    BALLAST_BYTES = 320 << 20, /* fills the memtables of both databases before memory is measured */
    STAMP_SIZE = 16,
};
enum { /* what must hold */
       /* Private memory of the server for each: what may wait, and a page that it read for one, as
        * bytes of their own. All that came would be 4,000, or, shared, 150. */
       STALLED_KIB_MAX = 512,
       FLAT_KIB_MAX = 32, /* and how much of that came after the buffers were full */
       P99_MS_MAX = 500,
       P99_TIMES_MAX = 3, /* of p99 without them, and this beside: */
       P99_MORE_MS = 20,
       ATTEMPTS = 2, /* the machine may have had something else to do */
};
#if defined(__SANITIZE_ADDRESS__)
enum { MEASURES = false, READERS = 200 }; /* neither memory nor time is the server's own */
#else
enum { MEASURES = true, READERS = 1000 };
#endif

struct conv {
    char id[MADE_ID_SIZE + 1];
    uint64_t head;
};
struct phase {
    struct stage *stage;
    uint64_t begin_us, measured_us; /* when due after the latter, a message is measured */
    double interval_us;
    uint64_t sent, answered;
    double before, settled, peak, after; /* bytes of the server */
    struct series acks, deliveries;
};
struct stage {
    uv_loop_t *loop;
    struct gateway gateway;
    struct sock writer;
    struct conv *convs, ballast; /* the rooms, then the hall */
    size_t readers, rooms;
    struct followers stalled, healthy;
    struct phase *phase;
    uint64_t answered, wrong;
};

static void stalled_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "stalled%zu", number);
}

static void healthy_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "healthy%zu", number);
}

static void writer_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "writer");
}

/* ---- who is where: first the hall, then rooms ---- */

static struct conv *conv_in(const struct followers *who, size_t number, size_t in)
{
    const struct stage *stage = who->data;
    if (in == 0)
        return &stage->convs[stage->rooms];
    return &stage->convs[who == &stage->healthy ? number + (in - 1) * HEALTHY : number / ROOM];
}

static bool is_in(const struct followers *who, size_t number, size_t room)
{
    const struct stage *stage = who->data;
    return room == stage->rooms ||
           (who == &stage->healthy ? room % HEALTHY == number : number / ROOM == room);
}

/* How many do not hold all of their conversations. */
static size_t behind(const struct followers *who)
{
    size_t n = 0;
    for (size_t i = 0; i < who->count; i++) {
        bool all = true;
        for (size_t in = 0; in < who->each[i].count; in++)
            all = all && who->each[i].logs[in].seen == conv_in(who, i, in)->head;
        n += !all;
    }
    return n;
}

/* ---- writing ---- */

static void say(struct stage *stage, struct conv *conv, uint64_t id, uint64_t due_us)
{
    static char text[TEXT];
    char stamp[64], head[256];
    memset(text, 'x', sizeof text);
    int n = snprintf(stamp, sizeof stamp, "%0*llu %llu ", STAMP_SIZE, (unsigned long long)due_us,
                     (unsigned long long)++conv->head);
    memcpy(text, stamp, (size_t)n);
    struct buf message = {0};
    n = snprintf(head, sizeof head,
                 "{\"id\":%llu,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%llu\",\"kind\":\"text\","
                 "\"body\":{\"text\":\"",
                 (unsigned long long)id, conv->id, (unsigned long long)conv->head);
    buf_add(&message, head, (size_t)n);
    buf_add(&message, text, sizeof text);
    buf_add_str(&message, "\"}}");
    sock_send(&stage->writer, buf_span(&message));
    buf_close(&message);
}

static void on_answer(struct sock *sock, struct span line)
{
    struct stage *stage = sock->data;
    struct phase *phase = stage->phase;
    if (!LINE_BEGINS(line, "{\"id\":"))
        return;
    uint64_t id = line_number(line, "{\"id\":");
    if (memmem(line.p, line.n, "\"ok\":", 5) == NULL)
        bench_fail("refused: %.*s", (int)line.n, line.p);
    stage->answered++;
    if (phase == NULL)
        return;
    phase->answered++;
    double due_us = (double)phase->begin_us + (double)id * phase->interval_us;
    if (due_us >= (double)phase->measured_us)
        series_add(&phase->acks, ((double)clock_mono_us() - due_us) / 1000);
}

/* So that what the databases keep in memory does not grow any more. */
static void write_ballast(struct stage *stage)
{
    enum { UNANSWERED = 128 };
    uint64_t count = MEASURES ? BALLAST_BYTES / TEXT : UNANSWERED, first = stage->answered;
    for (uint64_t i = 0; i < count; i++) {
        say(stage, &stage->ballast, i, 0);
        if (i % UNANSWERED == UNANSWERED - 1) {
            net_flush(&stage->writer.net);
            net_until(stage->loop, &stage->answered, first + i + 1 - UNANSWERED / 2);
        }
    }
    net_flush(&stage->writer.net);
    net_until(stage->loop, &stage->answered, first + count);
}

static uint64_t messages(const struct stage *stage)
{
    return HALL_MESSAGES + stage->rooms * ROOM_MESSAGES;
}

/* The hall's among those of the rooms, which take turns. */
static struct conv *conv_of(struct stage *stage, uint64_t number)
{
    uint64_t each = messages(stage) / HALL_MESSAGES;
    uint64_t before = number / each < HALL_MESSAGES ? number / each : HALL_MESSAGES;
    if (number % each == 0 && number / each < HALL_MESSAGES)
        return &stage->convs[stage->rooms];
    return &stage->convs[(number - before) % stage->rooms];
}

static void on_tick(uv_timer_t *timer)
{
    struct phase *phase = timer->data;
    struct stage *stage = phase->stage;
    double now = (double)clock_mono_us();
    while (phase->sent < messages(stage)) {
        double due = (double)phase->begin_us + (double)phase->sent * phase->interval_us;
        if (due > now)
            break;
        say(stage, conv_of(stage, phase->sent), phase->sent, (uint64_t)due);
        phase->sent++;
    }
    net_flush(&stage->writer.net);
}

static void on_sample(uv_timer_t *timer)
{
    struct phase *phase = timer->data;
    double now = (double)proc_memory(phase->stage->gateway.pid);
    if (phase->settled == 0 && clock_mono_us() >= phase->measured_us)
        phase->settled = now;
    if (now > phase->peak)
        phase->peak = now;
    phase->after = now;
}

static void phase_close(struct phase *phase)
{
    series_close(&phase->acks);
    series_close(&phase->deliveries);
}

/* All messages, each at its time; then until all are answered, and read by those who read. */
static void run_phase(struct stage *stage, struct phase *phase)
{
    uv_timer_t tick = {.data = phase}, sample = {.data = phase};
    double secs = PHASE_S, until;
    phase_close(phase);
    *phase = (struct phase){.stage = stage, .begin_us = clock_mono_us()};
    phase->interval_us = secs * 1e6 / (double)messages(stage);
    phase->measured_us = phase->begin_us + (uint64_t)(secs * 1e6 / SETTLED);
    phase->before = (double)proc_memory(stage->gateway.pid);
    stage->phase = phase;
    uv_timer_init(stage->loop, &tick);
    uv_timer_init(stage->loop, &sample);
    uv_timer_start(&tick, on_tick, TICK_MS, TICK_MS);
    uv_timer_start(&sample, on_sample, SAMPLE_MS, SAMPLE_MS);
    net_run(stage->loop, secs);
    for (until = now_s() + LIVE_S_MAX;
         (phase->answered < messages(stage) || behind(&stage->healthy) > 0) && now_s() < until;)
        uv_run(stage->loop, UV_RUN_ONCE);
    on_sample(&sample);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_close((uv_handle_t *)&sample, NULL);
    uv_run(stage->loop, UV_RUN_NOWAIT); /* the timers are this function's */
    stage->phase = NULL;
}

/* ---- reading ---- */

/* What stands at a sequence is what was written there. */
static void on_record(struct follower *follower, struct followed *log, struct span item, bool live)
{
    struct stage *stage = follower->all->data;
    static const char HEAD[] = "\"text\":\"";
    const char *text = memmem(item.p, item.n, HEAD, sizeof HEAD - 1);
    if (text == NULL)
        return; /* the conversation's first record */
    text += sizeof HEAD - 1;
    char *end = NULL;
    uint64_t due_us = strtoull(text, &end, 10), seq = strtoull(end, NULL, 10);
    if (seq != log->seen)
        stage->wrong++;
    if (live && follower->all == &stage->healthy && stage->phase != NULL &&
        due_us >= stage->phase->measured_us)
        series_add(&stage->phase->deliveries, ((double)clock_mono_us() - (double)due_us) / 1000);
}

/* ---- opening ---- */

static void add_members(struct buf *text, const struct followers *who, size_t room)
{
    for (size_t i = 0; i < who->count; i++) {
        char name[64];
        who->user(i, name, sizeof name);
        if (is_in(who, i, room))
            buf_addf(text, "%s\"%s\"", text->p[text->n - 1] == '[' ? "" : ",", name);
    }
}

static void open_conv(struct stage *stage, size_t room)
{
    struct buf text = {0};
    char cid[32];
    snprintf(cid, sizeof cid, "room%zu", room);
    group_id(span_str("writer"), span_str(cid), stage->convs[room].id);
    stage->convs[room].head = 1;
    buf_addf(&text,
             "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"room\",\"cid\":\"%s\","
             "\"members\":[",
             cid);
    add_members(&text, &stage->stalled, room);
    add_members(&text, &stage->healthy, room);
    buf_add_str(&text, "]}");
    buf_add_byte(&text, 0);
    sock_do(&stage->writer, text.p);
    buf_close(&text);
}

/* They hold everything that was written so far. */
static void come(struct followers *who)
{
    struct stage *stage = who->data;
    for (size_t i = 0; i < who->count; i++) {
        for (size_t in = 0, room = stage->rooms; in <= stage->rooms; in++, room = in - 1)
            if (is_in(who, i, room))
                follower_follow(&who->each[i], stage->convs[room].id, stage->convs[room].head);
        follower_come(&who->each[i], 0);
    }
    followers_all_live(who, who->count, LIVE_S_MAX);
}

static void open_stage(struct stage *stage, size_t readers)
{
    stage->loop = uv_default_loop();
    stage->readers = readers;
    stage->rooms = readers / ROOM;
    stage->convs = xcalloc(stage->rooms + 1, sizeof *stage->convs);
    gateway_prepare(&stage->gateway);
    gateway_start(&stage->gateway, NULL);
    stage->stalled = (struct followers){.user = stalled_name, .receive_bytes = RECEIVE_BYTES};
    stage->healthy = (struct followers){.user = healthy_name};
    struct followers *both[] = {&stage->stalled, &stage->healthy};
    for (int i = 0; i < 2; i++) {
        both[i]->gateway = &stage->gateway;
        both[i]->loop = stage->loop;
        both[i]->page = PAGE;
        both[i]->on_record = on_record;
        both[i]->data = stage;
    }
    followers_open(&stage->stalled, readers);
    followers_open(&stage->healthy, HEALTHY);
    struct sock_plan plan = {.gateway = &stage->gateway,
                             .loop = stage->loop,
                             .user = writer_name,
                             .scope = "admin",
                             .on_line = on_answer};
    sock_open(&stage->writer, 0, 1, &plan);
    stage->writer.data = stage;
    for (size_t room = 0; room <= stage->rooms; room++)
        open_conv(stage, room);
    sock_do(&stage->writer, "{\"id\":1,\"op\":\"open\",\"kind\":\"direct\",\"with\":\"writer\"}");
    direct_id(span_str("writer"), span_str("writer"), stage->ballast.id);
    stage->ballast.head = 1;
}

/* ---- what must hold ---- */

static bool as_quick(struct series *beside, struct series *alone)
{
    double p99 = series_at(beside, 0.99);
    return p99 <= P99_MS_MAX && p99 <= series_at(alone, 0.99) * P99_TIMES_MAX + P99_MORE_MS;
}

static void judge(struct stage *stage, struct phase *alone, struct phase *beside)
{
    double kib = (double)stage->readers * 1024;
    double before = beside->before > alone->peak ? beside->before : alone->peak;
    double grown = (beside->peak - before) / kib, late = (beside->peak - beside->settled) / kib;
    verdict(alone->answered == messages(stage) && beside->answered == messages(stage),
            "every message is acknowledged: %llu of %llu beside them",
            (unsigned long long)beside->answered, (unsigned long long)messages(stage));
    verdict(behind(&stage->healthy) == 0 && stage->healthy.lags == 0,
            "who reads gets every one: %zu are behind, %llu lags", behind(&stage->healthy),
            (unsigned long long)stage->healthy.lags);
    verdict(!MEASURES || grown <= STALLED_KIB_MAX, "memory: %.1f KiB for each of them, at most %d",
            grown, STALLED_KIB_MAX);
    verdict(!MEASURES || late <= FLAT_KIB_MAX,
            "memory: %.1f KiB of that after their buffers were full, at most %d", late,
            FLAT_KIB_MAX);
    verdict(!MEASURES || as_quick(&beside->acks, &alone->acks),
            "acknowledged: p99 %.1f ms, without them %.1f", series_at(&beside->acks, 0.99),
            series_at(&alone->acks, 0.99));
    verdict(!MEASURES || as_quick(&beside->deliveries, &alone->deliveries),
            "delivered to who reads: p99 %.1f ms, without them %.1f",
            series_at(&beside->deliveries, 0.99), series_at(&alone->deliveries, 0.99));
}

static void catch_up(struct stage *stage)
{
    struct followers *stalled = &stage->stalled;
    uint64_t held = stalled->received;
    size_t late = behind(stalled);
    double begin = now_s();
    verdict(late == stage->readers, "nobody of those who stalled has it all: %zu", late);
    for (size_t i = 0; i < stalled->count; i++)
        net_go_on(&stalled->each[i].sock.net);
    for (; late > 0 && now_s() < begin + CATCH_UP_S_MAX; late = behind(stalled))
        net_run(stage->loop, 0.02);
    verdict(late == 0, "they read again: %zu do not have it all after %.1f s", late,
            now_s() - begin);
    verdict(stalled->missed == 0 && stalled->twice == 0 && stage->wrong == 0,
            "%llu records: %llu missed, %llu twice, %llu not what was written",
            (unsigned long long)(stalled->received - held), (unsigned long long)stalled->missed,
            (unsigned long long)stalled->twice, (unsigned long long)stage->wrong);
    verdict(stalled->lags >= stage->readers,
            "each was told to read by itself: %llu lags, %llu ranges",
            (unsigned long long)stalled->lags, (unsigned long long)stalled->ranges);
    printf("      %llu cut off, %llu refused %s\n", (unsigned long long)stalled->ended,
           (unsigned long long)stalled->refused, stalled->why);
}

int main(int argc, char **argv)
{
    static struct stage stage;
    static struct phase alone, beside;
    size_t readers = argc > 1 ? strtoul(argv[1], NULL, 10) : READERS;
    if (readers < ROOM * HEALTHY || readers > 15000 || readers % (ROOM * HEALTHY) != 0)
        bench_fail("usage: stalled [READERS]: a multiple of %d", ROOM * HEALTHY);
    files_allow();
    open_stage(&stage, readers);
    come(&stage.healthy);
    write_ballast(&stage);
    run_phase(&stage, &alone);
    come(&stage.stalled);
    for (size_t i = 0; i < stage.stalled.count; i++)
        net_stall(&stage.stalled.each[i].sock.net);
    run_phase(&stage, &beside);
    double before = beside.before;
    for (int i = 1;
         MEASURES && i < ATTEMPTS &&
         !(as_quick(&beside.acks, &alone.acks) && as_quick(&beside.deliveries, &alone.deliveries));
         i++)
        run_phase(&stage, &beside);
    beside.before = before;
    judge(&stage, &alone, &beside);
    catch_up(&stage);
    followers_close(&stage.stalled);
    followers_close(&stage.healthy);
    sock_close_all(&stage.writer, 1, stage.loop);
    gateway_drop(&stage.gateway);
    phase_close(&alone);
    phase_close(&beside);
    free(stage.convs);
    return verdicts_end();
}
