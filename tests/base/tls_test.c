/* TLS in memory, against a client of OpenSSL's own. */
#include "store/base/tls.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/file.h"
#include "store/base/metrics.h"
#include "tests/lib/certs.h"
#include "tests/lib/measured.h"
#include "tests/lib/scratch.h"

enum { PATH_SIZE = SCRATCH_MAX + 128, ROOM = 192 << 10, DAY_S = 86400, RECORD_OVERHEAD_MAX = 256 };

static char dir[SCRATCH_MAX], cert[PATH_SIZE], key[PATH_SIZE], why[1024];
static char plain[ROOM];
static struct tls *tls;

static char *at(const char *name)
{
    static char paths[4][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

/* The server's files are those of NAME from now on. */
static void install(const char *name)
{
    char from[32];
    snprintf(from, sizeof from, "%s.pem", name);
    cr_assert(zero(int, rename(at(from), cert)));
    snprintf(from, sizeof from, "%s.key", name);
    cr_assert(zero(int, rename(at(from), key)));
}

static void setup(void)
{
    scratch_make(dir);
    snprintf(cert, sizeof cert, "%s/cert", dir);
    snprintf(key, sizeof key, "%s/key", dir);
    cert_make(dir, "one", -DAY_S, DAY_S, NULL);
    install("one");
    tls = tls_new(cert, key, why, sizeof why);
    cr_assert(ne(ptr, tls, NULL), "%s", why);
}

static void teardown(void)
{
    tls_free(tls);
    scratch_remove(dir);
}

TestSuite(tls, .init = setup, .fini = teardown);

/* ---- the client ---- */

struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out; /* as the client sees it */
    struct tls_conn *server;
    struct buf got; /* what the server was told, in the clear */
    size_t step;    /* bytes given to the server at once; 0: all */
    size_t done;    /* bytes of tls_encrypt that have gone */
    int rv;         /* of the last tls_feed */
};

static void client_open(struct client *client, int version, SSL_SESSION *session)
{
    *client = (struct client){.ctx = SSL_CTX_new(TLS_client_method())};
    if (version != 0) {
        SSL_CTX_set_security_level(client->ctx, 0);
        SSL_CTX_set_min_proto_version(client->ctx, version);
        SSL_CTX_set_max_proto_version(client->ctx, version);
    }
    client->ssl = SSL_new(client->ctx);
    client->in = BIO_new(BIO_s_mem());
    client->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(client->in, -1);
    SSL_set_bio(client->ssl, client->in, client->out);
    SSL_set_connect_state(client->ssl);
    static const unsigned char ALPN[] = "\x02h2\x08http/1.1";
    SSL_set_alpn_protos(client->ssl, ALPN, sizeof ALPN - 1);
    if (session != NULL)
        SSL_set_session(client->ssl, session);
    client->server = tls_accept(tls);
    cr_assert(ne(ptr, client->server, NULL));
}

static void client_close(struct client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->ctx);
    tls_conn_free(client->server);
    buf_close(&client->got);
    ERR_clear_error();
}

static void feed(struct client *client, const char *bytes, size_t n)
{
    size_t got = 0;
    client->rv = tls_feed(client->server, span_of(bytes, n), plain, sizeof plain, &got);
    buf_add(&client->got, plain, got);
}

/* What the client wants to send goes to the server, what the server has for it to the client. */
static bool carry(struct client *client)
{
    char bytes[4096];
    size_t step = client->step != 0 ? client->step : sizeof bytes;
    int n;
    bool any = false;
    while ((n = BIO_read(client->out, bytes, (int)step)) > 0) {
        feed(client, bytes, (size_t)n);
        any = true;
    }
    for (struct span wire; (wire = tls_wire(client->server)).n > 0; any = true) {
        size_t part = client->step != 0 && client->step < wire.n ? client->step : wire.n;
        BIO_write(client->in, wire.p, (int)part);
        client->done += tls_sent(client->server, part);
    }
    return any;
}

/* Both sides say what they have to until nobody has more. */
static int talk(struct client *client)
{
    int rv;
    ERR_clear_error();
    do
        rv = SSL_do_handshake(client->ssl);
    while (carry(client));
    return rv == 1 ? 0 : SSL_get_error(client->ssl, rv);
}

static void shake(struct client *client, int version)
{
    client_open(client, version, NULL);
    cr_assert(zero(int, talk(client)));
    cr_assert(tls_established(client->server));
}

