#include "gateway/hook_rules.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

static const char PREFIX[] = "whsec_";

/* ---- addresses: IPv4 as ::ffff:a.b.c.d ---- */

struct special {
    const char *address;
    unsigned bits;
};
/* Not of the public internet: this network, private, shared, loopback, link local, protocol
 * assignments, documentation, 6to4 relays, benchmarking, multicast, reserved. */
static const struct special SPECIAL4[] = {
    {"0.0.0.0", 8},      {"10.0.0.0", 8},     {"100.64.0.0", 10}, {"127.0.0.0", 8},
    {"169.254.0.0", 16}, {"172.16.0.0", 12},  {"192.0.0.0", 24},  {"192.0.2.0", 24},
    {"192.88.99.0", 24}, {"192.168.0.0", 16}, {"198.18.0.0", 15}, {"198.51.100.0", 24},
    {"203.0.113.0", 24}, {"224.0.0.0", 4},    {"240.0.0.0", 4},
};
/* Of what is handed out, 2000::/3: protocol assignments with Teredo, documentation, 6to4. */
static const struct special SPECIAL6[] = {
    {"2001::", 23}, {"2001:db8::", 32}, {"2002::", 16}, {"3fff::", 20}};

static bool bits_same(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    unsigned char mask = (unsigned char)(0xff00 >> rest);
    return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) & mask) == 0);
}

static void map_v4(const void *v4, unsigned char out[16])
{
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    memcpy(out + 12, v4, 4);
}

static bool is_v4(const unsigned char address[16])
{
    static const unsigned char MAPPED[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, MAPPED, sizeof MAPPED) == 0;
}

static bool parse_address(const char *text, unsigned char out[16])
{
    unsigned char v4[4];
    if (inet_pton(AF_INET, text, v4) == 1) {
        map_v4(v4, out);
        return true;
    }
    return inet_pton(AF_INET6, text, out) == 1;
}

static bool address_of(const struct sockaddr *address, unsigned char out[16])
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        map_v4(&v4.sin_addr, out);
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 v6;
    memcpy(&v6, address, sizeof v6);
    memcpy(out, &v6.sin6_addr, 16);
    return true;
}

static bool is_public(const unsigned char address[16])
{
    static const unsigned char GLOBAL[1] = {0x20};
    unsigned char other[16];
    for (size_t i = 0; is_v4(address) && i < sizeof SPECIAL4 / sizeof *SPECIAL4; i++) {
        ASSERT(parse_address(SPECIAL4[i].address, other));
        if (bits_same(address + 12, other + 12, SPECIAL4[i].bits))
            return false;
    }
    if (is_v4(address))
        return true;
    for (size_t i = 0; i < sizeof SPECIAL6 / sizeof *SPECIAL6; i++) {
        ASSERT(parse_address(SPECIAL6[i].address, other));
        if (bits_same(address, other, SPECIAL6[i].bits))
            return false;
    }
    return bits_same(address, GLOBAL, 3);
}

static bool is_named(const struct hook_rules *rules, const unsigned char address[16])
{
    for (size_t i = 0; i < rules->count; i++)
        if (bits_same(address, rules->allowed[i].address, rules->allowed[i].bits))
            return true;
    return false;
}

bool hook_address_named(const struct hook_rules *rules, const struct sockaddr *address)
{
    unsigned char bytes[16];
    return address_of(address, bytes) && is_named(rules, bytes);
}

bool hook_address_allowed(const struct hook_rules *rules, const struct sockaddr *address)
{
    unsigned char bytes[16];
    return address_of(address, bytes) && (is_named(rules, bytes) || is_public(bytes));
}

/* ---- what the operator allows ---- */

static bool parse_network(const char *text, size_t n, struct hook_network *out)
{
    char one[64];
    char *end = NULL;
    if (n >= sizeof one)
        return false;
    memcpy(one, text, n);
    one[n] = '\0';
    char *slash = strchr(one, '/');
    if (slash != NULL)
        *slash = '\0';
    if (!parse_address(one, out->address))
        return false;
    unsigned most = is_v4(out->address) ? 32 : 128;
    unsigned long bits = most;
    if (slash != NULL && (slash[1] < '0' || slash[1] > '9'))
        return false;
    if (slash != NULL)
        bits = strtoul(slash + 1, &end, 10);
    if (bits > most || (end != NULL && *end != '\0'))
        return false;
    out->bits = (unsigned)bits + 128 - most;
    return true;
}

