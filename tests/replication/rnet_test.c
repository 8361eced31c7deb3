/* Links between nodes, over real sockets on loopback: each of three reaches the others, and those
 * that do not belong are refused, and told why. */
#include "replication/rnet.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/door.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "tests/lib/certs.h"
#include "tests/lib/scratch.h"

#define SECRET span_str("0123456789abcdef0123456789abcdef")

enum { NODES = 3, WAIT_MS = 8000 };

static struct host {
    struct rnet_env env;
    struct rnet *net;
    struct door *door;
    struct tls *tls; /* NULL: plain */
    char dir[SCRATCH_MAX + 16];
    uint64_t heard_from;
    char heard[64];
    int ups, downs, listener;
} host[NODES];
static uv_loop_t loop;
static struct roster roster;
static char root[SCRATCH_MAX], incarnation[NODES][ROSTER_ID_SIZE + 1];

static void on_message(void *arg, uint64_t from, int type, struct span body)
{
    struct host *self = arg;
    cr_assert(eq(int, type, LINK_RAFT));
    self->heard_from = from;
    snprintf(self->heard, sizeof self->heard, "%.*s", (int)body.n, body.p);
}

static void on_link(void *arg, uint64_t node, bool up)
{
    struct host *self = arg;
    (void)node;
    self->ups += up;
    self->downs += !up;
}

static void on_proved(void *arg, enum handshake_role role, struct line line)
{
    cr_assert(eq(int, (int)role, (int)HANDSHAKE_NODE));
    rnet_adopt(((struct host *)arg)->net, line);
}

static void begin(int i)
{
    struct host *self = &host[i];
    self->net = rnet_new(&self->env);
    rnet_secure(self->net, self->tls);
    self->door = door_new(&loop, self->listener, self->env.secret, self->tls, on_proved, self);
    door_open(self->door);
    rnet_start(self->net);
}

static void end(int i)
{
    rnet_close(host[i].net);
    door_close(host[i].door);
    while (!rnet_idle(host[i].net) || !door_idle(host[i].door))
        uv_run(&loop, UV_RUN_ONCE);
    rnet_free(host[i].net);
    door_free(host[i].door);
    host[i].net = NULL;
}

static int open_port(int i, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    cr_assert(zero(int, bind(fd, (struct sockaddr *)&at, size)));
    cr_assert(zero(int, listen(fd, 16)));
    cr_assert(zero(int, getsockname(fd, (struct sockaddr *)&at, &size)));
    host[i].listener = fd;
    return ntohs(at.sin_port);
}

static void setup(void)
{
    char text[256] = "", why[128];
    log_setup("test", LOG_ERROR, LOG_TEXT);
    scratch_make(root);
    cr_assert(zero(int, uv_loop_init(&loop)));
    for (int i = 0; i < NODES; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d=127.0.0.1:%d",
                 i > 0 ? "," : "", i + 1, open_port(i, 0));
    cr_assert(roster_parse(text, &roster, why, sizeof why));
    for (int i = 0; i < NODES; i++) {
        snprintf(host[i].dir, sizeof host[i].dir, "%s/%d", root, i);
        cr_assert(zero(int, mkdir(host[i].dir, 0700)));
        snprintf(incarnation[i], sizeof incarnation[i], "%032d", i);
        host[i].env = (struct rnet_env){.loop = &loop,
                                        .roster = &roster,
                                        .id = (uint64_t)i + 1,
                                        .cluster = "the cluster",
                                        .incarnation = incarnation[i],
                                        .partitions = 4,
                                        .secret = SECRET,
                                        .dir = host[i].dir,
                                        .on_message = on_message,
                                        .on_link = on_link,
                                        .arg = &host[i]};
    }
}

static void teardown(void)
{
    for (int i = 0; i < NODES; i++) {
        if (host[i].net != NULL)
            end(i);
    }
    cr_assert(zero(int, uv_loop_close(&loop)));
    scratch_remove(root);
}

TestSuite(rnet, .init = setup, .fini = teardown, .timeout = 60);

/* Runs the loop until it is so, or for long enough. */
#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        uint64_t until = uv_now(&loop) + WAIT_MS;                                                  \
        uv_timer_t wake;                                                                           \
        uv_timer_init(&loop, &wake);                                                               \
        uv_timer_start(&wake, on_wake, 10, 10);                                                    \
        while (!(condition) && uv_now(&loop) < until)                                              \
            uv_run(&loop, UV_RUN_ONCE);                                                            \
        uv_close((uv_handle_t *)&wake, NULL);                                                      \
        uv_run(&loop, UV_RUN_NOWAIT);                                                              \
    } while (0)

static void on_wake(uv_timer_t *timer)
{
    (void)timer;
}

static bool all_reach(void)
{
    for (int i = 0; i < NODES; i++)
        for (int k = 0; k < NODES; k++)
            if (i != k && (host[i].net == NULL || !rnet_reaches(host[i].net, (uint64_t)k + 1)))
                return false;
    return true;
}

static void all_talk(void)
{
    for (int i = 0; i < NODES; i++)
        begin(i);
    RUN_UNTIL(all_reach());
    cr_assert(all_reach());
    rnet_send(host[2].net, 1, LINK_RAFT, span_str("from three to one"));
    rnet_send(host[0].net, 3, LINK_RAFT, span_str("and back"));
    RUN_UNTIL(host[0].heard_from != 0 && host[2].heard_from != 0);
    cr_assert(eq(str, host[0].heard, "from three to one"));
    cr_assert(eq(u64, host[0].heard_from, 3));
    cr_assert(eq(str, host[2].heard, "and back"));
}

Test(rnet, each_reaches_the_others)
{
    all_talk();
}

