/* tests/faults/shim.h: the shim of faults from within a program that is run under it: the symbols
 * are weak, and NULL in one that is not.
 * Thread: armed while nothing else of the process runs. */
#ifndef LOQUAT_TESTS_SHIM_H
#define LOQUAT_TESTS_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As the variables of tests/faults/shim.c say. */
__attribute__((weak)) void fault_arm(const char *class, unsigned long at, unsigned long times,
                                     int err, const char *from);
/* So many of the class came since. */
__attribute__((weak)) unsigned long fault_calls(void);

#endif
