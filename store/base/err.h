/* store/base/err.h: the one error domain. Functions return 0 or a negative `enum err`.
 * Foreign errors (RocksDB, libuv, raft, OpenSSL) are translated in the file that owns the library.
 * The first group is what a client may see (PROTOCOL 3.6): name on the wire, HTTP status, retry. */
#ifndef LOQUAT_BASE_ERR_H
#define LOQUAT_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* X(NAME, number, wire name, HTTP status, may be retried) */
#define ERR_TABLE(X)                                                                               \
    X(ERR_BAD_REQUEST, 1, "bad_request", 400, false)                                               \
    X(ERR_UNAUTHORIZED, 2, "unauthorized", 401, false)                                             \
    X(ERR_FORBIDDEN, 3, "forbidden", 403, false)                                                   \
    X(ERR_NOT_FOUND, 4, "not_found", 404, false)                                                   \
    X(ERR_CONFLICT, 5, "conflict", 409, false)                                                     \
    X(ERR_TOO_LARGE, 6, "too_large", 413, false)                                                   \
    X(ERR_RATE_LIMITED, 7, "rate_limited", 429, true)                                              \
    X(ERR_TRIMMED, 8, "trimmed", 409, false)                                                       \
    X(ERR_UNAVAILABLE, 9, "unavailable", 503, true)                                                \
    X(ERR_INTERNAL, 10, "internal", 500, false)                                                    \
    /* inside only */                                                                              \
    X(ERR_NOMEM, 20, "internal", 500, false)                                                       \
    X(ERR_IO, 21, "unavailable", 503, true)                                                        \
    X(ERR_NO_SPACE, 22, "unavailable", 503, true)                                                  \
    X(ERR_CORRUPT, 23, "internal", 500, false)                                                     \
    X(ERR_NOT_LEADER, 24, "unavailable", 503, true)                                                \
    X(ERR_BUSY, 25, "unavailable", 503, true)                                                      \
    X(ERR_CLOSED, 26, "unavailable", 503, true)                                                    \
    X(ERR_VERSION, 27, "unavailable", 503, false)                                                  \
    X(ERR_LOCKED, 28, "unavailable", 503, false)                                                   \
    X(ERR_AGAIN, 29, "unavailable", 503, true)

enum err {
#define X(name, number, wire, http, retry) name = -(number),
    ERR_TABLE(X)
#undef X
};

/* Each takes 0 or any value of the table; anything else counts as ERR_INTERNAL. */
const char *err_name(int err); /* "ERR_CONFLICT", "OK" */
const char *err_wire(int err); /* "conflict" */
int err_http(int err);         /* 409 */
bool err_retry(int err);

/* For people: fills `why`. Always false, so that a check can end with it. */
__attribute__((format(printf, 3, 4))) bool err_refuse(char *why, size_t size, const char *format,
                                                      ...);

#endif
