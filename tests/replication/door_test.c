/* A door with real sockets: who proves himself is let in, and nobody else, whatever he does. */
#include "replication/door.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/bound.h"
#include "store/base/err.h"
#include "store/base/handshake.h"
#include "tests/lib/certs.h"
#include "tests/lib/measured.h"
#include "tests/lib/scratch.h"

#define SECRET span_str("0123456789abcdef0123456789abcdef")
#define OTHER span_str("fedcba9876543210fedcba9876543210")

static uv_loop_t loop;
static struct door *door;
static struct sockaddr_in at;
static int let_in, last_fd = -1;
static struct tls_conn *last_tls;
static struct tls *tls;                              /* the door's; NULL: plain */
static enum handshake_role role = HANDSHAKE_GATEWAY; /* of callers */

static void on_proved(void *arg, enum handshake_role as, struct line line)
{
    cr_assert(eq(ptr, arg, &loop));
    cr_assert(eq(int, (int)as, (int)role));
    let_in++;
    last_fd = line.fd;
    last_tls = line.tls;
}

static void turn(void)
{
    for (int i = 0; i < 8; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void setup(void)
{
    socklen_t size = sizeof at;
    at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert(zero(int, bind(fd, (struct sockaddr *)&at, size)));
    cr_assert(zero(int, listen(fd, 512)));
    cr_assert(zero(int, getsockname(fd, (struct sockaddr *)&at, &size)));
    cr_assert(zero(int, uv_loop_init(&loop)));
    door = door_new(&loop, fd, SECRET, tls, on_proved, &loop);
    door_open(door);
}

static void teardown(void)
{
    door_close(door);
    turn();
    cr_assert(door_idle(door));
    door_free(door);
    cr_assert(zero(int, uv_loop_close(&loop)));
}

TestSuite(door, .init = setup, .fini = teardown, .timeout = 60);

static int call(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(zero(int, connect(fd, (struct sockaddr *)&at, sizeof at)));
    turn();
    return fd;
}

static void say(int fd, const char *bytes, size_t n)
{
    cr_assert(eq(long, send(fd, bytes, n, MSG_NOSIGNAL), (long)n));
    turn();
}

/* Bytes that are there now; -1: hung up, and nothing came. */
static long hear(int fd, char *bytes, size_t n)
{
    ssize_t got = recv(fd, bytes, n, MSG_DONTWAIT);
    return got > 0 ? got : got == 0 || errno == ECONNRESET ? -1 : 0;
}

static bool hung_up(int fd)
{
    char byte;
    return hear(fd, &byte, 1) == -1;
}

static int prove(int fd, struct span secret, const char *behind)
{
    struct handshake hs;
    char bytes[128];
    handshake_begin(&hs, true, role, HANDSHAKE_NODE, secret);
    say(fd, hs.out, hs.out_size);
    hs.out_size = 0;
    cr_assert(eq(long, hear(fd, bytes, sizeof bytes), HANDSHAKE_HELLO));
    cr_assert(zero(int, handshake_feed(&hs, bytes, HANDSHAKE_HELLO)));
    memcpy(bytes, hs.out, HANDSHAKE_PROOF);
    memcpy(bytes + HANDSHAKE_PROOF, behind, strlen(behind));
    say(fd, bytes, HANDSHAKE_PROOF + strlen(behind));
    long got = hear(fd, bytes, sizeof bytes);
    return got == HANDSHAKE_PROOF ? handshake_feed(&hs, bytes, HANDSHAKE_PROOF) : (int)got;
}

/* Who has the secret is let in, and what it says right behind the proof is not lost. */
Test(door, gateway_is_let_in)
{
    char bytes[8] = "";
    int fd = call();
    cr_assert(eq(int, prove(fd, SECRET, "frames"), 1));
    cr_assert(eq(int, let_in, 1));
    cr_assert(eq(long, hear(last_fd, bytes, sizeof bytes), 6));
    cr_assert(eq(str, bytes, "frames"));
    close(last_fd);
    close(fd);
}

Test(door, other_secret_is_cut_off)
{
    int fd = call();
    cr_assert(eq(int, prove(fd, OTHER, ""), -1));
    cr_assert(eq(int, let_in, 0));
    close(fd);
}

/* Another node comes through the same door, and is told from a gateway. */
Test(door, a_node_is_let_in_as_one)
{
    role = HANDSHAKE_NODE;
    int fd = call();
    cr_assert(ge(int, prove(fd, SECRET, ""), 0));
    cr_assert(eq(int, let_in, 1));
    close(last_fd);
    close(fd);
}

/* Garbage, a role that there is not, frames without a word before: cut at once and without an
 * answer. */
Test(door, strangers_get_nothing)
{
    static const char *const WORDS[] = {"GET / HTTP/1.1\r\nHost: x\r\nAccept: everything\r\n\r\n",
                                        "lq\1\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                        "lqhs\1\3\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const size_t SIZES[] = {48, 48, 40};
    for (size_t i = 0; i < 3; i++) {
        int fd = call();
        say(fd, WORDS[i], SIZES[i]);
        cr_assert(hung_up(fd), "word %zu", i);
        close(fd);
    }
    cr_assert(eq(int, let_in, 0));
}

/* Who has said half of it, and goes, leaves nothing behind: teardown counts the handles. */
Test(door, half_a_hello_and_gone)
{
    int fd = call(), other = call();
    say(fd, "lqhs\1\1\0\0half", 12);
    cr_assert(not(hung_up(fd)));
    close(fd);
    turn();
    close(other);
}

/* Any number of silent ones: they push out each other, and who proves himself comes in. */
Test(door, silent_ones_keep_nobody_out)
{
    enum { MANY = DOOR_CALLERS_MAX + 10 };
    int fds[MANY];
    for (int i = 0; i < MANY; i++)
        fds[i] = call();
    cr_assert(hung_up(fds[0]));
    cr_assert(hung_up(fds[9]));
    cr_assert(not(hung_up(fds[10])));
    bounds_register(BOUND_OF_NODE);
    cr_assert(eq(i64, measured("loquat_bound_hits_total{bound=\"link_callers\"}"), 10));
    int fd = call();
    cr_assert(eq(int, prove(fd, SECRET, ""), 1));
    cr_assert(eq(int, let_in, 1));
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    close(last_fd);
    close(fd);
}

/* Silence ends. */
Test(door, silence_is_cut)
{
    int fd = call();
    uint64_t until = uv_now(&loop) + HANDSHAKE_MS_MAX + 2000, began = uv_now(&loop);
    while (!hung_up(fd) && uv_now(&loop) < until)
        uv_run(&loop, UV_RUN_ONCE); /* the door's own timer */
    cr_assert(uv_now(&loop) - began >= HANDSHAKE_MS_MAX - 100);
    cr_assert(lt(u64, uv_now(&loop), until));
    close(fd);
}

/* Without descriptors it rests, and goes on when there are some again. */
Test(door, out_of_descriptors)
{
    struct rlimit limit, none;
    cr_assert(zero(int, getrlimit(RLIMIT_NOFILE, &limit)));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    none = limit;
    none.rlim_cur = (rlim_t)fd + 1;
    cr_assert(zero(int, setrlimit(RLIMIT_NOFILE, &none)));
    cr_assert(zero(int, connect(fd, (struct sockaddr *)&at, sizeof at)));
    turn();
    cr_assert(zero(int, setrlimit(RLIMIT_NOFILE, &limit)));
    struct handshake hs;
    char bytes[128];
    handshake_begin(&hs, true, HANDSHAKE_GATEWAY, HANDSHAKE_NODE, SECRET);
    say(fd, hs.out, hs.out_size);
    cr_assert(zero(long, hear(fd, bytes, sizeof bytes)), "it rests");
    bounds_register(BOUND_OF_NODE);
    cr_assert(ge(i64, measured("loquat_bound_hits_total{bound=\"link_files\"}"), 1));
    for (uint64_t until = uv_now(&loop) + 5000; uv_now(&loop) < until;) {
        uv_run(&loop, UV_RUN_ONCE);
        if (hear(fd, bytes, sizeof bytes) == HANDSHAKE_HELLO) {
            close(fd);
            return;
        }
    }
    cr_fatal("nobody was taken any more");
}

/* A door that closes while somebody is half way in lets nobody in. */
Test(door, closing)
{
    int fd = call();
    say(fd, "lqhs\1\1\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 40);
    door_close(door);
    turn();
    char bytes[128];
    cr_assert(eq(long, hear(fd, bytes, sizeof bytes), HANDSHAKE_HELLO));
    cr_assert(hung_up(fd));
    cr_assert(eq(int, let_in, 0));
    close(fd);
}

/* ---- with certificates ---- */

enum { DAY_S = 86400 };

static char dir[SCRATCH_MAX];
static int said; /* the log */

static void setup_tls(void)
{
    said = memfd_create("said", MFD_CLOEXEC);
    cr_assert(ge(int, dup2(said, STDERR_FILENO), 0));
    scratch_make(dir);
    cert_sign(dir, "ca", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "other", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "node", "ca", -DAY_S, DAY_S);
    tls = cert_link(dir, "node", "ca");
    setup();
}

static void teardown_tls(void)
{
    teardown();
    tls_free(tls);
    scratch_remove(dir);
}

TestSuite(door_tls, .init = setup_tls, .fini = teardown_tls, .timeout = 60);

static bool says(const char *what)
{
    static char text[1 << 16];
    ssize_t n = pread(said, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, what) != NULL;
}

/* A caller with these certificates; what comes of it. `why`: what TLS says, if it fails. */
static int prove_tls(struct tls *certs, struct span secret, char *why, size_t size)
{
    struct handshake hs;
    struct line line = {.fd = call(), .tls = tls_connect(certs)};
    int rv = 0;
    fcntl(line.fd, F_SETFL, O_NONBLOCK);
    handshake_begin(&hs, true, role, HANDSHAKE_NODE, secret);
    while (rv == 0) {
        rv = handshake_step(&hs, &line);
        turn();
    }
    line_why(&line, why, size);
    line_close(&line);
    return rv;
}

static int prove_with(const char *name, const char *ca, char *why, size_t size)
{
    struct tls *certs = cert_link(dir, name, ca);
    int rv = prove_tls(certs, SECRET, why, size);
    tls_free(certs);
    return rv;
}

Test(door_tls, let_in)
{
    char why[256] = "";
    cert_sign(dir, "gateway", "ca", -DAY_S, DAY_S);
    cr_assert(eq(int, prove_with("gateway", "ca", why, sizeof why), 1));
    cr_assert(eq(int, let_in, 1));
    cr_assert(tls_established(last_tls));
    tls_conn_free(last_tls);
    close(last_fd);
}

/* The certificate alone is not enough. */
Test(door_tls, other_secret)
{
    char why[256] = "";
    struct tls *certs = cert_link(dir, "node", "ca");
    cr_assert(eq(int, prove_tls(certs, OTHER, why, sizeof why), ERR_CLOSED));
    cr_assert(says("another cluster secret"));
    cr_assert(zero(int, let_in));
    tls_free(certs);
}

/* It trusts the node, which does not trust it. */
Test(door_tls, of_another_ca)
{
    char why[256] = "", cat[4 * SCRATCH_MAX];
    cert_sign(dir, "stranger", "other", -DAY_S, DAY_S);
    snprintf(cat, sizeof cat, "cat %s/ca.pem %s/other.pem >%s/both.pem", dir, dir, dir);
    cr_assert(zero(int, system(cat)));
    cr_assert(eq(int, prove_with("stranger", "both", why, sizeof why), ERR_CLOSED));
    cr_assert(says("its certificate is not accepted"));
    cr_assert(ne(ptr, strstr(why, "does not accept the certificate of this side"), NULL), "%s",
              why);
    cr_assert(zero(int, let_in));
}

Test(door_tls, expired)
{
    char why[256] = "";
    cert_sign(dir, "late", "ca", -DAY_S, -60);
    cr_assert(eq(int, prove_with("late", "ca", why, sizeof why), ERR_CLOSED));
    cr_assert(says("certificate has expired"));
    cr_assert(ne(ptr, strstr(why, "expired"), NULL), "%s", why);
    cr_assert(zero(int, let_in));
}

static void without_certificate(int version, const char *what)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL *ssl = SSL_new(ctx);
    int fd = call();
    char byte;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    SSL_set_fd(ssl, fd);
    SSL_set_connect_state(ssl);
    for (int i = 0; i < 20; i++) {
        cr_assert(le(int, SSL_read(ssl, &byte, 1), 0));
        turn();
    }
    cr_assert(hung_up(fd));
    cr_assert(says(what), "%s", what);
    cr_assert(zero(int, let_in));
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
}

Test(door_tls, no_certificate)
{
    without_certificate(TLS1_3_VERSION, "it shows no certificate");
}

Test(door_tls, old_tls)
{
    without_certificate(TLS1_2_VERSION, "it does not speak TLS 1.3");
}

/* Plain words get no answer and no TLS is begun for them. */
Test(door_tls, plain_caller)
{
    int fd = call();
    say(fd, "lqhs\1\1\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 40);
    cr_assert(hung_up(fd));
    cr_assert(says("it does not speak TLS, and this node does"));
    close(fd);
}

/* What only begins like TLS. */
Test(door_tls, garbage)
{
    int fd = call();
    say(fd, "\x16\3\1\0\5garbage and more of it", 28);
    char bytes[64];
    long got = hear(fd, bytes, sizeof bytes); /* an alert at most */
    cr_assert(le(long, got, 7));
    cr_assert(hung_up(fd));
    cr_assert(zero(int, let_in));
    close(fd);
}

/* Half a handshake ends, too. */
Test(door_tls, silence_is_cut)
{
    int fd = call();
    uint64_t until = uv_now(&loop) + HANDSHAKE_MS_MAX + 2000, began = uv_now(&loop);
    say(fd, "\x16\3\1\2\0", 5);
    while (!hung_up(fd) && uv_now(&loop) < until)
        uv_run(&loop, UV_RUN_ONCE);
    cr_assert(uv_now(&loop) - began >= HANDSHAKE_MS_MAX - 100);
    cr_assert(lt(u64, uv_now(&loop), until));
    close(fd);
}

/* A caller by TLS at a door without. */
Test(door, tls_caller)
{
    char why[256] = "";
    said = memfd_create("said", MFD_CLOEXEC);
    cr_assert(ge(int, dup2(said, STDERR_FILENO), 0));
    scratch_make(dir);
    cert_sign(dir, "ca", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "node", "ca", -DAY_S, DAY_S);
    cr_assert(eq(int, prove_with("node", "ca", why, sizeof why), ERR_CLOSED));
    cr_assert(says("it speaks TLS, and this node does not"));
    cr_assert(ne(ptr, strstr(why, "does it speak TLS?"), NULL), "%s", why);
    scratch_remove(dir);
}

/* Of one that is reset right behind its words, what it said is still what the log tells. */
Test(door_tls, reset_caller)
{
    int fd = call();
    const struct linger at_once = {.l_onoff = 1};
    ssize_t n = send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
    cr_assert(eq(i64, n, 18));
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    for (int i = 0; i < 100 && !says("was refused"); i++)
        turn();
    cr_assert(says("it does not speak TLS, and this node does"));
}