static void say(struct client *client, const char *text)
{
    cr_assert(lt(int, 0, SSL_write(client->ssl, text, (int)strlen(text))));
    carry(client);
}

static void heard(struct client *client, const char *text)
{
    cr_assert(eq(sz, client->got.n, strlen(text)));
    cr_assert(zero(int, memcmp(client->got.p, text, client->got.n)));
    client->got.n = 0;
}

static void answer(struct client *client, const char *text)
{
    char bytes[256] = "";
    cr_assert(zero(int, tls_encrypt(client->server, span_str(text))));
    carry(client);
    cr_assert(eq(int, SSL_read(client->ssl, bytes, sizeof bytes - 1), (int)strlen(text)));
    cr_assert(eq(str, bytes, (char *)(uintptr_t)text));
}

static bool fails(struct client *client, enum tls_failure failure)
{
    return client->rv == ERR_CLOSED && tls_failure(client->server) == failure;
}

/* ---- a connection ---- */

static void speaks(int version)
{
    struct client client;
    const unsigned char *alpn;
    unsigned n;
    shake(&client, version);
    cr_assert(eq(int, SSL_version(client.ssl), version));
    SSL_get0_alpn_selected(client.ssl, &alpn, &n);
    cr_assert(n == 8 && memcmp(alpn, "http/1.1", 8) == 0);
    cr_assert(not(tls_resumed(client.server)));
    say(&client, "hello");
    heard(&client, "hello");
    answer(&client, "hello yourself");
    client_close(&client);
}

Test(tls, speaks_1_2_and_1_3)
{
    speaks(TLS1_2_VERSION);
    speaks(TLS1_3_VERSION);
}

/* However the network cuts it, the same comes out; and what was encrypted counts as gone to the
 * byte, no sooner than it has. */
static void goes_byte_by_byte(int version)
{
    struct client client;
    client_open(&client, version, NULL);
    client.step = 1;
    cr_assert(zero(int, talk(&client)));
    cr_assert(tls_established(client.server));
    say(&client, "byte by byte");
    heard(&client, "byte by byte");
    cr_assert(zero(sz, client.done));
    cr_assert(zero(int, tls_encrypt(client.server, span_str("twelve bytes"))));
    for (size_t i = 0; i < 12; i++) {
        cr_assert(eq(sz, tls_sent(client.server, 1), 1));
        cr_assert(lt(sz, 0, tls_wire(client.server).n));
    }
    cr_assert(zero(sz, tls_sent(client.server, tls_wire(client.server).n)));
    cr_assert(zero(sz, tls_wire(client.server).n));
    client_close(&client);
}

Test(tls, goes_byte_by_byte)
{
    goes_byte_by_byte(TLS1_2_VERSION);
    goes_byte_by_byte(TLS1_3_VERSION);
}

/* A read's bytes come out in one piece, whatever was left of the record before; and each record
 * that goes out is no larger than said. */
Test(tls, large_both_ways)
{
    static char big[128 << 10], wire[256 << 10], back[128 << 10];
    struct client client;
    shake(&client, 0);
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)random_u64();
    for (size_t i = 0; i < sizeof big; i += TLS_RECORD_MAX)
        cr_assert(eq(int, SSL_write(client.ssl, big + i, TLS_RECORD_MAX), TLS_RECORD_MAX));
    int n = BIO_read(client.out, wire, sizeof wire);
    size_t first = TLS_RECORD_MAX - 1; /* one record that lacks its end */
    feed(&client, wire, first);
    cr_assert(zero(sz, client.got.n));
    feed(&client, wire + first, (size_t)n - first);
    cr_assert(eq(sz, client.got.n, sizeof big));
    cr_assert(zero(int, memcmp(client.got.p, big, sizeof big)));
    for (size_t i = 0; i < sizeof big; i += TLS_RECORD_MAX) {
        cr_assert(zero(int, tls_encrypt(client.server, span_of(big + i, TLS_RECORD_MAX))));
        cr_assert(lt(sz, tls_wire(client.server).n, TLS_RECORD_MAX + RECORD_OVERHEAD_MAX));
        carry(&client);
    }
    cr_assert(eq(sz, client.done, sizeof big));
    for (size_t got = 0; got < sizeof back; got += (size_t)n) {
        n = SSL_read(client.ssl, back + got, (int)(sizeof back - got));
        cr_assert(lt(int, 0, n));
    }
    cr_assert(zero(int, memcmp(back, big, sizeof big)));
    client_close(&client);
}

