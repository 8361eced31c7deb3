/* TLS of links in memory: which certificates it begins with, and a link that lives for long. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#include "store/base/err.h"
#include "store/base/tls.h"
#include "tests/lib/certs.h"
#include "tests/lib/scratch.h"

enum { PATH_SIZE = SCRATCH_MAX + 128, ROOM = 32 << 10, DAY_S = 86400 };

static char dir[SCRATCH_MAX], why[1024], plain[ROOM];

static char *at(const char *name)
{
    static char paths[4][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void setup(void)
{
    scratch_make(dir);
    cert_sign(dir, "ca", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "other", NULL, -DAY_S, DAY_S);
    cert_sign(dir, "own", "ca", -DAY_S, DAY_S);
}

static void teardown(void)
{
    scratch_remove(dir);
}

TestSuite(tls_link, .init = setup, .fini = teardown);

static struct tls *link_of(const char *name, const char *ca)
{
    return tls_link_new(at(name), at("own.key"), at(ca), why, sizeof why);
}

/* What would be refused everywhere is not begun with, and the reason names the file. */
Test(tls_link, certificates_are_checked)
{
    struct tls *good = link_of("own.pem", "ca.pem");
    cr_assert(ne(ptr, good, NULL), "%s", why);
    cr_assert(eq(ptr, link_of("own.pem", "other.pem"), NULL));
    cr_assert(ne(ptr, strstr(why, "is not signed by a CA in"), NULL), "%s", why);
    cr_assert(eq(ptr, link_of("own.pem", "own.key"), NULL));
    cr_assert(ne(ptr, strstr(why, "has no certificate in it that can be used"), NULL), "%s", why);
    cr_assert(eq(ptr, link_of("own.pem", "none"), NULL));
    cr_assert(ne(ptr, strstr(why, "No such file"), NULL), "%s", why);
    cr_assert(zero(int, rename(at("other.pem"), at("ca.pem"))));
    cr_assert(eq(int, tls_reload(good, why, sizeof why), ERR_UNAVAILABLE));
    tls_free(good);
}

/* Records go to the other side in memory; how many bytes they took. */
static size_t pass_on(struct tls_conn *from, struct tls_conn *to, struct span *got)
{
    struct span wire = tls_wire(from);
    size_t n = 0;
    int rv = tls_feed(to, wire, plain, sizeof plain, &n);
    cr_assert(zero(int, rv));
    *got = span_of(plain, n);
    tls_sent(from, wire.n);
    return wire.n;
}

/* Keys are changed after so many records, and nothing is lost by that. */
Test(tls_link, keys_change)
{
    struct span got;
    struct tls *both = link_of("own.pem", "ca.pem");
    struct tls_conn *caller = tls_connect(both), *called = tls_accept(both);
    size_t n = 0, changes = 0;
    tls_feed(caller, (struct span){0}, plain, sizeof plain, &n);
    while (!tls_established(caller) || !tls_established(called)) {
        pass_on(caller, called, &got);
        pass_on(called, caller, &got);
    }
    for (uint32_t i = 0; i < TLS_KEY_RECORDS + 10; i++) {
        cr_assert(zero(int, tls_encrypt(caller, span_of((char *)&i, sizeof i))));
        changes += pass_on(caller, called, &got) > 4 + 32;
        if (!span_eq(got, span_of((char *)&i, sizeof i)))
            cr_fatal("record %u", i);
    }
    cr_assert(eq(sz, changes, 1));
    cr_assert(zero(int, tls_encrypt(called, span_str("back"))));
    pass_on(called, caller, &got);
    cr_assert(span_eq(got, span_str("back")));
    tls_conn_free(caller);
    tls_conn_free(called);
    tls_free(both);
}
