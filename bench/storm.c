/* bench/storm.c: very many live connections gone at once, and back within JITTER_S (--secs), each
 * at a random time of its own: once since the clients' network resets them all, once since the
 * server is killed and started again on its data and port; and once more killed, and all come back
 * in the same moment. All the while one writer writes to the halls. How long until the last is live
 * again, from the moment the server can be reached, beside those JITTER_S, or the time that they
 * take in good order; every record must have come to each member exactly once, and each message
 * must be in its log exactly once. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/crowd.h"
#include "store/base/clock.h"

enum {
    CONNS = 15000,
    JITTER_S = 10,
    WRITE_MS = 25,
    HALL_MS = 125,
    LIVE_S_MAX = 40,
    CATCH_UP_S_MAX = 10
};
enum { WRITER_AGAIN_MS = 200, CALM_S = 1 };

/* One message unanswered at a time; what was cut off is sent again under the same cid. */
struct writer {
    struct crowd *crowd;
    struct sock sock;
    uv_timer_t timer;
    double due_s;
    uint64_t salt, number; /* of the message at hand: its cid */
    bool begun, ready, waits, writing;
    uint64_t written, dups, refused, cuts;
    struct series ms; /* until answered, over all cuts */
    double asked_s;
};

static void writer_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "keeper");
}

static struct crowd_room *writer_hall(const struct writer *writer)
{
    struct crowd *crowd = writer->crowd;
    size_t first = CROWD_LAYERS * crowd->blocks;
    return &crowd->rooms[first + writer->number % (crowd->rooms_count - first)];
}

static void writer_send(struct writer *writer)
{
    char text[256];
    int n =
        snprintf(text, sizeof text,
                 "{\"id\":2,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%llx-%llu\",\"kind\":\"text\","
                 "\"body\":{\"text\":\"still here?\"}}",
                 writer_hall(writer)->id, (unsigned long long)writer->salt,
                 (unsigned long long)writer->number);
    sock_send(&writer->sock, span_of(text, (size_t)n));
    writer->waits = true;
}

static void writer_on_end(struct net *net, const char *why)
{
    struct writer *writer = container_of(net, struct writer, sock.net);
    (void)why;
    if (writer->ready)
        writer->cuts++;
    writer->begun = writer->ready = false;
    writer->due_s = now_s() + WRITER_AGAIN_MS / 1000.0;
    net_close(net);
}

static void writer_took(struct writer *writer, struct span line)
{
    static const char SEQ[] = "\"s\":", DUP[] = "\"dup\":true";
    const char *at = memmem(line.p, line.n, SEQ, sizeof SEQ - 1);
    uint64_t s = at != NULL ? strtoull(at + sizeof SEQ - 1, NULL, 10) : 0;
    struct crowd_room *hall = writer_hall(writer);
    if (s != hall->head + 1)
        bench_fail("storm: a message has sequence %llu after %llu", (unsigned long long)s,
                   (unsigned long long)hall->head);
    hall->head = s;
    if (memmem(line.p, line.n, DUP, sizeof DUP - 1) != NULL)
        writer->dups++;
    writer->written++;
    series_add(&writer->ms, (now_s() - writer->asked_s) * 1000);
    writer->number++;
    writer->waits = false;
}

static void writer_on_line(struct sock *sock, struct span line)
{
    struct writer *writer = container_of(sock, struct writer, sock);
    if (LINE_BEGINS(line, "{\"id\":1,\"ok\"")) {
        writer->ready = true;
        if (writer->waits)
            writer_send(writer);
    } else if (LINE_BEGINS(line, "{\"id\":2,\"ok\"")) {
        writer_took(writer, line);
    } else if (LINE_BEGINS(line, "{\"id\":")) {
        writer->refused++;
        net_end(&sock->net, "refused");
    }
}

static void writer_on_tick(uv_timer_t *timer)
{
    struct writer *writer = timer->data;
    struct crowd *crowd = writer->crowd;
    if (!writer->begun) {
        struct sock_plan plan = {.gateway = crowd->gateway,
                                 .loop = crowd->loop,
                                 .user = writer_name,
                                 .on_line = writer_on_line};
        if (!writer->sock.net.closed || now_s() < writer->due_s)
            return;
        writer->sock = (struct sock){.net = {.on_end = writer_on_end}};
        writer->begun = true;
        sock_begin(&writer->sock, &plan, 0);
    } else if (writer->ready && !writer->waits && writer->writing) {
        writer->asked_s = now_s();
        writer_send(writer);
        net_flush(&writer->sock.net);
    }
}

static void writer_open(struct writer *writer, struct crowd *crowd)
{
    *writer = (struct writer){.crowd = crowd, .writing = true, .salt = random_u64()};
    writer->sock.net.closed = true;
    writer->timer.data = writer;
    uv_timer_init(crowd->loop, &writer->timer);
    /* so that nobody comes back to more than a window of records */
    uint64_t all_ms = HALL_MS / (crowd->rooms_count - CROWD_LAYERS * crowd->blocks);
    uint64_t ms = all_ms > WRITE_MS ? all_ms : WRITE_MS;
    uv_timer_start(&writer->timer, writer_on_tick, ms, ms);
}

static void writer_close(struct writer *writer)
{
    uv_timer_stop(&writer->timer);
    uv_close((uv_handle_t *)&writer->timer, NULL);
    if (writer->begun)
        net_close(&writer->sock.net);
    net_settle(writer->crowd->loop);
    series_close(&writer->ms);
}

/* ---- */

/* How many have not seen all of their hall. */
static size_t behind(const struct crowd *crowd)
{
    size_t n = 0;
    for (size_t i = 0; i < crowd->count; i++)
        n += crowd->clients[i].seen[CROWD_LAYERS] !=
             crowd->rooms[crowd_room_of(crowd, i, CROWD_LAYERS)].head;
    return n;
}

