/* store/client/tlsc.h: TLS of a client, in memory: conn.h has the socket. TLS 1.2 and 1.3; the
 * server's certificate must be of the host asked for, and of somebody who is trusted.
 * Thread: the loop's. */
#ifndef LOQUAT_CLIENT_TLSC_H
#define LOQUAT_CLIENT_TLSC_H

#include "store/base/buf.h"

enum { TLSC_WHY_SIZE = 128 };

/* Whom a client trusts; for any number of connections. `ca_file`: PEM; NULL: whom the system does.
 * NULL: `why`. */
struct tlsc_trust;
struct tlsc_trust *tlsc_trust_new(const char *ca_file, char *why, size_t size);
void tlsc_trust_free(struct tlsc_trust *trust);

struct tlsc;
struct tlsc *tlsc_new(struct tlsc_trust *trust, const char *host); /* NULL: no memory */
void tlsc_free(struct tlsc *tls);
bool tlsc_established(const struct tlsc *tls);
/* Takes all of `wire`, appends to `plain`. 0, or ERR_CLOSED with `why`: it ended or failed; `plain`
 * is good all the same. Afterwards tlsc_encrypt may have an answer to be sent. */
int tlsc_decrypt(struct tlsc *tls, struct span wire, struct buf *plain, char why[TLSC_WHY_SIZE]);
/* Appends to `wire` what is to be sent: of the handshake, and of `plain` (empty before that is
 * done). 0 or ERR_CLOSED. */
int tlsc_encrypt(struct tlsc *tls, struct span plain, struct buf *wire);

#endif
