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
    PHASE_S = 6,
    SETTLED = 3, /* a third of the messages goes by before anything is measured: buffers fill */
    RECEIVE_BYTES = 64 << 10, /* less, and TCP itself loses much of the catching up */
    PAGE = 1000,              /* as many as a client may ask for; they end at 1 MiB */
    SAMPLE_MS = 250,
    TICK_MS = 1,
    LIVE_S_MAX = 30,
    CATCH_UP_S_MAX = 120,
    BALLAST_BYTES = 320 << 20, /* fills the memtables of both databases before memory is measured */
    STAMP_SIZE = 16,
    ATTEMPTS = 2, /* the machine may have had something else to do */
    AT_MAX = (ATTEMPTS + 1) * ROOM_MESSAGES + 2,
};
enum { /* what must hold */
       /* Private memory of the server for each: what may wait, and a page that it read for one, as
        * bytes of their own. All that came would be 4,000, or, shared, 150. */
       STALLED_KIB_MAX = 512,
       FLAT_KIB_MAX = 64, /* and how much of that came after the buffers were full */
       P99_MS_MAX = 500,
       P99_TIMES_MAX = 3, /* of p99 without them, and this beside: */
       P99_MORE_MS = 20,
};
#if defined(__SANITIZE_ADDRESS__)
enum { MEASURES = false, READERS = 200 }; /* neither memory nor time is the server's own */
#else
enum { MEASURES = true, READERS = 1000 };
#endif