/* ---- what is no TLS, or none that is spoken here ---- */

static enum tls_failure failure_of(const char *bytes, size_t n)
{
    size_t got = 0;
    struct tls_conn *server = tls_accept(tls);
    int rv = tls_feed(server, span_of(bytes, n), plain, sizeof plain, &got);
    enum tls_failure failure = tls_failure(server);
    cr_assert(eq(int, rv, failure == TLS_NO_FAILURE ? 0 : ERR_CLOSED));
    cr_assert(zero(sz, got));
    if (rv != 0) /* and nothing is taken any more */
        cr_assert(eq(int, tls_feed(server, span_str("more"), plain, sizeof plain, &got), rv));
    tls_conn_free(server);
    return failure;
}

Test(tls, what_is_no_tls_is_told_apart)
{
    static const char HTTP[] = "GET / HTTP/1.1\r\n";
    static const char OTHERS[][12] = {"\x16\x03\x01\x00\x05junk!", "\x17\x03\x03\x00\x01x",
                                      "\x15\x03\x03\x00\x02\x02\x28"};
    cr_assert(eq(int, failure_of(HTTP, sizeof HTTP - 1), TLS_PLAIN_HTTP));
    cr_assert(eq(int, failure_of("P", 1), TLS_PLAIN_HTTP));
    cr_assert(eq(int, failure_of("\0\1\2\3\4\5\6\7\x08\x09", 10), TLS_GARBAGE));
    cr_assert(eq(int, failure_of("", 0), TLS_NO_FAILURE));
    cr_assert(eq(int, failure_of("\x16\x03", 2), TLS_NO_FAILURE)); /* the rest may come */
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        cr_assert(ne(int, failure_of(OTHERS[i], 10), TLS_NO_FAILURE), "%zu", i);
}

/* Random bytes behind the head of a record never get through. */
Test(tls, garbage)
{
    for (int round = 0; round < 2000; round++) {
        char bytes[256];
        size_t n = 1 + random_u64() % (sizeof bytes - 1);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)random_u64();
        bytes[0] = 0x16;
        if (n > 5)
            memcpy(bytes, "\x16\x03\x01\x00\x20\x01\x00\x00", n < 8 ? n : 8);
        (void)failure_of(bytes, n);
    }
}

Test(tls, old_versions_are_refused)
{
    struct client client;
    client_open(&client, TLS1_1_VERSION, NULL);
    cr_assert(ne(int, talk(&client), 0));
    cr_assert(fails(&client, TLS_VERSION));
    client_close(&client);
}

Test(tls, nothing_in_common)
{
    struct client client;
    client_open(&client, 0, NULL);
    SSL_set_alpn_protos(client.ssl, (const unsigned char *)"\x02h2", 3);
    cr_assert(ne(int, talk(&client), 0));
    cr_assert(fails(&client, TLS_NOTHING_COMMON));
    client_close(&client);
    client_open(&client, TLS1_2_VERSION, NULL);
    SSL_set_cipher_list(client.ssl, "AES128-SHA"); /* neither forward secret nor authenticated */
    cr_assert(ne(int, talk(&client), 0));
    cr_assert(fails(&client, TLS_NOTHING_COMMON));
    client_close(&client);
}

Test(tls, a_client_that_does_not_trust)
{
    struct client client;
    client_open(&client, 0, NULL);
    SSL_set_verify(client.ssl, SSL_VERIFY_PEER, NULL);
    cr_assert(ne(int, talk(&client), 0));
    cr_assert(fails(&client, TLS_REFUSED));
    cr_assert(not(tls_established(client.server)));
    client_close(&client);
}

Test(tls, no_renegotiation)
{
    struct client client;
    shake(&client, TLS1_2_VERSION);
    cr_assert(eq(int, SSL_renegotiate(client.ssl), 1));
    cr_assert(eq(int, talk(&client), SSL_ERROR_SSL));
    cr_assert(ne(int, tls_failure(client.server), TLS_NO_FAILURE));
    client_close(&client);
}

/* ---- ends ---- */

