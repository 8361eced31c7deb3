/* store/base/file.h: small files that are read whole: settings, secrets, keys.
 * Errors: ERR_IO        errno says why; ERR_TOO_LARGE  over `max` bytes. Nothing was added then. */
#ifndef LOQUAT_BASE_FILE_H
#define LOQUAT_BASE_FILE_H

#include "store/base/buf.h"

/* Appends the whole file. `mode`: its permission bits, may be NULL. */
int file_read(const char *path, size_t max, struct buf *out, unsigned *mode);

/* As many descriptors as this process may have are allowed to it from now on; returns how many. */
uint64_t file_limit_raise(void);

#endif
