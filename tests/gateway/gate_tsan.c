/* Two loops and a node under several clients, for ThreadSanitizer (Criterion aborts under it): what
 * loops share (keys, limits, settings, metrics) is used by all of them at once, keys are read again
 * meanwhile, and the drain finds clients at work. Ends with status 0 when every client got all
 * answers, all records of the group and a goodbye; the sanitizer ends it otherwise. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/gate.h"
#include "gateway/listen.h"
#include "replication/node.h"
#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/metrics.h"
#include "tests/lib/scratch.h"
#include "tests/lib/wsraw.h"

enum { LOOPS = 2, CLIENTS = 6, SENDS = 40, RELOADS = 30, TEXT_FRAME = 0x81 };

static struct settings settings;
static struct node *node;
static struct jwt_keys *keys;
static uint16_t port;
static char group[40]; /* the id of the conversation that all are in */
static pthread_barrier_t all_done;

struct client {
    int number, fd;
    struct buf in, out;
    char user[8];
    pthread_t thread;
};

static void say(struct client *client)
{
    for (size_t at = 0; at < client->out.n;) {
        ssize_t n = send(client->fd, client->out.p + at, client->out.n - at, MSG_NOSIGNAL);
        ASSERT(n > 0);
        at += (size_t)n;
    }
    client->out.n = 0;
}

static void ask(struct client *client, const char *line)
{
    wsraw_text(&client->out, TEXT_FRAME, line);
}

static bool hear(struct client *client)
{
    char *room = buf_grow(&client->in, 65536);
    ssize_t n = recv(client->fd, room, 65536, 0);
    client->in.n -= 65536 - (n > 0 ? (size_t)n : 0);
    return n > 0;
}

static int count(const struct client *client, const char *what)
{
    int found = 0;
    size_t size = strlen(what);
    const char *p = client->in.p, *end = p + client->in.n;
    while (p != NULL && (p = memmem(p, (size_t)(end - p), what, size)) != NULL) {
        found++;
        p += size;
    }
    return found;
}

static void wait_for(struct client *client, const char *what, int times)
{
    while (count(client, what) < times)
        ASSERT(hear(client));
}

static void connect_client(struct client *client)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    int rv = connect(client->fd, (struct sockaddr *)&at, sizeof at);
    ASSERT(rv == 0);
}

