/* gateway/tls.h: TLS with clients, in memory: what a socket gave goes in and plain bytes come out,
 * and the other way round. The only file here that knows OpenSSL; secure.h joins it to sockets.
 * Speaks: TLS 1.2 and 1.3, ALPN http/1.1, stateless tickets. No renegotiation, no compression.
 * Bounds: between two calls a connection holds one record at most that is not whole yet, and what
 *         tls_wire has: TLS_RECORD_MAX of its owner's bytes, or a flight of the handshake.
 * Owner:  a connection keeps the certificate that it began with, whatever is loaded later.
 * Thread: struct tls: any. struct tls_conn: one. */
#ifndef LOQUAT_GATEWAY_TLS_H
#define LOQUAT_GATEWAY_TLS_H

#include <stdbool.h>

#include "store/base/buf.h"

enum { TLS_RECORD_MAX = 16 << 10 /* plain bytes of one record */ };

/* Why a connection's TLS failed. X(NAME, as the metric has it) */
#define TLS_FAILURES(X)                                                                            \
    X(TLS_PLAIN_HTTP, "plain_http") /* no TLS at all, but what may be an HTTP request */           \
    X(TLS_GARBAGE, "not_tls")       /* neither */                                                  \
    X(TLS_VERSION, "version")       /* older than 1.2 */                                           \
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
/* PEM: the server's own certificate first, then its chain; the key without a passphrase.
 * NULL: `why` says what is wrong and what to do. What is merely doubtful (it has expired, others
 * may read the key) is logged. */
struct tls *tls_new(const char *cert_file, const char *key_file, char *why, size_t size);
void tls_free(struct tls *tls);
/* Reads both files again, makes a new key for tickets. ERR_UNAVAILABLE: what there was stays. */
int tls_reload(struct tls *tls, char *why, size_t size);
void tls_metrics(void); /* registers them; once, and only where TLS is spoken */

struct tls_conn;
struct tls_conn *tls_accept(struct tls *tls); /* NULL: no memory */
void tls_conn_free(struct tls_conn *conn);
/* Takes all of `wire`; `plain` has room for `size` >= wire.n + TLS_RECORD_MAX and gets `n` bytes.
 * 0; 1: the client says no more (close_notify); ERR_CLOSED: it failed (tls_failure), and when
 * tls_wire has gone there is nothing more to do. */
int tls_feed(struct tls_conn *conn, struct span wire, char *plain, size_t size, size_t *n);
/* At most TLS_RECORD_MAX, when tls_wire is empty and the handshake done. 0 or ERR_CLOSED. */
int tls_encrypt(struct tls_conn *conn, struct span plain);
void tls_bye(struct tls_conn *conn); /* close_notify, where there is somebody to say it to */
/* What the socket is to be given, and that it took `n` bytes of it. The latter returns how many of
 * the bytes given to tls_encrypt are thereby done with. */
struct span tls_wire(const struct tls_conn *conn);
size_t tls_sent(struct tls_conn *conn, size_t n);
bool tls_established(const struct tls_conn *conn);
bool tls_resumed(const struct tls_conn *conn); /* by a ticket */
bool tls_ended(const struct tls_conn *conn);   /* the client says no more */
enum tls_failure tls_failure(const struct tls_conn *conn);

#endif
