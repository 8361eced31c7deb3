/* store/base/line.h: a connection between programs of a cluster until it is a link: a socket that
 * does not block, and TLS on it where there are certificates. Takes no byte more from the socket
 * than is wanted, so that the link begins where the handshake ended.
 * Owner:  whoever holds the struct; line_close ends both.
 * Thread: the loop's. */
#ifndef LOQUAT_BASE_LINE_H
#define LOQUAT_BASE_LINE_H

#include "store/base/tls.h"

struct line {
    int fd;
    struct tls_conn *tls; /* NULL: plain */
};

/* TLS's own handshake, where there is TLS. 1: it is done; 0: more has to come; ERR_CLOSED. */
int line_shake(struct line *line);
int line_recv(struct line *line, char *to, size_t size, size_t *n); /* 0, n may be; or ERR_CLOSED */
/* All of it, or ERR_CLOSED: a fresh socket has room for all, and one that has not is not served. */
int line_send(struct line *line, const char *bytes, size_t n);
/* When TLS has failed: what is wrong and what to do. False: it has not, and `why` stays. */
bool line_why(const struct line *line, char *why, size_t size);
void line_close(struct line *line);

#endif
