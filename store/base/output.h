/* store/base/output.h: standard output of a program that ends with 0 only when all of it was taken.
 * Thread: the main one. */
#ifndef LOQUAT_BASE_OUTPUT_H
#define LOQUAT_BASE_OUTPUT_H

#include <stdbool.h>

/* Before anything is opened. Of the descriptors 0 to 2, those that are closed are taken, so that no
 * file or socket gets their number; reading and writing them still fails. However the program ends
 * by exit from here on, --help included: what stands in stdout's buffer is written, or the status
 * is 1. False: the system refuses, errno. */
bool output_begin(const char *program);
/* False after saying on standard error, once, that standard output could not be written; `name` is
 * who says it. */
bool output_finish(const char *name);

#endif