bool hook_rules_parse(struct hook_rules *rules, const char *text, char *why, size_t size)
{
    rules->count = 0;
    while (*text != '\0') {
        size_t n = strcspn(text, ",");
        if (rules->count == HOOK_ALLOWED_MAX) {
            snprintf(why, size, "more than %d networks", HOOK_ALLOWED_MAX);
            return false;
        }
        if (!parse_network(text, n, &rules->allowed[rules->count])) {
            snprintf(why, size, "\"%.*s\" is no network; write ADDRESS[/BITS], such as 10.0.0.0/8",
                     (int)(n < 80 ? n : 80), text);
            return false;
        }
        rules->count++;
        text += n + (text[n] == ',');
    }
    return true;
}

/* ---- a URL ---- */

static int refuse(char *why, size_t size, int err, const char *what)
{
    snprintf(why, size, "webhook.url %s", what);
    return err;
}

static int check_parts(const struct hook_rules *rules, CURLU *url, char *why, size_t size)
{
    char *scheme = NULL, *host = NULL, *user = NULL;
    unsigned char address[16];
    int err = 0;
    bool parts = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                 curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK && host[0] != 0;
    if (!parts || (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)) {
        err = refuse(why, size, ERR_BAD_REQUEST, "must be https://HOST/…");
    } else if (curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK) {
        err = refuse(why, size, ERR_BAD_REQUEST, "may not have a user or password in it");
    } else if (strcmp(scheme, "http") == 0 && rules->count == 0) {
        err = refuse(why, size, ERR_FORBIDDEN,
                     "must be https; http goes to networks of --webhook-allow alone");
    } else {
        size_t n = strlen(host);
        if (host[0] == '[' && host[n - 1] == ']') {
            memmove(host, host + 1, n - 2);
            host[n - 2] = '\0';
        }
        if (parse_address(host, address) && !is_public(address) && !is_named(rules, address))
            err = refuse(why, size, ERR_FORBIDDEN,
                         "leads to an address that is not of the public internet: the operator "
                         "may allow it, with --webhook-allow");
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(user);
    return err;
}

int hook_url_check(const struct hook_rules *rules, struct span url, char *why, size_t size)
{
    char text[HOOK_URL_MAX + 1];
    if (url.n > HOOK_URL_MAX)
        return refuse(why, size, ERR_TOO_LARGE, "may have 2,048 bytes at most");
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] <= ' ' || url.p[i] > '~')
            return refuse(why, size, ERR_BAD_REQUEST, "must be percent-encoded ASCII");
    memcpy(text, url.p, url.n);
    text[url.n] = '\0';
    CURLU *parsed = curl_url();
    if (parsed == NULL)
        check_no_memory(0);
    int err = curl_url_set(parsed, CURLUPART_URL, text, 0) != CURLUE_OK
                  ? refuse(why, size, ERR_BAD_REQUEST, "is no URL")
                  : check_parts(rules, parsed, why, size);
    curl_url_cleanup(parsed);
    return err;
}

/* ---- secrets ---- */

size_t hook_secret_make(unsigned char key[HOOK_KEY_MAX], char secret[HOOK_SECRET_SIZE + 1])
{
    random_bytes(key, HOOK_KEY_MADE);
    memcpy(secret, PREFIX, sizeof PREFIX - 1);
    (void)EVP_EncodeBlock((unsigned char *)secret + sizeof PREFIX - 1, key, HOOK_KEY_MADE);
    return HOOK_KEY_MADE;
}

/* Strictly: what is read is what would be written. */
bool hook_secret_read(struct span secret, unsigned char key[HOOK_KEY_MAX], size_t *n)
{
    size_t head = sizeof PREFIX - 1, text_n = secret.n - head;
    unsigned char bytes[HOOK_SECRET_SIZE], text[HOOK_SECRET_SIZE + 1];
    if (secret.n <= head || secret.n > HOOK_SECRET_SIZE || memcmp(secret.p, PREFIX, head) != 0 ||
        text_n % 4 != 0)
        return false;
    const unsigned char *written = (const unsigned char *)secret.p + head;
    int got = EVP_DecodeBlock(bytes, written, (int)text_n);
    int padding = (written[text_n - 1] == '=') + (written[text_n - 2] == '=');
    if (got < padding + HOOK_KEY_MIN || got - padding > HOOK_KEY_MAX)
        return false;
    int again = EVP_EncodeBlock(text, bytes, got - padding);
    if ((size_t)again != text_n || CRYPTO_memcmp(text, written, text_n) != 0)
        return false;
    *n = (size_t)(got - padding);
    memcpy(key, bytes, *n);
    return true;
}
