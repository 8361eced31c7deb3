/* Dialling a node that is away, that is none, that has another secret, and one that answers. */
#include "store/base/dial.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/err.h"

#define SECRET span_str("0123456789abcdef0123456789abcdef")
#define OTHER span_str("fedcba9876543210fedcba9876543210")

static uv_loop_t loop;
static struct dial dial;
static struct dial_target target;
static struct sockaddr_in at;
static int links, last_fd = -1, stops, listener = -1;

static void on_link(void *arg, int fd)
{
    (void)arg;
    links++;
    last_fd = fd;
}

static void on_stopped(void *arg)
{
    (void)arg;
    stops++;
}

/* The port is bound from the start; whoever calls is refused until somebody listens. */
static void setup(void)
{
    socklen_t size = sizeof at;
    at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(zero(int, bind(listener, (struct sockaddr *)&at, size)));
    cr_assert(zero(int, getsockname(listener, (struct sockaddr *)&at, &size)));
    snprintf(target.name, sizeof target.name, "127.0.0.1:%d", ntohs(at.sin_port));
    cr_assert(address_parse(target.name, &target.address));
    target.role = HANDSHAKE_GATEWAY;
    target.secret = SECRET;
    cr_assert(zero(int, uv_loop_init(&loop)));
    dial_init(&dial, &loop, &target, on_link, on_stopped, &loop);
    dial_start(&dial);
}

static void stop(void)
{
    dial_stop(&dial);
    dial_stop(&dial);
    while (stops == 0)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(dial_stopped(&dial));
    cr_assert(eq(int, stops, 1));
    cr_assert(zero(int, uv_loop_close(&loop)));
}

static void teardown(void)
{
    if (stops == 0)
        stop();
    close(listener);
    if (last_fd >= 0)
        close(last_fd);
}

TestSuite(dial, .init = setup, .fini = teardown, .timeout = 60);

static int answer(void)
{
    int fd;
    cr_assert(zero(int, listen(listener, 16)));
    int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    struct timeval none = {.tv_usec = 1000};
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    while ((fd = accept4(listener, NULL, NULL, flags)) < 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    return fd;
}

/* A node's end, until it is done or fails. */
static int serve(int fd, enum handshake_role role, struct span secret)
{
    struct handshake hs;
    int rv = 0;
    handshake_begin(&hs, false, role, HANDSHAKE_GATEWAY, secret);
    while (rv == 0) {
        uv_run(&loop, UV_RUN_NOWAIT);
        rv = handshake_step(&hs, fd);
    }
    return rv;
}

static void until_linked(void)
{
    while (links == 0)
        uv_run(&loop, UV_RUN_ONCE);
}

/* A node that comes late is found, and what it says at once is not lost. */
Test(dial, node_comes_late)
{
    while (dial.tries < 4) /* refused so often */
        uv_run(&loop, UV_RUN_ONCE);
    int fd = answer();
    cr_assert(eq(int, serve(fd, HANDSHAKE_NODE, SECRET), 1));
    cr_assert(eq(long, send(fd, "hello", 5, MSG_NOSIGNAL), 5));
    until_linked();
    char bytes[8] = "";
    while (recv(last_fd, bytes, sizeof bytes, 0) < 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert(eq(str, bytes, "hello"));
    cr_assert(eq(int, links, 1));
    close(fd);
}

/* What has another secret, or says it is a gateway, or hangs up, or says what no node says, is not
 * taken, and the next try finds the true one. */
Test(dial, false_nodes_are_left)
{
    int fd = answer();
    cr_assert(eq(int, serve(fd, HANDSHAKE_NODE, OTHER), ERR_UNAUTHORIZED));
    close(fd);
    fd = answer();
    cr_assert(eq(int, serve(fd, HANDSHAKE_GATEWAY, SECRET), ERR_CLOSED));
    close(fd);
    close(answer());
    fd = answer();
    cr_assert(
        gt(long, send(fd, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", 47, 0), 0));
    char byte;
    while (recv(fd, &byte, 1, 0) != 0 && errno != ECONNRESET)
        uv_run(&loop, UV_RUN_NOWAIT);
    close(fd);
    cr_assert(eq(int, links, 0));
    fd = answer();
    cr_assert(eq(int, serve(fd, HANDSHAKE_NODE, SECRET), 1));
    until_linked();
    close(fd);
}

/* A link that was lost is made again; waits are short again after one that was of use. */
Test(dial, again_after_a_loss)
{
    while (dial.tries < 4)
        uv_run(&loop, UV_RUN_ONCE);
    for (int i = 1; i <= 2; i++) {
        int fd = answer();
        cr_assert(eq(int, serve(fd, HANDSHAKE_NODE, SECRET), 1));
        links = 0;
        until_linked();
        dial_worked(&dial);
        cr_assert(eq(uint, dial.tries, 1));
        close(last_fd);
        close(fd);
        dial_start(&dial);
    }
    last_fd = -1;
}

/* It can be stopped in each of its states: at once, while it waits, amid a handshake. */
Test(dial, stops_while_it_resolves)
{
    cr_assert(eq(int, dial.state, DIAL_RESOLVING));
    stop();
}
Test(dial, stops_while_it_waits)
{
    while (dial.state != DIAL_WAITING)
        uv_run(&loop, UV_RUN_ONCE);
    stop();
}
Test(dial, stops_while_it_proves)
{
    int fd = answer();
    while (dial.state != DIAL_PROVING)
        uv_run(&loop, UV_RUN_ONCE);
    stop();
    cr_assert(eq(int, links, 0));
    close(fd);
}
Test(dial, stops_with_a_link)
{
    int fd = answer();
    cr_assert(eq(int, serve(fd, HANDSHAKE_NODE, SECRET), 1));
    until_linked();
    stop();
    close(fd);
}

/* Addresses as people write them. */
Test(address, forms)
{
    struct address address;
    cr_assert(address_parse("[::1]:8080", &address));
    cr_assert(eq(str, address.host, "::1"));
    cr_assert(eq(str, address.port, "8080"));
    cr_assert(address_parse("node.example:1", &address));
    cr_assert(not(address_parse("node.example", &address)));
    cr_assert(not(address_parse(":1", &address)));
    cr_assert(not(address_parse("a:", &address)));
    cr_assert(not(address_parse("a:65536", &address)));
    cr_assert(not(address_parse("a:1x", &address)));
}
