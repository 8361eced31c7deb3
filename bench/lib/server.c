#include "bench/lib/server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "replication/roster.h"
#include "store/base/clock.h"
#include "tests/lib/certs.h"

enum { DIRS_MAX = 16, ARGS_MAX = 32, START_S_MAX = 60, REST_TURNS = 5, REST_TURNS_MAX = 300 };

static char dirs[DIRS_MAX][SCRATCH_MAX];

const char *bench_program(const char *name, char *path, size_t size)
{
    const char *build = getenv("BUILD");
    snprintf(path, size, "%s/%s", build != NULL ? build : "build", name);
    return path;
}

static void remove_dirs(void)
{
    for (size_t i = 0; i < DIRS_MAX; i++)
        if (dirs[i][0] != '\0')
            scratch_remove(dirs[i]);
}

void bench_dir(char path[SCRATCH_MAX])
{
    static bool registered = false;
    if (!registered && atexit(remove_dirs) != 0)
        bench_fail("atexit");
    registered = true;
    scratch_make(path);
    for (size_t i = 0; i < DIRS_MAX; i++) {
        if (dirs[i][0] == '\0') {
            snprintf(dirs[i], sizeof dirs[i], "%s", path);
            return;
        }
    }
    bench_fail("more than %d directories", DIRS_MAX);
}

void bench_dir_drop(const char *path)
{
    for (size_t i = 0; i < DIRS_MAX; i++) {
        if (strcmp(dirs[i], path) == 0) {
            scratch_remove(path);
            dirs[i][0] = '\0';
        }
    }
}

/* ---- processes ---- */

pid_t proc_fork(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        bench_fail("fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    return 0;
}

static pid_t start(char *const *argv, int out, int err)
{
    pid_t pid = proc_fork();
    if (pid > 0)
        return pid;
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
        _exit(127);
    execvp(argv[0], argv);
    fprintf(stderr, "bench: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

pid_t proc_start(char *const *argv, const char *log)
{
    if (log == NULL)
        return start(argv, STDERR_FILENO, STDERR_FILENO);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        bench_fail("%s: %s", log, strerror(errno));
    pid_t pid = start(argv, fd, fd);
    close(fd);
    return pid;
}

pid_t proc_start_piped(char *const *argv, int *out)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        bench_fail("pipe: %s", strerror(errno));
    pid_t pid = start(argv, fds[1], STDERR_FILENO);
    close(fds[1]);
    *out = fds[0];
    return pid;
}

double proc_wait(pid_t pid)
{
    int status = 0;
    struct rusage usage;
    while (wait4(pid, &status, 0, &usage) != pid)
        if (errno != EINTR)
            bench_fail("wait: %s", strerror(errno));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_fail("process %d ended with %s %d", (int)pid, WIFEXITED(status) ? "status" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void proc_stop(pid_t pid)
{
    kill(pid, SIGTERM);
    proc_wait(pid);
}

/* A line NAME of a file of /proc/PID, in bytes. */
static uint64_t proc_line(pid_t pid, const char *of, const char *name)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, of);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoull(line + strlen(name), NULL, 10);
    int closed = fclose(file);
    ASSERT(closed == 0); /* it was only read */
    return (uint64_t)kib << 10;
}

uint64_t proc_memory(pid_t pid)
{
    return proc_line(pid, "smaps_rollup", "Private_Dirty:");
}

uint64_t proc_peak(pid_t pid)
{
    return proc_line(pid, "status", "VmHWM:");
}

void proc_peak_forget(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/clear_refs", (int)pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "5", 1) != 1)
        bench_fail("%s: %s", path, strerror(errno));
    close(fd);
}

static void proc_kill(pid_t pid, const char *name)
{
    int status = 0;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) != pid)
        if (errno != EINTR)
            bench_fail("wait: %s", strerror(errno));
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        bench_fail("%s had ended before it was killed", name);
}

