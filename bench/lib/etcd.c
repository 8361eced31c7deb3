/* bench/lib/etcd.c: three etcd servers, and puts by gRPC: as much of HTTP/2 (RFC 9113) as that
 * takes. Header blocks that come are not decoded: an answer with a message in it is a success, an
 * error has none. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/peer.h"

enum {
    FRAME_HEAD = 9,
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RST = 3,
    FRAME_SETTINGS = 4,
    FRAME_PING = 6,
    FRAME_GOAWAY = 7,
    FRAME_WINDOW = 8,
    FLAG_END_STREAM = 1,
    FLAG_ACK = 1,
    FLAG_END_HEADERS = 4,
    KEY_SIZE = 24,
};

/* ---- servers ---- */

void trio_start_etcd(struct peer peers[TRIO])
{
    int own[TRIO];
    char all[256];
    for (size_t i = 0; i < TRIO; i++) {
        own[i] = port_free();
        peers[i].port = port_free();
        bench_dir(peers[i].root);
    }
    snprintf(all, sizeof all,
             "e0=http://127.0.0.1:%d,e1=http://127.0.0.1:%d,e2=http://127.0.0.1:%d", own[0], own[1],
             own[2]);
    for (size_t i = 0; i < TRIO; i++) {
        char name[16], peer_url[64], client_url[64], log[SCRATCH_MAX + 16];
        char data[SCRATCH_MAX + 16];
        snprintf(name, sizeof name, "e%zu", i);
        snprintf(peer_url, sizeof peer_url, "http://127.0.0.1:%d", own[i]);
        snprintf(client_url, sizeof client_url, "http://127.0.0.1:%d", peers[i].port);
        snprintf(log, sizeof log, "%s/log", peers[i].root);
        snprintf(data, sizeof data, "%s/data", peers[i].root);
        const char *argv[] = {"etcd",       "--name",
                              name,         "--data-dir",
                              data,         "--listen-peer-urls",
                              peer_url,     "--initial-advertise-peer-urls",
                              peer_url,     "--listen-client-urls",
                              client_url,   "--advertise-client-urls",
                              client_url,   "--initial-cluster",
                              all,          "--quota-backend-bytes",
                              "8000000000", NULL};
        peers[i].pid = proc_start((char *const *)(uintptr_t)argv, log);
    }
    for (size_t i = 0; i < TRIO; i++)
        port_wait(peers[i].port, peers[i].pid);
}

/* The number after `name` in a status, as text. */
static void take_text(struct span status, const char *name, char out[32])
{
    const char *at = memmem(status.p, status.n, name, strlen(name));
    size_t n = 0;
    for (at = at != NULL ? at + strlen(name) : NULL;
         at != NULL && at < status.p + status.n && *at >= '0' && *at <= '9' && n < 31; at++)
        out[n++] = *at;
    out[n] = '\0';
}

struct asking {
    struct net net;
    bool answered, leads;
};

static size_t status_on_bytes(struct net *net, struct span bytes)
{
    struct asking *asking = net->data;
    char member[32], leader[32];
    if (memmem(bytes.p, bytes.n, "\"raftTerm\"", 10) == NULL)
        return 0;
    take_text(bytes, "\"member_id\":\"", member);
    take_text(bytes, "\"leader\":\"", leader);
    asking->answered = true;
    asking->leads = member[0] != '\0' && strcmp(member, leader) == 0;
    return bytes.n;
}

