/* tests/lib/certs.h: certificates of localhost, made on the spot: P-256, signed by themselves. */
#ifndef LOQUAT_TESTS_CERTS_H
#define LOQUAT_TESTS_CERTS_H

/* Writes DIR/NAME.pem and DIR/NAME.key (mode 600); valid between two moments, in seconds from now.
 * `passphrase`: of the key; NULL: none. */
void cert_make(const char *dir, const char *name, long from_s, long until_s,
               const char *passphrase);

#endif
