/* bench/idle.c: memory of a connection at rest: 10,000 users, authenticated and live, each in 20
 * conversations, on one loop: private bytes of the server's process, for each connection. All users
 * have been there before, a hundred at a time, so that what the server caches of them is not
 * counted; it is told apart. Beside it a bare libuv server with as many connections.
 * --tls: they come by TLS. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/lib/sock.h"
#include "store/base/clock.h"

enum { USERS = 10000, EACH_IN = 20, MEMBERS = 500, TOUR = 100 };
enum { BLOCKS = USERS / MEMBERS, GROUPS = BLOCKS * EACH_IN };
enum { GIVEN_BACK_S = 12 }; /* what is free stays 10 s with the allocator */

static void user_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "user%05zu", number);
}

static void on_line(struct sock *sock, struct span line)
{
    (void)sock;
    (void)line;
}

/* User u is in the EACH_IN groups g with g % BLOCKS == u % BLOCKS. */
static void open_groups(const struct gateway *gateway, uv_loop_t *loop)
{
    struct sock admin = {0};
    struct sock_plan plan = {
        .gateway = gateway, .loop = loop, .user = user_name, .scope = "admin", .on_line = on_line};
    sock_open(&admin, 0, 1, &plan);
    for (size_t group = 0; group < GROUPS; group++) {
        struct buf text = {0};
        size_t block = group % BLOCKS;
        buf_addf(&text,
                 "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"group\",\"cid\":\"g%zu\","
                 "\"members\":[",
                 group);
        for (size_t i = 0; i < MEMBERS; i++) {
            char name[64];
            user_name(i * BLOCKS + block, name, sizeof name);
            buf_addf(&text, "%s\"%s\"", i > 0 ? "," : "", name);
        }
        buf_add(&text, "]}", 3);
        sock_do(&admin, text.p);
        buf_close(&text);
    }
    sock_close_all(&admin, 1, loop);
}

/* ---- the reference ---- */

static int listener_port(uv_tcp_t *listener)
{
    struct sockaddr_in at;
    int size = sizeof at;
    uv_tcp_getsockname(listener, (struct sockaddr *)&at, &size);
    return ntohs(at.sin_port);
}

static void bare_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char shared[4096];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(shared, sizeof shared);
}

static void bare_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void)stream;
    (void)buf;
    if (n < 0)
        _exit(0); /* the client goes: all is measured */
}

static void bare_on_connection(uv_stream_t *listener, int status)
{
    uv_tcp_t *tcp = malloc(sizeof *tcp);
    if (status != 0 || tcp == NULL || uv_tcp_init(listener->loop, tcp) != 0 ||
        uv_accept(listener, (uv_stream_t *)tcp) != 0)
        _exit(1);
    uv_read_start((uv_stream_t *)tcp, bare_on_alloc, bare_on_read);
}

static void bare_serve(int out)
{
    uv_loop_t loop;
    uv_tcp_t listener;
    struct sockaddr_in at;
    uv_loop_init(&loop);
    uv_ip4_addr("127.0.0.1", 0, &at);
    uv_tcp_init(&loop, &listener);
    if (uv_tcp_bind(&listener, (const struct sockaddr *)&at, 0) != 0 ||
        uv_listen((uv_stream_t *)&listener, 1024, bare_on_connection) != 0)
        _exit(1);
    int port = listener_port(&listener);
    if (write(out, &port, sizeof port) != sizeof port)
        _exit(1);
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(0);
}

static double measure_bare(uv_loop_t *loop, struct sock *socks)
{
    int fds[2], port = 0;
    pid_t parent = getpid();
    if (pipe(fds) != 0)
        bench_fail("pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            bare_serve(fds[1]);
        _exit(1);
    }
    if (read(fds[0], &port, sizeof port) != sizeof port)
        bench_fail("the reference did not start");
    close(fds[0]);
    close(fds[1]);
    net_run(loop, 0.3);
    uint64_t before = proc_memory(pid);
    for (size_t i = 0; i < USERS; i++) {
        sock_attach(&socks[i], loop, port, on_line);
        if (i % 100 == 99)
            net_run(loop, 0.005);
    }
    net_run(loop, 0.5);
    double each = (double)(proc_memory(pid) - before) / USERS;
    sock_close_all(socks, USERS, loop);
    proc_wait(pid);
    return each;
}

/* ---- ours ---- */

struct memory {
    double connection, cached; /* bytes: of a connection; for each user, kept after it went */
};

/* Until the allocator has given back what is free. */
static void rest(const struct gateway *gateway, uv_loop_t *loop)
{
    gateway_rest(gateway);
    net_run(loop, GIVEN_BACK_S);
}

static struct memory measure(const struct gateway *gateway, uv_loop_t *loop, struct sock *socks,
                             const char *more)
{
    struct sock_plan plan = {
        .gateway = gateway, .loop = loop, .user = user_name, .more = more, .on_line = on_line};
    double at_first = (double)proc_memory(gateway->pid);
    for (size_t first = 0; first < USERS; first += TOUR) {
        memset(socks, 0, TOUR * sizeof *socks);
        sock_open(socks, first, TOUR, &plan);
        sock_close_all(socks, TOUR, loop);
    }
    rest(gateway, loop);
    double before = (double)proc_memory(gateway->pid);
    memset(socks, 0, USERS * sizeof *socks);
    sock_open(socks, 0, USERS, &plan);
    rest(gateway, loop);
    double after = (double)proc_memory(gateway->pid);
    sock_close_all(socks, USERS, loop);
    return (struct memory){(after - before) / USERS, (before - at_first) / USERS};
}

int main(int argc, char **argv)
{
    struct gateway gateway;
    uv_loop_t *loop = uv_default_loop();
    static const char *const OPTIONS[] = {"--loops", "1", NULL};
    struct bench_options options = bench_options(argc, argv, 60);
    struct sock *socks = xcalloc(USERS, sizeof *socks);
    double bare = measure_bare(loop, socks);
    gateway_prepare(&gateway);
    gateway.tls = options.tls;
    gateway_start(&gateway, OPTIONS);
    open_groups(&gateway, loop);
    gateway_stop(&gateway); /* so that what opening took is not counted */
    gateway_start(&gateway, OPTIONS);
    struct memory quiet = measure(&gateway, loop, socks, NULL);
    gateway_stop(&gateway);
    gateway_start(&gateway, OPTIONS);
    struct memory live = measure(&gateway, loop, socks, "{\"id\":2,\"op\":\"sync\",\"cur\":{}}");
    struct result result = {.bench = "idle",
                            .unit = "bytes/connection",
                            .lower = true,
                            .ref_name = "a bare libuv server, one uv_tcp_t a connection",
                            .value = live.connection,
                            .ref = bare};
    result_add(&result, "authenticated_only", quiet.connection);
    result_add(&result, "cached_for_user", live.cached);
    result_add(&result, "conversations", EACH_IN);
    result_add(&result, "connections", USERS);
    result_add(&result, "tls", options.tls);
    result_print(&result);
    gateway_drop(&gateway);
    free(socks);
    return 0;
}
