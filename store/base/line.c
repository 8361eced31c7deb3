#include "store/base/line.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/err.h"

static int send_all(int fd, struct span bytes)
{
    return bytes.n == 0 || send(fd, bytes.p, bytes.n, MSG_NOSIGNAL) == (ssize_t)bytes.n
               ? 0
               : ERR_CLOSED;
}

static int send_wire(struct line *line)
{
    struct span wire = tls_wire(line->tls);
    int err = send_all(line->fd, wire);
    tls_sent(line->tls, wire.n);
    return err;
}

int line_shake(struct line *line)
{
    if (line->tls == NULL || tls_established(line->tls))
        return 1;
    int rv = tls_shake(line->tls, line->fd);
    int err = send_wire(line); /* of one that failed: why */
    return rv < 0 || err == 0 ? rv : err;
}

static int recv_plain(int fd, char *to, size_t size, size_t *n)
{
    ssize_t got;
    do
        got = recv(fd, to, size, 0);
    while (got < 0 && errno == EINTR);
    *n = got > 0 ? (size_t)got : 0;
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) ? 0 : ERR_CLOSED;
}

int line_recv(struct line *line, char *to, size_t size, size_t *n)
{
    return line->tls != NULL ? tls_recv(line->tls, line->fd, to, size, n)
                             : recv_plain(line->fd, to, size, n);
}

int line_send(struct line *line, const char *bytes, size_t n)
{
    if (n == 0 || line->tls == NULL)
        return send_all(line->fd, span_of(bytes, n));
    int err = tls_encrypt(line->tls, span_of(bytes, n));
    return err == 0 ? send_wire(line) : err;
}

bool line_why(const struct line *line, char *why, size_t size)
{
    if (line->tls == NULL || tls_failure(line->tls) == TLS_NO_FAILURE ||
        (tls_failure(line->tls) == TLS_GONE && tls_established(line->tls)))
        return false;
    tls_why(line->tls, why, size);
    return true;
}

void line_close(struct line *line)
{
    if (line->fd >= 0)
        close(line->fd);
    tls_conn_free(line->tls);
    *line = (struct line){.fd = -1};
}