struct conv {
    char id[MADE_ID_SIZE + 1];
    uint64_t head;       /* once all that was said is acknowledged */
    uint64_t at[AT_MAX]; /* the number of the message at a sequence, as it was acknowledged */
};
struct message { /* by the id of its request */
    struct conv *conv;
    uint64_t number, due_us; /* in its conversation, also its cid */
    uint64_t again_us;       /* refused for now: when it is to be sent again; 0: not */
};
struct phase {
    struct stage *stage;
    uint64_t begin_us, measured_us; /* when due after the latter, a message is measured */
    double interval_us;
    uint64_t said;
    uint64_t lags;                /* of those who read */
    double before, settled, peak; /* bytes of the server */
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
    struct message *messages;
    uint64_t said, answered, refused, wrong;
    size_t cap, late; /* of `messages`; how many are to be sent again */
    uv_timer_t tick;
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

static void post(struct stage *stage, uint64_t id)
{
    static char text[TEXT];
    const struct message *message = &stage->messages[id];
    char stamp[64];
    memset(text, 'x', sizeof text);
    int n = snprintf(stamp, sizeof stamp, "%0*llu %llu ", STAMP_SIZE,
                     (unsigned long long)message->due_us, (unsigned long long)message->number);
    memcpy(text, stamp, (size_t)n);
    struct buf request = {0};
    buf_addf(&request,
             "{\"id\":%llu,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%llu\",\"kind\":\"text\","
             "\"body\":{\"text\":\"",
             (unsigned long long)id, message->conv->id, (unsigned long long)message->number);
    buf_add(&request, text, sizeof text);
    buf_add_str(&request, "\"}}");
    sock_send(&stage->writer, buf_span(&request));
    buf_close(&request);
}

static void say(struct stage *stage, struct conv *conv, uint64_t due_us)
{
    if (stage->said == stage->cap) {
        stage->cap = stage->cap * 2 + 1024;
        stage->messages = xrealloc(stage->messages, stage->cap * sizeof *stage->messages);
    }
    stage->messages[stage->said] =
        (struct message){.conv = conv, .number = ++conv->head, .due_us = due_us};
    post(stage, stage->said++);
}

static void on_answer(struct sock *sock, struct span line)
{
    struct stage *stage = sock->data;
    struct phase *phase = stage->phase;
    if (!LINE_BEGINS(line, "{\"id\":"))
        return;
    struct message *message = &stage->messages[line_number(line, "{\"id\":")];
    uint64_t seq = line_number(line, "\"s\":"), wait_ms = line_number(line, "\"after_ms\":");
    if (line_after(line, ",\"ok\":") == NULL) {
        if (wait_ms == 0)
            bench_fail("refused: %.*s", (int)line.n, line.p);
        message->again_us = clock_mono_us() + wait_ms * 1000;
        stage->late++;
        stage->refused++;
        return;
    }
    stage->answered++;
    if (seq < AT_MAX)
        message->conv->at[seq] = message->number;
    if (phase != NULL && message->due_us >= phase->measured_us)
        series_add(&phase->acks, ((double)clock_mono_us() - (double)message->due_us) / 1000);
}

static void send_late(struct stage *stage, uint64_t now_us)
{
    for (uint64_t id = 0; id < stage->said && stage->late > 0; id++) {
        struct message *message = &stage->messages[id];
        if (message->again_us == 0 || message->again_us > now_us)
            continue;
        message->again_us = 0;
        stage->late--;
        post(stage, id);
    }
}

/* So that what the databases keep in memory does not grow any more. */
static void write_ballast(struct stage *stage)
{
    enum { UNANSWERED = 128 };
    uint64_t count = MEASURES ? BALLAST_BYTES / TEXT : UNANSWERED;
    while (count-- > 0) {
        say(stage, &stage->ballast, 0);
        if (stage->said % UNANSWERED == 0) {
            net_flush(&stage->writer.net);
            net_until(stage->loop, &stage->answered, stage->said - UNANSWERED / 2);
        }
    }
    net_flush(&stage->writer.net);
    net_until(stage->loop, &stage->answered, stage->said);
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
    struct stage *stage = timer->data;
    struct phase *phase = stage->phase;
    uint64_t now_us = clock_mono_us();
    send_late(stage, now_us);
    while (phase != NULL && phase->said < messages(stage)) {
        double due = (double)phase->begin_us + (double)phase->said * phase->interval_us;
        if (due > (double)now_us)
            break;
        say(stage, conv_of(stage, phase->said++), (uint64_t)due);
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
}

static void phase_close(struct phase *phase)
{
    series_close(&phase->acks);
    series_close(&phase->deliveries);
}

/* All messages, each at its time; then until all are answered, and read by those who read. */
static void run_phase(struct stage *stage, struct phase *phase)
{
    uv_timer_t sample = {.data = phase};
    double secs = PHASE_S, until;
    phase_close(phase);
    *phase = (struct phase){.stage = stage, .begin_us = clock_mono_us()};
    phase->interval_us = secs * 1e6 / (double)messages(stage);
    phase->measured_us = phase->begin_us + (uint64_t)(secs * 1e6 / SETTLED);
    phase->before = (double)proc_memory(stage->gateway.pid);
    uint64_t lags = stage->healthy.lags;
    stage->phase = phase;
    uv_timer_init(stage->loop, &sample);
    uv_timer_start(&sample, on_sample, SAMPLE_MS, SAMPLE_MS);
    net_run(stage->loop, secs);
    for (until = now_s() + LIVE_S_MAX;
         (stage->answered < stage->said || behind(&stage->healthy) > 0) && now_s() < until;)
        uv_run(stage->loop, UV_RUN_ONCE);
    phase->lags = stage->healthy.lags - lags;
    on_sample(&sample);
    uv_close((uv_handle_t *)&sample, NULL);
    uv_run(stage->loop, UV_RUN_NOWAIT); /* the timer is this function's */
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
    uint64_t due_us = strtoull(text, &end, 10), number = strtoull(end, NULL, 10);
    const struct conv *conv =
        conv_in(follower->all, follower->number, (size_t)(log - follower->logs));
    if (conv->at[log->seen] != 0 && conv->at[log->seen] != number) /* 0: not acknowledged yet */
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
    gateway_start(&stage->gateway, TWO_LOOPS);
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
    for (size_t room = 0; room <= stage->rooms; room++)
        open_conv(stage, room);
    sock_do(&stage->writer, "{\"id\":1,\"op\":\"open\",\"kind\":\"direct\",\"with\":\"writer\"}");
    direct_id(span_str("writer"), span_str("writer"), stage->ballast.id);
    stage->ballast.head = 1;
    stage->writer.data = stage;
    stage->tick.data = stage;
    uv_timer_init(stage->loop, &stage->tick);
    uv_timer_start(&stage->tick, on_tick, TICK_MS, TICK_MS);
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
    double full = beside->settled > before ? beside->settled : before; /* databases breathe */
    double grown = (beside->peak - before) / kib, late = (beside->peak - full) / kib;
    verdict(stage->answered == stage->said,
            "every message is acknowledged: %llu of %llu, %llu refused at first",
            (unsigned long long)stage->answered, (unsigned long long)stage->said,
            (unsigned long long)stage->refused);
    verdict(behind(&stage->healthy) == 0 && alone->lags + beside->lags == 0,
            "who reads gets every one: %zu are behind, %llu lags", behind(&stage->healthy),
            (unsigned long long)(alone->lags + beside->lags));
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
    uv_close((uv_handle_t *)&stage.tick, NULL);
    followers_close(&stage.stalled);
    followers_close(&stage.healthy);
    sock_close_all(&stage.writer, 1, stage.loop);
    gateway_drop(&stage.gateway);
    phase_close(&alone);
    phase_close(&beside);
    free(stage.convs);
    free(stage.messages);
    return verdicts_end();
}
