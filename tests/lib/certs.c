#include "tests/lib/certs.h"

#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/base/check.h"
#include "store/base/clock.h"

enum { PATH_SIZE = 512 };

static FILE *create(const char *dir, const char *name, const char *suffix)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, suffix);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    ASSERT(file != NULL);
    return file;
}

static X509 *sign(EVP_PKEY *key, long from_s, long until_s)
{
    X509 *cert = X509_new();
    ASSERT(cert != NULL && X509_set_version(cert, 2) == 1);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), random_u64() >> 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), until_s);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION *names =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    ASSERT(names != NULL && X509_add_ext(cert, names, -1) == 1);
    X509_EXTENSION_free(names);
    int size = X509_sign(cert, key, EVP_sha256());
    ASSERT(size > 0);
    return cert;
}

void cert_make(const char *dir, const char *name, long from_s, long until_s, const char *passphrase)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    ASSERT(key != NULL);
    X509 *cert = sign(key, from_s, until_s);
    FILE *file = create(dir, name, "pem");
    int fine = PEM_write_X509(file, cert) == 1 && fclose(file) == 0;
    ASSERT(fine);
    file = create(dir, name, "key");
    fine =
        PEM_write_PrivateKey(file, key, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
                             (const unsigned char *)passphrase,
                             passphrase != NULL ? (int)strlen(passphrase) : 0, NULL, NULL) == 1 &&
        fclose(file) == 0;
    ASSERT(fine);
    X509_free(cert);
    EVP_PKEY_free(key);
}
