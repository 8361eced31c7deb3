/* store/base/file.h: small files that are read and written whole: settings, secrets, keys.
 * Errors: ERR_IO        errno says why; ERR_TOO_LARGE  over `max` bytes. Nothing was added then.
 *         ERR_NO_SPACE */
#ifndef LOQUAT_BASE_FILE_H
#define LOQUAT_BASE_FILE_H

#include "store/base/buf.h"

/* Appends the whole file. `mode`: its permission bits, may be NULL. */
int file_read(const char *path, size_t max, struct buf *out, unsigned *mode);

/* The file has these bytes from now on, or, whatever happens, what it had before: they go into
 * PATH.tmp, which is synced and takes its name. */
int file_replace(const char *path, struct span bytes);
int file_sync_directory(const char *path);
/* Of the files in it, and with itself; what is no file stays, and so does the directory then. */
void file_empty_directory(const char *path);
void file_remove_directory(const char *path);

/* As many descriptors as this process may have are allowed to it from now on; returns how many. */
uint64_t file_limit_raise(void);

#endif