bool proc_rest(pid_t pid)
{
    double before = cpu_of_s(pid);
    int calm = 0;
    for (int turn = 0; calm < REST_TURNS && turn < REST_TURNS_MAX; turn++) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        double used = cpu_of_s(pid);
        calm = used - before < 0.025 ? calm + 1 : 0; /* two ticks */
        before = used;
    }
    return calm == REST_TURNS;
}

/* ---- the gateway ---- */

static void make_secret(const char *root, char *path, size_t size)
{
    char secret[33];
    snprintf(path, size, "%s/secret", root);
    for (size_t i = 0; i < sizeof secret - 1; i++)
        secret[i] = (char)('a' + random_u64() % 26);
    secret[sizeof secret - 1] = '\0';
    scratch_write(root, "secret", secret);
    chmod(path, 0600);
}

void gateway_prepare(struct gateway *gateway)
{
    char why[512];
    *gateway = (struct gateway){0};
    bench_dir(gateway->root);
    snprintf(gateway->dir, sizeof gateway->dir, "%s/data", gateway->root);
    make_secret(gateway->root, gateway->secret, sizeof gateway->secret);
    gateway->keys = jwt_keys_load_secret(gateway->secret, why, sizeof why);
    if (gateway->keys == NULL)
        bench_fail("%s", why);
}

void gateway_join(struct gateway *gateway, const struct gateway *first)
{
    *gateway = *first;
    gateway->pid = 0;
    gateway->root[0] = '\0'; /* the first's */
}

