#include "bench/lib/peer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { PORT_TEXT = 16 };

static void start(struct peer *peer, const char **argv)
{
    char log[SCRATCH_MAX + 16];
    snprintf(log, sizeof log, "%s/log", peer->root);
    peer->pid = proc_start((char *const *)(uintptr_t)argv, log);
    port_wait(peer->port, peer->pid);
}

void peer_start_redis(struct peer *peer)
{
    char port[PORT_TEXT];
    bench_dir(peer->root);
    peer->port = port_free();
    snprintf(port, sizeof port, "%d", peer->port);
    /* No rewrite of the file in the middle of a measurement. */
    start(peer, (const char *[]){"redis-server", "--bind", "127.0.0.1", "--port", port, "--dir",
                                 peer->root, "--appendonly", "yes", "--appendfsync", "always",
                                 "--save", "", "--auto-aof-rewrite-percentage", "0", NULL});
}

void peer_start_nats(struct peer *peer)
{
    char port[PORT_TEXT];
    bench_dir(peer->root);
    peer->port = port_free();
    snprintf(port, sizeof port, "%d", peer->port);
    start(peer, (const char *[]){"nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd",
                                 peer->root, NULL});
}

void peer_stop(struct peer *peer)
{
    int status = 0;
    kill(peer->pid, SIGTERM);
    if (waitpid(peer->pid, &status, 0) != peer->pid)
        bench_fail("a peer can't be waited for"); /* how it ends is its own business */
    bench_dir_drop(peer->root);
}

/* ---- the load ---- */

static void fill(struct peer_conn *conn)
{
    struct peer_load *load = conn->load;
    while (load->going && conn->unanswered < load->pipeline) {
        load->add(conn);
        load->sent++;
        conn->unanswered++;
    }
}

void peer_load_answered(struct peer_conn *conn, size_t count)
{
    conn->unanswered -= count;
    conn->load->answered += count;
    fill(conn);
    net_flush(&conn->net);
}

double peer_load_run(struct peer_load *load, double secs)
{
    uint64_t first = load->answered;
    double begin = now_s();
    load->going = true;
    for (size_t i = 0; i < load->count; i++)
        peer_load_answered(&load->conns[i], 0);
    net_run(load->loop, secs);
    load->going = false;
    net_until(load->loop, &load->answered, load->sent);
    return (double)(load->answered - first) / (now_s() - begin);
}

void peer_load_open(struct peer_load *load, const struct peer *peer, uv_loop_t *loop, size_t count,
                    size_t pipeline)
{
    load->loop = loop;
    load->count = count;
    load->pipeline = pipeline;
    load->conns = xcalloc(count, sizeof *load->conns);
    for (size_t i = 0; i < count; i++) {
        struct peer_conn *conn = &load->conns[i];
        conn->load = load;
        conn->number = i;
        conn->net.data = conn;
        net_open(&conn->net, loop, peer->port);
    }
}

void peer_load_close(struct peer_load *load)
{
    for (size_t i = 0; i < load->count; i++)
        net_close(&load->conns[i].net);
    net_settle(load->loop);
    free(load->conns);
}

/* ---- Redis: each XADD is answered with an id, a bulk string of two lines ---- */

static size_t redis_on_bytes(struct net *net, struct span bytes)
{
    size_t used = 0, count = 0;
    while (used < bytes.n) {
        const char *p = bytes.p + used;
        const char *first = memchr(p, '\n', bytes.n - used);
        if (*p != '$')
            bench_fail("Redis refused: %.*s", (int)(bytes.n - used), p);
        const char *second =
            first != NULL ? memchr(first + 1, '\n', bytes.n - (size_t)(first + 1 - bytes.p)) : NULL;
        if (second == NULL)
            break;
        used = (size_t)(second + 1 - bytes.p);
        count++;
    }
    peer_load_answered(net->data, count);
    return used;
}

static void redis_add(struct peer_conn *conn)
{
    char text[BARE_TEXT];
    bench_text(conn->load->sent, text);
    buf_addf(&conn->net.out, "*5\r\n$4\r\nXADD\r\n$4\r\nk%03zu\r\n$1\r\n*\r\n$1\r\nb\r\n$%d\r\n",
             conn->number % 1000, BARE_TEXT);
    buf_add(&conn->net.out, text, sizeof text);
    buf_add(&conn->net.out, "\r\n", 2);
}

void peer_load_redis(struct peer_load *load, const struct peer *peer, uv_loop_t *loop, size_t count,
                     size_t pipeline)
{
    *load = (struct peer_load){.add = redis_add};
    peer_load_open(load, peer, loop, count, pipeline);
    for (size_t i = 0; i < count; i++)
        load->conns[i].net.on_bytes = redis_on_bytes;
}

/* ---- NATS: each publication names an inbox, to which the stream's acknowledgement comes ---- */

static size_t nats_on_bytes(struct net *net, struct span bytes)
{
    struct peer_conn *conn = net->data;
    size_t used = 0, count = 0;
    while (used < bytes.n) {
        struct span rest = span_of(bytes.p + used, bytes.n - used);
        const char *end = memchr(rest.p, '\n', rest.n);
        if (end == NULL)
            break;
        size_t line = (size_t)(end + 1 - rest.p), body = 0;
        if (memcmp(rest.p, "MSG ", 4) == 0) {
            const char *size = memrchr(rest.p, ' ', line);
            body = strtoul(size, NULL, 10) + 2;
            if (rest.n < line + body)
                break;
            if (memmem(end, body, "\"error\"", 7) != NULL)
                bench_fail("NATS refused: %.*s", (int)body, end);
            count++;
        } else if (memcmp(rest.p, "PING", 4) == 0) {
            buf_add_str(&net->out, "PONG\r\n");
        } else if (memcmp(rest.p, "-ERR", 4) == 0) {
            bench_fail("NATS refused: %.*s", (int)line, rest.p);
        }
        used += line + body;
    }
    peer_load_answered(conn, count);
    return used;
}

