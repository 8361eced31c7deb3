/* bench/lib/nettls.h: a client's TLS, in memory, for net.c. Any certificate will do. One context
 * for all, so that the client's own memory stays small.
 * Thread: one. Errors: none, see measure.h, but for what the server says. */
#ifndef LOQUAT_BENCH_NETTLS_H
#define LOQUAT_BENCH_NETTLS_H

#include "store/base/buf.h"

struct nettls;
struct nettls *nettls_new(void);
void nettls_free(struct nettls *tls);
/* false: it failed or has ended. What it has to answer comes with the next nettls_encrypt. */
bool nettls_decrypt(struct nettls *tls, struct span wire, struct buf *plain);
/* Plain bytes become what is to be sent; before the handshake is done they wait inside. */
void nettls_encrypt(struct nettls *tls, struct buf *bytes);

#endif