static void sign_in(struct client *client)
{
    struct buf token = {0};
    char line[1024];
    connect_client(client);
    buf_add_str(&client->out,
                "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    say(client);
    wait_for(client, "\"hello\"", 1);
    int err = jwt_sign(keys, client->user, "", clock_wall_ms(), 600, &token);
    ASSERT(err == 0);
    snprintf(line, sizeof line, "{\"id\":1,\"op\":\"auth\",\"token\":\"%.*s\"}", (int)token.n,
             token.p);
    buf_close(&token);
    ask(client, line);
    ask(client, "{\"id\":2,\"op\":\"sync\",\"cur\":{}}");
    say(client);
    wait_for(client, "{\"id\":2,\"ok\":", 1);
}

static void *live(void *arg)
{
    struct client *client = arg;
    char line[512];
    sign_in(client);
    pthread_barrier_wait(&all_done); /* all are live */
    for (int i = 0; i < SENDS; i++) {
        snprintf(line, sizeof line,
                 "{\"id\":%d,\"op\":\"send\",\"c\":\"%s\",\"cid\":\"%d\",\"kind\":\"text\","
                 "\"body\":{\"text\":\"hello\"}}",
                 100 + i, group, i);
        ask(client, line);
        snprintf(line, sizeof line, "{\"op\":\"mark\",\"c\":\"%s\",\"read\":%d}", group, i);
        ask(client, line);
        if (i % 8 == 0)
            ask(client, "{\"id\":3,\"op\":\"list\"}");
        say(client);
    }
    wait_for(client, "\"kind\":\"text\"", CLIENTS * SENDS);
    wait_for(client, "\"dup\":false}", SENDS);
    pthread_barrier_wait(&all_done); /* the drain begins */
    while (hear(client))
        ;
    ASSERT(count(client, "\"goodbye\"") == 1);
    return NULL;
}

/* A group of all of them, over HTTP. */
static void open_group(void)
{
    struct client client = {.user = "u0"};
    struct buf token = {0}, body = {0};
    connect_client(&client);
    int err = jwt_sign(keys, client.user, "", clock_wall_ms(), 600, &token);
    ASSERT(err == 0);
    buf_add_str(&body, "{\"kind\":\"group\",\"name\":\"all\",\"cid\":\"all\",\"members\":[");
    for (int i = 1; i < CLIENTS; i++)
        buf_addf(&body, "%s\"u%d\"", i > 1 ? "," : "", i);
    buf_add_str(&body, "]}");
    buf_addf(&client.out,
             "POST /v1/conversations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
             "Authorization: Bearer %.*s\r\nContent-Length: %zu\r\n\r\n",
             (int)token.n, token.p, body.n);
    buf_add_span(&client.out, buf_span(&body));
    say(&client);
    while (hear(&client))
        ;
    buf_add_byte(&client.in, 0);
    const char *at = strstr(client.in.p, "{\"c\":\"");
    ASSERT(at != NULL);
    snprintf(group, sizeof group, "%.*s", (int)strcspn(at + 6, "\""), at + 6);
    buf_close(&token);
    buf_close(&body);
    buf_close(&client.in);
    buf_close(&client.out);
    close(client.fd);
}

static int connect_node(void *arg)
{
    return node_connect(arg);
}

static void setup(char *dir, int fds[LOOPS])
{
    char path[SCRATCH_MAX + 16], data[SCRATCH_MAX + 16], why[512], actual[LISTEN_ADDRESS_MAX];
    int wrong;
    snprintf(path, sizeof path, "%s/secret", dir);
    snprintf(data, sizeof data, "%s/data", dir);
    scratch_write(dir, "secret", "0123456789abcdef0123456789abcdef");
    int rv = chmod(path, 0600);
    ASSERT(rv == 0);
    rv = mkdir(data, 0700);
    ASSERT(rv == 0);
    settings.auth = auth_new(path, NULL, why, sizeof why);
    keys = jwt_keys_load_secret(path, why, sizeof why);
    ASSERT(settings.auth != NULL && keys != NULL);
    limits_init(&settings.limits, 10000, 10000, 100);
    settings.frame_max = GATEWAY_FRAME_MAX_DEFAULT;
    settings.group_max = GATEWAY_GROUP_MAX_DEFAULT;
    settings.io_uring = true;
    settings.conns_max = 100;
    struct node_config config = {.dir = data, .partitions = 2, .disk_reserve = 1};
    rv = node_start(&config, &node, why, sizeof why);
    ASSERT(rv == 0);
    settings.connect = connect_node;
    settings.connect_arg = node;
    fds[0] = listen_on("127.0.0.1:0", 1, actual, why, sizeof why, &wrong);
    fds[1] = listen_on(actual, 1, actual, why, sizeof why, &wrong);
    ASSERT(fds[0] >= 0 && fds[1] >= 0);
    port = (uint16_t)strtoul(strrchr(actual, ':') + 1, NULL, 10);
}

static void reload_keys(void)
{
    struct buf text = {0};
    char why[512];
    for (int i = 0; i < RELOADS; i++) {
        int err = auth_reload(settings.auth, why, sizeof why);
        ASSERT(err == 0);
        text.n = 0;
        metrics_write(&text);
    }
    buf_close(&text);
}

int main(void)
{
    static struct client clients[CLIENTS];
    struct gate *gates[LOOPS];
    char dir[SCRATCH_MAX];
    int fds[LOOPS];
    log_setup("gate_tsan", LOG_WARN, LOG_TEXT);
    gate_metrics();
    scratch_make(dir);
    setup(dir, fds);
    for (int i = 0; i < LOOPS; i++)
        gates[i] = gate_new(&settings, i, fds[i], -1);
    for (int i = 0; i < LOOPS; i++)
        gate_start(gates[i]);
    open_group();
    pthread_barrier_init(&all_done, NULL, CLIENTS + 1);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i].number = i;
        snprintf(clients[i].user, sizeof clients[i].user, "u%d", i);
        int rv = pthread_create(&clients[i].thread, NULL, live, &clients[i]);
        ASSERT(rv == 0);
    }
    pthread_barrier_wait(&all_done);
    reload_keys();
    pthread_barrier_wait(&all_done);
    for (int i = 0; i < LOOPS; i++)
        gate_drain(gates[i]);
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        close(clients[i].fd);
        buf_close(&clients[i].in);
        buf_close(&clients[i].out);
    }
    for (int i = 0; i < LOOPS; i++)
        gate_join(gates[i]);
    node_stop(node);
    auth_free(settings.auth);
    jwt_keys_free(keys);
    limits_close(&settings.limits);
    pthread_barrier_destroy(&all_done);
    scratch_remove(dir);
    printf("%d clients on %d loops: ok\n", CLIENTS, LOOPS);
    return 0;
}
