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
#include "store/base/tls.h"

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

static void extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *made = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    ASSERT(made != NULL && X509_add_ext(cert, made, -1) == 1);
    X509_EXTENSION_free(made);
}

/* Not signed yet. */
static X509 *cert_of(EVP_PKEY *key, const char *subject, const char *issuer, long from_s,
                     long until_s)
{
    X509 *cert = X509_new();
    ASSERT(cert != NULL && X509_set_version(cert, 2) == 1);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), random_u64() >> 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), until_s);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)subject, -1, -1, 0);
    X509_NAME_add_entry_by_txt(X509_get_issuer_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)issuer, -1, -1, 0);
    return cert;
}

static void save(const char *dir, const char *name, X509 *cert, EVP_PKEY *key,
                 const char *passphrase)
{
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
}

void cert_make(const char *dir, const char *name, long from_s, long until_s, const char *passphrase)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    ASSERT(key != NULL);
    X509 *cert = cert_of(key, "localhost", "localhost", from_s, until_s);
    extend(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    int size = X509_sign(cert, key, EVP_sha256());
    ASSERT(size > 0);
    save(dir, name, cert, key, passphrase);
    EVP_PKEY_free(key);
}

static EVP_PKEY *key_of(const char *dir, const char *name)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s.key", dir, name);
    FILE *file = fopen(path, "re");
    EVP_PKEY *key = file != NULL ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
    ASSERT(key != NULL);
    fclose(file);
    return key;
}

void cert_sign(const char *dir, const char *name, const char *issuer, long from_s, long until_s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    ASSERT(key != NULL);
    EVP_PKEY *signer = issuer != NULL ? key_of(dir, issuer) : key;
    X509 *cert = cert_of(key, name, issuer != NULL ? issuer : name, from_s, until_s);
    if (issuer == NULL)
        extend(cert, NID_basic_constraints, "critical,CA:TRUE");
    int size = X509_sign(cert, signer, EVP_sha256());
    ASSERT(size > 0);
    save(dir, name, cert, key, NULL);
    if (signer != key)
        EVP_PKEY_free(signer);
    EVP_PKEY_free(key);
}

struct tls *cert_link(const char *dir, const char *name, const char *ca)
{
    char paths[3][PATH_SIZE], why[512] = "";
    snprintf(paths[0], PATH_SIZE, "%s/%s.pem", dir, name);
    snprintf(paths[1], PATH_SIZE, "%s/%s.key", dir, name);
    snprintf(paths[2], PATH_SIZE, "%s/%s.pem", dir, ca);
    struct tls *tls = tls_link_new(paths[0], paths[1], paths[2], why, sizeof why);
    if (tls == NULL)
        fprintf(stderr, "%s\n", why);
    ASSERT(tls != NULL);
    return tls;
}