/* The line by which a server says that it serves: where. */
static void read_ready(const char *program, int fd, char *at, size_t size)
{
    static const char HEAD[] = "ready listen=";
    char line[256];
    size_t n = 0;
    while (n < sizeof line - 1) {
        ssize_t got = read(fd, line + n, sizeof line - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            bench_fail("%s did not start: see above", program);
        n += (size_t)got;
        if (memchr(line, '\n', n) != NULL)
            break;
    }
    line[n] = '\0';
    if (strncmp(line, HEAD, sizeof HEAD - 1) != 0)
        bench_fail("%s said %s", program, line);
    snprintf(at, size, "%.*s", (int)strcspn(line + sizeof HEAD - 1, "\n"), line + sizeof HEAD - 1);
}

static pid_t start_ready(const char **argv, char *at, size_t size)
{
    int out;
    pid_t pid = proc_start_piped((char *const *)(uintptr_t)argv, &out);
    read_ready(argv[0], out, at, size);
    close(out);
    return pid;
}

static void node_start_at(struct node_server *node, const char *listen)
{
    char actual[64];
    char program[SCRATCH_MAX], dir[SCRATCH_MAX + 16];
    snprintf(dir, sizeof dir, "%s/data", node->root);
    const char *argv[] = {bench_program("loquat-node", program, sizeof program),
                          "--data",
                          dir,
                          "--listen",
                          listen,
                          "--cluster-secret-file",
                          node->secret,
                          "--log-level",
                          "warn",
                          NULL};
    node->pid = start_ready(argv, actual, sizeof actual);
    snprintf(node->at, sizeof node->at, "%s", actual);
}

void node_begin(struct node_server *node)
{
    bench_dir(node->root);
    make_secret(node->root, node->secret, sizeof node->secret);
    node_start_at(node, "127.0.0.1:0");
}

void node_again(struct node_server *node)
{
    char at[sizeof node->at];
    memcpy(at, node->at, sizeof at);
    proc_kill(node->pid, "loquat-node");
    node_start_at(node, at);
}

static void member_dir(const struct node_server *nodes, size_t which, char *dir, size_t size)
{
    snprintf(dir, size, "%s/data%zu", nodes->root, which + 1);
}

/* `join`: the cluster that it becomes part of; NULL: one of the first. */
static pid_t member_start(const struct node_server *nodes, size_t which, const char *partitions,
                          const char *join, int *ready)
{
    char program[SCRATCH_MAX], dir[SCRATCH_MAX + 32], id[24];
    int fds[2];
    snprintf(id, sizeof id, "%zu", which + 1);
    member_dir(nodes, which, dir, sizeof dir);
    const char *argv[] = {bench_program("loquat-node", program, sizeof program),
                          "--id",
                          id,
                          "--data",
                          dir,
                          "--cluster",
                          nodes->cluster,
                          "--partitions",
                          partitions,
                          "--cluster-secret-file",
                          nodes->secret,
                          "--log-level",
                          "error",
                          join != NULL ? "--join" : NULL,
                          join,
                          NULL};
    if (pipe2(fds, O_CLOEXEC) != 0)
        bench_fail("pipe: %s", strerror(errno));
    pid_t pid = start((char *const *)(uintptr_t)argv, fds[1], STDERR_FILENO);
    close(fds[1]);
    *ready = fds[0];
    return pid;
}

static void member_wait(int ready)
{
    char actual[64];
    read_ready("loquat-node", ready, actual, sizeof actual);
    close(ready);
}

void nodes_begin(struct node_server *nodes, size_t count, const char *partitions)
{
    struct buf cluster = {0}, at = {0};
    int ready[DIRS_MAX];
    bench_dir(nodes->root);
    make_secret(nodes->root, nodes->secret, sizeof nodes->secret);
    for (size_t i = 0; i < count; i++) {
        int port = port_free();
        buf_addf(&cluster, "%s%zu=127.0.0.1:%d", i > 0 ? "," : "", i + 1, port);
        buf_addf(&at, "%s127.0.0.1:%d", i > 0 ? "," : "", port);
    }
    snprintf(nodes->cluster, sizeof nodes->cluster, "%.*s", (int)cluster.n, cluster.p);
    snprintf(nodes->at, sizeof nodes->at, "%.*s", (int)at.n, at.p);
    for (size_t i = 0; i < count; i++)
        nodes[i].pid = member_start(nodes, i, partitions, NULL, &ready[i]);
    for (size_t i = 0; i < count; i++)
        member_wait(ready[i]);
    buf_close(&cluster);
    buf_close(&at);
}

void nodes_kill(struct node_server *nodes, size_t which)
{
    proc_kill(nodes[which].pid, "loquat-node");
}

void nodes_again(struct node_server *nodes, size_t which, const char *partitions)
{
    int ready;
    nodes[which].pid = member_start(nodes, which, partitions, NULL, &ready);
    member_wait(ready);
}

pid_t nodes_tell(const struct node_server *nodes, const char *verb, const char *what)
{
    char program[SCRATCH_MAX];
    const char *argv[] = {bench_program("loquat-node", program, sizeof program),
                          "cluster",
                          verb,
                          what,
                          "--cluster",
                          nodes->cluster,
                          "--cluster-secret-file",
                          nodes->secret,
                          NULL};
    return proc_start((char *const *)(uintptr_t)argv, NULL);
}

void nodes_join(struct node_server *nodes, size_t which, const char *partitions, char *name,
                size_t size)
{
    struct roster roster;
    char why[256] = "", id[ROSTER_ID_SIZE + 1];
    int ready;
    if (!roster_parse(nodes->cluster, &roster, why, sizeof why))
        bench_fail("%s", why);
    roster_cluster_id(&roster, (uint32_t)strtoul(partitions, NULL, 10), id);
    snprintf(name, size, "%zu=127.0.0.1:%d", which + 1, port_free());
    struct node_server with = *nodes;
    int n = snprintf(with.cluster, sizeof with.cluster, "%s,%s", nodes->cluster, name);
    if (n < 0 || n >= (int)sizeof with.cluster)
        bench_fail("too many nodes");
    nodes[which].pid = member_start(&with, which, partitions, id, &ready); /* stays open */
}

void nodes_wipe(const struct node_server *nodes, size_t which)
{
    char dir[SCRATCH_MAX + 32];
    member_dir(nodes, which, dir, sizeof dir);
    scratch_remove(dir);
}

void nodes_drop(struct node_server *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        proc_stop(nodes[i].pid);
    bench_dir_drop(nodes->root);
}

void node_drop(struct node_server *node)
{
    proc_stop(node->pid);
    bench_dir_drop(node->root);
}

const char *const TWO_LOOPS[] = {"--loops", "2", NULL};

void gateway_start(struct gateway *gateway, const char *const *more)
{
    char program[SCRATCH_MAX], at[64];
    const char *argv[ARGS_MAX] = {bench_program("loquat-gateway", program, sizeof program),
                                  "--listen",
                                  "127.0.0.1:0",
                                  "--auth-secret-file",
                                  gateway->secret,
                                  "--rate",
                                  "0",
                                  "--conv-rate",
                                  "0",
                                  "--conv-rate-all",
                                  "0",
                                  "--log-level",
                                  "warn",
                                  gateway->node != NULL ? "--nodes" : "--embed",
                                  gateway->node != NULL ? gateway->node->at : gateway->dir};
    size_t count = 15;
    if (gateway->node != NULL) {
        argv[count++] = "--cluster-secret-file";
        argv[count++] = gateway->node->secret;
    }
    char cert[SCRATCH_MAX + 16], key[SCRATCH_MAX + 16];
    if (gateway->tls) {
        cert_make(gateway->root, "tls", 0, 86400, NULL);
        snprintf(cert, sizeof cert, "%s/tls.pem", gateway->root);
        snprintf(key, sizeof key, "%s/tls.key", gateway->root);
        argv[count++] = "--tls-cert";
        argv[count++] = cert;
        argv[count++] = "--tls-key";
        argv[count++] = key;
    }
    for (; more != NULL && *more != NULL && count < ARGS_MAX - 1; more++)
        argv[count++] = *more;
    gateway->pid = start_ready(argv, at, sizeof at);
    const char *colon = strrchr(at, ':');
    gateway->port = colon != NULL ? (int)strtol(colon + 1, NULL, 10) : 0;
    snprintf(gateway->url, sizeof gateway->url, "http://127.0.0.1:%d", gateway->port);
}

void gateway_stop(struct gateway *gateway)
{
    proc_stop(gateway->pid);
    gateway->pid = 0;
}

void gateway_kill(struct gateway *gateway)
{
    proc_kill(gateway->pid, "loquat-gateway");
    gateway->pid = 0;
}

void gateway_rest(const struct gateway *gateway)
{
    proc_rest(gateway->pid);
}

void gateway_drop(struct gateway *gateway)
{
    if (gateway->pid != 0)
        gateway_stop(gateway);
    if (gateway->root[0] == '\0')
        return;
    jwt_keys_free(gateway->keys);
    bench_dir_drop(gateway->root);
}

void gateway_token(const struct gateway *gateway, const char *user, const char *scope,
                   struct buf *token)
{
    token->n = 0;
    if (jwt_sign(gateway->keys, user, scope, clock_wall_ms(), 86400, token) != 0)
        bench_fail("no token for %s", user);
    buf_add_byte(token, 0);
    token->n--;
}

/* ---- ports, directories ---- */

void files_allow(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        bench_say("no more than the usual number of descriptors: %s", strerror(errno));
}

int port_free(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) != 0)
        bench_fail("no free port: %s", strerror(errno));
    close(fd);
    return ntohs(at.sin_port);
}

void port_wait(int port, pid_t pid)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (double until = now_s() + START_S_MAX; now_s() < until;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int err = connect(fd, (struct sockaddr *)&at, sizeof at);
        close(fd);
        if (err == 0)
            return;
        if (waitpid(pid, NULL, WNOHANG) != 0)
            bench_fail("the server for port %d has ended", port);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    bench_fail("nobody listens on port %d", port);
}

uint64_t dir_bytes(const char *path)
{
    DIR *dir = opendir(path);
    uint64_t sum = 0;
    if (dir == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat stat;
        if (fstatat(dirfd(dir), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(stat.st_mode))
            sum += (uint64_t)stat.st_size;
    }
    closedir(dir);
    return sum;
}
