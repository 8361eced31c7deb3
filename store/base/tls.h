/* store/base/tls.h: TLS in memory: what a socket gave goes in and plain bytes come out, and the
 * other way round; with clients, and on links between programs of a cluster. gateway/secure.h joins
 * it to sockets of clients; line.h and link.h to links.
 * Speaks: with clients TLS 1.2 and 1.3, ALPN http/1.1, stateless tickets. On links TLS 1.3 alone;
 *         each side must show a certificate that the CA has signed. No renegotiation, no
 *         compression.
 * Bounds: between two calls a connection holds one record at most that is not whole yet, and what
 *         tls_wire has: what its owner gave, or a flight of the handshake.
 * Owner:  a connection keeps the certificate that it began with, whatever is loaded later.
 * Thread: struct tls: any. struct tls_conn: one. */
#ifndef LOQUAT_BASE_TLS_H
#define LOQUAT_BASE_TLS_H

#include <stdbool.h>

#include "store/base/buf.h"

enum {
    TLS_RECORD_MAX = 16 << 10, /* plain bytes of one record */
    TLS_FIRST_BYTE = 0x16,     /* of who begins to speak TLS */
    TLS_KEY_RECORDS = 1 << 20, /* then comes a new key, in TLS 1.3 */
};

/* Why a connection's TLS failed. X(NAME, as the metric has it) */
#define TLS_FAILURES(X)                                                                            \
    X(TLS_PLAIN_HTTP, "plain_http") /* no TLS at all, but what may be an HTTP request */           \
    X(TLS_GARBAGE, "not_tls")       /* neither */                                                  \
    X(TLS_VERSION, "version")       /* too old */                                                  \
    X(TLS_NOTHING_COMMON, "nothing_in_common") /* no cipher, group or protocol that both know */   \
    X(TLS_REFUSED, "refused_by_client")        /* such as: it does not trust the certificate */    \
    X(TLS_TIMEOUT, "timeout")                                                                      \
    X(TLS_GONE, "gone") /* the client closed before it was done */                                 \
    X(TLS_BROKEN, "broken")

enum tls_failure {
#define X(name, label) name,
    TLS_FAILURES(X)
#undef X
        TLS_NO_FAILURE
};

/* A certificate and its key: what new connections begin with. */
struct tls;
/* PEM: the program's own certificate first, then its chain; the key without a passphrase.
 * NULL: `why` says what is wrong and what to do. What is merely doubtful (it has expired, others
 * may read the key) is logged. */
struct tls *tls_new(const char *cert_file, const char *key_file, char *why, size_t size);
/* Of links, both to and from others. The CA's file may hold several. */
struct tls *tls_link_new(const char *cert_file, const char *key_file, const char *ca_file,
                         char *why, size_t size);
void tls_free(struct tls *tls);
/* Reads the files again, makes a new key for tickets. ERR_UNAVAILABLE: what there was stays. */
int tls_reload(struct tls *tls, char *why, size_t size);
void tls_metrics(void);      /* registers them; once, and only where TLS is spoken: with clients, */
void tls_link_metrics(void); /* on links */

struct tls_conn;
struct tls_conn *tls_accept(struct tls *tls);  /* NULL: no memory */
struct tls_conn *tls_connect(struct tls *tls); /* the same; of links only */
void tls_conn_free(struct tls_conn *conn);
/* Takes all of `wire`; `plain` has room for `size` >= wire.n + TLS_RECORD_MAX and gets `n` bytes.
 * 0; 1: the other side says no more (close_notify); ERR_CLOSED: it failed (tls_failure), and when
 * tls_wire has gone there is nothing more to do. */
int tls_feed(struct tls_conn *conn, struct span wire, char *plain, size_t size, size_t *n);
/* The same from a socket that does not block, where another reader, with tls_feed, is to go on:
 * nothing behind what is wanted is taken from it. Afterwards tls_wire may have an answer.
 * Handshake: 1: it is done, 0: more has to come, ERR_CLOSED. */
int tls_shake(struct tls_conn *conn, int fd);
/* After it; 0 with n == 0: nothing is there yet. ERR_CLOSED: it failed or ended. */
int tls_recv(struct tls_conn *conn, int fd, char *to, size_t size, size_t *n);
bool tls_holds_plain(const struct tls_conn *conn); /* more than was wanted was in one record */
/* When the handshake is done, and what was given before has gone. 0 or ERR_CLOSED. */
int tls_encrypt(struct tls_conn *conn, struct span plain);
void tls_bye(struct tls_conn *conn); /* close_notify, where there is somebody to say it to */
/* What the socket is to be given, and that it took `n` bytes of it. The latter returns how many of
 * the bytes given to tls_encrypt are thereby done with. */
struct span tls_wire(const struct tls_conn *conn);
size_t tls_sent(struct tls_conn *conn, size_t n);
/* Instead: all of it is the caller's. What `to` has room for, which is empty, is used next. */
void tls_take(struct tls_conn *conn, struct buf *to);
bool tls_established(const struct tls_conn *conn);
bool tls_resumed(const struct tls_conn *conn); /* by a ticket */
bool tls_ended(const struct tls_conn *conn);   /* the other side says no more */
enum tls_failure tls_failure(const struct tls_conn *conn);
/* Of a link that failed: what is wrong and what to do. */
void tls_why(const struct tls_conn *conn, char *why, size_t size);

#endif
