/* What an operator or a backend job says of webhooks: networks, URLs, secrets. What is taken keeps
 * its rules: a network allows what lies in it, a URL is one of https and leads to no address that
 * may not be connected to, a secret is the only text of its key. First byte: which of them. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <strings.h>

#include "gateway/hook_rules.h"
#include "store/base/buf.h"
#include "store/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_networks(struct span text)
{
    struct hook_rules rules;
    char why[200] = "";
    struct buf copy = {0};
    buf_add_span(&copy, text);
    buf_add_byte(&copy, '\0');
    bool fine = hook_rules_parse(&rules, copy.p, why, sizeof why);
    ASSERT(fine == (why[0] == '\0') && rules.count <= HOOK_ALLOWED_MAX);
    for (size_t i = 0; fine && i < rules.count; i++) {
        struct sockaddr_in6 in = {.sin6_family = AF_INET6};
        memcpy(&in.sin6_addr, rules.allowed[i].address, 16);
        ASSERT(rules.allowed[i].bits <= 128);
        ASSERT(hook_address_named(&rules, (struct sockaddr *)&in));
        ASSERT(hook_address_allowed(&rules, (struct sockaddr *)&in));
    }
    buf_close(&copy);
}

static void take_url(struct span text)
{
    static const struct hook_rules NONE;
    char why[200] = "";
    int err = hook_url_check(&NONE, text, why, sizeof why);
    static const char LOCAL[] = "https://127.0.0.1";
    size_t n = sizeof LOCAL - 1;
    ASSERT((err == 0) == (why[0] == '\0'));
    if (err != 0)
        return;
    ASSERT(text.n > 6 && text.n <= HOOK_URL_MAX && strncasecmp(text.p, "https:", 6) == 0);
    bool local = text.n >= n && strncasecmp(text.p, LOCAL, n) == 0;
    ASSERT(!local || (text.n > n && strchr("/:?#", text.p[n]) == NULL)); /* else it is a name */
}

static void take_secret(struct span text)
{
    unsigned char key[HOOK_KEY_MAX], again[HOOK_KEY_MAX];
    size_t n = 0, other_n = 0;
    if (!hook_secret_read(text, key, &n))
        return;
    ASSERT(n >= HOOK_KEY_MIN && n <= HOOK_KEY_MAX);
    struct buf other = {0};
    buf_add_span(&other, text);
    other.p[other.n - 1] = other.p[other.n - 1] == '=' ? 'A' : '=';
    ASSERT(!hook_secret_read(buf_span(&other), again, &other_n) || other_n != n);
    buf_close(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct span text = span_of((const char *)data + 1, size - 1);
    if (data[0] % 3 == 0)
        take_networks(text);
    else if (data[0] % 3 == 1)
        take_url(text);
    else
        take_secret(text);
    return 0;
}
