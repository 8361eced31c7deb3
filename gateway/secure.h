/* gateway/secure.h: a connection's TLS: between its socket, its struct out and what HTTP and
 * WebSocket see, which are plain bytes either way.
 * Bounds: what waits is encrypted as the socket takes it, one record at a time, and counts in
 *         struct out until then. A loop takes GATE_HANDSHAKES_MAX steps of handshakes in a turn;
 *         who must wait is not read meanwhile. The deadline of the first request (DUE_HEAD) runs
 *         from the connection's beginning, so the handshake's is the same.
 * Thread: the loop's. */
#ifndef LOQUAT_GATEWAY_SECURE_H
#define LOQUAT_GATEWAY_SECURE_H

#include "gateway/conn.h"

/* The gate's buffer for what a read's bytes are in the clear. */
enum { SECURE_PLAIN_BYTES = GATE_IN_BYTES + TLS_RECORD_MAX };

void secure_metrics(void);
bool secure_open(struct conn *conn); /* false: no memory */
void secure_close(struct conn *conn);
bool secure_may_read(struct conn *conn);
void secure_on_bytes(struct conn *conn, struct span wire);
int secure_write(struct conn *conn);                           /* as out_write */
int secure_first_part(struct conn *conn, struct batch_op *op); /* as conn_first_parts */
/* The same of any connection; `bye`: it is to be closed when all is written. */
int secure_out(struct tls_conn *tls, struct out *out, struct out_pool *pool, int fd, bool bye);
/* After anything changed: the end of a connection whose client has said that it says no more. */
void secure_settle(struct conn *conn);

#endif
