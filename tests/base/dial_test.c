/* Dialling a node that is away, that is none, that has another secret, and one that answers. */
#include "store/base/dial.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/err.h"
#include "tests/lib/certs.h"
#include "tests/lib/scratch.h"

#define SECRET span_str("0123456789abcdef0123456789abcdef")
#define OTHER span_str("fedcba9876543210fedcba9876543210")

static uv_loop_t loop;
static struct dial dial;
static struct dial_target target;
static struct sockaddr_in at;
static struct tls_conn *last_tls;
static int links, last_fd = -1, stops, listener = -1;

static void on_link(void *arg, struct line line)
{
    (void)arg;
    links++;
    last_fd = line.fd;
    last_tls = line.tls;
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
    tls_conn_free(last_tls);
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
static int serve_line(struct line line, enum handshake_role role, struct span secret)
{
    struct handshake hs;
    int rv = 0;
    handshake_begin(&hs, false, role, HANDSHAKE_GATEWAY, secret);
    while (rv == 0) {
        uv_run(&loop, UV_RUN_NOWAIT);
        rv = handshake_step(&hs, &line);
    }
    tls_conn_free(line.tls);
    return rv;
}

static int serve(int fd, enum handshake_role role, struct span secret)
{
    return serve_line((struct line){.fd = fd}, role, secret);
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
        lt(long, 0, send(fd, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", 47, 0)));
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

/* ---- with certificates ---- */

enum { DAY_S = 86400 };

static char dir[SCRATCH_MAX];
static struct tls *ours, *theirs;
static int said; /* the log */

/* The node's, of `ca`, until so many seconds from now. */
static void with_tls(const char *ca, long until_s)
{
    said = memfd_create("said", MFD_CLOEXEC);
    cr_assert(ge(int, dup2(said, STDERR_FILENO), 0));
    scratch_make(dir);
    cert_sign(dir, "ca", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "other", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "gateway", "ca", -DAY_S, DAY_S);
    cert_sign(dir, "node", ca, -DAY_S, until_s);
    ours = cert_link(dir, "gateway", "ca");
    theirs = cert_link(dir, "node", ca);
    target.tls = ours;
}

static void without_tls(void)
{
    stop();
    tls_free(ours);
    tls_free(theirs);
    scratch_remove(dir);
}

static int serve_tls(int fd)
{
    struct line line = {.fd = fd, .tls = tls_accept(theirs)};
    int rv = serve_line(line, HANDSHAKE_NODE, SECRET);
    close(fd);
    return rv;
}

static bool says(const char *what)
{
    static char text[1 << 16];
    ssize_t n = pread(said, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, what) != NULL;
}

static void refused_until_said(int (*node)(int fd), const char *what)
{
    while (!says(what)) {
        int fd = answer();
        dial.tries = 3; /* what fails now is said */
        cr_assert(lt(int, node(fd), 0));
        while (dial.state != DIAL_WAITING)
            uv_run(&loop, UV_RUN_ONCE);
    }
    cr_assert(zero(int, links));
    without_tls();
}

Test(dial, tls)
{
    with_tls("ca", DAY_S);
    cr_assert(eq(int, serve_tls(answer()), 1));
    until_linked();
    cr_assert(ne(ptr, last_tls, NULL));
    cr_assert(tls_established(last_tls));
    without_tls();
}

Test(dial, tls_of_another_ca)
{
    with_tls("other", DAY_S);
    refused_until_said(serve_tls, "its certificate is not accepted");
}

Test(dial, tls_that_has_expired)
{
    with_tls("ca", -60);
    refused_until_said(serve_tls, "certificate has expired");
}

static int serve_plain(int fd)
{
    int rv = serve(fd, HANDSHAKE_NODE, SECRET);
    close(fd);
    return rv;
}

Test(dial, tls_to_a_plain_node)
{
    with_tls("ca", DAY_S);
    refused_until_said(serve_plain, "does it speak TLS?");
}

/* What answers there says nothing: it is left in time. */
Test(dial, tls_without_an_answer)
{
    with_tls("ca", DAY_S);
    int fd = answer();
    for (unsigned tries = dial.tries; dial.tries == tries;)
        uv_run(&loop, UV_RUN_ONCE);
    close(fd);
    without_tls();
}

Test(dial, tls_stops_while_it_shakes_hands)
{
    with_tls("ca", DAY_S);
    int fd = answer();
    while (dial.state != DIAL_PROVING)
        uv_run(&loop, UV_RUN_ONCE);
    without_tls();
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
