/* tests/lib/scratch.h: directories of a test, and copies of them. */
#ifndef LOQUAT_TESTS_SCRATCH_H
#define LOQUAT_TESTS_SCRATCH_H

#include <stdbool.h>

enum { SCRATCH_MAX = 256 };

void scratch_make(char path[SCRATCH_MAX]); /* under $TMPDIR or /tmp */
void scratch_remove(const char *path);     /* with everything in it */
/* What a crash at this moment would leave of a directory: its files as they are, but for those that
 * are being deleted (store/kv_trash.h). `to` is made.
 * Taken again when files (other than LOG) came, went or grew meanwhile. */
void scratch_copy(const char *from, const char *to);
bool scratch_has(const char *dir, const char *name);
void scratch_write(const char *dir, const char *name, const char *text);
unsigned scratch_entries(const char *dir); /* names in it */
/* Flips a bit in the middle of each file with this suffix and at least this size; how many. */
unsigned scratch_flip(const char *dir, const char *suffix, long size_min);

#endif
