#include "store/base/handshake.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/socket.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum {
    LABEL_SIZE = 32,
    KEEPALIVE_IDLE_S = 10,
    KEEPALIVE_EVERY_S = 5,
    KEEPALIVE_COUNT = 3,
    UNACKED_MS_MAX = 25000,
};
static const char MAGIC[4] = {'l', 'q', 'h', 's'};

static char *hello_of(struct handshake *hs, bool caller)
{
    return hs->hellos[caller ? 0 : 1];
}

/* What the caller's side, or the other, has to prove. */
static void prove(const struct handshake *hs, bool caller, char proof[HANDSHAKE_PROOF])
{
    char text[LABEL_SIZE + 2 * HANDSHAKE_HELLO] = "loquat link handshake 1";
    size_t size = 0;
    text[LABEL_SIZE - 1] = caller ? 'c' : 's';
    memcpy(text + LABEL_SIZE, hs->hellos, sizeof hs->hellos);
    const unsigned char *made = EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, hs->secret.p,
                                          hs->secret.n, (const unsigned char *)text, sizeof text,
                                          (unsigned char *)proof, HANDSHAKE_PROOF, &size);
    ASSERT(made != NULL && size == HANDSHAKE_PROOF);
}

static void owe(struct handshake *hs, const char *bytes, size_t n)
{
    ASSERT(hs->out_size == 0);
    memcpy(hs->out, bytes, n);
    hs->out_size = n;
}

static void owe_proof(struct handshake *hs)
{
    char proof[HANDSHAKE_PROOF];
    prove(hs, hs->caller, proof);
    owe(hs, proof, sizeof proof);
}

void handshake_begin(struct handshake *hs, bool caller, enum handshake_role own,
                     enum handshake_role wanted, struct span secret)
{
    *hs = (struct handshake){.secret = secret, .caller = caller, .wanted = (char)wanted};
    char *hello = hello_of(hs, caller);
    memcpy(hello, MAGIC, sizeof MAGIC);
    hello[4] = HANDSHAKE_VERSION;
    hello[5] = (char)own;
    random_bytes(hello + HANDSHAKE_HELLO - HANDSHAKE_NONCE, HANDSHAKE_NONCE);
    if (caller)
        owe(hs, hello, HANDSHAKE_HELLO);
}

static size_t size_wanted(const struct handshake *hs)
{
    static const size_t SIZES[] = {[HANDSHAKE_WANTS_HELLO] = HANDSHAKE_HELLO,
                                   [HANDSHAKE_WANTS_PROOF] = HANDSHAKE_PROOF,
                                   [HANDSHAKE_DONE] = 0};
    return SIZES[hs->state];
}

size_t handshake_wants(const struct handshake *hs)
{
    return size_wanted(hs) - hs->in_size;
}

enum handshake_role handshake_other(const struct handshake *hs)
{
    ASSERT(hs->state == HANDSHAKE_DONE);
    return (enum handshake_role)hs->hellos[hs->caller ? 1 : 0][5];
}

static int take_hello(struct handshake *hs)
{
    if (memcmp(hs->in, MAGIC, sizeof MAGIC) != 0 || hs->in[6] != 0 || hs->in[7] != 0)
        return ERR_CORRUPT;
    if (hs->in[4] != HANDSHAKE_VERSION)
        return ERR_VERSION;
    bool known = hs->in[5] == HANDSHAKE_GATEWAY || hs->in[5] == HANDSHAKE_NODE;
    if (hs->wanted == HANDSHAKE_ANY ? !known : hs->in[5] != hs->wanted)
        return ERR_FORBIDDEN;
    memcpy(hello_of(hs, !hs->caller), hs->in, HANDSHAKE_HELLO);
    if (hs->caller)
        owe_proof(hs);
    else
        owe(hs, hello_of(hs, false), HANDSHAKE_HELLO);
    hs->state = HANDSHAKE_WANTS_PROOF;
    return 0;
}

static int take_proof(struct handshake *hs)
{
    char proof[HANDSHAKE_PROOF];
    prove(hs, !hs->caller, proof);
    if (CRYPTO_memcmp(proof, hs->in, sizeof proof) != 0)
        return ERR_UNAUTHORIZED;
    if (!hs->caller)
        owe_proof(hs);
    hs->state = HANDSHAKE_DONE;
    return 1;
}

int handshake_feed(struct handshake *hs, const char *bytes, size_t n)
{
    ASSERT(n <= handshake_wants(hs));
    memcpy(hs->in + hs->in_size, bytes, n);
    hs->in_size += n;
    if (handshake_wants(hs) > 0)
        return 0;
    hs->in_size = 0;
    return hs->state == HANDSHAKE_WANTS_HELLO ? take_hello(hs) : take_proof(hs);
}

bool handshake_met_tls(const struct handshake *hs)
{
    return hs->state == HANDSHAKE_WANTS_HELLO && hs->in[0] == TLS_FIRST_BYTE;
}

static int send_owed(struct handshake *hs, struct line *line)
{
    size_t n = hs->out_size;
    hs->out_size = 0;
    return line_send(line, hs->out, n);
}

int handshake_step(struct handshake *hs, struct line *line)
{
    int state = line_shake(line);
    if (state <= 0)
        return state;
    state = 0;
    int err = send_owed(hs, line);
    while (err == 0 && state == 0) {
        char bytes[HANDSHAKE_HELLO];
        size_t got = 0;
        err = line_recv(line, bytes, handshake_wants(hs), &got);
        if (err != 0 || got == 0)
            return err;
        state = handshake_feed(hs, bytes, got);
        err = state < 0 ? state : send_owed(hs, line);
    }
    if (err == 0 && line->tls != NULL && tls_holds_plain(line->tls))
        err = ERR_CORRUPT; /* frames begin with a record of their own */
    return err != 0 ? err : state;
}

void handshake_tune(int fd)
{
    static const struct {
        int level, name, value;
    } OPTIONS[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EVERY_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKED_MS_MAX},
    };
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) /* better with, fine without */
        (void)setsockopt(fd, OPTIONS[i].level, OPTIONS[i].name, &OPTIONS[i].value,
                         sizeof OPTIONS[i].value);
}