/* A bit that was flipped on the way ends it, with an alert. */
Test(tls, a_changed_record)
{
    struct client client;
    char bytes[256];
    shake(&client, 0);
    cr_assert(lt(int, 0, SSL_write(client.ssl, "pay 10", 6)));
    int n = BIO_read(client.out, bytes, sizeof bytes);
    bytes[n - 3] ^= 1;
    feed(&client, bytes, (size_t)n);
    cr_assert(fails(&client, TLS_BROKEN));
    cr_assert(zero(sz, client.got.n));
    cr_assert(lt(sz, 0, tls_wire(client.server).n));
    carry(&client);
    cr_assert(le(int, SSL_read(client.ssl, bytes, sizeof bytes), 0));
    cr_assert(eq(int, ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC));
    client_close(&client);
}

/* A client that says no more still gets its answer. */
static void half_closes(int version)
{
    struct client client;
    char byte;
    shake(&client, version);
    cr_assert(lt(int, 0, SSL_write(client.ssl, "last words", 10)));
    SSL_shutdown(client.ssl);
    carry(&client);
    heard(&client, "last words");
    cr_assert(eq(int, client.rv, 1));
    cr_assert(tls_ended(client.server) && tls_failure(client.server) == TLS_NO_FAILURE);
    answer(&client, "an answer");
    tls_bye(client.server);
    carry(&client);
    cr_assert(le(int, SSL_read(client.ssl, &byte, 1), 0));
    cr_assert(eq(int, SSL_get_shutdown(client.ssl), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN));
    client_close(&client);
}

Test(tls, half_closes)
{
    half_closes(TLS1_2_VERSION);
    half_closes(TLS1_3_VERSION);
}

/* A stream that ends anywhere has given whole records only, and leaves nothing behind. */
Test(tls, truncated)
{
    char bytes[4096];
    struct client client;
    client_open(&client, 0, NULL);
    SSL_do_handshake(client.ssl);
    int n = BIO_read(client.out, bytes, sizeof bytes);
    for (int i = 0; i < n; i++)
        cr_assert(eq(int, failure_of(bytes, (size_t)i), TLS_NO_FAILURE), "%d of %d", i, n);
    client_close(&client);
    shake(&client, 0);
    SSL_write(client.ssl, "whole", 5);
    SSL_write(client.ssl, "half", 4);
    n = BIO_read(client.out, bytes, sizeof bytes);
    feed(&client, bytes, (size_t)n - 1);
    heard(&client, "whole");
    cr_assert(zero(int, client.rv));
    tls_bye(client.server);
    client_close(&client);
}

/* ---- certificates ---- */

static bool serial_of(struct client *client, char serial[64])
{
    X509 *shown = SSL_get1_peer_certificate(client->ssl);
    if (shown == NULL)
        return false;
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(shown), NULL);
    char *text = BN_bn2hex(number);
    snprintf(serial, 64, "%s", text);
    OPENSSL_free(text);
    BN_free(number);
    X509_free(shown);
    return true;
}

/* The session that the client has got a ticket for. */
static SSL_SESSION *ticket_of(struct client *client)
{
    char byte;
    cr_assert(eq(int, SSL_read(client->ssl, &byte, 1), -1)); /* takes what came in */
    SSL_SESSION *session = SSL_get1_session(client->ssl);
    cr_assert(SSL_SESSION_is_resumable(session));
    SSL_shutdown(client->ssl); /* else it is taken for broken */
    return session;
}

static bool resumes(SSL_SESSION *session, int version)
{
    struct client client;
    client_open(&client, version, session);
    cr_assert(zero(int, talk(&client)));
    bool resumed = tls_resumed(client.server);
    cr_assert(eq(int, resumed, SSL_session_reused(client.ssl)));
    client_close(&client);
    return resumed;
}

/* A reload changes what new connections see, and nothing for those that are there. Tickets are good
 * until then. */
static void reloads(int version)
{
    struct client before, after;
    char was[64], is[64];
    shake(&before, version);
    cr_assert(serial_of(&before, was));
    SSL_SESSION *session = ticket_of(&before);
    client_close(&before);
    cr_assert(resumes(session, version));
    shake(&before, version);
    cert_make(dir, "two", -DAY_S, DAY_S, NULL);
    install("two");
    cr_assert(zero(int, tls_reload(tls, why, sizeof why)));
    say(&before, "still here");
    heard(&before, "still here");
    answer(&before, "so am I");
    cr_assert(not(resumes(session, version)));
    shake(&after, version);
    cr_assert(serial_of(&after, is) && strcmp(is, was) != 0);
    client_close(&after);
    client_close(&before);
    SSL_SESSION_free(session);
}

