/* gateway/hook_rules.h: where webhooks may go, and what they are signed with.
 * Addresses: those of the public internet (IANA's registries of special purpose addresses,
 *         RFC 6890), and what the operator allows. An address is looked at when it is connected to,
 *         so that no name can lead to another one later.
 * Secrets: "whsec_" and the key in base64, as Standard Webhooks has them.
 * Thread: any. */
#ifndef LOQUAT_GATEWAY_HOOK_RULES_H
#define LOQUAT_GATEWAY_HOOK_RULES_H

#include <stdbool.h>
#include <sys/socket.h>

#include "store/base/span.h"

enum {
    HOOK_URL_MAX = 2048,
    HOOK_LIST_MAX = 100,   /* kinds, and conversations, of one */
    HOOK_ALLOWED_MAX = 32, /* networks */
    HOOK_KEY_MIN = 24,     /* bytes */
    HOOK_KEY_MADE = 32,
    HOOK_KEY_MAX = 64,
    HOOK_SECRET_SIZE = 6 + 88, /* of the largest, as text */
};

struct hook_network {
    unsigned char address[16]; /* IPv4: ::ffff:a.b.c.d */
    unsigned bits;
};
struct hook_rules {
    struct hook_network allowed[HOOK_ALLOWED_MAX];
    size_t count;
};

/* "10.0.0.0/8,192.0.2.7,fd00::/8". False: `why` says what is wrong. */
bool hook_rules_parse(struct hook_rules *rules, const char *text, char *why, size_t size);
/* Whether the operator has named its network; whether it may be connected to at all. */
bool hook_address_named(const struct hook_rules *rules, const struct sockaddr *address);
bool hook_address_allowed(const struct hook_rules *rules, const struct sockaddr *address);
/* 0, ERR_BAD_REQUEST or ERR_FORBIDDEN with `why`. A name is not looked up. */
int hook_url_check(const struct hook_rules *rules, struct span url, char *why, size_t size);

size_t hook_secret_make(unsigned char key[HOOK_KEY_MAX], char secret[HOOK_SECRET_SIZE + 1]);
bool hook_secret_read(struct span secret, unsigned char key[HOOK_KEY_MAX], size_t *n);

#endif