static bool leads(const struct peer *peer, uv_loop_t *loop)
{
    struct asking asking = {.net.on_bytes = status_on_bytes, .net.data = &asking};
    net_open(&asking.net, loop, peer->port);
    buf_add_str(&asking.net.out, "POST /v3/maintenance/status HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                 "Content-Length: 2\r\n\r\n{}");
    net_flush(&asking.net);
    for (int i = 0; i < 40 && !asking.answered; i++)
        net_run(loop, 0.05);
    net_close(&asking.net);
    net_settle(loop);
    return asking.leads;
}

/* Writes go to who leads: the others would only pass them on. */
static const struct peer *find_leader(const struct peer peers[TRIO], uv_loop_t *loop)
{
    for (int turn = 0; turn < 30; turn++)
        for (size_t i = 0; i < TRIO; i++)
            if (leads(&peers[i], loop))
                return &peers[i];
    bench_fail("three etcd servers do not come to have a leader");
}

/* ---- frames ---- */

static void add_head(struct buf *out, size_t size, int type, int flags, uint32_t stream)
{
    char head[FRAME_HEAD] = {(char)(size >> 16),   (char)(size >> 8),   (char)size,
                             (char)type,           (char)flags,         (char)(stream >> 24),
                             (char)(stream >> 16), (char)(stream >> 8), (char)stream};
    buf_add(out, head, sizeof head);
}

/* A literal that is not indexed: the name by its number in the static table, 0: by itself. */
static void add_header(struct buf *block, int name, const char *own, const char *value)
{
    buf_add_byte(block, name <= 15 ? (uint8_t)name : 15);
    if (name > 15)
        buf_add_byte(block, (uint8_t)(name - 15));
    if (name == 0) {
        buf_add_byte(block, (uint8_t)strlen(own));
        buf_add_str(block, own);
    }
    buf_add_byte(block, (uint8_t)strlen(value));
    buf_add_str(block, value);
}

static void etcd_add(struct peer_conn *conn)
{
    enum { METHOD_POST = 0x80 | 3, SCHEME_HTTP = 0x80 | 6, PATH = 4, AUTHORITY = 1, TYPE = 31 };
    char text[BARE_TEXT], key[KEY_SIZE + 1];
    struct buf block = {0}, body = {0};
    bench_text(conn->load->sent, text);
    snprintf(key, sizeof key, "%04zu/%018llu", conn->number,
             (unsigned long long)conn->load->sent % 1000000000000000ull);
    conn->stream += conn->stream == 0 ? 1 : 2;
    buf_add_byte(&block, METHOD_POST);
    buf_add_byte(&block, SCHEME_HTTP);
    add_header(&block, PATH, NULL, "/etcdserverpb.KV/Put");
    add_header(&block, AUTHORITY, NULL, "127.0.0.1");
    add_header(&block, TYPE, NULL, "application/grpc");
    add_header(&block, 0, "te", "trailers");
    buf_add_byte(&body, 1 << 3 | 2); /* PutRequest: key, value */
    buf_add_varint(&body, strlen(key));
    buf_add_str(&body, key);
    buf_add_byte(&body, 2 << 3 | 2);
    buf_add_varint(&body, sizeof text);
    buf_add(&body, text, sizeof text);
    struct buf *out = &conn->net.out;
    add_head(out, block.n, FRAME_HEADERS, FLAG_END_HEADERS, conn->stream);
    buf_add(out, block.p, block.n);
    add_head(out, body.n + 5, FRAME_DATA, FLAG_END_STREAM, conn->stream);
    char prefix[5] = {0, 0, 0, (char)(body.n >> 8), (char)body.n};
    buf_add(out, prefix, sizeof prefix);
    buf_add(out, body.p, body.n);
    buf_close(&block);
    buf_close(&body);
}

static void give_window(struct net *net, size_t bytes)
{
    char room[4] = {(char)(bytes >> 24), (char)(bytes >> 16), (char)(bytes >> 8), (char)bytes};
    add_head(&net->out, sizeof room, FRAME_WINDOW, 0, 0);
    buf_add(&net->out, room, sizeof room);
}

static size_t etcd_on_bytes(struct net *net, struct span bytes)
{
    struct peer_conn *conn = net->data;
    size_t used = 0, done = 0, messages = 0, taken = 0;
    while (bytes.n - used >= FRAME_HEAD) {
        const unsigned char *p = (const unsigned char *)bytes.p + used;
        size_t size = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        if (bytes.n - used < FRAME_HEAD + size)
            break;
        int type = p[3], flags = p[4];
        if (type == FRAME_DATA) {
            messages++;
            taken += size;
        } else if (type == FRAME_HEADERS && (flags & FLAG_END_STREAM) != 0) {
            done++;
        } else if (type == FRAME_RST || type == FRAME_GOAWAY) {
            bench_fail("etcd refused a put");
        } else if ((type == FRAME_SETTINGS || type == FRAME_PING) && (flags & FLAG_ACK) == 0) {
            add_head(&net->out, type == FRAME_PING ? size : 0, type, FLAG_ACK, 0);
            if (type == FRAME_PING)
                buf_add(&net->out, (const char *)p + FRAME_HEAD, size);
        }
        used += FRAME_HEAD + size;
    }
    conn->messages += messages;
    conn->ends += done;
    if (conn->ends > conn->messages)
        bench_fail("etcd refused a put");
    if (taken > 0)
        give_window(net, taken);
    peer_load_answered(conn, done);
    return used;
}

void peer_load_etcd(struct peer_load *load, const struct peer peers[TRIO], uv_loop_t *loop,
                    size_t count, size_t pipeline)
{
    *load = (struct peer_load){.add = etcd_add};
    peer_load_open(load, find_leader(peers, loop), loop, count, pipeline);
    for (size_t i = 0; i < count; i++) {
        struct net *net = &load->conns[i].net;
        net->on_bytes = etcd_on_bytes;
        buf_add_str(&net->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        add_head(&net->out, 0, FRAME_SETTINGS, 0, 0);
        give_window(net, 1 << 30);
    }
}
