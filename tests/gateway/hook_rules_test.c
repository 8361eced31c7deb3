/* Where webhooks may go, and what they are signed with. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <netinet/in.h>

#include "gateway/hook_rules.h"
#include "store/base/err.h"

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage room = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&room;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&room;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
    } else {
        cr_assert(eq(int, inet_pton(AF_INET6, text, &v6->sin6_addr), 1), "%s", text);
        v6->sin6_family = AF_INET6;
    }
    return room;
}

static bool allowed(const struct hook_rules *rules, const char *text)
{
    struct sockaddr_storage room = address(text);
    return hook_address_allowed(rules, (const struct sockaddr *)&room);
}

Test(hook_rules, only_the_public_internet)
{
    static const char *const PUBLIC[] = {
        "1.1.1.1",         "8.8.8.8",         "9.255.255.255",   "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",     "126.255.255.255", "128.0.0.1",
        "169.253.0.1",     "169.255.0.1",     "172.15.255.255",  "172.32.0.0",
        "192.0.1.1",       "192.167.0.1",     "192.169.0.1",     "198.17.0.1",
        "198.20.0.1",      "223.255.255.255", "2606:4700::1111", "2a00:1450::1",
        "2001:4860::8888", "2003::1",         "3fff:1000::1",    "::ffff:8.8.8.8"};
    static const char *const OTHER[] = {"0.0.0.0",
                                        "0.1.2.3",
                                        "10.0.0.0",
                                        "10.255.255.255",
                                        "100.64.0.1",
                                        "100.127.255.255",
                                        "127.0.0.1",
                                        "127.255.255.255",
                                        "169.254.169.254",
                                        "172.16.0.1",
                                        "172.31.255.255",
                                        "192.0.0.1",
                                        "192.0.2.1",
                                        "192.88.99.1",
                                        "192.168.1.1",
                                        "198.18.0.1",
                                        "198.19.255.255",
                                        "198.51.100.1",
                                        "203.0.113.1",
                                        "224.0.0.1",
                                        "239.1.1.1",
                                        "240.0.0.1",
                                        "255.255.255.255",
                                        "::",
                                        "::1",
                                        "::ffff:127.0.0.1",
                                        "::ffff:10.0.0.1",
                                        "::7f00:1",
                                        "64:ff9b::a00:1",
                                        "64:ff9b:1::1",
                                        "100::1",
                                        "2001::1",
                                        "2001:1ff:ffff::1",
                                        "2001:db8::1",
                                        "2002:a00:1::1",
                                        "3fff:fff::1",
                                        "4000::1",
                                        "fc00::1",
                                        "fdff::1",
                                        "fe80::1",
                                        "fec0::1",
                                        "ff02::1"};
    struct hook_rules none = {0};
    for (size_t i = 0; i < sizeof PUBLIC / sizeof *PUBLIC; i++)
        cr_assert(allowed(&none, PUBLIC[i]), "%s", PUBLIC[i]);
    for (size_t i = 0; i < sizeof OTHER / sizeof *OTHER; i++)
        cr_assert(not(allowed(&none, OTHER[i])), "%s", OTHER[i]);
    struct sockaddr local = {.sa_family = AF_UNIX};
    cr_assert(not(hook_address_allowed(&none, &local)));
}

Test(hook_rules, and_what_the_operator_names)
{
    struct hook_rules rules;
    char why[200];
    cr_assert(hook_rules_parse(&rules, "10.1.0.0/16,127.0.0.1,fd00:1::/31,::1", why, sizeof why));
    cr_assert(eq(sz, rules.count, 4));
    static const char *const IN[] = {
        "10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "fd00:0::1", "fd00:1:ff::1", "::1", "8.8.8.8"};
    static const char *const OUT[] = {"10.2.0.1", "127.0.0.2", "fd00:2::1", "::2"};
    for (size_t i = 0; i < sizeof IN / sizeof *IN; i++)
        cr_assert(allowed(&rules, IN[i]), "%s", IN[i]);
    for (size_t i = 0; i < sizeof OUT / sizeof *OUT; i++)
        cr_assert(not(allowed(&rules, OUT[i])), "%s", OUT[i]);
    struct sockaddr_storage named = address("10.1.2.3"), other = address("8.8.8.8");
    cr_assert(hook_address_named(&rules, (struct sockaddr *)&named));
    cr_assert(not(hook_address_named(&rules, (struct sockaddr *)&other)), "public is not named");
    static const char *const WRONG[] = {
        "x",           "10.0.0.0/33", "10.0.0.0/",       "::1/129",     "10.0.0.0/-1",
        "10.0.0.0/8x", ",",           "10.0.0.0/8,,::1", "10.0.0.0/ 8", "1.2.3.4/4294967304"};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        why[0] = '\0';
        cr_assert(not(hook_rules_parse(&rules, WRONG[i], why, sizeof why)), "%s", WRONG[i]);
        cr_assert(why[0] != 0);
    }
    char many[33 * 9 + 1] = "";
    for (int i = 0; i < 33; i++)
        strcat(many, "1.2.3.4,");
    cr_assert(not(hook_rules_parse(&rules, many, why, sizeof why)));
    cr_assert(hook_rules_parse(&rules, "", why, sizeof why) && rules.count == 0);
}

static int check(const struct hook_rules *rules, const char *url)
{
    char why[200] = "";
    int err = hook_url_check(rules, span_str(url), why, sizeof why);
    cr_assert(eq(int, err == 0, why[0] == 0), "%s: %s", url, why);
    return err;
}

Test(hook_rules, a_url_is_one_of_https)
{
    struct hook_rules none = {0}, some;
    char why[200];
    cr_assert(hook_rules_parse(&some, "10.0.0.0/8", why, sizeof why));
    static const char *const GOOD[] = {"https://example.com", "HTTPS://example.com:8443/a?b=c#d",
                                       "https://8.8.8.8/", "https://[2606:4700::1111]/x"};
    static const char *const BAD[] = {"",
                                      "https://",
                                      "http",
                                      "example.com/x",
                                      "ftp://example.com/",
                                      "https://u@example.com/",
                                      "https://u:p@example.com/",
                                      "https://exa\nmple.com/",
                                      "https://ex ample.com/",
                                      "javascript:alert(1)",
                                      "https://[::1"
                                      "https:/"};
    static const char *const FORBIDDEN[] = {"http://example.com/",        "https://127.0.0.1/",
                                            "https://0177.0.0.1/",        "https://0x7f000001/",
                                            "https://2130706433/",        "https://127.1/",
                                            "https://[::ffff:10.0.0.1]/", "https://10.0.0.1:1/"};
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++)
        cr_assert(eq(int, check(&none, GOOD[i]), 0), "%s", GOOD[i]);
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert(eq(int, check(&none, BAD[i]), ERR_BAD_REQUEST), "%s", BAD[i]);
    for (size_t i = 0; i < sizeof FORBIDDEN / sizeof *FORBIDDEN; i++)
        cr_assert(eq(int, check(&none, FORBIDDEN[i]), ERR_FORBIDDEN), "%s", FORBIDDEN[i]);
    cr_assert(eq(int, check(&some, "http://example.com/"), 0), "looked at when it is connected to");
    cr_assert(eq(int, check(&some, "http://10.9.9.9/"), 0));
    cr_assert(eq(int, check(&some, "https://127.0.0.1/"), ERR_FORBIDDEN));
    char longer[HOOK_URL_MAX + 2];
    memset(longer, 'a', sizeof longer);
    memcpy(longer, "https://", 8);
    longer[HOOK_URL_MAX + 1] = '\0';
    cr_assert(eq(int, check(&none, longer), ERR_TOO_LARGE));
}

Test(hook_rules, secrets)
{
    unsigned char key[HOOK_KEY_MAX], again[HOOK_KEY_MAX];
    char secret[HOOK_SECRET_SIZE + 1], other[HOOK_SECRET_SIZE + 1];
    size_t n = 0;
    cr_assert(eq(sz, hook_secret_make(key, secret), HOOK_KEY_MADE));
    cr_assert(hook_secret_read(span_str(secret), again, &n) && n == HOOK_KEY_MADE);
    cr_assert(zero(int, memcmp(key, again, n)));
    (void)hook_secret_make(again, other);
    cr_assert(not(zero(int, strcmp(secret, other))));
    static const char *const GOOD[] = {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA==", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAA="};
    static const size_t SIZES[] = {24, 25, 26};
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++)
        cr_assert(hook_secret_read(span_str(GOOD[i]), again, &n) && n == SIZES[i], "%s", GOOD[i]);
    static const char *const BAD[] = {"",
                                      "whsec_",
                                      "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa*w",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA===",
                                      "whsec_\nMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_assert(not(hook_secret_read(span_str(BAD[i]), again, &n)), "%s", BAD[i]);
    char most[HOOK_SECRET_SIZE + 5] = "whsec_";
    for (size_t i = 6; i < 6 + 84; i++)
        most[i] = 'A';
    cr_assert(hook_secret_read(span_of(most, 6 + 84), again, &n) && n == 63);
    memcpy(most + 6 + 84, "AA==", 4);
    cr_assert(hook_secret_read(span_of(most, 6 + 88), again, &n) && n == 64);
    memcpy(most + 6 + 84, "AAA=", 4);
    cr_assert(not(hook_secret_read(span_of(most, 6 + 88), again, &n)));
}
