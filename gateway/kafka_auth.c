/* gateway/kafka_auth.c: what comes first on a connection: which versions are spoken, and a token,
 * as the password of SASL/PLAIN. */
#include <stdio.h>

#include "gateway/kafka_inside.h"
#include "store/base/clock.h"
#include "store/base/err.h"

void kafka_do_versions(struct kafka_conn *conn)
{
    kafka_say_versions(kafka_answer(conn), conn->request.version, KAFKA_NONE);
    kafka_answered(conn);
}

/* In its version 0 what comes next has no request around it. */
void kafka_do_handshake(struct kafka_conn *conn)
{
    bool plain = span_is(conn->request.sasl, "PLAIN");
    bool raw = plain && conn->request.version == 0;
    struct buf *out = kafka_answer(conn);
    kafka_i16(out, plain ? KAFKA_NONE : KAFKA_UNSUPPORTED_SASL_MECHANISM);
    kafka_i32(out, 1);
    kafka_text(out, span_str("PLAIN"));
    kafka_answered(conn);
    conn->raw = raw;
}

/* False: `why` says why not. */
static bool take_token(struct kafka_conn *conn, struct span bytes, char *why, size_t size)
{
    struct jwt_claims claims;
    struct span token = {0};
    snprintf(why, size, "SASL/PLAIN: any user, and a token as the password");
    if (!kafka_plain(bytes, &token) || token.n == 0)
        return false;
    struct auth *auth = conn->kafka->settings->auth;
    if (auth_check(auth, token, clock_wall_ms(), &claims, why, size) != 0)
        return false;
    snprintf(why, size, "this takes a token of scope jobs");
    if (claims.send_to[0] != '\0' || (claims.scope & (JWT_SCOPE_JOBS | JWT_SCOPE_ADMIN)) == 0)
        return false;
    conn->known = true;
    conn->exp_ms = claims.exp_ms;
    snprintf(conn->user, sizeof conn->user, "%s", claims.user);
    return true;
}

/* The answer still goes out, then it is closed. */
static void refused(struct kafka_conn *conn)
{
    conn->known = false;
    conn->close_soon = true;
    kafka_refused(KAFKA_REFUSED_TOKEN);
}

void kafka_do_authenticate(struct kafka_conn *conn)
{
    char why[120];
    bool fine = take_token(conn, conn->request.sasl, why, sizeof why);
    int16_t version = conn->request.version;
    uint64_t now = clock_wall_ms();
    struct buf *out = kafka_answer(conn);
    if (!fine)
        refused(conn);
    kafka_i16(out, fine ? KAFKA_NONE : KAFKA_SASL_AUTHENTICATION_FAILED);
    if (fine)
        kafka_no_text(out);
    else
        kafka_text(out, span_str(why));
    kafka_bytes(out, (struct span){0});
    if (version >= 1) /* how long it is good for */
        kafka_i64(out, fine && conn->exp_ms > now ? (int64_t)(conn->exp_ms - now) : 0);
    kafka_answered(conn);
}

void kafka_do_raw_token(struct kafka_conn *conn, struct span bytes)
{
    char why[120];
    if (!take_token(conn, bytes, why, sizeof why)) {
        kafka_refuse(conn, KAFKA_REFUSED_TOKEN, why);
        return;
    }
    kafka_answer(conn);
    kafka_answered(conn); /* an empty one */
    conn->raw = false;
}
