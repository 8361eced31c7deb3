/* tests/lib/certs.h: certificates of localhost, made on the spot: P-256, signed by themselves or by
 * a CA that was made before. */
#ifndef LOQUAT_TESTS_CERTS_H
#define LOQUAT_TESTS_CERTS_H

struct tls;

/* Writes DIR/NAME.pem and DIR/NAME.key (mode 600); valid between two moments, in seconds from now.
 * `passphrase`: of the key; NULL: none. */
void cert_make(const char *dir, const char *name, long from_s, long until_s,
               const char *passphrase);
/* The same, DIR/NAME.pem and so on, signed by DIR/ISSUER.key; NULL: a CA. */
void cert_sign(const char *dir, const char *name, const char *issuer, long from_s, long until_s);
/* Certificates of links, to be freed: DIR/NAME.pem, DIR/NAME.key and DIR/CA.pem. */
struct tls *cert_link(const char *dir, const char *name, const char *ca);

#endif