Test(tls, reloads)
{
    reloads(TLS1_2_VERSION);
    reloads(TLS1_3_VERSION);
}

static void append(const char *name, const char *to)
{
    struct buf text = {0};
    cr_assert(zero(int, file_read(at(name), 1 << 20, &text, NULL)));
    FILE *file = fopen(to, "ae");
    cr_assert(eq(sz, fwrite(text.p, 1, text.n, file), text.n));
    fclose(file);
    buf_close(&text);
}

/* The chain is shown; a key in the same file is no matter. */
Test(tls, the_chain_is_shown)
{
    struct client client;
    cert_make(dir, "issuer", -DAY_S, DAY_S, NULL);
    append("issuer.pem", cert);
    append("issuer.key", cert);
    cr_assert(zero(int, tls_reload(tls, why, sizeof why)), "%s", why);
    shake(&client, 0);
    cr_assert(eq(int, sk_X509_num(SSL_get_peer_cert_chain(client.ssl)), 2));
    client_close(&client);
}

/* Each says what to do, and leaves what there was in force. */
static void refused(const char *cert_name, const char *key_name, const char *says)
{
    struct client client;
    char kept[2][PATH_SIZE];
    cr_assert(eq(ptr, tls_new(at(cert_name), at(key_name), why, sizeof why), NULL));
    cr_assert(ne(ptr, strstr(why, says), NULL), "%s", why);
    snprintf(kept[0], sizeof kept[0], "%s", at("kept.cert"));
    snprintf(kept[1], sizeof kept[1], "%s", at("kept.key"));
    cr_assert(zero(int, rename(cert, kept[0]) | rename(key, kept[1])));
    append(cert_name, cert);
    append(key_name, key);
    cr_assert(eq(int, tls_reload(tls, why, sizeof why), ERR_UNAVAILABLE));
    cr_assert(ne(ptr, strstr(why, says), NULL), "%s", why);
    cr_assert(zero(int, rename(kept[0], cert) | rename(kept[1], key)));
    shake(&client, 0);
    client_close(&client);
}

Test(tls, bad_files_say_what_to_do)
{
    cert_make(dir, "two", -DAY_S, DAY_S, NULL);
    cert_make(dir, "locked", -DAY_S, DAY_S, "secret");
    append("cert", at("mine.pem"));
    append("key", at("mine.key"));
    scratch_write(dir, "empty", "");
    scratch_write(dir, "text", "not PEM at all\n");
    scratch_write(dir, "damaged", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    append("two.pem", at("half"));
    append("damaged", at("half"));
    refused("mine.pem", "two.key", "is not the key of the first certificate");
    refused("two.pem", "mine.key", "is not the key of the first certificate");
    refused("locked.pem", "locked.key", "take it off: openssl pkey");
    refused("empty", "mine.key", "no certificate");
    refused("mine.key", "mine.key", "no certificate");
    refused("text", "mine.key", "fullchain.pem");
    refused("damaged", "mine.key", "certificate 1 is damaged");
    refused("half", "two.key", "certificate 2 is damaged");
    refused("mine.pem", "mine.pem", "no private key");
    refused("mine.pem", "empty", "privkey.pem");
    cr_assert(eq(ptr, tls_new(at("nothing"), key, why, sizeof why), NULL));
    cr_assert(ne(ptr, strstr(why, "nothing: No such file"), NULL), "%s", why);
}

/* An expired certificate is served (a client may not mind), and the metric says since when. */
Test(tls, expired)
{
    struct client client;
    int64_t now_s = (int64_t)(clock_wall_ms() / 1000);
    tls_metrics();
    cr_assert(lt(i64, llabs(measured("loquat_tls_not_after_seconds") - now_s - DAY_S), 60));
    cert_make(dir, "old", -2 * DAY_S, -DAY_S, NULL);
    install("old");
    cr_assert(zero(int, tls_reload(tls, why, sizeof why)));
    cr_assert(lt(i64, llabs(measured("loquat_tls_not_after_seconds") - now_s + DAY_S), 60));
    shake(&client, 0);
    client_close(&client);
}