static void nats_add(struct peer_conn *conn)
{
    char text[BARE_TEXT];
    bench_text(conn->load->sent, text);
    buf_addf(&conn->net.out, "PUB bench.%zu reply.%zu %d\r\n", conn->number, conn->number,
             BARE_TEXT);
    buf_add(&conn->net.out, text, sizeof text);
    buf_add(&conn->net.out, "\r\n", 2);
}

/* ---- three NATS servers ---- */

void trio_start_nats(struct peer peers[TRIO])
{
    int routes[TRIO];
    char all[128];
    for (size_t i = 0; i < TRIO; i++) {
        routes[i] = port_free();
        peers[i].port = port_free();
    }
    snprintf(all, sizeof all, "nats://127.0.0.1:%d,nats://127.0.0.1:%d,nats://127.0.0.1:%d",
             routes[0], routes[1], routes[2]);
    for (size_t i = 0; i < TRIO; i++) {
        char port[PORT_TEXT], name[16], own[64];
        bench_dir(peers[i].root);
        snprintf(port, sizeof port, "%d", peers[i].port);
        snprintf(name, sizeof name, "n%zu", i);
        snprintf(own, sizeof own, "nats://127.0.0.1:%d", routes[i]);
        start(&peers[i], (const char *[]){"nats-server", "-a", "127.0.0.1", "-p", port, "-js",
                                          "-sd", peers[i].root, "-n", name, "--cluster_name",
                                          "bench", "-cluster", own, "-routes", all, NULL});
    }
}

/* Of the answer to the stream's creation. */
static size_t leader_in(struct span answer)
{
    static const char HEAD[] = "\"leader\":\"n";
    const char *at = memmem(answer.p, answer.n, HEAD, sizeof HEAD - 1);
    if (at == NULL)
        bench_fail("NATS does not say who leads: %.*s", (int)answer.n, answer.p);
    return (size_t)(at[sizeof HEAD - 1] - '0') % TRIO;
}

struct creation {
    struct net net;
    size_t leader;
    uint64_t done;
};

static size_t creation_on_bytes(struct net *net, struct span bytes)
{
    struct creation *creation = net->data;
    const char *at = memmem(bytes.p, bytes.n, "MSG ", 4);
    if (at == NULL || memmem(at, (size_t)(bytes.p + bytes.n - at), "}\r\n", 3) == NULL)
        return 0;
    struct span answer = span_of(at, (size_t)(bytes.p + bytes.n - at));
    if (memmem(answer.p, answer.n, "\"error\"", 7) != NULL)
        creation->done = 2; /* not yet: it is tried again */
    else {
        creation->leader = leader_in(answer);
        creation->done = 1;
    }
    return bytes.n;
}

/* Until they have found each other it is refused. */
static size_t create_stream(const struct peer *peer, uv_loop_t *loop)
{
    static const char CREATE[] = "{\"name\":\"bench\",\"subjects\":[\"bench.*\"],\"storage\":"
                                 "\"file\",\"retention\":\"limits\",\"num_replicas\":3}";
    for (int i = 0; i < 60; i++) {
        struct creation creation = {.net.data = &creation, .net.on_bytes = creation_on_bytes};
        net_open(&creation.net, loop, peer->port);
        buf_addf(
            &creation.net.out,
            "CONNECT {\"verbose\":false}\r\nSUB made 1\r\nPUB $JS.API.STREAM.CREATE.bench made "
            "%zu\r\n%s\r\n",
            sizeof CREATE - 1, CREATE);
        net_flush(&creation.net);
        for (int k = 0; k < 40 && creation.done == 0; k++)
            net_run(loop, 0.05);
        net_close(&creation.net);
        net_settle(loop);
        if (creation.done == 1)
            return creation.leader;
        net_run(loop, 0.5);
    }
    bench_fail("three NATS servers do not come to make a stream");
}

static void subscribe(struct peer_load *load)
{
    for (size_t i = 0; i < load->count; i++) {
        struct net *net = &load->conns[i].net;
        net->on_bytes = nats_on_bytes;
        buf_addf(&net->out, "CONNECT {\"verbose\":false}\r\nSUB reply.%zu 1\r\n", i);
    }
}

void peer_load_nats_trio(struct peer_load *load, const struct peer peers[TRIO], uv_loop_t *loop,
                         size_t count, size_t pipeline)
{
    *load = (struct peer_load){.add = nats_add};
    peer_load_open(load, &peers[create_stream(peers, loop)], loop, count, pipeline);
    subscribe(load);
}

void peer_load_nats(struct peer_load *load, const struct peer *peer, uv_loop_t *loop, size_t count,
                    size_t pipeline)
{
    static const char CREATE[] = "{\"name\":\"bench\",\"subjects\":[\"bench.*\"],\"storage\":"
                                 "\"file\",\"retention\":\"limits\",\"num_replicas\":1}";
    *load = (struct peer_load){.add = nats_add};
    peer_load_open(load, peer, loop, count, pipeline);
    subscribe(load);
    struct net *first = &load->conns[0].net;
    buf_addf(&first->out, "PUB $JS.API.STREAM.CREATE.bench reply.0 %zu\r\n%s\r\n",
             sizeof CREATE - 1, CREATE);
    load->sent = 1;
    load->conns[0].unanswered = 1;
    net_until(loop, &load->answered, 1);
}
