/* gateway/auth.h: the keys that tokens are checked with, shared by all loops and read again on
 * SIGHUP.
 * Thread: any; a reload swaps the keys under a lock, checks hold it for reading. */
#ifndef LOQUAT_GATEWAY_AUTH_H
#define LOQUAT_GATEWAY_AUTH_H

#include "store/base/jwt.h"

struct auth;
/* One of the two files is given. NULL: `why` says what is wrong and what to do. */
struct auth *auth_new(const char *secret_file, const char *jwks_file, char *why, size_t size);
void auth_free(struct auth *auth);
/* Reads the file again; on failure the keys in use stay. */
int auth_reload(struct auth *auth, char *why, size_t size);
/* 0, or ERR_UNAUTHORIZED with `why`. */
int auth_check(struct auth *auth, struct span token, uint64_t now_ms, struct jwt_claims *claims,
               char *why, size_t size);

#endif
