/* store/base/program.h: how each of the programs begins, says that it is ready, and gives up.
 * Thread: the main one. */
#ifndef LOQUAT_BASE_PROGRAM_H
#define LOQUAT_BASE_PROGRAM_H

#include <stdbool.h>

#include "store/base/check.h"

enum { EXIT_USAGE = 2 };

/* Before anything else: memory_must, check_explain_aborts and output_begin, which see. False: the
 * system refuses. */
bool program_begin(const char *program, bool quits);
/* "ready listen=…" on standard output. Who waits for the line would wait for good: where it can't
 * be written, the process ends. */
void program_ready(const char *listen);
NORETURN void program_usage(const char *what, const char *why); /* status EXIT_USAGE */
NORETURN void program_fail(const char *why);                    /* status 1 */

#endif
