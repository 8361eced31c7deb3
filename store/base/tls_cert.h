/* store/base/tls_cert.h: certificates and keys, from their files (PEM) into a context of OpenSSL's;
 * for tls.c.
 * Errors: false: `why` says what is wrong and what to do. What is merely doubtful (it has expired,
 *         others may read the key) is logged. */
#ifndef LOQUAT_BASE_TLS_CERT_H
#define LOQUAT_BASE_TLS_CERT_H

#include <stdbool.h>
#include <stddef.h>

struct tls_files {
    char *cert, *key;
    char *ca; /* NULL: whoever is at the other end shows no certificate */
};

struct ssl_ctx_st;
bool tls_cert_use(struct ssl_ctx_st *ctx, const struct tls_files *files, char *why, size_t size);

#endif
