/* store/base/secret.h: a secret from a file: read whole, never logged, wiped when it is dropped. */
#ifndef LOQUAT_BASE_SECRET_H
#define LOQUAT_BASE_SECRET_H

#include "store/base/buf.h"

enum { SECRET_MIN = 32, SECRET_MAX = 4096 }; /* bytes; one trailing newline does not count */

/* 0, or ERR_BAD_REQUEST with `why` (size bytes): what is wrong, and what to do; *out is empty then.
 * A file that every user of the machine may read or change is taken, with a warning. */
int secret_load(const char *path, struct buf *out, char *why, size_t size);
void secret_drop(struct buf *secret);

#endif