static void settle(struct crowd *crowd, struct writer *writer, const char *bench)
{
    double until = now_s() + CATCH_UP_S_MAX;
    writer->writing = false;
    while (writer->waits && now_s() < until)
        uv_run(crowd->loop, UV_RUN_ONCE);
    size_t late = behind(crowd);
    for (; late > 0 && now_s() < until; late = behind(crowd))
        net_run(crowd->loop, 0.02);
    if (writer->waits || late > 0 || crowd->missed > 0 || crowd->twice > 0 || crowd->lags > 0)
        bench_fail("%s: %zu did not see all, %llu records missed, %llu came twice, %llu lags%s",
                   bench, late, (unsigned long long)crowd->missed, (unsigned long long)crowd->twice,
                   (unsigned long long)crowd->lags, writer->waits ? "; a message unanswered" : "");
}

/* What ends them all at once; the seconds that it took itself. */
typedef double blow_fn(struct crowd *crowd);

static double by_reset(struct crowd *crowd)
{
    double at = now_s();
    crowd_reset(crowd);
    return now_s() - at;
}

static double by_kill(struct crowd *crowd)
{
    char listen[64];
    snprintf(listen, sizeof listen, "127.0.0.1:%d", crowd->gateway->port);
    double at = now_s();
    gateway_kill(crowd->gateway);
    gateway_start(crowd->gateway, (const char *[]){"--listen", listen, "--loops", "2", NULL});
    double took = now_s() - at;
    crowd->coming = false; /* they come when they are due, all from now on */
    while (crowd->live > 0)
        uv_run(crowd->loop, UV_RUN_ONCE);
    return took;
}

/* jitter_s 0: all come in the same moment, and `orderly_s` is what they took in good order. */
static struct result storm(struct crowd *crowd, const char *bench, blow_fn *blow, double jitter_s,
                           double orderly_s)
{
    struct writer writer;
    struct result result = {.bench = bench,
                            .unit = "s",
                            .lower = true,
                            .ref_name = jitter_s > 0 ? "the time over which they come back"
                                                     : "the same in good order: 256 at once",
                            .ref = jitter_s > 0 ? jitter_s : orderly_s};
    writer_open(&writer, crowd);
    net_run(crowd->loop, CALM_S);
    while (!writer.waits) /* so that the blow meets a message on its way */
        uv_run(crowd->loop, UV_RUN_ONCE);
    uint64_t received = crowd->received;
    double cpu = 0, at = now_s(), blow_s = blow(crowd), back_s = now_s();
    crowd->failed = crowd->refused = 0;
    cpu = cpu_of_s(crowd->gateway->pid);
    crowd_come(crowd, jitter_s, 0);
    if (!crowd_all_live(crowd, LIVE_S_MAX))
        bench_fail("%s: %llu of %zu are live after %d s; %llu failed (%s)", bench,
                   (unsigned long long)crowd->live, crowd->count, LIVE_S_MAX,
                   (unsigned long long)crowd->failed, crowd->why);
    result.value = now_s() - back_s;
    cpu = (cpu_of_s(crowd->gateway->pid) - cpu) / result.value;
    double all_s = now_s() - at;
    settle(crowd, &writer, bench);
    result_add(&result, "connections", (double)crowd->count);
    result_add(&result, "from_the_blow_s", all_s);
    result_add(&result, "blow_s", blow_s);
    result_add(&result, "join_p50_ms", series_at(&crowd->join_ms, 0.5));
    result_add(&result, "join_p99_ms", series_at(&crowd->join_ms, 0.99));
    result_add(&result, "failed", (double)crowd->failed);
    result_add(&result, "refused", (double)crowd->refused);
    result_add(&result, "written", (double)writer.written);
    result_add(&result, "sent_again_known", (double)writer.dups);
    result_add(&result, "writer_refused", (double)writer.refused);
    result_add(&result, "write_p50_ms", series_at(&writer.ms, 0.5));
    result_add(&result, "write_max_ms", series_at(&writer.ms, 1));
    result_add(&result, "records", (double)(crowd->received - received));
    result_add(&result, "missed", (double)crowd->missed);
    result_add(&result, "twice", (double)crowd->twice);
    result_add(&result, "server_cpu", cpu);
    if (crowd->failed + crowd->refused > 0)
        result_add_text(&result, "last_error", crowd->why);
    writer_close(&writer);
    return result;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv, JITTER_S);
    struct gateway gateway;
    struct crowd crowd;
    gateway_prepare(&gateway);
    gateway_start(&gateway, TWO_LOOPS);
    crowd_open(&crowd, &gateway, uv_default_loop(),
               crowd_fit(options.conns != 0 ? options.conns : CONNS));
    double at = now_s();
    crowd_come(&crowd, 0, CROWD_ORDERLY);
    if (!crowd_all_live(&crowd, LIVE_S_MAX))
        bench_fail("storm: %llu of %zu are live after %d s", (unsigned long long)crowd.live,
                   crowd.count, LIVE_S_MAX);
    double orderly_s = now_s() - at;
    bench_say("storm: %zu live after %.1f s", crowd.count, orderly_s);
    struct result reset = storm(&crowd, "storm-reset", by_reset, options.secs, orderly_s);
    result_print(&reset);
    struct result kill = storm(&crowd, "storm-kill", by_kill, options.secs, orderly_s);
    result_print(&kill);
    struct result herd = storm(&crowd, "storm", by_kill, 0, orderly_s);
    result_print(&herd);
    crowd_close(&crowd);
    gateway_drop(&gateway);
    return 0;
}
