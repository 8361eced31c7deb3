/* A rival that is a library, in a process of its own: queries and answers go through a socket. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/search/rival.h"

struct asked_apart {
    struct query_drawn query;
    bool mine;
};
struct found_apart {
    size_t hits, n; /* n: bytes of rows, which follow */
    double seconds;
};

static bool get(int fd, void *to, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = read(fd, (char *)to + done, n - done);
        if (got == 0 && done == 0)
            return false;
        if (got <= 0)
            bench_fail("search: the process of a rival: %s", strerror(errno));
        done += (size_t)got;
    }
    return true;
}

static void put(int fd, const void *from, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t gone = write(fd, (const char *)from + done, n - done);
        if (gone < 0)
            bench_fail("search: the process of a rival: %s", strerror(errno));
        done += (size_t)gone;
    }
}

static void serve(int fd, struct rival *rival)
{
    struct asked_apart asked;
    struct buf out = {0}, rows = {0};
    put(fd, rival, sizeof *rival);
    while (get(fd, &asked, sizeof asked)) {
        struct found_apart found = {0};
        double begin = now_s();
        rows.n = out.n = 0;
        found.hits = rival->find(rival, &asked.query, asked.mine, &rows);
        found.seconds = now_s() - begin;
        found.n = rows.n;
        buf_add(&out, (const char *)&found, sizeof found);
        buf_add_span(&out, buf_span(&rows));
        put(fd, out.p, out.n);
    }
    rival->close(rival);
    buf_close(&out);
    buf_close(&rows);
}

static size_t find(struct rival *rival, const struct query_drawn *query, bool mine,
                   struct buf *rows)
{
    struct asked_apart asked = {*query, mine};
    struct found_apart found;
    put(rival->fd, &asked, sizeof asked);
    if (!get(rival->fd, &found, sizeof found))
        bench_fail("search: %s has ended", rival->name);
    buf_reserve(rows, found.n);
    if (found.n > 0 && !get(rival->fd, rows->p + rows->n, found.n))
        bench_fail("search: %s has ended", rival->name);
    rows->n += found.n;
    rival->inside_s = found.seconds;
    return found.hits;
}

static void close_apart(struct rival *rival)
{
    close(rival->fd);
    proc_wait(rival->pid);
    bench_dir_drop(rival->root);
}

void rival_apart(struct rival *rival, const struct texts *texts, const size_t *order,
                 void (*open)(struct rival *, const struct texts *, const size_t *))
{
    int fds[2];
    *rival = (struct rival){.state = rival->state};
    bench_dir(rival->root);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        bench_fail("socketpair: %s", strerror(errno));
    pid_t pid = proc_fork();
    if (pid == 0) {
        close(fds[0]);
        open(rival, texts, order);
        serve(fds[1], rival);
        _exit(0);
    }
    close(fds[1]);
    if (!get(fds[0], rival, sizeof *rival))
        bench_fail("search: a rival has ended");
    rival->pid = pid;
    rival->fd = fds[0];
    rival->find = find;
    rival->close = close_apart;
}
