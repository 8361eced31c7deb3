/* store/base/handshake.h: the first words on a TCP connection between programs of a cluster: each
 * proves to the other, with the cluster's secret, that it belongs to it and in which role. Nothing
 * else is said before, and the side that was called says nothing but a random number until the
 * caller has proved itself.
 * Wire:   caller → called   HELLO: "lqhs", version u8, role u8, 2 zero bytes, nonce 32 bytes
 *         called → caller   HELLO
 *         caller → called   PROOF: HMAC-SHA256(secret, 32 bytes of label and side, HELLO of the
 *         called → caller   PROOF                      caller, HELLO of the called)
 *         The side stands in the proof, so that none can be sent back to who made it; the nonces,
 *         so that none can be used again; the roles, so that nobody changes them on the way.
 *         Where there are certificates all of this is said inside of TLS, which begins before it.
 * Does:   no I/O but in handshake_step; what it wants is known, so nothing that follows is read.
 * Owner:  the secret is borrowed.
 * Errors: ERR_CORRUPT       no hello of this protocol
 *         ERR_VERSION       of another version
 *         ERR_FORBIDDEN     another role than the wanted one
 *         ERR_UNAUTHORIZED  the proof is wrong: another secret
 *         ERR_CLOSED        the other side has gone, or TLS has failed (handshake_step) */
#ifndef LOQUAT_BASE_HANDSHAKE_H
#define LOQUAT_BASE_HANDSHAKE_H

#include "store/base/line.h"

enum {
    HANDSHAKE_VERSION = 1,
    HANDSHAKE_NONCE = 32,
    HANDSHAKE_HELLO = 8 + HANDSHAKE_NONCE,
    HANDSHAKE_PROOF = 32,
    HANDSHAKE_MS_MAX = 5000, /* who has not proved himself by then is cut */
};
/* HANDSHAKE_ANY: either will do; handshake_other tells which it is. */
enum handshake_role { HANDSHAKE_ANY, HANDSHAKE_GATEWAY, HANDSHAKE_NODE };
enum handshake_state { HANDSHAKE_WANTS_HELLO, HANDSHAKE_WANTS_PROOF, HANDSHAKE_DONE };

struct handshake {
    struct span secret;
    enum handshake_state state;
    bool caller;
    char wanted; /* role of the other side */
    size_t in_size, out_size;
    char hellos[2][HANDSHAKE_HELLO]; /* of the caller, of the called */
    char in[HANDSHAKE_HELLO];        /* what came of what is wanted next */
    char out[HANDSHAKE_HELLO];       /* to be sent; the caller of handshake_feed takes it */
};

/* The caller's hello is in `out` after it. */
void handshake_begin(struct handshake *hs, bool caller, enum handshake_role own,
                     enum handshake_role wanted, struct span secret);
size_t handshake_wants(const struct handshake *hs);              /* bytes; 0: it is done */
enum handshake_role handshake_other(const struct handshake *hs); /* once it is done */
/* At most handshake_wants() bytes. 1: both sides have proved themselves; 0: more is wanted. */
int handshake_feed(struct handshake *hs, const char *bytes, size_t n);
/* The same with a line: sends what is owed and takes what has come. Also without anything to read,
 * to send the first hello. */
int handshake_step(struct handshake *hs, struct line *line);
/* After ERR_CORRUPT: what came instead of a hello is how TLS begins. */
bool handshake_met_tls(const struct handshake *hs);
/* Of a connection between programs: one whose other end has vanished ends within half a minute. */
void handshake_tune(int fd);

#endif