/* One that goes is missed at once, and reached again when it is back. */
Test(rnet, goes_and_comes_back)
{
    for (int i = 0; i < NODES; i++)
        begin(i);
    RUN_UNTIL(all_reach());
    int port = atoi(strrchr(roster.nodes[1].name, ':') + 1);
    end(1);
    RUN_UNTIL(host[0].downs > 0 && host[2].downs > 0);
    cr_assert(not(rnet_reaches(host[0].net, 2)));
    rnet_send(host[0].net, 2, LINK_RAFT, span_str("lost"));
    cr_assert(rnet_reaches(host[0].net, 3));
    open_port(1, port);
    begin(1);
    RUN_UNTIL(all_reach());
    cr_assert(all_reach());
    cr_assert(zero(u64, host[1].heard_from));
}

static bool others_only(void)
{
    return rnet_reaches(host[0].net, 2) && rnet_reaches(host[1].net, 1);
}

/* The third differs in something: the first two go on without it. */
static void is_refused(void)
{
    for (int i = 0; i < NODES; i++)
        begin(i);
    RUN_UNTIL(others_only());
    RUN_UNTIL(host[2].ups > 0 || uv_now(&loop) > until - WAIT_MS + 500);
    cr_assert(others_only());
    cr_assert(not(rnet_reaches(host[0].net, 3)));
    cr_assert(not(rnet_reaches(host[1].net, 3)));
    cr_assert(zero(int, host[2].ups));
}

Test(rnet, of_another_cluster)
{
    host[2].env.cluster = "another one";
    is_refused();
}

Test(rnet, with_other_partitions)
{
    host[2].env.partitions = 5;
    is_refused();
}

Test(rnet, with_another_secret)
{
    host[2].env.secret = span_str("another one of thirty-two bytes!");
    is_refused();
}

/* Whoever has taken the address of one that is gone is called in its place: the links that the two
 * have hold. */
Test(rnet, called_as_another)
{
    for (int i = 0; i < NODES; i++)
        begin(i);
    RUN_UNTIL(all_reach());
    rnet_know(host[0].net, 9, roster.nodes[1].name);
    uint64_t enough = uv_now(&loop) + 1500;
    RUN_UNTIL(uv_now(&loop) > enough);
    cr_assert(all_reach());
    cr_assert(not(rnet_reaches(host[0].net, 9)));
    for (int i = 0; i < NODES; i++)
        cr_assert(zero(int, host[i].downs));
}

/* What is spoken with each is known; who speaks less than is needed is not let in. */
Test(rnet, speaks_too_little)
{
    for (int i = 0; i < NODES; i++)
        begin(i);
    rnet_require(host[2].net, WIRE_VERSION + 1);
    RUN_UNTIL(others_only());
    RUN_UNTIL(host[2].ups > 0 || uv_now(&loop) > until - WAIT_MS + 500);
    cr_assert(zero(int, host[2].ups));
    cr_assert(eq(u32, rnet_version(host[0].net, 2), WIRE_VERSION));
    cr_assert(zero(u32, rnet_version(host[2].net, 1)));
    cr_assert(eq(u32, rnet_version_lowest(host[0].net), WIRE_VERSION));
    rnet_require(host[2].net, WIRE_VERSION);
    RUN_UNTIL(all_reach());
    cr_assert(all_reach());
}

Test(rnet, with_an_empty_disk)
{
    for (int i = 0; i < NODES; i++)
        begin(i);
    RUN_UNTIL(all_reach());
    int port = atoi(strrchr(roster.nodes[2].name, ':') + 1);
    end(2);
    RUN_UNTIL(host[0].downs > 0 && host[1].downs > 0);
    open_port(2, port);
    host[2].downs = 0;
    host[2].env.incarnation = "99999999999999999999999999999999";
    begin(2);
    RUN_UNTIL(host[2].downs > 0 && uv_now(&loop) > until - WAIT_MS + 1500); /* it is told */
    cr_assert(not(rnet_reaches(host[0].net, 3)));
    cr_assert(not(rnet_reaches(host[1].net, 3)));
    cr_assert(not(rnet_reaches(host[2].net, 1)));
    cr_assert(not(rnet_reaches(host[2].net, 2)));
}

/* ---- with certificates ---- */

enum { DAY_S = 86400 };

static void make_certs(void)
{
    cert_sign(root, "ca", NULL, -DAY_S, DAY_S);
    cert_sign(root, "other", NULL, -DAY_S, DAY_S);
    for (int i = 0; i < NODES; i++) {
        char name[16];
        snprintf(name, sizeof name, "node%d", i);
        cert_sign(root, name, i < 2 ? "ca" : "other", -DAY_S, DAY_S);
        host[i].tls = cert_link(root, name, i < 2 ? "ca" : "other");
    }
}

static void free_certs(void)
{
    for (int i = 0; i < NODES; i++) {
        if (host[i].net != NULL)
            end(i);
        tls_free(host[i].tls);
    }
}

Test(rnet, by_tls)
{
    make_certs();
    tls_free(host[2].tls);
    host[2].tls = cert_link(root, "node1", "ca");
    all_talk();
    free_certs();
}

Test(rnet, with_a_certificate_of_another_ca)
{
    make_certs();
    is_refused();
    free_certs();
}

Test(rnet, without_tls_among_those_with)
{
    make_certs();
    tls_free(host[2].tls);
    host[2].tls = NULL;
    is_refused();
    free_certs();
}

Test(rnet, with_tls_among_those_without)
{
    make_certs();
    for (int i = 0; i < 2; i++) {
        tls_free(host[i].tls);
        host[i].tls = NULL;
    }
    is_refused();
    free_certs();
}
